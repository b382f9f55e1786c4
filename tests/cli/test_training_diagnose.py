"""``studbook training diagnose``: on real digits and prose, its table, results and page, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from studbook.cli.main import app
from studbook.errors import ConfigError, RunFolderError, StudbookError

pytest.importorskip("torch")

CONFIG = """
[data]
source = "digits"
limit = 300

[learner]
kind = "vae"
latents = 4
hidden = 16

[learner.training]
epochs = 2
batch = 32
"""


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "vae.toml"
    file.write_text(CONFIG)
    return file


def run(*arguments: object):
    return CliRunner().invoke(app, ["training", "diagnose", *(str(argument) for argument in arguments)])


def error_of(*arguments: object) -> StudbookError:
    result = run(*arguments)
    assert isinstance(result.exception, StudbookError), result.output
    return result.exception


def test_a_file_with_data_and_learner_alone_is_enough(config, tmp_path):
    out = tmp_path / "out"
    result = run(config, "--out", out, "--steps", 8, "--repeats", 2, "--sources", "again,order,workers,reload", "--format", "json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer == json.loads((out / "results.json").read_text())
    (model,) = answer["models"]
    assert (model["name"], model["learner"], model["data"], model["unit"]) == ("vae", "Vae", "digits", "bits")
    kinds = {drift["changed"]: drift["kind"] for drift in model["drifts"]}
    assert kinds["in 2 worker processes"] == "bit-exact"  # the same to the bit in this process and in two others
    assert kinds["checkpoint without the optimiser"] == kinds["other order of the records"] == "different run"
    assert {"studbook", "torch", "Machine", "Code"} <= set(answer["made_with"])
    page = (out / "report.html").read_text()
    assert not re.search(r'(?:src|href)="https?:', page)
    assert "bit-exact: the same training again, checkpoint of everything, in 2 worker processes" in page


def test_the_table_names_kinds_steps_and_remedies(config, tmp_path):
    result = run(config, "--out", tmp_path / "out", "--steps", 4, "--repeats", 2, "--sources", "seed,dtype")
    assert result.exit_code == 0, result.output
    assert "different run" in result.stdout
    assert "the start" in result.stdout
    assert 'learner.training.dtype = "fp32"' in " ".join(result.stdout.split())
    assert "vae – a different run: other initial weights; rounding: bf16" in result.stdout


def test_the_models_of_a_study_are_found_once_each(tmp_path):
    from studbook.study.diagnosed import subjects_of

    study = Path(__file__).resolve().parents[2] / "studies" / "diagnose.toml"
    subjects = subjects_of(study)
    assert [subject.name for subject in subjects] == ["diffusion on digits", "gpt on python-docs"]
    assert len(subjects[0].data) == 1617  # a tenth is held out, as in the study
    mixes = tmp_path / "mixes.toml"
    mixes.write_text(CONFIG + '\n[grid]\nmix = [{ kind = "replace" }, { kind = "accumulate" }]\n')
    assert len(subjects_of(mixes)) == 1


def test_a_run_folder_is_taken_too(config, tmp_path):
    from studbook.api import create_study
    from studbook.study.diagnosed import subjects_of

    rest = '[study]\nname = "one"\ngenerations = 0\nsamples = 20\n[mix]\nkind = "replace"\n[metrics]\nnames = ["variance"]\n'
    config.write_text(rest + CONFIG)
    folder = tmp_path / "run"
    create_study(config).run(folder)
    (there,), (here,) = subjects_of(folder), subjects_of(config)
    assert (there.data.values == here.data.values).all()
    assert there.learner == here.learner


def test_what_it_refuses(config, tmp_path):
    assert "there is no source 'thread'" in str(error_of(config, "--sources", "thread"))
    assert "1 repeats, expected 2" in str(error_of(config, "--repeats", 1))
    assert "3 steps, expected 4" in str(error_of(config, "--steps", 3))
    assert "takes no gradient steps" in str(error_of(config, "--set", 'learner={kind="gmm"}'))
    assert "trains two networks" in str(error_of(config, "--set", 'learner={kind="gan"}'))
    assert "there is no study file" in str(error_of(tmp_path / "none.toml"))
    many = ["--set", "grid.learner.hidden=[1,2,3,4,5,6,7,8,9]"]
    assert "9 different models" in str(error_of(config, *many))
    assert isinstance(error_of(tmp_path), RunFolderError)
    law = error_of(config, "--set", 'data={source="gaussian"}')
    assert isinstance(law, ConfigError)
