"""The same measurements, however a run was cut into pieces, and wherever its units ran."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import studbook
from studbook.errors import FolderBusyError, RunFolderError
from studbook.execution import create_executor
from studbook.study import RunFolder, with_absolute_paths
from studbook.study.provenance import new_manifest

STUDY = """
[study]
name = "resume"
generations = 30
replicates = 12
samples = 4000
method = "samples"
[data]
source = "normal"
dimension = 2
[learner]
kind = "gaussian"
[mix]
kind = "replace"
[metrics]
names = ["std", "w2", "tail_mass"]
every = 10
[grid]
"mix" = [{ kind = "replace" }, { kind = "keep", share = 0.1 }]
"""


@pytest.fixture(scope="module")
def study_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("study") / "study.toml"
    path.write_text(STUDY)
    return path


@pytest.fixture(scope="module")
def uninterrupted(study_file, tmp_path_factory) -> pl.DataFrame:
    return studbook.create_study(study_file).run(tmp_path_factory.mktemp("whole") / "run").frame()


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "studbook", *map(str, arguments)]


def test_every_cell_replicate_generation_and_metric_is_there(uninterrupted):
    assert uninterrupted.columns == ["cell", "replicate", "generation", "metric", "value", "stderr", "n", "mix"]
    per_metric = uninterrupted.group_by("metric").len()
    assert set(per_metric["len"]) == {2 * 12 * 4}
    assert uninterrupted["value"].is_finite().all()


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_at_any_moment_and_resumed(study_file, uninterrupted, tmp_path, workers):
    out, chance = tmp_path / "run", random.Random(workers)
    kills = 0
    for _ in range(4):
        resume = (out / "manifest.json").exists()
        arguments = ("resume", out) if resume else ("run", study_file, "--out", out)
        process = subprocess.Popen(command("study", *arguments, "--workers", workers), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        before = units(out)
        deadline = time.monotonic() + 60
        while units(out) == before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(chance.random() * 0.2)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    assert kills >= 1
    finished = subprocess.run(command("study", "resume", out, "--workers", workers), check=True, capture_output=True, text=True)
    assert finished.stdout.strip() == str(out)
    assert_frame_equal(studbook.load_result(out).frame(), uninterrupted)


def units(out: Path) -> int:
    return len(list((out / "units").glob("*.unit"))) if out.exists() else 0


def test_two_processes_give_the_same_as_one(study_file, uninterrupted, tmp_path):
    result = studbook.create_study(study_file).run(tmp_path / "run", workers=2)
    assert_frame_equal(result.frame(), uninterrupted)


@pytest.mark.ray
@pytest.mark.xdist_group("ray")
def test_ray_gives_the_same_as_one(study_file, uninterrupted, tmp_path):
    pytest.importorskip("ray", reason="needs the extra 'cluster'")
    result = studbook.create_study(study_file).run(tmp_path / "run", executor=create_executor("ray", 2))
    assert_frame_equal(result.frame(), uninterrupted)


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty"])
def test_a_damaged_unit_is_found_and_run_again(study_file, uninterrupted, tmp_path, damage):
    out = tmp_path / "run"
    studbook.create_study(study_file).run(out)
    victim = sorted((out / "units").glob("*.unit"))[3]
    data = bytearray(victim.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
    victim.write_bytes({"truncate": bytes(data[:-7]), "flip": bytes(data), "empty": b""}[damage])
    others = {path: path.stat().st_mtime_ns for path in (out / "units").glob("*.unit") if path != victim}
    result = studbook.create_study(study_file).run(out)
    assert {path: path.stat().st_mtime_ns for path in others} == others
    assert victim.stat().st_size > 100
    assert_frame_equal(result.frame(), uninterrupted)


def test_a_changed_config_in_the_same_folder_is_refused(study_file, tmp_path):
    out = tmp_path / "run"
    studbook.create_study(study_file, overrides=["study.replicates=1"]).run(out)
    before = (out / "measurements.parquet").read_bytes()
    with pytest.raises(RunFolderError, match="samples is 4000 there, 3000 here"):
        studbook.create_study(study_file, overrides=["study.replicates=1", "study.samples=3000"]).run(out)
    assert (out / "measurements.parquet").read_bytes() == before


def test_what_differs_is_named_by_its_own_key(tmp_path):
    def study(*overrides: str) -> studbook.Study:
        table = {"study": {"name": "x", "generations": 1, "models": "none"}, "data": {"source": "digits", "limit": 40}}
        table |= {"learner": {"kind": "vae", "training": {"epochs": 1}}, "mix": {"kind": "replace"}}
        return studbook.create_study({**table, "metrics": {"names": ["mean", "tail_mass"]}}, overrides=overrides)

    def refused(said: str, *overrides: str) -> None:
        with pytest.raises(RunFolderError, match=f"of another config: {said} "):
            study(*overrides).run(tmp_path)

    plan = study().plan
    (tmp_path / "manifest.json").write_text(json.dumps(new_manifest(plan)))
    refused(r"learner\.training\.epochs is 1 there, 2 here", "learner.training.epochs=2")
    refused(r'learner\.kind is "vae" there, "gmm" here', 'learner={kind="gmm"}')
    refused(r"metrics\.tail_mass\.quantile is 0.01 there, 0.1 here", "metrics.tail_mass.quantile=0.1")
    refused(r"data\.limit is 40 there, 41 here", "data.limit=41")


def test_a_folder_with_other_things_in_it_is_refused(study_file, tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(RunFolderError, match="isn't empty and holds no run"):
        studbook.create_study(study_file).run(tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_two_processes_in_one_folder(study_file, tmp_path):
    out = tmp_path / "run"
    with RunFolder(out).locked(), pytest.raises(FolderBusyError, match="another process is running"):
        studbook.create_study(study_file).run(out)


def test_ctrl_c_stops_cleanly_and_says_how_to_go_on(study_file, uninterrupted, tmp_path):
    out = tmp_path / "run"
    process = subprocess.Popen(
        command("study", "run", study_file, "--out", out, "--workers", 2), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while units(out) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert f"studbook study resume {out}" in said
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["status"] == "interrupted"
    assert 2 <= manifest["units"]["done"] < manifest["units"]["total"]
    subprocess.run(command("study", "resume", out), check=True, capture_output=True)
    assert_frame_equal(studbook.load_result(out).frame(), uninterrupted)


def test_more_replicates_reuse_nothing_wrongly_and_agree_on_the_common_part(study_file, uninterrupted, tmp_path):
    result = studbook.create_study(study_file, overrides=["study.replicates=3"]).run(tmp_path / "run")
    assert_frame_equal(result.frame(), uninterrupted.filter(pl.col("replicate") < 3))


def test_units_that_changed_places_are_found(study_file, uninterrupted, tmp_path):
    out = tmp_path / "run"
    studbook.create_study(study_file).run(out)
    first, second, *_ = sorted((out / "units").glob("*.unit"))
    second.write_bytes(first.read_bytes())
    assert_frame_equal(studbook.create_study(study_file).run(out).frame(), uninterrupted)


def test_sigterm_is_a_polite_stop(study_file, tmp_path):
    out = tmp_path / "run"
    process = subprocess.Popen(command("study", "run", study_file, "--out", out), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while units(out) < 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"studbook study resume {out}" in said
    assert json.loads((out / "manifest.json").read_text())["status"] == "interrupted"


def test_a_run_is_resumed_from_another_folder(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "numbers.csv").write_text("x\n" + "\n".join(str(i % 7) for i in range(60)))
    monkeypatch.chdir(tmp_path / "a")
    table = {"learner": {"kind": "gaussian"}, "mix": {"kind": "replace"}, "metrics": {"names": ["std"]}}
    table |= {"study": {"name": "x", "generations": 3}, "data": {"source": "numbers.csv"}}
    studbook.create_study(table).run("run")
    monkeypatch.chdir(tmp_path)
    again = studbook.resume_study(tmp_path / "a" / "run").run(tmp_path / "a" / "run")
    assert again.manifest["status"] == "finished"


CASES = """
[study]
name = "paths"
generations = 1
[data]
source = "numbers.csv"
[learner]
kind = "gaussian"
[mix]
kind = "replace"
[metrics]
names = ["mean"]
[grid]
"learner.ddof" = [0, 1]
[[grid.case]]
name = "first"
[[grid.case]]
name = "dotted"
"data.source" = "others.csv"
[[grid.case]]
name = "table"
data = { source = "others.csv" }
"""


def test_paths_in_cases_mean_the_same_from_another_folder(tmp_path, monkeypatch):
    """The other folder has files of the same names, with other values."""
    for folder, shift in (("a", 0), ("b", 100)):
        (tmp_path / folder).mkdir()
        for name, more in (("numbers.csv", 0), ("others.csv", 1000)):
            (tmp_path / folder / name).write_text("x\n" + "\n".join(str(i % 7 + shift + more) for i in range(60)))
    monkeypatch.chdir(tmp_path / "a")
    (tmp_path / "a" / "study.toml").write_text(CASES)
    study = studbook.create_study(Path("study.toml"))
    assert [job.cell.source_table["source"] for job in study.plan.jobs[:3]] == [
        str(tmp_path / "a" / name) for name in ("numbers.csv", "others.csv", "others.csv")
    ]
    before = study.run("run").frame()
    monkeypatch.chdir(tmp_path / "b")
    for unit in (tmp_path / "a" / "run" / "units").iterdir():
        unit.unlink()
    again = studbook.resume_study(tmp_path / "a" / "run").run(tmp_path / "a" / "run").frame()
    assert_frame_equal(again, before)


def test_names_that_are_no_paths_stay(tmp_path, monkeypatch):
    """Whatever lies in the folder under a name that means something else."""
    for name in ("opt-tiny", "good", "zipf", "smollm2", "own", "me"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    learners = [{"model": name} for name in ("opt-tiny", "smollm2", "me/other", "good")]
    grid = {"learner.model": ["opt-tiny", "good"], "learner": learners, "case": [{"name": "good", "learner.training.base": "good"}]}
    grid |= {"metrics": {"fid": {"network": ["", "own"]}}, "data.tokenizer": ["smollm2", "good"]}
    data = {"source": "zipf", "tokenizer": "good"}
    found = with_absolute_paths({"data": data, "metrics": {"names": ["own"], "fid": {"network": "own"}}, "grid": grid})
    good, own = str(tmp_path / "good"), str(tmp_path / "own")
    assert found["data"] == {"source": "zipf", "tokenizer": good}
    assert found["metrics"] == {"names": ["own"], "fid": {"network": own}}
    assert found["grid"]["learner.model"] == ["opt-tiny", good]
    assert [learner["model"] for learner in found["grid"]["learner"]] == ["opt-tiny", "smollm2", "me/other", good]
    assert found["grid"]["case"] == [{"name": "good", "learner.training.base": good}]
    assert found["grid"]["metrics"] == {"fid": {"network": ["", own]}}
    assert found["grid"]["data.tokenizer"] == ["smollm2", good]
    addresses = ["hub:me/other:train", "hub:./good:train", "hub:good"]
    absolute = ["hub:me/other:train", f"hub:{good}:train", f"hub:{good}"]
    assert with_absolute_paths({"grid": {"data.source": addresses}})["grid"]["data.source"] == absolute


def test_an_edited_file_is_read_again(tmp_path):
    path = tmp_path / "numbers.csv"
    path.write_text("x\n1\n2\n3\n4\n")
    settings = {"data": str(path), "learner": "gaussian", "metrics": ["mean"], "generations": 0}
    before = studbook.create_study(**settings).run(tmp_path / "one").frame()["value"][0]
    path.write_text("x\n11\n12\n13\n14\n15\n")
    after = studbook.create_study(**settings).run(tmp_path / "two").frame()["value"][0]
    assert (before, after) == (2.5, 13.0)
