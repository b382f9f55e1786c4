"""The indexes beside the tables: caches that follow them row by row, and are made again where they are missing or damaged."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from sqlalchemy import Connection, func, select

from studbook.arrays import Ints
from studbook.errors import StorageError
from studbook.files import remove, storage, write_file
from studbook.hamming.bits import MAX_BITS
from studbook.registry.contents import Packed, measured_in_bits
from studbook.registry.reading import Scheme
from studbook.registry.schema import prints
from studbook.registry.store import Store

_PART = 1 << 16
_TRIES = 3
_STATE = "followed.json"
_MINHASH = (("bits", 16), ("permutations", 128))


class RowIndex(Protocol):
    """What an index of either kind does; rows are those of ``prints``."""

    @property
    def n_rows(self) -> int: ...
    def extend(self, packed: Packed) -> None: ...
    def search(self, queries: Packed, limit: int) -> tuple[Ints, Ints, Ints]: ...


def is_indexed(scheme: Scheme) -> bool:
    """Whether there is an index for a scheme's digests: bits compared by Hamming distance, or MinHash of 128 permutations of 16 bits."""
    name, _, parameters, n_bytes = scheme
    if name == "minhash":
        return set(_MINHASH) <= set(parameters) and n_bytes == 256
    return measured_in_bits(name) and 8 * n_bytes <= MAX_BITS


class Indexes:
    """The indexes of one register, in a folder.

    Args:
        folder: Where they lie, or are to.
        register: The register's own random name: indexes of another one are thrown away.
    """

    def __init__(self, folder: Path, register: str) -> None:
        self.folder, self._register = folder, register
        self._open: dict[int, RowIndex] = {}

    def search(self, store: Store, number: int, scheme: Scheme, queries: Packed, limit: int) -> tuple[Ints, Ints, Ints]:
        """Query, row and distance (or, of MinHash, agreeing permutations) of all rows of the table within a limit.

        Raises:
            StorageError: The index can't be written.
        """
        for _ in range(_TRIES):
            try:
                return self._search(store, number, scheme, queries, limit)
            except StorageError as error:
                if not isinstance(error.__cause__, FileNotFoundError):
                    raise
            except (OSError, ValueError):
                pass
            self.drop(number)  # damaged, or deleted just now; it is a cache
        with storage(self.folder):
            return self._search(store, number, scheme, queries, limit)

    def _search(self, store: Store, number: int, scheme: Scheme, queries: Packed, limit: int) -> tuple[Ints, Ints, Ints]:
        index = self.follow(store, number, scheme)
        with self._lock(number, fcntl.LOCK_SH):
            return index.search(queries, limit)

    def follow(self, store: Store, number: int, scheme: Scheme) -> RowIndex:
        """The index with all rows of the table in it.

        Raises:
            StorageError: The index can't be written.
        """
        known = self._open.get(number)
        with store.read() as connection:
            if known is not None and known.n_rows == n_prints(connection, number):
                return known
        # The transaction begins under the lock, so that it sees every row that another process has put into the index.
        with self._lock(number, fcntl.LOCK_EX), store.read() as connection:
            index = self._opened(connection, number, scheme)
            before = index.n_rows
            for part in _new_bits(connection, number, before):
                index.extend(np.frombuffer(b"".join(part), np.uint8).reshape(len(part), -1))
            if index.n_rows > before:
                self._write_state(connection, number, index.n_rows)
            self._open[number] = index
        return index

    def place(self, number: int) -> Path:
        """Folder of one index."""
        return self.folder / f"scheme-{number}"

    def drop(self, number: int) -> None:
        """Throw an index away; the next search makes it again."""
        with self._lock(number, fcntl.LOCK_EX):
            self._forget(number)

    def _forget(self, number: int) -> None:
        self._open.pop(number, None)
        with storage(self.place(number)):
            remove(self.place(number))

    def _opened(self, connection: Connection, number: int, scheme: Scheme) -> RowIndex:
        """The index on the disk where it belongs to this table, else an empty one."""
        place = self.place(number)
        try:
            index = _create(place, scheme)
            if not self._belongs(connection, number, index.n_rows):
                raise ValueError
        except StorageError:
            raise
        except (OSError, ValueError):
            self._forget(number)
            index = _create(place, scheme)
        return index

    def _belongs(self, connection: Connection, number: int, n_rows: int) -> bool:
        """Whether an index was made of this very table: a register that was replaced, or taken from a backup, has other rows."""
        if n_rows == 0:
            return True
        try:
            state = json.loads((self.place(number) / _STATE).read_bytes()[:4096])
            register, rows, tail = state["register"], state["rows"], state["tail"]
        except (OSError, ValueError, KeyError, TypeError):
            return False
        belongs = register == self._register and type(rows) is int and 0 < rows <= n_rows
        return belongs and tail == _tail(connection, number, rows) and _tail(connection, number, n_rows) != ""

    def _write_state(self, connection: Connection, number: int, rows: int) -> None:
        state = {"register": self._register, "rows": rows, "tail": _tail(connection, number, rows)}
        write_file(self.place(number) / _STATE, json.dumps(state).encode())

    @contextmanager
    def _lock(self, number: int, kind: int) -> Iterator[None]:
        with storage(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.folder / f"scheme-{number}.lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, kind)
            yield
        finally:
            os.close(handle)


def n_prints(connection: Connection, number: int) -> int:
    """Rows of a scheme in the table."""
    last = connection.execute(select(func.max(prints.c.row)).where(prints.c.scheme == number)).scalar()
    return 0 if last is None else int(last) + 1


def _create(place: Path, scheme: Scheme) -> RowIndex:
    from studbook.registry.band_index import BandIndex
    from studbook.registry.bit_index import BitIndex

    kind: Callable[..., Any] = BandIndex if scheme[0] == "minhash" else BitIndex
    found: RowIndex = kind(place / "rows") if scheme[0] == "minhash" else kind(place / "rows", scheme[3])
    return found


def _tail(connection: Connection, number: int, rows: int) -> str:
    """Digest of the last of so many rows of the table; empty where there aren't as many."""
    bits = connection.execute(select(prints.c.bits).where(prints.c.scheme == number, prints.c.row == rows - 1)).scalar()
    return "" if bits is None else hashlib.sha256(bits).hexdigest()


def _new_bits(connection: Connection, number: int, start: int) -> Iterator[list[bytes]]:
    while True:
        among = (prints.c.scheme == number, prints.c.row >= start, prints.c.row < start + _PART)
        part = [bytes(row[0]) for row in connection.execute(select(prints.c.bits).where(*among).order_by(prints.c.row)).all()]
        if not part:
            return
        yield part
        start += len(part)
