"""What a run keeps of its samples, so that the report can show them: a few generations of the first replicate."""

from __future__ import annotations

import numpy as np

from studbook.arrays import AnyArray, Batch, Kind
from studbook.data import join_tokens

N_GENERATIONS = 8
N_IMAGES = 40
N_BLOCKS = 6
N_VALUES = 2_000


def shown_generations(last: int) -> frozenset[int]:
    """At most eight generations, the first and the last included, closer together where things change first."""
    if last < N_GENERATIONS:
        return frozenset(range(last + 1))
    steps = np.geomspace(1, last, N_GENERATIONS - 1)
    return frozenset({0, last, *(round(float(step)) for step in steps)})


def sketch(batch: Batch) -> AnyArray:
    """What is kept of one generation's sample.

    Returns:
        Images: up to 40, uint8. Text: counts by rank. States: counts by rank. Numbers and counts: up to 2,000 values of the first column.
    """
    kind = batch.space.kind
    if kind is Kind.IMAGES:
        low, high = batch.space.value_range
        pixels = (batch.values[:N_IMAGES] - low) / ((high - low) or 1.0)
        return np.round(np.clip(pixels, 0.0, 1.0) * 255).astype(np.uint8)
    if kind in {Kind.TEXT, Kind.STATES}:
        counts = np.bincount(batch.values.ravel(), minlength=batch.space.n_states)
        return np.sort(counts[counts > 0])[::-1].astype(np.int64)
    return batch.flat[:N_VALUES, 0].astype(np.float64)


def excerpts(batch: Batch) -> list[str]:
    """Up to six blocks as words; empty for what isn't text."""
    if batch.space.kind is not Kind.TEXT:
        return []
    return [join_tokens(block, batch.space) for block in batch.values[:N_BLOCKS]]
