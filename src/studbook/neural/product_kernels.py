"""Compiled products of rows with a matrix, on a CPU in single precision.

The matrix is laid out in panels, so that it is read from one end to the other. Each number is summed in the order of the inputs, from
the bias on, whatever is computed beside it: a row gives the same in every batch and on every number of threads.

Products and the layout of panels are compiled into ``block_kernels``, too. numba's cache on disk doesn't notice there when this file
changes, nor here when a file that this one imports does: remove ``__pycache__`` after editing.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numba
import numpy as np
from llvmlite import binding, ir  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numba.extending import intrinsic
from torch import Tensor

from studbook.arrays import AnyArray
from studbook.neural.attention_kernels import U
from studbook.neural.vectors import (
    LANES,
    address_of,
    bounded_power_of_two,
    call,
    fetch,
    floats,
    multiply_add,
    splat,
    spread,
    store,
    vector_type,
)

ROWS, WIDE = (8, 2) if binding.get_host_cpu_features().get("avx512f") else (4, 1)
"""Rows and vectors of a tile, whose sums stay in registers."""
PANEL = WIDE * LANES
"""Columns of a panel."""


Matrix: TypeAlias = tuple[AnyArray, int, int]


def pack(weight: Tensor, bias: Tensor | None) -> Matrix:
    """A matrix ``(columns, depth)`` in panels, flat, its depth and its columns.

    A panel is the biases of its columns, then their weights of one input after the other. The last one is filled up with columns of
    zeros whose bias is minus infinity.
    """
    columns, depth = weight.shape
    panels = np.zeros((-(-columns // PANEL) * PANEL, 1 + depth), np.float32)
    panels[columns:, 0] = -np.inf
    panels[:columns, 1:] = weight.detach().numpy()
    if bias is not None:
        panels[:columns, 0] = bias.detach().numpy()
    return np.ascontiguousarray(panels.reshape(-1, PANEL, 1 + depth).transpose(0, 2, 1)).ravel(), depth, columns


def _products(context: Any, builder: Any, n_rows: int, left: tuple[Any, Any, Any, Any], matrix: tuple[Any, Any, Any]) -> list[Any]:
    """The products of ``n_rows`` rows and a panel, added to its biases, as vectors: those of the first row, then of the next.

    ``left`` are the rows' kind, their array, where they begin and their depth, which is 1 or more; ``matrix`` the panels' kind, their
    array, and where the panel begins, and from where on and in which steps numbers are asked for ahead of their use.
    """
    (rows_kind, rows, begin, length), (kind, panels, going), count = left, matrix, ir.IntType(64)
    panel, ahead, pace = (builder.extract_value(going, i) for i in range(3))
    before, loop, after = builder.block, builder.append_basic_block("inputs"), builder.append_basic_block("done")
    data = cgutils.create_struct_proxy(rows_kind)(context, builder, value=rows).data
    starts = [builder.gep(data, [builder.add(begin, builder.mul(length, count(row)))]) for row in range(n_rows)]
    biases = _loads(context, builder, kind, panels, panel)
    builder.branch(loop)
    builder.position_at_end(loop)
    k, sums = builder.phi(count), [builder.phi(vector_type()) for _ in range(n_rows * WIDE)]
    following = builder.add(k, count(1))
    columns = _loads(context, builder, kind, panels, builder.add(panel, builder.mul(following, count(PANEL))))
    fetch(builder, address_of(context, builder, kind, panels, builder.add(ahead, builder.mul(k, pace))), 2)
    factors = [spread(builder, builder.load(builder.gep(at, [k]))) for at in starts]
    grown = [call(builder, "fma", factors[i // WIDE], columns[i % WIDE], each) for i, each in enumerate(sums)]
    builder.cbranch(builder.icmp_unsigned("<", following, length), loop, after)
    for value, first, final in zip([k, *sums], [count(0), *biases * n_rows], [following, *grown], strict=True):
        value.add_incoming(first, before)
        value.add_incoming(final, loop)
    builder.position_at_end(after)
    return grown


def _tile_of(n_rows: int) -> Any:
    """The compiled product of ``n_rows`` rows and a panel."""

    @intrinsic
    def tile(typing: Any, left: Any, first: Any, depth: Any, panels: Any, steps: Any, out: Any, place: Any) -> Any:
        """Rows of ``left`` ``(n, depth)`` from the number ``first`` on, times a panel, added to its biases, to ``out``.

        ``steps`` as in ``_products``; ``place`` is where the product begins, and how far its rows are apart.
        """

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            (rows, begin, length, matrix, going, found, target), kinds = arguments, signature.args
            to, step = (builder.extract_value(target, i) for i in range(2))
            sums = _products(context, builder, n_rows, (kinds[0], rows, begin, length), (kinds[3], matrix, going))
            for i, value in enumerate(sums):
                at = builder.add(builder.add(to, builder.mul(step, ir.IntType(64)(i // WIDE))), ir.IntType(64)(i % WIDE * LANES))
                builder.store(value, address_of(context, builder, kinds[5], found, at)).align = 4
            return context.get_dummy_value()

        number = types.uint64
        three, two = (types.containers.UniTuple(number, size) for size in (3, 2))
        return types.none(floats(left), number, number, floats(panels), three, floats(out), two), generate

    return tile


def _powers_of(n_rows: int) -> Any:
    """The compiled sums of two to the power of each number in the product of ``n_rows`` rows and a panel."""

    @intrinsic
    def powers(typing: Any, left: Any, first: Any, depth: Any, panels: Any, steps: Any, less: Any, sums: Any, row: Any) -> Any:
        """As a tile, but added to a vector a row of ``sums`` ``(n, LANES)``, from ``row`` on, are two to the power of the row's products
        less its number of ``less`` ``(n,)``; powers beyond -126 and 126 are taken for these, and what is no number for -126.
        """

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            (rows, begin, length, matrix, going, extra, found, at), kinds, count = arguments, signature.args, ir.IntType(64)
            each = [builder.add(at, count(i)) for i in range(n_rows)]
            numbers = cgutils.create_struct_proxy(kinds[5])(context, builder, value=extra).data
            products = _products(context, builder, n_rows, (kinds[0], rows, begin, length), (kinds[3], matrix, going))
            for i in range(n_rows):
                place = address_of(context, builder, kinds[6], found, builder.mul(each[i], count(LANES)))
                whole, number = builder.load(place), spread(builder, builder.load(builder.gep(numbers, [each[i]])))
                whole.align = 4
                for product in products[i * WIDE : (i + 1) * WIDE]:
                    whole = builder.fadd(whole, bounded_power_of_two(builder, builder.fsub(product, number)))
                builder.store(whole, place).align = 4
            return context.get_dummy_value()

        number = types.uint64
        three = types.containers.UniTuple(number, 3)
        return types.none(floats(left), number, number, floats(panels), three, floats(less), floats(sums), number), generate

    return powers


_whole, _four, _two, _one = (_tile_of(rows) for rows in (ROWS, 4, 2, 1))
_whole_powers, _one_powers = (_powers_of(rows) for rows in (ROWS, 1))


def _loads(context: Any, builder: Any, kind: Any, array: Any, start: Any) -> list[Any]:
    """A panel's numbers of one input."""
    places = [address_of(context, builder, kind, array, builder.add(start, ir.IntType(64)(i * LANES))) for i in range(WIDE)]
    found = [builder.load(place) for place in places]
    for each in found:
        each.align = 4
    return found


@numba.njit(cache=True, nogil=True, error_model="numpy")
def multiply_rows(left: AnyArray, n: int, matrix: Matrix, out: AnyArray) -> None:
    """Rows times a packed matrix, plus its biases.

    Args:
        left: ``(n, depth)``, flat.
        n: Rows.
        matrix: From ``pack``.
        out: ``(n, columns)``, flat; written.
    """
    panels, depth, width, edge = matrix[0], U(matrix[1]), U(matrix[2]), np.empty(ROWS * PANEL, np.float32)
    pace = U(PANEL) // ((U(n) + U(ROWS - 1)) // U(ROWS))  # while a panel is used, all tiles together ask for the next one
    for first in range(U(0), width, U(PANEL)):
        panel, following = first * (depth + U(1)), (first + U(PANEL)) * (depth + U(1))
        for row in range(U(0), U(n), U(ROWS)):
            rows, steps = min(U(ROWS), U(n) - row), (panel, following + row // U(ROWS) * pace * depth, pace)
            if first + U(PANEL) <= width:
                _multiply(left, row * depth, (rows, depth), panels, steps, out, (row * width + first, width))
            else:
                _multiply(left, row * depth, (rows, depth), panels, steps, edge, (U(0), U(PANEL)))
                for i in range(rows):
                    for column in range(first, width):
                        out[(row + i) * width + column] = edge[i * U(PANEL) + column - first]


@numba.njit(nogil=True, error_model="numpy", inline="always")
def _multiply(
    left: AnyArray, first: int, sizes: tuple[int, int], panels: AnyArray, steps: tuple[int, int, int], out: AnyArray, place: tuple[int, int]
) -> None:
    """Up to ``ROWS`` rows times a panel, in tiles of 4, 2 and 1 where they are fewer; ``sizes`` are those rows and the depth."""
    (rows, depth), (to, stride) = sizes, place
    if rows == U(ROWS):
        _whole(left, first, depth, panels, steps, out, place)
    else:
        done = U(0)
        if rows & U(4):
            _four(left, first, depth, panels, steps, out, place)
            done = U(4)
        if rows & U(2):
            _two(left, first + done * depth, depth, panels, steps, out, (to + done * stride, stride))
            done += U(2)
        if rows & U(1):
            _one(left, first + done * depth, depth, panels, steps, out, (to + done * stride, stride))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def add_powers(left: AnyArray, n: int, matrix: Matrix, between: tuple[int, int], less: AnyArray, sums: AnyArray) -> None:
    """Sums of two to the power of each number in the product of rows with a packed matrix, plus its biases, less a number a row.

    Args:
        left: ``(n, depth)``, flat.
        n: Rows.
        matrix: From ``pack``.
        between: The first column, of a panel, and the one after the last.
        less: ``(n,)``.
        sums: ``(n, LANES)``, flat; each row's vector is added to. Powers beyond -126 and 126 are taken for these, and what is no
            number for -126.
    """
    panels, depth = matrix[0], U(matrix[1])
    pace, even = U(PANEL) // ((U(n) + U(ROWS - 1)) // U(ROWS)), U(n) // U(ROWS) * U(ROWS)
    for first in range(U(between[0]), U(between[1]), U(PANEL)):
        panel, following = first * (depth + U(1)), (first + U(PANEL)) * (depth + U(1))
        for row in range(U(0), even, U(ROWS)):
            steps = (panel, following + row // U(ROWS) * pace * depth, pace)
            _whole_powers(left, row * depth, depth, panels, steps, less, sums, row)
        for row in range(even, U(n)):
            _one_powers(left, row * depth, depth, panels, (panel, following, U(0)), less, sums, row)


@numba.njit(nogil=True, error_model="numpy")
def pick_products(left: AnyArray, matrix: AnyArray, columns: AnyArray, out: AnyArray) -> None:
    """One number a row of what ``multiply_rows`` gives without biases, to the bit: summed in the same order.

    Args:
        left: ``(n, depth)``, flat.
        matrix: As it is, ``(columns, depth)``, flat.
        columns: ``(n,)``; of the product.
        out: ``(n,)``; written.
    """
    n, found = U(columns.size), np.empty(4 * LANES, np.float32)
    depth = U(left.size) // n
    for row in range(U(0), n, U(4)):  # four at a time: each waits for its last product
        r1, r2, r3 = min(row + U(1), n - U(1)), min(row + U(2), n - U(1)), min(row + U(3), n - U(1))
        m0, m1, m2, m3 = U(columns[row]) * depth, U(columns[r1]) * depth, U(columns[r2]) * depth, U(columns[r3]) * depth
        a = b = c = d = splat(np.float32(0.0))
        for k in range(depth):
            a = multiply_add(splat(left[row * depth + k]), splat(matrix[m0 + k]), a)
            b = multiply_add(splat(left[r1 * depth + k]), splat(matrix[m1 + k]), b)
            c = multiply_add(splat(left[r2 * depth + k]), splat(matrix[m2 + k]), c)
            d = multiply_add(splat(left[r3 * depth + k]), splat(matrix[m3 + k]), d)
        store(found, U(0), a), store(found, U(LANES), b), store(found, U(2 * LANES), c), store(found, U(3 * LANES), d)
        for i in range(min(U(4), n - row)):
            out[row + i] = found[i * U(LANES)]
