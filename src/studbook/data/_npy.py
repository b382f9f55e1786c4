"""NumPy's array format, read without trust: no pickles, and no memory before the sizes are checked."""

from __future__ import annotations

import math
import tokenize
from typing import IO

import numpy as np

from studbook.arrays import AnyArray
from studbook.data._files import read_exactly, require_bytes
from studbook.errors import DataError


def read_npy(stream: IO[bytes], size: int, max_bytes: int, where: str) -> AnyArray:
    """The array in ``stream``, which holds ``size`` bytes.

    Raises:
        DataError: Not an array, pickled objects, a header that doesn't match the size, or more than ``max_bytes``.
    """
    shape, fortran, dtype = _header(stream, where)
    if dtype.hasobject:
        raise DataError(f"{where} holds Python objects, which are never unpickled", hint="save it as an array of numbers")
    if dtype.kind not in "buifU":
        raise DataError(f"{where} holds values of type {dtype}, expected numbers")
    needed = math.prod(shape) * dtype.itemsize
    if needed != size - stream.tell():
        raise DataError(
            f"{where}: shape {shape} of {dtype} takes {needed:,} bytes, the file holds {max(size - stream.tell(), 0):,}", hint=_WHOLE
        )
    require_bytes(where, needed, max_bytes)
    content = read_exactly(stream, needed)
    if len(content) != needed:
        raise DataError(f"{where} ends after {len(content):,} of {needed:,} bytes", hint=_WHOLE)
    if needed == 0:
        return np.empty(shape, dtype)
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")


_WHOLE = "the file is damaged or cut off; copy it again"


def _header(stream: IO[bytes], where: str) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    # The header is a Python literal: a hostile one may nest too deeply or break the tokeniser.
    except (ValueError, TypeError, SyntaxError, tokenize.TokenError, RecursionError, MemoryError, OverflowError) as error:
        raise DataError(f"{where} isn't a NumPy array: its header can't be read", hint="save it with numpy.save or numpy.savez") from error
    if any(length < 0 for length in shape):
        raise DataError(f"{where} declares the impossible shape {shape}", hint=_WHOLE)
    return shape, fortran, dtype
