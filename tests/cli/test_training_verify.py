"""``studbook training run --commit`` and ``studbook training verify``: tables, JSON, exit codes, mistakes."""

from __future__ import annotations

import json
import shutil

import pytest
from typer.testing import CliRunner

from studbook.cli.main import app
from studbook.errors import ConfigError, KeyFileError, RecordError, RunFolderError, SignatureError, VerifierError
from studbook.provenance import SigningKey
from studbook.records import TrainingCommitment
from studbook.verification.quorum import check_receipt_of

SMALL = ["--objective", "quadratic", "--set", "rows=100", "--nodes", "3", "--batch", "4", "--steps", "20", "--commit"]


def run(*arguments: str):
    return CliRunner().invoke(app, ["training", *arguments])


@pytest.fixture(scope="module")
def committed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("committed") / "run"
    done = run("run", *SMALL, "--out", str(folder), "--commit-every", "4")
    assert done.exit_code == 0, done.output
    assert "3 of 3 nodes committed to all of their steps; coordinator: ed25519:" in done.stdout
    return folder


@pytest.fixture
def copy(committed, tmp_path):
    return shutil.copytree(committed, tmp_path / "run")


def test_an_honest_run_is_accepted(committed, tmp_path):
    shown = run("verify", str(committed), "--out", str(tmp_path / "v"), "--replays", "10")
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.count("accept") == 3
    assert shown.stdout.strip().endswith("ACCEPT")
    assert "10 steps of each find 0.05 of false ones with probability 0.5000; in a run without end with 0.4013" in shown.stdout
    receipts = sorted((tmp_path / "v/receipts").iterdir())
    assert [each.name for each in receipts] == ["node-000.json", "node-001.json", "node-002.json"]
    signed, _ = check_receipt_of(TrainingCommitment, receipts[1].read_bytes())
    assert (signed.record.verdict.outcome, signed.record.verdict.n) == ("accept", 3)


def test_private_keys_in_the_folder_are_told(copy, tmp_path):
    """Who is given a folder can sign as its nodes if their keys are in it: whoever handed it on should know."""
    shown = run("verify", str(copy), "--out", str(tmp_path / "v"), "--replays", "2")
    assert shown.exit_code == 0, shown.output
    assert f"4 private keys lie in {copy}" in shown.stderr
    assert "private keys" not in shown.stdout
    shutil.rmtree(copy / "keys")
    assert "private keys" not in run("verify", str(copy), "--out", str(tmp_path / "w"), "--replays", "2").stderr


def test_json_is_what_is_written(committed, tmp_path):
    keys = []
    for i in range(2):
        SigningKey.generate().save(tmp_path / f"{i}.pem")
        keys += ["--key", str(tmp_path / f"{i}.pem")]
    shown = run("verify", str(committed), "--out", str(tmp_path / "v"), "--verifiers", "2", *keys, "--format", "json")
    assert shown.exit_code == 0, shown.output
    told = json.loads(shown.stdout)
    assert told == json.loads((tmp_path / "v/verification.json").read_text())
    assert told["outcome"] == "accept"
    assert {(each["replayed"], each["detects"], each["covers"]) for each in told["nodes"]} == {(20, 1.0, 20)}
    receipt = check_receipt_of(TrainingCommitment, (tmp_path / "v/receipts/node-000.json").read_bytes())[0].record
    assert receipt.voters == tuple(str(SigningKey.load(tmp_path / f"{i}.pem").public) for i in range(2))
    coordinator = ["--coordinator", told["coordinator"]]
    assert run("verify", str(committed), "--out", str(tmp_path / "w"), *coordinator).exit_code == 0


@pytest.mark.parametrize(
    "damage", ["nodes/001/state-00000008.bin", "nodes/001/steps-00000004.jsonl", "nodes/001/commitment.json", "nodes/001"]
)
@pytest.mark.parametrize("how", ["missing", "changed"])
def test_a_tampered_folder_is_no_pass(copy, tmp_path, damage, how):
    path = copy / damage
    if path.is_dir():
        shutil.rmtree(path)
        if how == "changed":
            shutil.copytree(copy / "nodes/002", path)
    elif how == "missing":
        path.unlink()
    else:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    shown = run("verify", str(copy), "--out", str(tmp_path / "v"), "--replays", "20", "--format", "json")
    assert shown.exit_code == 4, shown.output
    told = json.loads(shown.stdout)
    assert told["nodes"][1]["outcome"] == "inconclusive"
    assert told["nodes"][1]["ballots"] == 0
    assert told["nodes"][1]["reason"]


@pytest.mark.parametrize(
    ("name", "kind"), [("roster.json", SignatureError), ("contacts.jsonl", VerifierError), ("roster.json.missing", ConfigError)]
)
def test_what_the_coordinator_signed_may_not_be_changed(copy, tmp_path, name, kind):
    path = copy / name.removesuffix(".missing")
    if name.endswith("missing"):
        path.unlink()
    else:
        path.write_bytes(path.read_bytes().replace(b"a", b"b", 1))
    failed = run("verify", str(copy), "--out", str(tmp_path / "v"))
    assert isinstance(failed.exception, kind | RecordError)
    assert not (tmp_path / "v").exists()


def test_a_false_step_is_named(tmp_path):
    """A node whose records say another update than its own gives, under a root of its own, well signed."""
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    import committed_site as site
    from studbook.protocols import Gossip, InProcess, Node, ring

    class Half(Node):
        def gradient_at(self, state):
            found = super().gradient_at(state)
            return type(found)({name: value / 2 for name, value in found.parameters.items()}, found.loss, found.n)

    nodes = site.SPEC.build()
    nodes[2] = Half(2, nodes[2].objective, nodes[2].rows, nodes[2].batch, nodes[2].optimiser, nodes[2].seed)
    site.commit(tmp_path / "run", Gossip(ring(3)), cluster=InProcess(nodes, site.place(tmp_path / "run")))
    shown = run("verify", str(tmp_path / "run"), "--out", str(tmp_path / "v"), "--replays", "6")
    assert shown.exit_code == 3, shown.output
    assert shown.stdout.strip().endswith("REJECT")
    told = [line for line in shown.stdout.splitlines() if line.startswith("node 2: ")]
    assert len(told) == 1
    assert "than was committed to" in told[0]
    receipt = check_receipt_of(TrainingCommitment, (tmp_path / "v/receipts/node-002.json").read_bytes())[0].record
    assert (receipt.verdict.outcome, receipt.verdict.rejects) == ("reject", 3)
    assert "step" in receipt.notes[0]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--replays", "0"], "0 steps are replayed"), (["--detect", "1"], "a share of 0.05 found with probability 1.0"),
        (["--false-share", "0"], "a share of 0.0"), (["--verifiers", "0"], "0 verifiers"), (["--coordinator", "me"], "no public key"),
        (["--key", "absent.pem"], "1 keys for 3 verifiers"), (["--set", "rows"], "KEY=VALUE"),
    ],
)  # fmt: skip
def test_mistakes(committed, tmp_path, arguments, match):
    failed = run("verify", str(committed), "--out", str(tmp_path / "v"), *arguments)
    assert isinstance(failed.exception, ConfigError)
    assert match in str(failed.exception)


def test_more_mistakes(committed, tmp_path):
    stranger = str(SigningKey.generate().public)
    assert isinstance(run("verify", str(committed), "--out", str(tmp_path / "v"), "--coordinator", stranger).exception, SignatureError)
    assert "is there already" in str(run("verify", str(committed), "--out", str(tmp_path)).exception)
    absent = ["--verifiers", "1", "--key", str(tmp_path / "absent.pem")]
    assert isinstance(run("verify", str(committed), "--out", str(tmp_path / "v"), *absent).exception, KeyFileError)
    other = run("verify", str(committed), "--out", str(tmp_path / "v"), "--set", "rows=90", "--format", "json")
    assert other.exit_code == 4  # other data than was committed to: no ballot
    assert {each["ballots"] for each in json.loads(other.stdout)["nodes"]} == {0}
    assert "the commitment is to another objective" in json.loads(other.stdout)["nodes"][0]["reason"]
    plain = tmp_path / "plain"
    assert run("run", *SMALL[:-1], "--out", str(plain)).exit_code == 0
    assert "only a run with --commit can be verified" in str(run("verify", str(plain), "--out", str(tmp_path / "w")).exception)


def test_the_switch_and_its_options(tmp_path):
    failed = run("run", *SMALL[:-1], "--out", str(tmp_path / "a"), "--commit-every", "4")
    assert "add --commit" in str(failed.exception)
    keys = tmp_path / "keys"
    done = run("run", *SMALL, "--out", str(tmp_path / "b"), "--key-dir", str(keys), "--format", "json")
    assert done.exit_code == 0, done.output
    assert [each["steps"] for each in json.loads(done.stdout)["commitments"]] == [20] * 3
    assert sorted(key.name for key in keys.iterdir()) == ["coordinator.pem", "node-000.pem", "node-001.pem", "node-002.pem"]
    assert not (tmp_path / "b/keys").exists()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--commit-every", "0"], "commit_every is 0"),
        (["--commit-every", "4096"], "commit_every is 4096, expected 1 to 4,095"),
        (["--protocol", "federated", "--clients", "2"], "federated clients keep nothing"),
        (["--set", "rows=1"], "nodes"),
    ],
)
def test_no_key_is_drawn_for_a_run_that_cannot_be(extra, message, tmp_path):
    failed = run("run", *SMALL, "--out", str(tmp_path / "c"), *extra)
    assert failed.exit_code != 0
    assert message in str(failed.exception)
    assert not list(tmp_path.rglob("*.pem"))


def test_no_key_is_drawn_for_a_folder_of_another_run(committed, copy, tmp_path):
    assert run("run", *SMALL[:-1], "--out", str(tmp_path / "plain")).exit_code == 0
    failed = run("run", *SMALL, "--out", str(tmp_path / "plain"))
    assert isinstance(failed.exception, RunFolderError)
    assert "holds a run already" in str(failed.exception)
    # Nor for one that began with other keys.
    again = [*SMALL, "--out", str(copy), "--commit-every", "4"]
    assert isinstance(run("run", *again, "--key-dir", str(tmp_path / "k")).exception, RunFolderError)
    assert not (tmp_path / "plain/keys").exists()
    assert not (tmp_path / "k").exists()
    assert run("run", *again, "--key-dir", str(committed / "keys")).exit_code == 0
