"""How many states stay alive: by theory where that is affordable, else by simulation of the genealogy.

The simulation follows the last training set back to its founders, the real draws that it descends from (the dual of the Wright-Fisher
chain with migration). A state of probability p is absent exactly when none of the K founders is of that state, so the expected support
is E[R(K)], with the rarefaction curve R(k) = Σ 1 - (1-p)^k. The law of K doesn't depend on the probabilities.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from studbook.arrays import Floats, Ints
from studbook.theory import Renewal, support_cost, survival_probability

THEORY_STEPS = 2e10
"""Beyond this ``studbook.theory.support_cost`` (about a nanosecond each) of one point of the curve, it is simulated."""
EXACT_STEPS = 2e4
"""Steps that one exact draw of the simulation may take."""
APPROXIMATION = (
    "numbers of common ancestors whose exact draw takes more than 20,000 steps (lineages²/samples) are rounded normal numbers "
    "with the exact mean and variance"
)
_NODES = 128


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


def has_theory(states: States, fresh: int, samples: int, generations: int) -> bool:
    """Whether ``theory_share`` is affordable."""
    return support_cost(len(states.probabilities), Renewal(samples - fresh, fresh=fresh), samples, generations) <= THEORY_STEPS


def theory_share(states: States, fresh: int, samples: int, generations: int) -> float:
    """The expected share of generation 0's support, by ``studbook.theory.survival_probability``."""
    if fresh == samples:
        return 1.0
    times = np.array([0, generations])
    alive = survival_probability(states.probabilities, Renewal(samples - fresh, fresh=fresh), samples, times) @ states.multiplicity
    return float(alive[1] / alive[0])


Curve: TypeAlias = Callable[[Ints], Floats]
"""Expected number of different states by number of real draws."""


def rarefaction_curve(states: States, samples: int) -> Curve:
    """``States.rarefaction`` for up to ``samples`` draws, interpolated, so that a call doesn't depend on the number of states."""
    if samples <= _NODES:
        return states.rarefaction
    points = np.cos(np.pi * (np.arange(_NODES) + 0.5) / _NODES)
    half = float(np.log(samples)) / 2.0
    # Exact to rounding: a sum of exp(-rate · exp(x)) is an entire function of x.
    series = np.polynomial.chebyshev.chebfit(points, states.rarefaction(np.exp(half * (1.0 + points))), _NODES - 1)
    return lambda draws: np.asarray(np.polynomial.chebyshev.chebval(np.log(draws) / half - 1.0, series))
