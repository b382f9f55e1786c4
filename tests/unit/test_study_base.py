"""What generations start from, base models, mixes that change on the way, and how nested options are shown."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import studbook
from studbook.arrays import images, numbers, text
from studbook.errors import CheckpointError, ConfigError, DeviceError, FitError, MetricError
from studbook.learners import CausalLM, Gaussian, Vae
from studbook.mixing import Accumulate, Fresh, Keep, Replace
from studbook.neural.options import Decoding, Training
from studbook.recursion import Continuing, Needs, Storable, n_fresh, phases, run_generations
from studbook.rng import stream
from studbook.study.bases import base_key
from studbook.study.catalog import catalog_rows, describe
from studbook.study.config import expand

PROGRAM = Path(__file__).parents[1] / "integration" / "stored_learner.py"


@pytest.fixture(scope="module")
def stored():
    spec = importlib.util.spec_from_file_location("stored_learner", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    sys.modules["stored_learner"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["stored_learner"]


@pytest.fixture
def log(tmp_path, monkeypatch) -> Path:
    path = tmp_path / "fits.log"
    path.touch()
    monkeypatch.setenv("STORED_LOG", str(path))
    return path


def lineages(stored, start: str, *, with_base: bool) -> list[str]:
    data = numbers(np.random.default_rng(0).normal(size=(30, 2)))
    learner = stored.Stored(stored.Options(start))
    base = dataclasses.replace(stored.Stored().fit(data, rng=stream(0)), lineage="base") if with_base else None
    chain = run_generations(learner, Replace(), data, n=30, last=2, fresh=None, streams=lambda g, use: stream(0, g, use), base=base)
    return [generation.model.lineage for generation in chain]


@pytest.mark.parametrize(
    ("start", "with_base", "expected"),
    [
        ("scratch", False, ["scratch", "scratch", "scratch"]),
        ("scratch", True, ["scratch", "scratch", "scratch"]),
        ("auto", False, ["scratch", "scratch", "scratch"]),
        ("auto", True, ["base>fit", "base>fit", "base>fit"]),
        ("base", True, ["base>fit", "base>fit", "base>fit"]),
        ("previous", False, ["scratch", "scratch>fit", "scratch>fit>fit"]),
        ("previous", True, ["base>fit", "base>fit>fit", "base>fit>fit>fit"]),
    ],
)
def test_what_each_generation_starts_from(stored, start, with_base, expected):
    assert lineages(stored, start, with_base=with_base) == expected


def test_a_start_that_cannot_be(stored):
    with pytest.raises(ConfigError, match=r'start is "base", but there is no base model \(set learner.training.base'):
        lineages(stored, "base", with_base=False)
    with pytest.raises(ConfigError, match="start is 'bsae', expected one of scratch, base, auto, previous"):
        lineages(stored, "bsae", with_base=True)


def test_who_can_go_on_and_who_cannot(stored):
    assert isinstance(stored.Stored(), Continuing)
    assert isinstance(Vae(), Continuing)
    assert not isinstance(Gaussian(), Continuing)
    data = numbers(np.arange(4.0))
    assert isinstance(stored.Stored().fit(data, rng=stream(0)), Storable)
    assert not isinstance(Gaussian().fit(data, rng=stream(0)), Storable)


def test_a_base_is_pretrained_once_for_all_replicates_and_cells(stored, log, tmp_path):
    starts = [stored.Stored(stored.Options(start)) for start in ("base", "previous")]
    grid = {"mix": [{"kind": "replace"}, {"kind": "accumulate"}]}
    table = stored.study(data={"base": 0.25}, study={"replicates": 2, "generations": 1}, grid=grid)
    result = studbook.create_study({**table, "learner": starts[0]}).run(tmp_path / "run")
    fits = log.read_text().splitlines()
    assert fits.count("scratch") == 1 + 8  # the base, and eight fits that start from it
    assert len(fits) == 9
    cell = result.manifest["cells"][0]["data"]
    assert (cell["n_base"], cell["n_original"], cell["n_heldout"]) == (10, 30, 0)
    assert result.manifest["config"]["resolved"][0]["base"] == 10
    assert result.fits().filter(generation=-1).height == 2  # once for each cell, with its first replicate
    assert not (tmp_path / "run" / "base").exists()


def test_the_base_that_others_start_from_is_kept_with_the_models(stored, log, tmp_path):
    table = stored.study(data={"base": 0.25}, study={"generations": 1, "models": "last"})
    studbook.create_study(table).run(tmp_path / "run")
    (base,) = (tmp_path / "run" / "base").iterdir()
    assert stored.Stored().load(base / "model", None).lineage == "scratch"


def test_a_base_of_random_weights_is_as_long_as_the_decoding_asks():
    def key(**decoding):
        learner = CausalLM("gpt2-tiny", decoding=Decoding(**decoding))
        return base_key(learner, data_digest="d", seed=0, sizes=(1,))

    assert key() == key(temperature=0.5) == key(beams=3)
    assert len({key(), key(prompt=8), key(max_new=8)}) == 3


@pytest.mark.parametrize("damage", ["truncate", "mark", "more"])
def test_a_damaged_base_is_made_again(stored, log, tmp_path, damage):
    from studbook.study.units import run_unit

    (unit,) = studbook.create_study(stored.study(data={"base": 0.25}, study={"generations": 1})).plan.units
    expected = run_unit(unit, tmp_path)
    shutil.rmtree(tmp_path / "work")
    (base,) = (tmp_path / "base").iterdir()
    victim = base / {"truncate": "model/law.npz", "mark": "finished.json", "more": "model/more"}[damage]
    victim.write_bytes(victim.read_bytes()[:-2] if victim.exists() else b"?")
    log.write_text("")
    assert run_unit(unit, tmp_path) == expected
    assert len(log.read_text().splitlines()) == 3
    shutil.rmtree(tmp_path / "work")
    assert run_unit(unit, tmp_path) == expected
    assert len(log.read_text().splitlines()) == 5


def test_a_study_without_a_base_is_divided_as_before(stored):
    """The parts of a split don't move where a new one is added."""
    from studbook.data import InMemory
    from studbook.study.plan import divide

    dataset = InMemory(numbers(np.arange(50.0))).load()
    without = divide(dataset, seed=3, n_heldout=5, n_reserve=7)
    with_base = divide(dataset, seed=3, n_heldout=5, n_reserve=7, n_base=10)
    assert without.base is None
    for name in ("heldout", "reserve"):
        assert np.array_equal(getattr(without, name).values, getattr(with_base, name).values)
    everything = [part.values.ravel() for part in (with_base.original, with_base.heldout, with_base.reserve, with_base.base)]
    assert sorted(np.concatenate(everything).tolist()) == list(range(50))
    assert "base" not in studbook.create_study(stored.study()).plan.jobs[0].resolved()


def test_what_is_refused_before_anything_is_run(stored, log, tmp_path):
    def refused(error, said, **changes):
        with pytest.raises(error, match=said):
            studbook.create_study(stored.study(**changes))

    base = stored.Stored(stored.Options("base"))
    refused(ConfigError, "there is no base model", learner=base)
    refused(ConfigError, "the models of gaussian can't start from another one", learner={"kind": "gaussian"}, data={"base": 0.2})
    refused(ConfigError, "data.base is 1.0, expected a share", data={"base": 1.0})
    refused(ConfigError, "data.base is 0.001 of 40 records, less than one", data={"base": 0.001})
    refused(ConfigError, "32 for the base model and 0 reserved as fresh ones leave 0 to train on", data={"base": 0.8, "heldout": 0.2})
    refused(CheckpointError, "there is no model in", learner=stored.Stored(stored.Options("base", str(tmp_path / "nowhere"))))
    named = stored.Stored(stored.Options("auto", str(tmp_path / "saved")))
    stored.Stored().fit(numbers(np.arange(4.0)), rng=stream(0)).save(tmp_path / "saved")
    log.write_text("")
    studbook.create_study(stored.study(learner=named))
    refused(ConfigError, "names a base model itself", learner=named, data={"base": 0.2})
    refused(FitError, "fewer than 3 records", data={"source": numbers(np.arange(2.0))})
    assert log.read_text() == ""  # planning trains nothing


def test_cuda_that_is_not_there_is_found_when_the_study_is_planned():
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    learner = Vae(training=Training(device="cuda"))
    with pytest.raises(DeviceError, match=r'training\.device is "cuda"'):
        studbook.create_study(data="digits", learner=learner, metrics=["std"])


def test_a_changed_base_makes_units_out_of_date(stored, tmp_path):
    def key() -> str:
        learner = stored.Stored(stored.Options("base", str(tmp_path / "saved")))
        return studbook.create_study(stored.study(learner=learner)).plan.units[0].key

    stored.Stored().fit(numbers(np.arange(4.0)), rng=stream(0)).save(tmp_path / "saved")
    before = key()
    assert key() == before
    stored.Stored().fit(numbers(np.arange(5.0)), rng=stream(0)).save(tmp_path / "saved")
    assert key() != before


@dataclass(frozen=True)
class Change:
    """One mix up to a generation, another one after it."""

    before: object = Replace()
    after: object = Keep(0.5)
    generation: int = 2

    def at(self, generation):
        return self.before if generation <= self.generation else self.after

    def parts(self, n, n_original):
        return self.before.parts(n, n_original)


def test_a_mix_that_changes_on_the_way(stored, log, tmp_path):
    assert phases(Change(), 5) == (Replace(), Keep(0.5))
    assert phases(Change(), 2) == (Replace(),)
    assert Needs.of(Gaussian(), Change(after=Accumulate()), n=10, n_original=10, last=5) == Needs(pool=True)
    assert n_fresh(Change(after=Fresh(4)), 5, 10, 10) == 12
    assert n_fresh(Fresh(4), 5, 10, 10) == 20
    data = numbers(np.random.default_rng(0).normal(size=20))
    chain = list(
        run_generations(Gaussian(), Change(after=Accumulate()), data, n=20, last=4, fresh=None, streams=lambda g, use: stream(0, g, use))
    )
    assert [len(generation.training) for generation in chain] == [20, 20, 20, 80, 100]


def test_a_study_of_a_mix_that_changes(tmp_path):
    """It takes its fresh records one after another, has no law and no theory."""
    data = numbers(np.random.default_rng(0).normal(size=100))
    mix = Change(after=Fresh(10), generation=3)
    study = studbook.create_study(data=data, learner=Gaussian(), mix=mix, metrics=["std"], generations=5, samples=20)
    (job,) = study.plan.jobs
    assert (job.method, job.n_reserve, job.n_original) == ("samples", 20, 80)
    result = study.run(tmp_path / "run")
    assert result.theory().is_empty()
    assert result.frame()["generation"].max() == 5
    drawn = studbook.create_study(data="normal", learner=Gaussian(), mix=Change(), metrics=["std"], generations=5, samples=20)
    assert drawn.plan.jobs[0].method == "samples"
    with pytest.raises(ConfigError, match=r"mix\.fresh is 30, but a generation has 20 records"):
        studbook.create_study(data=data, learner=Gaussian(), mix=Change(after=Fresh(30)), metrics=["std"], generations=5, samples=20)


def test_prompts_are_kept_beside_what_continues_them(stored, log, tmp_path):
    blocks = text(np.random.default_rng(0).integers(3, size=(40, 4)), ("the", "cat", "sat"))
    table = stored.study(data={"source": blocks}, learner=stored.Stored(names_prompts=True), metrics={"names": ["types"]})
    studbook.create_study(table).run(tmp_path / "run")
    about = json.loads((tmp_path / "run" / "samples" / "cell-000.json").read_text())
    assert about["prompts"] == ["the the"] * 6
    assert len(about["generations"]["0"]) == 6
    studbook.create_study({**table, "learner": stored.Stored()}).run(tmp_path / "plain")
    assert "prompts" not in json.loads((tmp_path / "plain" / "samples" / "cell-000.json").read_text())


def test_nested_options_in_the_manifest_and_in_labels():
    table = {
        "study": {"name": "x", "generations": 1},
        "data": {"source": "digits"},
        "learner": {"kind": "vae", "latents": 3, "training": {"epochs": 2}},
        "mix": {"kind": "replace"},
        "metrics": {"names": ["std"]},
    }
    (cell,) = expand(table)
    training = describe(cell.learner)["training"]
    assert training["epochs"] == 2
    assert training["start"] == "auto"
    learners = [{"kind": "vae", "training": {"epochs": 2, "rate": 0.01}}, Vae(latents=4, training=Training(epochs=3))]
    labels = [cell.keys["learner"] for cell in expand({**table, "grid": {"learner": learners}})]
    assert labels[0] == "vae epochs 2 rate 0.01"
    assert labels[1].startswith("vae latents 4 ")
    assert labels[1].endswith(" epochs 3")
    assert "{" not in "".join(labels)


def test_the_catalog_lists_the_options_of_networks_once():
    tables = catalog_rows()
    options = {row["name"]: row for row in tables["options"]}
    assert options["training.epochs"]["what"] == "Passes through the training set, 1 or more."
    assert options["decoding.beams"]["default"] == "1"
    assert all(row["what"] for row in options.values())
    (vae,) = [row for row in tables["learners"] if row["name"] == "vae"]
    assert "[training]" in vae["parameters"]
    assert "Training(" not in vae["parameters"]


PLAIN_TEXT = text(np.array([[0, 1], [1, 0], [0, 0], [1, 1]] * 5), ("a", "b"))


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("perplexity", "metric perplexity needs held-out real text"),
        ("hapax_survival", "the original has no word that occurs once"),
        ("distinct_3", "metric distinct_3 got blocks of 2 tokens, expected 3 or more"),
    ],
)
def test_a_metric_without_a_value_on_this_text_is_refused_before_anything_is_trained(metric, message):
    with pytest.raises(MetricError, match=message):
        studbook.create_study(data={"source": PLAIN_TEXT, "heldout": 0.0}, learner="ngram", metrics=[metric])


@pytest.mark.parametrize(
    ("metric", "parameters", "message"),
    [
        ("class_shares", {}, "needs labels on the original records"),
        ("class_shares", {"by": "network"}, "needs a network that tells classes apart"),
        ("recognised", {}, "needs a network that tells classes apart"),
        ("fid", {"against": "heldout"}, "compares with held-out records, and there are none"),
        ("kid", {"network": "nowhere"}, "nowhere"),
        ("memorisation", {"network": "nowhere"}, "nowhere"),
    ],
)
def test_a_metric_without_a_value_on_these_pictures_is_refused_before_anything_is_trained(metric, parameters, message):
    pixels = images(np.random.default_rng(0).random((20, 8, 8)), (0.0, 1.0))
    with pytest.raises((MetricError, CheckpointError), match=message):
        studbook.create_study(
            {
                "study": {"name": "checked", "generations": 1},
                "data": {"source": pixels, "heldout": 0.0},
                "learner": {"kind": "vae"},
                "mix": {"kind": "replace"},
                "metrics": {"names": [metric], metric: parameters},
            }
        )
