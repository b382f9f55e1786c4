"""Mean, spread and drift: what the first two moments say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from studbook.arrays import Floats, Kind
from studbook.errors import MetricError
from studbook.metrics import views
from studbook.metrics.protocols import Observation, Reference
from studbook.metrics.stderr import mean_stderr
from studbook.records import Measurement
from studbook.theory.laws import CategoricalLaw, Law


@dataclass(frozen=True, slots=True)
class Mean:
    """``mean``: the mean, averaged over the coordinates, in the data's unit.

    Exact for a model that knows its moments; on a sample, the standard error is s/√n of the records' own averages.

    Examples:
        >>> import numpy as np
        >>> from studbook.metrics.moments import Mean
        >>> from studbook.metrics.protocols import Reference
        >>> from studbook.theory.laws import GaussianLaw
        >>> law = GaussianLaw(np.array([[1.0, 3.0]]), np.eye(2)[None])
        >>> Mean().of_law(Reference(None, law), law)["mean"].tolist()
        [2.0]
    """

    kinds: ClassVar[frozenset[Kind]] = views.VECTORS

    def of_law(self, reference: Reference, law: Law) -> Mapping[str, Floats] | None:
        """See ``studbook.metrics.protocols.LawMetric``."""
        moments = _moments(law)
        return None if moments is None else {"mean": moments[0].mean(axis=1)}

    def measure(self, reference: Reference, observation: Observation, *, rng: np.random.Generator) -> tuple[Measurement, ...]:
        """See ``studbook.metrics.protocols.Metric``."""
        views.require_kind("mean", observation.sample, self.kinds)
        moments = _model_moments(observation.model)
        if moments is not None:
            return views.exact({"mean": moments[0].mean(axis=1)})
        averages = views.table("mean", observation.sample).mean(axis=1)
        return (views.measured("mean", averages.mean(), mean_stderr(averages), len(averages)),)


@dataclass(frozen=True, slots=True)
class Std:
    """``std``: the standard deviation √Σⱼⱼ, averaged over the coordinates, in the data's unit.

    Exact for a model that knows its moments. On a sample: the square root of the unbiased variance, with the delta method's standard
    error: a record's influence on √Σⱼⱼ is its squared deviation over 2√Σⱼⱼ. A constant coordinate adds 0 to both.

    Examples:
        >>> import numpy as np
        >>> from studbook.metrics.moments import Std
        >>> from studbook.metrics.protocols import Reference
        >>> from studbook.theory.laws import GaussianLaw
        >>> law = GaussianLaw(np.zeros((1, 2)), np.diag([1.0, 9.0])[None])
        >>> Std().of_law(Reference(None, law), law)["std"].tolist()
        [2.0]
    """

    kinds: ClassVar[frozenset[Kind]] = views.VECTORS

    def of_law(self, reference: Reference, law: Law) -> Mapping[str, Floats] | None:
        """See ``studbook.metrics.protocols.LawMetric``."""
        moments = _moments(law)
        return None if moments is None else {"std": _mean_std(moments[1])}

    def measure(self, reference: Reference, observation: Observation, *, rng: np.random.Generator) -> tuple[Measurement, ...]:
        """See ``studbook.metrics.protocols.Metric``."""
        views.require_kind("std", observation.sample, self.kinds)
        moments = _model_moments(observation.model)
        if moments is not None:
            return views.exact({"std": _mean_std(moments[1])})
        squares, variances = _squared_deviations(views.table("std", observation.sample))
        spreads = np.sqrt(variances)
        slopes = np.divide(0.5, spreads, out=np.zeros_like(spreads), where=spreads > 0)
        influence = squares @ slopes / len(spreads)
        return (views.measured("std", spreads.mean(), mean_stderr(influence), len(squares)),)


@dataclass(frozen=True, slots=True)
class Variance:
    """``variance``: the variance averaged over the coordinates, tr Σ / d, in the data's unit squared.

    Exact for a model that knows its moments. On a sample: the unbiased variance; the standard error is that of the mean of the
    records' squared deviations (delta method; it needs no normality).

    Examples:
        >>> import numpy as np
        >>> from studbook.metrics.moments import Variance
        >>> from studbook.metrics.protocols import Reference
        >>> from studbook.theory.laws import PoissonLaw
        >>> law = PoissonLaw(np.array([4.0, 0.0]))
        >>> Variance().of_law(Reference(None, law), law)["variance"].tolist()
        [4.0, 0.0]
    """

    kinds: ClassVar[frozenset[Kind]] = views.VECTORS

    def of_law(self, reference: Reference, law: Law) -> Mapping[str, Floats] | None:
        """See ``studbook.metrics.protocols.LawMetric``."""
        moments = _moments(law)
        return None if moments is None else {"variance": _mean_variance(moments[1])}

    def measure(self, reference: Reference, observation: Observation, *, rng: np.random.Generator) -> tuple[Measurement, ...]:
        """See ``studbook.metrics.protocols.Metric``."""
        views.require_kind("variance", observation.sample, self.kinds)
        moments = _model_moments(observation.model)
        if moments is not None:
            return views.exact({"variance": _mean_variance(moments[1])})
        squares, variances = _squared_deviations(views.table("variance", observation.sample))
        return (views.measured("variance", variances.mean(), mean_stderr(squares.mean(axis=1)), len(squares)),)


@dataclass(frozen=True, slots=True)
class Drift:
    """``drift``: how far the mean has wandered from the original's, ‖μ − μ₀‖² / d, in the data's unit squared.

    μ₀ is the mean of the source's law, or of the original records where no law is known. Exact for a model that knows its moments. On a
    sample the plug-in exceeds the law's value by tr Σ / (d·n), which is taken off: the estimate is unbiased, and so it may be slightly
    negative where there is no drift. Standard error: for deviations δ = μ̂ − μ₀, √(4 δ'Σδ/n + 2 tr Σ²/n²)/d, the first term debiased in
    the same way but not below 0, which makes it up to √2 too large where there is no drift.

    Examples:
        >>> import numpy as np
        >>> from studbook.metrics.moments import Drift
        >>> from studbook.metrics.protocols import Reference
        >>> from studbook.theory.laws import GaussianLaw
        >>> source, law = (GaussianLaw(np.array([[mean]]), np.ones((1, 1, 1))) for mean in (0.0, 3.0))
        >>> Drift().of_law(Reference(None, source), law)["drift"].tolist()
        [9.0]
    """

    kinds: ClassVar[frozenset[Kind]] = views.VECTORS

    def of_law(self, reference: Reference, law: Law) -> Mapping[str, Floats] | None:
        """See ``studbook.metrics.protocols.LawMetric``."""
        moments = _moments(law)
        return None if moments is None else {"drift": ((moments[0] - _origin(reference)) ** 2).mean(axis=1)}

    def measure(self, reference: Reference, observation: Observation, *, rng: np.random.Generator) -> tuple[Measurement, ...]:
        """See ``studbook.metrics.protocols.Metric``."""
        views.require_kind("drift", observation.sample, self.kinds)
        moments = _model_moments(observation.model)
        if moments is not None:
            return views.exact({"drift": ((moments[0] - _origin(reference)) ** 2).mean(axis=1)})
        values = views.table("drift", observation.sample)
        shift = values.mean(axis=0) - _origin(reference)
        excess = _squared_deviations(values)[1].mean() / len(values)
        return (views.measured("drift", (shift**2).mean() - excess, _drift_stderr(values, shift), len(values)),)


def _drift_stderr(values: Floats, shift: Floats) -> float:
    """√(4 δ'Σδ/n + 2 tr Σ²/n²)/d, with tr Σ² from the smaller of the d × d and n × n Gram matrices."""
    n, d = values.shape
    if n < 2:
        return float("inf")
    centred = values - values.mean(axis=0)
    # Fourth powers leave the range of doubles long before the values do.
    scale = max(float(np.abs(centred).max()), float(np.abs(shift).max())) or 1.0
    centred, shift = centred / scale, shift / scale
    gram = centred.T @ centred if d <= n else centred @ centred.T
    trace_of_square = float((gram**2).sum()) / (n - 1) ** 2
    along = float(((centred @ shift) ** 2).sum()) / (n - 1)
    # δ̂'Σδ̂ exceeds δ'Σδ by tr Σ²/n, because δ̂ is a sample mean.
    along = max(along - trace_of_square / n, 0.0)
    return float(np.sqrt(4 * along / n + 2 * trace_of_square / n**2) / d) * scale**2


def _origin(reference: Reference) -> Floats:
    """The original's mean ``(d,)``."""
    return reference.memo("mean", lambda: _build_origin(reference))


def _build_origin(reference: Reference) -> Floats:
    moments = None if reference.law is None else _moments(reference.law)
    if moments is not None:
        return np.asarray(moments[0][0])
    if reference.records is None:
        raise MetricError("metric drift needs the original's mean, and this reference has neither records nor a law with moments")
    mean: Floats = views.table("drift", reference.records).mean(axis=0)
    return mean


def _moments(law: Law) -> tuple[Floats, Floats] | None:
    return None if isinstance(law, CategoricalLaw) else law.moments()


def _model_moments(model: object) -> tuple[Floats, Floats] | None:
    """Exact moments of a model: its law's, or what it says of itself."""
    law = views.law_of(model)
    if law is not None:
        return _moments(law)
    return model.moments() if isinstance(model, views.HasMoments) else None


def _mean_std(covariance: Floats) -> Floats:
    diagonal = np.diagonal(covariance, axis1=-2, axis2=-1)
    std: Floats = np.sqrt(np.maximum(diagonal, 0.0)).mean(axis=-1)
    return std


def _mean_variance(covariance: Floats) -> Floats:
    variance: Floats = np.diagonal(covariance, axis1=-2, axis2=-1).mean(axis=-1)
    return variance


def _squared_deviations(values: Floats) -> tuple[Floats, Floats]:
    """Squared deviations from the mean ``(n, d)`` and the unbiased variances ``(d,)``; a single record has variance 0."""
    squares = (values - values.mean(axis=0)) ** 2
    return squares, squares.sum(axis=0) / max(len(values) - 1, 1)
