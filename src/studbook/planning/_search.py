"""The smallest dose that keeps enough: bisection on exact values, and on simulated ones until their intervals decide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from studbook.arrays import Floats
from studbook.planning._support import Curve, simulate_support
from studbook.rng import stream

TOLERANCE = 1e-12
"""A share this close below the wanted one counts as kept: rounding must not cost a record."""
BUDGET = 200_000_000
"""Elementary steps (some 20 nanoseconds each) that a search by simulation may use."""
_FIRST_REPLICATES = 16


def smallest(enough: Callable[[int], bool], low: int, high: int) -> int:
    """The smallest integer in ``[low, high]`` with ``enough``, which is monotone; ``high`` if none below it has it."""
    while low < high:
        middle = (low + high) // 2
        if enough(middle):
            high = middle
        else:
            low = middle + 1
    return low


@dataclass(frozen=True, slots=True, eq=False)
class Simulation:
    """Simulated shares of the support of generation 0, with common random numbers across doses.

    Attributes:
        curve: Rarefaction curve of the law.
        samples: Records a generation.
        generations: Generations after generation 0.
        confidence: Of the intervals.
        seed: Root seed; the stream doesn't depend on the dose.
    """

    curve: Curve
    samples: int
    generations: int
    confidence: float
    seed: int
    _shares: dict[int, Floats] = field(default_factory=dict, repr=False)
    _spent: list[int] = field(default_factory=list, repr=False)

    @property
    def spent(self) -> int:
        """Elementary steps used so far."""
        return sum(self._spent)

    def shares(self, fresh: int, replicates: int) -> Floats:
        """``(replicates,)`` shares for this dose; drawn once, later calls draw only what is missing."""
        known = self._shares.get(fresh, np.empty(0))
        if len(known) < replicates:
            rng = stream(self.seed, "dose", len(known))
            missing = replicates - len(known)
            drawn, steps = simulate_support(self.curve, fresh, self.samples, self.generations, missing, rng=rng)
            original = self.curve(np.array([self.samples]))[0]
            known = self._shares[fresh] = np.concatenate([known, np.minimum(drawn / original, 1.0)])
            self._spent.append(steps)
        return known[:replicates]

    def estimate(self, fresh: int, replicates: int) -> tuple[float, float, float]:
        """Mean, lower and upper bound (Student's t over replicates) of the share kept."""
        from scipy.special import stdtrit

        shares = self.shares(fresh, replicates)
        margin = float(stdtrit(replicates - 1, (1.0 + self.confidence) / 2.0) * shares.std(ddof=1) / np.sqrt(replicates))
        mean = float(shares.mean())
        return mean, max(mean - margin, 0.0), min(mean + margin, 1.0)


@dataclass(frozen=True, slots=True)
class SimulatedDose:
    """What a search by simulation found.

    Attributes:
        fresh: Smallest dose whose estimate reaches the wanted share.
        fresh_interval: Doses that the intervals of the share don't exclude.
        replicates: Replicates behind each estimate.
    """

    fresh: int
    fresh_interval: tuple[int, int]
    replicates: int


def search(simulation: Simulation, keep: float, budget: int = BUDGET) -> SimulatedDose:
    """Bisect, then double the replicates until the intervals at the dose and one below exclude ``keep``, or the budget is used."""
    replicates, bracket = _FIRST_REPLICATES, (0, simulation.samples)
    while True:
        before = simulation.spent
        doses = [_locate(simulation, keep, replicates, which, bracket) for which in (2, 0, 1)]
        least, fresh, most = min(doses), doses[1], max(doses)
        level_cost = simulation.spent - before
        if least == most or simulation.spent + 2 * level_cost > budget:
            return SimulatedDose(fresh, (least, most), replicates)
        width = most - least
        bracket = (max(least - width, 0), min(most + width, simulation.samples))
        replicates *= 2


def _locate(simulation: Simulation, keep: float, replicates: int, which: int, bracket: tuple[int, int]) -> int:
    """The smallest dose whose estimate (0), lower bound (1) or upper bound (2) reaches ``keep``."""

    def enough(fresh: int) -> bool:
        return simulation.estimate(fresh, replicates)[which] >= keep - TOLERANCE

    low, high = bracket
    low = 0 if low > 0 and enough(low) else low
    high = high if high == simulation.samples or enough(high) else simulation.samples
    return smallest(enough, low, high)
