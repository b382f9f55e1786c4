"""``studbook forecast``: how long a measured pipeline has left."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from studbook.cli.rendering import Format, show_json, show_table

if TYPE_CHECKING:
    from studbook.planning import Estimate, Forecast, SeriesForecast

_FAR = 1e6
"""Generations beyond which a time is shown as never."""


def forecast_command(
    path: Annotated[
        Path, typer.Argument(help="CSV or Parquet with generation, metric, value[, replicate, cell, stderr]; or a run folder.")
    ],
    metric: Annotated[str | None, typer.Option(help="Only this metric; all by default.")] = None,
    horizon: Annotated[int | None, typer.Option(help="Generations to predict beyond the last one; three times the measured span.")] = None,
    confidence: Annotated[float, typer.Option(help="Confidence of every interval, above 0 and below 1.")] = 0.9,
    seed: Annotated[int, typer.Option(min=0, help="Root seed.")] = 0,
    gaussian: Annotated[
        bool, typer.Option("--gaussian", help="The pipeline is a one-dimensional Gaussian trained on its own output alone.")
    ] = False,
    real_data: Annotated[
        bool, typer.Option("--real-data", help="Real records are in every training set: there is an equilibrium.")
    ] = False,
    format_: Annotated[Format, typer.Option("--format", help="How to write the answer.")] = Format.TABLE,
) -> None:
    """Extrapolate a few measured generations: effective sample size, bias, half-life, and when 90, 50 and 10 % remain."""
    from dataclasses import asdict

    from studbook.planning import forecast

    answer = forecast(path, metric=metric, horizon=horizon, confidence=confidence, seed=seed, gaussian=gaussian, real_data=real_data)
    if format_ is Format.JSON:
        show_json(_finite(asdict(answer)))
        return
    _show(answer)


def _finite(value: Any) -> Any:
    """The same value with null for what never happens: JSON has no infinity."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _show(answer: Forecast) -> None:
    show_table([_row(series) for series in answer.series], f"{answer.confidence:.0%} intervals in brackets; times in generations")
    for metric, cell, reason in answer.skipped:
        typer.echo(f"skipped {metric} of cell {cell}: {reason}", err=True)
    caveats: dict[str, list[str]] = {}
    for series in answer.series:
        if series.caveat and series.metric not in caveats.setdefault(series.caveat, []):
            caveats[series.caveat].append(series.metric)
    for caveat, metrics in caveats.items():
        typer.echo(f"{', '.join(metrics)}: {caveat}.")


def _row(series: SeriesForecast) -> dict[str, Any]:
    last = series.curve[-1]
    row = {
        "metric": series.metric,
        "cell": series.cell,
        "measured": f"{series.first_generation} to {series.last_generation}, {series.n_runs} run{'s' * (series.n_runs > 1)}",
        "model": series.model
        if series.probability in (0.0, 1.0)
        else f"{series.model} ({max(series.probability, 1 - series.probability):.0%})",
        "effective size": _interval(series.effective_sample_size),
        "bias a generation": _interval(series.bias, percent=True),
        "half-life": _interval(series.half_life),
    }
    row |= {f"{one.level:.0%} left at": _interval(one.generation) for one in series.remaining}
    row[f"value at {last.generation}"] = _interval(last.value)
    return row


def _interval(estimate: Estimate | None, *, percent: bool = False) -> str:
    if estimate is None:
        return "–"
    middle = _number(estimate.median, percent=percent)
    if estimate.low is None or estimate.high is None or estimate.low == estimate.high:
        return middle
    return f"{middle} [{_number(estimate.low, percent=percent)}, {_number(estimate.high, percent=percent)}]"


def _number(value: float, *, percent: bool) -> str:
    if value > _FAR:
        return "never" if math.isinf(value) else "> 10⁶"
    if percent:
        return f"{100.0 * value:.3g} %"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
