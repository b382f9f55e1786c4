"""How many states are alive, and how evenly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from studbook.arrays import Batch, Floats, Kind
from studbook.errors import MetricError
from studbook.metrics import estimators, views
from studbook.metrics.histograms import Histogram, blocks_stderr, original_histogram, poisson_probabilities
from studbook.metrics.protocols import Observation, Reference
from studbook.records import Measurement
from studbook.theory.laws import CategoricalLaw, Law, PoissonLaw


@dataclass(frozen=True, slots=True)
class Support:
    """``support``: states alive. Of a law: states of probability above 0. Of a sample: distinct states (counts, tokens) in it.

    A sample can only miss states, so its value is a lower bound of the law's. The standard error is that of the number seen in a sample
    of this size: for independent records √(E K(2n) − E K(n) − (E f₁)²/n), with the growth by Chao's estimator (see
    ``studbook.metrics.estimators.support_stderr``); for text the delete-a-group jackknife over blocks, which errs upwards.
    A Poisson law has every count in its support, so its model is measured on a sample.

    Examples:
        >>> import numpy as np
        >>> from studbook.metrics.diversity import Support
        >>> from studbook.metrics.protocols import Reference
        >>> from studbook.theory.laws import CategoricalLaw
        >>> law = CategoricalLaw(np.array([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]]))
        >>> Support().of_law(Reference(None, law), law)["support"].tolist()
        [2.0, 1.0]
    """

    kinds: ClassVar[frozenset[Kind]] = views.DISCRETE

    def of_law(self, reference: Reference, law: Law) -> Mapping[str, Floats] | None:
        """See ``studbook.metrics.protocols.LawMetric``."""
        return {"support": _alive(law)} if isinstance(law, CategoricalLaw) else None

    def measure(self, reference: Reference, observation: Observation, *, rng: np.random.Generator) -> tuple[Measurement, ...]:
        """See ``studbook.metrics.protocols.Metric``."""
        views.require_kind("support", observation.sample, self.kinds)
        known = views.from_law(self, reference, observation.model)
        if known is not None:
            return known
        value, stderr, n = _seen(observation.sample)
        return (views.measured("support", value, stderr, n),)


@dataclass(frozen=True, slots=True)
class SupportShare:
    """``support_share``: states alive as a share of the original's.

    The original's states are those of its law where that is known, else the distinct ones in its records. For a Poisson law, whose
    support has no end: the distinct counts expected in as many draws as the sample holds, Σₖ 1 − (1 − pₖ)ⁿ. It may exceed 1 where fresh
    records bring states that the original lacks. The standard error is that of ``Support`` over the original's states.

    Examples:
        >>> import numpy as np
        >>> from studbook.metrics.diversity import SupportShare
        >>> from studbook.metrics.protocols import Reference
        >>> from studbook.theory.laws import CategoricalLaw
        >>> source, law = (CategoricalLaw(np.array([p])) for p in ([0.25] * 4, [0.5, 0.5, 0.0, 0.0]))
        >>> SupportShare().of_law(Reference(None, source), law)["support_share"].tolist()
        [0.5]
    """

    kinds: ClassVar[frozenset[Kind]] = views.DISCRETE

    def of_law(self, reference: Reference, law: Law) -> Mapping[str, Floats] | None:
        """See ``studbook.metrics.protocols.LawMetric``."""
        if not isinstance(law, CategoricalLaw):
            return None
        return {"support_share": _alive(law) / _original_support(reference, 0)}

    def measure(self, reference: Reference, observation: Observation, *, rng: np.random.Generator) -> tuple[Measurement, ...]:
        """See ``studbook.metrics.protocols.Metric``."""
        views.require_kind("support_share", observation.sample, self.kinds)
        known = views.from_law(self, reference, observation.model)
        if known is not None:
            return known
        value, stderr, n = _seen(observation.sample)
        whole = _original_support(reference, n)
        return (views.measured("support_share", value / whole, stderr / whole, n),)


@dataclass(frozen=True, slots=True)
class Heterozygosity:
    """``heterozygosity``: the probability 1 − Σp² that two draws differ (Nei 1978; Simpson's index of diversity).

    Exact for categorical and Poisson laws (1 − e^{−2λ} I₀(2λ)). On a sample: the unbiased n/(n−1)·(1 − Σp̂²), with the standard error
    of this U-statistic (Hoeffding 1948), second-order term included; a text counts its tokens, with the delete-a-group jackknife over
    blocks.

    Examples:
        >>> import numpy as np
        >>> from studbook.metrics.diversity import Heterozygosity
        >>> from studbook.metrics.protocols import Reference
        >>> from studbook.theory.laws import CategoricalLaw
        >>> law = CategoricalLaw(np.array([[0.5, 0.5], [1.0, 0.0]]))
        >>> Heterozygosity().of_law(Reference(None, law), law)["heterozygosity"].tolist()
        [0.5, 0.0]
    """

    kinds: ClassVar[frozenset[Kind]] = views.DISCRETE

    def of_law(self, reference: Reference, law: Law) -> Mapping[str, Floats] | None:
        """See ``studbook.metrics.protocols.LawMetric``."""
        if isinstance(law, CategoricalLaw):
            return {"heterozygosity": 1.0 - np.einsum("rk,rk->r", law.probabilities, law.probabilities)}
        if isinstance(law, PoissonLaw):
            from scipy.special import i0e

            return {"heterozygosity": 1.0 - np.asarray(i0e(2.0 * law.rate))}
        return None

    def measure(self, reference: Reference, observation: Observation, *, rng: np.random.Generator) -> tuple[Measurement, ...]:
        """See ``studbook.metrics.protocols.Metric``."""
        views.require_kind("heterozygosity", observation.sample, self.kinds)
        known = views.from_law(self, reference, observation.model)
        if known is not None:
            return known
        histogram = Histogram.of_batch(observation.sample)
        if observation.sample.space.kind is Kind.TEXT:
            stderr = blocks_stderr(observation.sample, histogram, estimators.heterozygosity)
        else:
            stderr = estimators.heterozygosity_stderr(histogram.counts)
        return (views.measured("heterozygosity", float(estimators.heterozygosity(histogram.counts)), stderr, histogram.total),)


@dataclass(frozen=True, slots=True)
class Entropy:
    """``entropy``: Shannon entropy −Σ p ln p, in nats.

    Exact for categorical and Poisson laws. On a sample: the plug-in entropy with Miller and Madow's (1955) correction (K̂ − 1)/(2n) for K̂
    distinct states seen; it knows nothing of states that weren't, so long tails stay underestimated. Standard error: the jackknife that
    deletes each record in turn (for text, groups of blocks), which errs upwards, by √2 at most where all states are equally frequent.

    Examples:
        >>> import numpy as np
        >>> from studbook.metrics.diversity import Entropy
        >>> from studbook.metrics.protocols import Reference
        >>> from studbook.theory.laws import CategoricalLaw
        >>> law = CategoricalLaw(np.array([[0.5, 0.5], [1.0, 0.0]]))
        >>> Entropy().of_law(Reference(None, law), law)["entropy"].round(4).tolist()
        [0.6931, 0.0]
    """

    kinds: ClassVar[frozenset[Kind]] = views.DISCRETE

    def of_law(self, reference: Reference, law: Law) -> Mapping[str, Floats] | None:
        """See ``studbook.metrics.protocols.LawMetric``."""
        if isinstance(law, CategoricalLaw):
            from scipy.special import entr

            return {"entropy": np.asarray(entr(law.probabilities)).sum(axis=1)}
        return {"entropy": _poisson_entropy(law.rate)} if isinstance(law, PoissonLaw) else None

    def measure(self, reference: Reference, observation: Observation, *, rng: np.random.Generator) -> tuple[Measurement, ...]:
        """See ``studbook.metrics.protocols.Metric``."""
        views.require_kind("entropy", observation.sample, self.kinds)
        known = views.from_law(self, reference, observation.model)
        if known is not None:
            return known
        histogram = Histogram.of_batch(observation.sample)
        if observation.sample.space.kind is Kind.TEXT:
            stderr = blocks_stderr(observation.sample, histogram, estimators.entropy)
        else:
            stderr = estimators.entropy_stderr(histogram.counts)
        return (views.measured("entropy", float(estimators.entropy(histogram.counts)), stderr, histogram.total),)


@dataclass(frozen=True, slots=True)
class Extinct:
    """``extinct``: 1 if nothing but 0 is left, else 0; its mean over replicates is the share of extinct runs.

    Exact for a Poisson law (rate 0), and for a sample that holds a count above 0. For a sample of zeros it is 1, with the standard
    error 1/(n + 2): the probability that the next record isn't 0, by Laplace's rule of succession.

    Examples:
        >>> import numpy as np
        >>> from studbook.metrics.diversity import Extinct
        >>> from studbook.metrics.protocols import Reference
        >>> from studbook.theory.laws import PoissonLaw
        >>> law = PoissonLaw(np.array([0.25, 0.0]))
        >>> Extinct().of_law(Reference(None, law), law)["extinct"].tolist()
        [0.0, 1.0]
    """

    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.COUNTS})

    def of_law(self, reference: Reference, law: Law) -> Mapping[str, Floats] | None:
        """See ``studbook.metrics.protocols.LawMetric``."""
        return {"extinct": (law.rate == 0).astype(np.float64)} if isinstance(law, PoissonLaw) else None

    def measure(self, reference: Reference, observation: Observation, *, rng: np.random.Generator) -> tuple[Measurement, ...]:
        """See ``studbook.metrics.protocols.Metric``."""
        views.require_kind("extinct", observation.sample, self.kinds)
        known = views.from_law(self, reference, observation.model)
        if known is not None:
            return known
        n = len(observation.sample)
        if observation.sample.values.any():
            return (views.measured("extinct", 0.0, None, n),)
        return (views.measured("extinct", 1.0, 1.0 / (n + 2), n),)


def _alive(law: CategoricalLaw) -> Floats:
    return np.asarray(np.count_nonzero(law.probabilities > 0, axis=1), dtype=np.float64)


def _seen(sample: Batch) -> tuple[float, float, int]:
    """Distinct symbols of a sample, the standard error of their number, and how many symbols it holds."""
    histogram = Histogram.of_batch(sample)
    if sample.space.kind is Kind.TEXT:
        stderr = blocks_stderr(sample, histogram, lambda counts: np.count_nonzero(counts, axis=1))
        return float(len(histogram.values)), stderr, histogram.total
    return float(len(histogram.values)), estimators.support_stderr(histogram.counts), histogram.total


def _original_support(reference: Reference, n: int) -> float:
    if isinstance(reference.law, CategoricalLaw):
        return float(_alive(reference.law)[0])
    if reference.records is not None:
        return float(len(original_histogram("support_share", reference).values))
    if isinstance(reference.law, PoissonLaw):
        rate = float(reference.law.rate[0])
        reach = 12 * np.sqrt(rate) + 30
        probabilities = poisson_probabilities(np.arange(max(int(rate - reach), 0), int(rate + reach) + 1), rate)
        return float(-np.expm1(n * np.log1p(-np.minimum(probabilities, 1 - 1e-16))).sum())
    raise MetricError("metric support_share needs the original records or their law, and this reference has neither")


def _poisson_entropy(rates: Floats) -> Floats:
    """Entropy of Poisson laws in nats: the sum below a rate of 300, above it the expansion in 1/λ, whose error there is below 1e-10."""
    from scipy.special import entr, gammaln, xlogy

    safe = np.maximum(rates, 300.0)
    expansion = 0.5 * np.log(2 * np.pi * np.e * safe) - 1 / (12 * safe) - 1 / (24 * safe**2) - 19 / (360 * safe**3)
    small = rates[rates < 300.0]
    if not len(small):
        return np.asarray(expansion)
    grid = np.arange(int(small.max() + 12 * np.sqrt(small.max())) + 31)
    log_p = xlogy(grid, small[:, None]) - small[:, None] - gammaln(grid + 1.0)
    expansion[rates < 300.0] = np.asarray(entr(np.exp(log_p))).sum(axis=1)
    return np.asarray(expansion)
