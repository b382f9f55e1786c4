"""Which curves are known: from a learner, a mix and a metric to a prediction, or to ``None``."""

from __future__ import annotations

import numpy as np

from studbook.arrays import Floats, Ints
from studbook.theory._predict_moments import predict_moment
from studbook.theory._predict_states import predict_states
from studbook.theory.laws import GaussianLaw
from studbook.theory.ols import accumulated_error, replaced_error, single_fit_error
from studbook.theory.situation import Prediction, Situation

__all__ = ["Prediction", "Situation", "predict"]


def predict(situation: Situation, metric: str, generations: Ints) -> Prediction | None:
    """The curve of a metric over generations, where it is known.

    Args:
        situation: Learner, mix, sizes and law.
        metric: ``mean``, ``drift``, ``variance``, ``std``, ``w2_squared``, ``support``, ``support_share``, ``heterozygosity``,
            ``extinct`` or ``weight_error``; any other gives ``None``.
        generations: ``(G,)`` generations, 0 or more.

    Returns:
        The prediction, or ``None`` where nothing is known or where it would cost too much.

    References:
        In each prediction's ``source``.

    Examples:
        >>> import numpy as np
        >>> from studbook.theory import GaussianLaw, Situation, predict
        >>> law = GaussianLaw(np.zeros((1, 1)), np.ones((1, 1, 1)))
        >>> situation = Situation("gaussian", {"ddof": 0}, "fresh", {"fresh": 5}, 100, 100, law, True, 1, {})
        >>> curve = predict(situation, "variance", np.array([0, 1000]))
        >>> curve.mean.round(4).tolist(), curve.exact
        ([0.99, 0.9065], True)
    """
    chosen = np.asarray(generations, dtype=np.int64)
    if situation.learner in {"gaussian", "poisson", "gmm", "kde"}:
        return predict_moment(situation, metric, chosen)
    if situation.learner in {"categorical", "bernoulli"}:
        return predict_states(situation, metric, chosen)
    if situation.learner == "ols" and metric == "weight_error":
        return _predict_weight_error(situation, chosen)
    return None


def _predict_weight_error(situation: Situation, generations: Ints) -> Prediction | None:
    """Least squares on the original's features with regenerated labels."""
    curve = _of_law if isinstance(situation.law, GaussianLaw) and situation.sampled_original else _of_records
    known = curve(situation, generations)
    if known is None:
        return None
    values, exact = known
    formulas = {"replace": "(t + 1)·σ²d/(T − d − 1)", "accumulate": "σ²d/(T − d − 1)·Σ 1/i² ≤ π²/6·σ²d/(T − d − 1)"}
    sources = {"replace": "Dohmatob et al. 2024", "accumulate": "Gerstgrasser et al. 2024"}
    return Prediction(values, None, exact, source=sources[situation.mix], formula=formulas[situation.mix])


def _of_law(situation: Situation, generations: Ints) -> tuple[Floats, bool] | None:
    """Features and label jointly normal and centred: the last coordinate is the label."""
    assert isinstance(situation.law, GaussianLaw)
    mean, joint = situation.law.mean[0], situation.law.covariance[0]
    features = len(mean) - 1
    # A fitted constant costs one record.
    spent = int(bool(situation.learner_parameters.get("intercept", False)))
    n, n_original = situation.n - spent, situation.n_original - spent
    fits = n_original >= n if situation.mix == "replace" else n_original == n and situation.mix == "accumulate"
    if features < 1 or np.any(mean != 0.0) or n < features + 2 or not fits:
        return None
    explained = joint[-1, :-1] @ np.linalg.lstsq(joint[:-1, :-1], joint[:-1, -1], rcond=None)[0]
    residual = max(float(joint[-1, -1] - explained), 0.0)
    constant = situation.learner_parameters.get("noise", "residual")
    noise = float(constant) ** 2 if isinstance(constant, int | float) else residual
    start = single_fit_error(residual, features, n_original)
    if situation.mix == "replace":
        return replaced_error(noise, features, n, generations, start=start), True
    # The pooled residuals also hold the distance between the batches' labels: the estimate of the noise isn't unbiased.
    return accumulated_error(noise, features, n, generations, start=start), noise == 0.0 or not isinstance(constant, str)


def _of_records(situation: Situation, generations: Ints) -> tuple[Floats, bool] | None:
    """Real data: generation 0's weights count as the truth, and E‖ŵ − w₀‖² = σ²d/T a generation by the original's second moments."""
    constant = situation.learner_parameters.get("noise", "residual")
    known = isinstance(constant, int | float) and not situation.learner_parameters.get("intercept", False)
    if not known or situation.sampled_original or situation.n != situation.n_original:
        return None
    assert isinstance(constant, int | float)
    single = float(constant) ** 2 * (situation.dimension - 1) / situation.n
    if situation.mix == "replace":
        return single * generations.astype(np.float64), True
    if situation.mix != "accumulate":
        return None
    steps = single / np.arange(1, int(generations.max(initial=0)) + 2, dtype=np.float64) ** 2
    steps[0] = 0.0
    values: Floats = np.cumsum(steps)[generations]
    return values, True
