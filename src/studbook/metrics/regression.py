"""Error of regression weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np

from studbook.arrays import Floats, Kind
from studbook.errors import MetricError
from studbook.metrics import views
from studbook.metrics.protocols import Observation, Reference
from studbook.records import Measurement
from studbook.theory.laws import GaussianLaw


@runtime_checkable
class HasCoefficients(Protocol):
    """A linear regression of the last column on the others: ``coefficients`` ``(d,)``, and an ``intercept``, not 0 if fitted."""

    @property
    def coefficients(self) -> Floats: ...


@dataclass(frozen=True, slots=True)
class WeightError:
    """``weight_error``: excess risk of the regression weights, ‖ŵ − w₀‖²_S = (ŵ − w₀)'S(ŵ − w₀), in the label's unit squared.

    It is the test error above the noise (Dohmatob, Feng and Kempe 2024). S holds the second moments E xx' of the original's features, or
    their covariance for a model with an intercept; for a centred source these are equal. w₀ are the weights that the original implies:
    S⁻¹ E xy (or S⁻¹ Cov(x, y)) of a source's Gaussian law; for real data, generation 0's weights. Exact, given the model.

    Examples:
        >>> import numpy as np
        >>> from types import SimpleNamespace
        >>> from studbook.arrays import numbers
        >>> from studbook.metrics.protocols import Observation, Reference
        >>> from studbook.metrics.regression import WeightError
        >>> law = GaussianLaw(np.zeros((1, 2)), np.array([[[1.0, 2.0], [2.0, 5.0]]]))
        >>> sample, model = numbers(np.zeros((1, 2))), SimpleNamespace(coefficients=np.array([2.5]))
        >>> seen = Observation(sample, sample, model=model, base=model)
        >>> WeightError().measure(Reference(None, law), seen, rng=np.random.default_rng(0))[0].value
        0.25
    """

    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.NUMBERS})

    def measure(self, reference: Reference, observation: Observation, *, rng: np.random.Generator) -> tuple[Measurement, ...]:
        """See ``studbook.metrics.protocols.Metric``."""
        views.require_kind("weight_error", observation.sample, self.kinds)
        if not isinstance(observation.model, HasCoefficients):
            got = type(observation.model).__name__
            raise MetricError(f"metric weight_error got a {got}, expected a regression model with coefficients", hint="use learner ols")
        centred = bool(getattr(observation.model, "intercept", 0.0))
        moments, implied = reference.memo(f"weights:{centred}", lambda: _original_weights(reference, centred=centred))
        if implied is None:
            implied = _base_weights(observation.base)
        error = observation.model.coefficients - implied
        return (views.measured("weight_error", float(error @ moments @ error), None, 0),)


def _original_weights(reference: Reference, *, centred: bool) -> tuple[Floats, Floats | None]:
    """Second moments (or covariance) ``(d, d)`` of the original's features, and the weights that its law implies, where it is known."""
    if isinstance(reference.law, GaussianLaw):
        mean = reference.law.mean[0]
        joint = reference.law.covariance[0] + (0.0 if centred else np.outer(mean, mean))
        return joint[:-1, :-1], np.linalg.lstsq(joint[:-1, :-1], joint[:-1, -1], rcond=None)[0]
    if reference.records is None:
        raise MetricError("metric weight_error needs the original records or a Gaussian law, and this reference has neither")
    features = views.table("weight_error", reference.records)[:, :-1]
    features = features - features.mean(axis=0) if centred else features
    return features.T @ features / len(features), None


def _base_weights(base: object) -> Floats:
    if not isinstance(base, HasCoefficients):
        raise MetricError("metric weight_error needs generation 0's coefficients or the source's law, and has neither")
    return base.coefficients
