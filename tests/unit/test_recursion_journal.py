"""The journal of a chain: whatever happens to its files, going on gives the same generations, or starts again."""

from __future__ import annotations

import multiprocessing
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from studbook.arrays import Batch, concatenate, numbers
from studbook.errors import CheckpointError, FolderBusyError
from studbook.files import replacing_folder
from studbook.mixing import Accumulate, Blend, Keep, Replace, Subsample, Weighted
from studbook.recursion import Journal, Needs, journal, run_generations
from studbook.recursion.array_files import Torn, map_array, write_array, write_batches
from studbook.rng import stream

N, LAST = 30, 4
MIXES = [Replace(), Accumulate(), Subsample(), Keep(0.2), Blend(0.5, 0.3, 0.2), Weighted(0.5)]


@dataclass(frozen=True, eq=False)
class Law:
    space: object
    parameters: np.ndarray

    def sample(self, n, *, rng):
        values = self.parameters[0] + self.parameters[1] * rng.normal(size=(2, n))
        return Batch(values.T, self.space, labels=rng.integers(4, size=n))  # neither in C order

    def save(self, folder: Path) -> None:
        with replacing_folder(folder) as temporary:
            np.save(temporary / "law.npy", self.parameters)


@dataclass(frozen=True)
class Options:
    start: str


@dataclass(frozen=True)
class Learner:
    training: Options = Options("scratch")

    def fit(self, data, *, rng):
        weights = np.ones(len(data)) if data.weights is None else data.weights
        mean = np.average(data.flat, axis=0, weights=weights).mean()
        return Law(data.space, np.array([mean + 0.1 * rng.normal(), data.flat.std()]))

    def fit_from(self, start, data, *, rng):
        return Law(data.space, 0.5 * (self.fit(data, rng=rng).parameters + start.parameters))

    def own_base(self, space):
        return None

    def load(self, folder, space):
        try:
            return Law(space, np.load(folder / "law.npy"))
        except (OSError, ValueError) as error:
            raise CheckpointError(str(error)) from error


ORIGINAL = numbers(np.random.default_rng(0).normal(size=(40, 2)))


def open_journal(folder: Path, mix, learner=None, key: str = "key") -> Journal:
    chosen = learner or Learner()
    return Journal(folder, key, chosen, ORIGINAL, Needs.of(chosen, mix, n=N, n_original=len(ORIGINAL), last=LAST))


def run(mix, learner=None, kept: Journal | None = None, after=None, stop: int = LAST):
    """Each generation's parameters, training set and sample; with a journal also written down, until ``stop`` is finished."""
    found = {}
    chain = run_generations(
        learner or Learner(), mix, ORIGINAL, n=N, last=LAST, fresh=None, streams=partial(stream, 1), stock=kept, after=after
    )
    for generation in chain:
        found[generation.index] = (generation.model.parameters, generation.training.values.copy(), generation.sample.values.copy())
        if kept is not None:
            kept.finish(generation, f"notes {generation.index}".encode())
        if generation.index == stop:
            break
    return found


def assert_same(found, whole):
    for index, arrays in found.items():
        assert all(np.array_equal(a, b) for a, b in zip(arrays, whole[index], strict=True))


@pytest.mark.parametrize("start", ["scratch", "previous"])
@pytest.mark.parametrize("mix", MIXES, ids=lambda mix: type(mix).__name__)
@pytest.mark.parametrize("stop", [0, 1, 3, 4])
def test_going_on_gives_the_same_generations(mix, stop, start, tmp_path):
    learner = Learner(Options(start))
    whole = run(mix, learner)
    assert_same(run(mix, learner, open_journal(tmp_path, mix, learner), stop=stop), whole)
    again = open_journal(tmp_path, mix, learner)
    resumed = again.resume()
    assert (resumed.standing.index, resumed.notes) == (stop, f"notes {stop}".encode())
    assert np.array_equal(resumed.first.parameters, whole[0][0])
    rest = run(mix, learner, again, resumed.standing)
    assert sorted(rest) == list(range(stop + 1, LAST + 1))
    assert_same(rest, whole)


@pytest.mark.parametrize(
    ("victim", "goes_on_after"),
    [
        ("generation-00003/sample.npy", 2),
        ("generation-00003/sample-labels.npy", 2),
        ("generation-00003/notes", 2),
        ("generation-00003/model/law.npy", 2),
        ("generation-00003/training.npy", 2),
        ("generation-00003/finished.json", 2),
        ("generation-00002/sample.npy", 3),
        ("generation-00000/model/law.npy", None),
        ("generation-00000/finished.json", None),
    ],
)
@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "remove"])
def test_damage_is_found_and_costs_little(victim, goes_on_after, damage, tmp_path):
    mix, learner = Blend(0.5, 0.3, 0.2), Learner(Options("previous"))
    whole = run(mix, learner)
    run(mix, learner, open_journal(tmp_path, mix, learner), stop=3)
    path = tmp_path / victim
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes({"truncate": bytes(data[:-3]), "flip": bytes(data), "empty": b""}[damage])
    again = open_journal(tmp_path, mix, learner)
    resumed = again.resume()
    assert (None if resumed is None else resumed.standing.index) == goes_on_after
    assert_same(run(mix, learner, again, None if resumed is None else resumed.standing), whole)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"format": 1}', b'{"format": 1, "key": "key", "generation": 3}']
)
def test_a_mark_that_is_none(content, tmp_path):
    run(Replace(), kept=open_journal(tmp_path, Replace()), stop=3)
    (tmp_path / "generation-00003" / "finished.json").write_bytes(content)
    assert open_journal(tmp_path, Replace()).resume().standing.index == 2


def test_a_file_too_many_in_a_model_is_found(tmp_path):
    run(Replace(), kept=open_journal(tmp_path, Replace()), stop=3)
    (tmp_path / "generation-00000" / "model" / "more.bin").write_bytes(b"?")
    assert open_journal(tmp_path, Replace()).resume() is None


def test_the_journal_of_another_chain_is_not_gone_on_from(tmp_path):
    run(Replace(), kept=open_journal(tmp_path, Replace()), stop=3)
    shutil.copytree(tmp_path / "generation-00003", tmp_path / "generation-00004")
    assert open_journal(tmp_path, Replace()).resume().standing.index == 3
    assert not (tmp_path / "generation-00004").exists()
    assert open_journal(tmp_path, Replace(), key="other").resume() is None
    assert not list(tmp_path.glob("generation-*"))


def test_a_generation_under_way_is_thrown_away(tmp_path):
    kept = open_journal(tmp_path, Accumulate())
    run(Accumulate(), kept=kept, stop=2)
    kept.gather(3, [ORIGINAL, ORIGINAL])
    kept.keep(3, ORIGINAL)
    assert open_journal(tmp_path, Accumulate()).resume().standing.index == 2
    assert not (tmp_path / "generation-00003").exists()


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_what_is_not_needed_is_deleted_on_the_way(tmp_path):
    mark, notes = "finished.json", "notes"
    sample = {"sample.npy", "sample-labels.npy"}
    run(Replace(), kept=open_journal(tmp_path / "replace", Replace()))
    kept = {"generation-00000/model/law.npy", "generation-00000/finished.json"}
    assert files(tmp_path / "replace") == kept | {f"generation-0000{i}/{name}" for i in (3, 4) for name in {mark, notes, *sample}}
    run(Accumulate(), kept=open_journal(tmp_path / "pool", Accumulate()))
    pool = {f"generation-0000{i}/{name}" for i in range(5) for name in {mark, *sample}}
    assert files(tmp_path / "pool") == pool | {"generation-00000/model/law.npy", "generation-00003/notes", "generation-00004/notes"}


def test_a_model_that_cannot_be_saved_leaves_no_journal(tmp_path):
    @dataclass(frozen=True)
    class Bare:
        parameters: np.ndarray

        def sample(self, n, *, rng):
            return numbers(rng.normal(size=(n, 2)))

    @dataclass(frozen=True)
    class BareLearner:
        def fit(self, data, *, rng):
            return Bare(np.zeros(1))

        def load(self, folder, space):
            raise AssertionError

    run(Replace(), BareLearner(), open_journal(tmp_path, Replace(), BareLearner()))
    assert open_journal(tmp_path, Replace(), BareLearner()).resume() is None


def hold(folder: str, held, go) -> None:
    with open_journal(Path(folder), Replace()).held():
        held.set()
        go.wait(30)


def test_two_processes_do_not_write_in_one_journal(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "_PATIENCE_S", 0.2)
    context = multiprocessing.get_context("fork")
    held, go = context.Event(), context.Event()
    other = context.Process(target=hold, args=(str(tmp_path), held, go))
    other.start()
    assert held.wait(30)
    with pytest.raises(FolderBusyError, match="another process is writing in"), open_journal(tmp_path, Replace()).held():
        pass
    go.set()
    other.join()
    with open_journal(tmp_path, Replace()).held():
        pass


@pytest.mark.parametrize("dtype", ["<f8", "<f4", "<i4", "|u1", ">i8"])
def test_arrays_come_back_as_they_were(dtype, tmp_path):
    parts = [np.arange(24).reshape(4, 3, 2).astype(dtype), np.zeros((0, 3, 2), dtype), np.ones((2, 3, 2), dtype)[::-1]]
    size, digest = write_array(tmp_path / "a.npy", parts, np.dtype(dtype), (6, 3, 2))
    assert (tmp_path / "a.npy").stat().st_size == size
    assert len(digest) == 64
    mapped = map_array(tmp_path / "a.npy")
    assert type(mapped) is np.ndarray
    assert mapped.dtype == np.dtype(dtype)
    assert np.array_equal(mapped, np.concatenate(parts))
    mapped[0] = 0  # stays in this process
    assert np.array_equal(np.load(tmp_path / "a.npy"), np.concatenate(parts))


def test_batches_on_disk_are_put_together_as_in_memory(tmp_path):
    plain, weighted = ORIGINAL, ORIGINAL.with_weight(2.0)
    labelled = Batch(ORIGINAL.values, ORIGINAL.space, labels=np.arange(40))
    for number, parts in enumerate([[plain, weighted], [labelled, labelled], [labelled, weighted], [plain]]):
        expected = concatenate(parts)
        found, _ = write_batches(tmp_path / str(number), "x", parts)
        assert np.array_equal(found.values, expected.values)
        for name in ("weights", "labels"):
            mine, its = getattr(found, name), getattr(expected, name)
            assert (mine is None) == (its is None)
            assert mine is None or np.array_equal(mine, its)


def test_an_array_of_objects_is_never_opened(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(Torn):
        map_array(tmp_path / "x.npy")


def test_a_changed_mark_is_found(tmp_path):
    """Else a label file could be lost without a sound."""
    run(Replace(), kept=open_journal(tmp_path, Replace()), stop=1)
    path = tmp_path / "generation-00001" / "finished.json"
    path.write_text(path.read_text().replace("sample-labels.npy", "sample-lapels.npy"))
    assert open_journal(tmp_path, Replace()).resume().standing.index == 0
