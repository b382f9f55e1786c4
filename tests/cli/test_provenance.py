"""``studbook provenance``: certificates, pictures, files and folders from the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from studbook.cli.main import app
from studbook.errors import ConfigError, DataError, KeyFileError, ProvenanceError, StudbookError
from studbook.pictures import png_bytes

SHA = "sha256:" + 64 * "a"


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def error_of(*arguments: object) -> StudbookError:
    result = run(*arguments)
    assert isinstance(result.exception, StudbookError), result.output
    return result.exception


@pytest.fixture
def place(tmp_path) -> Path:
    assert run("provenance", "chain", "new", tmp_path / "chain", "--name", "Example Laboratory").exit_code == 0
    (tmp_path / "picture.png").write_bytes(png_bytes(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)))
    (tmp_path / "text.txt").write_text("A text.")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text("a")
    return tmp_path


def verified(place: Path, name: str) -> dict:
    result = run("provenance", "verify", place / name, "--trust", place / "chain" / "root.pem", "--format", "json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_picture_from_signing_to_rejection(place):
    signed = run("provenance", "sign", place / "picture.png", "--chain", place / "chain", "--origin", "generated", "--model", "m",
                 "--entry", SHA, "--parent", SHA)  # fmt: skip
    assert signed.stdout.strip() == str(place / "picture.png")
    found = verified(place, "picture.png")
    assert (found["signer"], found["origin"], found["model"], found["entry"]) == ("Example Laboratory", "generated", "m", SHA)
    data = bytearray((place / "picture.png").read_bytes())
    data[-20] ^= 1
    (place / "picture.png").write_bytes(data)
    error = error_of("provenance", "verify", place / "picture.png", "--trust", place / "chain")
    assert (error.exit_code, type(error)) == (3, ProvenanceError)


def test_any_other_file_gets_a_sidecar(place):
    signed = run("provenance", "sign", place / "text.txt", "--chain", place / "chain", "--origin", "human")
    assert signed.stdout.strip() == str(place / "text.txt.c2pa")
    assert verified(place, "text.txt")["origin"] == "human"
    (place / "text.txt.c2pa").rename(place / "elsewhere")
    assert isinstance(error_of("provenance", "verify", place / "text.txt", "--trust", place / "chain"), ProvenanceError)
    result = run("provenance", "verify", place / "text.txt", "--trust", place / "chain", "--signature", place / "elsewhere")
    assert "verified" in result.stdout


def test_a_folder_is_described_and_signed(place):
    described = run("provenance", "describe", place / "data", "--name", "texts", "--description", "Made up.", "--license", "cc0-1.0",
                    "--creator", "Example Laboratory", "--model", "m", "--derived-from", "wikitext", "--records", 1)  # fmt: skip
    assert described.exit_code == 0, described.output
    assert run("provenance", "sign", place / "data", "--chain", place / "chain").exit_code == 0
    found = verified(place, "data")
    assert (found["files"], sorted(found["sums"])) == (3, ["README.md", "a.txt", "croissant.json"])
    (place / "data" / "a.txt").write_text("b")
    assert "changed a.txt" in str(error_of("provenance", "verify", place / "data", "--trust", place / "chain"))
    (place / "data" / "a.txt").unlink()
    assert "missing a.txt" in str(error_of("provenance", "verify", place / "data", "--trust", place / "chain"))


@pytest.mark.parametrize("name", ["picture.png", "text.txt", "data"])
def test_showing_says_that_nothing_was_verified(place, name):
    run("provenance", "sign", place / name, "--chain", place / "chain")
    shown = run("provenance", "show", place / name, "--format", "json")
    assert json.loads(shown.stdout)["verified"] is False
    assert "not verified" in shown.stderr
    assert "Example Laboratory" in run("provenance", "show", place / name).stdout


def test_a_stranger_isnt_trusted(place):
    run("provenance", "chain", "new", place / "other", "--name", "Example Laboratory")
    run("provenance", "sign", place / "text.txt", "--chain", place / "other")
    error = error_of("provenance", "verify", place / "text.txt", "--trust", place / "chain")
    assert "isn't trusted" in str(error)
    run("provenance", "sign", place / "text.txt", "--chain", place / "chain")
    error = error_of("provenance", "verify", place / "text.txt", "--trust", place / "chain", "--signer", "Nobody")
    assert "isn't trusted" in str(error)


def test_mistakes_are_said(place):
    assert isinstance(error_of("provenance", "sign", place / "nothing", "--chain", place / "chain"), DataError)
    assert isinstance(error_of("provenance", "sign", place / "text.txt", "--chain", place / "nothing"), KeyFileError)
    assert isinstance(error_of("provenance", "sign", place / "data", "--chain", place / "chain", "--model", "m"), ConfigError)
    assert isinstance(error_of("provenance", "sign", place / "text.txt", "--chain", place / "chain", "--entry", "x"), ConfigError)
    assert isinstance(error_of("provenance", "verify", place / "text.txt", "--trust", place / "text.txt"), ConfigError)
    assert isinstance(error_of("provenance", "show", place / "text.txt"), ProvenanceError)
    assert isinstance(error_of("provenance", "chain", "new", place / "chain", "--name", "Lab"), KeyFileError)
    assert isinstance(error_of("provenance", "chain", "renew", place / "data"), KeyFileError)
    assert run("provenance", "sign", place / "text.txt").exit_code == 2


def test_a_signer_is_renewed(place):
    run("provenance", "sign", place / "text.txt", "--chain", place / "chain")
    assert run("provenance", "chain", "renew", place / "chain", "--days", 10).exit_code == 0
    assert verified(place, "text.txt")["signer"] == "Example Laboratory"


def test_a_rejection_exits_with_3_and_without_a_traceback(place):
    done = subprocess.run([sys.executable, "-m", "studbook", "provenance", "verify", place / "picture.png", "--trust", place / "chain"],
                          check=False, capture_output=True, text=True)  # fmt: skip
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("studbook: error: picture.png carries no content credential\n")
    assert "Traceback" not in done.stderr
