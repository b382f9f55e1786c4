"""Where a generation's loss of diversity comes from: decoding, sampling noise, or the fit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from studbook.arrays import AnyArray, Batch, Floats, Kind
from studbook.errors import MetricError
from studbook.metrics import views
from studbook.metrics.protocols import Observation, Reference
from studbook.metrics.views import measured
from studbook.records import Measurement

KINDS = frozenset({Kind.TEXT, Kind.STATES})


@dataclass(frozen=True, slots=True)
class DriftParts:
    """``drift_parts.truncation``, ``.sampling``, ``.fitting``: what changes ``word_diversity`` in a generation.

    Diversity is the Rényi entropy of order 2 of single words (or states), D(p) = −ln Σp², in nats. For generation t with the training
    set T, the model M fitted to it, and the sample S that it writes with its decoding:

    - ``.fitting`` = D(M) − D(T): the model, written at temperature 1 without truncation or beams, against the words of its training set.
    - ``.truncation`` = D(S's law) − D(M): what the decoding does; exactly 0 where it is plain.
    - ``.sampling`` = −ln(F + (1 − F)/N) + ln F with F = Σp² of S's law: what N independent words (all of the sample) are expected to lose
      (Wright and Fisher: E Σp̂² = F + (1 − F)/N, exact; the words of one block depend on each other, so that text may lose more).
    - ``word_diversity`` = D(M) itself.

    Where the next generation trains on S alone, truncation and sampling of generation t and fitting of t + 1 sum to the change of
    ``word_diversity`` from t to t + 1, but for ln(E Σp̂² / Σp̂²) of the one sample that was drawn: its chance. That ratio's inverse has
    mean 1, so that the parts are all there is to the expected Σp²; the mean of D itself falls short of them by half the variance of its
    chance, 2(Σp³ − F²)/(N F²) a generation. The dependence within blocks is part of that chance. In any other mix the rest is the mix's
    doing.

    A model's untruncated law is asked for by its optional method ``plain()``: the same model without truncation, the model itself where
    it has none. A model without that method is taken to write plainly.

    Σp² of a law is estimated without bias from pairs of words of different blocks. Standard errors: delta method over blocks; none for
    what is exact. The training set's words and the sampling part's N are given.

    Attributes:
        limit: Blocks (or states) that are written without truncation, where the decoding isn't plain.

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import states
        >>> from studbook.metrics.drift_parts import DriftParts
        >>> from studbook.metrics.protocols import Observation, Reference
        >>> two = states(np.arange(100) % 2, 2)
        >>> seen = Observation(two, two, model=None, base=None)
        >>> found = {m.metric: m.value for m in DriftParts().measure(Reference(two, None), seen, rng=np.random.default_rng(0))}
        >>> found["drift_parts.truncation"], round(found["drift_parts.sampling"], 4)
        (0.0, -0.0102)
    """

    kinds: ClassVar[frozenset[Kind]] = KINDS
    limit: int = 256

    def __post_init__(self) -> None:
        views.require_range("drift_parts.limit", self.limit, 2, 1_000_000)

    def measure(self, reference: Reference, observation: Observation, *, rng: np.random.Generator) -> tuple[Measurement, ...]:
        """Write a plain sample where the decoding isn't plain, and compare.

        Args:
            reference: Unused.
            observation: The generation.
            rng: Of the plain sample.

        Raises:
            MetricError: Fewer than two blocks.
        """
        views.require_kind("drift_parts", observation.sample, self.kinds)
        sample, training = observation.sample, observation.training
        decoded, plain = coincidence(sample), plain_writer(observation.model)
        model = decoded if plain is None else coincidence(plain(min(len(sample), self.limit), rng))
        n_words = sample.values.size
        noise = -math.log1p((1 / decoded.value - 1) / n_words) or 0.0
        noise_slope = (1 / n_words) / (decoded.value * (decoded.value + (1 - decoded.value) / n_words))
        truncation, spread = decoded.entropy - model.entropy, math.hypot(model.entropy_stderr, decoded.entropy_stderr)
        before = -math.log(_plugin(training))
        return (
            measured("drift_parts.truncation", 0.0 if plain is None else truncation, None if plain is None else spread, n_words),
            measured("drift_parts.sampling", noise, noise_slope * decoded.stderr, n_words),
            measured("drift_parts.fitting", model.entropy - before, model.entropy_stderr, training.values.size),
            measured("word_diversity", model.entropy, model.entropy_stderr, n_words),
        )


@dataclass(frozen=True, slots=True)
class Coincidence:
    """An estimate of Σp².

    Attributes:
        value: Above 0, at most 1.
        stderr: Of ``value``.
    """

    value: float
    stderr: float

    @property
    def entropy(self) -> float:
        """−ln Σp², in nats, without the bias of second order that the logarithm adds."""
        return max(-math.log(self.value) - min(self.entropy_stderr, 0.5) ** 2 / 2, 0.0)

    @property
    def entropy_stderr(self) -> float:
        """Its standard error (delta method)."""
        return self.stderr / self.value


def coincidence(batch: Batch) -> Coincidence:
    """How often two words of different blocks agree: an unbiased estimate of Σp² of single words, whatever holds blocks together.

    Where no two words agree, half a pair does, and nothing is known of the error.

    Raises:
        MetricError: Fewer than two blocks.

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import text
        >>> from studbook.metrics.drift_parts import coincidence
        >>> coincidence(text(np.array([[0, 0], [0, 1]]), ("a", "b"))).value  # 2 of 4 pairs
        0.5
    """
    blocks, n = _blocks(batch), len(batch)
    if n < 2:
        raise MetricError(f"metric drift_parts needs two blocks or more, got {n}", hint="raise study.samples")
    length = blocks.shape[1]
    counts = np.bincount(blocks.ravel())
    with_all = counts[blocks].sum(axis=1, dtype=np.float64)
    with_others: Floats = (with_all - _within(blocks)) / (length * length * (n - 1))
    value = float(with_others.mean())
    if value <= 0.0:
        return Coincidence(0.5 / (length * length * n * (n - 1) / 2), math.inf)
    # A U-statistic of order two: each block counts in its own mean and in those of all others.
    return Coincidence(min(value, 1.0), 2.0 * float(np.std(with_others, ddof=1)) / math.sqrt(n))


def plain_writer(model: object) -> Callable[[int, np.random.Generator], Batch] | None:
    """What writes with the model's own probabilities, or ``None`` where the model does so anyway."""
    offered: Any = getattr(model, "plain", None)
    if offered is None:
        return None
    plain = offered()
    return None if plain is model else lambda n, rng: plain.sample(n, rng=rng)


def _plugin(batch: Batch) -> float:
    """Σp̂² of the words of a training set as it is fitted: by weights."""
    blocks = _blocks(batch)
    weights = None if batch.weights is None else np.repeat(batch.weights, blocks.shape[1])
    shares = np.bincount(blocks.ravel(), weights=weights).astype(np.float64)
    return float(((shares / shares.sum()) ** 2).sum())


def _blocks(batch: Batch) -> AnyArray:
    return batch.values.reshape(len(batch), -1)


def _within(blocks: AnyArray) -> Floats:
    """Pairs of equal words within each block, each word with itself too: ``(n,)``."""
    n, length = blocks.shape
    ordered = np.sort(blocks, axis=1)
    # Runs of equal words: their lengths squared, summed over the block.
    starts = np.ones((n, length), dtype=np.bool_)
    starts[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    positions = np.flatnonzero(starts)
    runs = np.diff(np.append(positions, n * length)).astype(np.float64)
    return np.asarray(np.bincount(positions // length, weights=runs**2, minlength=n), dtype=np.float64)
