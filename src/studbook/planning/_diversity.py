"""Heterozygosity under drift: H = 1 - Σp² loses 1/N of itself a generation, with the noise of Wright-Fisher sampling.

Given p, a generation changes H with variance 4(Σp³ - (Σp²)²)/N + 2(Σp² - 2Σp³ + (Σp²)²)/N². Σp³ isn't measured; it is taken from
the symmetric Dirichlet law of K states that has the measured H, which is exact for two states. A step is a beta law with these two
moments, which from equal frequencies is the χ² law of K - 1 degrees that it has to be. K is what would be equally frequent at
the highest measured value; a factor on the first term stands for frequencies that aren't of that law. The posterior over N and the
factor lives on a grid, flat in log N.

References:
    S. Wright, Genetics 16, 97 (1931); M. Kimura, J. Appl. Probab. 1, 177 (1964).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from studbook.arrays import Floats
from studbook.planning._filter import Filtered, Path, Step, refine, run_filter, thinned
from studbook.planning._tables import Run

_NOISE = np.log([0.3, 0.45, 0.6, 0.8, 1.0, 1.3, 2.0, 4.0])
_SIZES = 120
_STEPS = 1_000
_PRIOR = np.array([1.0, 1.0, 1.0, 1.0, 4.0, 1.0, 1.0, 1.0])
_FALSE_ALARM = 1e-4


@dataclass(frozen=True, slots=True, eq=False)
class Diversity:
    """Draws of the drift of the heterozygosity.

    Attributes:
        size: ``(n,)`` N.
        states: ``(n,)`` K.
        noise: ``(n,)`` factor on the first-order variance.
        level: ``(n,)`` latent heterozygosity now.
        fits: Whether drift explains the measured scatter.
    """

    size: Floats
    states: Floats
    noise: Floats
    level: Floats
    fits: bool

    def paths(self, generations: int, *, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Times ``(s,)`` and latent values ``(s, n)``; beta steps keep them between 0 and 1 - 1/K.

        In at most 1,000 equal strides over ``generations``, then in strides that grow by 5 %, to eight times the median N.
        """
        step, top = _step(self.size, self.states, self.noise), 1.0 - 1.0 / self.states
        values, times = [np.clip(self.level, 0.0, top)], [0.0]
        first, far = float(-(-generations // _STEPS)), 8.0 * min(float(np.median(self.size)), 1e9)
        while times[-1] < max(float(generations), far):
            stride = first if times[-1] < generations else max(first, np.ceil(0.05 * times[-1]))
            mean, _, variance = step(values[-1], float(stride))
            a, b = _beta(mean, variance, top)
            values.append(np.where(mean > 1e-9, top * rng.beta(a, b), 0.0))
            times.append(times[-1] + float(stride))
        return np.array(times), np.stack(values)


def fit_diversity(runs: tuple[Run, ...], n: int, *, rng: np.random.Generator) -> Diversity | None:
    """Draws from the posterior; ``None`` for values that no heterozygosity can have.

    Args:
        runs: At least two steps altogether, all values positive.
        n: Number of draws.
        rng: Source of randomness.
    """
    highest = max(float(run.values.max()) for run in runs)
    if highest >= 1.0:
        return None
    paths = thinned(tuple(Path(run.generations, run.values, run.stderr**2) for run in runs))
    states = 1.0 / (1.0 - highest)
    axes: tuple[Floats, ...] = (np.linspace(np.log(1.5), np.log(1e9), _SIZES), _NOISE)
    for _ in range(3):
        size, noise = (np.exp(axis).ravel() for axis in np.meshgrid(*axes, indexing="ij"))
        last = _likelihood(paths, size, states, noise)
        weight = np.exp(last.log_likelihood - last.log_likelihood.max()) * np.tile(_PRIOR, _SIZES)
        found = axes[0]
        axes = refine(axes, weight.reshape(_SIZES, -1))[0], axes[1]
    cell = rng.choice(len(weight), size=n, p=weight / weight.sum())
    width = (found[1] - found[0]) * (rng.random(n) - 0.5)
    if len(runs) == 1:
        level = last.mean[cell] + np.sqrt(np.maximum(last.variance[cell], 0.0)) * rng.standard_normal(n)
    else:
        start = np.array([[path.values[0], path.variance[0]] for path in paths])[rng.integers(len(paths), size=n)]
        level = start[:, 0] + np.sqrt(start[:, 1]) * rng.standard_normal(n)
    return Diversity(
        size[cell] * np.exp(width), np.full(n, states), noise[cell], level, _fits(float(last.surprise[weight.argmax()]), last.steps)
    )


def _likelihood(paths: tuple[Path, ...], size: Floats, states: float, noise: Floats) -> Filtered:
    """Beta steps where values are exact; with measurement errors the filter's normal ones."""
    from scipy.special import betaln

    step = _step(size, states, noise)
    normal = run_filter(paths, step, len(size))
    if any(path.variance.any() for path in paths):
        return normal
    top, total = 1.0 - 1.0 / states, np.zeros(len(size))
    # Values are on a lattice: within half of its first cell from the top a density means nothing.
    edge = np.clip(0.5 / size**2, 1e-12, 0.1)
    for path in paths:
        for k, now, after in zip(np.diff(path.generations), path.values[:-1], path.values[1:], strict=True):
            mean, _, variance = step(np.full(len(size), now), float(k))
            a, b = _beta(mean, variance, top)
            share = np.clip(after / top, 1e-12, 1.0 - edge)
            total += (a - 1.0) * np.log(share) + (b - 1.0) * np.log1p(-share) - betaln(a, b) - np.log(top)
    # Sizes that the steps are far too wide or narrow for overflow the beta function.
    return Filtered(np.where(np.isfinite(total), total, -1e300), normal.surprise, normal.mean, normal.variance, normal.steps)


def _beta(mean: Floats, variance: Floats, top: Floats | float) -> tuple[Floats, Floats]:
    """Parameters of the beta law between 0 and ``top`` with these moments."""
    share = np.clip(mean / top, 1e-12, 1.0 - 1e-12)
    total = 1.0 / np.clip(variance / top**2 / (share * (1.0 - share)), 1e-10, 0.999) - 1.0
    return share * total, (1.0 - share) * total


def _fits(surprise: float, steps: int) -> bool:
    from scipy.special import chdtrc

    return bool(chdtrc(steps, surprise) > _FALSE_ALARM)


def _step(size: Floats, states: Floats | float, noise: Floats) -> Step:
    def step(h: Floats, k: float) -> tuple[Floats, Floats, Floats]:
        h = np.clip(h, 0.0, 1.0 - 1.0 / states)
        same = 1.0 - h
        rest = np.maximum(states * same - 1.0, 0.0)
        cubes = (h + rest) * (h + 2.0 * rest) / np.maximum((states * h + rest) * (states * h + 2.0 * rest), 1e-300)
        first = noise * 4.0 * np.maximum(cubes - same**2, 0.0) / size
        second = 2.0 * np.maximum(same - 2.0 * cubes + same**2, 0.0) / size**2
        kept = (1.0 - 1.0 / size) ** k
        # The second term is the scatter of (δp)², which grows with the square of the time.
        return kept * h, np.broadcast_to(kept, h.shape), k * first + k * k * second

    return step
