"""The smallest dose that keeps enough: a guarded secant on values by theory, bisection on simulated ones until their intervals decide."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from studbook.arrays import Floats
from studbook.planning._support import EXACT_STEPS, Curve
from studbook.rng import stream
from studbook.theory.dose import smallest_integer

TOLERANCE = 1e-12
"""A share this close below the wanted one counts as kept: rounding must not cost a record."""
BUDGET = 200_000_000
"""Elementary steps (some 20 nanoseconds each) that a search by simulation may use."""
_ROUGH_STEPS, _ROUGH_BUDGET = 100.0, 10_000_000
_FIRST_REPLICATES = 16
_BISECT_EVERY = 4


@dataclass(frozen=True, slots=True)
class _Replicates:
    """Replicates 0, 1, … at one dose: their shares, the steps that they took and their draws from a rounded normal."""

    shares: Floats
    steps: int
    rounded: int


@dataclass(frozen=True, slots=True, eq=False)
class Simulation:
    """Simulated shares of the support of generation 0.

    Only the founders are drawn; given their number, the expected support is the rarefaction curve (Rao-Blackwell). Each replicate has
    a stream of its own, the same at every dose, so that an estimate doesn't depend on what was estimated before it. As different doses
    use the numbers of a stream up at different rates, estimates at two doses are hardly correlated, and they need not be monotone.

    Attributes:
        curve: Rarefaction curve of the law.
        samples: Records a generation.
        generations: Generations after generation 0.
        confidence: Of the intervals.
        seed: Root seed.
        exact_steps: A draw whose exact way takes more steps than this is a rounded normal number.
    """

    curve: Curve
    samples: int
    generations: int
    confidence: float
    seed: int
    exact_steps: float = EXACT_STEPS
    _known: dict[int, _Replicates] = field(default_factory=dict, repr=False)

    @property
    def spent(self) -> int:
        """Elementary steps used so far."""
        return sum(known.steps for known in self._known.values())

    @property
    def rounded(self) -> int:
        """How many draws were rounded normal numbers, of all so far."""
        return sum(known.rounded for known in self._known.values())

    def shares(self, fresh: int, replicates: int) -> Floats:
        """``(replicates,)`` shares for this dose; drawn once, later calls draw only what is missing."""
        known = self._known.get(fresh) or _Replicates(np.empty(0), 0, 0)
        if len(known.shares) < replicates:
            drawn = self._draw(fresh, range(len(known.shares), replicates))
            shares = np.concatenate([known.shares, drawn.shares])
            known = self._known[fresh] = _Replicates(shares, known.steps + drawn.steps, known.rounded + drawn.rounded)
        return known.shares[:replicates]

    def _draw(self, fresh: int, replicates: range) -> _Replicates:
        from studbook.planning._support_kernels import simulate_founders

        rows = np.array(
            [
                simulate_founders(fresh, self.samples, self.generations, self.exact_steps, stream(self.seed, "dose", replicate))
                for replicate in replicates
            ],
            dtype=np.int64,
        )
        shares = self.curve(rows[:, 0]) / self.curve(np.array([self.samples]))[0]
        return _Replicates(np.minimum(shares, 1.0), int(rows[:, 1].sum()), int(rows[:, 2].sum()))

    def estimate(self, fresh: int, replicates: int, *, looks: int = 1) -> tuple[float, float, float]:
        """Mean, lower and upper bound (Student's t over replicates) of the share kept.

        With ``looks`` the intervals at so many doses hold together (Bonferroni).
        """
        from scipy.special import stdtrit

        shares = self.shares(fresh, replicates)
        level = 1.0 - (1.0 - self.confidence) / (2.0 * looks)
        margin = float(stdtrit(replicates - 1, level) * shares.std(ddof=1) / np.sqrt(replicates))
        mean = float(shares.mean())
        return mean, max(mean - margin, 0.0), min(mean + margin, 1.0)


@dataclass(frozen=True, slots=True)
class SimulatedDose:
    """What a search by simulation found.

    Attributes:
        fresh: A dose whose estimate reaches the wanted share while that of one record less doesn't.
        fresh_interval: Doses that the intervals of the share don't exclude. Each of its two bisections looks at about log₂(samples)
            doses, whose intervals hold together at the simulation's confidence.
        replicates: Replicates behind each estimate.
    """

    fresh: int
    fresh_interval: tuple[int, int]
    replicates: int


def rough_dose(curve: Curve, samples: int, generations: int, keep: float, seed: int) -> SimulatedDose:
    """A cheap guess, whose draws are rounded normal numbers early."""
    simulation = Simulation(curve, samples, generations, 0.95, seed, _ROUGH_STEPS)
    return search(simulation, keep, budget=_ROUGH_BUDGET)


def search(simulation: Simulation, keep: float, budget: int = BUDGET, bracket: tuple[int, int] | None = None) -> SimulatedDose:
    """Bisect, then double the replicates until the intervals at the dose and one below exclude ``keep``, or the budget is used."""
    replicates, bracket = _FIRST_REPLICATES, bracket or (0, simulation.samples)
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
    looks = simulation.samples.bit_length() + 2

    def enough(fresh: int) -> bool:
        return simulation.estimate(fresh, replicates, looks=looks)[which] >= keep - TOLERANCE

    low, high = bracket
    low = 0 if low > 0 and enough(low) else low
    high = high if high == simulation.samples or enough(high) else simulation.samples
    return smallest_integer(enough, low, high)


def settle(kept: Callable[[int], float], keep: float, samples: int, guess: SimulatedDose) -> int:
    """The smallest dose with ``kept(dose) >= keep``, in few evaluations of a smooth, rising curve that reaches 1 at ``samples``.

    The secant through the last two points proposes the next; every fourth proposal halves the bracket instead, so that no curve
    takes more than some 4·log₂(samples) evaluations.
    """
    low, high, proposal = -1, samples, guess.fresh
    step = max(guess.fresh_interval[1] - guess.fresh_interval[0], 1)
    points: list[tuple[int, float]] = []
    while high - low > 1:
        proposal = min(max(proposal, low + 1), high - 1)
        points.append((proposal, kept(proposal)))
        enough = points[-1][1] >= keep - TOLERANCE
        low, high = (low, proposal) if enough else (proposal, high)
        if len(points) % _BISECT_EVERY == 0 and high - low > 2 * _BISECT_EVERY:
            proposal = (low + high) // 2
        elif len(points) == 1:
            proposal += -step if enough else step
        else:
            proposal = _secant(points[-2], points[-1], keep, fallback=(low + high) // 2)
    return high


def _secant(first: tuple[int, float], second: tuple[int, float], keep: float, *, fallback: int) -> int:
    rise = second[1] - first[1]
    if rise == 0.0:
        return fallback
    exact = second[0] + (keep - second[1]) * (second[0] - first[0]) / rise
    return math.ceil(exact) if abs(exact) < 2.0**62 else fallback
