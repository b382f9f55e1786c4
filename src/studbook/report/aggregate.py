"""From measurements to the few numbers that are drawn: one row a cell, metric and generation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from studbook.report.run import Run

LEAST_TO_JUDGE = 8
"""With fewer replicates a z-score says next to nothing: Student's t lets it be anything."""

FEW_REPLICATES = 20
"""Below this many replicates a 5 % quantile means nothing: the band is the range of all replicates."""

_SKEWED = 0.2
"""Skewness of a mean above which its tails are no longer near normal: at z = 4 the normal probability is wrong by a factor of three."""


JUDGED = pl.col("z").is_not_null() & pl.col("steady") & (pl.col("n") >= LEAST_TO_JUDGE)
"""Rows of an aggregated table whose z-score can be judged."""


def aggregate(run: Run) -> pl.DataFrame:
    """Median, mean, band, theory and z over the replicates.

    Args:
        run: The run.

    Returns:
        A table sorted by ``metric, cell, generation`` with the columns ``n, median, mean, low, high, stderr, theory, theory_median, exact,
        z, steady``. ``low`` and ``high`` are the 5 % and 95 % quantiles, or the range where there are fewer than 20 replicates. ``stderr``
        is the standard error of the mean, ``z`` is (mean - theory) / stderr where theory is exact and replicates differ, else null.
        ``steady`` says whether the mean is near enough to normal for z to be judged: false where few replicates carry it.
    """
    value = pl.col("value")
    few = pl.len() < FEW_REPLICATES
    table = (
        _with_classes_kept(run.measurements)
        .group_by("metric", "cell", "generation")
        .agg(
            n=pl.len(),
            median=value.median(),
            mean=value.mean(),
            low=pl.when(few).then(value.min()).otherwise(value.quantile(0.05, "linear")),
            high=pl.when(few).then(value.max()).otherwise(value.quantile(0.95, "linear")),
            stderr=value.std() / pl.len().sqrt(),
            steady=few | (value.skew().abs() / pl.len().sqrt() < _SKEWED).fill_null(value=True),
        )
    )
    theory = run.theory.select("metric", "cell", "generation", theory="mean", theory_median="median", exact="exact")
    joined = table.join(theory.unique(["metric", "cell", "generation"]), on=["metric", "cell", "generation"], how="left")
    # Replicates that agree to rounding carry no information on chance: no z.
    informative = (pl.col("stderr") > 1e-12 * pl.col("mean").abs()) & pl.col("stderr").is_finite() & pl.col("exact")
    z = (pl.col("mean") - pl.col("theory")) / pl.col("stderr")
    return joined.with_columns(
        z=pl.when(informative & z.is_finite()).then(z), stderr=pl.when(pl.col("stderr").is_finite()).then("stderr")
    ).sort("metric", "cell", "generation")


def _with_classes_kept(measurements: pl.DataFrame) -> pl.DataFrame:
    """Adds ``classes_kept``, the share of classes with at least one generated picture, where ``class_shares`` were measured."""
    unit = ["cell", "replicate", "generation"]
    shares = measurements.filter(pl.col("metric").str.starts_with("class_shares.") & (pl.col("metric") != "class_shares.entropy"))
    kept = shares.group_by(unit).agg(value=(pl.col("value") > 0).mean()).with_columns(metric=pl.lit("classes_kept"))
    return pl.concat([measurements.select(*unit, "metric", "value"), kept.select(*unit, "metric", "value")])


def thin(curve: pl.DataFrame, limit: int) -> pl.DataFrame:
    """At most ``limit`` generations of a curve, evenly spread, the first and the last among them."""
    generations = curve["generation"].unique().sort()
    if len(generations) <= limit:
        return curve
    rows = np.unique(np.rint(np.linspace(0, len(generations) - 1, limit)).astype(np.int64))
    return curve.filter(pl.col("generation").is_in(generations.gather(rows).implode()))


def table(run: Run) -> pl.DataFrame:
    """The run in one table: a row for each cell and metric.

    Args:
        run: The run.

    Returns:
        Columns ``cell`` (label), ``metric``, ``replicates``, ``first_generation``, ``last_generation``, ``first_median``, ``first_mean``,
        ``last_median``, ``last_mean``, ``last_q05``, ``last_q95`` (the range, where there are fewer than 20 replicates), ``theory`` (mean,
        last generation), ``z`` (last generation) and ``max_abs_z`` (over all generations).

    Examples:
        >>> from pathlib import Path
        >>> import polars as pl
        >>> from studbook.report import Run, table
        >>> rows = [(0, r, g, "variance", 1.0 - 0.25 * g) for r in range(2) for g in range(3)]
        >>> values = pl.DataFrame(rows, schema=["cell", "replicate", "generation", "metric", "value"], orient="row")
        >>> names = {"cell": pl.Int64, "metric": str, "generation": pl.Int64, "mean": float, "median": float, "exact": bool, "source": str}
        >>> cells = [{"index": 0, "label": "replace", "learner": {"kind": "gaussian"}}]
        >>> manifest = {"name": "tiny", "status": "finished", "cells": cells}
        >>> run = Run(Path(), manifest, values, pl.DataFrame(schema=names | {"formula": str}))
        >>> table(run).select("cell", "metric", "first_median", "last_median").rows()
        [('replace', 'variance', 1.0, 0.5)]
    """
    labels = pl.DataFrame(
        {"cell": [c.index for c in run.cells], "label": [c.label for c in run.cells]}, schema_overrides={"cell": pl.Int32}
    )
    rows = aggregate(run).group_by("cell", "metric", maintain_order=True)
    summary = rows.agg(
        replicates=pl.col("n").last(),
        first_generation=pl.col("generation").first(),
        last_generation=pl.col("generation").last(),
        first_median=pl.col("median").first(),
        first_mean=pl.col("mean").first(),
        last_median=pl.col("median").last(),
        last_mean=pl.col("mean").last(),
        last_q05=pl.col("low").last(),
        last_q95=pl.col("high").last(),
        theory=pl.col("theory").last(),
        z=pl.col("z").last(),
        max_abs_z=pl.col("z").abs().max(),
    )
    return (
        summary.sort("cell", "metric")
        .join(labels, on="cell", how="left")
        .select(pl.col("label").alias("cell"), pl.exclude("cell", "label"))
    )


@dataclass(frozen=True, slots=True)
class ZVerdict:
    """How far theory and simulation lie apart, over many comparisons.

    Attributes:
        largest: The largest ``|z|``.
        n: Number of comparisons.
        n_unsteady: Comparisons left out because few replicates carry the mean, so that z is far from normal.
        limit: What one of ``n`` comparisons exceeds with a probability of 5 % at most (Bonferroni, Student's t).
    """

    largest: float
    n: int
    n_unsteady: int
    limit: float

    @property
    def agrees(self) -> bool:
        """Whether the largest deviation is within what chance explains."""
        return self.largest <= self.limit


def judge_z(curves: pl.DataFrame) -> ZVerdict | None:
    """The verdict on all z-scores of an aggregated table that can be judged, ``None`` where there is none.

    What fewer than eight replicates were measured of is not judged.
    """
    from scipy.special import stdtrit

    scores = curves.filter(JUDGED)
    if scores.is_empty():
        return None
    n = len(scores)
    degrees = int(scores["n"].min()) - 1  # type: ignore[arg-type]
    n_unsteady = len(curves.filter(pl.col("z").is_not_null() & ~pl.col("steady") & (pl.col("n") >= LEAST_TO_JUDGE)))
    return ZVerdict(float(scores["z"].abs().max()), n, n_unsteady, float(stdtrit(degrees, 1 - 0.025 / n)))  # type: ignore[arg-type]
