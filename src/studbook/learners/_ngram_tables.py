"""A fitted n-gram model as flat arrays: a tree of contexts, each with the row of words that followed it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from studbook.arrays import AnyArray, Floats, Ints


class Tables(NamedTuple):
    """The context tree of an n-gram model (a named tuple, because compiled code takes it as it is).

    Contexts are numbered from short to long: 0 is the empty one. An *entry* is a word that followed a context; the entries of a
    context are one row, sorted by word.

    Attributes:
        rows: ``(G + 1,)`` first entry of each context.
        parent: ``(G,)`` the context without its leftmost token, -1 for the empty one.
        backoff: ``(G,)`` mass that a context gives to its parent.
        words: ``(E,)`` word of each entry.
        lower: ``(E,)`` entry of the same word at the parent, -1 at the empty context.
        following: ``(E,)`` the longest known context at the end of the context and the word together.
        cumulative: ``(E,)`` running sum of the discounted shares within the row.
        probability: ``(E,)`` interpolated probability of the word after the context.
        guide: ``(E,)`` where in the row to begin the search for a cumulative share.
        slots: Hash table of the entries by (context, word); a power of two long, -1 where empty.
        by_word: ``(V,)`` entry of each word at the empty context, -1 for a word never seen.
        start: Context at a block's beginning.
        longest: Number of the first context of the greatest length.
    """

    rows: Ints
    parent: AnyArray
    backoff: Floats
    words: AnyArray
    lower: AnyArray
    following: AnyArray
    cumulative: Floats
    probability: Floats
    guide: AnyArray
    slots: AnyArray
    by_word: AnyArray
    start: int
    longest: int


@dataclass(frozen=True, slots=True, eq=False)
class _Level:
    """Contexts of one length and their entries, with raw counts."""

    first: int
    n_known: int
    parent: AnyArray
    begins: AnyArray
    rows: Ints
    words: AnyArray
    lower: AnyArray
    counts: Floats


def compiled_blocks(blocks: AnyArray) -> AnyArray:
    """The blocks as compiled code was compiled for: int32, contiguous and writable (a read-only array would be another type to it)."""
    return np.require(blocks, np.int32, ["C", "W"])


def build_tables(blocks: AnyArray, n_words: int, order: int, discount: float, weights: Floats) -> Tables:
    """Fit the model of ``order`` to ``blocks``.

    Args:
        blocks: ``(n, length)`` int32 token ids in ``[0, n_words)``.
        n_words: Size of the vocabulary.
        order: 1 or more; contexts have up to ``order - 1`` tokens.
        discount: Taken from each count, in [0, 1).
        weights: ``(n,)`` weight of each block, or empty for all 1.
    """
    from studbook.learners import _ngram_kernels as kernels

    levels, following = _count_levels(blocks, n_words, order, weights)
    counts = np.concatenate(_smoothing_counts(levels, discount))
    lower = np.concatenate([level.lower for level in levels])
    rows = np.concatenate([*(level.rows for level in levels), [counts.size]]).astype(np.int64)
    backoff, cumulative, probability = kernels.interpolate(rows, lower, counts, discount, n_words)
    kernels.resolve_following(lower, following)
    words = np.concatenate([level.words for level in levels])
    by_word = np.full(n_words, -1, np.int32)
    by_word[levels[0].words] = np.arange(levels[0].words.size, dtype=np.int32)
    return Tables(
        rows=rows,
        parent=np.concatenate([level.parent for level in levels]),
        backoff=backoff,
        words=words,
        lower=lower,
        following=following,
        cumulative=cumulative,
        probability=probability,
        guide=kernels.build_guide(rows, cumulative),
        slots=kernels.build_slots(rows, words),
        by_word=by_word,
        start=1 + int(np.flatnonzero(levels[1].begins)[0]) if len(levels) > 1 else 0,
        longest=levels[-1].first,
    )


def _count_levels(blocks: AnyArray, n_words: int, order: int, weights: Floats) -> tuple[list[_Level], AnyArray]:
    """Contexts and entries of every length, shortest first, and where each entry leads."""
    from studbook.learners import _ngram_kernels as kernels

    tokens, length = compiled_blocks(blocks).ravel(), blocks.shape[1]
    by_token = kernels.order_by_key(np.arange(tokens.size, dtype=np.int32), tokens, 0, n_words)
    contexts = np.zeros(tokens.size, np.int32)
    parent, begins = np.array([-1], np.int32), np.array([False])
    above = following = np.empty(0, np.int32)
    levels: list[_Level] = []
    first = n_known = 0
    for size in range(min(order, length + 1)):
        if size:
            by_left = kernels.order_by_key(kernels.shift_right(by_token, length, size), contexts, levels[-1].first, len(parent))
            first += len(parent)
            contexts, parent, begins = kernels.number_contexts(by_left, tokens, length, size, contexts, first)
        ordered = kernels.drop_early(by_token, length, size - 1)
        if size:
            ordered = kernels.order_by_key(ordered, contexts, first, len(parent))
        entries, words, rows = kernels.number_entries(ordered, tokens, contexts, first, len(parent), n_known)
        counts = kernels.count_entries(entries, weights, length, n_known, words.size)
        lower = np.full(words.size, -1, np.int32)
        following = np.concatenate([following, lower])
        if size:
            kernels.link_levels(contexts, entries, above, length, n_known, lower, following)
        levels.append(_Level(first, n_known, parent, begins, rows, words, lower, counts))
        above, n_known = entries, n_known + words.size
    return levels, following


def _smoothing_counts(levels: list[_Level], discount: float) -> list[Floats]:
    """The counts that each level is estimated from.

    Kneser and Ney: below the longest contexts a word counts by the number of different tokens seen before (context, word). With
    weights each of them counts min(1, weight). A context at a block's beginning has nothing before it and keeps its raw counts.
    Maximum likelihood keeps them everywhere.
    """
    if discount == 0.0:
        return [level.counts for level in levels]
    result = []
    for level, longer in pairwise(levels):
        different = np.bincount(longer.lower - level.n_known, np.minimum(longer.counts, 1.0), level.words.size)
        at_beginning = np.repeat(level.begins, np.diff(level.rows, append=level.n_known + level.words.size))
        result.append(np.where(at_beginning, level.counts, different))
    return [*result, levels[-1].counts]
