"""Wald's sequential probability ratio test: it stops as soon as the evidence is enough, and says how much more is needed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from studbook.arrays import Floats
from studbook.errors import ConfigError

BoolArray: TypeAlias = NDArray[np.bool_]


class Decision(StrEnum):
    """Where a sequential test stands."""

    ACCEPT = "accept"
    """The rate is ``p0``."""
    REJECT = "reject"
    """The rate is ``p1``."""
    CONTINUE = "continue"
    """More observations are needed."""


@dataclass(frozen=True, slots=True)
class SprtState:
    """What a sequential test has seen.

    Attributes:
        llr: Sum of the log-likelihood ratios, those of ``p1`` over ``p0``.
        n: Observations that went into it.
    """

    llr: float = 0.0
    n: int = 0


_START = SprtState()


@dataclass(frozen=True, slots=True)
class Sprt:
    """Wald's sequential probability ratio test: of all tests with these error rates, the one that needs the fewest observations.

    Its thresholds are Wald's: the true error rates are at most alpha/(1 − beta) and beta/(1 − alpha), and their sum at most alpha + beta.

    Attributes:
        p0: Rate of events in the case to accept (an honest prover), above 0 and below 1.
        p1: Rate of events in the case to reject, above 0 and below 1, not ``p0``.
        alpha: Probability of REJECT where the rate is ``p0``.
        beta: Probability of ACCEPT where the rate is ``p1``.

    Raises:
        ConfigError: Equal rates, rates of 0 or 1, or error probabilities that sum to 1 or more.

    References:
        A. Wald, "Sequential tests of statistical hypotheses", Annals of Mathematical Statistics 16 (1945), the thresholds
        and the approximate expected number of observations; optimal by A. Wald, J. Wolfowitz, Annals of Mathematical Statistics 19 (1948).

    Examples:
        >>> from studbook.theory import Sprt, SprtState
        >>> test = Sprt(p0=0.03, p1=0.35, alpha=1e-3, beta=1e-3)  # tokens that differ: honest bf16, or another prompt
        >>> state = test.observe(SprtState(), [False] * 10)
        >>> str(test.decide(state)), test.more_needed(state)
        ('continue', 17)
        >>> str(test.decide(test.observe(state, [False] * 8)))
        'accept'
    """

    p0: float
    p1: float
    alpha: float
    beta: float

    def __post_init__(self) -> None:
        if not (0.0 < self.p0 < 1.0 and 0.0 < self.p1 < 1.0 and self.p0 != self.p1):
            raise ConfigError(f"p0 is {self.p0} and p1 is {self.p1}, expected two different rates above 0 and below 1")
        if not (self.alpha > 0.0 and self.beta > 0.0 and self.alpha + self.beta < 1.0):
            raise ConfigError(f"alpha is {self.alpha} and beta {self.beta}, expected above 0 with a sum below 1")

    @property
    def lower(self) -> float:
        """ACCEPT at or below this log-likelihood ratio, log(beta/(1 − alpha))."""
        return math.log(self.beta) - math.log1p(-self.alpha)

    @property
    def upper(self) -> float:
        """REJECT at or above this log-likelihood ratio, log((1 − beta)/alpha)."""
        return math.log1p(-self.beta) - math.log(self.alpha)

    @property
    def steps(self) -> tuple[float, float]:
        """What an observation adds to the log-likelihood ratio: one without an event, one with."""
        return math.log1p(-self.p1) - math.log1p(-self.p0), math.log(self.p1 / self.p0)

    def decide(self, state: SprtState) -> Decision:
        """Where the test stands."""
        if state.llr <= self.lower:
            return Decision.ACCEPT
        return Decision.REJECT if state.llr >= self.upper else Decision.CONTINUE

    def observe(self, state: SprtState, outcomes: Sequence[bool] | BoolArray) -> SprtState:
        """Go on with further observations, in their order.

        Args:
            state: What was seen before.
            outcomes: Whether each was an event. What comes after the decision isn't looked at.

        Returns:
            The new state; the same one where the decision had fallen.

        Examples:
            >>> from studbook.theory import Sprt, SprtState
            >>> Sprt(0.03, 0.35, 1e-3, 1e-3).observe(SprtState(), [True] * 10).n
            3
        """
        without, event = self.steps
        return self.add(state, np.where(np.asarray(outcomes, dtype=bool), event, without))

    def add(self, state: SprtState, ratios: Sequence[float] | Floats) -> SprtState:
        """Go on with log-likelihood ratios of any other kind of observation, those of the case to reject over the case to accept.

        Args:
            state: What was seen before.
            ratios: One for each observation. What comes after the decision isn't looked at.

        Returns:
            The new state; the same one where the decision had fallen.

        Raises:
            ConfigError: A ratio that isn't a number.
        """
        values = np.asarray(ratios, dtype=np.float64).ravel()
        if np.isnan(values).any():
            raise ConfigError(
                f"log-likelihood ratio {int(np.isnan(values).argmax())} isn't a number", hint="an observation without one is none"
            )
        if values.size == 0 or self.decide(state) is not Decision.CONTINUE:
            return state
        with np.errstate(invalid="ignore"):  # ∞ − ∞ only comes after an ∞ that decided
            walk = state.llr + np.cumsum(values)
        over = (walk <= self.lower) | (walk >= self.upper)
        last = int(over.argmax()) if over.any() else values.size - 1
        return SprtState(float(walk[last]), state.n + last + 1)

    def expected_more(self, state: SprtState = _START, drifts: tuple[float, float] | None = None) -> tuple[float, float]:
        """Expected number of further observations in the case to accept and in the case to reject, by Wald's approximation.

        It takes the walk to end on a threshold, not beyond it, so that true numbers are a little larger.

        Args:
            state: What was seen before; by default nothing, so that these are the expected sample sizes.
            drifts: Mean log-likelihood ratio of an observation in the two cases, below and above 0; by default those of events.

        Raises:
            ConfigError: Drifts of the wrong sign.

        References:
            A. Wald, Annals of Mathematical Statistics 16 (1945).

        Examples:
            >>> from studbook.theory import Sprt
            >>> [round(n, 1) for n in Sprt(0.03, 0.35, 1e-3, 1e-3).expected_more()]
            [21.9, 11.5]
        """
        accepting, rejecting = drifts if drifts is not None else self._drifts()
        if not accepting < 0.0 < rejecting:
            raise ConfigError(f"drifts are {accepting} and {rejecting}, expected the first below 0 and the second above")
        if self.decide(state) is not Decision.CONTINUE:
            return 0.0, 0.0
        down, up = self.lower - state.llr, self.upper - state.llr
        # exp(llr) is a martingale where p0 holds, exp(-llr) where p1 does: that gives the odds of the two ends.
        wrong = math.exp(-up) * math.expm1(down) / math.expm1(down - up)
        missed = math.exp(down) * math.expm1(-up) / math.expm1(down - up)
        return (wrong * up + (1.0 - wrong) * down) / accepting, (missed * down + (1.0 - missed) * up) / rejecting

    def more_needed(self, state: SprtState = _START, drifts: tuple[float, float] | None = None) -> int:
        """How many more observations are expected at most, whichever case holds; 0 once it is decided.

        Args:
            state: What was seen before.
            drifts: As for ``expected_more``.
        """
        return math.ceil(max(self.expected_more(state, drifts)))

    def _drifts(self) -> tuple[float, float]:
        without, event = self.steps
        return self.p0 * event + (1.0 - self.p0) * without, self.p1 * event + (1.0 - self.p1) * without
