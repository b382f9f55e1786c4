"""The likelihood of measured runs under a Markov model of the measured quantity, for a whole grid of its parameters at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from studbook.arrays import Floats

Step: TypeAlias = Callable[[Floats, float], tuple[Floats, Floats, Floats]]
"""From a state ``(G,)`` and a number of generations: mean, its slope in the state, and variance of the state after them."""

_MOST = 3_000


@dataclass(frozen=True, slots=True, eq=False)
class Path:
    """One run in the coordinate of the model.

    Attributes:
        generations: ``(m,)``, increasing.
        values: ``(m,)``.
        variance: ``(m,)`` of the measurement errors.
    """

    generations: Floats
    values: Floats
    variance: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Filtered:
    """What the runs say about each of G parameters.

    Attributes:
        log_likelihood: ``(G,)``, up to a constant.
        surprise: ``(G,)`` sum of squared standardised innovations; about ``steps`` for the true model.
        mean: ``(G,)`` state at the last generation of the last run.
        variance: ``(G,)`` of that.
        steps: Number of innovations.
    """

    log_likelihood: Floats
    surprise: Floats
    mean: Floats
    variance: Floats
    steps: int


def thinned(paths: tuple[Path, ...]) -> tuple[Path, ...]:
    """At most some 3,000 measurements: enough for any posterior, and a bound on time. The last one of each run stays."""
    keep = max(1, _MOST // max(len(paths[0].values), 1))
    chosen = paths[:: max(1, -(-len(paths) // keep))]
    every = max(1, -(-sum(len(path.values) for path in chosen) // _MOST))
    if every == 1:
        return chosen
    return tuple(Path(p.generations[::-every][::-1], p.values[::-every][::-1], p.variance[::-every][::-1]) for p in chosen)


def run_filter(paths: tuple[Path, ...], step: Step, size: int) -> Filtered:
    """Extended Kalman filter, exact where a run has neither gaps nor errors; starts at the first measurement.

    Args:
        paths: The runs.
        step: The model.
        size: G, number of parameters.
    """
    likelihood, surprise = np.zeros(size), np.zeros(size)
    mean, variance, count = np.zeros(size), np.zeros(size), 0
    for path in paths:
        mean, variance = np.full(size, path.values[0]), np.full(size, path.variance[0])
        for k, value, error in zip(np.diff(path.generations), path.values[1:], path.variance[1:], strict=True):
            predicted, slope, walk = step(mean, float(k))
            variance = slope**2 * variance + walk
            total = np.maximum(variance + error, 1e-300)
            squared = (value - predicted) ** 2 / total
            likelihood -= 0.5 * (np.log(total) + squared)
            surprise += squared
            gain = variance / total
            mean, variance = predicted + gain * (value - predicted), variance * (1.0 - gain)
            count += 1
    return Filtered(likelihood, surprise, mean, variance, count)


def refine(axes: tuple[Floats, ...], weight: Floats) -> tuple[Floats, ...]:
    """The same number of points an axis, between the points next to those that hold all but a millionth of the weight."""
    result = []
    for i, axis in enumerate(axes):
        marginal = weight.sum(axis=tuple(j for j in range(len(axes)) if j != i))
        likely = np.flatnonzero(marginal > 1e-6 * marginal.max())
        low, high = max(likely[0] - 1, 0), min(likely[-1] + 1, len(axis) - 1)
        result.append(np.linspace(axis[low], axis[high], len(axis)))
    return tuple(result)
