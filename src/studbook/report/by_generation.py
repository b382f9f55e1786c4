"""Tables of the measures that matter most, generation by generation, with the interval over the runs."""

from __future__ import annotations

import math
from typing import Any

import polars as pl

from studbook.report.markup import Content, Html, tag
from studbook.report.names import label_of
from studbook.report.numerals import count, number
from studbook.report.run import Run
from studbook.report.sentences import headline_metrics
from studbook.report.tables import scrolling, swatch

MAX_GENERATIONS = 12
_MAX_COLUMNS, _MAX_ROWS = 6, 60
_BESIDE = ("low_perplexity_share", "high_perplexity_share")
_PLAIN = (1e-5, 1e7)


def tabled_metrics(curves: pl.DataFrame) -> tuple[str, ...]:
    """The metrics with a table of their own: the headlines, and the shares of text that is too probable or too improbable."""
    metrics = curves["metric"].unique(maintain_order=True).to_list()
    chosen = [*headline_metrics(metrics), *[m for m in _BESIDE if m in metrics]]
    return tuple(m for m in dict.fromkeys(chosen) if curves.filter(pl.col("metric") == m)["generation"].n_unique() <= MAX_GENERATIONS)


def interval_half(row: dict[str, Any]) -> float | None:
    """Half the 95 % interval of a mean over replicates, by Student's t; ``None`` for a single replicate."""
    from scipy.special import stdtrit

    if row["n"] < 2 or row["stderr"] is None:
        return None
    return float(stdtrit(row["n"] - 1, 0.975)) * float(row["stderr"])


def with_interval(mean: float, half: float | None, *, share: bool = False) -> tuple[str, str]:
    r"""A mean and its interval with as many digits as the interval warrants; shares in per cent.

    Examples:
        >>> with_interval(20.3456, 0.123), with_interval(0.0213, 0.004, share=True), with_interval(28.31, None)
        (('20.35', '±\xa00.12'), ('2.13\xa0%', '±\xa00.40'), ('28.3', ''))
    """
    unit, factor = ("\u00a0%", 100) if share else ("", 1)
    value = mean * factor
    known = half is not None and math.isfinite(half)
    if half is None or not known or not math.isfinite(mean) or not _PLAIN[0] < half * factor < _PLAIN[1]:
        return number(value) + unit * math.isfinite(value), f"±\u00a0{number(half * factor)}" if half is not None and known else ""
    decimals = max(0, 1 - math.floor(math.log10(half * factor)))
    return f"{value:,.{decimals}f}{unit}".replace("-", "−"), f"±\u00a0{half * factor:,.{decimals}f}"


def generation_table(run: Run, curves: pl.DataFrame, metric: str) -> Html:
    """Generations × cells, or cells × generations where there are many cells: the mean over the replicates with its 95 % t-interval."""
    rows = curves.filter(pl.col("metric") == metric).sort("cell", "generation")
    cells = [c for c in run.cells if c.index in set(rows["cell"].to_list())]
    generations = rows["generation"].unique().sort().to_list()
    values = {(row["cell"], row["generation"]): row for row in rows.iter_rows(named=True)}
    share = label_of(metric).share or metric in _BESIDE
    names: list[Content] = [
        [tag("i", class_=f"swatch {swatch(i, len(run.cells))}"), c.label] if 1 < len(run.cells) <= _MAX_COLUMNS else c.label
        for i, c in enumerate(run.cells)
        if c in cells
    ]
    many = len(cells) > _MAX_COLUMNS
    if many:
        head = tag("tr", tag("th", "generation", scope="col"), *[tag("th", str(g), scope="col") for g in generations])
        body = [
            tag("tr", tag("th", name, scope="row"), *[_value(values.get((c.index, g)), share=share) for g in generations])
            for c, name in list(zip(cells, names, strict=True))[:_MAX_ROWS]
        ]
    else:
        shown = names if len(cells) > 1 else ["mean"]
        head = tag("tr", tag("th", "generation", scope="col"), *[tag("th", name, scope="col") for name in shown])
        body = [
            tag("tr", tag("th", str(g), scope="row"), *[_value(values.get((c.index, g)), share=share) for c in cells]) for g in generations
        ]
    title = f"{label_of(metric).title} by generation"
    return scrolling(tag("table", tag("thead", head), tag("tbody", *body), class_="by-generation"), title)


def _value(row: dict[str, Any] | None, *, share: bool) -> Html:
    if row is None:
        return tag("td", "–", class_="n")
    mean, spread = with_interval(float(row["mean"]), interval_half(row), share=share)
    return tag("td", mean, [" ", tag("small", spread)] if spread else None, class_="n")


def interval_note(run: Run) -> str:
    """What the figures of the tables are."""
    if run.n_replicates == 1:
        return "One replicate: there is no interval."
    return f"Means over {count(run.n_replicates, 'replicate')} with their 95 % interval (Student's t)."
