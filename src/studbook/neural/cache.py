"""What is trained or converted once and used again: folders named by a digest, in the user's cache."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from studbook.files import replacing_folder


def cache_folder() -> Path:
    """``$STUDBOOK_CACHE``, else ``studbook`` in the user's cache directory."""
    given = os.environ.get("STUDBOOK_CACHE")
    if given:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "studbook"


def cached(kind: str, digest: str, make: Callable[[Path], None]) -> Path:
    """The folder ``kind/digest`` of the cache; made by ``make`` where it isn't there, whole or not at all.

    Two processes may make it at once: what they make is the same, and the later one replaces the earlier.
    """
    folder = cache_folder() / kind / digest
    if not folder.is_dir():
        with replacing_folder(folder) as temporary:
            make(temporary)
    return folder
