"""Compiled loop of marked n-gram text."""

from __future__ import annotations

import numba
import numpy as np

from studbook.arrays import AnyArray
from studbook.learners._ngram_decoding import SortedRows, _draw, build_chain, truncate
from studbook.learners._ngram_kernels import advance, find
from studbook.learners._ngram_tables import Tables

_SIX, _BITS, _ONE = np.uint64(6), np.uint64(63), np.uint64(1)


@numba.njit(cache=True, nogil=True)
def sample_marked(
    tables: Tables,
    by_probability: SortedRows,
    how: tuple[float, int, float],
    mark: tuple[AnyArray, float],
    n_prompt: int,
    blocks: AnyArray,
    rng: np.random.Generator,
) -> None:
    """As ``sample_decoded``, and green words are e^delta times as likely as they were, beside the others.

    A word is drawn as if there were no mark, and taken if it is green; else it is taken with probability e^-delta, or another one is drawn.
    That is the marked law exactly. A block's first word has none before it, and no mark.

    Args:
        tables: The model.
        by_probability: Its rows, sorted.
        how: Temperature, top-k and top-p.
        mark: Green lists ``(V, ceil(V / 64))`` uint64 as bits, by the word before; and e^-delta.
        n_prompt: Tokens of the prompt.
        blocks: ``(n, length)``, the prompts given.
        rng: Where the randomness comes from.
    """
    temperature, top_k, top_p = how
    green, spared = mark
    cut_p, cut_word = np.full(tables.parent.size, np.nan), np.zeros(tables.parent.size, np.int64)
    for b in range(blocks.shape[0]):
        context = tables.start
        for i in range(n_prompt):
            context = advance(tables, context, blocks[b, i], -1, -1)
        for i in range(n_prompt, blocks.shape[1]):
            chain = build_chain(tables, by_probability, context, temperature)
            if np.isnan(cut_p[context]):
                cut_p[context], cut_word[context] = truncate(tables, by_probability, chain, top_k, top_p)
            while True:
                word, j = _draw(tables, by_probability, chain, cut_p[context], cut_word[context], rng)
                bit = np.uint64(word)
                if i == 0 or (green[blocks[b, i - 1], np.intp(bit >> _SIX)] >> (bit & _BITS)) & _ONE or rng.random() < spared:
                    break
            blocks[b, i] = word
            known_at = chain.context[j]
            context = advance(tables, context, word, known_at, find(tables, known_at, word) if known_at >= 0 else -1)
