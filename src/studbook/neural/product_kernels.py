"""Compiled products of rows with a matrix, on a CPU in single precision.

The matrix is laid out in panels, so that it is read from one end to the other. Each number is summed in the order of the inputs, whatever
is computed beside it: a row gives the same in every batch and on every number of threads.

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
from studbook.neural.vectors import LANES, address_of, call, fetch, floats, spread, vector_type

ROWS, WIDE = (8, 2) if binding.get_host_cpu_features().get("avx512f") else (4, 1)
"""Rows and vectors of a tile, whose sums stay in registers."""
PANEL = WIDE * LANES
"""Columns of a panel."""


Matrix: TypeAlias = tuple[AnyArray, int, int]


def pack(weight: Tensor, bias: Tensor | None) -> Matrix:
    """A matrix ``(columns, depth)`` in panels, flat, its depth and its columns.

    A panel is the biases of its columns, then their weights of one input after the other; the last one is filled up with zeros.
    """
    columns, depth = weight.shape
    panels = np.zeros((-(-columns // PANEL) * PANEL, 1 + depth), np.float32)
    panels[:columns, 1:] = weight.detach().numpy()
    if bias is not None:
        panels[:columns, 0] = bias.detach().numpy()
    return np.ascontiguousarray(panels.reshape(-1, PANEL, 1 + depth).transpose(0, 2, 1)).ravel(), depth, columns


def _tile_of(n_rows: int) -> Any:
    """The compiled product of ``n_rows`` rows and a panel."""

    @intrinsic
    def tile(typing: Any, left: Any, first: Any, depth: Any, panels: Any, steps: Any, out: Any, place: Any) -> Any:
        """Rows of ``left`` ``(n, depth)`` from the number ``first`` on, times a panel, plus its biases, to ``out``.

        ``steps`` are where the panel begins, and from where on and in which steps numbers are asked for ahead of their use; ``place`` is
        where the product begins, and how far its rows are apart. The depth is 1 or more.
        """

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            rows, begin, length, matrix, going, found, target = arguments
            (panel, ahead, pace), (to, step) = (
                [builder.extract_value(pair, i) for i in range(size)] for pair, size in ((going, 3), (target, 2))
            )
            kinds, count, zeros = signature.args, ir.IntType(64), vector_type()([0.0] * LANES)
            before, loop, after = builder.block, builder.append_basic_block("inputs"), builder.append_basic_block("done")
            data = cgutils.create_struct_proxy(kinds[0])(context, builder, value=rows).data
            starts = [builder.gep(data, [builder.add(begin, builder.mul(length, count(row)))]) for row in range(n_rows)]
            builder.branch(loop)
            builder.position_at_end(loop)
            k, sums = builder.phi(count), [builder.phi(vector_type()) for _ in range(n_rows * WIDE)]
            following = builder.add(k, count(1))
            columns = _loads(context, builder, kinds[3], matrix, builder.add(panel, builder.mul(following, count(PANEL))))
            fetch(builder, address_of(context, builder, kinds[3], matrix, builder.add(ahead, builder.mul(k, pace))), 2)
            factors = [spread(builder, builder.load(builder.gep(at, [k]))) for at in starts]
            grown = [call(builder, "fma", factors[i // WIDE], columns[i % WIDE], each) for i, each in enumerate(sums)]
            builder.cbranch(builder.icmp_unsigned("<", following, length), loop, after)
            for value, initial, final in zip([k, *sums], [count(0), *[zeros] * len(sums)], [following, *grown], strict=True):
                value.add_incoming(initial, before)
                value.add_incoming(final, loop)
            builder.position_at_end(after)
            biases = _loads(context, builder, kinds[3], matrix, panel)
            for i, value in enumerate(grown):
                at = builder.add(builder.add(to, builder.mul(step, count(i // WIDE))), count(i % WIDE * LANES))
                builder.store(builder.fadd(value, biases[i % WIDE]), address_of(context, builder, kinds[5], found, at)).align = 4
            return context.get_dummy_value()

        number = types.uint64
        three, two = (types.containers.UniTuple(number, size) for size in (3, 2))
        return types.none(floats(left), number, number, floats(panels), three, floats(out), two), generate

    return tile


_whole, _four, _two, _one = (_tile_of(rows) for rows in (ROWS, 4, 2, 1))


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
