"""``studbook key`` and ``studbook claim``: from a key to a verdict, and what is said when something is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from studbook.cli.main import app
from studbook.data import open_source
from studbook.errors import (
    CalibrationError,
    ConfigError,
    DataError,
    EvidenceError,
    KeyFileError,
    RecordError,
    SignatureError,
    StudbookError,
)
from studbook.learners import Diffusion
from studbook.neural.options import Training
from studbook.provenance import SigningKey, read_signed, sign
from studbook.records import Claim
from studbook.verification.quorum import Quorum, make_receipt
from studbook.verification.verifier import Verifier

SAMPLING = ("--steps", "4", "--guidance", "1")
NOBODY = "ed25519:PUAXw-hDiVqStwqnTRt-vJyYLM8uxJaMwM1V8Sr0Zgw"


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def error_of(*arguments: object) -> StudbookError:
    result = run(*arguments)
    assert isinstance(result.exception, StudbookError), result.output
    return result.exception


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A model, keys, a calibration and an honest claim."""
    folder = tmp_path_factory.mktemp("claims")
    digits = open_source("digits").load().records
    learner = Diffusion(conditional=True, width=64, depth=2, training=Training(epochs=12, batch=64, rate=2e-3))
    learner.fit(digits, rng=np.random.default_rng(0)).save(folder / "model")
    for name in ("provider", "node"):
        assert run("key", "new", folder / f"{name}.key").exit_code == 0
    made = run("claim", "calibrate", folder / "model", "--key", folder / "node.key", "--out", folder / "limits.json",
               "--false-alarm", "0.25", "--confidence", "0.8", *SAMPLING, "--format", "json")  # fmt: skip
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["kind"] == "image"
    honest = run("claim", "make", folder / "model", "3", "--key", folder / "provider.key", "--out", folder / "honest", *SAMPLING)
    assert honest.exit_code == 0, honest.output
    return folder


def verify(place: Path, claim: str, *more: object):
    return run("claim", "verify", place / claim, "--model", place / "model", "--calibration", place / "limits.json", *more)


def test_a_key_is_made_once_and_shown(place: Path):
    shown = run("key", "show", place / "provider.key").stdout.strip()
    assert shown == str(SigningKey.load(place / "provider.key").public)
    assert (place / "provider.key").stat().st_mode & 0o77 == 0
    assert isinstance(error_of("key", "new", place / "provider.key"), KeyFileError)
    assert "studbook key new" in str(error_of("key", "show", place / "nobody.key"))


def test_a_claim_folder_has_what_it_needs(place: Path):
    assert sorted(file.name for file in (place / "honest").iterdir()) == ["claim.json", "evidence.json", "output.png", "states.safetensors"]
    assert (place / "honest" / "output.png").read_bytes().startswith(b"\x89PNG")


def test_an_honest_claim_is_accepted(place: Path):
    result = verify(place, "honest")
    assert result.exit_code == 0
    assert "identity: holds" in result.stdout and result.stdout.rstrip().endswith("ACCEPT")
    assert "name whose calibrations you trust with --trust" in result.stderr
    assert f"claimed by {SigningKey.load(place / 'provider.key').public}" in result.stderr
    assert "the challenge is the claimant's own, not yours" in result.stderr
    trusted = str(SigningKey.load(place / "node.key").public)
    assert json.loads(verify(place, "honest", "--trust", trusted, "--format", "json").stdout)["accepts"] is True
    assert verify(place, "honest", "--one-step").stdout.count("not looked at") == 1


def test_a_calibration_of_a_stranger_is_refused(place: Path):
    stranger = str(SigningKey.generate().public)
    error = error_of(
        "claim", "verify", place / "honest", "--model", place / "model", "--calibration", place / "limits.json", "--trust", stranger
    )
    assert isinstance(error, ConfigError) and "isn't trusted" in str(error)
    assert error.exit_code not in {0, 3, 4}, "it says nothing about the claim"


def test_a_picture_of_another_seed_is_rejected_and_named(place: Path, tmp_path: Path):
    """The claimant runs seed 8 and claims seed 9."""
    from dataclasses import replace

    from studbook.records import Environment, ImageSampling
    from studbook.verification.claimant import claim_picture
    from studbook.verification.folder import write_claim_folder
    from studbook.verification.models import register_model
    from studbook.verification.pictures import ImageEngine
    from studbook.verification.workflow import make_claim

    sampling = ImageSampling(steps=4, guidance=1.0)
    honest = make_claim(place / "model", "3", sampling, 9, Environment())
    other = ImageEngine(register_model(place / "model"), Environment()).write(["3"], sampling, [8])
    forged = claim_picture(replace(honest.claim.recipe), other.pixels[0], other.states[0])
    write_claim_folder(tmp_path / "forged", forged, SigningKey.load(place / "provider.key"))
    result = verify(place, tmp_path / "forged")
    assert result.exit_code == 3
    assert "start distance" in result.stdout and "beyond the limit" in result.stdout
    assert "execution: broken" in result.stdout and result.stdout.rstrip().endswith("REJECT")


def test_a_changed_byte_is_found_and_named(place: Path, tmp_path: Path):
    data = (place / "honest" / "claim.json").read_bytes()
    changed = tmp_path / "claim.json"
    changed.write_bytes(data.replace(b'"request":"3"', b'"request":"4"'))
    with pytest.raises(SignatureError, match=r"claim\.json was changed after it was signed: recipe\.request"):
        raise error_of("claim", "check", changed)
    changed.write_bytes(data[:-1])
    assert isinstance(error_of("claim", "check", changed), RecordError)
    assert isinstance(error_of("claim", "check", place / "model" / "model.safetensors"), RecordError)
    assert isinstance(error_of("claim", "show", tmp_path / "nothing"), ConfigError)


def test_show_and_check_every_record(place: Path):
    assert "recipe.request" in run("claim", "show", place / "honest").stdout
    assert "recipe.request" not in run("claim", "check", place / "honest").stdout
    assert "half the steps" in run("claim", "show", place / "limits.json").stdout
    assert json.loads(run("claim", "show", place / "honest" / "evidence.json", "--format", "json").stdout)["record"]["nonce"] == ""


def test_a_claim_is_never_overwritten(place: Path):
    """Its states can't be made again, and without them no challenge can be answered."""
    before = {file.name: file.read_bytes() for file in (place / "honest").iterdir()}
    error = error_of("claim", "make", place / "model", "3", "--key", place / "provider.key", "--out", place / "honest", *SAMPLING)
    assert isinstance(error, ConfigError) and "is there already" in str(error)
    assert {file.name: file.read_bytes() for file in (place / "honest").iterdir()} == before


def test_a_challenge_is_answered(place: Path):
    nonce = run("claim", "challenge").stdout.strip()
    answered = run("claim", "answer", place / "honest", "--nonce", nonce, "--key", place / "provider.key")
    assert answered.exit_code == 0, answered.output
    evidence = answered.stdout.strip()
    verified = verify(place, "honest", "--evidence", evidence, "--nonce", nonce)
    assert verified.exit_code == 0 and "not yours" not in verified.stderr
    here = ("--model", place / "model", "--calibration", place / "limits.json")
    for arguments in (
        ("--evidence", evidence),  # whose challenge was it?
        ("--evidence", evidence, "--nonce", 32 * "0"),
        ("--nonce", nonce),  # the evidence in the folder answers none
    ):
        error = error_of("claim", "verify", place / "honest", *here, *arguments)
        assert isinstance(error, EvidenceError) and "another challenge" in str(error)
    stranger = run("claim", "answer", place / "honest", "--nonce", nonce, "--key", place / "node.key", "--out", place / "stranger.json")
    with pytest.raises(RecordError, match="signed by different keys"):
        assert stranger.exit_code == 0
        raise error_of("claim", "verify", place / "honest", "--evidence", place / "stranger.json", "--model", place / "model",
                       "--calibration", place / "limits.json")  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        (("make", "MODEL", "77", "--key", "KEY", "--out", "OUT"), DataError, "class '77'"),
        (("make", "MODEL", "7", "--key", "KEY", "--out", "OUT", "--steps", "0"), ConfigError, "sampling.steps"),
        (("make", "MODEL", "7", "--key", "KEY", "--out", "OUT", "--dtype", "fp8"), ConfigError, "dtype"),
        (("make", "MODEL", "7", "--key", "MODEL", "--out", "OUT"), KeyFileError, "can't be read"),
        (("calibrate", "MODEL", "--key", "KEY", "--out", "OUT", "--false-alarm", "2"), ConfigError, "false_alarm"),
        (
            ("calibrate", "MODEL", "--key", "KEY", "--out", "OUT", "--false-alarm", "0.1", "--environment", "cpu"),
            ConfigError,
            "ENGINE/DTYPE",
        ),
        (("verify", "CLAIM"), ConfigError, "--model FOLDER"),
        (("verify", "CLAIM", "--verifiers", f"http://127.0.0.1:1#{NOBODY}"), ConfigError, "a challenge of yours"),
        (("verify", "CLAIM", "--verifiers", f"http://127.0.0.1:1#{NOBODY}", "--one-step"), ConfigError, "ways of their own"),
        (("verify", "CLAIM", "--verifiers", f"http://127.0.0.1:1#{NOBODY}", "--model", "MODEL"), ConfigError, "ways of their own"),
        (("consensus", "MODEL"), ConfigError, "language model"),
    ],
)
def test_mistakes_end_in_one_clear_line(place: Path, tmp_path: Path, arguments, kind, words):
    names = {"MODEL": place / "model", "KEY": place / "provider.key", "OUT": tmp_path / "out", "CLAIM": place / "honest"}
    error = error_of("claim", *(names.get(argument, argument) for argument in arguments))
    assert isinstance(error, kind) and words in str(error)
    assert not (tmp_path / "out").exists()


def test_another_sampling_than_the_calibrated_one_gets_no_verdict(place: Path):
    made = run("claim", "make", place / "model", "3", "--key", place / "provider.key", "--out", place / "steps", "--steps", "5")
    assert made.exit_code == 0
    error = error_of("claim", "verify", place / "steps", "--model", place / "model", "--calibration", place / "limits.json")
    assert isinstance(error, CalibrationError) and error.exit_code == 4


def test_a_receipt_is_checked_without_torch(place: Path, tmp_path: Path):
    """A third party has the core alone: PyTorch and the others are barred from being imported."""
    from studbook.records import Calibration
    from studbook.verification.folder import read_packet
    from studbook.verification.models import ModelStore
    from studbook.verification.quorum import new_round

    packet, round_ = read_packet(place / "honest"), new_round()
    verifier = Verifier(ModelStore([place / "model"]), [read_signed(place / "limits.json", Calibration).record], offline=True)
    keys = [SigningKey.generate() for _ in range(3)]
    quorum = Quorum(2, tuple(key.public for key in keys))
    ballot = verifier.examine(packet, round_, quorum.electorate).ballot
    receipt = make_receipt(packet.claim.data, [sign(ballot, key) for key in keys[:2]], quorum, round_, keys[0], made="2026-01-31T12:00:00Z")
    file = tmp_path / "receipt.json"
    file.write_bytes(receipt)
    barred = (
        "import sys; sys.modules.update(dict.fromkeys(['torch', 'transformers', 'numba', 'fastapi', 'httpx', 'polars', 'safetensors']));"
    )
    code = f"{barred} from studbook.cli.main import main; sys.argv = ['studbook', 'claim', 'check', {str(file)!r}]; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "ACCEPT: 2 accept, 0 reject, 1 missing; 2 of 3 decide" in done.stdout
    assert "whose keys these are, this doesn't say" in done.stdout
    voters = [part for key in keys for part in ("--voter", str(key.public))]
    expected = run("claim", "check", file, *voters, "--quorum", "2", "--trust", str(keys[0].public))
    assert expected.exit_code == 0 and "whose keys" not in expected.stdout
    shown = json.loads(run("claim", "check", file, *voters, "--quorum", "2", "--format", "json").stdout)
    assert shown["voters_expected"] is True and shown["coordinator"] == str(keys[0].public)
    for arguments, kind in (
        ((*voters, "--quorum", "3"), RecordError), ((*voters[:4], "--quorum", "2"), RecordError), (voters, ConfigError),
        (("--quorum", "2"), ConfigError), (("--trust", NOBODY), SignatureError), (("--voter", NOBODY, "--quorum", "1"), RecordError),
    ):  # fmt: skip
        assert isinstance(error_of("claim", "check", file, *arguments), kind)
    assert read_signed(place / "honest" / "claim.json", Claim).key == SigningKey.load(place / "provider.key").public


def test_a_claims_output_is_found_in_the_register(place, tmp_path):
    from studbook.registry import Register

    known = str(tmp_path / "outputs.db")
    refused = run("claim", "make", place / "model", "4", "--key", place / "provider.key", "--out", tmp_path / "none", *SAMPLING,
                  "--register", known)  # fmt: skip
    assert refused.exit_code != 0 and not (tmp_path / "none").exists()  # a misspelt register, noticed before anything is run
    assert run("registry", "new", known).exit_code == 0
    made = run("claim", "make", place / "model", "4", "--key", place / "provider.key", "--out", tmp_path / "four", *SAMPLING,
               "--register", known)  # fmt: skip
    assert made.exit_code == 0, made.output
    with Register.open(known) as register:
        ((found, *_),) = register.find_images([(tmp_path / "four" / "output.png").read_bytes()])
        assert found.how == "exact" and found.entry.model.startswith("sha256:")
        claim = register.claim(found.entry.source.removeprefix("claim:"))
    assert claim.data == (tmp_path / "four" / "claim.json").read_bytes()
