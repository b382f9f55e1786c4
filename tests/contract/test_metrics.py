"""Every metric but those on text keeps the contract, for every kind that it lists."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from studbook.arrays import Kind
from studbook.metrics.classifier import ClassShares
from studbook.metrics.distance import Wasserstein, WassersteinSquared
from studbook.metrics.divergence import KullbackLeibler, TotalVariation
from studbook.metrics.diversity import Entropy, Extinct, Heterozygosity, Support, SupportShare
from studbook.metrics.images import NearestTraining, PrecisionRecall
from studbook.metrics.information import Information
from studbook.metrics.moments import Drift, Mean, Std, Variance
from studbook.metrics.protocols import LawMetric, Metric
from studbook.metrics.regression import WeightError
from studbook.metrics.tails import TailMass
from studbook.records import Measurement
from studbook.testing.metrics import check_metric, standard_case

METRICS = (
    *(Mean(), Std(), Variance(), Drift(), Wasserstein(), WassersteinSquared(), TailMass()),
    *(Support(), SupportShare(), Heterozygosity(), Entropy(), KullbackLeibler(), TotalVariation(), Extinct()),
    *(Information(), PrecisionRecall(), NearestTraining(), ClassShares()),
)
PAIRS = [(metric, kind) for metric in METRICS for kind in sorted(metric.kinds)]


@pytest.mark.parametrize(("metric", "kind"), PAIRS, ids=[f"{type(m).__name__}-{k.value}" for m, k in PAIRS])
def test_contract(metric: Metric, kind: Kind) -> None:
    assert check_metric(metric, standard_case(kind))


def test_weight_error_keeps_the_contract_with_a_regression_model() -> None:
    case = standard_case(Kind.NUMBERS)
    model = SimpleNamespace(coefficients=np.array([0.3]))
    check_metric(WeightError(), dataclasses.replace(case, observation=dataclasses.replace(case.observation, model=model, base=model)))


@pytest.mark.parametrize("metric", [m for m in METRICS if not isinstance(m, Information | PrecisionRecall | NearestTraining | ClassShares)])
def test_functions_of_the_law_say_so(metric: Metric) -> None:
    assert isinstance(metric, LawMetric)


@dataclass(frozen=True, slots=True)
class NanMetric:
    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.NUMBERS})

    def measure(self, reference, observation, *, rng):
        return (Measurement("nan", float("nan"), None, 1),)


@dataclass(frozen=True, slots=True)
class ForgetfulMetric:
    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.NUMBERS})

    def measure(self, reference, observation, *, rng):
        return (Measurement("spread", float(np.random.random()), 0.1, 1),)  # noqa: NPY002


@dataclass(frozen=True, slots=True)
class GreedyMetric:
    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.NUMBERS})

    def measure(self, reference, observation, *, rng):
        observation.sample.values.sort(axis=0)
        return (Measurement("median", float(observation.sample.values[0, 0]), 0.1, 1),)


@pytest.mark.parametrize(("metric", "complaint"), [(NanMetric(), "gave"), (ForgetfulMetric(), "differs"), (GreedyMetric(), "changes")])
def test_the_contract_catches_what_it_is_for(metric: Metric, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check_metric(metric, standard_case(Kind.NUMBERS))
