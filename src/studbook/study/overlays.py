"""Theory beside the measurements: what is known about each cell, learner, mix and metric."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from studbook.arrays import Ints
from studbook.recursion import LawLearner, Phased
from studbook.rng import stream
from studbook.study.catalog import describe
from studbook.study.networks import predict_network
from studbook.study.plan import Job, Plan
from studbook.study.screened import predict_screened
from studbook.theory.predict import Prediction, Situation, predict

if TYPE_CHECKING:
    import polars as pl


def overlay(plan: Plan, measurements: pl.DataFrame) -> pl.DataFrame:
    """The predicted curves.

    Returns:
        Columns ``cell``, ``metric``, ``generation``, ``mean``, ``median`` (null where unknown), ``exact``, ``source``, ``formula``; no rows
        where nothing is known.
    """
    import polars as pl

    schema = {
        "cell": pl.Int32,
        "metric": pl.String,
        "generation": pl.Int32,
        "mean": pl.Float64,
        "median": pl.Float64,
        "exact": pl.Boolean,
        "source": pl.String,
        "formula": pl.String,
    }
    frames = [pl.DataFrame(schema=schema)]
    for job in plan.jobs:
        if isinstance(job.cell.mix, Phased):
            continue  # No closed form knows a recursion that changes on the way.
        mine = measurements.filter(pl.col("cell") == job.cell.index)
        start = mine.filter(pl.col("generation") == 0).group_by("metric").agg(pl.col("value").mean()).rows()
        situation = _situation(job, plan, dict(start))
        for metric in mine["metric"].unique().sort():
            generations = np.array(job.measured)
            curve = _predict(job, situation, metric, generations)
            if curve is None:
                continue
            columns = {
                "cell": [job.cell.index] * len(generations),
                "metric": [metric] * len(generations),
                "generation": generations,
                "mean": curve.mean,
                "median": [None] * len(generations) if curve.median is None else curve.median,
                "exact": [curve.exact] * len(generations),
                "source": [curve.source] * len(generations),
                "formula": [curve.formula] * len(generations),
            }
            frames.append(pl.DataFrame(columns, schema=schema, strict=False))
    return pl.concat(frames)


def _predict(job: Job, situation: Situation, metric: str, generations: Ints) -> Prediction | None:
    if job.cell.network is not None:
        return predict_network(job.cell.network, job.cell.mix, situation, metric, generations)
    return predict(situation, metric, generations) if job.cell.curation is None else predict_screened(job, situation, metric)


def _situation(job: Job, plan: Plan, initial: dict[str, float]) -> Situation:
    cell, dataset = job.cell, plan.datasets[job.data_digest]
    learner, mix = describe(cell.learner), describe(cell.mix)
    if mix["kind"] == "contaminated":
        mix = {"kind": "fresh", "fresh": job.n - round(cell.mix.share * job.n)}  # the same in other words
    law = dataset.law
    if law is None and isinstance(cell.learner, LawLearner):
        split = job.divide(dataset)
        if split.original is not None:
            law = cell.learner.fit(split.original, rng=stream(0)).law
    return Situation(
        learner=str(learner.pop("kind")),
        learner_parameters=learner,
        mix=str(mix.pop("kind")),
        mix_parameters=mix,
        n=job.n,
        n_original=job.n_original,
        law=law,
        sampled_original=dataset.law is not None,
        dimension=max(dataset.space.dimension, 1),
        initial=initial,
        population=None if dataset.records is None else len(dataset.records) - job.n_heldout - job.n_reserve - job.n_base,
    )
