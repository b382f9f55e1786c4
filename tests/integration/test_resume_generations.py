"""Units that keep a journal: killed anywhere they go on after the last finished generation, and the result is the same to the bit."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import studbook
from studbook.arrays import numbers
from studbook.errors import ConfigError, DeviceMemoryError, FitError, RunFolderError, StorageError
from studbook.rng import stream
from studbook.study import RunFolder
from studbook.study.units import run_unit

PROGRAM = Path(__file__).with_name("stored_learner.py")


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


def run_program(out: Path, log: Path, workers: int = 1, **variables: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "STORED_LOG": str(log), **{name: str(value) for name, value in variables.items()}}
    return subprocess.run([sys.executable, PROGRAM, out, str(workers)], env=environment, capture_output=True, text=True, check=False)


def lines(log: Path) -> list[str]:
    return log.read_text().splitlines()


def test_killed_in_the_middle_of_generations(tmp_path, log):
    """Every mix and start; five kills, each of which costs exactly the generation that was under way."""
    assert run_program(tmp_path / "whole", log).returncode == 0
    n_fits = len(lines(log))
    assert n_fits == 8 * 5 + 1  # eight cells of five generations, and one base model
    log.write_text("")
    kills = [(3, "fit"), (13, "sample"), (21, "fit"), (36, "sample"), (n_fits + 4, "fit")]
    for line, where in kills:
        done = run_program(tmp_path / "run", log, STORED_KILL=line, STORED_KILL_WHERE=where)
        assert done.returncode == -9, done.stderr
        assert len(lines(log)) == line
    done = run_program(tmp_path / "run", log)
    assert done.returncode == 0, done.stderr
    assert len(lines(log)) == n_fits + len(kills)
    for name in ("measurements.parquet", "fits.parquet"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert_same_pictures(tmp_path / "run", tmp_path / "whole")
    assert not {"work", "base"} & {path.name for path in (tmp_path / "run").iterdir()}


def assert_same_pictures(one: Path, other: Path) -> None:
    for path in sorted((one / "samples").glob("*.npz")):
        with np.load(path) as mine, np.load(other / "samples" / path.name) as theirs:
            assert mine.files == theirs.files
            assert all(np.array_equal(mine[name], theirs[name]) for name in mine.files)


def test_two_workers_and_no_journal_give_the_same(stored, tmp_path, log):
    study = studbook.create_study(stored.every_way())
    whole = study.run(tmp_path / "whole").frame()
    done = run_program(tmp_path / "two", log, workers=2)
    assert done.returncode == 0, done.stderr
    assert_frame_equal(studbook.load_result(tmp_path / "two").frame().drop("learner"), whole.drop("learner"))
    for unit in study.plan.units[1::3]:
        (tmp_path / "folder").mkdir(exist_ok=True)
        assert run_unit(unit) == run_unit(unit, tmp_path / "folder") == run_unit(unit, tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_a_failed_generation_keeps_the_finished_ones(stored, tmp_path, log, monkeypatch):
    table = stored.study()
    whole = studbook.create_study(table).run(tmp_path / "whole").frame()
    log.write_text("")
    fit = stored.Stored._fit

    def refuse(self, data, rng, start):
        if len(lines(log)) == 3:
            raise FitError("the data are no good", hint="take others")
        return fit(self, data, rng, start)

    monkeypatch.setattr(stored.Stored, "_fit", refuse)
    said = rf"replace, replicate 0: the data are no good; generations up to 2 are finished and kept \(take others, then .*{tmp_path}"
    with pytest.raises(FitError, match=said):
        studbook.create_study(table).run(tmp_path / "run")
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["status"] == "failed"
    monkeypatch.setattr(stored.Stored, "_fit", fit)
    resumed = studbook.create_study(table).run(tmp_path / "run")
    assert len(lines(log)) == 6
    assert_frame_equal(resumed.frame(), whole)


def test_used_up_memory_says_what_can_be_followed(stored, tmp_path, log, monkeypatch):
    """Another batch size is another study, which the folder would be refused to."""
    fit = stored.Stored._fit

    def refuse(self, data, rng, start):
        if len(lines(log)) == 2:
            raise DeviceMemoryError("no memory", hint="lower learner.training.batch")
        return fit(self, data, rng, start)

    monkeypatch.setattr(stored.Stored, "_fit", refuse)
    with pytest.raises(DeviceMemoryError, match="generations up to 1 are finished and kept") as told:
        studbook.create_study(stored.study()).run(tmp_path / "run")
    resume = f"studbook study resume {tmp_path / 'run'}"
    assert (
        told.value.hint
        == f"go on on a machine with more memory: {resume}, or lower learner.training.batch and start anew in another folder"
    )


def test_failures_of_training_are_counted_and_said(stored, tmp_path, log, capsys):
    from studbook.cli.study import _say_done

    table = stored.study(learner=stored.Stored(fails_from=4), grid={"study.samples": [30, 40]})
    result = studbook.create_study(table).run(tmp_path / "run")
    fits = result.fits()
    assert fits.columns[:5] == ["cell", "replicate", "generation", "steps", "epochs"]
    assert fits.columns[-1] == "study.samples"
    assert fits["generation"].to_list() == [0, 1, 2, 3, 4, 5] * 2
    assert fits["loss"].is_nan().sum() == 0
    assert fits["loss"].null_count() == fits["failure"].drop_nulls().len() == result.manifest["failures"] == 9
    _say_done(result)
    assert "9 trainings failed" in capsys.readouterr().err


def test_models_are_kept_where_they_are_asked_for(stored, tmp_path, log):
    def names(folder: Path) -> list[str]:
        return sorted(path.relative_to(folder).as_posix() for path in (folder / "models").glob("*/*/*"))

    replicates = {"replicates": 2, "generations": 2}
    last = studbook.create_study(stored.study(study={**replicates, "models": "last"}))
    last.run(tmp_path / "run")
    assert names(tmp_path / "run") == [f"models/cell-000/replicate-00{i}/generation-00002" for i in (0, 1)]
    everything = studbook.create_study(stored.study(study={**replicates, "models": "all"}))
    assert [unit.key for unit in everything.plan.units] == [unit.key for unit in last.plan.units]
    everything.run(tmp_path / "run")  # the same folder: what is missing is made
    assert len(names(tmp_path / "run")) == 6
    model = stored.Stored().load(tmp_path / "run/models/cell-000/replicate-001/generation-00002", None)
    assert np.isfinite(model.centre).all()
    before = len(lines(log))
    everything.run(tmp_path / "run")
    assert len(lines(log)) == before


def stopped(stored, monkeypatch, out: Path, log: Path, table: dict[str, object], at: int) -> None:
    """Run a study whose ``at``-th fit fails."""
    fit = stored.Stored._fit

    def refuse(self, data, rng, start):
        if len(lines(log)) == at - 1:
            raise FitError("no more")
        return fit(self, data, rng, start)

    with monkeypatch.context() as patched, pytest.raises(FitError, match="no more"):
        patched.setattr(stored.Stored, "_fit", refuse)
        studbook.create_study(table).run(out)


def test_a_model_that_has_changed_is_refused_before_anything_is_deleted(stored, tmp_path, log, monkeypatch):
    base = tmp_path / "base"
    stored.Stored().fit(numbers(np.arange(12.0).reshape(4, 3)), rng=stream(0)).save(base)
    table = stored.study(learner=stored.Stored(stored.Options("base", str(base))))
    log.write_text("")
    stopped(stored, monkeypatch, tmp_path / "run", log, table, at=4)
    before, kept = (base / "law.npz").read_bytes(), sorted((tmp_path / "run" / "work").rglob("*"))
    stored.Stored().fit(numbers(np.ones((4, 3))), rng=stream(0)).save(base)
    with pytest.raises(RunFolderError, match=f"the model {base} has changed since the run in {tmp_path / 'run'} was begun"):
        studbook.create_study(table).run(tmp_path / "run")
    assert sorted((tmp_path / "run" / "work").rglob("*")) == kept
    (base / "law.npz").write_bytes(before)
    log.write_text("")
    studbook.create_study(table).run(tmp_path / "run")
    assert len(lines(log)) == 3


def test_a_kept_model_that_was_damaged_is_made_again(stored, tmp_path, log, monkeypatch):
    """While its unit is under way, whatever its size; of a finished unit, where its size is another."""
    out, table = tmp_path / "run", stored.study(study={"replicates": 2, "generations": 3, "models": "all"})
    whole = studbook.create_study(table).run(tmp_path / "whole").folder
    log.write_text("")
    stopped(stored, monkeypatch, out, log, table, at=7)  # generation 2 of the second replicate
    moved = out / "models/cell-000/replicate-000/generation-00001/law.npz"
    moved.write_bytes(moved.read_bytes()[:-1])
    (victim,) = out.glob("work/*/models/generation-00000/about.json")
    victim.write_bytes(victim.read_bytes().replace(b"scratch", b"scrutch"))
    log.write_text("")
    studbook.create_study(table).run(out)
    assert len(lines(log)) == 8
    for path in (whole / "models").rglob("*"):
        assert path.is_dir() or path.read_bytes() == (out / path.relative_to(whole)).read_bytes()
    log.write_text("")
    studbook.create_study(table).run(out)
    assert lines(log) == []


def test_models_that_were_moved_already_are_not_made_again(stored, tmp_path, log, monkeypatch):
    table = stored.study(study={"generations": 2, "models": "all"})

    def refuse(*_args):
        raise StorageError("the disk is full")

    with monkeypatch.context() as patched, pytest.raises(StorageError):
        patched.setattr(RunFolder, "write_unit", refuse)
        studbook.create_study(table).run(tmp_path / "run")
    studbook.create_study(table).run(tmp_path / "run")
    assert len(lines(log)) == 3


def test_models_that_cannot_be_saved_are_refused(stored):
    with pytest.raises(ConfigError, match=r'study\.models is "all", but the models of gaussian can.t be saved'):
        studbook.create_study(stored.study(learner={"kind": "gaussian"}, study={"models": "all"}))


MEMORY = """
import json, sys
sys.path.insert(0, {here!r})
import numpy as np, studbook, stored_learner

peaks = []
keep = stored_learner.Stored._fit

def fit(self, data, rng, start):
    for line in open("/proc/self/status"):
        if line.startswith("RssAnon"):
            peaks.append(int(line.split()[1]))
    return keep(self, data, rng, start)

stored_learner.Stored._fit = fit
table = stored_learner.study(n=20_000, columns=50, mix={{"kind": {mix!r}}}, study={{"generations": 10}}, metrics={{"names": ["mean"]}})
studbook.create_study(table).run(sys.argv[1])
print(json.dumps(peaks))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
@pytest.mark.parametrize("mix", ["replace", "accumulate"])
def test_memory_does_not_grow_with_the_generations(stored, tmp_path, mix):
    """A generation is 8 MB: ten of them would be seen."""
    code = MEMORY.format(here=str(PROGRAM.parent), mix=mix)
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "run"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    peaks = json.loads(done.stdout.splitlines()[-1])
    assert len(peaks) == 11
    assert max(peaks[3:]) < peaks[2] + 12_000  # kB


@pytest.mark.slow
def test_a_network_gives_the_same_with_two_workers(tmp_path):
    pytest.importorskip("torch")
    table = {
        "study": {"name": "net", "generations": 2, "replicates": 2, "samples": 40},
        "data": {"source": "digits", "limit": 200, "base": 0.3},
        "learner": {"kind": "vae", "latents": 2, "hidden": 8, "training": {"epochs": 2, "start": "previous"}},
        "mix": {"kind": "accumulate"},
        "metrics": {"names": ["std"]},
    }
    study = studbook.create_study(table)
    whole = study.run(tmp_path / "one")
    assert_frame_equal(study.run(tmp_path / "two", workers=2).frame(), whole.frame())
    assert_frame_equal(studbook.load_result(tmp_path / "two").fits(), whole.fits())
    assert whole.fits().filter(pl.col("generation") == -1).height == 1
