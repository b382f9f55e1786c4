"""Texts that are costly to gather, kept in the user's cache folder; a cache may be lost, damaged or forbidden at any time."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

_HEX_DIGITS = 64


def cache_folder() -> Path | None:
    """Where this user's caches lie: ``$XDG_CACHE_HOME/studbook`` or ``~/.cache/studbook``; ``None`` where there is no home."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if base and Path(base).is_absolute():
        return Path(base) / "studbook"
    try:
        return Path.home() / ".cache" / "studbook"
    except RuntimeError:
        return None


def read_cached(name: str) -> str | None:
    """The text kept under ``name``, or ``None`` where there is none or where it is damaged."""
    folder = cache_folder()
    if folder is None:
        return None
    try:
        content = (folder / name).read_bytes()
    except OSError:
        return None
    digest, body = content[:_HEX_DIGITS], content[_HEX_DIGITS + 1 :]
    if digest != hashlib.sha256(body).hexdigest().encode():
        return None
    return body.decode("utf-8")


def write_cached(name: str, text: str) -> None:
    """Keeps ``text`` under ``name`` in one step, so that no reader meets half a file; a folder that refuses is left alone."""
    folder = cache_folder()
    if folder is None:
        return
    body = text.encode("utf-8")
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{name}.")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
            Path(temporary).replace(folder / name)
        except OSError:
            Path(temporary).unlink(missing_ok=True)
            raise
