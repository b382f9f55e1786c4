"""Contract suite for metrics: what anybody's metric must keep to.

from studbook.testing.metrics import check_metric, standard_case

def test_my_metric() -> None:
    for kind in MyMetric.kinds:
        check_metric(MyMetric(), standard_case(kind))
"""

from __future__ import annotations

import dataclasses
import pickle
from dataclasses import dataclass

import numpy as np

from studbook.arrays import AnyArray, Batch, Kind, counts, images, numbers, states, text
from studbook.errors import MetricError
from studbook.metrics.protocols import LawMetric, Metric, Observation, Reference
from studbook.records import Measurement
from studbook.theory.laws import CategoricalLaw, GaussianLaw, Law, PoissonLaw


@dataclass(frozen=True, slots=True)
class LawHolder:
    """A model that is nothing but its law."""

    law: Law


@dataclass(frozen=True, slots=True, eq=False)
class MetricCase:
    """Data to check a metric on.

    Attributes:
        original: The original data.
        law: The law that they come from, if the case has one.
        observation: A generation.
        laws: R ≥ 2 laws of generations, for metrics that are functions of the law; ``None`` where the kind has none.
        single_laws: The same laws one by one.
    """

    original: Batch
    observation: Observation
    law: Law | None = None
    laws: Law | None = None
    single_laws: tuple[Law, ...] = ()

    def reference(self) -> Reference:
        """A reference that remembers nothing yet."""
        return Reference(self.original, self.law)


def standard_case(kind: Kind, *, n: int = 60) -> MetricCase:
    """A small case of each kind: an original, and a generation that has lost some of its spread. Models are bare.

    Metrics that ask more of a model than a law (probabilities, coefficients) need a case of their own.

    Examples:
        >>> from studbook.arrays import Kind
        >>> from studbook.testing.metrics import standard_case
        >>> case = standard_case(Kind.COUNTS)
        >>> len(case.original), case.laws.n_replicates
        (60, 3)
    """
    rng = np.random.default_rng(20)
    original, sample = (_records(kind, n, spread, rng) for spread in (1.0, 0.6))
    if kind is Kind.NUMBERS:
        deviations = np.array([1.0, 0.5, 0.0])
        law: Law = GaussianLaw(np.zeros((1, 2)), np.eye(2)[None])
        parts: tuple[Law, ...] = tuple(GaussianLaw(np.full((1, 2), 0.1), s * s * np.eye(2)[None]) for s in deviations)
        whole: Law = GaussianLaw(np.full((3, 2), 0.1), (deviations**2)[:, None, None] * np.eye(2))
    elif kind is Kind.COUNTS:
        rates = np.array([4.0, 1.5, 0.0])
        law, whole, parts = PoissonLaw(rates[:1]), PoissonLaw(rates), tuple(PoissonLaw(rates[i : i + 1]) for i in range(3))
    elif kind is Kind.STATES:
        rows = np.array([[0.4, 0.3, 0.2, 0.1], [0.6, 0.0, 0.4, 0.0], [1.0, 0.0, 0.0, 0.0]])
        law, whole, parts = CategoricalLaw(rows[:1]), CategoricalLaw(rows), tuple(CategoricalLaw(rows[i : i + 1]) for i in range(3))
    else:
        return MetricCase(original, Observation(sample, original, model=None, base=None))
    return MetricCase(original, Observation(sample, original, model=None, base=None), law, whole, parts)


def _records(kind: Kind, n: int, spread: float, rng: np.random.Generator) -> Batch:
    if kind is Kind.NUMBERS:
        return numbers(spread * rng.standard_normal((n, 2)))
    if kind is Kind.COUNTS:
        return counts(rng.poisson(4.0 * spread, n))
    if kind is Kind.STATES:
        return states(rng.choice(4, n, p=[1 - 0.6 * spread, 0.3 * spread, 0.2 * spread, 0.1 * spread]), 4)
    if kind is Kind.TEXT:
        return text(rng.integers(0, int(20 * spread), (n, 8)), tuple(f"w{i}" for i in range(20)))
    labels = np.arange(n) % 3
    # Three shapes, so that a classifier can tell the classes apart.
    return images(np.eye(16)[labels].reshape(n, 4, 4) + 0.1 * spread * rng.random((n, 4, 4)), (0.0, 1.0), labels)


def check_metric(metric: Metric, case: MetricCase) -> tuple[Measurement, ...]:
    """Run every check of the contract.

    Returns:
        What the metric measured on the case.

    Raises:
        AssertionError: The first promise that the metric breaks.

    Examples:
        >>> from studbook.arrays import Kind
        >>> from studbook.metrics.moments import Std
        >>> from studbook.testing.metrics import check_metric, standard_case
        >>> [m.metric for m in check_metric(Std(), standard_case(Kind.NUMBERS))]
        ['std']
    """
    check_is_value(metric)
    check_leaves_inputs_alone(metric, case)
    found = check_measurements(metric, case)
    check_reproducible(metric, case)
    check_refuses_other_kinds(metric, case)
    check_collapsed(metric, case, found)
    if isinstance(metric, LawMetric) and case.laws is not None:
        check_law(metric, case, found)
    return found


def check_is_value(metric: Metric) -> None:
    """A metric is a frozen dataclass that can be compared, hashed and sent to another process."""
    _require(dataclasses.is_dataclass(metric), metric, "isn't a dataclass")
    _require(bool(type(metric).__dataclass_params__.frozen), metric, "isn't frozen")  # type: ignore[attr-defined]
    _require(bool(metric.kinds) and all(isinstance(kind, Kind) for kind in metric.kinds), metric, "has no kinds")
    _require(pickle.loads(pickle.dumps(metric)) == metric, metric, "doesn't survive pickling")  # noqa: S301
    _require(hash(dataclasses.replace(metric)) == hash(metric), metric, "has an unstable hash")  # type: ignore[type-var]


def check_measurements(metric: Metric, case: MetricCase) -> tuple[Measurement, ...]:
    """It measures something, under distinct names, never NaN, with a standard error or exact."""
    found = _measure(metric, case)
    _require(isinstance(found, tuple) and len(found) > 0, metric, "measured nothing")
    _require(len({m.metric for m in found}) == len(found), metric, "uses a name twice")
    for m in found:
        _require(isinstance(m, Measurement) and not np.isnan(m.value), metric, f"gave {m}")
        _require(m.stderr is None or m.stderr >= 0, metric, f"gave a standard error of {m.stderr} for {m.metric}")
        _require(m.n >= 0, metric, f"counted {m.n} records for {m.metric}")
    return found


def check_reproducible(metric: Metric, case: MetricCase) -> None:
    """Equal streams give equal values, whatever the reference remembers; NumPy's global stream isn't touched."""
    before = np.random.get_state(legacy=False)  # noqa: NPY002
    reference = case.reference()
    first, again, fresh = _measure(metric, case, reference), _measure(metric, case, reference), _measure(metric, case)
    _require(first == again == fresh, metric, "differs between equal calls")
    after = np.random.get_state(legacy=False)  # noqa: NPY002
    _require(str(before) == str(after), metric, "draws from NumPy's global stream")


def check_leaves_inputs_alone(metric: Metric, case: MetricCase) -> None:
    """Records aren't changed."""
    batches = (case.original, case.observation.sample, case.observation.training)
    before: list[AnyArray] = [batch.values.copy() for batch in batches]
    _measure(metric, case)
    unchanged = all(np.array_equal(old, batch.values) for old, batch in zip(before, batches, strict=True))
    _require(unchanged, metric, "changes the records")


def check_refuses_other_kinds(metric: Metric, case: MetricCase) -> None:
    """Records of a kind that it doesn't list are a ``studbook.errors.MetricError`` that names the kind."""
    for kind in Kind:
        if kind in metric.kinds:
            continue
        other = standard_case(kind)
        wrong = dataclasses.replace(case.observation, sample=other.observation.sample, training=other.original)
        try:
            metric.measure(other.reference(), wrong, rng=np.random.default_rng(0))
        except MetricError as error:
            _require(kind.value in str(error), metric, f"doesn't name the kind in {str(error)!r}")
        else:
            _require(False, metric, f"accepts {kind.value}, which it doesn't list")  # noqa: FBT003


def check_collapsed(metric: Metric, case: MetricCase, found: tuple[Measurement, ...]) -> None:
    """A sample of equal records, and a training set of them, have the same named values, none of them NaN."""
    sample = case.observation.sample
    equal = sample.take(np.zeros(len(sample), dtype=np.int64))
    collapsed = dataclasses.replace(case.observation, sample=equal, training=equal)
    measured = metric.measure(case.reference(), collapsed, rng=np.random.default_rng(0))
    _require([m.metric for m in measured] == [m.metric for m in found], metric, "changes its names on a collapsed sample")
    sound = all(not np.isnan(m.value) and (m.stderr is None or m.stderr >= 0) for m in measured)
    _require(sound, metric, f"has no value on a collapsed sample: {measured}")


def check_law(metric: LawMetric, case: MetricCase, found: tuple[Measurement, ...]) -> None:
    """R laws at once give what they give one at a time, and what a model with that law is measured to have."""
    if case.laws is None or case.law is None:
        return
    reference = Reference(None, case.law)
    together = metric.of_law(reference, case.laws)
    if together is None:
        return
    names = {m.metric for m in found}
    _require(set(together) <= names, metric, f"names {set(together)} in law, {names} on a sample")
    for row, law in enumerate(case.single_laws):
        alone = metric.of_law(reference, law)
        _require(alone is not None and set(alone) == set(together), metric, "has other values for one law than for several")
        for name, values in (alone or {}).items():
            _require(together[name].shape == (len(case.single_laws),), metric, f"gives shape {together[name].shape} for {name}")
            _require(not np.isnan(values[0]), metric, f"gives NaN for {name} in law")
            _require(bool(np.isclose(values[0], together[name][row], rtol=1e-9, atol=1e-12)), metric, f"mixes replicates in {name}")
    if isinstance(metric, Metric):
        _check_model_with_law(metric, case, reference, {name: float(values[0]) for name, values in together.items()})


def _check_model_with_law(metric: Metric, case: MetricCase, reference: Reference, expected: dict[str, float]) -> None:
    seen = dataclasses.replace(case.observation, model=LawHolder(case.single_laws[0]))
    for m in metric.measure(reference, seen, rng=np.random.default_rng(0)):
        _require(m.exact and bool(np.isclose(m.value, expected[m.metric])), metric, f"isn't exact for a model with a law: {m}")


def _measure(metric: Metric, case: MetricCase, reference: Reference | None = None) -> tuple[Measurement, ...]:
    return metric.measure(reference or case.reference(), case.observation, rng=np.random.default_rng(11))


def _require(condition: bool, metric: object, complaint: str) -> None:
    if not condition:
        raise AssertionError(f"{type(metric).__name__} {complaint}")
