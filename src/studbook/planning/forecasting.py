"""How long a measured pipeline has left: forecasts from a few generations, with prediction intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from studbook.arrays import Floats
from studbook.errors import ConfigError, DataError
from studbook.planning._answers import Estimate, Forecast, Point, Remaining, SeriesForecast
from studbook.planning._mechanism import GAUSSIAN, REAL_DATA, Mechanism, read_mechanisms
from studbook.planning._outlook import Outlook, Question, look_ahead
from studbook.planning._tables import Run, Series, Table, read_series

__all__ = ["Estimate", "Forecast", "Point", "Remaining", "SeriesForecast", "forecast"]

_POINTS = 60
_FAR = 10
"""Measured spans within which levels are looked for on simulated paths."""


def forecast(
    table: Table,
    *,
    metric: str | None = None,
    horizon: int | None = None,
    levels: Sequence[float] = (0.9, 0.5, 0.1),
    confidence: float = 0.9,
    seed: int = 0,
    gaussian: bool = False,
    real_data: bool = False,
) -> Forecast:
    """Extrapolate measured generations of anybody's pipeline.

    **Variance and std.** The log is a random walk with drift, or it settles at an equilibrium that real records hold it at,
    v′ = a + b·v. Both are fitted, weighed by the difference of BIC, and the intervals mix them. For the variance of a Gaussian that is
    fitted to N of its own records each generation adds log(χ²/N), with variance ψ′((N-1)/2) ≈ 2/N, so that the scatter of the steps
    identifies the effective sample size, and what their mean loses beyond it is the bias. **Heterozygosity** loses 1/N a generation with
    the noise of Wright-Fisher drift. **Anything else** positive is continued on the log scale, without an interval. Uncertainty of the
    parameters, future drift and measurement errors (column ``stderr``) are all in the intervals.

    Args:
        table: A CSV or Parquet file, a study's run folder, a Polars frame or columns in memory, with ``generation``, ``metric`` and
            ``value``, and optionally ``replicate``, ``cell`` and ``stderr``. Rows in any order; gaps in the generations are fine.
        metric: Only this one; ``None`` forecasts each, and lists those that can't be among ``skipped``.
        horizon: Generations to predict beyond the last measured one; by default three times the measured span.
        levels: Shares of the first measured value to give the times of, above 0 and below 1.
        confidence: Of the central intervals.
        seed: Root seed.
        gaussian: The pipeline is known to be a Gaussian in one dimension, trained on its own output alone. A run folder's manifest
            says that by itself. Then no equilibrium is looked for, and ``exact`` is true for variance and std.
        real_data: Real records are known to be in every training set, as a manifest may say: then variance and std have an equilibrium.

    Raises:
        ConfigError: An argument that can't be meant, or a metric that the table doesn't hold.
        DataError: A table that can't be read, a row that no measurement can be (named), values that aren't positive, or too few.

    References:
        S. Wright, Genetics 16 (1931), for drift; D. Siegmund, "Sequential Analysis" (1985), for times at which a walk first crosses.

    Examples:
        >>> from studbook.planning import forecast
        >>> measured = {"generation": [0, 1, 2, 3, 4], "metric": ["std"] * 5, "value": [1.0, 0.97, 0.93, 0.91, 0.88]}
        >>> answer = forecast(measured)["std"]
        >>> round(answer.half_life.median), answer.remaining[0].generation.median
        (22, 4.0)
    """
    _check(horizon, levels, confidence)
    told = _told(gaussian=gaussian, real_data=real_data)
    found, skipped = [], []
    every = read_series(table, metric)
    known = {} if told else read_mechanisms(table)
    for series in every:
        try:
            _check_series(series)
        except DataError as error:
            if len({one.metric for one in every}) == 1:
                raise
            skipped.append((series.metric, series.cell, error))
            continue
        found.append(_forecast_series(series, horizon, tuple(levels), confidence, seed, told or known.get(series.cell, Mechanism())))
    if not found:
        raise skipped[0][2]
    return Forecast(tuple(found), tuple((name, cell, str(error)) for name, cell, error in skipped), confidence, seed)


def _forecast_series(
    series: Series, horizon: int | None, levels: tuple[float, ...], confidence: float, seed: int, mechanism: Mechanism
) -> SeriesForecast:
    runs = tuple(run for run in series.runs if len(run.values) > 1)
    first, last = (int(edge([run.generations[index] for run in runs])) for edge, index in ((min, 0), (max, -1)))
    start = float(np.exp(np.mean([np.log(run.values[0]) for run in runs])))
    origin, ahead = last if len(runs) == 1 else first, horizon or max(3 * (last - first), 10)
    generations = np.unique(np.linspace(last + 1, last + ahead, min(ahead, _POINTS)).round())
    probabilities = np.array([0.5, (1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0])
    reach = max(last + ahead - origin, _FAR * (last - first))
    question = Question(runs, start, levels, generations - origin, reach, probabilities, seed, (series.metric, series.cell))
    outlook = look_ahead(question, series.metric, mechanism)
    return SeriesForecast(
        metric=series.metric,
        cell=series.cell,
        n_runs=len(runs),
        first_generation=first,
        last_generation=last,
        first_value=start,
        last_value=float(np.exp(np.mean([np.log(run.values[-1]) for run in runs]))),
        model=outlook.model,
        probability=outlook.probability,
        loss=_estimate(outlook.loss, outlook, probabilities),
        effective_sample_size=None if outlook.size is None else _estimate(outlook.size, outlook, probabilities),
        bias=None if outlook.bias is None else _estimate(outlook.bias, outlook, probabilities),
        half_life=_estimate(outlook.half_life, outlook, probabilities),
        remaining=tuple(
            _remaining(runs, share, origin + time, outlook, probabilities) for share, time in zip(levels, outlook.times, strict=True)
        ),
        curve=tuple(
            Point(int(g), Estimate(*map(float, row)) if outlook.calibrated else Estimate(float(row[0]), None, None))
            for g, row in zip(generations, outlook.curve.T, strict=True)
        ),
        exact=outlook.caveat == "",
        caveat=outlook.caveat,
    )


def _remaining(runs: tuple[Run, ...], share: float, times: Floats, outlook: Outlook, probabilities: Floats) -> Remaining:
    if len(runs) == 1:
        reached = _already(runs[0], share, probabilities)
        if reached is not None:
            return Remaining(share, reached, reached=True)
    return Remaining(share, _estimate(times, outlook, probabilities), reached=False)


def _already(run: Run, share: float, probabilities: Floats) -> Estimate | None:
    """First measured generation at the level: where the value is, and where it may be and must be given its error."""
    from scipy.special import ndtri

    excess = run.values - share * run.values[0]
    doubt = float(ndtri(probabilities[2])) * np.hypot(run.stderr, share * run.stderr[0])
    certain, seen, possible = (np.flatnonzero(excess <= bound) for bound in (-doubt, np.zeros(1), doubt))
    if not len(certain):
        return None
    return Estimate(*(float(run.generations[which[0]]) for which in (seen, possible, certain)))


def _estimate(draws: Floats, outlook: Outlook, probabilities: Floats) -> Estimate:
    # A quantile that is itself a draw: interpolation would make nan of two infinities.
    middle, low, high = (float(value) for value in np.quantile(draws, probabilities, method="inverted_cdf"))
    return Estimate(middle, low, high) if outlook.calibrated else Estimate(middle, None, None)


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


def _told(*, gaussian: bool, real_data: bool) -> Mechanism | None:
    if gaussian and real_data:
        raise ConfigError(
            "gaussian and real_data are both true", hint="gaussian says that nothing but the pipeline's own output is trained on"
        )
    return GAUSSIAN if gaussian else REAL_DATA if real_data else None


def _check(horizon: int | None, levels: Sequence[float], confidence: float) -> None:
    if not 0.0 < confidence < 1.0:
        raise ConfigError(f"confidence is {confidence!r}, expected a number above 0 and below 1")
    for level in levels:
        if not 0.0 < level < 1.0:
            raise ConfigError(f"levels holds {level!r}, expected shares above 0 and below 1")
    if horizon is not None and not 1 <= horizon <= 10**9:
        raise ConfigError(f"horizon is {horizon!r}, expected 1 to 1,000,000,000 generations")
