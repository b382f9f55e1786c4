"""A bigram generation on 512,000 words (fit, sample, measure), against fitting and sampling a bigram model with NLTK.

NLTK has two ways: ``nltk.lm.MLE`` with ``generate``, and ``ConditionalFreqDist`` with a ``ConditionalProbDist``. Both are fitted to the
whole text; only a few blocks are generated (and measured: types, distinct n-grams, perplexity), and that time is extrapolated. The
faster way counts.
"""

from __future__ import annotations

import json
import os
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from studbook.arrays import Batch, text
from studbook.learners.ngram import NGram
from studbook.metrics.protocols import Observation, Reference
from studbook.metrics.text import Distinct, RareSurvival, Types, TypesShare
from studbook.metrics.text_perplexity import BlockPerplexity, HighPerplexityShare, LowPerplexityShare, OwnPerplexity
from studbook.rng import stream

N_WORDS, LENGTH = 512_000, 64
TARGET = 300.0
ROOT = Path(__file__).resolve().parent.parent
METRICS = (
    Types(),
    TypesShare(),
    RareSurvival(),
    Distinct(1),
    Distinct(2),
    Distinct(3),
    OwnPerplexity(),
    BlockPerplexity(),
    LowPerplexityShare(),
    HighPerplexityShare(),
)


def read_words(path: Path | None) -> tuple[list[str], str]:
    """512,000 words, a shorter text repeated, and where they come from: a file, WikiText-2 where it is at hand, else python-docs."""
    folder = Path(os.environ.get("STUDBOOK_TEST_DATA", ROOT.parent / "shared" / "data"))
    chosen = path or folder / "wikitext-2" / "train-sample.txt"
    if path is not None or chosen.is_file():
        words, name = chosen.read_text(encoding="utf-8").split(), "WikiText-2" if path is None else chosen.name
    else:
        from studbook.data.python_docs import python_english

        words, name = python_english().split(), "python-docs"
    words = words[:N_WORDS] if len(words) >= N_WORDS else (words * (N_WORDS // len(words) + 1))[:N_WORDS]
    return words, name


def as_batch(words: list[str]) -> Batch:
    """The words as blocks of 64 token ids."""
    number = {word: i for i, word in enumerate(dict.fromkeys(words))}
    return text(np.array([number[word] for word in words]).reshape(-1, LENGTH), tuple(number))


def generation(batch: Batch, repeats: int) -> dict[str, float]:
    """Median CPU seconds of fitting, sampling as many words again and measuring them, compiled beforehand."""
    learner, rng = NGram(order=2, discount=0.0), stream(0, "ngram", "bench")
    reference, base = Reference(batch, None), learner.fit(batch, rng=rng)
    times = []
    for i in range(repeats + 1):
        start = time.process_time()
        model = learner.fit(batch, rng=rng)
        fitted = time.process_time()
        sample = model.sample(len(batch), rng=rng)
        sampled = time.process_time()
        observation = Observation(sample=sample, training=batch, model=model, base=base)
        for metric in METRICS:
            metric.measure(reference, observation, rng=rng)
        if i:  # the first round compiles and works out what the metrics keep about the original
            times.append((fitted - start, sampled - fitted, time.process_time() - sampled))
    fit, sampling, measuring = np.median(times, axis=0).tolist()
    return {"fit_s": fit, "sample_s": sampling, "measure_s": measuring, "total_s": float(np.median(np.sum(times, axis=1)))}


def nltk_frequencies(nltk: Any, blocks: list[list[str]], n_blocks: int) -> float:
    """CPU seconds of a generation with ``ConditionalFreqDist`` and ``ConditionalProbDist``, extrapolated from ``n_blocks``."""
    start = time.process_time()
    counts = nltk.ConditionalFreqDist(pair for block in blocks for pair in pairwise(["<s>", *block]))
    law = nltk.ConditionalProbDist(counts, nltk.MLEProbDist)
    fitted = time.process_time()
    for _ in range(n_blocks):
        block = ["<s>"]
        for _ in range(LENGTH):
            block.append(law[block[-1] if block[-1] in counts else "<s>"].generate())
        nltk.FreqDist(block[1:])
        for n in (2, 3):
            set(nltk.ngrams(block[1:], n))
        sum(law[before].logprob(word) for before, word in pairwise(block) if before in counts)
    return fitted - start + (time.process_time() - fitted) * len(blocks) / n_blocks


def nltk_language_model(nltk: Any, blocks: list[list[str]], n_words: int) -> float:
    """CPU seconds of a generation with ``nltk.lm.MLE``, extrapolated from ``n_words``."""
    from nltk.lm import MLE
    from nltk.lm.preprocessing import padded_everygram_pipeline

    start = time.process_time()
    model = MLE(2)
    model.fit(*padded_everygram_pipeline(2, blocks))
    fitted = time.process_time()
    model.generate(n_words, text_seed=["<s>"], random_seed=0)
    return fitted - start + (time.process_time() - fitted) * len(blocks) * LENGTH / n_words


def run(path: Path | None = None, *, repeats: int = 7, n_blocks: int = 60, n_words: int = 64) -> dict[str, Any]:
    """One row of the table.

    Args:
        path: A text file; by default see :func:`read_words`.
        repeats: Timed generations of ours; the median counts.
        n_blocks: Blocks that NLTK's ``ConditionalProbDist`` generates.
        n_words: Words that ``nltk.lm.MLE`` generates.
    """
    try:
        import nltk
    except ImportError:
        raise SystemExit("the n-gram benchmark needs NLTK: pip install nltk (or: pip install --group bench)") from None
    words, name = read_words(path)
    blocks = [words[i : i + LENGTH] for i in range(0, len(words), LENGTH)]
    ours = generation(as_batch(words), repeats)
    peers = {
        "ConditionalProbDist": nltk_frequencies(nltk, blocks, n_blocks),
        "nltk.lm.MLE": nltk_language_model(nltk, blocks, n_words),
    }
    fastest = min(peers, key=peers.__getitem__)
    detail = (
        f"{name}, {len(words):,} words: fit {ours['fit_s']:.3f} s, sample {ours['sample_s']:.3f} s, "
        f"{len(METRICS)} metrics {ours['measure_s']:.3f} s, "
        f"{len(words) / ours['total_s'] / 1e6:.1f} M words/s; NLTK's {fastest} extrapolated from {n_blocks} blocks "
        f"(the other way: {max(peers.values()):,.0f} s)"
    )
    return {
        "name": "bigram generation, 512k words",
        "ours_s": ours["total_s"],
        "peer_s": peers[fastest],
        "ratio": peers[fastest] / ours["total_s"],
        "target": TARGET,
        "detail": detail,
        "words_per_s": len(words) / ours["total_s"],
    }


if __name__ == "__main__":
    print(json.dumps(run(Path(sys.argv[1]) if len(sys.argv) > 1 else None), indent=2))
