"""The commands as a user types them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from studbook.protocols.select_study import read_select_study

ROOT = Path(__file__).resolve().parents[2]
CLASSICAL = {"gaussian", "bernoulli", "poisson", "categorical", "gmm", "kde", "ngram", "ols"}
NEURAL = {"vae", "gan", "diffusion", "gpt", "causal_lm"}


def studbook(*arguments: object, code: int | None = 0, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "studbook", *map(str, arguments)], capture_output=True, text=True, check=False, cwd=cwd, timeout=120
    )
    assert code is None or done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    file = ROOT / "studies" / "zipf-tails.toml"
    done = studbook(
        "study", "run", file, "--set", "study.replicates=4", "--set", "study.samples=3000", "--set", "data.states=200", cwd=folder
    )
    return folder / done.stdout.strip()


def test_run_writes_the_folder_and_prints_it(run):
    assert run.parent.name == "runs"
    names = {path.name for path in run.iterdir()}
    assert {"manifest.json", "measurements.parquet", "theory.parquet", "samples", "units"} <= names
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["schema_version"] == 1
    assert manifest["status"] == "finished"
    assert manifest["config"]["passed"]["study"]["samples"] == 3000
    assert manifest["units"]["done"] == manifest["units"]["total"]
    assert {"studbook", "python", "numpy"} <= set(manifest["versions"])


def test_list_show_export_report(run):
    rows = json.loads(studbook("study", "list", run.parent, "--format", "json").stdout)
    assert [row["status"] for row in rows] == ["finished"]
    table = json.loads(studbook("study", "show", run, "--format", "json").stdout)["table"]
    assert {row["metric"] for row in table} >= {"support", "heterozygosity", "kl"}
    assert "support" in studbook("study", "show", run).stdout
    measured = pl.read_parquet(run / "measurements.parquet")
    as_csv = pl.read_csv(studbook("study", "export", run, "--to", "csv").stdout.encode())
    assert as_csv.height == measured.height
    assert len(json.loads(studbook("study", "export", run, "--to", "json").stdout)) == measured.height
    page = Path(studbook("study", "report", run).stdout.strip())
    assert page == run / "report" / "index.html"
    assert page.stat().st_size < 4_000_000
    assert list((run / "report" / "charts").glob("*.svg"))
    assert list((run / "report" / "charts").glob("*.png"))


def test_show_says_that_trainings_failed(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    said = "2 trainings failed and went on with what they had"
    assert said not in studbook("study", "show", folder).stderr
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"failures": 2}))
    assert said in studbook("study", "show", folder).stderr
    assert said in studbook("study", "show", folder, "--format", "json").stderr


def test_one_report_for_several_runs(run, tmp_path):
    page = Path(studbook("study", "report", run, run, "--out", tmp_path / "both").stdout.strip())
    assert page == tmp_path / "both" / "index.html"
    assert page.read_text(encoding="utf-8").count('class="run"') == 2
    assert "--out" in studbook("study", "report", run, run, code=2).stderr


def test_export_to_a_file(run, tmp_path):
    studbook("study", "export", run, "--to", "csv", "--file", tmp_path / "m.csv")
    assert (tmp_path / "m.csv").read_text().startswith("cell,replicate,generation,metric,value,stderr,n,mix")


def test_dry_run_runs_nothing(tmp_path):
    done = studbook("study", "run", ROOT / "studies" / "oreilly.toml", "--dry-run", cwd=tmp_path)
    assert "nothing was run" in done.stdout
    assert "law" in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("file", sorted((ROOT / "studies").glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_study_is_sound(file, tmp_path):
    if file.stem == "nature-lm":  # its weights and its text are on a hub; here with a small model in their place
        here = ("data.source=python-docs", "data.tokenizer=", "data.limit=200", "data.vocabulary=3000", "learner.model=opt-tiny")
        here += ("learner.training.start=scratch",)
        studbook("study", "run", file, "--dry-run", *(part for key in here for part in ("--set", key)), cwd=tmp_path)
        return
    if file.stem == "federated-select":  # one of `studbook training select`
        assert len(read_select_study(file).experiments) == 2
        return
    studbook("study", "run", file, "--dry-run", cwd=tmp_path)


def test_the_published_scale_without_a_network_is_one_clear_line(tmp_path):
    done = studbook("study", "run", ROOT / "studies" / "nature-lm.toml", "--dry-run", cwd=tmp_path, code=None)
    assert done.returncode in (1, 2) and "Traceback" not in done.stderr
    assert "Salesforce/wikitext" in done.stderr or "facebook/opt-125m" in done.stderr


def test_catalog_and_data_list():
    tables = json.loads(studbook("catalog", "--format", "json").stdout)
    assert {row["name"] for row in tables["learners"]} == {
        "gaussian",
        "robust_gaussian",
        "bernoulli",
        "poisson",
        "categorical",
        "gmm",
        "kde",
        "ngram",
        "ols",
    } | NEURAL
    assert {row["name"] for row in tables["mixes"]} >= {"replace", "keep", "fresh", "contaminated", "poison"}
    assert {row["name"] for row in tables["curations"]} == {"ideal", "screen"}
    assert all(row["what"] for rows in tables.values() for row in rows)
    assert "ngram" in studbook("catalog").stdout
    sources = {row["source"] for row in json.loads(studbook("data", "list", "--format", "json").stdout)}
    assert {"normal", "poisson", "uniform", "zipf", "digits", "mnist5k", "python-docs"} <= sources
    assert "digits" in studbook("data", "list").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("study", "run", "none.toml"), 2, "no study file"),
        (("study", "show", "nowhere"), 1, "run folder"),
        (("study", "report", "nowhere"), 1, "run folder"),
        (("study", "resume", "nowhere"), 1, "run folder"),
        (("study", "run", ROOT / "studies" / "oreilly.toml", "--set", "learner.kind=gausian"), 2, "did you mean gaussian"),
        (("study", "run", ROOT / "studies" / "oreilly.toml", "--workers", "0"), 2, "workers"),
        (("study", "run", ROOT / "studies" / "oreilly.toml", "--executor", "slurm"), 2, "executor"),
        (("study", "export", "nowhere", "--to", "xlsx"), 2, "xlsx"),
        (("stduy",), 2, "stduy"),
    ],
)
def test_mistakes_end_in_a_line_or_two(arguments, code, said, tmp_path):
    done = studbook(*arguments, code=code, cwd=tmp_path)
    assert said in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "runs").exists()


def test_version_and_help_need_no_heavy_imports():
    code = "import sys; sys.argv = ['studbook', '--help']\ntry:\n    from studbook.cli.main import main; main()\nexcept SystemExit: pass\n"
    code += "print([m for m in ('numpy', 'scipy', 'polars', 'sklearn', 'numba', 'altair', 'pydantic', 'ray', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")
    assert studbook("--version").stdout.startswith("studbook ")
