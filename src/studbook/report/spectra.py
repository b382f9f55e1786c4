"""Pictures of samples that aren't images: small histograms, and words or states by rank."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from studbook.arrays import AnyArray, Floats, Kind
from studbook.report.curves import ROWS, WIDTH, log_axis, spread_evenly
from studbook.report.figure import Rows
from studbook.report.run import Cell, Pictures
from studbook.report.theme import INK, cell_colours, ramp

if TYPE_CHECKING:
    import altair as alt

MAX_COLUMNS = 6
"""Cells shown side by side; of more, an even selection."""


def histogram_chart(pictures: dict[Cell, Pictures]) -> tuple[alt.Chart, Rows]:
    """Histograms of numbers or counts: one row a generation, one column a cell, the original as an outline."""
    import altair as alt

    cells = spread_evenly(tuple(pictures), MAX_COLUMNS)
    edges = _edges([pictures[c] for c in cells], whole=pictures[cells[0]].kind == Kind.COUNTS)
    rows = [row for cell in cells for row in _histogram_rows(cell, pictures[cell], edges)]
    labels = [c.label for c in cells]
    y_axis = alt.Axis(title=None, labels=False, grid=False)
    x = alt.X("x0:Q", axis=alt.Axis(title=None, format="~g", tickCount=5), scale=alt.Scale(domain=[edges[0], edges[-1]], nice=False))
    bars = alt.Chart().mark_rect(fillOpacity=0.8).encode(
        x=x, x2="x1:Q", y=alt.Y("density:Q", axis=y_axis, scale=alt.Scale(domainMin=0)), y2=alt.datum(0),
        color=alt.Color("label:N", scale=alt.Scale(domain=labels, range=cell_colours(labels)), sort=labels, legend=None),
    )  # fmt: skip
    outline = alt.Chart().mark_line(interpolate="step-after", strokeWidth=1.1, color=INK).encode(x=x, y=alt.Y("original:Q", axis=y_axis))
    side = alt.Header(
        title=None, labelAngle=0, labelAlign="left", labelExpr="'generation ' + datum.value", labelFontWeight="normal", labelFontSize=11
    )
    drawn: Any = alt.layer(bars, outline).properties(width=max(80, 560 // len(cells) - 16), height=46)
    return drawn.facet(
        row=alt.Row("generation:O", header=side),
        column=alt.Column("label:N", sort=labels, header=alt.Header(title=None, labelLimit=200)),
        data=alt.NamedData(name=ROWS),
        spacing={"row": 4, "column": 16},
    ).resolve_scale(y="independent"), rows  # fmt: skip


def _edges(pictures: list[Pictures], *, whole: bool) -> Floats:
    """Bin edges that fit the original and every generation but for their farthest outliers."""
    arrays = [a for p in pictures for a in (p.original, *p.generations.values()) if a is not None and a.size]
    values = np.concatenate([np.ravel(a).astype(np.float64) for a in arrays]) if arrays else np.zeros(1)
    values = values[np.isfinite(values)] if np.isfinite(values).any() else np.zeros(1)
    low, high = np.quantile(values, [0.001, 0.999])
    if whole:
        step = max(1, int(np.ceil((high - low + 1) / 60)))
        return np.arange(np.floor(low), np.ceil(high) + 1 + step, step, dtype=np.float64) - 0.5
    if high <= low:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, 49)


def _histogram_rows(cell: Cell, pictures: Pictures, edges: Floats) -> list[dict[str, Any]]:
    original = None if pictures.original is None else _density(pictures.original, edges)
    rows: list[dict[str, Any]] = []
    for generation, values in pictures.generations.items():
        for i, density in enumerate(_density(values, edges)):
            row = {
                "label": cell.label,
                "generation": generation,
                "x0": float(edges[i]),
                "x1": float(edges[i + 1]),
                "density": float(density),
            }
            rows.append(row if original is None else row | {"original": float(original[i])})
    return rows


def _density(values: AnyArray, edges: Floats) -> Floats:
    """Share of the values in each bin, as a multiple of the flat density; six digits are enough to draw."""
    inside, _ = np.histogram(np.ravel(values).astype(np.float64), edges)
    return np.round(inside / max(1, values.size) * (len(edges) - 1), 4)


def rank_chart(pictures: dict[Cell, Pictures]) -> tuple[alt.Chart, Rows, tuple[tuple[str, str], ...]]:
    """How often the word (or state) of each rank occurs, both axes logarithmic: a panel for each cell, a line for each generation.

    Returns the legend as well.
    """
    import altair as alt

    cells = spread_evenly(tuple(pictures), MAX_COLUMNS)
    rows = [row for cell in cells for row in _rank_rows(cell, pictures[cell])]
    labels = [c.label for c in cells]
    generations = sorted({r["name"] for r in rows if "order" in r and r["order"] >= 0}, key=lambda name: int(name.rpartition(" ")[2]))
    names, colours = ["original", *generations], [INK, *ramp(len(generations))]
    columns = len(cells) if len(cells) <= 4 else 3
    x = log_axis(1, max(2, *(r["rank"] for r in rows)), "rank")
    frequencies = [float(r["frequency"]) for r in rows]
    y = log_axis(min(frequencies), max(frequencies))
    lines = alt.Chart().mark_line(strokeWidth=1.8).encode(
        x=alt.X("rank:Q", **x),
        y=alt.Y("frequency:Q", **y),
        color=alt.Color("name:N", scale=alt.Scale(domain=names, range=colours), sort=names, legend=alt.Legend(columns=5)),
        order="rank:Q",
        tooltip=[alt.Tooltip("label:N", title=""), alt.Tooltip("name:N", title="sample")],
    )  # fmt: skip
    header = alt.Header(title=None, labelLimit=200)
    drawn: Any = lines.properties(width=WIDTH // columns - 20, height=190).facet(
        facet=alt.Facet("label:N", sort=labels, header=header), columns=columns, data=alt.NamedData(name=ROWS)
    )
    return drawn, rows, tuple(zip(names, colours, strict=True))


def _rank_rows(cell: Cell, pictures: Pictures) -> list[dict[str, Any]]:
    samples = [("original", -1, pictures.original)]
    samples += [(f"generation {g}", g, counts) for g, counts in _few(pictures.generations)]
    rows: list[dict[str, Any]] = []
    for name, order, counts in samples:
        if counts is None or not (counts > 0).any():
            continue
        alive = np.sort(np.ravel(counts[counts > 0]))[::-1]
        ranks = np.unique(np.rint(np.geomspace(1, len(alive), 60)).astype(np.int64))
        total = float(alive.sum())
        rows += [
            {"label": cell.label, "name": name, "order": order, "rank": int(r), "frequency": float(f"{alive[r - 1] / total:.4g}")}
            for r in ranks
        ]
    return rows


def _few(generations: Any, limit: int = 5) -> list[tuple[int, AnyArray]]:
    items = list(generations.items())
    if len(items) <= limit:
        return items
    return [items[round(i * (len(items) - 1) / (limit - 1))] for i in range(limit)]
