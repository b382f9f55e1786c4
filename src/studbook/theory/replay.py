"""Replaying a few steps of a training run: how surely false steps are found, and what that costs."""

from __future__ import annotations

import math

from studbook.errors import ConfigError
from studbook.theory.dose import smallest_integer


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
    if every < 1:
        raise ConfigError(f"a state is kept every {every} steps, expected 1 or more")
    found_false(replayed, 0, steps)  # checks them
    whole, rest = divmod(steps, every)

    def stretch(length: int) -> float:
        return math.fsum(found_false(replayed, j, steps) for j in range(1, length + 1))

    return (whole * (stretch(every) if whole else 0.0) + stretch(rest)) / steps


def shortest_training(replayed: int, share: float, every: int = 1) -> int:
    """The fewest steps of training of which a number of replays is no more than a share.

    Args:
        replayed: k, 1 or more.
        share: Of the training, above 0 and at most 1.
        every: A state is kept every so many steps.

    Raises:
        ConfigError: Out of range.

    Examples:
        >>> from studbook.theory.replay import shortest_training
        >>> shortest_training(90, 0.05), shortest_training(90, 0.05, 10)
        (1800, 9631)
    """
    if not (replayed >= 1 and 0.0 < share <= 1.0):
        raise ConfigError(f"{replayed} replays as {share} of a training, expected 1 or more, and above 0 to 1")
    high = max(math.ceil(replayed * (every + 1) / (2.0 * share)), replayed) + every
    return smallest_integer(lambda steps: replayed_share(replayed, steps, every) <= share * (1.0 + 1e-12), replayed, high)
