"""Every figure of a report: the chart, and the words around it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl

from studbook.arrays import Kind
from studbook.errors import MetricError
from studbook.report.aggregate import FEW_REPLICATES, aggregate, judge_z
from studbook.report.curves import OVERLAY, ROWS, Panel, curve_chart, make_panel, panel_rows
from studbook.report.decomposition import every_generation, legend_of, parts_chart
from studbook.report.densities import MAX_MAPPED, MAX_RIDGES, STRENGTHS, map_chart, n_generations, ridge_chart, shown_cells
from studbook.report.families import dose_chart, dose_keys, fan_chart, other_keys, stack_chart
from studbook.report.figure import Figure
from studbook.report.names import Family, group_families, label_of
from studbook.report.numerals import count, number, percent, slug
from studbook.report.run import Cell, Pictures, Run
from studbook.report.sentences import headline_metrics
from studbook.report.spectra import MAX_COLUMNS, histogram_chart, rank_chart
from studbook.report.theme import MUTED, cell_colours, chart_config, css_colour, ramp
from studbook.report.training import epochs, has_losses, losses, training_chart, varies

if TYPE_CHECKING:
    import altair as alt


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
    figure = _family_figures(run, curves, cells, family)[0]
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
        yield from _family_figures(run, curves, run.cells, family)
    metrics = [m for m in curves["metric"].unique(maintain_order=True).to_list() if "." not in m]
    for key in dose_keys(run.cells):
        for metric in headline_metrics(metrics):
            yield _dose_figure(run, curves, metric, key)
    yield from _training_figures(run)


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
    "training": "solid: on the training set",
    "held_out": "dashed: on a part held out",
    "first": "dashed: the first generation",
    "real": "dashed: the original",
    "sum": "line: sum of the parts",
    "measured": "dashed: measured change",
    "map_median": "line: median",
    "step": "line: after each step",
    "exchange": "band: from before to after the exchange",
    "expected": "dashed: theory",
    "together": "line: mean",
    "each": "thin: each node",
    "all": "band: range of the nodes",
}


def _family_figures(run: Run, curves: pl.DataFrame, cells: tuple[Cell, ...], family: Family) -> list[Figure]:
    match family.style:
        case "line":
            return [_curve_figure(run, curves, cells, family.name)]
        case "density":
            return [_ridge_figure(curves, cells, family), _map_figure(curves, cells, family)]
        case "parts":
            return [_parts_figure(curves, cells, family, added=added) for added in (False, True)[: 1 + every_generation(curves, family)]]
        case _:
            return [_family_figure(curves, cells, family)]


def _family_figure(curves: pl.DataFrame, cells: tuple[Cell, ...], family: Family) -> Figure:
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


def _ridge_figure(curves: pl.DataFrame, cells: tuple[Cell, ...], family: Family) -> Figure:
    label, shown = label_of(family.name), shown_cells(curves, cells, family)
    drawn, rows = ridge_chart(curves, cells, family)
    n = n_generations(curves, family)
    thinned = (f"{MAX_RIDGES} of {n} generations are drawn.",) if n > MAX_RIDGES else ()
    real = any(row["name"] == "real" for row in rows)
    return Figure(
        name=slug(family.name),
        section="tails" if label.tail else "metrics",
        title=label.title,
        about=label.about,
        description=f"{label.title}: a density for each generation, real data or the first on top, one panel for each of "
        f"{count(len(shown), 'cell')}.",
        chart=drawn,
        rows=rows,
        lines=("real",) if real else ("first",) if n > 1 else (),
        notes=(f"A row is a generation; means over the replicates, all on one scale. {_LOGARITHMIC}", *thinned, *_left_out(shown, cells)),
        wide=len(shown) > 1,
    )


def _map_figure(curves: pl.DataFrame, cells: tuple[Cell, ...], family: Family) -> Figure:
    label, shown = label_of(family.name), shown_cells(curves, cells, family)
    drawn, rows = map_chart(curves, cells, family)
    n = n_generations(curves, family)
    thinned = (f"{MAX_MAPPED} of {n} generations are drawn.",) if n > MAX_MAPPED else ()
    most = max(max((float(row.get("share", 0.0)) for row in rows), default=0.0), STRENGTHS[-1])
    strengths = [f"color-mix(in srgb, {css_colour(MUTED)} {100 * (share / most) ** 0.5:.0f}%, transparent)" for share in STRENGTHS]
    return Figure(
        name=slug(f"{family.name}-map"),
        section="tails" if label.tail else "metrics",
        title=f"{label.title}, as a map",
        about="The same by generation: the stronger the colour, the larger the share of a bin.",
        description=f"{label.title}: generation against value, colour for share, one panel for each of {count(len(shown), 'cell')}.",
        chart=drawn,
        rows=rows,
        legend=tuple(zip(map(percent, STRENGTHS), strengths, strict=True)),
        lines=("map_median",),
        notes=(f"Means over the replicates. {_LOGARITHMIC}", *thinned, *_left_out(shown, cells)),
        wide=len(shown) > 1,
    )


_LOGARITHMIC = "The value axis is logarithmic."


def _left_out(shown: tuple[Cell, ...], cells: tuple[Cell, ...]) -> tuple[str, ...]:
    return (f"{len(shown)} of {len(cells)} cells are drawn.",) if len(shown) < len(cells) else ()


def _parts_figure(curves: pl.DataFrame, cells: tuple[Cell, ...], family: Family, *, added: bool) -> Figure:
    label = label_of(family.name)
    drawn, rows = parts_chart(curves, cells, family, added=added)
    measured = any("measured" in row for row in rows)
    mixed = ("Where the measured change is smaller than the sum, other data that were mixed in made up for the rest.",) * measured
    return Figure(
        name=slug(f"{family.name}-added" if added else family.name),
        section="tails" if label.tail else "metrics",
        title=f"{label.title}, added up" if added else label.title,
        about="The same, summed from generation to generation." if added else label.about,
        description=f"{label.title} by generation as stacked bars, one panel for each of {count(len(cells), 'cell')}.",
        chart=drawn,
        rows=rows,
        legend=legend_of(family),
        lines=("sum", "measured") if measured else ("sum",),
        notes=("Means over the replicates. What is below zero is lost.", *mixed),
        wide=len(cells) > 1,
    )


def _training_figures(run: Run) -> Iterator[Figure]:
    if has_losses(run):
        panel = losses(run)
        kinds = set(panel.frame["part"].to_list())
        lines = ("training",) * ("training" in kinds) + ("held_out",) * ("validation" in kinds)
        yield _training_figure(panel, "Loss", "At the end of each generation's training, in the family's own unit.", lines)
    if varies(run, "epochs"):
        panel = epochs(run)
        lines = ("median",) if panel.n_replicates > 1 else ("value",)
        yield _training_figure(panel, "Epochs", "How many passes over its data each generation's training took.", lines)


def _training_figure(panel: Panel, title: str, about: str, lines: tuple[str, ...]) -> Figure:
    drawn, rows = training_chart(panel)
    labels = [c.label for c in panel.cells]
    return Figure(
        name=slug(panel.metric),
        section="training",
        title=title,
        about=about,
        description=f"{title} of the fits by generation, for {count(len(labels), 'cell')}.",
        chart=drawn,
        rows=rows,
        legend=tuple(zip(labels, cell_colours(labels), strict=True)) if 1 < len(labels) <= OVERLAY else (),
        lines=lines + ("range",) * (panel.n_replicates > 1),
        wide=panel.facets,
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
