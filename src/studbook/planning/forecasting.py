"""How long a measured pipeline has left: forecasts from a few generations, with prediction intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from studbook.arrays import Floats
from studbook.errors import ConfigError, DataError
from studbook.planning._decay import Posterior, fit_walk
from studbook.planning._drift import first_passage, split_drift
from studbook.planning._tables import Run, Series, Table, read_series
from studbook.rng import stream

_DRAWS = 10_000
_POINTS = 60
_SCALES = {"variance": 1.0, "std": 2.0}
"""Metrics whose noise is itself drift, and the factor that turns their logs into those of a variance."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A median with an interval; ``inf`` where it may never happen.

    Attributes:
        median: Middle of the distribution.
        low: Lower end of the central interval.
        high: Upper end.
    """

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Remaining:
    """When no more than a share of the first measured value remains.

    Attributes:
        level: The share.
        generation: First generation with that share or less.
        reached: Whether it is among the measured generations; then ``generation`` is certain.
    """

    level: float
    generation: Estimate
    reached: bool


@dataclass(frozen=True, slots=True)
class Point:
    """The predicted value at one generation.

    Attributes:
        generation: The generation.
        value: The value that is expected to be measured there.
    """

    generation: int
    value: Estimate


@dataclass(frozen=True, slots=True)
class SeriesForecast:
    """What one metric of one pipeline will do.

    Attributes:
        metric: Name of the quantity.
        cell: Cell of the run folder, ``"0"`` where there is none.
        n_runs: Replicates measured. Of one, the forecast goes on from its last value; of several, it is for a further run like them.
        first_generation: First measured generation; shares are relative to its value.
        last_generation: Last measured generation.
        first_value: The value there (geometric mean over replicates).
        last_value: The last value (geometric mean).
        loss: Share that a typical generation loses.
        effective_sample_size: Records that a training set is worth: the size whose drift would explain the noise (variance, std) or
            the whole loss (other metrics).
        bias: Share that a generation loses beyond drift, as truncated decoding does; negative where it gains. ``None`` for metrics
            whose noise doesn't tell drift from bias.
        half_life: Generations in which the typical value halves.
        remaining: When each asked level is reached.
        curve: Predictions up to the horizon, at most 60.
        exact: Whether the model of the noise is that of the metric (variance and std of Gaussian models); else it is an approximation.
    """

    metric: str
    cell: str
    n_runs: int
    first_generation: int
    last_generation: int
    first_value: float
    last_value: float
    loss: Estimate
    effective_sample_size: Estimate
    bias: Estimate | None
    half_life: Estimate
    remaining: tuple[Remaining, ...]
    curve: tuple[Point, ...]
    exact: bool


@dataclass(frozen=True, slots=True)
class Forecast:
    """Forecasts of every metric and cell of a table.

    Attributes:
        series: In the order of the table.
        skipped: Metric, cell and reason of those that no decay can be fitted to.
        confidence: Of every interval.
        seed: Root seed of the draws behind the intervals of times.
    """

    series: tuple[SeriesForecast, ...]
    skipped: tuple[tuple[str, str, str], ...]
    confidence: float
    seed: int

    def __getitem__(self, metric: str) -> SeriesForecast:
        """The first forecast of that metric."""
        for series in self.series:
            if series.metric == metric:
                return series
        raise KeyError(metric)


def forecast(
    table: Table,
    *,
    metric: str | None = None,
    horizon: int | None = None,
    levels: Sequence[float] = (0.9, 0.5, 0.1),
    confidence: float = 0.9,
    seed: int = 0,
) -> Forecast:
    """Extrapolate measured generations of anybody's pipeline.

    The log of the quantity is a random walk with drift: drift of the gene pool's kind (sampling noise that is passed on) moves it at
    random, and sampling and truncated decoding lower it. For the variance of a Gaussian fitted to N records each generation adds an
    independent log(χ²/N), with variance ψ′((N-1)/2) ≈ 2/N, so that the scatter of the steps identifies the effective sample size, and
    what their mean loses beyond it is the bias. Uncertainty of rate and scatter, future drift and measurement errors (column
    ``stderr``) are all in the intervals. Other positive quantities (heterozygosity, support, entropy) are treated as log-linear with
    a scatter of their own: sound while they decay geometrically, pessimistic for the support, whose loss slows down.

    Args:
        table: A CSV or Parquet file, a study's run folder, a Polars frame or columns in memory, with ``generation``, ``metric`` and
            ``value``, and optionally ``replicate``, ``cell`` and ``stderr``. Rows in any order; gaps in the generations are fine.
        metric: Only this one; ``None`` forecasts each, and lists those that can't be among ``skipped``.
        horizon: Generations to predict beyond the last measured one; by default three times the measured span.
        levels: Shares of the first measured value to give the times of, above 0 and below 1.
        confidence: Of the central intervals.
        seed: Root seed.

    Raises:
        ConfigError: An argument that can't be meant, or a metric that the table doesn't hold.
        DataError: A table that can't be read, a row that no measurement can be (named), values that aren't positive, or too few.

    References:
        S. Wright, Genetics 16 (1931), for drift; D. Siegmund, "Sequential Analysis" (1985), for times at which a walk first crosses.

    Example:
        >>> from studbook.planning import forecast
        >>> measured = {"generation": [0, 1, 2, 3, 4], "metric": ["std"] * 5, "value": [1.0, 0.97, 0.93, 0.91, 0.88]}
        >>> answer = forecast(measured)["std"]
        >>> round(answer.half_life.median), answer.remaining[0].generation.median
        (22, 4.0)
    """
    _check(horizon, levels, confidence)
    found, skipped = [], []
    every = read_series(table, metric)
    for series in every:
        try:
            _check_series(series)
        except DataError as error:
            if len({one.metric for one in every}) == 1:
                raise
            skipped.append((series.metric, series.cell, error))
            continue
        found.append(_forecast_series(series, horizon, levels, confidence, seed))
    if not found:
        raise skipped[0][2]
    return Forecast(tuple(found), tuple((name, cell, str(error)) for name, cell, error in skipped), confidence, seed)


def _forecast_series(series: Series, horizon: int | None, levels: Sequence[float], confidence: float, seed: int) -> SeriesForecast:
    runs = tuple(run for run in series.runs if len(run.values) > 1)
    exact = series.metric in _SCALES
    scale = _SCALES.get(series.metric, 1.0)
    posterior = fit_walk(runs, scale)
    walk, drift, level = posterior.draw(_DRAWS, rng=stream(seed, "forecast", series.metric, series.cell))
    size, bias = split_drift(walk, drift, posterior.walk) if exact else (_size_of_loss(walk, drift), None)
    first, last = (int(edge([run.generations[index] for run in runs])) for edge, index in ((min, 0), (max, -1)))
    tails = (1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0
    start = float(np.exp(np.mean([np.log(run.values[0]) for run in runs])))
    origin = last if len(runs) == 1 else first
    distances = level[:, None] - scale * np.log(np.array(levels))
    rng = stream(seed, "passage", series.metric, series.cell)
    times = [origin + first_passage(distances[:, i], drift, walk, rng=rng) for i in range(len(levels))]
    with np.errstate(divide="ignore"):
        half_life = np.where(drift < 0.0, scale * np.log(2.0) / -drift, np.inf)
    return SeriesForecast(
        metric=series.metric,
        cell=series.cell,
        n_runs=len(runs),
        first_generation=first,
        last_generation=last,
        first_value=start,
        last_value=float(np.exp(np.mean([np.log(run.values[-1]) for run in runs]))),
        loss=_estimate(_lost(drift / scale), tails),
        effective_sample_size=_estimate(size, tails),
        bias=None if bias is None else _estimate(_lost(-bias / scale), tails),
        half_life=_estimate(half_life, tails),
        remaining=tuple(_remaining(runs, share, time, tails) for share, time in zip(levels, times, strict=True)),
        curve=_curve(posterior, start, scale, origin, last, horizon or max(3 * (last - first), 10), tails),
        exact=exact,
    )


def _curve(
    posterior: Posterior, start: float, scale: float, origin: int, last: int, horizon: int, tails: tuple[float, float]
) -> tuple[Point, ...]:
    generations = np.unique(np.linspace(last + 1, last + horizon, min(horizon, _POINTS)).round())
    logs = posterior.quantiles(generations - origin, np.array([0.5, *tails]))
    with np.errstate(over="ignore"):
        values = start * np.exp(logs / scale)
    return tuple(Point(int(g), Estimate(*map(float, values[:, i]))) for i, g in enumerate(generations))


def _remaining(runs: tuple[Run, ...], share: float, times: Floats, tails: tuple[float, float]) -> Remaining:
    if len(runs) == 1:
        crossed = np.flatnonzero(runs[0].values <= share * runs[0].values[0])
        if len(crossed):
            generation = float(runs[0].generations[crossed[0]])
            return Remaining(share, Estimate(generation, generation, generation), reached=True)
    return Remaining(share, _estimate(times, tails), reached=False)


def _estimate(draws: Floats, tails: tuple[float, float]) -> Estimate:
    # A quantile that is itself a draw: interpolation would make nan of two infinities.
    return Estimate(*(float(value) for value in np.quantile(draws, [0.5, *tails], method="inverted_cdf")))


def _lost(log_step: Floats) -> Floats:
    """The share lost in a step of the log; no more than the largest float is gained."""
    return -np.expm1(np.minimum(log_step, 700.0))


def _size_of_loss(walk: Floats, drift: Floats) -> Floats:
    """The size whose drift alone would lose as much in expectation, 1 - 1/N = E e^step."""
    loss = -np.expm1(np.minimum(drift + walk / 2.0, 0.0))
    return np.where(loss > 0.0, 1.0 / np.maximum(loss, 1e-300), np.inf)


def _check_series(series: Series) -> None:
    where = f"metric {series.metric!r} of cell {series.cell}"
    generations = {g for run in series.runs for g in run.generations.tolist()}
    steps = sum(len(run.values) - 1 for run in series.runs)
    if len(generations) < 3 or steps < 2:
        raise DataError(
            f"{where} has {len(generations)} generations in {len(series.runs)} runs, expected 3 or more of one run",
            hint="measure more generations",
        )
    for run in series.runs:
        bad = np.flatnonzero(run.values <= 0.0)
        if len(bad):
            raise DataError(
                f"{where} is {run.values[bad[0]]:g} in row {run.rows[bad[0]]}, expected a positive diversity",
                hint="leave out the generations after a total loss, and metrics that may be negative",
            )


def _check(horizon: int | None, levels: Sequence[float], confidence: float) -> None:
    if not 0.0 < confidence < 1.0:
        raise ConfigError(f"confidence is {confidence!r}, expected a number above 0 and below 1")
    for level in levels:
        if not 0.0 < level < 1.0:
            raise ConfigError(f"levels holds {level!r}, expected shares above 0 and below 1")
    if horizon is not None and not 1 <= horizon <= 10**9:
        raise ConfigError(f"horizon is {horizon!r}, expected 1 to 1,000,000,000 generations")
