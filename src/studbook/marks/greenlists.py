"""Green lists kept as bits: filled for the tokens that occur, within a stated memory, and stored in a file if wanted."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from studbook.arrays import AnyArray, Ints
from studbook.errors import DataError, StorageError
from studbook.files import storage, write_file
from studbook.marks.settings import Kgw

BUDGET_BYTES = 512 << 20
_MAGIC = b"studbook green lists 1\n"
_HEAD = 256
_ASKED = 1 << 16
_LOW = 0xFFFFFFFF
_SAMPLE = 16


@dataclass(slots=True, eq=False)
class GreenLists:
    """The green lists of one mark.

    A ``lefthash`` list is filled when its token is first met as a predecessor, one bit a token of the vocabulary (6 KiB at 50,000), until
    the budget is used up; what has no list then, and every ``selfhash`` token, is followed through the shuffle one by one, and the last
    65,536 answers are kept. The outcome never depends on the budget.

    Attributes:
        mark: The settings.
        budget_bytes: What the bits may take in memory, at most; 0 keeps none.

    Examples:
        >>> from studbook.marks import Kgw
        >>> from studbook.marks.greenlists import GreenLists
        >>> lists = GreenLists(Kgw(vocabulary=8, key=15_485_863, gamma=0.5))
        >>> lists.of(3).tolist()  # torch.randperm(8) under the seed 3 · 15,485,863, its first four
        [1, 2, 3, 5]
    """

    mark: Kgw
    budget_bytes: int = BUDGET_BYTES
    _rows: AnyArray = field(init=False, repr=False)
    _stored: AnyArray = field(init=False, repr=False)
    _lists: AnyArray = field(init=False, repr=False)
    _filled: int = field(init=False, repr=False, default=0)
    _known: tuple[AnyArray, AnyArray] = field(init=False, repr=False)
    _table: AnyArray = field(init=False, repr=False)
    _lock: threading.Lock = field(init=False, repr=False, default_factory=threading.Lock)

    def __post_init__(self) -> None:
        from studbook.marks._kernels import TABLE, permute

        mark = self.mark
        words = -(-mark.vocabulary // 64)
        left = mark.scheme == "lefthash"
        room = min(mark.vocabulary, self.budget_bytes // (8 * words)) if left else 0
        self._rows = np.full(mark.vocabulary, -1, np.int32)
        self._stored = np.empty((0, words), np.uint64)
        self._lists = np.empty((room, words), np.uint64)  # memory is taken where rows are written
        self._known = (np.zeros(_ASKED, np.uint64), np.zeros(_ASKED, np.uint8))
        # All of the table but its last number, which is the one that is left.
        part = np.empty(0, np.int32) if left else permute(mark.key % 2**64 & _LOW, TABLE, TABLE - 1)
        self._table = part if left else np.append(part, np.int32(TABLE * (TABLE - 1) // 2 - int(part.sum(dtype=np.int64))))

    @property
    def n_lists(self) -> int:
        """Lists at hand."""
        return len(self._stored) + self._filled

    def fill(self, tokens: Ints) -> int:
        """Fill the lists that follow these tokens; gives how many were new. What the budget has no room for is left out."""
        from studbook.marks._kernels import fill_lists

        with self._lock:
            new = np.unique(tokens)
            new = new[self._rows[new] < 0][: len(self._lists) - self._filled]
            if new.size:
                fill_lists(
                    self._left_seeds(new), self.mark.vocabulary, self.mark.n_green, self._lists[self._filled : self._filled + new.size]
                )
                self._rows[new] = np.arange(self.n_lists, self.n_lists + new.size, dtype=np.int32)
                self._filled += int(new.size)
            return int(new.size)

    def all_bits(self) -> AnyArray:
        """Every list, by the token that it follows: ``(vocabulary, words)`` uint64; for a budget that holds them all."""
        self.fill(np.arange(self.mark.vocabulary))
        return np.concatenate([self._stored, self._lists[: self._filled]])[self._rows]

    def bits(self, tokens: Ints) -> AnyArray:
        """Which tokens are green after each of ``tokens`` ``(k,)``: booleans ``(k, vocabulary)``; for ``lefthash``."""
        from studbook.marks._kernels import fill_lists

        self.fill(tokens)
        rows = self._rows[tokens]
        taken = np.empty((len(tokens), self._lists.shape[1]), np.uint64)
        n_stored = len(self._stored)
        for i, row in enumerate(rows.tolist()):
            if row < 0:
                fill_lists(self._left_seeds(tokens[i : i + 1]), self.mark.vocabulary, self.mark.n_green, taken[i : i + 1])
            else:
                taken[i] = self._stored[row] if row < n_stored else self._lists[row - n_stored]
        return np.unpackbits(taken.view(np.uint8), axis=1, count=self.mark.vocabulary, bitorder="little").astype(bool)

    def of(self, token: int) -> Ints:
        """The green list after a token, rising."""
        return np.flatnonzero(self.bits(np.array([token]))[0])

    def count(self, ids: AnyArray, fresh: AnyArray) -> AnyArray:
        """Which places ``(n,)`` hold a green token, 0 or 1; only those that ``fresh`` names are looked at."""
        from studbook.marks._kernels import count_listed, follow_tokens

        hits = np.zeros(ids.size, np.uint8)
        places = np.flatnonzero(fresh)
        if self.mark.scheme == "lefthash":
            seen = np.zeros(self.mark.vocabulary, bool)
            seen[ids[places - 1]] = True
            self.fill(np.flatnonzero(seen))
            if not count_listed(ids, fresh, self._rows, self._stored, self._lists, hits):
                return hits
            places = np.flatnonzero(hits == 2)  # the kernel's word for "no list"
        seeds = self.seeds(ids, places)
        with self._lock:
            follow_tokens(ids, places, seeds, self.mark.vocabulary, self.mark.n_green, self._known, hits)
        return hits

    def seeds(self, ids: AnyArray, places: Ints) -> AnyArray:
        """What the permutations at some places are seeded with: ``(k,)`` uint32."""
        from studbook.marks._kernels import self_seeds

        if self.mark.scheme == "lefthash":
            return self._left_seeds(ids[places - 1])
        seeds = np.empty(len(places), np.uint32)
        self_seeds(ids, places, self.mark.key, self.mark.context, self._table, seeds)
        return seeds

    def _left_seeds(self, tokens: AnyArray) -> AnyArray:
        """Seeds after tokens ``(k,)``. A seed is modulo 2^64 - 1, and may have more than 64 bits before: Python's integers."""
        each, where = np.unique(tokens, return_inverse=True)
        key = self.mark.key
        return np.array([key * token % (2**64 - 1) & _LOW for token in each.tolist()], np.uint32)[where]

    def path(self, folder: Path) -> Path:
        """Where in a folder these lists are stored, by the settings that determine them."""
        return folder / f"green-lists-{self.mark.digest[:32]}.bin"

    def save(self, folder: Path) -> Path:
        """Store all lists at hand in one file, whole or not at all. It gives away what tokens were met, and the key's green lists.

        Raises:
            StorageError: The disk refused.
        """
        rows = np.flatnonzero(self._rows >= 0)
        rows = rows[np.argsort(self._rows[rows])].astype("<i4")
        bits = np.concatenate([self._stored, self._lists[: self._filled]]).astype("<u8")
        head = json.dumps({"mark": self.mark.digest, "rows": len(rows), "words": bits.shape[1]}).encode()
        target = self.path(folder)
        write_file(target, (_MAGIC + head).ljust(_HEAD) + bits.tobytes() + rows.tobytes())
        return target

    def load(self, folder: Path) -> int:
        """Map the lists that ``save`` wrote, without reading them; gives how many there are, 0 where there is no file.

        Sixteen of them are worked out anew and compared.

        Raises:
            DataError: The file is damaged, or of another mark.
            StorageError: It can't be read.
        """
        path = self.path(folder)
        if not path.is_file():
            return 0
        n_rows = self._header(path)
        words = self._lists.shape[1]
        with storage(path):
            stored = np.memmap(path, "<u8", "r", _HEAD, (n_rows, words)) if n_rows else np.empty((0, words), np.uint64)
            tokens = np.fromfile(path, "<i4", n_rows, offset=_HEAD + 8 * n_rows * words)
        self._check(path, stored, tokens)
        with self._lock:
            self._rows[:] = -1
            self._rows[tokens] = np.arange(n_rows, dtype=np.int32)
            self._stored, self._filled = stored, 0
        return n_rows

    def _header(self, path: Path) -> int:
        try:
            with path.open("rb") as file:
                head = file.read(_HEAD)
            size = path.stat().st_size
        except OSError as error:
            raise StorageError(f"can't read {path}: {error.strerror}", hint="delete it, it is filled anew") from error
        try:
            about = json.loads(head.removeprefix(_MAGIC)) if head.startswith(_MAGIC) else {}
            n_rows, words = int(about["rows"]), int(about["words"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(f"{path} isn't a file of green lists", hint="delete it, it is filled anew") from error
        fits = about["mark"] == self.mark.digest and words == self._lists.shape[1] and 0 <= n_rows <= self.mark.vocabulary
        if not fits or size != _HEAD + n_rows * (8 * words + 4):
            raise DataError(f"{path} is cut short or of another mark", hint="delete it, it is filled anew")
        return n_rows

    def _check(self, path: Path, stored: AnyArray, tokens: Ints) -> None:
        from studbook.marks._kernels import fill_lists

        known = tokens.size == 0 or bool(
            tokens.min() >= 0 and tokens.max() < self.mark.vocabulary and np.unique(tokens).size == tokens.size
        )
        some = np.unique(np.linspace(0, max(0, tokens.size - 1), _SAMPLE).astype(int)) if tokens.size and known else np.empty(0, int)
        again = np.empty((some.size, self._lists.shape[1]), np.uint64)
        if some.size:
            fill_lists(self._left_seeds(tokens[some]), self.mark.vocabulary, self.mark.n_green, again)
        if not known or not np.array_equal(stored[some], again):
            raise DataError(f"{path} holds other lists than the mark's", hint="delete it, it is filled anew")
