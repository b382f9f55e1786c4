"""How many states stay alive: exactly for small training sets, by simulation that is exact in law for all others.

Both ways follow the genealogy of the last training set back to its founders, the real draws that it descends from (the dual of the
Wright-Fisher chain with migration). A state of probability p is absent exactly when none of the K founders is of that state, so the
expected support is E[R(K)], with the rarefaction curve R(k) = Σ 1 - (1-p)^k. The law of K doesn't depend on the probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from studbook.arrays import Floats, Ints
from studbook.planning._support_kernels import occupancy_table, simulate_founders, thin_by_fresh

EXACT_SAMPLES = 2_000
"""Largest training set whose chain is solved exactly; its transition table has the square of that many entries."""
_NODES = 96
_NEGLIGIBLE = 1e-16
_BINOMIAL_COST = 12.0
"""What one binomial draw costs, in steps of the genealogy."""


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

    def rarefaction(self, draws: Ints) -> Floats:
        """Expected number of different states among ``draws`` real draws: ``(len(draws),)``."""
        # log1p(-1) is -inf, and exp(k · -inf) the right limit, 0.
        with np.errstate(divide="ignore"):
            log_absent = np.log1p(-self.probabilities)
        return np.array([float(-np.expm1(k * log_absent) @ self.multiplicity) for k in draws])


def exact_support(states: States, fresh: int, samples: int, generations: int) -> float:
    """The expected number of states alive in the model of generation ``generations``, by the marginal chain of each probability."""
    certain = states.probabilities >= 1.0
    rates = -np.log1p(-states.probabilities[~certain])
    if len(rates) <= _NODES:
        absent = _absence(np.exp(-rates), fresh, samples, generations)
    else:
        # The absence probability is an entire function of the rate: a Chebyshev interpolant on the log scale is exact to rounding.
        nodes, degree = np.log(rates[[0, -1]]), _NODES - 1
        points = np.cos(np.pi * (np.arange(_NODES) + 0.5) / _NODES)
        middle, half = nodes.mean(), (nodes[1] - nodes[0]) / 2.0
        at_nodes = _absence(np.exp(-np.exp(middle + half * points)), fresh, samples, generations)
        series = np.polynomial.chebyshev.chebfit(points, at_nodes, degree)
        absent = np.polynomial.chebyshev.chebval((np.log(rates) - middle) / half, series)
    return float(certain.sum() + (1.0 - absent) @ states.multiplicity[~certain])


def _absence(absent: Floats, fresh: int, samples: int, generations: int) -> Floats:
    """P(a state is absent) for each ``absent`` = 1 - p: the weight of the lineages is moved one generation back at a time."""
    occupancy, hypergeometric = _occupancy(samples), _hypergeometric(fresh, samples)
    weights = np.zeros((len(absent), samples + 1))
    weights[:, samples] = 1.0
    for _ in range(generations):
        weights = thin_by_fresh(weights, hypergeometric, absent, weights.shape[1] - 1)
        top = weights.shape[1]
        moved = weights @ occupancy[:top, :top]
        alive = np.flatnonzero(moved.max(axis=0) > _NEGLIGIBLE / samples)
        weights = np.ascontiguousarray(moved[:, : alive[-1] + 1 if len(alive) else 1])
        if weights.shape[1] == 1 or (fresh == 0 and weights.shape[1] == 2):
            break
    result: Floats = (weights * absent[:, None] ** np.arange(weights.shape[1])).sum(axis=1)
    return result


@lru_cache(maxsize=2)
def _occupancy(samples: int) -> Floats:
    return occupancy_table(samples)


def _hypergeometric(fresh: int, samples: int) -> Floats:
    """``[j, m]``: the probability that ``m`` of ``j`` records are among the ``fresh`` ones of ``samples``."""
    from scipy.special import gammaln

    chosen, hits = np.arange(samples + 1)[:, None], np.arange(fresh + 1)[None, :]
    generated = samples - fresh
    possible = (hits <= chosen) & (chosen - hits <= generated)
    others = np.where(possible, chosen - hits, 0)

    def log_binomial(n: int, k: Ints) -> Floats:
        kept = np.clip(k, 0, n)
        result: Floats = gammaln(n + 1) - gammaln(kept + 1) - gammaln(n - kept + 1)
        return result

    logs = log_binomial(fresh, hits) + log_binomial(generated, others) - log_binomial(samples, chosen)
    return np.ascontiguousarray(np.where(possible, np.exp(logs), 0.0))


def simulate_support(states: States, fresh: int, samples: int, generations: int, replicates: int, *, rng: np.random.Generator) -> Floats:
    """``(replicates,)`` unbiased estimates of the expected support, drawn the cheaper of two exact ways.

    The genealogy costs some ``2 · samples · log(generations)`` steps whatever the law; the marginal chains cost one draw a state and
    generation whatever the number of samples.
    """
    if genealogy_steps(fresh, samples, generations) <= _BINOMIAL_COST * states.n_states * generations:
        founders = np.empty(replicates, dtype=np.int64)
        simulate_founders(fresh, samples, generations, founders, rng)
        return states.rarefaction(founders)
    return _simulate_marginals(states, fresh, samples, generations, replicates, rng=rng)


def replicate_cost(states: States, fresh: int, samples: int, generations: int) -> float:
    """Elementary steps (some nanoseconds each) of one replicate of :func:`simulate_support`."""
    genealogy = genealogy_steps(fresh, samples, generations) + len(states.probabilities)
    return min(genealogy, _BINOMIAL_COST * states.n_states * generations)


def genealogy_steps(fresh: int, samples: int, generations: int) -> float:
    """Lineages to follow in one genealogy, by its mean-field recursion."""
    lineages, steps, share = float(samples), 0.0, (samples - fresh) / samples
    for generation in range(generations):
        steps += lineages
        following = -samples * float(np.expm1(-lineages * share / samples))
        if following < 1.0 or lineages - following < 1e-9 * lineages:
            return steps + (generations - generation) * (1.0 if fresh == 0 else following)
        lineages = following
    return steps


def _simulate_marginals(
    states: States, fresh: int, samples: int, generations: int, replicates: int, *, rng: np.random.Generator
) -> Floats:
    """Each state's count on its own: the expectation of a sum doesn't ask how its terms depend on each other."""
    probabilities = np.repeat(states.probabilities, states.multiplicity.astype(np.int64))
    support = np.empty(replicates)
    for replicate in range(replicates):
        counts = rng.binomial(samples, probabilities)
        for _ in range(generations):
            counts = rng.binomial(samples - fresh, counts / samples) + (rng.binomial(fresh, probabilities) if fresh else 0)
        support[replicate] = np.count_nonzero(counts)
    return support
