"""``studbook forecast`` through a Typer app."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from studbook.cli.forecast import forecast_command
from studbook.errors import ConfigError, DataError, RunFolderError

app = typer.Typer()
app.command("forecast")(forecast_command)


@pytest.fixture
def measured(tmp_path):
    file = tmp_path / "measured.csv"
    rows = [f"{g},std,{value}" for g, value in enumerate((1.0, 0.97, 0.93, 0.91, 0.87))]
    rows += [f"{g},support,{value}" for g, value in enumerate((100, 120, 150, 190))]
    rows += ["0,kl,0", "1,kl,0.1", "2,kl,0.3"]
    file.write_text("\n".join(["generation,metric,value", *rows]))
    return file


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refuse(constant: str):
    raise AssertionError(f"{constant} isn't JSON")


def test_json_has_null_for_what_never_happens(measured):
    answer = json.loads(run(measured, "--format", "json", "--horizon", "5", "--gaussian").stdout, parse_constant=refuse)
    std, support = answer["series"]
    assert (std["metric"], std["n_runs"], std["exact"], len(std["curve"])) == ("std", 1, True, 5)
    assert [one["level"] for one in std["remaining"]] == [0.9, 0.5, 0.1]
    assert support["half_life"]["median"] is None
    assert support["curve"][0]["value"]["low"] is None
    assert (std["model"], std["caveat"]) == ("drift", "")
    assert answer["skipped"][0][0] == "kl"


def test_table_shows_every_metric_and_says_what_was_skipped(measured):
    result = run(measured)
    assert result.exit_code == 0
    assert "never" in result.stdout
    assert "50% left at" in result.stdout
    assert "drift" in result.stdout
    assert "size and bias are those of one that behaves alike" in result.stdout
    assert "support: no calibrated interval for this quantity" in result.stdout
    assert "behaves alike" not in run(measured, "--gaussian").stdout
    assert "skipped kl" in result.stderr
    assert "support" not in run(measured, "--metric", "std").stdout


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--metric", "sdt"], ConfigError),
        (["--metric", "kl"], DataError),
        (["--horizon", "0"], ConfigError),
        (["--confidence", "2"], ConfigError),
        (["--gaussian", "--real-data"], ConfigError),
    ],
)
def test_mistakes_are_typed_errors(measured, arguments, error):
    result = run(measured, *arguments)
    assert isinstance(result.exception, error)
    assert result.stdout == ""


def test_a_folder_without_measurements(tmp_path):
    assert isinstance(run(tmp_path).exception, RunFolderError)
