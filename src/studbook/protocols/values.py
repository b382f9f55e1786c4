"""A model's parameters as plain arrays: their digest, their bytes, and sums in a fixed order."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from studbook.errors import RecordError
from studbook.records.canonical import canonical_bytes

Parameters: TypeAlias = Mapping[str, NDArray[np.float32]]
"""By name, float32. Two are alike where names and shapes are."""

MAX_BYTES = 1 << 31
MAX_NAMES = 100_000
MAX_HEADER = 1 << 24
_ALIGNED = 16
_BLOCK = 1 << 14


def encode(parameters: Parameters) -> bytes:
    """Parameters as bytes, the same for the same values: the length of a header, the header (canonical JSON), then the arrays by name.

    Examples:
        >>> import numpy as np
        >>> from studbook.protocols.values import decode, encode
        >>> decode(encode({"w": np.ones((2, 3), np.float32)}), "it")["w"].shape
        (2, 3)
    """
    return b"".join(buffers(parameters))


def buffers(parameters: Parameters) -> list[bytes | memoryview]:
    """What ``encode`` joins: the header, then views of the arrays, nothing copied that lies as it is sent.

    Examples:
        >>> import numpy as np
        >>> from studbook.protocols.values import buffers
        >>> [len(part) for part in buffers({"w": np.ones((2, 3), np.float32)})]
        [32, 24]
    """
    names = sorted(parameters)
    header = _header(tuple((name, parameters[name].shape) for name in names))
    arrays = [np.ascontiguousarray(parameters[name], "<f4").reshape(-1).view(np.uint8).data for name in names]
    return [len(header).to_bytes(8, "little") + header, *arrays]


def encoded_size(parameters: Parameters) -> int:
    """How many bytes ``encode`` makes of them, without making them.

    Examples:
        >>> import numpy as np
        >>> from studbook.protocols.values import encode, encoded_size
        >>> parameters = {"w": np.ones((2, 3), np.float32)}
        >>> encoded_size(parameters) == len(encode(parameters))
        True
    """
    header = _header(tuple((name, parameters[name].shape) for name in sorted(parameters)))
    return 8 + len(header) + 4 * sum(value.size for value in parameters.values())


@lru_cache(maxsize=64)
def _header(shapes: tuple[tuple[str, tuple[int, ...]], ...]) -> bytes:
    """A model's arrays have the same names and shapes at every step."""
    return canonical_bytes({"arrays": [[name, list(shape)] for name, shape in shapes]})


def decode(data: bytes | memoryview, what: str) -> dict[str, NDArray[np.float32]]:
    """The parameters that ``encode`` wrote; from outside, so nothing in it is trusted.

    Memory that can be written to is taken over, not copied: arrays are views of it.

    Raises:
        RecordError: Cut off, oversized, or not such bytes.
    """
    shapes, start = _shapes(data, what)
    found: dict[str, NDArray[np.float32]] = {}
    for name, shape in shapes:
        n = 4 * math.prod(shape)
        if start + n > len(data):
            raise RecordError(f"{what} is cut off in the array {name!r}", hint="ask for it again")
        found[name] = _own(np.frombuffer(data, "<f4", n // 4, start).reshape(shape))
        start += n
    if start != len(data):
        raise RecordError(f"{what} has {len(data) - start:,} bytes too many", hint="ask for it again")
    return found


def _own(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """The array itself where it may be changed, and is aligned as a new one is: on that, the order of a sum may depend."""
    as_new = array.flags.writeable and array.dtype.isnative and array.__array_interface__["data"][0] % _ALIGNED == 0
    return array if as_new else array.astype(np.float32)


def _shapes(data: bytes | memoryview, what: str) -> tuple[list[tuple[str, tuple[int, ...]]], int]:
    size = int.from_bytes(data[:8], "little")
    if len(data) > MAX_BYTES or len(data) < 8 or size > min(MAX_HEADER, len(data) - 8):
        raise RecordError(f"{what} is no parameters: {len(data):,} bytes with a header of {size:,}", hint="ask for it again")
    try:
        arrays = json.loads(bytes(data[8 : 8 + size]))["arrays"]
        found = [(str(name), tuple(shape)) for name, shape in arrays]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RecordError(f"{what} is no parameters: its header can't be read", hint="ask for it again") from error
    names = [name for name, _ in found]
    # Sides of 0 count as 1 here: an array without entries may still have more of them than arrays can.
    sound = all(type(side) is int and side >= 0 for _, shape in found for side in shape)
    sound = sound and all(math.prod(max(1, side) for side in shape[:9]) <= MAX_BYTES for _, shape in found)
    if not sound or len(found) > MAX_NAMES or names != sorted(set(names)) or any(len(shape) > 8 for _, shape in found):
        raise RecordError(f"{what} is no parameters: its header names impossible arrays", hint="ask for it again")
    return found, 8 + size


def digest(parameters: Parameters) -> str:
    """BLAKE3 of the bytes, ``blake3:…``: equal only for parameters that are equal to the bit.

    Not SHA-256 as elsewhere: parameters are digested twice a step, and BLAKE3 takes a quarter of the time (docs/decisions/0016).
    """
    from blake3 import blake3

    hasher = blake3()
    for part in buffers(parameters):
        hasher.update(part)
    return f"blake3:{hasher.hexdigest()}"


def mean(several: Sequence[Parameters], weights: Sequence[float] | None = None) -> dict[str, NDArray[np.float32]]:
    """The weighted mean, summed in the order given and in double precision: the same to the bit wherever it is computed.

    Raises:
        RecordError: None, or parameters that aren't alike.
    """
    require_alike(several)
    shares = np.full(len(several), 1.0 / len(several)) if weights is None else np.asarray(weights, np.float64) / math.fsum(weights)
    return {name: _weighted([each[name] for each in several], shares) for name in sorted(several[0])}


def _weighted(arrays: Sequence[NDArray[np.float32]], shares: NDArray[np.float64]) -> NDArray[np.float32]:
    """The sum of arrays by shares, in blocks that a core's cache holds."""
    flat = [array.reshape(-1) for array in arrays]
    found = np.empty(flat[0].size, np.float32)
    for start in range(0, found.size, _BLOCK):
        block = slice(start, start + _BLOCK)
        total = np.zeros(found[block].size, np.float64)
        for share, each in zip(shares, flat, strict=True):
            total += share * each[block]
        found[block] = total
    return found.reshape(arrays[0].shape)


def require_alike(several: Sequence[Parameters]) -> None:
    """Refuse parameters of different names or shapes.

    Raises:
        RecordError: They aren't alike, or there are none.
    """
    if not several:
        raise RecordError("no parameters to combine, expected one node's at least")
    shapes = [{name: each[name].shape for name in each} for each in several]
    for i, other in enumerate(shapes):
        if other != shapes[0]:
            name = min(name for name in other.keys() | shapes[0].keys() if other.get(name) != shapes[0].get(name))
            raise RecordError(f"the parameters of node {i} differ in {name!r}: {other.get(name)}, expected {shapes[0].get(name)}")


def squared_distance(one: Parameters, other: Parameters) -> float:
    """Sum of squared differences over all parameters."""
    require_alike([one, other])
    return math.fsum(float(np.square(one[name].astype(np.float64) - other[name]).sum()) for name in sorted(one))
