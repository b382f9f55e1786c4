"""Near-duplicate clusters of a corpus's records: equal contents, alike texts, alike pictures."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studbook.arrays import Ints
from studbook.errors import ConfigError, DataError

PERMUTATIONS = 128
BANDS = 32
_WIDTH = 2 * PERMUTATIONS
_PHASH_BANDS = 8


@dataclass(frozen=True, slots=True)
class Likeness:
    """When two records are near duplicates.

    Attributes:
        similarity: Of texts: least estimated Jaccard similarity of their 3-word shingles, above 0 and at most 1.
        radius_bits: Of pictures: largest distance of their perceptual hashes, 0 … 7 of 64 bits.

    Raises:
        ConfigError: A number out of its range.
    """

    similarity: float = 0.7
    radius_bits: int = 6

    def __post_init__(self) -> None:
        if not 0.0 < self.similarity <= 1.0:
            raise ConfigError(f"similarity is {self.similarity}, expected above 0 and at most 1", hint="0.7 survives small edits")
        if not 0 <= self.radius_bits < _PHASH_BANDS:
            raise ConfigError(f"radius_bits is {self.radius_bits}, expected 0 to {_PHASH_BANDS - 1}")


class Clusters:
    """Records joined to clusters as they come; fingerprints lie in a temporary file, a few bytes a record in memory.

    Texts that agree in one of 32 bands of 4 permutations are compared, pictures that agree in one of 8 bytes of their hash: two texts of
    similarity .7 share a band with probability .9998, and two hashes within 7 bits always share a byte. Within a band a record is
    compared with the one before it and with the band's first, which joins chains of alike records.
    """

    def __init__(self, likeness: Likeness) -> None:
        self._likeness = likeness
        self._file = tempfile.TemporaryFile(prefix="studbook-")  # noqa: SIM115  # closed by ``numbers``
        self._contents: list[NDArray[np.uint64]] = []
        self._kinds: list[NDArray[np.uint8]] = []

    def add(self, contents: Sequence[str], texts: Sequence[Any], pictures: Sequence[Any]) -> None:
        """Add records: digests of their contents, and of each its text or its picture's bytes, or neither."""
        rows = np.zeros((len(contents), _WIDTH), dtype=np.uint8)
        kinds = np.zeros(len(contents), dtype=np.uint8)
        for i, (text, picture) in enumerate(zip(texts, pictures, strict=True)):
            found = _text_row(text) if isinstance(text, str) else _picture_row(picture) if isinstance(picture, bytes) else None
            if found is not None:
                kinds[i] = 1 if isinstance(text, str) else 2
                rows[i, : found.size] = found
        self._file.write(rows.tobytes())
        self._kinds.append(kinds)
        self._contents.append(_short_digests(contents))

    def numbers(self) -> Ints:
        """The number of each record's cluster, in the order in which they were added ``(n,)``."""
        kinds = np.concatenate([np.zeros(0, np.uint8), *self._kinds])
        self._file.flush()
        parents = np.arange(kinds.size, dtype=np.int64)
        if kinds.size:
            contents = np.concatenate(self._contents)
            _join(parents, _runs(np.arange(kinds.size), contents))
            table = np.memmap(self._file, dtype=np.uint8, mode="r", shape=(kinds.size, _WIDTH))
            self._join_texts(parents, table, np.flatnonzero(kinds == 1))
            self._join_pictures(parents, table, np.flatnonzero(kinds == 2))
            del table
        self._file.close()
        return np.array([_root(parents, i) for i in range(kinds.size)], dtype=np.int64)

    def _join_texts(self, parents: Ints, table: Any, rows: Ints) -> None:
        chance = 2.0**-16
        wanted = chance + self._likeness.similarity * (1.0 - chance)
        step = _WIDTH // BANDS
        for band in range(BANDS):
            keys = np.ascontiguousarray(table[rows, band * step : (band + 1) * step]).view(np.uint64)[:, 0]
            apart = (pair for pair in _runs(rows, keys) if _root(parents, pair[0]) != _root(parents, pair[1]))
            _join(parents, (pair for pair in apart if _agreement(table, pair) >= wanted))

    def _join_pictures(self, parents: Ints, table: Any, rows: Ints) -> None:
        for band in range(_PHASH_BANDS):
            pairs = _runs(rows, np.ascontiguousarray(table[rows, band]).astype(np.uint64))
            _join(parents, (pair for pair in pairs if _distance(table, pair) <= self._likeness.radius_bits))


def _text_row(text: str) -> NDArray[np.uint8] | None:
    from studbook.fingerprints import MinHash

    try:
        return np.asarray(MinHash(permutations=PERMUTATIONS, bits=16).pack([text])[0], dtype=np.uint8)
    except DataError:
        return None  # no words: only an equal content is a duplicate


def _picture_row(data: bytes) -> NDArray[np.uint8] | None:
    from studbook.fingerprints import PerceptualHash
    from studbook.pictures import read_picture

    try:
        return np.asarray(PerceptualHash().pack([read_picture(data, "a picture")])[0], dtype=np.uint8)
    except DataError:
        return None


def _short_digests(contents: Sequence[str]) -> NDArray[np.uint64]:
    from hashlib import blake2b

    data = b"".join(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() for text in contents)
    return np.frombuffer(data, dtype=np.uint64)


def _runs(rows: Ints, keys: NDArray[np.uint64]) -> Iterator[tuple[int, int]]:
    """Pairs of rows with one key: each with the one before it, and with the first of its run."""
    order = np.argsort(keys, kind="stable")
    held = keys[order]
    if not held.size:
        return
    new = np.concatenate([[True], held[1:] != held[:-1]])
    starts = np.maximum.accumulate(np.where(new, np.arange(held.size), 0))
    equal = np.flatnonzero(~new)
    for place in equal.tolist():
        yield int(rows[order[place - 1]]), int(rows[order[place]])
        if starts[place] < place - 1:
            yield int(rows[order[int(starts[place])]]), int(rows[order[place]])


def _join(parents: Ints, pairs: Iterator[tuple[int, int]]) -> None:
    for one, other in pairs:
        low, high = sorted((_root(parents, one), _root(parents, other)))
        parents[high] = low


def _root(parents: Ints, row: int) -> int:
    while parents[row] != row:
        parents[row] = parents[parents[row]]
        row = int(parents[row])
    return row


def _agreement(table: Any, pair: tuple[int, int]) -> float:
    one, other = (np.ascontiguousarray(table[row]).view(np.uint16) for row in pair)
    return float(np.mean(one == other))


def _distance(table: Any, pair: tuple[int, int]) -> int:
    return int(np.bitwise_count(table[pair[0], :8] ^ table[pair[1], :8]).sum())
