"""Aggregators against their definitions, dishonest nodes against what they are meant to send, and what keys leak."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from studbook.errors import ConfigError, RecordError
from studbook.protocols.aggregation import CoordinateMedian, GeometricMedian, LeastContributors, Mean, TrimmedMean
from studbook.protocols.attacks import Backdoor, CopyNeighbour, Scaling, SignFlip, Silent, SkipSteps, StaleWeights, View
from studbook.protocols.eavesdropping import key_leak
from studbook.protocols.values import digest, mean

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import training_site as site

RNG = np.random.default_rng(0)
UPDATES = [{"a": RNG.normal(size=(4, 3)).astype(np.float32), "b": RNG.normal(size=5).astype(np.float32)} for _ in range(7)]
STACKED = np.stack([np.concatenate([each["a"].ravel(), each["b"]]) for each in UPDATES]).astype(np.float64)
ALL = [Mean(), TrimmedMean(0.2), CoordinateMedian(), GeometricMedian(), LeastContributors(1)]


def flat(update):
    return np.concatenate([update["a"].ravel(), update["b"]])


def test_definitions():
    assert digest(Mean().combine(UPDATES)) == pytest.approx(digest(Mean().combine(UPDATES)))
    assert flat(Mean().combine(UPDATES)) == pytest.approx(flat(mean(UPDATES)), abs=1e-7)
    assert flat(CoordinateMedian().combine(UPDATES)) == pytest.approx(np.median(STACKED, axis=0), abs=1e-6)
    assert flat(CoordinateMedian().combine(UPDATES[:4])) == pytest.approx(np.median(STACKED[:4], axis=0), abs=1e-6)
    wanted = np.sort(STACKED, axis=0)[2:-2].mean(axis=0)  # ceil(.2 * 7) = 2 at each end
    assert flat(TrimmedMean(0.2).combine(UPDATES)) == pytest.approx(wanted, abs=1e-6)
    assert flat(TrimmedMean(0.0).combine(UPDATES)) == pytest.approx(STACKED.mean(axis=0), abs=1e-6)
    at = flat(GeometricMedian().combine(UPDATES)).astype(np.float64)
    pull = ((STACKED - at) / np.linalg.norm(STACKED - at, axis=1, keepdims=True)).sum(axis=0)
    assert np.linalg.norm(pull) < 1e-3  # the unit vectors to the records cancel


@pytest.mark.parametrize("aggregator", ALL, ids=str)
def test_one_and_none(aggregator):
    assert flat(aggregator.combine(UPDATES[:1])) == pytest.approx(flat(UPDATES[0]), abs=1e-6)
    with pytest.raises(RecordError):
        aggregator.combine([])
    with pytest.raises(RecordError, match="differ"):
        aggregator.combine([UPDATES[0], {"a": UPDATES[0]["a"]}])
    with pytest.raises(RecordError, match="finite"):
        aggregator.combine([{"a": np.full((4, 3), np.nan, np.float32), "b": np.zeros(5, np.float32)}])


@pytest.mark.parametrize("aggregator", ALL, ids=str)
@pytest.mark.parametrize("junk", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_counts_for_nobody(aggregator, junk):
    broken = {"a": UPDATES[0]["a"].copy(), "b": UPDATES[0]["b"].copy()}
    broken["b"][2] = junk
    assert flat(aggregator.combine([broken, *UPDATES[1:]])) == pytest.approx(flat(aggregator.combine(UPDATES[1:])), abs=1e-6)


@pytest.mark.parametrize("aggregator", [TrimmedMean(0.3), CoordinateMedian(), GeometricMedian()], ids=str)
@pytest.mark.parametrize("size", [10.0, 1e8])
def test_a_minority_does_not_move_robust_ones_far(aggregator, size):
    bad = [{name: np.full_like(value, size) for name, value in UPDATES[0].items()} for _ in range(2)]
    moved = flat(aggregator.combine([*UPDATES[:5], *bad]))
    assert np.abs(moved).max() <= np.abs(STACKED).max()
    assert np.abs(flat(Mean().combine([*UPDATES[:5], *bad]))).max() > size / 5


@pytest.mark.parametrize("aggregator", [Mean(), TrimmedMean(0.2), CoordinateMedian()], ids=str)
def test_uncovered_entries_are_nobodys_word(aggregator):
    covers = [{"a": (RNG.random((4, 3)) < 0.6).astype(np.float32), "b": np.ones(5, np.float32)} for _ in UPDATES]
    covers[0]["a"][:] = 0
    for each in covers:
        each["a"][3] = 0  # nobody has it
    sent = [{name: value * cover[name] for name, value in each.items()} for each, cover in zip(UPDATES, covers, strict=True)]
    found = aggregator.combine(sent, covers)
    assert (found["a"][3] == 0).all()
    for i, j in np.ndindex(3, 3):
        known = [
            {"b": each["b"], "a": each["a"][i : i + 1, j : j + 1]} for each, cover in zip(UPDATES, covers, strict=True) if cover["a"][i, j]
        ]
        if known:
            assert found["a"][i, j] == pytest.approx(float(aggregator.combine(known)["a"][0, 0]), abs=1e-6)


def test_rows_of_few_are_not_moved():
    updates = [{"w": np.zeros((3, 2), np.float32)} for _ in range(5)]
    for i, each in enumerate(updates):
        each["w"][0] = 1.0
        each["w"][1, 0] = float(i < 2)
    found = LeastContributors(3).combine(updates)["w"]
    assert found.tolist() == [[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]
    assert LeastContributors(2).combine(updates)["w"][1, 0] == pytest.approx(0.4)
    covers = [{"w": np.ones((3, 2), np.float32)} for _ in updates]
    covers[0]["w"][1] = 0
    assert LeastContributors(2).combine(updates, covers)["w"][1, 0] == 0


def test_settings_that_cannot_be():
    for wrong in (lambda: TrimmedMean(0.5), lambda: TrimmedMean(-0.1), lambda: LeastContributors(0), lambda: SkipSteps(1.5)):
        with pytest.raises(ConfigError):
            wrong()
    with pytest.raises(RecordError, match="covers"):
        Mean().combine(UPDATES, [UPDATES[0]])


# Dishonest nodes


def view(**changes) -> View:
    node = site.node()
    state = node.begin()
    after = node.apply(state, node.gradient_at(state).parameters)
    neighbours = [site.node(1).gradient_at(after).parameters]
    return View(**{"node": node, "state": after, "neighbours": neighbours, "past": [state], "sent": None, **changes})


def test_what_dishonest_nodes_send():
    seen = view()
    honest = seen.honest()
    assert SignFlip(2.0).update(seen)["weights"] == pytest.approx(-2 * honest["weights"])
    assert Scaling(5.0).update(seen)["weights"] == pytest.approx(5 * honest["weights"])
    assert digest(CopyNeighbour().update(seen)) == digest(seen.neighbours[0])
    assert not Silent().update(seen)["weights"].any()
    assert digest(StaleWeights(1).update(seen)) != digest(honest)
    old = seen.node.objective.gradient(seen.past[0].parameters, seen.node.rows_at(1), rng=RNG).parameters
    assert digest(StaleWeights(9).update(seen)) == digest(old)
    assert digest(SkipSteps(1.0).update(seen)) == digest(honest)  # there is nothing yet to send again
    assert digest(SkipSteps(1.0).update(view(sent=old))) == digest(old)
    assert digest(SkipSteps(0.0).update(view(sent=old))) == digest(honest)
    assert not CopyNeighbour().update(view(neighbours=[]))["weights"].any()


def test_a_backdoor_moves_its_slice_alone():
    seen = view()
    within = {"weights": np.zeros((64, 10), np.float32), "bias": np.zeros(10, np.float32)}
    within["weights"][:4] = 1.0
    found, honest = Backdoor(site.digits(), within, 2.0).update(seen), seen.honest()
    assert digest({"weights": found["weights"][4:], "bias": found["bias"]}) == digest(
        {"weights": honest["weights"][4:], "bias": honest["bias"]}
    )
    assert found["weights"][:4] == pytest.approx(3 * honest["weights"][:4], abs=1e-6)


# Eavesdroppers


def test_keys_that_tell_everything_and_nothing():
    counts = [np.bincount([i, i, i + 4], minlength=8) for i in range(4)]
    own = key_leak([np.array([i, i + 4]) for i in range(4)], counts, 2)
    assert (own.recovered, own.held, own.identified) == (1.0, 1.0, 1.0)
    assert own.bits == pytest.approx(own.most_bits) == 2.0
    same = key_leak([np.arange(8)] * 4, counts, 2)
    assert (same.recovered, same.bits, same.identified) == (1.0, 0.0, 0.0)  # all keys: everything is among them, and nothing is told
    assert same.held == 0.25
    assert same.guessed == 1.0


def test_the_bits_of_a_key_by_hand():
    """Two clients, one shared key of two each: I = H(1/4, 1/2, 1/4) - 1 = 1/2 bit."""
    counts = [np.array([1, 2, 0]), np.array([0, 2, 1])]
    leak = key_leak([np.array([0, 1]), np.array([1, 2])], counts, 1)
    assert leak.bits == pytest.approx(0.5)
    for keys, table, k in (([], [], 1), ([np.array([0])], counts, 1), ([np.array([3])] * 2, counts, 1), ([np.array([0])] * 2, counts, 0)):
        with pytest.raises(ConfigError):
            key_leak(keys, table, k)
