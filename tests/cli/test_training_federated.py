"""``studbook training run --protocol federated``: results, a run taken up again, and mistakes."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from studbook.cli.main import app
from studbook.errors import ConfigError

SMALL = ["--protocol", "federated", "--objective", "mlp", "--set", "hidden=12", "--set", "limit=300", "--nodes", "6", "--batch", "16"]


def run(*arguments: str):
    return CliRunner().invoke(app, ["training", "run", *SMALL, *arguments])


def test_results_and_going_on(tmp_path):
    sliced = ["--slices", "neurons=4:random", "--clients", "3", "--server", "adam", "--server-rate", "0.03", "--format", "json"]
    first = run("--out", str(tmp_path / "run"), "--steps", "3", *sliced)
    assert first.exit_code == 0, first.output
    told = json.loads(first.stdout)
    protocol = told["settings"]["protocol"]
    assert (protocol["protocol"], protocol["clients"], protocol["keys"]) == ("federated", 3, {"neurons": {"m": 4, "how": "random"}})
    assert (protocol["server"]["kind"], protocol["server"]["rate"]) == ("adam", 0.03)
    assert (told["spread"], told["contraction_predicted"], list(told["digests"])) == (0.0, 0.0, ["server"])
    longer = json.loads(run("--out", str(tmp_path / "run"), "--steps", "6", *sliced).stdout)
    whole = json.loads(run("--out", str(tmp_path / "other"), "--steps", "6", *sliced).stdout)
    assert longer["digests"] == whole["digests"] != told["digests"]
    assert longer["bytes_sent"] == whole["bytes_sent"] == 2 * told["bytes_sent"]
    curve = json.loads((tmp_path / "run" / "curve.json").read_text())
    assert [sum(row[f"loss_{i}"] is not None for i in range(6)) for row in curve] == [3] * 6


@pytest.mark.parametrize("split", ["label", "size", "shuffled"])
def test_tables(tmp_path, split):
    shown = run("--out", str(tmp_path / "run"), "--steps", "3", "--split", split, "--skew", "0.3")
    assert shown.exit_code == 0, shown.output
    assert "federated, 6 nodes" in shown.stdout
    assert "server" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--clients", "7"], "7 clients a round are asked for, there are 6 nodes"), (["--clients", "0"], "federated.clients is 0"),
        (["--epochs", "0"], "federated.epochs is 0"), (["--server-rate", "0"], "a rate of 0"), (["--slices", "neurons"], "GROUP=M"),
        (["--slices", "neurons=-1"], "GROUP=M"), (["--slices", "=3"], "GROUP=M"), (["--slices", "neurons=3:best"], "select.how"),
        (["--slices", "neurons=0"], "m is 0"), (["--slices", "neurons=13"], "13 keys of neurons"),
        (["--slices", "words=3"], "no keys 'words'"),
        (["--objective", "softmax", "--set", "hidden=12"], "hidden"), (["--skew", "0", "--split", "label"], "skew is 0"),
        (["--split", "document"], "no documents"), (["--protocol", "local", "--every", "2", "--slices", "neurons=3"], "local training"),
        (["--nodes", "301"], "clients share"),
    ],
)  # fmt: skip
def test_mistakes(tmp_path, arguments, match):
    if "--nodes" in arguments:
        arguments = [*arguments, "--split", "label"]
    failed = run("--out", str(tmp_path / "run"), *arguments)
    assert isinstance(failed.exception, ConfigError)
    assert match in str(failed.exception)
    assert not (tmp_path / "run" / "summary.json").exists()


def test_a_model_that_cannot_be_sliced(tmp_path):
    whole = ["training", "run", "--protocol", "federated", "--objective", "digits-softmax", "--out", str(tmp_path / "run")]
    failed = CliRunner().invoke(app, [*whole, "--slices", "neurons=3"])
    assert "can't be sliced" in str(failed.exception)


def test_clients_commit_and_are_verified(tmp_path):
    shown = run("--out", str(tmp_path / "run"), "--steps", "5", "--slices", "neurons=4:random", "--clients", "3", "--commit")
    assert shown.exit_code == 0, shown.output
    assert "6 of 6 nodes committed to all of their steps" in shown.stdout
    verify = ["training", "verify", str(tmp_path / "run"), "--out", str(tmp_path / "verified"), "--format", "json"]
    found = CliRunner().invoke(app, verify)
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout)
    assert told["outcome"] == "accept"
    assert [each["covers"] for each in told["nodes"]] == [each["owed"] for each in told["nodes"]]
    assert sum(each["owed"] for each in told["nodes"]) == 15
