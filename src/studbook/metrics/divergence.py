"""Divergences between a generation's law and the original's, for discrete records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from studbook.arrays import Floats, Ints, Kind
from studbook.metrics import estimators, views
from studbook.metrics.histograms import Histogram, blocks_stderr, original_probabilities
from studbook.metrics.protocols import Observation, Reference
from studbook.records import Measurement
from studbook.theory.laws import CategoricalLaw, Law, PoissonLaw


@dataclass(frozen=True, slots=True)
class KullbackLeibler:
    """``kl``: relative entropy of the generation to the original, Σ q ln(q/p), in nats; q is the generation, p the original.

    This direction stays finite when states die, which is what happens in collapse; the other would be infinite from the first loss on.
    It is infinite only where the generation holds a state that the original lacks. The original is the source's law where it is known,
    else the frequencies in its records. Exact for categorical laws, and for a Poisson law against a Poisson law (λ ln(λ/λ₀) − λ + λ₀).
    On a sample: the plug-in less Miller and Madow's (K̂ − 1)/(2n), nearly unbiased and so slightly negative at times where the two agree.
    Standard error: the jackknife that deletes each record in turn (for text, groups of blocks), which errs upwards, by √2 at most
    where the two agree. An infinite value has an infinite standard error.

    Examples:
        >>> import numpy as np
        >>> from studbook.metrics.divergence import KullbackLeibler
        >>> from studbook.metrics.protocols import Reference
        >>> from studbook.theory.laws import CategoricalLaw
        >>> source, law = CategoricalLaw(np.array([[0.5, 0.5]])), CategoricalLaw(np.array([[0.5, 0.5], [1.0, 0.0]]))
        >>> KullbackLeibler().of_law(Reference(None, source), law)["kl"].round(4).tolist()
        [0.0, 0.6931]
    """

    kinds: ClassVar[frozenset[Kind]] = views.DISCRETE

    def of_law(self, reference: Reference, law: Law) -> Mapping[str, Floats] | None:
        """See ``studbook.metrics.protocols.LawMetric``."""
        if isinstance(law, CategoricalLaw):
            from scipy.special import rel_entr

            return {"kl": np.asarray(rel_entr(law.probabilities, _row("kl", reference, law))).sum(axis=1)}
        if isinstance(law, PoissonLaw) and isinstance(reference.law, PoissonLaw):
            from scipy.special import kl_div

            return {"kl": np.asarray(kl_div(law.rate, reference.law.rate))}
        return None

    def measure(self, reference: Reference, observation: Observation, *, rng: np.random.Generator) -> tuple[Measurement, ...]:
        """See ``studbook.metrics.protocols.Metric``."""
        views.require_kind("kl", observation.sample, self.kinds)
        known = views.from_law(self, reference, observation.model)
        if known is not None:
            return known
        histogram = Histogram.of_batch(observation.sample)
        p = original_probabilities("kl", reference, histogram.values)
        if not p.all():
            return (views.measured("kl", float("inf"), float("inf"), histogram.total),)
        if observation.sample.space.kind is Kind.TEXT:
            stderr = blocks_stderr(observation.sample, histogram, lambda counts: estimators.relative_entropy(counts, p))
        else:
            stderr = estimators.relative_entropy_stderr(histogram.counts, p)
        return (views.measured("kl", float(estimators.relative_entropy(histogram.counts, p)), stderr, histogram.total),)


@dataclass(frozen=True, slots=True)
class TotalVariation:
    """``tv``: total variation distance to the original, ½ Σ|q − p|, from 0 to 1.

    The original is the source's law where it is known, else the frequencies in its records. Exact for categorical laws, and for a
    Poisson law against a Poisson law, where it is the difference of the two distribution functions at the one point where the
    probabilities cross. On a sample it is the plug-in, which exceeds the law's value by about Σ√(q/(2πn)) where the two agree; the
    standard error treats the frequencies as normal and |q̂ − p| as folded normal, and for text is the delete-a-group jackknife's over
    blocks.

    Examples:
        >>> import numpy as np
        >>> from studbook.metrics.divergence import TotalVariation
        >>> from studbook.metrics.protocols import Reference
        >>> from studbook.theory.laws import CategoricalLaw
        >>> source, law = CategoricalLaw(np.array([[0.5, 0.5]])), CategoricalLaw(np.array([[0.5, 0.5], [1.0, 0.0]]))
        >>> TotalVariation().of_law(Reference(None, source), law)["tv"].tolist()
        [0.0, 0.5]
    """

    kinds: ClassVar[frozenset[Kind]] = views.DISCRETE

    def of_law(self, reference: Reference, law: Law) -> Mapping[str, Floats] | None:
        """See ``studbook.metrics.protocols.LawMetric``."""
        if isinstance(law, CategoricalLaw):
            return {"tv": 0.5 * np.abs(law.probabilities - _row("tv", reference, law)).sum(axis=1)}
        if isinstance(law, PoissonLaw) and isinstance(reference.law, PoissonLaw):
            return {"tv": _between_poissons(law.rate, float(reference.law.rate[0]))}
        return None

    def measure(self, reference: Reference, observation: Observation, *, rng: np.random.Generator) -> tuple[Measurement, ...]:
        """See ``studbook.metrics.protocols.Metric``."""
        views.require_kind("tv", observation.sample, self.kinds)
        known = views.from_law(self, reference, observation.model)
        if known is not None:
            return known
        histogram = Histogram.of_batch(observation.sample)
        p = original_probabilities("tv", reference, histogram.values)
        if observation.sample.space.kind is Kind.TEXT:
            stderr = blocks_stderr(observation.sample, histogram, lambda counts: _total_variation(counts, p))
        else:
            stderr = estimators.total_variation_stderr(histogram.counts, histogram.shares - p)
        return (views.measured("tv", float(_total_variation(histogram.counts, p)), stderr, histogram.total),)


def _row(metric: str, reference: Reference, law: CategoricalLaw) -> Floats:
    """The original's probabilities ``(K,)`` of the law's states."""
    n_states = law.probabilities.shape[1]
    return reference.memo(f"probabilities:{n_states}", lambda: original_probabilities(metric, reference, np.arange(n_states)))


def _total_variation(counts: Ints, p: Floats) -> Floats:
    """1 − Σ min(q̂, p): states that the counts lack add nothing to the sum."""
    shares = counts / counts.sum(axis=-1, keepdims=True)
    return np.asarray(np.maximum(1.0 - np.minimum(shares, p).sum(axis=-1), 0.0))


def _between_poissons(rates: Floats, source: float) -> Floats:
    """Probabilities cross once, at (λ − λ₀)/ln(λ/λ₀), because their ratio is monotone."""
    from scipy.special import pdtr

    low, high = np.minimum(rates, source), np.maximum(rates, source)
    apart = (low > 0) & (high > low)
    ratio = np.log(np.divide(high, low, out=np.ones_like(low), where=apart))
    crossing = np.floor(np.divide(high - low, ratio, out=np.zeros_like(low), where=apart & (ratio > 0)))
    distance: Floats = np.abs(pdtr(crossing, low) - pdtr(crossing, high))
    return distance
