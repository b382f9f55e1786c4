"""Errors, arrays and random streams."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from studbook import arrays, errors
from studbook.rng import stream

ALL = [thing for thing in vars(errors).values() if isinstance(thing, type) and issubclass(thing, errors.StudbookError)]


def test_codes_are_unique_and_documented():
    codes = [kind.code for kind in ALL]
    assert len(set(codes)) == len(codes)
    assert all(kind.__doc__ for kind in ALL)


@pytest.mark.parametrize("kind", ALL)
def test_errors_cross_process_borders(kind):
    error = pickle.loads(pickle.dumps(kind("got 1, expected 2", hint="do 3")))
    assert type(error) is kind
    assert (error.message, error.hint, str(error)) == ("got 1, expected 2", "do 3", "got 1, expected 2 (do 3)")


def test_streams_depend_on_the_whole_path_and_on_nothing_else():
    seen = {stream(seed, *path).random() for seed in (0, 1) for path in [(), ("a",), ("b",), ("a", 1), ("a", 2), (1, "a")]}
    assert len(seen) == 12
    assert stream(5, "x", 3).random() == stream(5, "x", 3).random()


def test_concatenate_fills_in_weights_and_drops_partial_labels():
    one = arrays.numbers(np.zeros(2)).with_weight(3.0)
    two = arrays.numbers(np.ones(3))
    both = arrays.concatenate([one, two])
    assert both.weights.tolist() == [3.0, 3.0, 1.0, 1.0, 1.0]
    labelled = arrays.Batch(one.values, one.space, labels=np.array([1, 2]))
    assert arrays.concatenate([labelled, two]).labels is None
    assert arrays.concatenate([labelled, labelled]).labels.tolist() == [1, 2, 1, 2]


@pytest.mark.parametrize(
    "make",
    [
        lambda: arrays.Batch(np.zeros((3, 2)), arrays.Space(arrays.Kind.NUMBERS, (3,))),
        lambda: arrays.Batch(np.zeros((3, 2)), arrays.Space(arrays.Kind.NUMBERS, (2,)), weights=np.ones(2)),
        lambda: arrays.concatenate([]),
    ],
)
def test_shapes_that_do_not_fit_are_refused(make):
    with pytest.raises(errors.DataError):
        make()
