"""The contract of a learner, for anyone who writes one.

In a test of your own::

    import pytest
    from studbook.testing.learners import learner_checks

    @pytest.mark.parametrize("check", learner_checks(MyLearner()))
    def test_my_learner_keeps_the_contract(check):
        check(MyLearner(), batch)

Each check takes the learner and a batch that it can be fitted to (a hundred records or more, in no particular order), returns nothing
and raises ``AssertionError`` with what was got and expected.
"""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from studbook.arrays import AnyArray, Batch, Floats, Kind, concatenate
from studbook.errors import FitError
from studbook.recursion.protocols import LawLearner, LawModel
from studbook.rng import stream
from studbook.theory.laws import CategoricalLaw, Law

Check: TypeAlias = Callable[[Any, Batch], None]


def learner_checks(learner: Any) -> tuple[Check, ...]:
    """The checks for this learner: those of every learner, and more where it is exact in law.

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import counts
        >>> from studbook.learners.poisson import Poisson
        >>> from studbook.testing.learners import learner_checks
        >>> batch = counts(np.random.default_rng(0).poisson(3.0, 200))
        >>> for check in learner_checks(Poisson()):
        ...     check(Poisson(), batch)
    """
    return (*SAMPLE_CHECKS, *LAW_CHECKS) if isinstance(learner, LawLearner) else SAMPLE_CHECKS


def check_is_frozen_value(learner: Any, batch: Batch) -> None:
    """A learner is a frozen dataclass: equal by its parameters, and it travels to worker processes."""
    for field in fields(learner):
        try:
            setattr(learner, field.name, getattr(learner, field.name))
        except (FrozenInstanceError, AttributeError):
            continue
        raise AssertionError(f"{type(learner).__name__}.{field.name} can be set, expected a frozen dataclass")
    if pickle.loads(pickle.dumps(learner)) != learner:  # noqa: S301 - our own bytes
        raise AssertionError(f"{learner!r} isn't equal to its pickled copy, expected equality by parameters")


def check_sample_fits_the_space(learner: Any, batch: Batch) -> None:
    """Models generate records of the space that they were fitted on, as many as asked for, none included."""
    model = learner.fit(batch, rng=stream(0, "fit"))
    for n in (0, 1, 7):
        sample = model.sample(n, rng=stream(0, "sample"))
        _expect(len(sample) == n, f"sample({n}) holds {len(sample)} records")
        _expect(sample.space == batch.space == model.space, f"sample({n}) is of {sample.space}, expected {batch.space}")
        _expect(sample.values.dtype == batch.values.dtype, f"sample({n}) is {sample.values.dtype}, expected {batch.values.dtype}")


def check_is_reproducible(learner: Any, batch: Batch) -> None:
    """Equal streams give equal models and samples; NumPy's global generator and the data stay untouched."""
    before, values = np.random.get_state()[1].copy(), batch.values.copy()  # type: ignore[index]  # noqa: NPY002
    first, second = (learner.fit(batch, rng=stream(0, "fit")).sample(20, rng=stream(0, "sample")).values for _ in range(2))
    _expect(np.array_equal(first, second), "equal streams gave different samples")
    _expect(np.array_equal(before, np.random.get_state()[1]), "the global generator was used; use the rng that is passed")  # type: ignore[index]  # noqa: NPY002
    _expect(np.array_equal(values, batch.values), "fit or sample changed the data")


def check_calls_are_independent(learner: Any, batch: Batch) -> None:
    """Two calls of ``sample`` on one stream give different records: no integer seed is kept inside the model."""
    model, rng = learner.fit(batch, rng=stream(0, "fit")), stream(0, "sample")
    first, second = model.sample(200, rng=rng).values, model.sample(200, rng=rng).values
    _expect(not np.array_equal(first, second), "two calls of sample gave the same records: the model keeps a seed")


def check_order_is_random(learner: Any, batch: Batch) -> None:
    """Neighbours in a sample are not alike: records aren't sorted by component or state.

    Looks at the correlation of neighbours in each of the records' numbers, |z| < 6 (false alarms: 2e-9 a number).
    """
    model = learner.fit(batch, rng=stream(0, "fit"))
    table = model.sample(2000, rng=stream(0, "order")).flat.astype(np.float64)
    centred = table - table.mean(axis=0)
    spread = (centred**2).sum(axis=0)
    alive = spread > 0
    z = (centred[1:] * centred[:-1]).sum(axis=0)[alive] / spread[alive] * np.sqrt(len(table))
    _expect(bool((np.abs(z) < 6).all()), f"neighbouring records are correlated (|z| up to {np.abs(z).max(initial=0):.1f}): sorted samples?")


def check_model_pickles(learner: Any, batch: Batch) -> None:
    """Models travel to and from worker processes."""
    model = learner.fit(batch, rng=stream(0, "fit"))
    copy = pickle.loads(pickle.dumps(model))  # noqa: S301 - our own bytes
    first, second = (m.sample(20, rng=stream(0, "sample")).values for m in (model, copy))
    _expect(np.array_equal(first, second), "a pickled copy of the model samples differently")


def check_model_is_stored_whole(learner: Any, batch: Batch) -> None:
    """Where a model has ``save`` and the learner ``load``: what is read again samples the same, to the bit. Runs are resumed from it."""
    model = learner.fit(batch, rng=stream(0, "fit"))
    if not hasattr(model, "save") or not hasattr(learner, "load"):
        return
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model")
        copy = learner.load(Path(folder) / "model", batch.space)
    first, second = (m.sample(20, rng=stream(0, "sample")).values for m in (model, copy))
    _expect(np.array_equal(first, second), "a model that was saved and loaded samples differently")


def check_can_recurse(learner: Any, batch: Batch) -> None:
    """A model can be fitted to a model's output, several times over."""
    for generation in range(3):
        model = learner.fit(batch, rng=stream(0, "fit", generation))
        batch = model.sample(len(batch), rng=stream(0, "sample", generation))


def check_log_prob(learner: Any, batch: Batch) -> None:
    """Where a model has ``log_prob``: one number a record, never NaN, and finite on its own samples."""
    model = learner.fit(batch, rng=stream(0, "fit"))
    if not hasattr(model, "log_prob"):
        return
    sample = model.sample(50, rng=stream(0, "sample"))
    own, real = model.log_prob(sample), model.log_prob(batch)
    _expect(own.shape == (50,) and real.shape == (len(batch),), f"log_prob has shape {real.shape}, expected ({len(batch)},)")
    _expect(bool(np.isfinite(own).all()), "log_prob isn't finite on the model's own samples")
    _expect(not np.isnan(real).any(), "log_prob is NaN on the training data")


def check_refuses_no_records(learner: Any, batch: Batch) -> None:
    """An empty training set is a ``FitError``."""
    _expect_refused(learner, batch.take(np.zeros(0, np.int64)), "")


def check_refuses_nan_by_name(learner: Any, batch: Batch) -> None:
    """NaN and infinity are a ``FitError`` that names the record."""
    if batch.space.kind not in (Kind.NUMBERS, Kind.IMAGES):
        return
    for poison in (np.nan, np.inf):
        values = batch.values.copy()
        values.reshape(len(values), -1)[5, -1] = poison
        _expect_refused(learner, replace(batch, values=values), "record 5")


def check_fit_is_estimate_of_summary(learner: Any, batch: Batch) -> None:
    """``fit(batch)`` is ``estimate(summarise(batch))``, weights included."""
    weighted = replace(batch, weights=stream(0, "weights").uniform(0.5, 2.0, len(batch)))
    for data in (batch, weighted):
        direct = learner.fit(data, rng=stream(0, "fit")).law
        _same(direct, learner.estimate(learner.summarise(data), data.space).law, "estimate(summarise(batch))")


def check_merging_is_concatenating(learner: Any, batch: Batch) -> None:
    """Merged and scaled statistics are those of concatenated and weighted records."""
    half = len(batch) // 2
    one, two = batch.take(np.arange(half)), batch.take(np.arange(half, len(batch)))
    merged = learner.summarise(one).scaled(3.0).merge(learner.summarise(two))
    direct = learner.summarise(concatenate([one.with_weight(3.0), two]))
    _same(learner.estimate(merged, batch.space).law, learner.estimate(direct, batch.space).law, "merged and scaled statistics")


def check_replicates(learner: Any, batch: Batch) -> None:
    """R replicates stay R, get independent numbers, and start from equal laws."""
    statistics = learner.summarise(batch).repeat(5)
    _expect(statistics.n_replicates == 5, f"repeat(5) holds {statistics.n_replicates} replicates")
    model = learner.estimate(statistics, batch.space)
    drawn = learner.draw(model, 1000, rng=stream(0, "draw"))
    _expect(drawn.n_replicates == 5, f"draw from 5 replicates holds {drawn.n_replicates}")
    refitted = learner.refit(model, 1000, rng=stream(0, "draw")).law
    _same(refitted, learner.estimate(drawn, batch.space).law, "refit with the same stream")
    rows = _table(refitted)
    _expect(len(np.unique(rows, axis=0)) > 1, "replicates got the same random numbers")


def check_law_round_trip(learner: Any, batch: Batch) -> None:
    """``from_law(model.law)`` is the model again."""
    model = learner.fit(batch, rng=stream(0, "fit"))
    _expect(isinstance(model, LawModel), f"{type(model).__name__} has no law")
    _same(learner.from_law(model.law, model.space).law, model.law, "from_law(model.law)")


def check_size_costs_nothing(learner: Any, batch: Batch) -> None:
    """A generation of 10¹² records can be drawn, and hardly differs from its law."""
    model = learner.fit(batch, rng=stream(0, "fit"))
    before, after = _table(model.law), _table(learner.refit(model, 10**12, rng=stream(0, "draw")).law)
    _expect(
        bool(np.allclose(after, before, rtol=1e-3, atol=1e-4 * np.abs(before).max())), "10¹² records left a law far from the one drawn from"
    )


def check_law_agrees_with_samples(learner: Any, batch: Batch) -> None:
    """Drawing statistics agrees in law with summarising drawn records.

    Compares 400 refitted laws of 50 records with 400 drawn at length, by Kolmogorov and Smirnov's test on two functions of the law,
    at p > 1e-6 each (false alarms: 2e-6).
    """
    from scipy.stats import ks_2samp

    model, rng = learner.fit(batch, rng=stream(0, "fit")), stream(0, "law", "samples")
    many = learner.estimate(learner.summarise(batch).repeat(400), batch.space)
    short = _table(learner.refit(many, 50, rng=rng).law)
    long = np.concatenate([_table(learner.fit(model.sample(50, rng=rng), rng=rng).law) for _ in range(400)])
    for name, view in (("first parameter", short[:, 0]), ("sum of squares", (short**2).sum(axis=1))):
        other = long[:, 0] if name == "first parameter" else (long**2).sum(axis=1)
        p = ks_2samp(view, other).pvalue
        _expect(p > 1e-6, f"the {name} of refitted laws differs from that of models fitted to samples (p = {p:.1e})")


SAMPLE_CHECKS: tuple[Check, ...] = (
    check_is_frozen_value,
    check_sample_fits_the_space,
    check_is_reproducible,
    check_calls_are_independent,
    check_order_is_random,
    check_model_pickles,
    check_model_is_stored_whole,
    check_can_recurse,
    check_log_prob,
    check_refuses_no_records,
    check_refuses_nan_by_name,
)
LAW_CHECKS: tuple[Check, ...] = (
    check_fit_is_estimate_of_summary,
    check_merging_is_concatenating,
    check_replicates,
    check_law_round_trip,
    check_size_costs_nothing,
    check_law_agrees_with_samples,
)


def _expect(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def _expect_refused(learner: Any, batch: Batch, named: str) -> None:
    try:
        learner.fit(batch, rng=stream(0, "fit"))
    except FitError as error:
        _expect(named in str(error), f"the FitError says {str(error)!r}, expected it to name {named!r}")
    else:
        raise AssertionError(f"fit accepted {len(batch)} records with {named or 'nothing in them'}, expected a FitError")


def _same(got: Law, expected: Law, what: str) -> None:
    one, two = _table(got), _table(expected)
    _expect(one.shape == two.shape and bool(np.allclose(one, two, rtol=1e-9, atol=1e-12)), f"{what}: the law differs from the expected one")


def _table(law: Law) -> Floats:
    """A law's parameters, one row a replicate."""
    parts: list[AnyArray] = [law.probabilities] if isinstance(law, CategoricalLaw) else list(law.moments())
    return np.concatenate([part.reshape(law.n_replicates, -1) for part in parts], axis=1)
