"""Poisson models refitted to their own counts: a branching process.

The sum of n draws of Poisson(λ) is Poisson(nλ), and the next rate is that sum over n. So the sums Z_t of the training sets form a
Galton–Watson process with one Poisson(1) child on average (critical: extinction is certain), with immigration where fresh counts join.
"""

from __future__ import annotations

import math

import numpy as np

from studbook.arrays import Floats, Ints
from studbook.theory.coalescence import Fit


def extinction_probability(rate: float, n: int, generations: Ints, *, n_original: int | None = None, fresh: int = 0) -> Floats:
    """P(λ_t = 0), by iterating the generating function of the sums.

    Args:
        rate: λ₀ of the law, 0 or more.
        n: Records a generation, of which ``fresh`` are new real ones.
        generations: ``(G,)`` generations t, 0 or more.
        n_original: Draws behind generation 0; ``None``: its rate is exactly λ₀.
        fresh: New real records a generation, 0 to ``n``; an extinct rate then comes back.

    Returns:
        ``(G,)`` probabilities.

    References:
        F. Galton and H. Watson, "On the probability of the extinction of families" (1875); T. Harris, "The Theory of Branching
        Processes" (1963), chapter I; immigration: K. Athreya and P. Ney, "Branching Processes" (1972), section VI.7.

    Examples:
        >>> import numpy as np
        >>> from studbook.theory import extinction_probability
        >>> extinction_probability(0.05, 100, np.array([0, 1, 1000]), n_original=100).round(4).tolist()
        [0.0067, 0.0424, 0.9901]
    """
    # Given the last rate, E exp(θZ_t) = exp(r·λ₀·g)·exp((n − r)·g·λ_{t−1}) with g = e^θ − 1; from θ = −∞ (an empty sum) back to λ₀.
    last = int(np.max(generations, initial=0))
    immigration, generated = fresh * rate, (n - fresh) / n
    result = np.empty(last + 1)
    result[0] = math.exp(-n_original * rate) if n_original is not None else float(rate == 0.0)
    gain, arrived = -1.0, 0.0
    for index in range(1, last + 1):
        arrived += immigration * gain
        result[index] = math.exp(arrived + _founders(rate, n, n_original, generated, gain))
        gain = math.expm1(generated * gain)
    chosen: Floats = result[generations]
    return chosen


def _founders(rate: float, n: int, n_original: int | None, generated: float, gain: float) -> float:
    """Logarithm of E exp((n − r)·gain·λ₀'), where λ₀' is generation 0's rate."""
    exponent = generated * n * gain
    return rate * exponent if n_original is None else n_original * rate * math.expm1(exponent / n_original)


def rate_moments(rate: float, n: int, generations: Ints, *, n_original: int | None = None) -> tuple[Floats, Floats]:
    """Mean and variance of λ_t under replacement: λ₀, and λ₀(1/n_original + t/n).

    The mean stays while nearly every replicate dies: ever fewer replicates carry ever higher rates.

    Args:
        rate: λ₀, 0 or more.
        n: Records a generation.
        generations: ``(G,)``.
        n_original: Draws behind generation 0; ``None``: its rate is exactly λ₀.

    Returns:
        Two arrays ``(G,)``.

    References:
        T. Harris, "The Theory of Branching Processes" (1963), chapter I, equation 5.3 (critical case).

    Examples:
        >>> import numpy as np
        >>> from studbook.theory import rate_moments
        >>> rate_moments(4.0, 100, np.array([0, 25]), n_original=100)[1].round(2).tolist()
        [0.04, 1.04]
    """
    start = 0.0 if n_original is None else 1.0 / n_original
    steps = np.asarray(generations, dtype=np.float64)
    return np.full(len(steps), rate), rate * (start + steps / n)


def rate_fit(rate: float) -> Fit:
    """The fit of a Poisson model, whose expected variance is its expected rate, λ₀ always: v = λ₀, for ``expected_moments``.

    Examples:
        >>> import numpy as np
        >>> from studbook.theory import rate_fit
        >>> [column.tolist() for column in rate_fit(4.0)(np.array([10.0]))]
        [[0.0], [4.0]]
    """

    def fit(sizes: Floats) -> tuple[Floats, Floats]:
        return np.zeros_like(sizes), np.full_like(sizes, rate)

    return fit
