"""Where a node keeps what it commits to: files of a folder, or memory for simulations. Names are flat; nothing is half-written."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from studbook.errors import StorageError, VerifierError
from studbook.files import write_file

_NAME = re.compile(r"[a-z][a-z0-9-]{0,63}\.(?:json|jsonl|bin)")


class Store(Protocol):
    """Bytes by name."""

    def put(self, name: str, data: bytes) -> None:
        """Keep bytes, whole or not at all; what was there is replaced."""
        ...

    def get(self, name: str, *, max_bytes: int) -> bytes:
        """The bytes of a name.

        Raises:
            VerifierError: They aren't there, or are more than allowed: whoever needs them has no ballot.
        """
        ...

    def names(self) -> list[str]:
        """All names, sorted."""
        ...


@dataclass(frozen=True, slots=True)
class FolderStore:
    """Files of one folder.

    Attributes:
        folder: Which; made when the first file is written.
        flush: Whether each file is flushed to the disk: see ``write_file``.
    """

    folder: Path
    flush: bool = True

    def put(self, name: str, data: bytes) -> None:
        """See ``Store``.

        Raises:
            StorageError: The disk refused.
        """
        write_file(self.folder / _checked(name), data, flush=self.flush)

    def get(self, name: str, *, max_bytes: int) -> bytes:
        """See ``Store``."""
        path = self.folder / _checked(name)
        try:
            if path.is_symlink() or not path.is_file():
                raise VerifierError(f"there is no file {path}", hint="ask the node for it: without it there is no ballot")
            with path.open("rb") as file:
                data = file.read(max_bytes + 1)
        except OSError as error:
            raise VerifierError(f"{path} can't be read: {error.strerror or error}", hint="ask the node for it again") from error
        return _bounded(data, max_bytes, str(path))

    def names(self) -> list[str]:
        """See ``Store``."""
        if not self.folder.is_dir():
            return []
        return sorted(file.name for file in self.folder.iterdir() if _NAME.fullmatch(file.name))


@dataclass(frozen=True, slots=True)
class MemoryStore:
    """A table in memory.

    Attributes:
        kept: Bytes by name.
    """

    kept: dict[str, bytes] = field(default_factory=dict)

    def put(self, name: str, data: bytes) -> None:
        """See ``Store``."""
        self.kept[_checked(name)] = data

    def get(self, name: str, *, max_bytes: int) -> bytes:
        """See ``Store``."""
        if name not in self.kept:
            raise VerifierError(f"there is no {name}", hint="ask the node for it: without it there is no ballot")
        return _bounded(self.kept[name], max_bytes, name)

    def names(self) -> list[str]:
        """See ``Store``."""
        return sorted(self.kept)


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise StorageError(
            f"{name[:80]!r} is no name of a node's file", hint="lower-case letters, digits and hyphens, then .json, .jsonl or .bin"
        )
    return name


def _bounded(data: bytes, max_bytes: int, what: str) -> bytes:
    if len(data) > max_bytes:
        raise VerifierError(f"{what} has more than {max_bytes:,} bytes", hint="this isn't what the node committed to")
    return data
