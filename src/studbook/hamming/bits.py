"""Packed bit strings as they come in: what is taken, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from studbook.arrays import AnyArray, Ints
from studbook.errors import DigestError

Device: TypeAlias = Literal["cpu", "cuda"]
Words: TypeAlias = NDArray[np.uint64]

MAX_BITS = 4096


@dataclass(frozen=True, slots=True, eq=False)
class BitStrings:
    """Checked bit strings.

    Attributes:
        packed: ``(n, n_bytes)`` uint8, C-contiguous, a view of what the user gave; on a memory map nothing has been read.
        order: Rows of ``packed`` in the order in which they are to be taken, or ``None`` for their own.
    """

    packed: NDArray[np.uint8]
    order: Ints | None = None

    def __len__(self) -> int:
        return len(self.packed)

    @property
    def n_bits(self) -> int:
        """Width, 8 a byte."""
        return 8 * int(self.packed.shape[1])

    def words(self, start: int, stop: int) -> Words:
        """Rows ``start`` to ``stop`` as ``(n, n_words)`` words, zeros behind the last byte; copied, so that a memory map is read once."""
        rows = self.packed[start:stop] if self.order is None else self.packed[self.order[start:stop]]
        padded = np.zeros((len(rows), -(-self.packed.shape[1] // 8) * 8), np.uint8)
        padded[:, : self.packed.shape[1]] = rows
        return padded.view(np.uint64)


def read_bits(array: AnyArray, name: str) -> BitStrings:
    """Check an array of packed bits.

    Args:
        array: ``(n, n_bytes)`` uint8, or ``(n, n_words)`` uint64 in the machine's byte order; C-contiguous, in memory or mapped.
        name: What to call it in a message.

    Raises:
        DigestError: Anything else.

    Examples:
        >>> import numpy as np
        >>> from studbook.hamming.bits import read_bits
        >>> read_bits(np.zeros((3, 2), np.uint64), "a").n_bits
        128
    """
    if not isinstance(array, np.ndarray):
        raise DigestError(f"{name} is a {type(array).__name__}, expected a NumPy array", hint="stack the digests' bytes as rows of uint8")
    if array.dtype not in (np.dtype(np.uint8), np.dtype(np.uint64)) or not array.dtype.isnative:
        raise DigestError(
            f"{name} has dtype {array.dtype.str}, expected packed bits as uint8, or uint64 in this machine's byte order",
            hint="pass bytes: array.view(np.uint8)",
        )
    if array.ndim != 2:
        raise DigestError(f"{name} has shape {array.shape}, expected (n, n_bytes)", hint="one bit string a row")
    if not 0 < array.shape[1] * array.itemsize * 8 <= MAX_BITS:
        raise DigestError(f"{name} has {array.shape[1] * array.itemsize * 8:,} bits a row, expected 8 to {MAX_BITS:,}")
    if not array.flags.c_contiguous:
        raise DigestError(f"{name} isn't C-contiguous", hint="pass np.ascontiguousarray(array), which copies it")
    return BitStrings(np.asarray(array).view(np.uint8))


def read_two(a: AnyArray, b: AnyArray | None) -> tuple[BitStrings, BitStrings]:
    """Check both sides and that they can be compared; without ``b``, both are ``a``.

    Raises:
        DigestError: See ``read_bits``; or the widths differ.
    """
    rows = read_bits(a, "a")
    if b is None:
        return rows, rows
    columns = read_bits(b, "b")
    if rows.n_bits != columns.n_bits:
        raise DigestError(f"a has {rows.n_bits} bits a row and b has {columns.n_bits}, expected the same", hint="make both by one scheme")
    return rows, columns


def check_whole(value: Any, name: str, low: int, high: int | None = None, hint: str | None = None) -> int:
    """An argument that is a whole number between two others, both included.

    Raises:
        DigestError: It isn't.
    """
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):
        reach = f"{low:,} or more" if high is None else f"{low:,} to {high:,}"
        raise DigestError(f"{name} is {str(value)[:40]}, expected a whole number, {reach}", hint=hint)
    return int(value)


def check_device(device: str) -> None:
    """Return nothing where the device is one of the two that there are.

    Raises:
        DigestError: It is another.
    """
    if device not in ("cpu", "cuda"):
        raise DigestError(f"device is {str(device)[:40]!r}, expected 'cpu' or 'cuda'")
