"""What every file source checks before it reads, and how it reads: in bounded chunks, with typed errors."""

from __future__ import annotations

import difflib
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from studbook.errors import ConfigError, DataError

MAX_BYTES = 4 * 2**30
CHUNK = 4 * 2**20


def require_size(name: str, got: int, least: int) -> None:
    """Refuses a size below ``least``."""
    if got < least:
        raise ConfigError(f"{name} is {got}, expected {least} or more", hint=f"set data.{name}")


def checked_file(path: str, max_bytes: int) -> tuple[Path, int]:
    """The expanded path of a readable, regular, non-empty file, and its size in bytes. Symbolic links are followed.

    Raises:
        ConfigError: Not a path at all.
        DataError: Missing, a folder, a device, empty, larger than ``max_bytes``, or not readable.
    """
    if not path or "\0" in path:
        raise ConfigError(f"{path!r} is no path", hint="set data.source to the path of a file")
    try:
        file = Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{path}: no such home folder", hint="write the path in full") from error
    with reading(path):
        if not file.exists():
            raise DataError(f"{path}: no such file", hint=_neighbour(file))
        status = file.stat()
        if stat.S_ISDIR(status.st_mode):
            raise DataError(f"{path} is a folder, expected a file", hint="point data.source at one file in it")
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"{path} is a device or a pipe, expected a file", hint="write the data to a file first")
    if status.st_size == 0:
        raise DataError(f"{path} is empty")
    require_bytes(path, status.st_size, max_bytes)
    return file, status.st_size


def require_bytes(where: str, needed: int, max_bytes: int) -> None:
    """Refuses what would take more than ``max_bytes`` of memory, before it is asked for."""
    if needed > max_bytes:
        message = f"{where} would take {needed:,} bytes, allowed are {max_bytes:,}"
        raise DataError(message, hint="use less of it, or set data.max_bytes")


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Turns what the operating system refuses into a ``DataError``."""
    try:
        yield
    except PermissionError as error:
        raise DataError(f"{path}: permission denied", hint="make the file readable for this user") from error
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}") from error


def read_exactly(stream: IO[bytes], n_bytes: int) -> bytes:
    """Up to ``n_bytes`` of a stream; fewer where it ends before. Memory follows what is there, not what a header promises."""
    chunks = bytearray()
    while len(chunks) < n_bytes:
        chunk = stream.read(min(CHUNK, n_bytes - len(chunks)))
        if not chunk:
            break
        chunks += chunk
    return bytes(chunks)


def _neighbour(file: Path) -> str:
    parent = file.parent
    if not parent.is_dir():
        return f"there is no folder {parent}"
    close = difflib.get_close_matches(file.name, (entry.name for entry in parent.iterdir()), n=1)
    return f"did you mean {parent / close[0]}?" if close else f"looked in {parent.resolve()}"
