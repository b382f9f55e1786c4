"""Cells whose learner is a network of nodes: what is measured within a node, of the pooled network, and between the nodes; and theory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from studbook.arrays import Batch, Floats, Ints
from studbook.errors import ConfigError
from studbook.metrics import Drift, DriftParts, LatentStd, LawMetric, Mean, Observation, Reference, Std, Variance, WeightError
from studbook.protocols.together import TrainedTogether
from studbook.records import Measurement
from studbook.recursion import Generation, LawLearner, Ledger, Model, Network, Society, network_parts, pool_laws
from studbook.study.catalog import ChosenMetric
from studbook.study.measuring import measure
from studbook.theory.averaging import Averaging
from studbook.theory.gaussian import divisor_fit
from studbook.theory.laws import CategoricalLaw, GaussianLaw, Law
from studbook.theory.network import Exchange, NetworkPath, network_moments
from studbook.theory.situation import Prediction, Situation

NODE, BETWEEN = "node", "between"
"""What a metric's name is followed by: its mean over the nodes, and the share of the pool's value that lies between them."""
PARTED = ("heterozygosity", "variance", "entropy")
"""Concave measures of diversity: the pool's is what lies within the nodes and what lies between them (Nei 1973; Lewontin 1972)."""
_OF_MOMENTS = (Mean, Std, Variance, Drift)
_OF_INSIDES = (LatentStd, WeightError, DriftParts)
"""Metrics that look into a model; the pool of several has no inside."""
_COST_LIMIT = 2e10
_SOURCE = "Wright 1931 (island model); Maruyama 1970"
_AVERAGING = "studbook.theory.averaging, after Wright 1931; Maruyama 1970"


@dataclass(frozen=True, slots=True, eq=False)
class _LawPool:
    """The mixture of models of states."""

    law: Law


@dataclass(frozen=True, slots=True, eq=False)
class _MomentPool:
    """The mixture of normal models, by its mean and covariance."""

    law_of_moments: GaussianLaw

    def moments(self) -> tuple[Floats, Floats]:
        """Mean ``(1, d)`` and covariance ``(1, d, d)``."""
        return self.law_of_moments.moments()


@dataclass(frozen=True, slots=True, eq=False)
class _ScoringPool:
    """The mixture of models that give probabilities."""

    models: tuple[Model, ...]

    def log_prob(self, batch: Batch) -> Floats:
        """Log of the mean probability of each record."""
        each = np.array([model.log_prob(batch) for model in self.models])  # type: ignore[attr-defined]
        pooled: Floats = np.logaddexp.reduce(each, axis=0) - math.log(len(each))
        return pooled


def _pooled_model(society: Society) -> object:
    laws = [getattr(model, "law", None) for model in society.models]
    law = pool_laws([law for law in laws if law is not None]) if all(law is not None for law in laws) else None
    if isinstance(law, CategoricalLaw):
        return _LawPool(law)
    if isinstance(law, GaussianLaw):
        return _MomentPool(law)
    return _ScoringPool(society.models) if all(hasattr(model, "log_prob") for model in society.models) else society


def measure_network(
    metrics: tuple[ChosenMetric, ...],
    reference: Reference,
    generation: Generation,
    first: Society,
    ledger: Ledger,
    streams: Callable[..., np.random.Generator],
) -> list[Measurement]:
    """All metrics on a generation of a network: of the pool by their own names, the nodes' mean, and the share between nodes.

    Args:
        metrics: What is measured.
        reference: What it is compared with.
        generation: The generation.
        first: Generation 0's models.
        ledger: Whose records are whose.
        streams: A random stream for a path.
    """
    society = generation.model
    assert isinstance(society, Society)
    whole = Observation(generation.sample, generation.training, _pooled_model(society), _pooled_model(first))
    poolable = tuple(chosen for chosen in metrics if not isinstance(chosen.metric, _OF_INSIDES))
    pool = measure(poolable, reference, whole, streams)
    samples, trainings = ledger.samples(generation.sample), ledger.trainings(generation.training, generation.index)
    nodes = [
        measure(metrics, reference, Observation(sample, training, model, base), partial(streams, NODE, index))
        for index, (sample, training, model, base) in enumerate(zip(samples, trainings, society.models, first.models, strict=True))
    ]
    means = _means(nodes)
    return [*pool, *means, *_between(pool, means)]


def _means(nodes: Sequence[Sequence[Measurement]]) -> list[Measurement]:
    """Each value's mean over the nodes; names that not all nodes have are left out."""
    tables = [{m.metric: m for m in found} for found in nodes]
    shared = [name for name in tables[0] if all(name in table for table in tables)]
    return [_mean(name, [table[name] for table in tables]) for name in shared]


def _mean(name: str, several: Sequence[Measurement]) -> Measurement:
    value = math.fsum(m.value for m in several) / len(several)
    errors = [m.stderr for m in several if m.stderr is not None]
    stderr = math.sqrt(math.fsum(error**2 for error in errors)) / len(several) if len(errors) == len(several) else None
    return Measurement(f"{name}.{NODE}", value, stderr, sum(m.n for m in several))


def _between(pool: Sequence[Measurement], means: Sequence[Measurement]) -> Iterator[Measurement]:
    within = {m.metric: m.value for m in means}
    for m in pool:
        if m.metric in PARTED and f"{m.metric}.{NODE}" in within:
            share = 1.0 - within[f"{m.metric}.{NODE}"] / m.value if m.value > 0.0 else 0.0
            yield Measurement(f"{m.metric}.{BETWEEN}", share, None, m.n)


def measure_laws(metrics: tuple[ChosenMetric, ...], reference: Reference, laws: Sequence[Law]) -> dict[str, Floats]:
    """The same from the nodes' laws, for R replicates at once: ``(R,)`` by name."""
    pooled = pool_laws(laws)
    assert pooled is not None
    found = _of_law(metrics, reference, pooled)
    nodes = [_of_law(metrics, reference, law) for law in laws]
    means = {name: np.mean([values[name] for values in nodes], axis=0) for name in nodes[0]}
    parts = {}
    for name in set(PARTED) & set(found):
        parts[f"{name}.{BETWEEN}"] = 1.0 - np.divide(means[name], found[name], out=np.ones_like(found[name]), where=found[name] > 0.0)
    return {**found, **{f"{name}.{NODE}": value for name, value in means.items()}, **dict(sorted(parts.items()))}


def _of_law(metrics: tuple[ChosenMetric, ...], reference: Reference, law: Law) -> dict[str, Floats]:
    found: dict[str, Floats] = {}
    for chosen in metrics:
        values: Mapping[str, Floats] = chosen.metric.of_law(reference, law)
        found |= {name: value for name, value in values.items() if chosen.wants(name)}
    return found


def pools_in_law(metrics: tuple[ChosenMetric, ...], law: Law) -> bool:
    """Whether every metric of the pooled network follows from the nodes' laws: the mixture of normal laws isn't normal."""
    if isinstance(law, CategoricalLaw):
        return all(isinstance(chosen.metric, LawMetric) for chosen in metrics)
    return isinstance(law, GaussianLaw) and all(isinstance(chosen.metric, _OF_MOMENTS) for chosen in metrics)


def check_network(network: Network, learner: object) -> None:
    """Refuse, before anything is run, a learner whose nodes can't be in contact like that.

    Raises:
        ConfigError: Names learners that can.
    """
    if network.trains_together:
        TrainedTogether(network).check(learner)
    if network.averages and not isinstance(learner, LawLearner):
        raise ConfigError(
            f"learner.protocol.kind is averaged: its nodes take the mean of parameters that are means of records, "
            f"which those of {type(learner).__name__} aren't",
            hint="set learner.kind to categorical, bernoulli, poisson or gaussian, or average a network's weights: local or gossip",
        )


def predict_network(network: Network, mix: object, situation: Situation, metric: str, generations: Ints) -> Prediction | None:
    """The curve of a metric over generations, where it is known: the moments of states and of normal models.

    Args:
        network: The network.
        mix: What each node trains on.
        situation: Of one node; for a data set its ``law`` is that of all nodes' original data together.
        metric: With ``.node`` or ``.between`` behind it, or of the pool.
        generations: ``(G,)``.
    """
    name, _, member = metric.partition(".")
    scale = _scale(situation)
    last = int(generations.max(initial=0))
    if scale is None or situation.composition is None or last * float(network.nodes) ** 3 > _COST_LIMIT:
        return None
    states = isinstance(situation.law, CategoricalLaw)
    if name not in ({"heterozygosity"} if states else {"mean", "variance", "drift"}) or member not in {"", NODE, BETWEEN}:
        return None
    path = _path(network, mix, situation, scale, last)
    exact, source = not situation.draws_reserve, _AVERAGING if network.averages else _SOURCE
    if name == "mean":
        return _predict_mean(situation, member, generations, exact=exact)
    if member == BETWEEN:
        return Prediction(path.fixation[generations], None, exact=False, source=source, formula="F_ST = E between / E pool")
    if name == "drift":
        curve = path.drift.mean(axis=1) if member else path.pool_drift
        return Prediction(curve[generations], None, exact, source, "E (μ_t − μ_0)², recursion over pairs of nodes")
    curve = path.node if member else path.pool
    return Prediction(curve[generations], None, exact, source, "E H_t = H_0(1 − F_t), recursion over pairs of nodes")


def _predict_mean(situation: Situation, member: str, chosen: Ints, *, exact: bool) -> Prediction | None:
    if not isinstance(situation.law, GaussianLaw) or member == BETWEEN:
        return None
    constant = np.full(len(chosen), float(situation.law.mean[0].mean()))
    return Prediction(constant, None, exact, "martingale: E μ_t = μ_0", "E μ_t = μ_0")


def _scale(situation: Situation) -> float | None:
    """Variance of the law, or of the finite set of all nodes' records; ``None`` where it isn't known."""
    law = situation.law
    if situation.learner in {"categorical", "bernoulli"} and isinstance(law, CategoricalLaw):
        return float(law.probabilities[0] @ (1.0 - law.probabilities[0]))
    if situation.learner != "gaussian" or not isinstance(law, GaussianLaw):
        return None
    ddof = 0.0 if situation.sampled_original else _ddof(situation)
    variance = float(np.diagonal(law.covariance[0]).mean())
    population = situation.population or situation.n_original
    return variance * (population - ddof) / population


def _path(network: Network, mix: object, situation: Situation, variance: float, last: int) -> NetworkPath:
    composition = situation.composition
    assert composition is not None
    network_parts(mix, situation.n, situation.n_original)  # type: ignore[arg-type]
    counts = network.counts(composition.generated)
    published = network.kind == "published"
    exchange = Exchange(counts, composition.fresh, composition.original, composition.real_share, published)
    population = None if situation.sampled_original else situation.population
    fit = divisor_fit(_ddof(situation))
    averaging = Averaging(network.weights(), mixture=isinstance(situation.law, CategoricalLaw)) if network.averages else None
    return network_moments(exchange, situation.n_original, last, population=population, variance=variance, fit=fit, averaging=averaging)


def _ddof(situation: Situation) -> float:
    ddof = situation.learner_parameters.get("ddof", 0)
    return float(ddof) if isinstance(ddof, int | float) else 0.0
