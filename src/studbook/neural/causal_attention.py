"""Compiled attention of short texts, on a CPU in single precision, forwards and backwards.

A head's numbers are read straight from the projection, and its slopes are written straight into the projection's: nothing is split,
transposed or put together in between. Scores lie in the cache as ``(key, query)``, so that a vector's lanes are queries and a softmax needs
no sums across lanes. All sums are of one head, in one order, whatever the number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from studbook.arrays import AnyArray
from studbook.neural.attention_kernels import LINE, LOG2_E, F, U, _fetch
from studbook.neural.parts import in_parts
from studbook.neural.vectors import LANES, add, exp2, load, maximum, multiply, multiply_add, splat, store, transpose

LONGEST = 256
"""Tokens up to which a head's scores stay in the cache."""
ROWS = U(8)
_COMPILED: ContextVar[bool] = ContextVar("compiled", default=True)


@contextmanager
def plain_attention() -> Iterator[None]:
    """Leave the attention to PyTorch within the block: to see what the compiled loops change."""
    token = _COMPILED.set(False)
    try:
        yield
    finally:
        _COMPILED.reset(token)


def fits(projected: Tensor) -> bool:
    """Whether the compiled loops can take this projection, ``(b, t, width)``."""
    return takes(projected.shape[1]) and projected.device.type == "cpu" and projected.dtype == torch.float32


def takes(length: int) -> bool:
    """Whether the compiled loops are there for texts of so many tokens."""
    return _COMPILED.get() and length <= LONGEST


def causal_attention(projected: Tensor, heads: int, kv_heads: int) -> Tensor:
    """What each token reads from those before it and itself.

    Args:
        projected: ``(b, t, (heads + 2 * kv_heads) * head_width)``; queries, keys, values; see ``fits``.
        heads: Query heads.
        kv_heads: Key and value heads.

    Returns:
        ``(b, t, heads * head_width)``; differentiable once.

    Examples:
        >>> import torch
        >>> projected = torch.randn(2, 5, 3 * 4 * 8)
        >>> query, key, value = projected.view(2, 5, 12, 8).transpose(1, 2).chunk(3, dim=1)
        >>> expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        >>> torch.allclose(causal_attention(projected, 4, 4), expected.transpose(1, 2).flatten(2), atol=1e-5)
        True
    """
    mixed: Tensor = _CausalAttention.apply(projected, heads, kv_heads)  # type: ignore[no-untyped-call]
    return mixed


class _CausalAttention(torch.autograd.Function):
    """Scores are made again on the way back; of the forward pass each query's logarithm of a sum is kept."""

    @staticmethod
    def forward(ctx: Any, projected: Tensor, heads: int, kv_heads: int) -> Tensor:
        projected = projected.contiguous()
        b, t, width = projected.shape
        head_width = width // (heads + 2 * kv_heads)
        out, sums = projected.new_empty(b, t, heads * head_width), projected.new_empty(b, heads, t)
        sizes = (t, heads, kv_heads, head_width)
        arrays = projected.detach().numpy(), out.numpy(), sums.numpy()
        in_parts(lambda part: read(*(array[part].reshape(-1) for array in arrays), sizes), b)
        ctx.save_for_backward(projected, sums)
        ctx.sizes = sizes
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None]:
        projected, sums = ctx.saved_tensors
        to_projected = torch.empty_like(projected)
        arrays = tuple(x.detach().numpy() for x in (projected, sums, slopes[0].contiguous(), to_projected))
        in_parts(lambda part: descend(*(array[part].reshape(-1) for array in arrays), ctx.sizes), len(projected))
        return to_projected, None, None


@numba.njit(cache=True, nogil=True, error_model="numpy")
def read(projected: AnyArray, out: AnyArray, sums: AnyArray, sizes: tuple[int, ...]) -> None:
    """Attention.

    Args:
        projected: ``(b, t, (heads + 2 * kv_heads) * head_width)``, flat.
        out: ``(b, t, heads * head_width)``, flat; written.
        sums: ``(b, heads, t)``, flat; written: logarithms to base 2 of the sums of the scores' exponentials. Empty where nobody asks.
        sizes: t, heads, kv_heads, head_width.
    """
    t, heads, kv_heads, d = U(sizes[0]), U(sizes[1]), U(sizes[2]), U(sizes[3])
    columns, span, width = U(_padded(sizes[0])), U(_padded(sizes[3])), (heads + U(2) * kv_heads) * d
    outside, one, scale = _outside(), F(1.0), F(LOG2_E / math.sqrt(sizes[3]))
    queries, keys, values, mixed = _zeros(span * columns), _zeros(columns * span), _zeros(columns * span), _zeros(columns * span)
    scores, wholes, tops = _zeros(columns * columns), _zeros(columns), _zeros(columns)
    for i in range(U(projected.size) // (t * width)):
        for h in range(heads):
            first, g = i * t * width, heads + h // (heads // kv_heads)
            _fetch(projected, first + t * width + h * t * width // heads, t * width // heads)
            _across(projected, first + h * d, width, (t, d), scale, queries, columns)
            _copy(projected, (first + g * d, width), (t, d), one, keys, (U(0), span))
            _copy(projected, (first + (g + kv_heads) * d, width), (t, d), one, values, (U(0), span))
            _score(keys, span, queries, columns, (t, d), scores)
            for q in range(U(0), columns, LINE):
                top, spoilt = splat(F(-np.inf)), splat(F(0.0))
                for s in range(min(q + LINE, t)):
                    score = load(scores, s * columns + q)
                    spoilt = multiply_add(score, splat(F(0.0)), spoilt)  # not a number where a score isn't finite
                    if s >= q:
                        score = add(score, load(outside, (s - q) * LINE))
                        store(scores, s * columns + q, score)
                    top = maximum(score, top)
                shift, whole = multiply(top, splat(F(-1.0))), spoilt
                for s in range(min(q + LINE, t)):
                    weight = exp2(add(load(scores, s * columns + q), shift))
                    store(scores, s * columns + q, weight)
                    whole = add(whole, weight)
                store(wholes, q, whole)
                store(tops, q, top)
            mixed[:] = F(0.0)
            for r in range(U(0), t, ROWS):
                _multiply(scores, r, (U(1), columns), values, U(0), min(r + ROWS, t), mixed, r * span, span)
            if sums.size:
                for r in range(t):
                    sums[(i * heads + h) * t + r] = tops[r] + np.log2(wholes[r])
            _share(mixed, span, wholes, (t, d), out, (i * t * heads + h) * d, heads * d)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def descend(projected: AnyArray, sums: AnyArray, slopes: AnyArray, to_projected: AnyArray, sizes: tuple[int, ...]) -> None:
    """The slopes of ``projected``, from those of what ``read`` has written and its ``sums``."""
    t, heads, kv_heads, d = U(sizes[0]), U(sizes[1]), U(sizes[2]), U(sizes[3])
    columns, span, width, group = U(_padded(sizes[0])), U(_padded(sizes[3])), (heads + U(2) * kv_heads) * d, heads // kv_heads
    outside, one, scale = _outside(), F(1.0), F(1.0 / math.sqrt(sizes[3]))
    across, queries, keys, values = _zeros(span * columns), _zeros(columns * span), _zeros(columns * span), _zeros(columns * span)
    slopes_across, given = _zeros(span * columns), _zeros(columns * span)
    to_query, to_keys, to_values = _zeros(columns * span), _zeros(columns * span), _zeros(columns * span)
    weights, to_scores, shifts = _zeros(columns * columns), _zeros(columns * columns), _zeros(columns)
    for i in range(U(sums.size) // (heads * t)):
        for h in range(heads):
            first, g, place = i * t * width, heads + h // group, (i * t * heads + h) * d
            _fetch(projected, first + t * width + h * t * width // heads, t * width // heads)
            _fetch(to_projected, first + t * width + h * t * width // heads, t * width // heads)
            _fetch(slopes, i * t * heads * d + (heads + h) * t * d, t * d)
            _across(projected, first + h * d, width, (t, d), scale * LOG2_E, across, columns)
            _copy(projected, (first + h * d, width), (t, d), scale, queries, (U(0), span))
            _across(slopes, place, heads * d, (t, d), one, slopes_across, columns)
            _copy(slopes, (place, heads * d), (t, d), one, given, (U(0), span))
            if h % group == U(0):
                _copy(projected, (first + g * d, width), (t, d), one, keys, (U(0), span))
                _copy(projected, (first + (g + kv_heads) * d, width), (t, d), one, values, (U(0), span))
                to_keys[:], to_values[:] = F(0.0), F(0.0)
            for r in range(t):
                shifts[r] = -sums[(i * heads + h) * t + r]
            _score(keys, span, across, columns, (t, d), weights)
            _score(values, span, slopes_across, columns, (t, d), to_scores)
            for q in range(U(0), columns, LINE):
                shift, mean = load(shifts, q), splat(F(0.0))
                for s in range(min(q + LINE, t)):
                    score = add(load(weights, s * columns + q), shift)
                    if s >= q:
                        score = add(score, load(outside, (s - q) * LINE))
                    weight = exp2(score)
                    store(weights, s * columns + q, weight)
                    mean = multiply_add(weight, load(to_scores, s * columns + q), mean)
                mean = multiply(mean, splat(F(-1.0)))
                for s in range(min(q + LINE, t)):
                    slope = multiply(load(weights, s * columns + q), add(load(to_scores, s * columns + q), mean))
                    store(to_scores, s * columns + q, slope)
            to_query[:] = F(0.0)
            for r in range(U(0), t, ROWS):
                start = r // LINE * LINE  # of the queries that can read the keys r
                _multiply(weights, r * columns + start, (columns, U(1)), given, start * span, t - start, to_values, r * span, span)
                _multiply(to_scores, r * columns + start, (columns, U(1)), queries, start * span, t - start, to_keys, r * span, span)
                _multiply(to_scores, r, (U(1), columns), keys, U(0), min(r + ROWS, t), to_query, r * span, span)
            _copy(to_query, (U(0), span), (t, d), scale, to_projected, (first + h * d, width))
            if h % group == group - U(1):
                _copy(to_keys, (U(0), span), (t, d), one, to_projected, (first + g * d, width))
                _copy(to_values, (U(0), span), (t, d), one, to_projected, (first + (g + kv_heads) * d, width))


@numba.njit(nogil=True, inline="always")
def _padded(size: int) -> int:
    """Rounded up to whole vectors."""
    return (size + LANES - 1) // LANES * LANES


@numba.njit(nogil=True, inline="always")
def _zeros(size: int) -> AnyArray:
    return np.zeros(size, np.float32)


@numba.njit(nogil=True)
def _outside() -> AnyArray:
    """What is added to the scores of sixteen keys and the sixteen queries at the same places, flat."""
    found = np.zeros(LINE * LINE, np.float32)
    for s in range(LINE):
        found[s * LINE : s * LINE + s] = F(-np.inf)
    return found


@numba.njit(nogil=True, error_model="numpy")
def _across(source: AnyArray, start: int, stride: int, sizes: tuple[int, int], scale: Any, out: AnyArray, columns: int) -> None:
    """A head's numbers times ``scale``, as columns: those of one token ``columns`` apart."""
    rows, d = sizes
    even, whole = rows // LINE * LINE, d // LINE * LINE
    for r in range(U(0), even, LINE):
        for x in range(U(0), whole, LINE):
            transpose(source, start + r * stride + x, stride, splat(scale), out, x * columns + r, columns)
        for i in range(r, r + LINE):
            for x in range(whole, d):
                out[i + x * columns] = source[start + i * stride + x] * scale
    for r in range(even, rows):
        for x in range(d):
            out[r + x * columns] = source[start + r * stride + x] * scale


@numba.njit(nogil=True, error_model="numpy")
def _copy(source: AnyArray, rows: tuple[int, int], sizes: tuple[int, int], scale: Any, out: AnyArray, to: tuple[int, int]) -> None:
    """A head's numbers times ``scale``; ``rows`` and ``to`` are where its rows begin, and how far they are apart."""
    even = sizes[1] // LINE * LINE
    for r in range(sizes[0]):
        first, target = rows[0] + r * rows[1], to[0] + r * to[1]
        for x in range(U(0), even, LINE):
            store(out, target + x, multiply(load(source, first + x), splat(scale)))
        for x in range(even, sizes[1]):
            out[target + x] = source[first + x] * scale


@numba.njit(nogil=True, error_model="numpy")
def _share(source: AnyArray, span: int, wholes: AnyArray, sizes: tuple[int, int], out: AnyArray, start: int, stride: int) -> None:
    """Rows over their wholes, back among the other heads' numbers."""
    rows, d = sizes
    even = d // LINE * LINE
    for r in range(rows):
        share, to = F(1.0) / wholes[r], start + r * stride
        for x in range(U(0), even, LINE):
            store(out, to + x, multiply(load(source, r * span + x), splat(share)))
        for x in range(even, d):
            out[to + x] = source[r * span + x] * share


@numba.njit(nogil=True, error_model="numpy")
def _score(left: AnyArray, span: int, right: AnyArray, columns: int, sizes: tuple[int, int], out: AnyArray) -> None:
    """``left @ right``, from the columns on that a row's sixteen begin at; ``left`` ``(t, span)``, ``right`` ``(d, columns)``."""
    for s in range(U(0), sizes[0], ROWS):
        for q in range(s // LINE * LINE, columns, LINE):
            a, b, c, e, f, g, h, i = _products(left, s * span, (span, U(1)), right, q, columns, sizes[1])
            to = s * columns + q
            store(out, to, a), store(out, to + columns, b)
            store(out, to + U(2) * columns, c), store(out, to + U(3) * columns, e)
            store(out, to + U(4) * columns, f), store(out, to + U(5) * columns, g)
            store(out, to + U(6) * columns, h), store(out, to + U(7) * columns, i)


@numba.njit(nogil=True, error_model="numpy")
def _multiply(
    left: AnyArray, first: int, steps: tuple[int, int], right: AnyArray, start: int, depth: int, out: AnyArray, to: int, span: int
) -> None:
    """Add eight rows of a product to ``out`` from ``to`` on; ``left`` as for ``_products``, the rows of ``right`` and ``out`` ``span``."""
    for x in range(U(0), span, LINE):
        a, b, c, e, f, g, h, i = _products(left, first, steps, right, start + x, span, depth)
        y = to + x
        store(out, y, add(load(out, y), a)), store(out, y + span, add(load(out, y + span), b))
        store(out, y + U(2) * span, add(load(out, y + U(2) * span), c)), store(out, y + U(3) * span, add(load(out, y + U(3) * span), e))
        store(out, y + U(4) * span, add(load(out, y + U(4) * span), f)), store(out, y + U(5) * span, add(load(out, y + U(5) * span), g))
        store(out, y + U(6) * span, add(load(out, y + U(6) * span), h)), store(out, y + U(7) * span, add(load(out, y + U(7) * span), i))


@numba.njit(nogil=True, error_model="numpy", inline="always")
def _products(left: AnyArray, first: int, steps: tuple[int, int], right: AnyArray, start: int, stride: int, depth: int) -> Any:
    """Eight rows of a product, sixteen columns wide: ``left[row, k] @ right[k]``, its numbers ``steps`` apart from ``first`` on."""
    row, step = steps
    a = b = c = e = f = g = h = i = splat(F(0.0))
    for k in range(depth):
        vector, x = load(right, start + k * stride), first + k * step
        a, b = multiply_add(splat(left[x]), vector, a), multiply_add(splat(left[x + row]), vector, b)
        c, e = multiply_add(splat(left[x + U(2) * row]), vector, c), multiply_add(splat(left[x + U(3) * row]), vector, e)
        f, g = multiply_add(splat(left[x + U(4) * row]), vector, f), multiply_add(splat(left[x + U(5) * row]), vector, g)
        h, i = multiply_add(splat(left[x + U(6) * row]), vector, h), multiply_add(splat(left[x + U(7) * row]), vector, i)
    return a, b, c, e, f, g, h, i
