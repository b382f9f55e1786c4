"""Arithmetic on eight unsigned words of 64 bits at once, beside what ``hamming._bit_vectors`` has; and eight bytes as one word.

numba's cache on disk doesn't notice when this file changes: remove ``__pycache__`` beside it after editing.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, errors, types
from numba.extending import intrinsic

from studbook.hamming._bit_vectors import BITS, load, lowest, splat, store

__all__ = ["load", "lowest", "multiply_add", "smaller", "splat", "store", "word_at"]


@intrinsic
def multiply_add(typing: Any, a: Any, x: Any, b: Any) -> Any:
    """``a · x + b`` modulo 2⁶⁴, word by word."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, x, b = arguments
        return builder.add(builder.mul(a, x), b)

    return BITS(BITS, BITS, BITS), generate


@intrinsic
def smaller(typing: Any, a: Any, b: Any) -> Any:
    """The smaller of two, word by word."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, b = arguments
        return builder.select(builder.icmp_unsigned("<", a, b), a, b)

    return BITS(BITS, BITS), generate


@intrinsic
def word_at(typing: Any, array: Any, index: Any) -> Any:
    """The eight bytes from ``index`` on, the first the lowest on a little-endian machine; nobody checks that there are eight."""
    if not isinstance(array, types.Array) or array.dtype != types.uint8:
        raise errors.TypingError(f"expected an array of uint8, got {array}")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = cgutils.create_struct_proxy(signature.args[0])(context, builder, value=arguments[0]).data
        found = builder.load(builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(64).as_pointer()))
        found.align = 1
        return found

    return types.uint64(array, types.uint64), generate
