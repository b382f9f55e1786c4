"""How many fresh real records a generation keep a wanted share of the diversity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np

from studbook.errors import ConfigError
from studbook.parameters import nearest
from studbook.planning._moments import kept_moment
from studbook.planning._search import TOLERANCE, Simulation, search, smallest
from studbook.planning._support import EXACT_SAMPLES, States, exact_support, rarefaction_curve
from studbook.theory import CategoricalLaw, golden_weight

DoseMetric: TypeAlias = Literal["variance", "heterozygosity", "support"]
_MAX_SAMPLES = 10**12
_MAX_GENERATIONS = 10**9


@dataclass(frozen=True, slots=True)
class Dose:
    """The smallest number of fresh real records a generation that keeps what was asked for.

    Attributes:
        fresh: Fresh real records among the ``samples`` of each generation after generation 0.
        fraction: ``fresh / samples``.
        kept: Expected share kept with that dose. Variance and heterozygosity: of the original law's. Support: of the expected number
            of states in generation 0, ``samples`` real draws.
        method: ``"theory"`` (exact) or ``"simulation"``.
        interval: Confidence interval of ``kept``; both ends equal it where the method is theory.
        samples: Records a generation.
        generations: Generations after generation 0.
        metric: What is kept.
        kept_without: The share that no real data would leave.
        kept_of_law: The share kept of the law's own value; differs from ``kept`` for the support of a law with rare states.
        golden_weight: Total weight of the real records in a fit that minimises the error, for this dose (pooling gives ``fraction``).
        effective_sample_size: Real records that are worth as much as the golden-weighted mix, ``fresh / golden_weight``.
        fresh_interval: Doses that the simulation doesn't exclude; both ends are ``fresh`` where the method is theory.
        seed: Root seed of the simulation.
        replicates: Replicates behind ``kept``; 0 where the method is theory.
    """

    fresh: int
    fraction: float
    kept: float
    method: Literal["theory", "simulation"]
    interval: tuple[float, float]
    samples: int
    generations: int
    metric: DoseMetric
    kept_without: float
    kept_of_law: float
    golden_weight: float
    effective_sample_size: float
    fresh_interval: tuple[int, int]
    seed: int
    replicates: int


def dose(
    metric: DoseMetric,
    keep: float,
    samples: int,
    generations: int,
    *,
    law: CategoricalLaw | None = None,
    seed: int = 0,
    confidence: float = 0.95,
    ddof: int = 0,
) -> Dose:
    """The smallest number of fresh real records a generation that keeps the share ``keep`` in expectation.

    Generation 0 is fitted to ``samples`` real records; every later one to ``fresh`` new real records and ``samples - fresh`` records
    of the model before it, pooled with equal weights.

    Variance (of any model that matches mean and variance) and heterozygosity (of any categorical model) follow the coalescence
    recursion, at any size. The support follows the genealogy of the training set: solved exactly up to 2,000 samples, simulated
    exactly in law beyond, with replicates doubled until the confidence intervals settle the dose or a fixed budget is used.

    Args:
        metric: ``"variance"``, ``"heterozygosity"`` or ``"support"``.
        keep: Wanted share, above 0 and at most 1.
        samples: Records a generation, real and generated.
        generations: Generations after generation 0.
        law: The original's distribution; needed for ``"support"``, where the dose depends on how rare the states are.
        seed: Root seed of the simulation.
        confidence: Of the intervals of a simulation.
        ddof: Divisor ``n - ddof`` of the fitted variance, 0 or 1. With 1 the *expected* variance never falls, whatever the dose,
            while the typical run still collapses; 0 is the honest question.

    Returns:
        The dose, with what it keeps and what no real data would leave.

    Raises:
        ConfigError: An argument that can't be meant, a share that even fresh data alone don't keep, or a law that is missing.

    References:
        S. Wright, "Evolution in Mendelian populations", Genetics 16 (1931), for drift and migration; J. F. C. Kingman, "The
        coalescent", 1982, for the genealogy; H. He, S. Xu, G. Cheng, "Golden Ratio Weighting Prevents Model Collapse", 2025.

    Example:
        >>> from studbook.planning import dose
        >>> answer = dose("variance", 0.9, samples=100, generations=1000)
        >>> answer.fresh, round(answer.kept, 4), answer.method
        (5, 0.9065, 'theory')
    """
    _check(metric, 0, samples, generations, ddof)
    _check_share("keep", keep)
    _check_share("confidence", confidence, below_one=True)
    if metric == "support":
        return _dose_support(keep, samples, generations, _states(law), seed, confidence)

    def kept(fresh: int) -> float:
        return kept_moment(fresh, samples, generations, ddof=ddof)

    if kept(samples) < keep - TOLERANCE:
        raise ConfigError(
            f"keep is {keep:.12g}, but {samples} fresh records a generation and nothing else keep {kept(samples):.12g} of the {metric}",
            hint="ask for less, or take more samples a generation",
        )
    fresh = smallest(lambda r: kept(r) >= keep - TOLERANCE, 0, samples)
    return _result(metric, samples, generations, fresh, kept(fresh), kept(0), kept(fresh), seed)


def share_kept(
    metric: DoseMetric,
    fresh: int,
    samples: int,
    generations: int,
    *,
    law: CategoricalLaw | None = None,
    seed: int = 0,
    replicates: int = 64,
    ddof: int = 0,
) -> float:
    """The expected share that ``fresh`` real records a generation keep: one point of the curve that :func:`dose` searches.

    Args:
        metric: As in :func:`dose`.
        fresh: Fresh real records a generation, at most ``samples``.
        samples: As in :func:`dose`.
        generations: As in :func:`dose`.
        law: As in :func:`dose`.
        seed: Root seed, where the support of more than 2,000 samples is simulated.
        replicates: Replicates of that simulation.
        ddof: As in :func:`dose`.

    Raises:
        ConfigError: As :func:`dose`.

    Example:
        >>> from studbook.planning import share_kept
        >>> [round(share_kept("heterozygosity", r, 1000, 100_000), 3) for r in (0, 1, 5, 50)]
        [0.0, 0.666, 0.909, 0.99]
    """
    _check(metric, fresh, samples, generations, ddof)
    if metric != "support":
        return kept_moment(fresh, samples, generations, ddof=ddof)
    states = _states(law)
    if samples <= EXACT_SAMPLES:
        return exact_support(states, fresh, samples, generations) / _original_support(states, samples)
    if replicates < 1:
        raise ConfigError(f"replicates is {replicates}, expected 1 or more")
    return float(Simulation(rarefaction_curve(states, samples), samples, generations, 0.95, seed).shares(fresh, replicates).mean())


def _dose_support(keep: float, samples: int, generations: int, states: States, seed: int, confidence: float) -> Dose:
    original = _original_support(states, samples)
    of_law = original / states.n_states
    if samples <= EXACT_SAMPLES:

        def kept(fresh: int) -> float:
            return exact_support(states, fresh, samples, generations) / original

        fresh = smallest(lambda r: kept(r) >= keep - TOLERANCE, 0, samples)
        share = kept(fresh)
        return _result("support", samples, generations, fresh, share, kept(0), share * of_law, seed)
    simulation = Simulation(rarefaction_curve(states, samples), samples, generations, confidence, seed)
    found = search(simulation, keep)
    mean, low, high = simulation.estimate(found.fresh, found.replicates)
    without = simulation.estimate(0, found.replicates)[0]
    interval = ((low, high), found.fresh_interval, found.replicates)
    return _result("support", samples, generations, found.fresh, mean, without, mean * of_law, seed, simulated=interval)


def _result(
    metric: DoseMetric,
    samples: int,
    generations: int,
    fresh: int,
    kept: float,
    kept_without: float,
    kept_of_law: float,
    seed: int,
    *,
    simulated: tuple[tuple[float, float], tuple[int, int], int] | None = None,
) -> Dose:
    interval, fresh_interval, replicates = simulated or ((kept, kept), (fresh, fresh), 0)
    weight = golden_weight(fresh / (samples - fresh)) if 0 < fresh < samples else fresh / samples
    return Dose(
        fresh=fresh,
        fraction=fresh / samples,
        kept=kept,
        method="simulation" if simulated else "theory",
        interval=interval,
        samples=samples,
        generations=generations,
        metric=metric,
        kept_without=kept_without,
        kept_of_law=kept_of_law,
        golden_weight=weight,
        effective_sample_size=fresh / weight if weight else 0.0,
        fresh_interval=fresh_interval,
        seed=seed,
        replicates=replicates,
    )


def _original_support(states: States, samples: int) -> float:
    return float(states.rarefaction(np.array([samples]))[0])


def _states(law: CategoricalLaw | None) -> States:
    if law is None:
        raise ConfigError(
            "the dose for support depends on how rare the states are, and no law was given",
            hint="pass law=CategoricalLaw(...); on the command line --probabilities FILE or --data SOURCE",
        )
    if law.n_replicates != 1:
        raise ConfigError(f"law holds {law.n_replicates} distributions, expected one", hint="pass probabilities of shape (1, K)")
    probabilities = law.probabilities[0]
    if not np.isfinite(probabilities).all() or (probabilities < 0.0).any() or abs(float(probabilities.sum()) - 1.0) > 1e-6:
        raise ConfigError(
            f"the law's {len(probabilities)} probabilities sum to {float(probabilities.sum()):.6g}, or some are negative or not finite",
            hint="expected non-negative probabilities that sum to 1",
        )
    return States.of(probabilities)


def _check(metric: str, fresh: int, samples: int, generations: int, ddof: int) -> None:
    metrics = get_args(DoseMetric)
    if metric not in metrics:
        raise ConfigError(f"there is no dose for metric {metric!r}", hint=nearest(str(metric), metrics, noun="metric"))
    _check_count("samples", samples, 1, _MAX_SAMPLES)
    _check_count("generations", generations, 0, _MAX_GENERATIONS)
    _check_count("fresh", fresh, 0, samples)
    if ddof not in (0, 1) or (ddof == 1 and metric != "variance"):
        raise ConfigError(f"ddof is {ddof!r} for {metric}, expected 0, or 1 with the variance")
    if ddof and samples < 2:
        raise ConfigError("samples is 1, expected 2 or more with ddof = 1")


def _check_count(name: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or not low <= value <= high:
        raise ConfigError(f"{name} is {value!r}, expected a whole number from {low:,} to {high:,}")


def _check_share(name: str, value: float, *, below_one: bool = False) -> None:
    if not (0.0 < value < 1.0 or (value == 1.0 and not below_one)):
        raise ConfigError(f"{name} is {value!r}, expected a number above 0 and {'below' if below_one else 'at most'} 1")
