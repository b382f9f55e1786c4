"""Closed forms of replaying a few steps, against enumeration and against each other."""

from __future__ import annotations

import itertools

import pytest
from scipy import stats

from studbook.errors import ConfigError
from studbook.theory import ReplayCosts, found_false, found_share, replayed_share, replays_needed, shortest_training, verifying_share


@pytest.mark.parametrize("steps, false_steps, replayed", [(7, 2, 3), (6, 6, 1), (5, 0, 5), (9, 4, 0), (8, 1, 8)])
def test_found_by_enumeration(steps, false_steps, replayed):
    draws = list(itertools.combinations(range(steps), replayed))
    share = sum(any(step < false_steps for step in draw) for draw in draws) / len(draws)
    assert found_false(replayed, false_steps, steps) == pytest.approx(share)


@pytest.mark.parametrize("steps", [100, 1800, 10**6])
def test_found_is_the_hypergeometric_law(steps):
    false_steps = steps // 20
    assert found_false(90, false_steps, steps) == pytest.approx(stats.hypergeom.sf(0, steps, false_steps, 90), rel=1e-9)
    assert found_false(90, false_steps, steps) >= found_share(90, 0.05) - 1e-12


def test_ninety_replays_find_five_percent():
    assert replays_needed(0.05, 0.99) == 90
    assert found_share(89, 0.05) < 0.99 <= found_share(90, 0.05)
    for steps in (100, 500, 1800, 20_000):
        k = replays_needed(0.05, 0.99, steps)
        false_steps = -(-steps // 20)
        assert found_false(k - 1, false_steps, steps) < 0.99 <= found_false(k, false_steps, steps)
        assert k <= 90


@pytest.mark.parametrize("steps, every, replayed", [(7, 3, 2), (6, 1, 4), (6, 6, 2), (5, 10, 1), (8, 4, 8)])
def test_replayed_share_by_enumeration(steps, every, replayed):
    def taken(draw):
        last = {}
        for step in draw:
            last[step // every] = max(last.get(step // every, 0), step % every + 1)
        return sum(last.values())

    draws = list(itertools.combinations(range(steps), replayed))
    assert replayed_share(replayed, steps, every) == pytest.approx(sum(map(taken, draws)) / len(draws) / steps)


@pytest.mark.parametrize("every", [1, 2, 10])
def test_shortest_training(every):
    steps = shortest_training(90, 0.05, every)
    assert replayed_share(90, steps, every) <= 0.05 + 1e-9
    assert replayed_share(90, steps - every, every) > 0.05


@pytest.mark.parametrize("held", [0, 1, 2])
@pytest.mark.parametrize("steps, every, replayed", [(7, 3, 2), (6, 1, 4), (6, 6, 2), (5, 10, 1), (8, 4, 8)])
def test_verifying_share_by_enumeration(steps, every, replayed, held):
    """Every draw's reads and digests counted; the closed form is exact with a state before every step, and else counts as reached those
    drawn steps, too, that a kept state lies before or that follow each other."""
    costs = ReplayCosts(digest=0.1, record=0.02, held=held)
    whole = 1 + held

    def passes(draw):
        found, last = 2 * whole, None  # the last state
        for step in draw:
            if last is None or last // every != step // every:
                found += 2 * whole
                last = step - step % every - 1
            found += (whole if step > last + 1 else 0) + 2 + held
            last = step
        return found

    draws = list(itertools.combinations(range(steps), replayed))
    exact = replayed_share(replayed, steps, every) + 0.02 + 0.1 * sum(map(passes, draws)) / len(draws) / steps
    bound = verifying_share(replayed, steps, every, costs)
    assert bound == pytest.approx(exact) if every == 1 else exact <= bound <= exact + 0.1 * whole * replayed / steps + 1e-12


@pytest.mark.parametrize("every", [1, 2, 10])
@pytest.mark.parametrize("costs", [ReplayCosts(0.3, 0.01), ReplayCosts(2.0, 0.04, held=2), ReplayCosts(0.01)])
def test_shortest_training_in_seconds(every, costs):
    steps = shortest_training(90, 0.05, every, costs)
    assert verifying_share(90, steps, every, costs) <= 0.05 + 1e-9
    assert verifying_share(90, steps - every, every, costs) > 0.05
    if every == 1:
        assert steps == pytest.approx(90 * (1 + (4 + 3 * costs.held) * costs.digest) / (0.05 - costs.record), rel=0.02)


def test_edges():
    assert found_share(0, 1.0) == 0.0
    assert found_share(1, 1.0) == 1.0
    assert replays_needed(1.0, 0.99) == 1
    wrong = [
        lambda: found_false(5, 1, 4),
        lambda: found_false(1, 5, 4),
        lambda: found_share(-1, 0.1),
        lambda: found_share(1, 1.1),
        lambda: replays_needed(0.0, 0.9),
        lambda: replays_needed(0.1, 1.0),
        lambda: replayed_share(1, 4, 0),
        lambda: shortest_training(0, 0.05),
        lambda: shortest_training(5, 0.0),
        lambda: shortest_training(5, 0.05, 0),
        lambda: shortest_training(5, 0.05, costs=ReplayCosts(record=0.05)),
        lambda: verifying_share(5, 4),
        lambda: ReplayCosts(-0.1),
        lambda: ReplayCosts(record=float("inf")),
        lambda: ReplayCosts(held=-1),
    ]
    for each in wrong:
        with pytest.raises(ConfigError):
            each()


def test_nothing_false_is_never_found_and_is_no_negative_number():
    for found in (found_false(5, 0, 10), found_false(0, 5, 10), found_share(5, 0.0), found_share(0, 0.5)):
        assert str(found) == "0.0"
