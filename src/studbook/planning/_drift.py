"""What a walk's scatter says about drift, and when the walk first reaches a level."""

from __future__ import annotations

import numpy as np

from studbook.arrays import Floats

_DISCRETE = 0.5826
"""Siegmund's correction: a walk watched at whole generations crosses as one watched always does a barrier this many τ further away."""


def split_drift(walk: Floats, drift: Floats, grid: Floats) -> tuple[Floats, Floats]:
    """Effective sample size and systematic bias behind the steps of a log variance.

    A Gaussian refitted to N of its own draws (maximum likelihood) adds log(χ²_{N-1}/N) a generation, with variance ψ′((N-1)/2) and mean
    ψ((N-1)/2) + log(2/N); what the mean step lacks to that is bias.

    Args:
        walk: ``(n,)`` variances of a step.
        drift: ``(n,)`` means of a step.
        grid: Increasing variances that cover ``walk``; the inverse is solved there only.

    Returns:
        N, above 1, and the bias of the log variance a generation (positive is loss): ``(n,)`` each.
    """
    from scipy.special import digamma

    half = np.exp(np.interp(np.log(walk), np.log(grid), np.log(_inverse_trigamma(grid))))
    size = 2.0 * half + 1.0
    return size, digamma(half) - np.log(half + 0.5) - drift


def _inverse_trigamma(values: Floats) -> Floats:
    """Newton's method on 1/ψ′, which is nearly linear; ten steps are exact to rounding from the start ½ + 1/y."""
    from scipy.special import polygamma

    x = 0.5 + 1.0 / values
    for _ in range(10):
        trigamma = polygamma(1, x)
        x = x + trigamma * (1.0 - trigamma / values) / polygamma(2, x)
    return np.asarray(x)


def first_passage(distance: Floats, drift: Floats, walk: Floats, *, rng: np.random.Generator) -> Floats:
    """Generations until walks have fallen by ``distance``: ``(n,)`` whole numbers, ``inf`` where one never does.

    The time is inverse Gaussian; a walk that rises on average gets there with probability exp(-2·distance·μ/τ²).

    Args:
        distance: ``(n,)``; 0 or less is there already.
        drift: ``(n,)`` mean step.
        walk: ``(n,)`` variance of a step, above 0.
        rng: Source of randomness.
    """
    far = np.maximum(distance, 0.0) + _DISCRETE * np.sqrt(walk)
    speed = np.maximum(np.abs(drift), 1e-150)
    mean, normal, choice, fate = far / speed, rng.standard_normal(len(far)), rng.random(len(far)), rng.random(len(far))
    # Michael, Schucany and Haas (1976), with the small root written without a difference of large numbers.
    w = normal**2 * (walk / (2.0 * far * speed))
    ratio = 1.0 / (1.0 + w + np.sqrt(w * (2.0 + w)))
    with np.errstate(over="ignore"):
        time = np.ceil(mean * np.where(choice <= 1.0 / (1.0 + ratio), ratio, 1.0 / ratio))
    never = (drift > 0.0) & (fate > np.exp(-2.0 * far * np.maximum(drift, 0.0) / walk))
    return np.where(distance <= 0.0, 0.0, np.where(never, np.inf, time))
