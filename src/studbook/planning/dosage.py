"""How many fresh real records a generation keep a wanted share of the diversity."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np

from studbook.errors import ConfigError
from studbook.parameters import nearest
from studbook.planning._search import Simulation, rough_dose, search, settle
from studbook.planning._support import APPROXIMATION, States, has_theory, rarefaction_curve, theory_share
from studbook.theory import CategoricalLaw, golden_weight, kept_share, smallest_fresh

DoseMetric: TypeAlias = Literal["variance", "heterozygosity", "support"]
_MAX_SAMPLES = 10**12
_MAX_GENERATIONS = 10**9
_LARGE, _LONG = 10_000_000, 200_000
_REPLICATES_WITHOUT = 16
"""Without fresh records a genealogy ends only with its last common ancestor: a few replicates are enough to say what little is left."""


@dataclass(frozen=True, slots=True)
class Dose:
    """The smallest number of fresh real records a generation that keeps what was asked for.

    Attributes:
        fresh: Fresh real records among the ``samples`` of each generation after generation 0.
        fraction: ``fresh / samples``.
        kept: Expected share kept with that dose. Variance and heterozygosity: of the original law's. Support: of the expected number
            of states in generation 0, ``samples`` real draws.
        method: ``"theory"`` (for the support of more than 300 samples to a relative error below 1e-6, else exact) or ``"simulation"``.
        interval: Confidence interval of ``kept``; both ends equal it where the method is theory.
        samples: Records a generation.
        generations: Generations after generation 0.
        metric: What is kept.
        kept_without: The share that no real data would leave.
        kept_of_law: The share kept of the law's own value; differs from ``kept`` for the support of a law with rare states.
        golden_weight: Total weight of the real records in a fit that minimises the error, for this dose (pooling gives ``fraction``).
        effective_sample_size: Real records that are worth as much as the golden-weighted mix, ``fresh / golden_weight``.
        fresh_interval: Doses that the simulation doesn't exclude; both ends are ``fresh`` where the method is theory. Where they differ,
            ``fresh`` is the best estimate, not proven to be the smallest dose.
        seed: Root seed of the simulation.
        replicates: Replicates behind ``kept``; 0 where the method is theory.
        approximation: What of the simulation wasn't exact in law; ``None`` where all was, and where the method is theory.
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
    approximation: str | None


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
    recursion, at any size. For the support a rough simulation of the training set's genealogy finds where to look, and a few values by
    ``studbook.theory.expected_support``'s chain settle the dose: up to a million samples or so. Where that is too dear, the dose
    comes from the simulation, with replicates doubled until the confidence intervals decide or a fixed budget is used. It is exact in
    law but for one draw: how many ancestors k lineages have among N records is a rounded normal number, with the exact mean and
    variance, where k²/N is above 20,000 (its standard deviation is then about 75 or more). ``approximation`` says if that happened.

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

    Examples:
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

    fresh = smallest_fresh(keep, samples, generations, ddof=ddof)
    kept, without = (kept_share(r, samples, generations, ddof=ddof) for r in (fresh, 0))
    return _result(metric, samples, generations, fresh, kept, without, kept, seed)


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
    """The expected share that ``fresh`` real records a generation keep: one point of the curve that ``dose`` searches.

    Args:
        metric: As in ``dose``.
        fresh: Fresh real records a generation, at most ``samples``.
        samples: As in ``dose``.
        generations: As in ``dose``.
        law: As in ``dose``.
        seed: Root seed, where the support is simulated because theory is too dear.
        replicates: Replicates of that simulation.
        ddof: As in ``dose``.

    Raises:
        ConfigError: As ``dose``.

    Examples:
        >>> from studbook.planning import share_kept
        >>> [round(share_kept("heterozygosity", r, 1000, 100_000), 3) for r in (0, 1, 5, 50)]
        [0.0, 0.666, 0.909, 0.99]
    """
    _check(metric, fresh, samples, generations, ddof)
    if metric != "support":
        return kept_share(fresh, samples, generations, ddof=ddof)
    states = _states(law)
    if replicates < 1:
        raise ConfigError(f"replicates is {replicates}, expected 1 or more")
    if has_theory(states, fresh, samples, generations):
        return theory_share(states, fresh, samples, generations)
    return float(Simulation(rarefaction_curve(states, samples), samples, generations, 0.95, seed).shares(fresh, replicates).mean())


def _dose_support(keep: float, samples: int, generations: int, states: States, seed: int, confidence: float) -> Dose:
    of_law = float(states.rarefaction(np.array([samples]))[0]) / states.n_states
    curve = rarefaction_curve(states, samples)
    if samples > _LARGE and generations > _LONG:
        raise ConfigError(
            f"the support of {samples:,} samples over {generations:,} generations is beyond what can be simulated in reasonable time",
            hint=f"ask for at most {_LONG:,} generations, or {_LARGE:,} samples",
        )
    rough = rough_dose(curve, samples, generations, keep, seed)

    @functools.cache
    def kept(fresh: int) -> float:
        return theory_share(states, fresh, samples, generations)

    if has_theory(states, rough.fresh_interval[1], samples, generations):
        fresh = settle(kept, keep, samples, rough)
        share = kept(fresh)
        return _result("support", samples, generations, fresh, share, kept(0), share * of_law, seed)
    simulation = Simulation(curve, samples, generations, confidence, seed)
    found = search(simulation, keep, bracket=rough.fresh_interval)
    mean, low, high = simulation.estimate(found.fresh, found.replicates)
    without = simulation.estimate(0, min(found.replicates, _REPLICATES_WITHOUT))[0]
    simulated = _Simulated((low, high), found.fresh_interval, found.replicates, APPROXIMATION if simulation.rounded else None)
    return _result("support", samples, generations, found.fresh, mean, without, mean * of_law, seed, simulated=simulated)


@dataclass(frozen=True, slots=True)
class _Simulated:
    """What a result by simulation has and one by theory hasn't; fields as in ``Dose``."""

    interval: tuple[float, float]
    fresh_interval: tuple[int, int]
    replicates: int
    approximation: str | None


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
    simulated: _Simulated | None = None,
) -> Dose:
    basis = simulated or _Simulated((kept, kept), (fresh, fresh), 0, None)
    weight = golden_weight(fresh / (samples - fresh)) if 0 < fresh < samples else fresh / samples
    return Dose(
        fresh=fresh,
        fraction=fresh / samples,
        kept=kept,
        method="simulation" if simulated else "theory",
        interval=basis.interval,
        samples=samples,
        generations=generations,
        metric=metric,
        kept_without=kept_without,
        kept_of_law=kept_of_law,
        golden_weight=weight,
        effective_sample_size=fresh / weight if weight else 0.0,
        fresh_interval=basis.fresh_interval,
        seed=seed,
        replicates=basis.replicates,
        approximation=basis.approximation,
    )


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
