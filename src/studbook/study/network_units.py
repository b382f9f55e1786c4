"""A unit of a network in law: all replicates at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from studbook.arrays import Batch, concatenate
from studbook.data import Dataset
from studbook.errors import ConfigError
from studbook.metrics import Reference
from studbook.recursion import LawModel, run_network_in_law
from studbook.study.networks import measure_laws
from studbook.study.pictures import N_VALUES
from studbook.study.plan import Unit, law_model, law_of
from studbook.study.results import Recorder
from studbook.theory.laws import first_law, repeat_law


def run_network_unit(unit: Unit, dataset: Dataset, recorder: Recorder, streams: Callable[..., np.random.Generator]) -> None:
    """Run every replicate of a unit from the nodes' laws.

    Args:
        unit: The unit; its cell has a network and its data a law.
        dataset: Its data.
        recorder: Where everything that is measured goes.
        streams: A random stream for a path.
    """
    job, cell, learner = unit.job, unit.job.cell, unit.job.cell.learner
    if cell.network is None:
        raise ConfigError("the cell has no network", hint="set learner.protocol")
    real = learner.from_law(repeat_law(law_of(dataset), unit.stop - unit.start), dataset.space)
    rng = streams("original")
    originals = [learner.draw(real, job.n_original, rng=rng) for _ in range(job.nodes)]
    reference = Reference(None, dataset.law, None, dataset.background)
    if unit.start == 0:
        recorder.show("original", _picture([law_model(law_of(dataset), dataset.space)], job.n, streams("picture")))
    chain = run_network_in_law(
        learner,
        cell.mix,
        originals,
        dataset.space,
        network=cell.network,
        n=job.n,
        n_original=job.n_original,
        last=cell.study.generations,
        real=real,
        rng=streams("law"),
    )
    for generation in chain:
        if unit.start == 0 and generation.index in recorder.shown:
            single = [learner.from_law(first_law(model.law), dataset.space) for model in generation.models]
            recorder.show(str(generation.index), _picture(single, job.n, streams("generation", generation.index, "picture")))
        if generation.index in recorder.measured:
            laws = [model.law for model in generation.models]
            recorder.add_law(unit.start, generation.index, measure_laws(cell.metrics, reference, laws))


def _picture(models: list[LawModel], n: int, rng: np.random.Generator) -> Batch:
    """Some records of the pooled network, as many of every node."""
    each = max(1, min(n, 10 * N_VALUES) // len(models))
    whole = concatenate([model.sample(each, rng=rng) for model in models])
    return whole.take(rng.permutation(len(whole)))
