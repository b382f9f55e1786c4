"""Attack against defence on the digits: what is caught, who is wronged, and what is left of the quality."""

from __future__ import annotations

import pytest

from studbook.errors import ConfigError
from studbook.protocols.contest import Audit, Cast, Defence, play
from studbook.protocols.contest_digits import ATTACKS, DEFENCES, Plan, contest_rows


def rows(attack: str, *defences: str, seeds: int = 3) -> dict[str, dict]:
    return {row["defence"]: row for row in contest_rows(Plan((attack,), defences, seeds=seeds, steps=75))}


def test_replay_catches_the_dishonest_and_nobody_else():
    for attack in ("sign flip", "copy", "stale", "sybil"):
        row = rows(attack, "replay", seeds=2)["replay"]
        caught, dishonest = row["caught"].split(" of ")
        assert caught == dishonest
        assert row["wronged"] == "0 of 14"
        assert row["accuracy"] > 0.8


def test_a_node_that_skips_half_of_its_steps_is_caught():
    """Of 25 steps about 12 are false; 5 drawn, three times: one node escapes with probability below 10^-3, nine with 0.01."""
    row = rows("skip", "replay")["replay"]
    assert row["caught"] == "9 of 9"


def test_robust_aggregation_withstands_a_minority_and_no_majority():
    found = rows("sign flip", "mean", "coordinate median", "geometric median")
    assert found["mean"]["accuracy"] < 0.5
    assert found["coordinate median"]["accuracy"] > 0.8
    assert found["geometric median"]["accuracy"] > 0.8
    assert rows("sybil", "coordinate median")["coordinate median"]["accuracy"] < 0.5


def test_a_backdoor_needs_contributors():
    found = rows("backdoor", "mean", "least 4 a row", "replay")
    assert found["mean"]["marked"] > 0.5
    assert found["mean"]["accuracy"] > 0.8  # nobody notices
    assert found["least 4 a row"]["marked"] < 0.2
    assert found["replay"]["caught"] == "9 of 9"
    assert found["replay"]["marked"] < 0.2  # the others went back to before it


def test_a_run_is_a_function_of_its_seed():
    from studbook.protocols.objectives.softmax import Softmax

    objective = Softmax("digits").load()
    cast = Cast(objective, 4, ATTACKS["skip"](objective)[:1], steps=20)
    defence = Defence(DEFENCES["replay"](3).aggregator, Audit(10, 3))
    first, again = play(cast, defence, 5), play(cast, defence, 5)
    assert (first.measures, first.caught, first.first) == (again.measures, again.caught, again.first)


def test_plans_that_cannot_be():
    for wrong in ({"attacks": ("scalling",)}, {"defences": ("meen",)}, {"seeds": 1}, {"steps": 0}, {"drawn": 0}, {"confidence": 1.0}):
        with pytest.raises(ConfigError):
            Plan(**wrong)
    from studbook.protocols.quadratic import Quadratic

    with pytest.raises(ConfigError, match="honest"):
        play(Cast(Quadratic(), 0, []), DEFENCES["mean"](1), 0)
