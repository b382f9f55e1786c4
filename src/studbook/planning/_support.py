"""How many states stay alive: exactly for small training sets, by simulation that is exact in law for all others.

Both ways follow the genealogy of the last training set back to its founders, the real draws that it descends from (the dual of the
Wright-Fisher chain with migration). A state of probability p is absent exactly when none of the K founders is of that state, so the
expected support is E[R(K)], with the rarefaction curve R(k) = Σ 1 - (1-p)^k. The law of K doesn't depend on the probabilities.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np

from studbook.arrays import Floats, Ints

EXACT_SAMPLES = 2_000
"""Largest training set whose chain is solved exactly; its transition table has the square of that many entries."""
_NODES = 128
_NEGLIGIBLE = 1e-16


@dataclass(frozen=True, slots=True, eq=False)
class States:
    """The states of a law, equal probabilities taken together.

    Attributes:
        probabilities: ``(D,)`` distinct positive probabilities.
        multiplicity: ``(D,)`` number of states of each.
    """

    probabilities: Floats
    multiplicity: Floats

    @staticmethod
    def of(probabilities: Floats) -> States:
        """The distinct positive entries of ``(K,)`` probabilities."""
        values, multiplicity = np.unique(probabilities[probabilities > 0.0], return_counts=True)
        return States(values, multiplicity.astype(np.float64))

    @property
    def n_states(self) -> float:
        """States of positive probability."""
        return float(self.multiplicity.sum())

    def rarefaction(self, draws: Ints | Floats) -> Floats:
        """Expected number of different states among ``draws`` real draws: ``(len(draws),)``."""
        # log1p(-1) is -inf, and exp(k · -inf) the right limit, 0.
        with np.errstate(divide="ignore"):
            log_absent = np.log1p(-self.probabilities)
        return np.array([float(-np.expm1(k * log_absent) @ self.multiplicity) for k in draws])


def exact_support(states: States, fresh: int, samples: int, generations: int) -> float:
    """The expected number of states alive in the model of generation ``generations``, by the marginal chain of each probability."""
    certain = states.probabilities >= 1.0
    rates = -np.log1p(-states.probabilities[~certain])

    def absence(rate: Floats) -> Floats:
        return _absence(np.exp(-rate), fresh, samples, generations)

    if len(rates) <= _NODES:
        absent = absence(rates)
    else:
        absent = _chebyshev(absence, float(np.log(rates[0])), float(np.log(rates[-1])))(np.log(rates))
    return float(certain.sum() + (1.0 - absent) @ states.multiplicity[~certain])


def _absence(absent: Floats, fresh: int, samples: int, generations: int) -> Floats:
    """P(a state is absent) for each ``absent`` = 1 - p: the weight of the lineages is moved one generation back at a time."""
    if not len(absent):
        return absent
    from studbook.planning._support_kernels import thin_by_fresh

    occupancy, hypergeometric = _occupancy(samples), _hypergeometric(fresh, samples)
    weights = np.zeros((len(absent), samples + 1))
    weights[:, samples] = 1.0
    for _ in range(generations):
        weights = thin_by_fresh(weights, hypergeometric, absent)
        top = weights.shape[1]
        moved = weights @ occupancy[:top, :top]
        alive = np.flatnonzero(moved.max(axis=0) > _NEGLIGIBLE / samples)
        weights = np.ascontiguousarray(moved[:, : alive[-1] + 1 if len(alive) else 1])
        if weights.shape[1] == 1 or (fresh == 0 and weights.shape[1] == 2):
            break
    powers: Floats = absent[:, None] ** np.arange(weights.shape[1])
    result: Floats = np.einsum("dj,dj->d", weights, powers)
    return result


@lru_cache(maxsize=2)
def _occupancy(samples: int) -> Floats:
    from studbook.planning._support_kernels import occupancy_table

    table: Floats = occupancy_table(samples)
    return table


def _hypergeometric(fresh: int, samples: int) -> Floats:
    """``[j, m]``: the probability that ``m`` of ``j`` records are among the ``fresh`` ones of ``samples``."""
    from scipy.special import gammaln

    chosen, hits = np.arange(samples + 1)[:, None], np.arange(fresh + 1)[None, :]
    generated = samples - fresh
    possible = (hits <= chosen) & (chosen - hits <= generated)
    others = np.where(possible, chosen - hits, 0)

    def log_binomial(n: int, k: Ints) -> Floats:
        kept = np.clip(k, 0, n)
        return np.asarray(gammaln(n + 1) - gammaln(kept + 1) - gammaln(n - kept + 1))

    logs = log_binomial(fresh, hits) + log_binomial(generated, others) - log_binomial(samples, chosen)
    return np.ascontiguousarray(np.where(possible, np.exp(np.where(possible, logs, 0.0)), 0.0))


Curve: TypeAlias = Callable[[Ints], Floats]
"""Expected number of different states by number of real draws."""


def rarefaction_curve(states: States, samples: int) -> Curve:
    """:meth:`States.rarefaction` for up to ``samples`` draws, interpolated, so that a call doesn't depend on the number of states."""
    if samples <= _NODES:
        return states.rarefaction
    curve = _chebyshev(states.rarefaction, 0.0, float(np.log(samples)))
    return lambda draws: curve(np.log(draws))


def simulate_support(
    curve: Curve, fresh: int, samples: int, generations: int, replicates: int, *, rng: np.random.Generator
) -> tuple[Floats, int]:
    """``(replicates,)`` unbiased estimates of the expected support, and the elementary steps that they took.

    Only the founders are drawn; given their number, the expected support is the rarefaction curve (Rao-Blackwell). Time doesn't
    depend on the number of states, and hardly on the number of samples: counts with a standard deviation above 20 come from the normal
    law with their exact mean and variance, which moved the expected share by less than one part in ten
    thousand where the exact chain could be compared.
    """
    from studbook.planning._support_kernels import NORMAL_VARIANCE, simulate_founders

    founders = np.empty(replicates, dtype=np.int64)
    steps = simulate_founders(fresh, samples, generations, NORMAL_VARIANCE, founders, rng)
    return curve(founders), int(steps)


def _chebyshev(function: Callable[[Floats], Floats], low: float, high: float) -> Callable[[Floats], Floats]:
    """The interpolant of ``x -> function(exp(x))`` on ``[low, high]``: exact to rounding for sums of ``exp(-rate · exp(x))``."""
    points = np.cos(np.pi * (np.arange(_NODES) + 0.5) / _NODES)
    middle, half = (low + high) / 2.0, (high - low) / 2.0
    series = np.polynomial.chebyshev.chebfit(points, function(np.exp(middle + half * points)), _NODES - 1)
    return lambda x: np.asarray(np.polynomial.chebyshev.chebval((x - middle) / half, series))
