"""Compiled loops of the n-gram learner: counting sorts for the fit, walks over the context tree for probabilities and samples."""

from __future__ import annotations

import numba
import numpy as np

from studbook.arrays import AnyArray, Floats
from studbook.learners._ngram_tables import Tables

ABREAST = 8
"""Blocks walked side by side: while one waits for memory, the others go on."""


@numba.njit(cache=True, nogil=True)
def order_by_key(order: AnyArray, keys: AnyArray, first: int, n_keys: int) -> AnyArray:
    """``order`` stably sorted by ``keys[order]``, integers in ``[first, first + n_keys)``: one counting sort."""
    start = np.zeros(n_keys + 1, np.int64)
    for i in order:
        start[keys[i] - first + 1] += 1
    for k in range(n_keys):
        start[k + 1] += start[k]
    result = np.empty_like(order)
    for i in order:
        k = keys[i] - first
        result[start[k]] = i
        start[k] += 1
    return result


@numba.njit(cache=True, nogil=True)
def shift_right(by_token: AnyArray, length: int, shift: int) -> AnyArray:
    """Positions ordered by the token ``shift`` places to their left; those with a block's beginning there come last."""
    n = by_token.size // length * (length - shift + 1)
    result = np.empty(n, np.int32)
    k = 0
    for i in by_token:
        if i % length + shift < length:
            result[k] = i + shift
            k += 1
    for block in range(by_token.size // length):
        result[k] = block * length + shift - 1
        k += 1
    return result


@numba.njit(cache=True, nogil=True)
def drop_early(by_token: AnyArray, length: int, first: int) -> AnyArray:
    """The positions of ``by_token`` that are at least ``first`` places into their block."""
    if first <= 0:
        return by_token
    result = np.empty(by_token.size // length * (length - first), np.int32)
    k = 0
    for i in by_token:
        if i % length >= first:
            result[k] = i
            k += 1
    return result


@numba.njit(cache=True, nogil=True)
def number_contexts(
    order: AnyArray, tokens: AnyArray, length: int, size: int, shorter: AnyArray, n_known: int
) -> tuple[AnyArray, AnyArray, AnyArray]:
    """Number the contexts of ``size`` tokens.

    Args:
        order: Positions sorted by (shorter context, token ``size`` places to the left).
        tokens: ``(N,)`` all tokens, block after block.
        length: Tokens a block.
        size: Tokens of a context, 1 or more.
        shorter: ``(N,)`` number of each position's context of ``size - 1`` tokens.
        n_known: Numbers already given.

    Returns:
        ``(N,)`` number of each position's context (-1 too early in the block), and for each new context the number of the shorter
        one and whether it begins at the block's beginning.
    """
    numbers = np.full(tokens.size, -1, np.int32)
    parent = np.empty(order.size, np.int32)
    begins = np.empty(order.size, np.bool_)
    n, last_parent, last_left = 0, -1, -2
    for i in order:
        left = -1 if i % length < size else tokens[i - size]
        if shorter[i] != last_parent or left != last_left:
            last_parent, last_left = shorter[i], left
            parent[n] = last_parent
            begins[n] = left < 0
            n += 1
        numbers[i] = n_known + n - 1
    return numbers, parent[:n].copy(), begins[:n].copy()


@numba.njit(cache=True, nogil=True)
def number_entries(
    order: AnyArray, tokens: AnyArray, contexts: AnyArray, first: int, n_contexts: int, n_known: int
) -> tuple[AnyArray, AnyArray, AnyArray]:
    """Number the pairs of context and next word of one level.

    Args:
        order: Positions sorted by (context, token).
        tokens: ``(N,)`` all tokens.
        contexts: ``(N,)`` context of each position.
        first: Number of the level's first context.
        n_contexts: Contexts of the level.
        n_known: Entries already numbered.

    Returns:
        ``(N,)`` entry of each position (-1: none), the words of the new entries, and the first entry of each context.
    """
    entries = np.full(tokens.size, -1, np.int32)
    words = np.empty(order.size, np.int32)
    rows = np.empty(n_contexts, np.int64)
    n, last_context, last_word = 0, -1, -1
    for i in order:
        if contexts[i] != last_context or tokens[i] != last_word:
            if contexts[i] != last_context:
                last_context = contexts[i]
                rows[last_context - first] = n_known + n
            last_word = tokens[i]
            words[n] = last_word
            n += 1
        entries[i] = n_known + n - 1
    return entries, words[:n].copy(), rows


@numba.njit(cache=True, nogil=True)
def count_entries(entries: AnyArray, weights: Floats, length: int, n_known: int, n_entries: int) -> Floats:
    """Weighted count of each of a level's entries; ``weights`` holds one weight a block, or is empty for all 1."""
    counts = np.zeros(n_entries)
    for i in range(entries.size):
        if entries[i] >= 0:
            counts[entries[i] - n_known] += weights[i // length] if weights.size else 1.0
    return counts


@numba.njit(cache=True, nogil=True)
def link_levels(
    contexts: AnyArray, entries: AnyArray, above: AnyArray, length: int, n_known: int, lower: AnyArray, following: AnyArray
) -> None:
    """Fill ``lower`` (the same word after the context one token shorter) and ``following`` (where that word leads).

    Args:
        contexts: ``(N,)`` contexts of this level.
        entries: ``(N,)`` entries of this level.
        above: ``(N,)`` entries of the level of shorter contexts.
        length: Tokens a block.
        n_known: Number of this level's first entry.
        lower: Of this level's entries; written.
        following: Of all entries so far; written at those of the shorter level.
    """
    for i in range(entries.size):
        if entries[i] >= 0:
            lower[entries[i] - n_known] = above[i]
            if i % length:
                following[above[i - 1]] = contexts[i]


@numba.njit(cache=True, nogil=True)
def interpolate(rows: AnyArray, lower: AnyArray, counts: Floats, discount: float, n_words: int) -> tuple[Floats, Floats, Floats]:
    """Absolute discounting, interpolated from short contexts to long.

    Returns:
        ``backoff`` (one a context): mass given to the shorter context. ``cumulative`` (one an entry): running sum of the discounted
        shares within the row. ``probability`` (one an entry): interpolated probability of the word.
    """
    backoff = np.empty(rows.size - 1)
    cumulative = np.empty(counts.size)
    probability = np.empty(counts.size)
    for x in range(rows.size - 1):
        total = taken = 0.0
        for e in range(rows[x], rows[x + 1]):
            total += counts[e]
            taken += min(counts[e], discount)
        backoff[x] = taken / total
        running = 0.0
        for e in range(rows[x], rows[x + 1]):
            share = (counts[e] - min(counts[e], discount)) / total
            running += share
            cumulative[e] = running
            shorter = 1.0 / n_words if lower[e] < 0 else probability[lower[e]]
            probability[e] = share + backoff[x] * shorter
    return backoff, cumulative, probability


@numba.njit(cache=True, nogil=True)
def resolve_following(lower: AnyArray, following: AnyArray) -> None:
    """Where an entry leads to no context of its own, let it lead where the same word leads after a shorter context."""
    for e in range(lower.size):
        if following[e] < 0:
            following[e] = following[lower[e]] if lower[e] >= 0 else 0


@numba.njit(cache=True, nogil=True)
def build_slots(rows: AnyArray, words: AnyArray) -> AnyArray:
    """Open-addressing hash table of the entries by (context, word), at most half full."""
    size = 1
    while size < 2 * words.size:
        size *= 2
    slots = np.full(size, -1, np.int32)
    for x in range(rows.size - 1):
        for e in range(rows[x], rows[x + 1]):
            k = _slot(x, words[e], size)
            while slots[k] >= 0:
                k = (k + 1) & (size - 1)
            slots[k] = e
    return slots


@numba.njit(cache=True, nogil=True)
def build_guide(rows: AnyArray, cumulative: Floats) -> AnyArray:
    """For each row of n entries and each j < n, the first entry whose cumulative share exceeds j/n of the row's sum."""
    guide = np.empty(cumulative.size, np.int32)
    for x in range(rows.size - 1):
        first, end = rows[x], rows[x + 1]
        step = cumulative[end - 1] / (end - first)
        e = first
        for j in range(end - first):
            while e < end - 1 and cumulative[e] <= j * step:
                e += 1
            guide[first + j] = e
    return guide


@numba.njit(cache=True, nogil=True, inline="always")
def _slot(context: int, word: int, size: int) -> np.int64:
    mixed = np.uint64(context) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(word) * np.uint64(0xC2B2AE3D27D4EB4F)
    return np.int64((mixed ^ (mixed >> np.uint64(32))) & np.uint64(size - 1))


@numba.njit(cache=True, nogil=True, inline="always")
def find(tables: Tables, context: int, word: int) -> int:
    """The entry of ``word`` in the row of ``context``, or -1."""
    entry: int
    if context == 0:
        entry = tables.by_word[word]
        return entry
    size = tables.slots.size
    low, high = tables.rows[context], tables.rows[context + 1]
    k = _slot(context, word, size)
    while True:
        entry = tables.slots[k]
        if entry < 0 or (low <= entry < high and tables.words[entry] == word):
            return entry
        k = (k + 1) & (size - 1)


@numba.njit(cache=True, nogil=True, inline="always")
def advance(tables: Tables, context: int, word: int, known_at: int, entry: int) -> int:
    """The longest known context after ``word``.

    Args:
        tables: The model.
        context: Context before the word.
        word: The word.
        known_at: Context (``context`` or one that it backs off to, or -1) where ``entry`` was found.
        entry: Entry of the word at ``known_at``, or -1.
    """
    # A longest context and the next one shorter lead to the same place: spare the look into the former.
    if context >= tables.longest and context != known_at:
        context = tables.parent[context]
    while context != known_at and context >= 0:
        found = find(tables, context, word)
        if found >= 0:
            entry = found
            break
        context = tables.parent[context]
    after: int = tables.following[entry] if entry >= 0 else 0
    return after


@numba.njit(cache=True, nogil=True)
def token_log_prob(tables: Tables, blocks: AnyArray) -> Floats:
    """Natural log of each token's probability given the tokens before it in its block: ``(n, length)``."""
    result = np.empty(blocks.shape)
    contexts = np.empty(blocks.shape[0], np.int64)
    contexts[:] = tables.start
    for first in range(0, blocks.shape[0], ABREAST):
        for i in range(blocks.shape[1]):
            for b in range(first, min(first + ABREAST, blocks.shape[0])):
                word = blocks[b, i]
                x, scale, entry = contexts[b], 1.0, -1
                while x >= 0:
                    entry = find(tables, x, word)
                    if entry >= 0:
                        break
                    scale *= tables.backoff[x]
                    x = tables.parent[x]
                p = scale * (tables.probability[entry] if entry >= 0 else 1.0 / tables.by_word.size)
                result[b, i] = np.log(min(p, 1.0))  # rounding can carry a certain word past 1
                contexts[b] = advance(tables, contexts[b], word, x, entry)
    return result


@numba.njit(cache=True, nogil=True)
def sample_blocks(tables: Tables, uniforms: Floats, blocks: AnyArray) -> None:
    """Fill ``blocks`` with text, by ancestral sampling of the interpolated model.

    One uniform number a token serves every level: what is left of it after a back-off, rescaled, is uniform again.

    Args:
        tables: The model.
        uniforms: ``(n, k)`` numbers in [0, 1) for the last k tokens of each block.
        blocks: ``(n, length)`` whose first ``length - k`` tokens are the prompts; the rest is written.
    """
    n_words = tables.by_word.size
    n_prompt = blocks.shape[1] - uniforms.shape[1]
    contexts = np.empty(blocks.shape[0], np.int64)
    contexts[:] = tables.start
    for first in range(0, blocks.shape[0], ABREAST):
        for i in range(blocks.shape[1]):
            for b in range(first, min(first + ABREAST, blocks.shape[0])):
                if i < n_prompt:
                    contexts[b] = advance(tables, contexts[b], blocks[b, i], -1, -1)
                    continue
                u = uniforms[b, i - n_prompt]
                x, entry, word = contexts[b], -1, -1
                while x >= 0 and entry < 0:
                    kept = 1.0 - tables.backoff[x]
                    if u < kept:
                        start, end = tables.rows[x], tables.rows[x + 1]
                        entry = tables.guide[start + min(int(u / kept * (end - start)), end - start - 1)]
                        while entry < end - 1 and tables.cumulative[entry] <= u:
                            entry += 1
                        word = tables.words[entry]
                    else:
                        u = (u - kept) / tables.backoff[x]
                        x = tables.parent[x]
                if entry < 0:
                    word = min(int(u * n_words), n_words - 1)
                    x, entry = 0, tables.by_word[word]
                blocks[b, i] = word
                contexts[b] = advance(tables, contexts[b], word, x, entry)
