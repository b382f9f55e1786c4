"""Sixteen single-precision numbers at a time in numba's compiled loops.

The compiler turns plain loops into vector code only where it can prove that arrays don't overlap, and its sums across a vector cost more
than the products. These functions say what is meant: ``load``, ``multiply_add`` and so on become one or two instructions on a processor
with 512-bit registers, and what it takes on others. They can be called in compiled code only.

numba's cache on disk doesn't notice when this file changes: remove ``__pycache__`` beside it after editing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, errors, types
from numba.extending import intrinsic, models, register_model

LANES = 16
_FLOAT, _INT, _LONG = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_FLOATS, _INTS = ir.VectorType(_FLOAT, LANES), ir.VectorType(_INT, LANES)
_LOWEST = -126.0  # powers below this one are taken for 0
_EXP2 = [math.log(2.0) ** i / math.factorial(i) for i in range(7)]  # Taylor's polynomial, right to 1e-7 on [-1/2, 1/2]


class _VectorType(types.Type):
    """numba's name for a vector."""

    def __init__(self) -> None:
        super().__init__(name="float32x16")


VECTOR = _VectorType()


@register_model(_VectorType)
class _VectorModel(models.PrimitiveModel):
    """A vector is held in a register."""

    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _FLOATS)


def floats(array: Any) -> Any:
    """Refuse arrays of anything else: they would be taken for what they aren't."""
    if not isinstance(array, types.Array) or array.dtype != types.float32:
        raise errors.TypingError(f"expected an array of float32, got {array}")
    return array


def vector_type() -> Any:
    """LLVM's type of a vector."""
    return _FLOATS


def _all(number: float) -> Any:
    return ir.Constant(_FLOATS, [number] * LANES)


def address_of(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    """Where the vector is that begins at ``index`` of an array."""
    data = cgutils.create_struct_proxy(kind)(context, builder, value=array).data
    return builder.bitcast(builder.gep(data, [index]), _FLOATS.as_pointer())


def call(builder: Any, name: str, *arguments: Any) -> Any:
    """A function of vectors that LLVM knows."""
    kind = ir.FunctionType(_FLOATS, [_FLOATS] * len(arguments))
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{LANES}f32"), arguments)


def _shuffle(builder: Any, first: Any, second: Any, lanes: list[int]) -> Any:
    return builder.shuffle_vector(first, second, ir.Constant(_INTS, lanes))


def spread(builder: Any, number: Any) -> Any:
    """One number in every lane."""
    empty = ir.Constant(_FLOATS, ir.Undefined)
    return _shuffle(builder, builder.insert_element(empty, number, _INT(0)), empty, [0] * LANES)


@intrinsic
def load(typing: Any, array: Any, index: Any) -> Any:
    """The vector that begins at ``index`` of a flat array."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        found = builder.load(address_of(context, builder, signature.args[0], *arguments))
        found.align = 4
        return found

    return VECTOR(floats(array), types.uint64), generate


@intrinsic
def store(typing: Any, array: Any, index: Any, vector: Any) -> Any:
    """Put a vector at ``index`` of a flat array."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[2], address_of(context, builder, signature.args[0], *arguments[:2])).align = 4
        return context.get_dummy_value()

    return types.none(floats(array), types.uint64, VECTOR), generate


def fetch(builder: Any, address: Any, level: int) -> None:
    """Ask for the cache line at an address ahead of its use: into the first cache (3) or the second (2)."""
    pointer = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [pointer, _INT, _INT, _INT])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
    builder.call(function, [builder.bitcast(address, pointer), _INT(0), _INT(level), _INT(1)])


@intrinsic
def prefetch(typing: Any, array: Any, index: Any) -> Any:
    """Ask for the cache line of ``index`` ahead of its use."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        fetch(builder, address_of(context, builder, signature.args[0], *arguments), 3)
        return context.get_dummy_value()

    return types.none(floats(array), types.uint64), generate


@intrinsic
def splat(typing: Any, number: Any) -> Any:
    """One number in every lane."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return spread(builder, arguments[0])

    return VECTOR(types.float32), generate


@intrinsic
def multiply_add(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """``a * b + c``, rounded once."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return call(builder, "fma", *arguments)

    return VECTOR(VECTOR, VECTOR, VECTOR), generate


def _larger(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def power_of_two(builder: Any, x: Any) -> Any:
    """Two to the power of each lane, -126 to 126, right to seven digits."""
    whole = call(builder, "roundeven", x)
    f = builder.fsub(x, whole)
    value = _all(_EXP2[-1])
    for coefficient in reversed(_EXP2[:-1]):
        value = call(builder, "fma", value, f, _all(coefficient))
    raised = builder.shl(builder.fptosi(whole, _INTS), ir.Constant(_INTS, [23] * LANES))  # added to the exponent's bits
    return builder.bitcast(builder.add(builder.bitcast(value, _INTS), raised), _FLOATS)


def bounded_power_of_two(builder: Any, x: Any) -> Any:
    """The same of any number; those beyond -126 and 126 are taken for these, and what is no number for -126."""
    lowest, highest = _all(_LOWEST), _all(-_LOWEST)
    x = _larger(builder, x, lowest)
    return power_of_two(builder, builder.select(builder.fcmp_ordered("<", x, highest), x, highest))


@intrinsic
def add(typing: Any, a: Any, b: Any) -> Any:
    """``a + b``."""
    return VECTOR(VECTOR, VECTOR), lambda context, builder, signature, arguments: builder.fadd(*arguments)


@intrinsic
def multiply(typing: Any, a: Any, b: Any) -> Any:
    """``a * b``."""
    return VECTOR(VECTOR, VECTOR), lambda context, builder, signature, arguments: builder.fmul(*arguments)


@intrinsic
def divide(typing: Any, a: Any, b: Any) -> Any:
    """``a / b``."""
    return VECTOR(VECTOR, VECTOR), lambda context, builder, signature, arguments: builder.fdiv(*arguments)


@intrinsic
def maximum(typing: Any, a: Any, b: Any) -> Any:
    """The larger of each two; the second where one isn't a number."""
    return VECTOR(VECTOR, VECTOR), lambda context, builder, signature, arguments: _larger(builder, *arguments)


@intrinsic
def exp2(typing: Any, vector: Any) -> Any:
    """Two to the power of each lane, at most 126, right to seven digits; 0 from -126 downwards."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (given,) = arguments
        counts = builder.fcmp_ordered(">", given, _all(_LOWEST))
        x = builder.select(counts, given, _all(_LOWEST))
        return builder.select(counts, power_of_two(builder, x), _all(0.0))

    return VECTOR(VECTOR), generate


def _fold(builder: Any, vector: Any, both: Callable[[Any, Any], Any]) -> Any:
    """All lanes taken together, two by two."""
    step = LANES // 2
    while step:
        vector = both(vector, _shuffle(builder, vector, vector, [(lane + step) % LANES for lane in range(LANES)]))
        step //= 2
    return builder.extract_element(vector, _INT(0))


@intrinsic
def total(typing: Any, vector: Any) -> Any:
    """The sum of the lanes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _fold(builder, arguments[0], builder.fadd)

    return types.float32(VECTOR), generate


@intrinsic
def highest(typing: Any, vector: Any) -> Any:
    """The largest lane."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _fold(builder, arguments[0], lambda a, b: _larger(builder, a, b))

    return types.float32(VECTOR), generate


@intrinsic
def totals(typing: Any, vectors: Any) -> Any:
    """The sums of sixteen vectors' lanes, as a vector."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        parts = [builder.extract_value(arguments[0], i) for i in range(LANES)]
        step = 1
        while len(parts) > 1:
            # Of two vectors' lanes, those whose bit of ``step`` is 0 come to stand for the first, the others for the second.
            left = [LANES + lane - step if lane & step else lane for lane in range(LANES)]
            right = [LANES + lane if lane & step else lane + step for lane in range(LANES)]
            parts = [
                builder.fadd(_shuffle(builder, a, b, left), _shuffle(builder, a, b, right))
                for a, b in zip(parts[::2], parts[1::2], strict=True)
            ]
            step *= 2
        return parts[0]

    return VECTOR(vectors), generate


@intrinsic
def transpose(typing: Any, array: Any, index: Any, stride: Any, factor: Any, out: Any, place: Any, step: Any) -> Any:
    """Sixteen vectors of ``array``, ``stride`` apart from ``index`` on, times ``factor``: the lanes of ``out``'s, ``step`` apart."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, first, apart, scale, target, to, pace = arguments
        rows = []
        for i in range(LANES):
            row = builder.load(address_of(context, builder, signature.args[0], source, builder.add(first, builder.mul(apart, _LONG(i)))))
            row.align = 4
            rows.append(builder.fmul(row, scale))
        half = 1
        while half < LANES:
            # Of each two rows, ``half`` apart, the first takes the lanes of both whose bit of ``half`` is 0, the second the others.
            left = [LANES + lane - half if lane & half else lane for lane in range(LANES)]
            right = [LANES + lane if lane & half else lane + half for lane in range(LANES)]
            for i in range(LANES):
                if not i & half:
                    a, b = rows[i], rows[i + half]
                    rows[i], rows[i + half] = _shuffle(builder, a, b, left), _shuffle(builder, a, b, right)
            half *= 2
        for i, row in enumerate(rows):
            at = builder.add(to, builder.mul(pace, _LONG(i)))
            builder.store(row, address_of(context, builder, signature.args[4], target, at)).align = 4
        return context.get_dummy_value()

    number = types.uint64
    return types.none(floats(array), number, number, VECTOR, floats(out), number, number), generate
