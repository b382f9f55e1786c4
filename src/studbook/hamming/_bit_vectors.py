"""Vectors of 512 bits in numba's compiled loops: eight words of 64 bits on which one instruction acts.

``neural.vectors`` says why such loops aren't left to the compiler. On a processor with 512-bit registers each function is one or two
instructions; on others the compiler splits the vector.

numba's cache on disk doesn't notice when this file changes: remove ``__pycache__`` beside it after editing.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, errors, types
from numba.extending import intrinsic, models, register_model

LANES = 8
_WORD, _INDEX = ir.IntType(64), ir.IntType(32)
_WORDS = ir.VectorType(_WORD, LANES)
_ONES = ir.Constant(_WORDS, [-1] * LANES)
_ZEROS = ir.Constant(_WORDS, [0] * LANES)


class _BitsType(types.Type):
    """numba's name for a vector."""

    def __init__(self) -> None:
        super().__init__(name="uint64x8")


BITS = _BitsType()


@register_model(_BitsType)
class _BitsModel(models.PrimitiveModel):
    """A vector is held in a register."""

    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _WORDS)


def _words(array: Any) -> Any:
    """Refuse arrays of anything else: they would be taken for what they aren't."""
    if not isinstance(array, types.Array) or array.dtype != types.uint64:
        raise errors.TypingError(f"expected an array of uint64, got {array}")
    return array


def _address(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    return _from_word(context, builder, kind, array, builder.mul(index, ir.Constant(_WORD, LANES)))


def _from_word(context: Any, builder: Any, kind: Any, array: Any, word: Any) -> Any:
    data = cgutils.create_struct_proxy(kind)(context, builder, value=array).data
    return builder.bitcast(builder.gep(data, [word]), _WORDS.as_pointer())


@intrinsic
def load(typing: Any, array: Any, index: Any) -> Any:
    """Vector number ``index`` of a flat array."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        found = builder.load(_address(context, builder, signature.args[0], *arguments))
        found.align = 8
        return found

    return BITS(_words(array), types.uint64), generate


@intrinsic
def load_from(typing: Any, array: Any, word: Any) -> Any:
    """The vector that begins at ``word`` of a flat array; one instruction less than ``load``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        found = builder.load(_from_word(context, builder, signature.args[0], *arguments))
        found.align = 8
        return found

    return BITS(_words(array), types.uint64), generate


@intrinsic
def store(typing: Any, array: Any, index: Any, vector: Any) -> Any:
    """Put a vector at place ``index`` of a flat array."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[2], _address(context, builder, signature.args[0], *arguments[:2])).align = 8
        return context.get_dummy_value()

    return types.none(_words(array), types.uint64, BITS), generate


@intrinsic
def splat(typing: Any, word: Any) -> Any:
    """One word in every lane."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        undefined = ir.Constant(_WORDS, ir.Undefined)
        first = builder.insert_element(undefined, arguments[0], _INDEX(0))
        return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_INDEX, LANES), [0] * LANES))

    return BITS(types.uint64), generate


@intrinsic
def both(typing: Any, a: Any, b: Any) -> Any:
    """``a & b``."""
    return BITS(BITS, BITS), lambda context, builder, signature, arguments: builder.and_(*arguments)


@intrinsic
def without(typing: Any, a: Any, b: Any) -> Any:
    """``a & ~b``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.and_(arguments[0], builder.xor(arguments[1], _ONES))

    return BITS(BITS, BITS), generate


@intrinsic
def differ(typing: Any, a: Any, b: Any) -> Any:
    """``a ^ b``."""
    return BITS(BITS, BITS), lambda context, builder, signature, arguments: builder.xor(*arguments)


@intrinsic
def odd(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """``a ^ b ^ c``: the sum's low bit in each place."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, b, c = arguments
        return builder.xor(builder.xor(a, b), c)

    return BITS(BITS, BITS, BITS), generate


@intrinsic
def carry(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """Where two of three are set: the sum's high bit in each place."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, b, c = arguments
        if "+avx512f" not in context.codegen().magic_tuple()[2].split(","):
            return builder.or_(builder.and_(a, b), builder.and_(c, builder.or_(a, b)))
        # One instruction by its truth table; the compiler would take two.
        kind = ir.FunctionType(_WORDS, [_WORDS, _WORDS, _WORDS, _INDEX])
        ternary = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.pternlog.q.512")
        return builder.call(ternary, [a, b, c, _INDEX(0xE8)])

    return BITS(BITS, BITS, BITS), generate


@intrinsic
def add(typing: Any, a: Any, b: Any) -> Any:
    """``a + b``, word by word."""
    return BITS(BITS, BITS), lambda context, builder, signature, arguments: builder.add(*arguments)


@intrinsic
def count(typing: Any, vector: Any) -> Any:
    """Bits set, word by word."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(_WORDS, [_WORDS])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.ctpop.v{LANES}i64"), arguments)

    return BITS(BITS), generate


@intrinsic
def some(typing: Any, vector: Any) -> Any:
    """Whether any bit is set."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        found = builder.icmp_unsigned("!=", arguments[0], _ZEROS)
        return builder.icmp_unsigned("!=", builder.bitcast(found, ir.IntType(LANES)), ir.Constant(ir.IntType(LANES), 0))

    return types.boolean(BITS), generate


@intrinsic
def lowest(typing: Any, word: Any) -> Any:
    """Place of the lowest bit set in one word, 64 where there is none."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), generate


@intrinsic
def count_word(typing: Any, word: Any) -> Any:
    """Bits set in one word."""
    return types.uint64(types.uint64), lambda context, builder, signature, arguments: builder.ctpop(arguments[0])
