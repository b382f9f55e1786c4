"""Files of callers' tokens, for their owner's eyes alone."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from studbook.errors import KeyFileError

_MAX_FILE = 1 << 20
_LEAST_TOKEN = 16
_HINT = "make one with: openssl rand -hex 32"


def read_tokens(path: Path) -> tuple[str, ...]:
    """A node's file: one token a line; empty lines and those that begin with ``#`` don't count.

    Raises:
        KeyFileError: No such file, others than its owner can read it, or what no token can be.
    """
    tokens = _read_lines(path)
    for number, token in enumerate(tokens, 1):
        _check_token(token, f"token {number} of {path}")
    return tokens


def read_node_tokens(path: Path) -> Mapping[str, str]:
    """A coordinator's file: on each line a node's public key or URL, and the token that it knows us by.

    Raises:
        KeyFileError: As ``read_tokens``; or a line of another form, or two for one node.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(_read_lines(path), 1):
        node, _, token = line.partition(" ")
        if not token or node in found:
            message = f"line {number} of {path} " + ("is a second one for a node" if token else "isn't a node and its token")
            raise KeyFileError(message, hint="ed25519:… (or URL) and token: each node has a token of its own, so that none can ask as you")
        _check_token(token.strip(), f"the token on line {number} of {path}")
        found[node] = token.strip()
    return found


def _read_lines(path: Path) -> tuple[str, ...]:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_MAX_FILE + 1)
        text = data.decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFileError(f"the tokens {path} can't be read: {error}", hint=_HINT) from error
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise KeyFileError(f"the tokens {path} can be read by others (mode {stat.S_IMODE(mode):o}), expected 600", hint=f"chmod 600 {path}")
    lines = tuple(line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#"))
    if not lines or len(data) > _MAX_FILE:
        raise KeyFileError(f"{path} has {'too many tokens' if lines else 'no token'}", hint=_HINT)
    return lines


def _check_token(token: str, what: str) -> None:
    if len(token) < _LEAST_TOKEN or not token.isprintable() or " " in token:
        raise KeyFileError(f"{what} has spaces, or less than {_LEAST_TOKEN} characters", hint=_HINT)
