"""What the text metrics share on one generation: which types it holds, its n-grams, its probabilities under generation 0's model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import numpy as np

from studbook.arrays import AnyArray, Batch, Floats, Ints, Kind
from studbook.errors import MetricError
from studbook.metrics import views
from studbook.metrics.protocols import Observation, Reference
from studbook.metrics.stderr import groups_of, jackknife_stderr
from studbook.rng import stream

TEXT = frozenset({Kind.TEXT})
N_GROUPS = 20
"""Groups of blocks of the jackknife: its own relative error is then some 16 %."""

N_SCORED = 500
"""Blocks that a network scores where no limit is given: a passage through it costs a share of its training, a table next to nothing."""

T = TypeVar("T")


def held(reference: Reference, key: str, owners: tuple[object, ...], build: Callable[[], T]) -> T:
    """``build()``, kept for these very ``owners`` until other ones ask.

    The metrics of a study look at one generation after the other through one reference: what they share is worked out once a
    generation, and no more than one generation is kept.
    """
    slot: list[tuple[tuple[object, ...], T]] = reference.memo(key, list)
    if slot:
        kept, value = slot[0]
        if all(a is b for a, b in zip(kept, owners, strict=True)):
            return value
    value = build()
    slot[:] = [(owners, value)]
    return value


def original_of(metric: str, reference: Reference) -> Batch:
    """The original blocks.

    Raises:
        MetricError: There are none, or they aren't text.
    """
    if reference.records is None:
        raise MetricError(f"metric {metric} needs the original text, and this reference has none", hint="use data with records")
    check_text(metric, reference.records)
    return reference.records


def check_text(metric: str, batch: Batch) -> None:
    """Refuse what isn't text, and no text at all.

    Raises:
        MetricError: Names the metric and what it got.
    """
    if batch.space.kind is not Kind.TEXT:
        raise MetricError(
            f"metric {metric} measures text, got {batch.space.kind.value}", hint="`studbook catalog` lists each kind's metrics"
        )
    if not batch.values.size:
        raise MetricError(f"metric {metric} got no text: {len(batch)} blocks", hint="raise study.samples")


def type_counts(metric: str, reference: Reference) -> Ints:
    """How often each word of the vocabulary occurs in the original: ``(V,)``."""
    original = original_of(metric, reference)
    return reference.memo("text.type_counts", lambda: np.bincount(original.values.ravel(), minlength=original.space.n_states))


def block_groups(batch: Batch) -> AnyArray:
    """The jackknife's group of each block."""
    return groups_of(len(batch), N_GROUPS).astype(np.int16)


def only_groups(metric: str, reference: Reference, sample: Batch) -> AnyArray:
    """For each word, the only group of the sample's blocks that holds it, or a negative mark (see ``text_kernels``)."""
    check_text(metric, sample)
    return held(reference, "text.only_groups", (sample,), partial(_only_group, sample.values, sample, sample.space.n_states))


def _only_group(numbers: AnyArray, sample: Batch, n_numbers: int) -> AnyArray:
    from studbook.metrics import text_kernels

    return np.asarray(text_kernels.only_group(_compiled(numbers), block_groups(sample), n_numbers))


def count_present(only: AnyArray, n_groups: int) -> tuple[int, Ints]:
    """How many numbers occur, and how many would without each group: ``(G,)``."""
    count = int((only != -1).sum())
    return count, count - np.bincount(only[only >= 0], minlength=n_groups)


def count_ngrams(reference: Reference, sample: Batch, n: int) -> tuple[int, Ints]:
    """Distinct n-grams within blocks, and how many would be left without each group."""
    numbers, count = _number_ngrams(reference, sample, n)
    return count_present(_only_group(numbers, sample, count), min(len(sample), N_GROUPS))


def _number_ngrams(reference: Reference, sample: Batch, n: int) -> tuple[AnyArray, int]:
    """The number of the n-gram at each position, and how many numbers there are."""
    from studbook.metrics import text_kernels

    n_words = sample.space.n_states
    if n == 1:
        return sample.values, n_words
    shorter, _ = _number_ngrams(reference, sample, n - 1)
    build = partial(text_kernels.number_ngrams, _compiled(shorter), _compiled(sample.values), n, n_words)
    numbers, count = held(reference, f"text.{n}-grams", (sample,), build)
    return numbers, count


def _compiled(values: AnyArray) -> AnyArray:
    """Writable int32: a read-only array would be another type to compiled code, and compiled anew."""
    return np.require(values, np.int32, ["C", "W"])


def log_probs(metric: str, model: object, batch: Batch, whose: str) -> Floats:
    """Natural log of each block's probability: ``(n,)``.

    Raises:
        MetricError: The model gives no probabilities.
    """
    check_text(metric, batch)
    if not hasattr(model, "log_prob"):
        raise MetricError(
            f"metric {metric} needs probabilities, {whose} ({type(model).__name__}) has no log_prob", hint="use another learner"
        )
    return np.asarray(model.log_prob(batch), dtype=np.float64)


def surprise_of_sample(metric: str, reference: Reference, observation: Observation, limit: int = 0) -> Floats:
    """Mean −ln p a token of generated blocks under generation 0's model: ``(n,)``, in nats, infinite where p = 0.

    See ``scored_blocks`` for which blocks.
    """
    sample, base = observation.sample, observation.base
    n = n_scored(base, limit)
    return held(reference, f"text.surprise_of_sample:{n}", (sample, base), partial(_surprise, metric, base, sample, n))


def surprise_of_original(metric: str, reference: Reference, base: object, limit: int = 0) -> Floats:
    """The same of the original blocks."""
    original, n = original_of(metric, reference), n_scored(base, limit)
    return held(reference, f"text.surprise_of_original:{n}", (base,), partial(_surprise, metric, base, original, n))


def n_scored(model: object, limit: int) -> int:
    """How many blocks ``model`` scores at most: ``limit``; where that is 0, ``N_SCORED`` under a network, all (0) under a table."""
    return limit or (N_SCORED if hasattr(model, "fit_report") else 0)


def scored_blocks(batch: Batch, n: int) -> Batch:
    """The batch, or ``n`` of its blocks drawn at random, the same at every call."""
    return views.thin(batch, n, rng=stream(0, "metrics", "perplexity")) if n else batch


def _surprise(metric: str, base: object, batch: Batch, n: int) -> Floats:
    check_text(metric, batch)
    return -log_probs(metric, base, scored_blocks(batch, n), "generation 0's model") / batch.space.dimension


def jackknife_of_share(left_out: Ints, whole: float) -> float:
    """Jackknife standard error of a count over a fixed ``whole``."""
    return jackknife_stderr(np.asarray(left_out) / whole)
