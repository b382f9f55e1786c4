"""Arithmetic on eight unsigned words of 64 bits at once, beside what ``hamming._bit_vectors`` has.

numba's cache on disk doesn't notice when this file changes: remove ``__pycache__`` beside it after editing.
"""

from __future__ import annotations

from typing import Any

from numba.extending import intrinsic

from studbook.hamming._bit_vectors import BITS, load, splat, store

__all__ = ["load", "multiply_add", "smaller", "splat", "store"]


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
