"""From a learner's ``[learner.mark]`` to a mark, and to what marks its text."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from studbook.arrays import AnyArray
from studbook.errors import ConfigError
from studbook.marks.greenlists import BUDGET_BYTES, GreenLists
from studbook.marks.settings import Kgw, Mark, SynthId
from studbook.neural.options import Decoding, Marking

if TYPE_CHECKING:
    from studbook.marks.marking import TextMarker

_MOST_DELTA = 20.0


def mark_of(marking: Marking, vocabulary: int) -> Mark | None:
    """The mark that a table means, for a detector; ``None`` for no mark.

    Args:
        marking: The table.
        vocabulary: Tokens of the learner's data.

    Raises:
        ConfigError: It doesn't fit the vocabulary, or a key is weak.

    Examples:
        >>> from studbook.marks.choice import mark_of
        >>> from studbook.neural.options import Marking
        >>> mark_of(Marking("kgw", keys=(15_485_863,)), 1000).n_green
        250
    """
    if marking.scheme == "none":
        return None
    if marking.scheme == "synthid":
        return SynthId(keys=marking.keys, ngram=(marking.context or 4) + 1)
    return Kgw(
        vocabulary=vocabulary,
        key=marking.keys[0],
        gamma=marking.gamma,
        delta=marking.delta,
        scheme="lefthash" if marking.scheme == "kgw" else "selfhash",
        context=marking.context or 1,
    )


def check_marking(marking: Marking, decoding: Decoding, vocabulary: int) -> None:
    """Refuse a mark that doesn't fit the vocabulary or the decoding.

    Raises:
        ConfigError: Says what doesn't.
    """
    if mark_of(marking, vocabulary) is None:
        return
    if decoding.beams > 1:
        raise ConfigError("learner.mark needs sampling, decoding.beams is above 1", hint="set decoding.beams = 1, or leave the mark out")
    if marking.scheme == "synthid" and decoding.temperature == 0.0:
        raise ConfigError("synthid marks what is drawn, decoding.temperature is 0", hint="set a temperature above 0, or choose kgw")


def marker_of(marking: Marking, vocabulary: int) -> TextMarker | None:
    """What marks a neural model's text; ``None`` for no mark."""
    mark = mark_of(marking, vocabulary)
    if mark is None:
        return None
    from studbook.marks.marking import TextMarker

    return TextMarker(mark, _lists(mark) if isinstance(mark, Kgw) and mark.scheme == "lefthash" else None)


def check_listed(marking: Marking, vocabulary: int) -> None:
    """Refuse a mark whose lists can't all be at hand: n-gram models look them up for each word.

    Raises:
        ConfigError: They'd take more than half a gibibyte, or the mark has none.
    """
    mark = mark_of(marking, vocabulary)
    if mark is None:
        return
    if not isinstance(mark, Kgw) or mark.scheme != "lefthash" or mark.context != 1 or mark.delta > _MOST_DELTA:
        raise ConfigError(f"n-gram models can be marked by kgw with a context of 1 and a delta up to {_MOST_DELTA:g}")
    if vocabulary * (-(-vocabulary // 64) * 8) > BUDGET_BYTES:
        raise ConfigError(f"the green lists of {vocabulary:,} words don't fit into memory", hint="use a smaller vocabulary")


def lists_of(marking: Marking, vocabulary: int) -> AnyArray:
    """All green lists of a vocabulary as bits: ``(vocabulary, ceil(vocabulary / 64))`` uint64.

    Raises:
        ConfigError: See ``check_listed``; or there is no mark.
    """
    check_listed(marking, vocabulary)
    mark = mark_of(marking, vocabulary)
    if not isinstance(mark, Kgw):
        raise ConfigError("there is no mark, and so no green lists")
    return _lists(mark).all_bits()


@functools.lru_cache(maxsize=2)
def _lists(mark: Kgw) -> GreenLists:
    """Kept for the next sample of the same study."""
    return GreenLists(mark)
