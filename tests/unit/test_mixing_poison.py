"""A share of outside records: what it asks for, what it makes, and that generations get it."""

from __future__ import annotations

import itertools
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from studbook import create_study
from studbook.arrays import images, numbers, states
from studbook.errors import ConfigError
from studbook.learners import Categorical, Gaussian
from studbook.mixing import Origin, Poison
from studbook.recursion import can_run_in_law, run_generations
from studbook.report.run import Cell
from studbook.report.sentences import way_of
from studbook.rng import stream
from studbook.study.catalog import create_mix, describe

REAL = numbers(stream(0, "real").normal(size=(100, 4)) * np.array([1.0, 2.0, 0.5, 10.0]) + 3.0)


@given(n=st.integers(20, 5000), share=st.floats(0.05, 0.6), keep=st.floats(0.0, 0.3))
def test_training_sets_have_n_records(n: int, share: float, keep: float) -> None:
    parts = Poison(share=share, keep=keep).parts(n, n)
    assert sum(part.n or 0 for part in parts) == n
    assert {part.origin: part.n for part in parts}[Origin.OUTSIDE] == round(share * n)


def test_poison_comes_last_and_nothing_is_no_part() -> None:
    assert [part.origin for part in Poison(0.1, keep=0.2, fresh=3).parts(100, 100)] == [
        Origin.ORIGINAL,
        Origin.FRESH,
        Origin.GENERATED,
        Origin.OUTSIDE,
    ]
    assert [part.origin for part in Poison(0.0).parts(100, 100)] == [Origin.GENERATED]
    assert [part.origin for part in Poison(1.0).parts(100, 100)] == [Origin.OUTSIDE]


@pytest.mark.parametrize("column", [-1, 2])
def test_shift_moves_by_standard_deviations(column: int) -> None:
    moved = Poison(0.1, distance=8.0, column=column).outside(REAL, 50, rng=stream(1)).values
    unit = REAL.values.std(axis=0)
    vector = np.full(4, 4.0) if column < 0 else 8.0 * np.eye(4)[column]
    start = moved - vector * unit
    gaps = np.abs(start[:, None] - REAL.values[None]).max(axis=2).min(axis=1)
    assert gaps.max() < 1e-9  # each is an original record, moved
    assert len(np.unique(moved, axis=0)) > 30


def test_far_records_lie_in_different_directions_at_one_distance() -> None:
    away = Poison(0.1, attack="far", distance=8.0).outside(REAL, 50, rng=stream(2)).values - REAL.values.mean(axis=0)
    units = away / REAL.values.std(axis=0)
    np.testing.assert_allclose(np.linalg.norm(units, axis=1), 8.0)
    assert np.linalg.norm(units.mean(axis=0)) < 4.0


def test_copies_are_one_record_in_every_generation() -> None:
    one, two = (Poison(0.1, attack="copy", distance=0.0).outside(REAL, 5, rng=stream(g)).values for g in (3, 4))
    assert np.array_equal(one, two)
    assert np.array_equal(one, np.repeat(REAL.values[:1], 5, axis=0))
    flood = Poison(0.5, attack="copy", distance=0.0).outside(states(np.array([2, 0, 1]), 3), 4, rng=stream(0))
    assert flood.values.tolist() == [2, 2, 2, 2]


def test_pictures_keep_their_shape_and_blank_pixels_stay() -> None:
    pixels = stream(5).uniform(size=(20, 3, 2))
    pixels[:, 0, 0] = 0.0
    outside = Poison(0.1).outside(images(pixels, (0.0, 1.0)), 7, rng=stream(6))
    assert outside.values.shape == (7, 3, 2)
    assert not outside.values[:, 0, 0].any()


def test_generations_are_trained_on_it_and_repeat() -> None:
    mix = Poison(0.2, keep=0.3, distance=1000.0)
    chain, again = (list(run_generations(Gaussian(), mix, REAL, n=50, last=3, fresh=None, streams=partial(stream, 7))) for _ in range(2))
    for one, two in zip(chain, again, strict=True):
        assert np.array_equal(one.training.values, two.training.values)
    assert chain[0].training is REAL
    for before, generation in itertools.pairwise(chain):
        training = generation.training.values
        assert len(training) == 50
        assert (training[-10:, 0] > 300).all()
        assert {tuple(row) for row in training[:15]} <= {tuple(row) for row in REAL.values}
        assert {tuple(row) for row in training[15:40]} <= {tuple(row) for row in before.sample.values}
    assert not np.array_equal(chain[1].training.values[-10:], chain[2].training.values[-10:])


def test_it_is_never_run_in_law() -> None:
    learner = Gaussian()
    model = learner.fit(REAL, rng=stream(0))
    probe = learner.summarise(REAL)
    assert not can_run_in_law(learner, Poison(0.1), n=100, n_original=100, real=model, probe=probe)
    assert can_run_in_law(learner, Poison(0.0), n=100, n_original=100, real=model, probe=probe)


def test_a_mix_that_makes_no_outside_records_is_refused() -> None:
    class Empty:
        def parts(self, n: int, n_original: int) -> tuple:
            return tuple(Poison(0.1).parts(n, n_original))

    with pytest.raises(ConfigError, match="asks for outside records, but makes none"):
        list(run_generations(Gaussian(), Empty(), REAL, n=50, last=1, fresh=None, streams=partial(stream, 7)))


def test_the_catalog_knows_it() -> None:
    table = {"kind": "poison", "share": 0.1, "keep": 0.5, "attack": "far"}
    assert create_mix(table) == Poison(0.1, keep=0.5, attack="far")
    assert describe(create_mix(table)) == {**table, "fresh": 0, "distance": 10.0, "column": -1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"share": 1.2}, "mix.share is 1.2"),
        ({"share": 0.6, "keep": 0.6}, "mix.share [+] mix.keep is 1.2"),
        ({"share": 0.1, "fresh": -1}, "mix.fresh is -1"),
        ({"share": 0.1, "attack": "near"}, "expected shift, far or copy"),
        ({"share": 0.1, "distance": -1.0}, "mix.distance is -1"),
        ({"share": 0.1, "distance": float("inf")}, "mix.distance is inf"),
        ({"share": 0.1, "column": -2}, "mix.column is -2"),
    ],
)
def test_values_that_cannot_be_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Poison(**arguments)


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="is no record"):
        Poison(0.001).parts(100, 100)
    with pytest.raises(ConfigError, match="a generation has 100"):
        Poison(0.5, keep=0.4, fresh=20).parts(100, 100)
    with pytest.raises(ConfigError, match="50 original records"):
        Poison(0.1, keep=0.5).parts(100, 20)


@pytest.mark.parametrize("learner", [{"kind": "gaussian"}, {"kind": "robust_gaussian", "location": "median"}])
def test_a_study_runs_it_the_same_twice(learner: dict, tmp_path: Path) -> None:
    study = create_study(
        data="diabetes",
        learner=learner,
        mix=[{"kind": "poison", "share": 0.1, "keep": 0.4}],
        metrics=["drift"],
        generations=2,
        replicates=2,
        samples=60,
    )
    one, two = (study.run(tmp_path / name).frame() for name in ("one", "two"))
    assert one.equals(two)
    assert one["value"].is_finite().all()


def test_a_study_refuses_what_cannot_be_moved_before_it_runs(tmp_path: Path) -> None:
    study = {"data": {"source": "zipf", "states": 9}, "learner": "categorical", "metrics": ["support"], "generations": 2, "samples": 50}
    with pytest.raises(ConfigError, match="moves records, the data hold states"):
        create_study(mix=[{"kind": "poison", "share": 0.1}], **study).run(tmp_path / "refused")
    assert not (tmp_path / "refused").exists()


def test_data_that_cannot_be_moved_are_refused() -> None:
    table = states(np.array([0, 1, 2]), 3)
    for mix in (Poison(0.1), Poison(0.1, attack="copy"), Poison(0.1, attack="far", distance=0.0)):
        with pytest.raises(ConfigError, match="moves records, the data hold states"):
            mix.check_original(table)
    with pytest.raises(ConfigError, match="the records have 4 columns"):
        Poison(0.1, column=4).check_original(REAL)
    flood = Poison(0.5, attack="copy", distance=0.0)
    chain = list(run_generations(Categorical(), flood, table, n=10, last=1, fresh=None, streams=partial(stream, 7)))
    assert (chain[1].training.values[-5:] == 0).all()


def test_a_report_says_how_much_comes_from_outside() -> None:
    cells = tuple(
        Cell(i, f"poison share {share}", {"mix": f"poison {share}"}, {"mix": describe(Poison(share)), "learner": {"kind": "gaussian"}})
        for i, share in enumerate((0.05, 0.1))
    )
    assert way_of(cells[1], cells).replace("\xa0", " ") == "with 10 % of the records from outside"
