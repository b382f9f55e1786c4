"""Compiled parts of a decoder's block for rows of its stream, on a CPU in single precision: norms, products, activations.

Nothing depends on the number of rows: each gives the same alone and beside others.

numba's cache on disk doesn't notice when a file that this one imports changes: remove ``__pycache__`` after editing.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from studbook.arrays import AnyArray
from studbook.neural.attention_kernels import LINE, LOG2_E, F, U
from studbook.neural.causal_attention import read
from studbook.neural.choice_kernels import RUN, scan
from studbook.neural.product_kernels import PANEL, ROWS, Matrix, add_powers, multiply_rows, pick_products
from studbook.neural.vectors import add, divide, exp2, load, maximum, multiply, multiply_add, splat, store, total

SUMMED, SUMMED_COLUMNS = 8 * ROWS, 64 * PANEL
"""Rows whose logits' exponentials are summed together, and how many of each in single precision."""
UNSURE = 2.0**120
"""Sums of exponentials, over one of them, from which on one may have been cut off."""
ACTIVATIONS = ("relu", "gelu", "gelu_tanh", "silu")
_RELU, _GELU, _GELU_TANH = range(3)
_LOWEST = F(-126.0)
_ERFC = tuple(F(each) for each in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592))  # Abramowitz & Stegun 7.1.26
_ERFC_STEP, _HALF_ROOT = F(0.3275911), F(math.sqrt(0.5))
_CUBE, _TWICE = F(0.044715), F(2.0 * math.sqrt(2.0 / math.pi) * math.log2(math.e))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def project(x: AnyArray, n: int, norm: AnyArray, how: tuple[float, bool], matrix: Matrix, normed: AnyArray, out: AnyArray) -> None:
    """A norm, then a product.

    Args:
        x: ``(n, width)``, flat.
        n: Rows.
        norm: ``(2, width)``, flat: factors, and what is added.
        how: What is added to the variance; whether the mean is taken off.
        matrix: Packed.
        normed: As ``x``; written.
        out: ``(n, columns)``, flat; written.
    """
    normalise(x, n, norm, how, normed)
    multiply_rows(normed, n, matrix, out)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def finish(
    x: AnyArray,
    n: int,
    mixed: AnyArray,
    norm: tuple[AnyArray, tuple[float, bool]],
    matrices: tuple[Matrix, Matrix, Matrix],
    mlp: tuple[int, bool],
    room: tuple[AnyArray, AnyArray],
) -> None:
    """What follows the attention in a block; ``x`` becomes the stream after it.

    Args:
        x: ``(n, width)``, flat.
        n: Rows.
        mixed: ``(n, heads * head_width)``, flat: what the heads have read.
        norm: Of the MLP, as ``norm`` and ``how`` of ``project``.
        matrices: Of the attention's output, and the MLP's two; packed.
        mlp: Its activation, a place in ``ACTIVATIONS``, and whether it is gated.
        room: As ``x``, and ``(n, columns)`` of the MLP's first matrix, flat; written over.
    """
    out, up, down = matrices
    added, inner = room
    multiply_rows(mixed, n, out, added)
    _add(x, added, n * out[2])
    normalise(x, n, norm[0], norm[1], added)
    multiply_rows(added, n, up, inner)
    if mlp[1]:
        _gate(inner, U(n), U(down[1]), mlp[0])
    else:
        _activate(inner, U(0), U(n) * U(down[1]), mlp[0])
    multiply_rows(inner, n, down, added)
    _add(x, added, n * down[2])


@numba.njit(cache=True, nogil=True, error_model="numpy")
def pass_texts(
    x: AnyArray,
    length: int,
    heads: tuple[int, int, int],
    first: tuple[AnyArray, tuple[float, bool], Matrix],
    rest: tuple[tuple[AnyArray, tuple[float, bool]], tuple[Matrix, Matrix, Matrix], tuple[int, bool]],
    room: tuple[AnyArray, AnyArray, AnyArray, AnyArray],
) -> None:
    """A whole block of texts without positions inside the attention; ``x`` becomes the stream after it.

    Args:
        x: ``(n, length, width)``, flat.
        length: Tokens a text.
        heads: Query heads, key and value heads, numbers a head.
        first: Norm of the attention, as of ``project``, and the matrix of queries, keys and values.
        rest: As ``norm``, ``matrices`` and ``mlp`` of ``finish``.
        room: Of as many texts as are read at once: ``(n, width)``, ``(n, columns)`` of queries, keys and values, ``(n, heads *
            head_width)`` and ``(n, columns)`` of the MLP's first matrix, flat; written over.
    """
    added, projected, mixed, inner = room
    norm, how, qkv = first
    width, columns, read_width, sums = qkv[1], qkv[2], heads[0] * heads[2], np.empty(0, np.float32)
    at_once = projected.size // columns // length * length
    for start in range(0, x.size // width, at_once):
        n = min(at_once, x.size // width - start)
        rows = x[start * width : (start + n) * width]
        project(rows, n, norm, how, qkv, added, projected)
        read(projected[: n * columns], mixed[: n * read_width], sums, (length, heads[0], heads[1], heads[2]))
        finish(rows, n, mixed, rest[0], rest[1], rest[2], (added, inner))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def likelihoods(normed: AnyArray, head: Matrix, rows: AnyArray, targets: AnyArray, found: AnyArray) -> None:
    """The log-probability of a token a row: minus the logarithm of the sum of all logits' exponentials, each over the token's own.

    No logits are kept. Only where a row's are not numbers, or so much larger than the token's own that their sum isn't known, they are made
    again.

    Args:
        normed: ``(n, width)``, flat: the stream after the last norm.
        head: Packed, without biases.
        rows: The same as it is, ``(columns, width)``, flat.
        targets: ``(n,)`` tokens.
        found: ``(n,)`` natural logarithms; written.
    """
    n, (_, width, columns) = targets.size, head
    scaled, chosen, sums = np.empty(SUMMED * width, np.float32), np.empty(SUMMED, np.float32), np.empty(SUMMED * LINE, np.float32)
    wholes = np.empty(SUMMED, np.float64)
    for first in range(0, n, SUMMED):
        count = min(SUMMED, n - first)
        for place in range(count * width):
            scaled[place] = normed[first * width + place] * LOG2_E
        pick_products(scaled[: count * width], rows, targets[first : first + count], chosen)
        wholes[:] = 0.0
        for column in range(0, columns, SUMMED_COLUMNS):
            sums[:] = F(0.0)
            add_powers(scaled, count, head, (column, min(column + SUMMED_COLUMNS, columns)), chosen, sums)
            for row in range(count):
                wholes[row] += total(load(sums, U(row) * LINE))
        for row in range(count):
            if 1.0 <= wholes[row] < UNSURE:  # the token's own exponential is 1
                found[first + row] = -math.log(wholes[row])
            else:
                _likelihood(normed[(first + row) * width :], head, targets[first + row], found[first + row :])


@numba.njit(nogil=True, error_model="numpy")
def _likelihood(normed: AnyArray, head: Matrix, target: int, found: AnyArray) -> None:
    """The same of one row, from its logits."""
    logits, maxima, totals = np.empty(head[2], np.float32), np.empty(head[2] // RUN, np.float32), np.empty(1, np.float32)
    multiply_rows(normed, 1, head, logits)
    scan(logits, head[2], maxima, totals)
    found[0] = logits[target] - totals[0]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def normalise(x: AnyArray, n: int, norm: AnyArray, how: tuple[float, bool], out: AnyArray) -> None:
    """Layer norm, or where ``how`` doesn't ask for the mean to be taken off, RMS norm."""
    width = U(norm.size) // U(2)
    even, share = width // LINE * LINE, F(1.0) / F(width)
    for i in range(U(n)):
        start, mean = i * width, F(0.0)
        if how[1]:
            sums = splat(F(0.0))
            for c in range(U(0), even, LINE):
                sums = add(sums, load(x, start + c))
            mean = total(sums)
            for c in range(even, width):
                mean += x[start + c]
            mean *= share
        away, squares = splat(-mean), splat(F(0.0))
        for c in range(U(0), even, LINE):
            off = add(load(x, start + c), away)
            squares = multiply_add(off, off, squares)
        square = total(squares)
        for c in range(even, width):
            square += (x[start + c] - mean) * (x[start + c] - mean)
        scale = F(1.0) / F(math.sqrt(square * share + F(how[0])))
        for c in range(U(0), even, LINE):
            factor = multiply(splat(scale), add(load(x, start + c), away))
            store(out, start + c, multiply_add(factor, load(norm, c), load(norm, width + c)))
        for c in range(even, width):
            out[start + c] = (x[start + c] - mean) * scale * norm[c] + norm[width + c]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _add(x: AnyArray, added: AnyArray, size: int) -> None:
    for place in range(size):
        x[place] += added[place]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _gate(inner: AnyArray, n: int, depth: int, activation: int) -> None:
    """Rows of a gate and what it lets through become their product, ``(n, depth)``, in place."""
    for i in range(n):
        gate = U(2) * i * depth
        _activate(inner, gate, depth, activation)
        for c in range(depth):
            inner[i * depth + c] = inner[gate + c] * inner[gate + depth + c]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _activate(x: AnyArray, start: int, size: int, activation: int) -> None:
    """The activation of ``size`` numbers, in place."""
    even, rest = size // LINE * LINE, np.zeros(LINE, np.float32)
    for place in range(start, start + even, LINE):
        store(x, place, _active(load(x, place), activation))
    for c in range(even, size):
        rest[c - even] = x[start + c]
    store(rest, U(0), _active(load(rest, U(0)), activation))
    for c in range(even, size):
        x[start + c] = rest[c - even]


@numba.njit(nogil=True, error_model="numpy", inline="always")
def _active(x: Any, activation: int) -> Any:
    if activation == _RELU:
        found = maximum(splat(F(0.0)), x)
    elif activation == _GELU:
        found = _gelu(x)
    elif activation == _GELU_TANH:
        found = _sigmoid_multiply(x, multiply(multiply(x, splat(_TWICE)), multiply_add(multiply(x, x), splat(_CUBE), splat(F(1.0)))))
    else:
        found = _sigmoid_multiply(x, multiply(x, splat(LOG2_E)))
    return found


@numba.njit(nogil=True, error_model="numpy", inline="always")
def _sigmoid_multiply(x: Any, power: Any) -> Any:
    """``x / (1 + 2 ** -power)``."""
    return divide(x, add(splat(F(1.0)), exp2(multiply(maximum(power, splat(_LOWEST)), splat(F(-1.0))))))


@numba.njit(nogil=True, error_model="numpy", inline="always")
def _gelu(x: Any) -> Any:
    """``max(x, 0) - |x| erfc(|x| / sqrt 2) / 2``, right to 2e-7."""
    size = maximum(multiply(x, splat(F(-1.0))), x)
    z = multiply(size, splat(_HALF_ROOT))
    t = divide(splat(F(1.0)), multiply_add(z, splat(_ERFC_STEP), splat(F(1.0))))
    series = splat(_ERFC[0])
    for coefficient in _ERFC[1:]:
        series = multiply_add(series, t, splat(coefficient))
    left = multiply(multiply(series, t), exp2(multiply(multiply(z, z), splat(-LOG2_E))))
    return multiply_add(multiply(size, splat(F(-0.5))), left, maximum(splat(F(0.0)), x))
