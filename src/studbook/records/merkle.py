"""Merkle trees: one root commits to many values, and a short proof opens any one of them (RFC 6962, section 2.1).

Unlike there, the root binds the number of values too: else a proof for one size could be read as one for another.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from studbook.errors import RecordError
from studbook.records.codec import STRICT

_LEAF, _NODE, _SIZE = b"\x00", b"\x01", b"\x02"
_HEX64 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Opening:
    """What shows that a value lies under a root.

    Attributes:
        index: Position of the value, 0 … size - 1.
        size: Number of values under the root.
        path: SHA-256 (hex) of the neighbours from the leaf up to the root.
    """

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    index: int
    size: int
    path: tuple[str, ...]


def merkle_root(values: Sequence[bytes]) -> str:
    """The root (SHA-256, hex) of one or more values; order, number and boundaries of the values all count.

    Raises:
        RecordError: No values: a commitment to nothing proves nothing.

    Examples:
        >>> from studbook.records import merkle_root, open_merkle, check_opening
        >>> values = [b"one", b"two", b"three"]
        >>> root = merkle_root(values)
        >>> check_opening(root, b"two", open_merkle(values, 1))
    """
    if not values:
        raise RecordError("a Merkle tree needs one value or more, got none", hint="an empty commitment proves nothing")
    return _sized(_root([_hash(_LEAF + value) for value in values]), len(values))


def open_merkle(values: Sequence[bytes], index: int) -> Opening:
    """The proof that ``values[index]`` lies under their root.

    Raises:
        RecordError: There is no such value.
    """
    if not 0 <= index < len(values):
        raise RecordError(f"there is no value {index} among {len(values)}", hint=f"choose 0 to {len(values) - 1}")
    path = _path([_hash(_LEAF + value) for value in values], index)
    return Opening(index, len(values), tuple(node.hex() for node in path))


def check_opening(root: str, value: bytes, opening: Opening) -> None:
    """Return nothing where the value lies under the root, at that position.

    Raises:
        RecordError: It doesn't, or the opening isn't one.
    """
    index, last = opening.index, opening.size - 1
    if not 0 <= index <= last < 1 << 48:
        raise RecordError(f"an opening names value {index} of {opening.size}", hint="this isn't an opening of ours")
    node = _hash(_LEAF + value)
    if len(opening.path) > 48 or not all(_HEX64.fullmatch(each) for each in opening.path):
        raise RecordError("an opening's path is too long, or not made of SHA-256 in lower-case hex", hint="this isn't an opening of ours")
    path = [bytes.fromhex(each) for each in opening.path]
    # RFC 9162, section 2.1.3.2: walk up, and be the right child wherever the index is odd or the last one.
    for neighbour in path:
        if last == 0 or len(neighbour) != 32:
            raise RecordError("an opening's path is too long, or not made of SHA-256", hint="this isn't an opening of ours")
        if index % 2 or index == last:
            node = _hash(_NODE + neighbour + node)
            while index and not index % 2:
                index, last = index >> 1, last >> 1
        else:
            node = _hash(_NODE + node + neighbour)
        index, last = index >> 1, last >> 1
    if last or _sized(node, opening.size) != root:
        raise RecordError(f"value {opening.index} doesn't lie under the root {root[:12]}…", hint="it was changed after it was committed to")


def _sized(node: bytes, size: int) -> str:
    return _hash(_SIZE + size.to_bytes(8, "big") + node).hex()


def _hash(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _split(n: int) -> int:
    """The largest power of two below ``n``."""
    return 1 << (n - 1).bit_length() - 1


def _root(nodes: list[bytes]) -> bytes:
    if len(nodes) == 1:
        return nodes[0]
    cut = _split(len(nodes))
    return _hash(_NODE + _root(nodes[:cut]) + _root(nodes[cut:]))


def _path(nodes: list[bytes], index: int) -> list[bytes]:
    if len(nodes) == 1:
        return []
    cut = _split(len(nodes))
    if index < cut:
        return [*_path(nodes[:cut], index), _root(nodes[cut:])]
    return [*_path(nodes[cut:], index - cut), _root(nodes[:cut])]
