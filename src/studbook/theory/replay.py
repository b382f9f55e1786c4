"""Replaying a few steps of a training run: how surely false steps are found, and what that costs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from studbook.errors import ConfigError
from studbook.theory.dose import smallest_integer


@dataclass(frozen=True, slots=True)
class ReplayCosts:
    """What goes with a replay besides its steps, each in seconds over the seconds of a step of training.

    Attributes:
        digest: q, digesting all parameters once; reading them counts as much.
        record: r, reading the record of a step and checking that it follows from the one before, which is done for all steps.
        held: m, arrays that the optimiser keeps for each of the parameters': 0 for plain descent, 1 with momentum or Adagrad, 2 for Adam.

    Raises:
        ConfigError: One below 0, or not finite.
    """

    digest: float = 0.0
    record: float = 0.0
    held: int = 0

    def __post_init__(self) -> None:
        if not (0.0 <= self.digest < math.inf and 0.0 <= self.record < math.inf and self.held >= 0):
            raise ConfigError(f"{self} is out of range, expected seconds over those of a step, 0 or more")


_FREE = ReplayCosts()


def found_false(replayed: int, false_steps: int, steps: int) -> float:
    """Probability that at least one false step is among those that are replayed.

    The replayed steps are drawn without replacement, after the node committed to all of them. Of T steps F are false, k are replayed:
    1 − C(T − F, k)/C(T, k), the hypergeometric law at 0.

    Args:
        replayed: k, 0 to ``steps``.
        false_steps: F, 0 to ``steps``.
        steps: T, 1 or more.

    Raises:
        ConfigError: Numbers that don't fit each other.

    References:
        W. G. Cochran, "Sampling techniques", 3rd edition, section 3.2.

    Examples:
        >>> from studbook.theory.replay import found_false
        >>> round(found_false(90, 90, 1800), 4), round(found_false(1, 1, 4), 4)
        (0.9912, 0.25)
    """
    if not (steps >= 1 and 0 <= replayed <= steps and 0 <= false_steps <= steps):
        message = f"{replayed} replayed and {false_steps} false of {steps} steps"
        raise ConfigError(message, hint="0 to as many as there are steps, of which there is 1 at least")
    if replayed > steps - false_steps:
        return 1.0
    few, many = sorted((replayed, false_steps))
    # C(T − F, k)/C(T, k) = ∏ (T − many − i)/(T − i) over i < few: short for either.
    missed = math.fsum(math.log1p(-many / (steps - i)) for i in range(few))
    return 0.0 - math.expm1(missed)  # not −0.0 where nothing is false


def found_share(replayed: int, share: float) -> float:
    """The same in a run without end: 1 − (1 − p)^k, the binomial law at 0.

    It is never more than ``found_false`` at the same share: drawing without replacement finds more.

    Args:
        replayed: k, 0 or more.
        share: p, share of false steps, 0 to 1.

    Raises:
        ConfigError: Out of range.

    Examples:
        >>> from studbook.theory.replay import found_share
        >>> round(found_share(90, 0.05), 4)
        0.9901
    """
    if replayed < 0 or not 0.0 <= share <= 1.0:
        raise ConfigError(f"{replayed} replayed steps, {share} of all false, expected 0 or more and 0 to 1")
    return 1.0 if share == 1.0 and replayed else 0.0 - math.expm1(replayed * math.log1p(-share)) if share < 1.0 else 0.0


def replays_needed(share: float, detection: float, steps: int | None = None) -> int:
    """How many steps have to be replayed to find a share of false ones with a wanted probability.

    Args:
        share: p, share of false steps, above 0 and at most 1.
        detection: Wanted probability, above 0 and below 1.
        steps: T; ``None``: enough in a run of any length, ⌈log(1 − d)/log(1 − p)⌉. With T the false steps are ⌈p·T⌉.

    Raises:
        ConfigError: Out of range.

    Examples:
        >>> from studbook.theory.replay import replays_needed
        >>> replays_needed(0.05, 0.99), replays_needed(0.05, 0.99, 1000)
        (90, 86)
    """
    if not (0.0 < share <= 1.0 and 0.0 < detection < 1.0):
        raise ConfigError(f"a share of {share} found with probability {detection}, expected above 0, and a probability below 1")
    if steps is None:
        return 1 if share == 1.0 else math.ceil(math.log1p(-detection) / math.log1p(-share) - 1e-12)
    false_steps = math.ceil(share * steps - 1e-9)
    return smallest_integer(lambda k: found_false(k, false_steps, steps) >= detection, 1, steps)


def replayed_share(replayed: int, steps: int, every: int = 1) -> float:
    """Expected share of the training that a verifier does again.

    A drawn step is reached from the last kept state before it. In a stretch of c steps between two states those up to the last drawn one
    are done again, so that the expected number in it is Σ_j P(one of its last j is drawn) = Σ_{j = 1…c} 1 − C(T − j, k)/C(T, k). With
    a state before every step (c = 1) that is k/T; with few draws about k(c + 1)/2T.

    Args:
        replayed: k, 0 to ``steps``.
        steps: T, 1 or more.
        every: c, 1 or more; the last stretch may be shorter.

    Raises:
        ConfigError: Numbers that don't fit each other.

    Examples:
        >>> from studbook.theory.replay import replayed_share
        >>> replayed_share(90, 1800), round(replayed_share(90, 1800, 10), 3)
        (0.05, 0.238)
    """
    _check_every(every)
    found_false(replayed, 0, steps)  # checks them
    whole, rest = divmod(steps, every)

    def stretch(length: int) -> float:
        return math.fsum(found_false(replayed, j, steps) for j in range(1, length + 1))

    return (whole * (stretch(every) if whole else 0.0) + stretch(rest)) / steps


def _check_every(every: int) -> None:
    if every < 1:
        raise ConfigError(f"a state is kept every {every} steps, expected 1 or more")


def verifying_share(replayed: int, steps: int, every: int = 1, costs: ReplayCosts = _FREE) -> float:
    """Expected seconds of verifying over those of training, at most.

    Of the T steps ``replayed_share`` are taken again. Besides, a drawn step digests its update and the state that it leads to, (2 + m) q.
    The state before it is read and digested, 2 (1 + m) q, or reached from one that was read and digested, (1 + m) q. All records are
    read. With a state before every drawn step that is k (1 + (4 + 3m) q)/T + r: at most a share s from T = k (1 + (4 + 3m) q)/(s − r) on.

    Args:
        replayed: k, 0 to ``steps``.
        steps: T, 1 or more.
        every: c, 1 or more; 1 also where the node shows the states before the drawn steps.
        costs: Of digests and records; by default nothing, which leaves the share of the steps.

    Raises:
        ConfigError: Numbers that don't fit each other.

    Examples:
        >>> from studbook.theory.replay import ReplayCosts, verifying_share
        >>> verifying_share(90, 1800), round(verifying_share(90, 1800, costs=ReplayCosts(digest=0.15, record=0.02)), 4)
        (0.05, 0.1002)
    """
    taken = replayed_share(replayed, steps, every)
    whole, rest = divmod(steps, every)
    read = whole * found_false(replayed, min(every, steps), steps) + found_false(replayed, rest, steps)
    reached = replayed if every > 1 else 0
    passes = replayed * (2 + costs.held) + (reached + 2 * (read + 1)) * (1 + costs.held)  # + 1: the state that it came to
    return taken + passes * costs.digest / steps + costs.record


def shortest_training(replayed: int, share: float, every: int = 1, costs: ReplayCosts = _FREE) -> int:
    """The fewest steps of training of which verifying takes no more than a share: of the steps, or with costs of the seconds.

    Args:
        replayed: k, 1 or more.
        share: Of the training, above 0 and at most 1.
        every: A state is kept every so many steps.
        costs: Of digests and records; see ``verifying_share``.

    Raises:
        ConfigError: Out of range, or a share that reading the records alone exceeds, however long the training is.

    Examples:
        >>> from studbook.theory.replay import ReplayCosts, shortest_training
        >>> shortest_training(90, 0.05), shortest_training(90, 0.05, 10), shortest_training(90, 0.05, costs=ReplayCosts(digest=0.15))
        (1800, 9631, 2886)
    """
    if not (replayed >= 1 and 0.0 < share <= 1.0):
        raise ConfigError(f"{replayed} replays as {share} of a training, expected 1 or more, and above 0 to 1")
    _check_every(every)
    left = share - costs.record
    if left <= 0.0:
        message = f"reading a step's record takes {costs.record:.3g} of a step, expected less than the share of {share:.3g}"
        raise ConfigError(message, hint="steps of more rows, or a larger share")
    passes = (5 * replayed + 2) * (1 + costs.held) * costs.digest
    high = max(math.ceil((replayed * (every + 1) / 2.0 + passes) / left), replayed) + every
    return smallest_integer(lambda steps: verifying_share(replayed, steps, every, costs) <= share * (1.0 + 1e-12), replayed, high)
