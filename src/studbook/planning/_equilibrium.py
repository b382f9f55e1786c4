"""Mean reversion: pipelines that mix in real records settle at v = a/(1 - b), since v′ = a + b·v.

In the coordinate x = scale·log(v/v₀) a generation leads to log(e + b(eˣ - e)) plus noise of variance τ², e the equilibrium: sampling
noise is proportional to the variance, as that of a Gaussian is. The random walk is the boundary e = 0. The posterior over (b, e, τ²)
lives on a grid, with the reference prior 1/√(1-b²) of an autoregression, and flat in log e and log τ².
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from studbook.arrays import Floats
from studbook.planning._decay import Posterior
from studbook.planning._filter import Filtered, Path, Step, refine, run_filter, thinned
from studbook.planning._tables import Run

_SHAPE = (20, 20, 16)
_STEPS = 1_000


@dataclass(frozen=True, slots=True, eq=False)
class Settling:
    """Draws of the equilibrium model.

    Attributes:
        keep: ``(n,)`` b, what remains of a distance from the equilibrium.
        target: ``(n,)`` e, relative to the first measured value.
        walk: ``(n,)`` τ².
        level: ``(n,)`` latent x now.
    """

    keep: Floats
    target: Floats
    walk: Floats
    level: Floats

    def half_life(self, scale: float) -> Floats:
        """Generations until the typical value is half of today's: ``inf`` where the equilibrium is above that."""
        now = np.exp(self.level)
        half = now * 0.5**scale
        with np.errstate(divide="ignore", invalid="ignore"):
            time = np.log((half - self.target) / (now - self.target)) / np.log(self.keep)
        return np.where(self.target < half, time, np.inf)

    def step(self) -> Floats:
        """Typical change of x in the next generation."""
        return np.asarray(np.log(self.target + self.keep * (np.exp(self.level) - self.target)) - self.level)

    def paths(self, generations: int, *, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Times ``(s,)`` and latent x ``(s, n)``, in at most 1,000 strides."""
        stride = -(-generations // _STEPS)
        move = _step(self.keep, self.target, self.walk)
        x = [self.level]
        for _ in range(-(-generations // stride)):
            mean, _, variance = move(x[-1], float(stride))
            x.append(mean + np.sqrt(variance) * rng.standard_normal(len(mean)))
        return stride * np.arange(len(x), dtype=np.float64), np.stack(x)


@dataclass(frozen=True, slots=True, eq=False)
class Equilibrium:
    """Posterior of the equilibrium model.

    Attributes:
        axes: Grid of the angle arccos b, of log e and of log τ².
        weight: On the grid; sums to 1.
        last: What the filter said of each cell's state.
        better: Twice its log likelihood less that of the walk, less the log of the number of steps: the difference of BIC.
        now: Whether the forecast goes on from the last state (one run) or from the first.
        noise: Measurement variances at the first and at the last generation.
    """

    axes: tuple[Floats, ...]
    weight: Floats
    last: Filtered
    better: float
    now: bool
    noise: tuple[float, float]

    @property
    def probability(self) -> float:
        """Of the equilibrium against the walk, from the difference of BIC."""
        return float(1.0 / (1.0 + np.exp(-np.clip(self.better, -100.0, 100.0) / 2.0)))

    def draw(self, n: int, *, rng: np.random.Generator) -> Settling:
        """``n`` draws, spread over their cells."""
        cell = rng.choice(self.weight.size, size=n, p=self.weight.ravel())
        where = np.unravel_index(cell, self.weight.shape)
        width = [axis[1] - axis[0] for axis in self.axes]
        angle, target, walk = (
            np.clip(axis[i] + w * (rng.random(n) - 0.5), axis[0], axis[-1]) for axis, i, w in zip(self.axes, where, width, strict=True)
        )
        middle = self.last.mean[cell] if self.now else np.zeros(n)
        spread = self.last.variance[cell] if self.now else np.full(n, self.noise[0])
        level = middle + np.sqrt(np.maximum(spread, 0.0)) * rng.standard_normal(n)
        return Settling(np.cos(angle), np.exp(target), np.exp(walk), level)


def fit_equilibrium(runs: tuple[Run, ...], scale: float, posterior: Posterior) -> Equilibrium:
    """The posterior of the equilibrium model, and how it compares with the walk's.

    Args:
        runs: As for the walk.
        scale: Factor on the logs.
        posterior: The walk's.
    """
    paths = thinned(tuple(Path(r.generations, scale * np.log(r.values / r.values[0]), (scale * r.stderr / r.values) ** 2) for r in runs))
    axes = _prior(paths, posterior)
    for _ in range(3):
        angle, target, walk = (axis.ravel() for axis in np.meshgrid(*axes, indexing="ij"))
        last = run_filter(paths, _step(np.cos(angle), np.exp(target), np.exp(walk)), len(walk))
        weight = np.exp(last.log_likelihood - last.log_likelihood.max()).reshape(_SHAPE)
        found = axes, weight / weight.sum(), last
        axes = refine(axes, weight)
    drifting = run_filter(paths, _walk(posterior), len(posterior.walk))
    better = 2.0 * float(found[2].log_likelihood.max() - drifting.log_likelihood.max()) - float(np.log(last.steps))
    first, final = (float(np.mean([path.variance[i] for path in paths])) for i in (0, -1))
    return Equilibrium(*found, better, len(runs) == 1, (first, final))


def _prior(paths: tuple[Path, ...], posterior: Posterior) -> tuple[Floats, ...]:
    """Axes of the grid; an approach that takes 100 times the measured span isn't told from a walk."""
    span = max(float(path.generations[-1] - path.generations[0]) for path in paths)
    low, high = min(float(path.values.min()) for path in paths), max(float(path.values.max()) for path in paths)
    slowest = float(np.arccos(1.0 - 0.1 / span))
    middle = np.log(posterior.walk[np.argmax(posterior.weight)])
    return (
        np.linspace(slowest, np.pi / 2.0 - 0.02, _SHAPE[0]),
        np.linspace(low - 3.0, high + 1.5, _SHAPE[1]),
        np.linspace(middle - 4.0, middle + 3.0, _SHAPE[2]),
    )


def _step(keep: Floats, target: Floats, walk: Floats) -> Step:
    def step(x: Floats, k: float) -> tuple[Floats, Floats, Floats]:
        now, kept = np.exp(x), keep**k
        mean = target + kept * (now - target)
        slope = kept * now / mean
        if k == 1.0:
            return np.log(mean), slope, walk
        # Noise of the steps on the way is forgotten at the mean rate.
        a = np.minimum(slope ** (2.0 / k), 1.0 - 1e-12)
        return np.log(mean), slope, walk * (1.0 - a**k) / (1.0 - a)

    return step


def _walk(posterior: Posterior) -> Step:
    def step(x: Floats, k: float) -> tuple[Floats, Floats, Floats]:
        return x + k * posterior.drift, np.ones_like(x), k * posterior.walk

    return step
