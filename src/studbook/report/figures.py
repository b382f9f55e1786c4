"""Every figure of a report: the chart, and the words around it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import polars as pl

from studbook.arrays import Kind
from studbook.errors import MetricError
from studbook.report.aggregate import FEW_REPLICATES, aggregate, judge_z
from studbook.report.curves import OVERLAY, ROWS, curve_chart, make_panel, panel_rows
from studbook.report.families import Rows, dose_chart, dose_keys, fan_chart, other_keys, stack_chart
from studbook.report.names import Family, group_families, label_of
from studbook.report.numerals import count, number, percent, slug
from studbook.report.run import Cell, Pictures, Run
from studbook.report.sentences import headline_metrics
from studbook.report.spectra import MAX_COLUMNS, histogram_chart, rank_chart
from studbook.report.theme import cell_colours, chart_config, ramp

if TYPE_CHECKING:
    import altair as alt


@dataclass(frozen=True, slots=True, eq=False)
class Figure:
    """A chart with its words.

    Attributes:
        name: File name and anchor.
        section: ``"samples"``, ``"tails"``, ``"metrics"`` or ``"dose"``.
        title: Heading.
        about: What is shown, one sentence.
        description: What a reader who can't see the chart is told.
        chart: The chart, without data, title and config.
        rows: Its data set.
        legend: Label and colour of each entry.
        lines: Which kinds of line are drawn: some of ``median, value, band, range, mean, theory, theory_median``.
        notes: Sentences for the caption: theory with its source, the verdict on z.
        wide: Whether it needs the whole width of the page.
    """

    name: str
    section: str
    title: str
    about: str
    description: str
    chart: Any
    rows: Rows
    legend: tuple[tuple[str, str], ...] = ()
    lines: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    wide: bool = False


def chart(run: Run, metric: str, *, cell: int | None = None) -> alt.Chart:
    """The chart of one metric, styled and titled, as it is saved beside the report.

    Args:
        run: The run.
        metric: A metric, or a family such as ``"block_perplexity"``.
        cell: Draw this cell only.

    Returns:
        An Altair chart: show it in a notebook, or ``.save("chart.svg")``.

    Raises:
        MetricError: The run has no such metric, or no such cell.

    Examples:
        >>> from pathlib import Path
        >>> import polars as pl
        >>> from studbook.report import Run, chart
        >>> rows = [(0, r, g, "variance", 1.0 - 0.25 * g) for r in range(2) for g in range(3)]
        >>> values = pl.DataFrame(rows, schema=["cell", "replicate", "generation", "metric", "value"], orient="row")
        >>> names = {"cell": pl.Int64, "metric": str, "generation": pl.Int64, "mean": float, "median": float, "exact": bool, "source": str}
        >>> cells = [{"index": 0, "label": "replace", "learner": {"kind": "gaussian"}}]
        >>> manifest = {"name": "tiny", "status": "finished", "cells": cells}
        >>> run = Run(Path(), manifest, values, pl.DataFrame(schema=names | {"formula": str}))
        >>> [row["median"] for row in chart(run, "variance").to_dict()["datasets"]["rows"]]
        [1.0, 0.75, 0.5]
    """
    cells = tuple(c for c in run.cells if cell is None or c.index == cell)
    if not cells:
        raise MetricError(f"the run has no cell {cell}", hint=f"it has {', '.join(str(c.index) for c in run.cells[:12])}")
    curves = aggregate(run)
    families = group_families(curves["metric"].unique().to_list())
    family = next((f for f in families if f.name == metric), Family(metric, (metric,), "line"))
    figure = _family_figure(run, curves, cells, family)
    return styled(figure).properties(datasets={ROWS: figure.rows})


def styled(figure: Figure) -> alt.Chart:
    """The figure's chart with title, key and style, still without data."""
    subtitle = [s for s in (figure.about, _key(figure.lines)) if s]
    config = chart_config(n_labels=len(figure.legend))
    titled = figure.chart.properties(title={"text": figure.title, "subtitle": subtitle}, description=figure.description)
    return titled.configure(**config)  # type: ignore[no-any-return]


def all_figures(run: Run, curves: pl.DataFrame, pictures: dict[Cell, Pictures]) -> Iterator[Figure]:
    """Every figure, in the order of the report: samples, tails, other metrics, doses. Names are unique."""
    taken: Counter[str] = Counter()
    for figure in _figures(run, curves, pictures):
        taken[figure.name] += 1
        # Two metrics may differ only in characters that a file name can't hold; two dots come from nowhere else.
        yield figure if taken[figure.name] == 1 else replace(figure, name=f"{figure.name}..{taken[figure.name]}")


def _figures(run: Run, curves: pl.DataFrame, pictures: dict[Cell, Pictures]) -> Iterator[Figure]:
    yield from _sample_figures(pictures)
    for family in group_families(curves["metric"].unique().to_list()):
        yield _family_figure(run, curves, run.cells, family)
    metrics = [m for m in curves["metric"].unique(maintain_order=True).to_list() if "." not in m]
    for key in dose_keys(run.cells):
        for metric in headline_metrics(metrics):
            yield _dose_figure(run, curves, metric, key)


def _key(lines: tuple[str, ...]) -> str:
    return " · ".join(LINE_NAMES[line] for line in lines) if lines else ""


LINE_NAMES = {
    "value": "line: the one replicate",
    "median": "line: median",
    "band": "band: 5–95 % of replicates",
    "range": "band: range of replicates",
    "mean": "dashed: mean",
    "theory": "dotted: theory",
    "theory_median": "dot-dash: theory, median",
}


def _family_figure(run: Run, curves: pl.DataFrame, cells: tuple[Cell, ...], family: Family) -> Figure:
    if family.style == "line":
        return _curve_figure(run, curves, cells, family.name)
    label, fan = label_of(family.name), family.style == "fan"
    drawn, rows = (fan_chart if fan else stack_chart)(curves, cells, family)
    parts = [m.partition(".")[2] for m in family.members]
    ends = [_ordinal(int(p.removeprefix("p"))) for p in (parts[0], parts[-1])] if fan else []
    return Figure(
        name=slug(family.name),
        section="tails" if label.tail else "metrics",
        title=label.title,
        about=label.about,
        description=f"{label.title} by generation, one panel for each of {count(len(cells), 'cell')}.",
        chart=drawn,
        rows=rows,
        legend=() if fan else tuple(zip(parts, ramp(len(parts)), strict=True)),
        notes=(f"From the {ends[0]} to the {ends[1]} percentile; each is the median over the replicates.",)
        if fan
        else ("Shares are means over the replicates.",),
        wide=len(cells) > 2,
    )


def _ordinal(n: int) -> str:
    return f"{n}{'th' if 10 <= n % 100 <= 20 else {1: 'st', 2: 'nd', 3: 'rd'}.get(n % 10, 'th')}"


def _curve_figure(run: Run, curves: pl.DataFrame, cells: tuple[Cell, ...], metric: str) -> Figure:
    panel, label = make_panel(curves, cells, metric), label_of(metric)
    labels = [c.label for c in panel.cells]
    legend = tuple(zip(labels, cell_colours(labels), strict=True)) if 1 < len(labels) <= OVERLAY else ()
    spread = ("median", "band" if panel.n_replicates >= FEW_REPLICATES else "range", "mean") if panel.n_replicates > 1 else ("value",)
    theory = ("theory",) * panel.has_theory + ("theory_median",) * panel.has_theory_median
    notes = [*_sources(run, metric), *_z_note(curves, cells, metric)]
    if panel.log:
        notes.append("The value axis is logarithmic.")
    if len(panel.cells) < len(cells):
        notes.append(f"{len(panel.cells)} of {len(cells)} cells are drawn; all are in the table.")
    return Figure(
        name=slug(metric),
        section="tails" if label.tail else "metrics",
        title=label.title,
        about=label.about,
        description=_describe(curves, panel.cells, metric),
        chart=curve_chart(panel),
        rows=panel_rows(panel),
        legend=legend,
        lines=spread + theory,
        notes=tuple(notes),
        wide=panel.facets,
    )


def _sources(run: Run, metric: str) -> list[str]:
    known = run.theory.filter(pl.col("metric") == metric).select("formula", "source").unique(maintain_order=True)
    return [f"Theory: {formula or 'see the source'}{f' ({source})' if source else ''}." for formula, source in known.head(4).iter_rows()]


def _z_note(curves: pl.DataFrame, cells: tuple[Cell, ...], metric: str) -> list[str]:
    verdict = judge_z(curves.filter((pl.col("metric") == metric) & pl.col("cell").is_in([c.index for c in cells])))
    if verdict is None:
        return []
    outcome = "within" if verdict.agrees else "beyond"
    left_out = f" Left out: {count(verdict.n_unsteady, 'point')} whose mean hangs on few replicates." if verdict.n_unsteady else ""
    return [
        f"Largest |z| over {count(verdict.n, 'comparison')}: {number(verdict.largest, 2)}, {outcome} the Bonferroni limit of "
        f"{number(verdict.limit, 2)} (5 % for all together).{left_out}"
    ]


def _describe(curves: pl.DataFrame, cells: tuple[Cell, ...], metric: str) -> str:
    label, ends = label_of(metric), []
    show: Callable[[float], str] = percent if label.share else number
    for cell in cells[:6]:
        rows = curves.filter((pl.col("metric") == metric) & (pl.col("cell") == cell.index)).sort("generation")
        ends.append(f"{cell.label}: {show(rows['median'][0])} to {show(rows['median'][-1])}")
    generations = curves.filter(pl.col("metric") == metric)["generation"]
    return f"{label.title}, generations {generations.min()!s} to {generations.max()!s}. Median, first to last: {'; '.join(ends)}."


def _dose_figure(run: Run, curves: pl.DataFrame, metric: str, key: str) -> Figure:
    label, n = label_of(metric), run.n_replicates
    drawn, rows = dose_chart(curves, run.cells, metric, key)
    others = list(dict.fromkeys(other_keys(c, key) for c in run.cells))
    colours = cell_colours(others) if len(others) <= OVERLAY else ramp(len(others))
    lines = ("median", "band" if n >= FEW_REPLICATES else "range") if n > 1 else ("value",)
    theory = ("theory",) * bool(run.theory.filter(pl.col("metric") == metric).height)
    return Figure(
        name=slug(f"dose-{key}-{metric}"),
        section="dose",
        title=f"{label.title} against {key.rpartition('.')[2]}",
        about=f"At the last generation, {run.last_generation:,}.",
        description=f"{label.title} at the last generation against {key}, the other keys of the grid as lines.",
        chart=drawn,
        rows=rows,
        legend=tuple(zip(others, colours, strict=True)) if len(others) > 1 else (),
        lines=lines + theory,
        notes=tuple(_sources(run, metric)),
    )


def _sample_figures(pictures: dict[Cell, Pictures]) -> Iterator[Figure]:
    numeric = {c: p for c, p in pictures.items() if p.kind in (Kind.NUMBERS, Kind.COUNTS) and p.generations}
    ranked = {c: p for c, p in pictures.items() if p.kind in (Kind.TEXT, Kind.STATES) and p.generations}
    if numeric:
        drawn, rows = histogram_chart(numeric)
        yield Figure(
            name="samples",
            section="samples",
            title="Histograms",
            about="What replicate 0 generated, one row a generation; the outline is the original.",
            description="Histograms of the samples of each cell, one row a generation, over the outline of the original.",
            chart=drawn,
            rows=rows,
            notes=_chosen(numeric),
            wide=True,
        )
    if ranked:
        noun = "word" if next(iter(ranked.values())).kind == Kind.TEXT else "state"
        drawn, rows, legend = rank_chart(ranked)
        yield Figure(
            name="ranks",
            section="samples",
            title=f"{noun.capitalize()}s by rank",
            about=f"Frequency of the {noun} at each rank, in replicate 0. The right end of a line is where the tail stops.",
            description=f"Frequency of {noun}s by rank, one panel a cell, one line a generation.",
            chart=drawn,
            rows=rows,
            legend=legend,
            notes=_chosen(ranked),
            wide=True,
        )


def _chosen(pictures: dict[Cell, Pictures]) -> tuple[str, ...]:
    n = len(pictures)
    return (f"{MAX_COLUMNS} of {n} cells are shown; the others are in the folder samples.",) if n > MAX_COLUMNS else ()
