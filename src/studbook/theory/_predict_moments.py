"""Predictions for models that have a mean and a variance: gaussian, gmm, kde, poisson."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from studbook.arrays import Floats, Ints
from studbook.theory.coalescence import Fit, Path, expected_moments
from studbook.theory.gaussian import divisor_fit, log_variance, replaced_std
from studbook.theory.kde import kernel_fit
from studbook.theory.laws import CategoricalLaw, PoissonLaw
from studbook.theory.poisson import extinction_probability, rate_fit
from studbook.theory.situation import Prediction, Situation

_DRIFT = "Wright 1931 (coalescence)"
_SOURCES = {
    "replace": "Shumailov et al. 2024; Wright 1931",
    "accumulate": "Gerstgrasser et al. 2024; Kazdan et al. 2025",
    "subsample": "Kazdan et al. 2025; Wright 1931",
    "keep": "Shumailov et al. 2024; Wright 1931",
    "fresh": "Wright 1931 (migration); Bertrand et al. 2024; Alemohammad et al. 2024",
    "blend": "Shumailov et al. 2024; Wright 1931",
    "weighted": "He, Xu, Cheng 2025; Wright 1931",
}


@dataclass(frozen=True, slots=True, eq=False)
class _Setting:
    """A situation in numbers.

    Attributes:
        variance: Of the law, or of the finite original's records (divisor n); averaged over the coordinates.
        std: Average over the coordinates of the standard deviation, same base.
        fit: How the model's variance follows from the pooled variance.
    """

    situation: Situation
    variance: float
    std: float | None
    fit: Fit

    def path(self, generations: Ints) -> Path:
        composition = self.situation.composition
        assert composition is not None
        last = int(generations.max(initial=0))
        return expected_moments(
            composition,
            self.situation.n_original,
            last,
            sampled=self.situation.sampled_original,
            variance=self.variance,
            fit=self.fit,
        )

    @property
    def gaussian_replace(self) -> bool:
        """Whether the law of the variance is known: a product of chi-squares."""
        situation = self.situation
        return situation.learner == "gaussian" and situation.mix == "replace" and min(situation.n, situation.n_original) > 1

    def start(self) -> int | None:
        """Draws behind generation 0, for the exact laws of the Gaussian."""
        return self.situation.n_original if self.situation.sampled_original else None


def predict_moment(situation: Situation, metric: str, generations: Ints) -> Prediction | None:
    """``mean``, ``drift``, ``variance``, ``std``, ``w2_squared``, ``extinct``, or ``None``."""
    if metric == "mean":
        return _predict_mean(situation, generations)
    if metric == "extinct":
        return _predict_extinct(situation, generations)
    setting = _read(situation)
    chosen = _METRICS.get(metric)
    return None if setting is None or chosen is None else chosen(setting, generations)


def _predict_mean(situation: Situation, generations: Ints) -> Prediction | None:
    if situation.law is not None and not isinstance(situation.law, CategoricalLaw):
        mean = float(situation.law.moments()[0].mean())
    elif "mean" in situation.initial:
        mean = situation.initial["mean"]
    else:
        return None
    constant = np.full(len(generations), mean)
    # Given the original, the mean is a martingale; by symmetry a Gaussian's stays its median, too.
    median = constant.copy() if situation.learner == "gaussian" else None
    known = situation.law is not None or not situation.sampled_original
    return Prediction(constant, median, known and not situation.draws_reserve, "martingale: E μ_t = μ_0", "E μ_t = μ_0")


def _predict_extinct(situation: Situation, generations: Ints) -> Prediction | None:
    composition = situation.composition
    if not isinstance(situation.law, PoissonLaw) or composition is None or situation.draws_reserve:
        return None
    rate = float(situation.law.rate[0])
    start = situation.n_original if situation.sampled_original else None
    source = "Galton and Watson 1875"
    keeps_original = situation.mix == "accumulate" or (situation.mix == "weighted" and not composition.fresh)
    if keeps_original:
        values = np.full(len(generations), float(np.exp(-start * rate)) if start else float(rate == 0.0))
        return Prediction(values, None, exact=True, source=source, formula="P(the original holds only zeros)")
    if situation.mix not in {"replace", "fresh"}:
        return None
    values = extinction_probability(rate, situation.n, generations, n_original=start, fresh=composition.fresh)
    formula = "f_{t+1} = exp(f_t − 1)" + (", with immigration" if composition.fresh else "")
    return Prediction(values, None, exact=True, source=source, formula=formula)


def _read(situation: Situation) -> _Setting | None:
    """The setting, or ``None`` where the variance isn't known or can't be fitted."""
    fit, composition = _fit_of(situation), situation.composition
    if fit is None or composition is None:
        return None
    known = _base(situation)
    if known is None:
        return None
    variance, std = known
    if situation.sampled_original:
        return _Setting(situation, variance, std, fit)
    # What is known is generation 0's model; its records have the variance that the fit makes that of.
    slope, offset = (float(column[0]) for column in fit(np.array([float(situation.n_original)])))
    records = variance if situation.learner == "poisson" else (variance - offset) / slope
    scale = np.sqrt(records / variance) if variance > 0.0 else 1.0
    return _Setting(situation, max(records, 0.0), None if std is None else std * scale, fit) if records >= 0.0 else None


def _base(situation: Situation) -> tuple[float, float | None] | None:
    """Variance and standard deviation, averaged over the coordinates, of the law or of generation 0's model."""
    if situation.law is not None:
        if isinstance(situation.law, CategoricalLaw):
            return None
        diagonal = np.diagonal(situation.law.moments()[1][0])
        return float(diagonal.mean()), float(np.sqrt(np.maximum(diagonal, 0.0)).mean())
    if situation.sampled_original or "variance" not in situation.initial:
        return None
    return situation.initial["variance"], situation.initial.get("std")


def _fit_of(situation: Situation) -> Fit | None:
    parameters, composition = situation.learner_parameters, situation.composition
    if composition is None:
        return None
    if situation.learner == "gaussian":
        ddof = _number(parameters.get("ddof", 0))
        return None if ddof is None or min(composition.size, situation.n, situation.n_original) <= ddof else divisor_fit(ddof)
    if situation.learner == "poisson":
        law = situation.law
        return None if law is None or isinstance(law, CategoricalLaw) else rate_fit(float(law.moments()[0].mean()))
    if situation.learner == "gmm":
        regularisation = _number(parameters.get("regularisation", 1e-6))
        return None if regularisation is None else _add(regularisation)
    if situation.learner != "kde":
        return None
    bandwidth = parameters.get("bandwidth", "scott")
    base = kernel_fit(bandwidth, situation.dimension) if isinstance(bandwidth, str | int | float) else None
    return base if base is None or composition.real_share is None else _reweigh(base, composition.effective_size)


def _add(variance: float) -> Fit:
    """A fit that adds a constant to the pooled variance: EM's regularisation."""
    return lambda sizes: (np.ones_like(sizes), np.full_like(sizes, variance))


def _reweigh(fit: Fit, effective: float) -> Fit:
    """The fit of weighted records: after generation 0 the effective size counts."""

    def weighted(sizes: Floats) -> tuple[Floats, Floats]:
        return fit(np.where(np.arange(len(sizes)) == 0, sizes, effective))

    return weighted


def _predict_variance(setting: _Setting, generations: Ints) -> Prediction | None:
    situation = setting.situation
    median = _median_variance(setting, generations)
    formulas = {"kde": "v′ = E V + h²", "poisson": "E λ_t = λ_0", "gmm": "E σ_t² = σ_0²(1 − F_t) + regularisation"}
    formula = formulas.get(situation.learner, "E σ_t² = σ_0²(1 − F_t)")
    if situation.learner == "gaussian" and _number(situation.learner_parameters.get("ddof", 0)):
        formula = "v′ = N/(N − ddof)·E V"
    mean = setting.path(generations).variance[generations]
    return Prediction(mean, median, not situation.draws_reserve, _source(situation), formula)


def _predict_drift(setting: _Setting, generations: Ints) -> Prediction | None:
    situation = setting.situation
    composition = situation.composition
    # Real counts needn't have a Poisson variance, and subsets of them scatter with the one that they have.
    subsets = composition is not None and bool(composition.original or composition.previous or composition.pool)
    unknown = situation.learner == "poisson" and not situation.sampled_original and subsets
    mean = setting.path(generations).drift[generations]
    return Prediction(mean, None, not (situation.draws_reserve or unknown), _DRIFT, "E (μ_t − μ_0)² = σ_0²·F_t")


def _predict_std(setting: _Setting, generations: Ints) -> Prediction | None:
    situation = setting.situation
    if setting.std is None or situation.learner == "poisson":
        return None
    if not setting.gaussian_replace:
        variance = setting.path(generations).variance[generations]
        scale = setting.std / np.sqrt(setting.variance) if setting.variance > 0.0 else 0.0
        return Prediction(scale * np.sqrt(variance), None, exact=False, source=_source(situation), formula="E σ_t ≤ √(E σ_t²)")
    mean = _exact_std(setting, generations)
    median = _median_variance(setting, generations)
    root = None if median is None else np.sqrt(median)
    formula = "E σ_t = σ_0·(q·c₄(N))^t, q² = (N−1)/(N−ddof)"
    return Prediction(mean, root, exact=True, source="Shumailov et al. 2024; moments of χ", formula=formula)


def _predict_w2_squared(setting: _Setting, generations: Ints) -> Prediction | None:
    """E W₂² = E (μ−μ₀)² + E σ² + s² − 2·c·E σ, where c is the covariance of the reference's quantiles with the normal ones.

    For a normal reference c is its σ; for records it follows from the distance of generation 0.
    """
    situation = setting.situation
    if situation.learner != "gaussian" or situation.dimension != 1:
        return None
    path = setting.path(generations)
    square, first = setting.variance, float(path.variance[0])
    slope = float(np.sqrt(square))
    if not situation.sampled_original:
        if "w2_squared" not in situation.initial or first == 0.0:
            return None
        slope = (first + square - situation.initial["w2_squared"]) / (2.0 * np.sqrt(first))
    exact = setting.gaussian_replace
    std = _exact_std(setting, generations) if exact else np.sqrt(path.variance[generations])
    mean = np.maximum(path.drift[generations] + path.variance[generations] + square - 2.0 * slope * std, 0.0)
    formula = "E W₂² = E (μ_t − μ_0)² + E σ_t² + σ_0² − 2σ_0·E σ_t" + ("" if exact else ", with E σ_t ≈ √(E σ_t²)")
    return Prediction(mean, None, exact=exact, source="Shumailov et al. 2024; Givens and Shortt 1984", formula=formula)


def _exact_std(setting: _Setting, generations: Ints) -> Floats:
    """E of the average standard deviation of a Gaussian under replacement: each coordinate's variance is the same product of χ²."""
    situation, ddof = setting.situation, _ddof(setting.situation)
    base = setting.std or 0.0
    if setting.start() is None:
        base *= float(np.sqrt(situation.n_original / (situation.n_original - ddof)))
    std: Floats = base * replaced_std(situation.n, generations, ddof=ddof, n_original=setting.start())
    return std


def _median_variance(setting: _Setting, generations: Ints) -> Floats | None:
    situation, ddof = setting.situation, _ddof(setting.situation)
    if not setting.gaussian_replace or situation.dimension != 1:
        return None
    base = setting.variance
    if setting.start() is None:
        base *= situation.n_original / (situation.n_original - ddof)
    median: Floats = base * log_variance(situation.n, generations, ddof=ddof, n_original=setting.start()).quantile(0.5)
    return median


def _ddof(situation: Situation) -> float:
    return _number(situation.learner_parameters.get("ddof", 0)) or 0.0


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _source(situation: Situation) -> str:
    if situation.learner == "kde":
        return "Silverman 1986, section 6.4.1"
    return _SOURCES.get(situation.mix, _DRIFT)


_METRICS: dict[str, Callable[[_Setting, Ints], Prediction | None]] = {
    "variance": _predict_variance,
    "drift": _predict_drift,
    "std": _predict_std,
    "w2_squared": _predict_w2_squared,
}
