"""Temperature, top-k and top-p on the full interpolated distribution, exactly, without ever writing it out.

The probability of a word after a context is that of the longest row of the context's chain (itself, its parent, ... the empty context,
the uniform floor) that holds it, times the back-off masses passed on the way. Every row is kept sorted by probability, with running
sums of the tempered weights p^(1/T), once as it is and once with the probabilities that its words have one context further down. Then

* the weight of all words at least as probable as a given one is, over the chain, a sum of such prefixes: what the row holds, plus what
  the rest of the chain holds, minus what the chain holds of the row's own words. The last word kept by top-k or top-p is therefore
  found by binary search;
* a draw picks a row of the chain in proportion to its prefix, a word in it, and is refused where a longer row holds the word. Since a
  longer context never makes a word rarer than its back-off does, each prefix weighs at most as much as the whole: a draw takes at
  most (rows of the chain) tries in expectation.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from studbook.arrays import AnyArray, Floats
from studbook.learners._ngram_kernels import advance, find, order_by_key
from studbook.learners._ngram_tables import Tables

MAX_CHAIN = 6


class SortedRows(NamedTuple):
    """The rows of a model, each sorted by falling probability (ties: by word).

    Attributes:
        words: ``(E,)`` words by probability after the context.
        probability: ``(E,)`` those probabilities.
        weight: ``(E,)`` running sum of p^(1/T) within the row, relative to the row's first.
        lower_words: ``(E,)`` words by probability after the parent.
        lower_probability: ``(E,)`` those probabilities.
        lower_weight: ``(E,)`` their running sum, as ``weight``.
    """

    words: AnyArray
    probability: Floats
    weight: Floats
    lower_words: AnyArray
    lower_probability: Floats
    lower_weight: Floats


class Chain(NamedTuple):
    """A context and those that it backs off to; the last member is the uniform floor (number -1).

    Attributes:
        context: ``(c,)`` numbers.
        scale: ``(c,)`` mass passed down to the member.
        factor: ``(c,)`` weight of the member's first word, relative to the greatest in the chain.
        lower_factor: ``(c,)`` the same for the member's own words one member further down.
    """

    context: AnyArray
    scale: Floats
    factor: Floats
    lower_factor: Floats


def sort_rows(tables: Tables, temperature: float) -> SortedRows:
    """Sort every row by probability, and by probability after the parent."""
    contexts = np.repeat(np.arange(tables.parent.size, dtype=np.int32), np.diff(tables.rows))
    lower = np.where(tables.lower >= 0, tables.probability[tables.lower], 1.0 / tables.by_word.size)
    columns: list[AnyArray] = []
    for values in (tables.probability, lower):
        order = np.argsort(-values, kind="stable").astype(np.int32)
        order = order_by_key(order, contexts, 0, tables.parent.size)
        columns += [tables.words[order], values[order], _running_weight(tables.rows, values[order], temperature)]
    return SortedRows(*columns)


@numba.njit(cache=True, nogil=True)
def _running_weight(rows: AnyArray, values: Floats, temperature: float) -> Floats:
    """Running sum of (value / row's first)^(1/T) within each row."""
    weight = np.empty(values.size)
    for x in range(rows.size - 1):
        running = 0.0
        for e in range(rows[x], rows[x + 1]):
            running += _tempered(values[e] / values[rows[x]], temperature)
            weight[e] = running
    return weight


@numba.njit(cache=True, nogil=True, inline="always")
def _tempered(ratio: float, temperature: float) -> float:
    return float(ratio if temperature == 1.0 else ratio ** (1.0 / temperature))


@numba.njit(cache=True, nogil=True)
def build_chain(tables: Tables, by_probability: SortedRows, context: int, temperature: float) -> Chain:
    """The chain of ``context``, down to the first member that passes nothing on."""
    contexts, scale = np.empty(MAX_CHAIN, np.int64), np.empty(MAX_CHAIN)
    factor, lower_factor = np.zeros(MAX_CHAIN), np.zeros(MAX_CHAIN)
    n, passed, greatest = 0, 1.0, 0.0
    while passed > 0.0:
        contexts[n], scale[n] = context, passed
        factor[n] = passed * (by_probability.probability[tables.rows[context]] if context >= 0 else 1.0 / tables.by_word.size)
        greatest = max(greatest, factor[n])
        n += 1
        if context < 0:
            break
        passed *= tables.backoff[context]
        lower_factor[n - 1] = passed * by_probability.lower_probability[tables.rows[context]]
        context = tables.parent[context]
    for j in range(n):
        factor[j] = _tempered(factor[j] / greatest, temperature)
        lower_factor[j] = _tempered(lower_factor[j] / greatest, temperature)
    return Chain(contexts[:n], scale[:n], factor[:n], lower_factor[:n])


@numba.njit(cache=True, nogil=True, inline="always")
def _n_kept(words: AnyArray, probability: Floats, first: int, end: int, scale: float, last_p: float, last_word: int) -> int:
    """How many of a sorted row come no later than (``last_p``, ``last_word``) in the order by probability and word."""
    low, high = first, end
    while low < high:
        middle = (low + high) >> 1
        p = scale * probability[middle]
        if p > last_p or (p == last_p and words[middle] <= last_word):
            low = middle + 1
        else:
            high = middle
    return low - first


@numba.njit(cache=True, nogil=True, inline="always")
def _n_kept_of_member(tables: Tables, by_probability: SortedRows, chain: Chain, j: int, last_p: float, last_word: int) -> int:
    """How many words of member ``j`` are kept, those that a longer row holds included."""
    if chain.context[j] >= 0:
        first, end = tables.rows[chain.context[j]], tables.rows[chain.context[j] + 1]
        n: int = _n_kept(by_probability.words, by_probability.probability, first, end, chain.scale[j], last_p, last_word)
        return n
    n_words: int = tables.by_word.size
    p = chain.scale[j] / n_words
    return n_words if p > last_p else (last_word + 1 if p == last_p else 0)


@numba.njit(cache=True, nogil=True)
def kept_weight(tables: Tables, by_probability: SortedRows, chain: Chain, last_p: float, last_word: int) -> tuple[int, float]:
    """Number and tempered weight of the words that come no later than (``last_p``, ``last_word``)."""
    count, weight = 0, 0.0
    for j in range(chain.context.size):
        n = _n_kept_of_member(tables, by_probability, chain, j, last_p, last_word)
        count += n
        x = chain.context[j]
        if x < 0:
            weight += n * chain.factor[j]
            continue
        first, end = tables.rows[x], tables.rows[x + 1]
        if n:
            weight += chain.factor[j] * by_probability.weight[first + n - 1]
        if j + 1 < chain.context.size:
            scale = chain.scale[j + 1]
            m = _n_kept(by_probability.lower_words, by_probability.lower_probability, first, end, scale, last_p, last_word)
            count -= m
            if m:
                weight -= chain.lower_factor[j] * by_probability.lower_weight[first + m - 1]
    return count, weight


@numba.njit(cache=True, nogil=True, inline="always")
def _element(tables: Tables, by_probability: SortedRows, chain: Chain, j: int, k: int) -> tuple[float, int]:
    """Probability and word of the k-th word of member ``j``."""
    if chain.context[j] < 0:
        return chain.scale[j] / tables.by_word.size, k
    entry = tables.rows[chain.context[j]] + k
    return chain.scale[j] * by_probability.probability[entry], by_probability.words[entry]


@numba.njit(cache=True, nogil=True)
def _last_kept(
    tables: Tables, by_probability: SortedRows, chain: Chain, least_count: int, least_weight: float, last_p: float, last_word: int
) -> tuple[float, int]:
    """The first word, in falling order, with at least ``least_count`` words and ``least_weight`` up to it.

    ``(last_p, last_word)`` is the answer where no earlier word is: the member's rows are searched only up to it.
    """
    for j in range(chain.context.size):
        low, high = 0, _n_kept_of_member(tables, by_probability, chain, j, last_p, last_word)
        n = high
        while low < high:
            middle = (low + high) >> 1
            p, word = _element(tables, by_probability, chain, j, middle)
            count, weight = kept_weight(tables, by_probability, chain, p, word)
            if count >= least_count and weight >= least_weight:
                high = middle
            else:
                low = middle + 1
        if low < n:
            last_p, last_word = _element(tables, by_probability, chain, j, low)
    return last_p, last_word


@numba.njit(cache=True, nogil=True)
def truncate(tables: Tables, by_probability: SortedRows, chain: Chain, top_k: int, top_p: float) -> tuple[float, int]:
    """Probability and word of the last word that top-k, then top-p, keep; (-1, 0) keeps all."""
    last_p, last_word = -1.0, 0
    if top_k > 0:
        last_p, last_word = _last_kept(tables, by_probability, chain, top_k, 0.0, last_p, last_word)
    if top_p < 1.0:
        _, weight = kept_weight(tables, by_probability, chain, last_p, last_word)
        # Sums of counts often reach a round share exactly: rounding must not ask for one word more.
        last_p, last_word = _last_kept(tables, by_probability, chain, 1, top_p * weight * (1.0 - 1e-12), last_p, last_word)
    return last_p, last_word


@numba.njit(cache=True, nogil=True)
def _draw(
    tables: Tables, by_probability: SortedRows, chain: Chain, last_p: float, last_word: int, rng: np.random.Generator
) -> tuple[int, int]:
    """A word of the kept ones by tempered weight, and the member of the chain whose row it came from."""
    n_members = chain.context.size
    until, n_kept = np.empty(n_members), np.empty(n_members, np.int64)
    total = 0.0
    for j in range(n_members):
        n = n_kept[j] = _n_kept_of_member(tables, by_probability, chain, j, last_p, last_word)
        if n:
            total += chain.factor[j] * (n if chain.context[j] < 0 else by_probability.weight[tables.rows[chain.context[j]] + n - 1])
        until[j] = total
    while True:
        u = rng.random() * total
        j = 0
        while j < n_members - 1 and until[j] <= u:
            j += 1
        while j and until[j] == until[j - 1]:  # rounding can carry u to the very end, past the last member that keeps a word
            j -= 1
        u -= until[j - 1] if j else 0.0
        word = _word_at(tables, by_probability, chain.context[j], n_kept[j], u / chain.factor[j])
        held = False
        for k in range(j):
            held = held or find(tables, chain.context[k], word) >= 0
        if not held:
            return word, j


@numba.njit(cache=True, nogil=True, inline="always")
def _word_at(tables: Tables, by_probability: SortedRows, context: int, n: int, weight: float) -> int:
    """The word, of the first ``n`` of the row of ``context``, where the running weight passes ``weight``."""
    if context < 0:
        return min(int(weight), n - 1)
    low = tables.rows[context]
    high = low + n - 1
    while low < high:
        middle = (low + high) >> 1
        if by_probability.weight[middle] > weight:
            high = middle
        else:
            low = middle + 1
    word: int = by_probability.words[low]
    return word


@numba.njit(cache=True, nogil=True)
def sample_decoded(
    tables: Tables,
    by_probability: SortedRows,
    how: tuple[float, int, float],
    n_prompt: int,
    blocks: AnyArray,
    rng: np.random.Generator,
) -> None:
    """Fill ``blocks`` (``(n, length)``, the first ``n_prompt`` tokens given) with text under temperature, top-k and top-p.

    What a context keeps is worked out when the context is first met.
    """
    temperature, top_k, top_p = how
    cut_p, cut_word = np.full(tables.parent.size, np.nan), np.zeros(tables.parent.size, np.int64)
    for b in range(blocks.shape[0]):
        context = tables.start
        for i in range(n_prompt):
            context = advance(tables, context, blocks[b, i], -1, -1)
        for i in range(n_prompt, blocks.shape[1]):
            chain = build_chain(tables, by_probability, context, temperature)
            if np.isnan(cut_p[context]):
                cut_p[context], cut_word[context] = truncate(tables, by_probability, chain, top_k, top_p)
            word, j = _draw(tables, by_probability, chain, cut_p[context], cut_word[context], rng)
            blocks[b, i] = word
            known_at = chain.context[j]
            context = advance(tables, context, word, known_at, find(tables, known_at, word) if known_at >= 0 else -1)
