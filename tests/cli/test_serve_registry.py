"""``studbook serve registry``: what it refuses before anything is served, each in one line."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from studbook.cli.serve import app
from studbook.errors import ConfigError, KeyFileError, RegisterError, StudbookError
from studbook.registry import Register


@pytest.fixture
def files(tmp_path):
    """A register and a file of tokens."""
    Register.open(tmp_path / "outputs.db", create=True).close()
    (tmp_path / "tokens").write_text("a-token-of-some-length")
    (tmp_path / "tokens").chmod(0o600)
    (tmp_path / "shared").write_text("a-token-of-some-length")
    (tmp_path / "shared").chmod(0o644)
    (tmp_path / "text.txt").write_text("no database")
    return tmp_path


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        (["outputs.db", "--host", "0.0.0.0"], ConfigError, "anybody could read this register"),
        (["outputs.db", "--open-reads", "--read-token-file", "tokens"], ConfigError, "reads are to be open"),
        (["outputs.db", "--write-token-file", "shared"], KeyFileError, "can be read by others"),
        (["outputs.db", "--write-token-file", "none"], KeyFileError, "can't be read"),
        (["outputs.db", "--trust", "none.pem"], ConfigError, "can't be read"),
        (["outputs.db", "--rate", "-1"], ConfigError, "the rate is -1"),
        (["outputs.db", "--burst", "0"], ConfigError, "0 at once"),
        (["outputs.db", "--threads", "0"], ConfigError, "threads is 0, expected 1 to 12"),
        (["outputs.db", "--pixel-limit-mp", "68"], ConfigError, "pixels is 68000000"),
        (["outputs.db", "--body-limit-kb", "0"], ConfigError, "body_bytes is 0"),
        (["outputs.db", "--time-limit-s", "nan"], ConfigError, "answer_timeout_s is nan"),
        (["outputs.db", "--host", "192.0.2.1", "--open-reads"], ConfigError, "can't be bound"),
        (["none.db", "--port", "0"], RegisterError, "there is no register at none.db"),
        (["text.txt", "--port", "0"], RegisterError, "isn't an SQLite database"),
    ],
)
def test_what_can_t_be_served(files, monkeypatch, options, kind, message):
    monkeypatch.chdir(files)
    result = CliRunner().invoke(app, ["registry", *options])
    assert isinstance(result.exception, kind) and isinstance(result.exception, StudbookError)
    assert message in str(result.exception)
