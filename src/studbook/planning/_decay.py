"""A random walk of the log diversity, with drift, and what its posterior says about the future.

The log of the measured quantity, times ``scale``, is a latent walk whose step over k generations has mean μk and variance τ²k,
observed with known measurement errors. Given τ², everything is normal and solved exactly (μ has a flat prior); τ² lives on a grid,
with the prior 1/(τ² + c), c the measurement variance a generation: without measurement errors that is the classical 1/τ², and
predictions follow Student's t, whose frequentist coverage is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from studbook.arrays import Floats
from studbook.planning._tables import Run

_GRID = 200
_CHUNK = 1_000


@dataclass(frozen=True, slots=True, eq=False)
class Posterior:
    """What the measured generations tell, as a mixture over a grid of τ².

    Attributes:
        walk: ``(T,)`` τ², the variance of one generation's step.
        weight: ``(T,)``, sums to 1.
        drift: ``(T,)`` mean of μ given τ².
        drift_variance: ``(T,)``.
        level: ``(T,)`` mean of the latent log value now, relative to the first measured one.
        level_variance: ``(T,)``.
        level_slope: ``(T,)`` covariance of level and μ.
        noise: Variance of a future measurement's own error.
    """

    walk: Floats
    weight: Floats
    drift: Floats
    drift_variance: Floats
    level: Floats
    level_variance: Floats
    level_slope: Floats
    noise: float

    def ahead(self, generations: Floats) -> tuple[Floats, Floats]:
        """Mean and variance ``(T, H)`` of the measured log value so many generations from now."""
        h = generations[None, :]
        variance = self.level_variance[:, None] + 2.0 * h * self.level_slope[:, None] + h * h * self.drift_variance[:, None]
        return self.level[:, None] + h * self.drift[:, None], variance + h * self.walk[:, None] + self.noise

    def quantiles(self, generations: Floats, probabilities: Floats) -> Floats:
        """``(P, H)`` quantiles of the measured log value, by bisection on the mixture's distribution function."""
        from scipy.special import ndtr

        mean, variance = self.ahead(generations)
        spread = np.sqrt(np.maximum(variance, 1e-300))
        low, high = (mean - 40.0 * spread).min(axis=0), (mean + 40.0 * spread).max(axis=0)
        result = np.empty((len(probabilities), len(generations)))
        for row, wanted in enumerate(probabilities):
            left, right = low.copy(), high.copy()
            for _ in range(50):
                middle = (left + right) / 2.0
                below = self.weight @ ndtr((middle - mean) / spread) < wanted
                left, right = np.where(below, middle, left), np.where(below, right, middle)
            result[row] = (left + right) / 2.0
        return result

    def draw(self, n: int, *, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
        """``n`` draws of τ², of μ, and of the latent log value now: ``(n,)`` each."""
        index = rng.choice(len(self.walk), size=n, p=self.weight)
        first, second = rng.standard_normal((2, n))
        root = np.sqrt(self.drift_variance[index])
        drift = self.drift[index] + root * first
        slope = self.level_slope[index] / np.maximum(root, 1e-150)
        level = self.level[index] + slope * first + np.sqrt(np.maximum(self.level_variance[index] - slope**2, 0.0)) * second
        return self.walk[index], drift, level


@dataclass(frozen=True, slots=True, eq=False)
class _Steps:
    """Padded increments of R runs, ``(R, m)``, less the crude slope; a padded step has neither length nor noise.

    Attributes:
        length: Generations.
        increment: Of the log value, less ``slope * length``.
        error: Measurement variance.
        shared: Covariance with the step before.
        real: 1 where there is a step, 0 where padded.
        slope: Total increment over total length.
        crude: Estimate of τ² that counts measurement errors as walk.
        noise: Mean measurement variance a generation.
    """

    length: Floats
    increment: Floats
    error: Floats
    shared: Floats
    real: Floats
    slope: float
    crude: float
    noise: float


def fit_walk(runs: tuple[Run, ...], scale: float) -> Posterior:
    """The posterior of the walk that ``runs`` share.

    Of a single run the forecast goes on from its last measurement; of several it is that of a further run, from its first generation.

    Args:
        runs: At least two steps altogether, all values positive.
        scale: Factor on the logs.
    """
    steps = _steps(runs, scale)
    walk = steps.crude * np.logspace(-5, 8, _GRID)
    likely = np.flatnonzero(_weigh(steps, walk)[0] > 1e-12)
    # Many steps make the posterior narrower than a cell of the first grid.
    ends = np.log(walk[[max(likely[0] - 1, 0), min(likely[-1] + 1, _GRID - 1)]])
    walk = np.exp(np.linspace(ends[0], ends[1], _GRID))
    weight, drift, information, last = _weigh(steps, walk)
    errors = np.array([(scale * run.stderr[[0, -1]] / run.values[[0, -1]]) ** 2 for run in runs]).mean(axis=0)
    level, variance, slope = np.zeros(_GRID), np.full(_GRID, errors[0]), np.zeros(_GRID)
    if len(runs) == 1:
        level, variance, slope = _last_level(runs[0], scale, drift, 1.0 / information, last)
    return Posterior(walk, weight / weight.sum(), steps.slope + drift, 1.0 / information, level, variance, slope, float(errors[1]))


def _weigh(steps: _Steps, walk: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Relative weight of each τ² (largest 1), mean of μ less the crude slope, its inverse variance, and the last pivots."""
    sums, last = np.zeros((4, len(walk))), np.zeros((3, len(walk)))
    for start in range(0, len(steps.length), _CHUNK):
        part, last = _eliminate(steps, slice(start, start + _CHUNK), walk)
        sums += part
    log_determinant, kk, kd, dd = sums
    log_weight = np.log(walk / (walk + steps.noise)) - 0.5 * (log_determinant + np.log(kk) + dd - kd * kd / kk)
    return np.exp(log_weight - log_weight.max()), kd / kk, kk, last


def _steps(runs: tuple[Run, ...], scale: float) -> _Steps:
    width = max(len(run.values) for run in runs) - 1
    table = np.zeros((5, len(runs), width))
    for row, run in enumerate(runs):
        n = len(run.values) - 1
        error = (scale * run.stderr / run.values) ** 2
        table[0, row, :n] = np.diff(run.generations)
        table[1, row, :n] = scale * np.diff(np.log(run.values))
        table[2, row, :n] = error[1:] + error[:-1]
        # Neighbouring steps share a measurement, with opposite signs.
        table[3, row, 1:n] = -error[1:-1]
        table[4, row, :n] = 1.0
    real = table[4] > 0.0
    length, increment = table[0][real], table[1][real]
    slope = float(increment.sum() / length.sum())
    table[1] -= slope * table[0]
    crude = float(np.sum(table[1][real] ** 2 / length)) / (len(length) - 1)
    # Values without any scatter: far below what matters, and far above rounding.
    floor = (1e-7 * max(abs(slope), 1e-6)) ** 2
    noise = float(np.mean(table[2][real] / length))
    return _Steps(table[0], table[1], table[2], table[3], table[4], slope, max(crude, floor), noise)


def _eliminate(steps: _Steps, rows: slice, walk: Floats) -> tuple[Floats, Floats]:
    """Forward elimination of the tridiagonal covariance of the steps, for every τ² at once.

    Returns:
        log |Σ|, kᵀΣ⁻¹k, kᵀΣ⁻¹d and dᵀΣ⁻¹d summed over the runs, ``(4, T)``; and of the last run the last pivot and the last
        eliminated entries of k and d, ``(3, T)``.
    """
    length, increment, error, shared, real = (
        table[rows, :, None] for table in (steps.length, steps.increment, steps.error, steps.shared, steps.real)
    )
    pivot = np.ones((length.shape[0], len(walk)))
    k, d = np.zeros_like(pivot), np.zeros_like(pivot)
    sums = np.zeros((4, len(walk)))
    last = np.zeros((3, len(walk)))
    for step in range(length.shape[1]):
        factor = shared[:, step] / pivot
        diagonal = length[:, step] * walk + error[:, step] + (1.0 - real[:, step])
        pivot = diagonal - shared[:, step] * factor
        k = length[:, step] - factor * k
        d = increment[:, step] - factor * d
        sums += np.stack([np.log(pivot), k * k / pivot, k * d / pivot, d * d / pivot]).sum(axis=1)
        last = np.stack([pivot[-1], k[-1], d[-1]])
    return sums, last


def _last_level(run: Run, scale: float, drift: Floats, drift_variance: Floats, last: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean, variance and covariance with μ of a single run's latent log value at its last generation; ``drift`` is less the slope.

    The last measurement's error is correlated with the last step alone, which is what the last pivot stands for.
    """
    pivot, k, d = last
    error = (scale * run.stderr[-1] / run.values[-1]) ** 2
    gain = error / pivot
    level = scale * np.log(run.values[-1] / run.values[0]) - gain * (d - k * drift)
    slope = gain * k
    variance = error - error * gain + slope**2 * drift_variance
    return level, variance, slope * drift_variance
