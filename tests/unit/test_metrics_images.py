"""Metrics on pictures, on the handwritten digits that scikit-learn ships."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.datasets import load_digits

from studbook.arrays import images, numbers
from studbook.errors import ConfigError, MetricError
from studbook.metrics.classifier import Classifier, ClassShares
from studbook.metrics.images import NearestTraining, PrecisionRecall
from studbook.metrics.information import Information
from studbook.metrics.neighbours import BLOCK, nearest_squared, neighbour_table
from studbook.metrics.protocols import Observation, Reference
from studbook.metrics.regression import WeightError
from studbook.theory.laws import GaussianLaw


@pytest.fixture(scope="module")
def digits():
    pixels, labels = load_digits(return_X_y=True)
    return images(pixels.reshape(-1, 8, 8), (0.0, 16.0), labels.astype(np.int64))


def measure(metric, reference, sample, training=None):
    observation = Observation(sample, sample if training is None else training, model=None, base=None)
    return {m.metric: m for m in metric.measure(reference, observation, rng=np.random.default_rng(0))}


def noisy(batch, rng, scale):
    return images(batch.values + scale * rng.normal(size=batch.values.shape), (0.0, 16.0))


def brute_prdc(real, fake, k):
    """The definitions, straight from the papers, on the full distance matrices."""

    def distances(a, b):
        return np.sqrt(((a[:, None] - b) ** 2).sum(axis=2))

    real_radii = np.sort(distances(real, real), axis=1)[:, k]
    fake_radii = np.sort(distances(fake, fake), axis=1)[:, k]
    across = distances(real, fake)
    inside = across < real_radii[:, None]
    return {
        "precision": inside.any(axis=0).mean(),
        "recall": (across < fake_radii).any(axis=1).mean(),
        "density": inside.sum(axis=0).mean() / k,
        "coverage": (across.min(axis=1) < real_radii).mean(),
    }


@pytest.mark.parametrize("k", [1, 5])
def test_precision_and_recall_by_definition(digits, k: int) -> None:
    rng = np.random.default_rng(k)
    real, fake = digits.take(np.arange(150)), noisy(digits.take(np.arange(200, 320)), rng, 2.0)
    found = measure(PrecisionRecall(neighbours=k), Reference(real, None), fake)
    assert {name: m.value for name, m in found.items()} == pytest.approx(brute_prdc(real.flat, fake.flat, k), abs=1e-12)


@pytest.mark.peers
@pytest.mark.parametrize("scale", [0.0, 1.0, 5.0])
def test_precision_and_recall_equal_the_reference_package(digits, scale: float) -> None:
    prdc = pytest.importorskip("prdc", reason="pip install --no-deps prdc==0.2")
    fake = noisy(digits.take(np.arange(900, 1797)), np.random.default_rng(5), scale)
    real = digits.take(np.arange(900))
    found = measure(PrecisionRecall(), Reference(real, None), fake)
    assert {name: m.value for name, m in found.items()} == prdc.compute_prdc(real.flat, fake.flat, nearest_k=5)


def test_a_collapsed_sample_has_no_recall(digits) -> None:
    found = measure(PrecisionRecall(), Reference(digits, None), digits.take(np.zeros(500, dtype=np.int64)))
    assert found["precision"].value == 1.0
    assert found["recall"].value == 0.0
    assert found["coverage"].value < 0.02


def test_too_few_records_for_the_neighbours_are_refused(digits) -> None:
    with pytest.raises(MetricError, match="only 5 records"):
        measure(PrecisionRecall(), Reference(digits, None), digits.take(np.arange(5)))
    with pytest.raises(ConfigError, match="neighbours is 0"):
        PrecisionRecall(neighbours=0)


def test_neighbours_across_blocks() -> None:
    records = np.random.default_rng(0).normal(size=(BLOCK + 77, 3))
    rows, squared = neighbour_table(records, 4)
    full = ((records[:, None] - records) ** 2).sum(axis=2)
    np.fill_diagonal(full, np.inf)
    np.testing.assert_allclose(squared, np.sort(full, axis=1)[:, :4], atol=1e-10)
    np.testing.assert_array_equal(rows, np.argsort(full, axis=1)[:, :4])
    np.testing.assert_allclose(nearest_squared(records + 0.1, records), ((records + 0.1)[:, None] - records).__pow__(2).sum(2).min(1))


def test_copies_are_nearer_to_the_training_set_than_real_records(digits) -> None:
    training, heldout = digits.take(np.arange(1000)), digits.take(np.arange(1000, 1400))
    reference = Reference(training, None, heldout)
    copied = measure(NearestTraining(), reference, training.take(np.arange(300)), training)["nearest_training"]
    honest = measure(NearestTraining(), reference, digits.take(np.arange(1400, 1797)), training)["nearest_training"]
    assert copied.value == 0.0
    assert abs(honest.value - 1.0) < 0.15
    assert honest.stderr < 0.03


@pytest.mark.parametrize("size", [1, 7, 29])
def test_nearest_training_compares_with_as_many_real_records(size: int) -> None:
    """On a line of unit steps every record's nearest other is 1 away, and farther where it is one of few."""
    line = numbers(np.arange(30.0))
    training = numbers(1000.0 + np.arange(float(size)))
    found = measure(NearestTraining(), Reference(line, None), numbers(np.full(10, 999.0)), training)["nearest_training"]
    real = 1.0 / found.value  # the sample's own distance is 1
    assert real == 1.0 if size == 29 else real > 1.0
    held = measure(NearestTraining(), Reference(line, None, line), numbers(np.full(10, 999.0)), training)["nearest_training"]
    # Held-out records that are in the original: size of 30 at distance 0, the others at 1 or more.
    assert 1.0 / held.value >= (30 - size) / 30


def test_nearest_training_needs_something_real_to_compare() -> None:
    one, other = numbers(np.zeros((1, 2))), numbers(np.ones((5, 2)))
    with pytest.raises(MetricError, match="two original records or more"):
        measure(NearestTraining(), Reference(one, None), other, other)
    assert measure(NearestTraining(), Reference(one, None, other), other, other)["nearest_training"].value == 0.0


def test_nearest_training_without_spread() -> None:
    point, other = numbers(np.zeros((5, 2))), numbers(np.ones((5, 2)))
    assert measure(NearestTraining(), Reference(point, None), point, point)["nearest_training"].value == 1.0
    assert measure(NearestTraining(), Reference(point, None), other, point)["nearest_training"].value == np.inf


def test_classifier_is_right_on_unseen_digits(digits) -> None:
    shuffled = digits.take(np.random.default_rng(0).permutation(len(digits)))
    classifier = Classifier.train(shuffled.take(np.arange(1200)), 40)
    unseen = shuffled.take(np.arange(1200, 1797))
    assert (classifier.predict(unseen.flat) == unseen.labels).mean() > 0.97


def test_class_shares_of_a_sample_that_lost_classes(digits) -> None:
    kept = digits.take(np.flatnonzero(digits.labels < 2))
    found = measure(ClassShares(), Reference(digits, None), kept)
    assert found["class_shares.0"].value + found["class_shares.1"].value > 0.99
    assert found["class_shares.9"].stderr > 0
    assert found["class_shares.entropy"].value == pytest.approx(np.log(2), abs=0.05)


def test_class_shares_need_labels(digits) -> None:
    with pytest.raises(MetricError, match="needs labels"):
        measure(ClassShares(), Reference(images(digits.values, (0, 16)), None), digits)


def test_one_class_needs_no_classifier(digits) -> None:
    zeros = digits.take(np.flatnonzero(digits.labels == 0))
    assert measure(ClassShares(), Reference(zeros, None), digits)["class_shares.0"].value == 1.0


def test_duplicates_hold_no_information(digits) -> None:
    once = measure(Information(), Reference(digits, None), digits)
    part = digits.take(np.arange(800))
    for name, value in measure(Information(), Reference(digits, None), part).items():
        doubled = measure(Information(), Reference(digits, None), part.take(np.tile(np.arange(800), 2)))
        assert doubled[name].value == value.value
        assert value.value < once[name].value


def test_a_collapsed_sample_holds_next_to_nothing(digits) -> None:
    found = measure(Information(), Reference(digits, None), digits.take(np.zeros(1000, dtype=np.int64)))
    assert found["information_plugin"].value == 0.0
    assert found["information_compressed"].value < 8 * 128


def test_information_of_coordinates_adds_up() -> None:
    """Four records, the corners of a square: two symbols a coordinate, two coordinates, four records: 8 bits."""
    corners = numbers(np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]))
    assert measure(Information(), Reference(corners, None), corners)["information_plugin"].value == pytest.approx(8.0)


def test_information_of_a_large_sample_looks_at_a_part(digits) -> None:
    found = measure(Information(limit=64 * 100), Reference(digits, None), digits)
    assert found["information_plugin"].n == 100


def test_information_keeps_no_more_than_its_grid() -> None:
    original = numbers(np.random.default_rng(0).normal(size=1000))
    wild = numbers(np.array([1e300, -1e300, 1e299, 0.0]))
    assert measure(Information(), Reference(original, None), wild)["information_plugin"].value == pytest.approx(3 * np.log2(3))


@pytest.mark.parametrize("intercept", [0.0, 2.0])
def test_weight_error_is_the_excess_risk(intercept: float) -> None:
    """E (x'(ŵ − w₀))² by the covariance for a model with an intercept, by second moments for one without."""
    mean, covariance = np.array([1.0, -1.0, 2.0]), np.array([[2.0, 0.5, 1.0], [0.5, 1.0, 0.0], [1.0, 0.0, 3.0]])
    joint = covariance + (0 if intercept else np.outer(mean, mean))
    best = np.linalg.solve(joint[:2, :2], joint[:2, 2])
    shift = np.array([0.3, -0.2])
    model = SimpleNamespace(coefficients=best + shift, intercept=intercept)
    sample = numbers(np.zeros((4, 3)))
    found = WeightError().measure(
        Reference(None, GaussianLaw(mean[None], covariance[None])), Observation(sample, sample, model, model), rng=np.random.default_rng(0)
    )[0]
    assert found.exact
    assert found.value == pytest.approx(shift @ joint[:2, :2] @ shift)


def test_weight_error_on_real_data_starts_at_zero() -> None:
    data = numbers(np.random.default_rng(0).normal(size=(30, 3)))
    base, later = SimpleNamespace(coefficients=np.zeros(2)), SimpleNamespace(coefficients=np.array([1.0, 0.0]))
    reference = Reference(data, None)
    for model, expected in ((base, 0.0), (later, (data.values[:, 0] ** 2).mean())):
        found = WeightError().measure(reference, Observation(data, data, model, base), rng=np.random.default_rng(0))[0]
        assert found.value == pytest.approx(expected)


def test_weight_error_needs_a_regression() -> None:
    data = numbers(np.zeros((3, 2)))
    with pytest.raises(MetricError, match="expected a regression model"):
        WeightError().measure(Reference(data, None), Observation(data, data, None, None), rng=np.random.default_rng(0))
    model = SimpleNamespace(coefficients=np.zeros(1))
    with pytest.raises(MetricError, match="generation 0"):
        WeightError().measure(Reference(data, None), Observation(data, data, model, None), rng=np.random.default_rng(0))
