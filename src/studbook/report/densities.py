"""How a quantity of single sequences is spread, generation by generation: as ridges, and as a map of generation against value."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import polars as pl

from studbook.report.aggregate import thin
from studbook.report.curves import ROWS, WIDTH, log_axis, spread_evenly
from studbook.report.figure import Rows
from studbook.report.names import REAL, Family, edge_of
from studbook.report.run import Cell
from studbook.report.spectra import MAX_COLUMNS
from studbook.report.theme import INK, MUTED, PAPER, cell_colours, ramp

if TYPE_CHECKING:
    import altair as alt

MAX_RIDGES, MAX_MAPPED = 11, 60
STRENGTHS = (0.01, 0.05, 0.2)
"""Shares that the key of a map shows."""
_LEAST = 0.0015
"""Bins at the ends that hold less than this in every row are cut off."""
_STEP, _OVERLAP, _MAP_HEIGHT = 26, 2.2, 250
"""Pixels from one ridge to the next, how many of these steps the highest ridge reaches, and pixels of a map."""
_FEW_DECADES = 2.5


def shown_cells(curves: pl.DataFrame, cells: tuple[Cell, ...], family: Family) -> tuple[Cell, ...]:
    """The cells that have a panel: those with such measurements, at most six of them."""
    present = set(curves.filter(pl.col("metric").is_in(family.members))["cell"].to_list())
    return spread_evenly(tuple(c for c in cells if c.index in present), MAX_COLUMNS)


def n_generations(curves: pl.DataFrame, family: Family) -> int:
    """How many generations were measured."""
    return int(curves.filter(pl.col("metric").is_in(family.members))["generation"].n_unique())


def bins_of(curves: pl.DataFrame, cells: tuple[Cell, ...], family: Family, limit: int) -> pl.DataFrame:
    """The share of each bin, cell and generation, as a mean over the replicates; the original's come before the first generation.

    Args:
        curves: What ``studbook.report.aggregate.aggregate`` returned.
        cells: The cells to draw.
        family: Of style ``"density"``.
        limit: At most so many generations, evenly spread.

    Returns:
        Columns ``label, position, name, x0, x1, share``, sorted; ``x0`` to ``x1`` is the bin, ``name`` is ``"real"`` or the generation, and
        ``position`` counts the names from 0. What lies at the ends and is next to empty in every row is cut off.
    """
    edges = sorted({edge_of(member) for member in family.members})
    ratio = min((b / a for a, b in itertools.pairwise(edges)), default=10**0.1)
    members = [(m, edge_of(m), m.partition(".")[2].startswith(REAL)) for m in family.members]
    known = pl.DataFrame(members, schema={"metric": pl.String, "x0": pl.Float64, "real": pl.Boolean}, orient="row")
    labels = pl.DataFrame({"cell": [c.index for c in cells], "label": [c.label for c in cells]}, schema_overrides={"cell": pl.Int32})
    rows = curves.join(known, on="metric").join(labels, on="cell").with_columns(share=pl.col("mean").fill_nan(0.0), x1=pl.col("x0") * ratio)
    drawn = pl.concat([rows.filter("real").with_columns(generation=pl.lit(-1, pl.Int32)), thin(rows.filter(~pl.col("real")), limit)])
    order = drawn.select(pl.col("generation").unique().sort()).with_row_index("position")
    name = pl.when(pl.col("generation") < 0).then(pl.lit("real")).otherwise(pl.col("generation").cast(pl.String))
    found = drawn.join(order, on="generation").select("cell", "label", pl.col("position").cast(pl.Int32), "x0", "x1", "share", name=name)
    filled = found.filter(pl.col("share") >= min(_LEAST, float(found["share"].max() or 0.0)))["x0"]  # type: ignore[arg-type]
    # One more bin at each end lets a density fall to zero.
    low, high = float(filled.min()) / ratio**1.5, float(filled.max()) * ratio**1.5  # type: ignore[arg-type]
    inside = (pl.col("x0") > max(low, edges[0] / ratio**0.5)) & (pl.col("x0") < high)
    return found.filter(inside).sort("cell", "position", "x0").drop("cell")


def ridge_chart(curves: pl.DataFrame, cells: tuple[Cell, ...], family: Family) -> tuple[alt.Chart, Rows]:
    """A density for each generation below the original's, each partly over the one before: a panel for each cell.

    The dashed outline is the original's, or the first generation's where the original wasn't measured. As in Shumailov et al. 2024,
    figure 1.
    """
    import altair as alt

    shown = shown_cells(curves, cells, family)
    frame = _with_ridges(bins_of(curves, shown, family, MAX_RIDGES))
    names = _names(frame)
    last = len(names) - 1
    labels = f"{_row_labels(names)}[datum.value]"
    # Without a count of its own the axis leaves out every other row.
    axis = alt.Axis(title=None, grid=False, values=list(range(last + 1)), labelExpr=labels, labelOverlap=False, tickCount=last + 1)
    y: dict[str, Any] = {"axis": axis, "scale": alt.Scale(domain=[last, -_OVERLAP], nice=False, zero=False)}
    base = alt.Chart().encode(x=alt.X("x:Q", **_axis(frame)))
    colour = alt.Color("position:O", scale=alt.Scale(domain=list(range(last + 1)), range=_row_colours(names)), legend=None)
    ridges = base.mark_area(fillOpacity=0.82, stroke=PAPER, strokeWidth=1.2, interpolate="monotone", aria=False).encode(
        y=alt.Y("top:Q", **y), y2="base:Q", color=colour, tooltip=_tooltip())  # fmt: skip
    outline = base.mark_line(color=INK, strokeWidth=1, strokeDash=[2, 2], strokeOpacity=0.75, interpolate="monotone", aria=False).encode(
        y=alt.Y("first:Q", **y), detail="position:O"
    )
    layers: Any = alt.layer(ridges, outline) if last else ridges
    return panels(layers, [c.label for c in shown], round(_STEP * (last + _OVERLAP))), _rounded(frame)


def _with_ridges(frame: pl.DataFrame) -> pl.DataFrame:
    """Where the bins are drawn: the middle of each, its foot, its top, the top of the row above it, and the first row's outline."""
    height = _OVERLAP / float(frame["share"].max() or 1.0)  # type: ignore[arg-type]
    start = frame.filter(pl.col("position") == 0).select("label", "x0", start="share")
    near = pl.max_horizontal(pl.col("share"), *(pl.col("share").shift(step).over("label", "position") for step in (-1, 1)))
    begun = pl.max_horizontal(pl.col("start"), *(pl.col("start").shift(step).over("label", "position") for step in (-1, 1)))
    placed = frame.join(start, on=["label", "x0"], how="left", maintain_order="left")
    base = pl.col("position").cast(pl.Float64)
    return placed.with_columns(
        x=(pl.col("x0") * pl.col("x1")).sqrt(),
        base=base,
        above=base - 1,
        # A flat line along the foot says nothing and hides what is behind it.
        top=pl.when(near > 0).then(base - pl.col("share") * height),
        first=pl.when((base > 0) & (begun > 0)).then(base - pl.col("start") * height),
    ).drop("start")


def map_chart(curves: pl.DataFrame, cells: tuple[Cell, ...], family: Family) -> tuple[alt.Chart, Rows]:
    """Generation against value; the stronger the colour, the larger the share. The line is the median of the binned values."""
    import altair as alt

    shown = shown_cells(curves, cells, family)
    frame = bins_of(curves, shown, family, MAX_MAPPED)
    labels, most = [c.label for c in shown], max(float(frame["share"].max() or 0.0), STRENGTHS[-1])  # type: ignore[arg-type]
    names, y = _names(frame), _axis(frame)
    x = alt.X(
        "name:O", sort=names, axis=alt.Axis(title="generation", labelAngle=0, labelOverlap=True), scale=alt.Scale(domain=names, padding=0)
    )
    colour = alt.Color("label:N", scale=alt.Scale(domain=labels, range=cell_colours(labels)), legend=None)
    strength = alt.FillOpacity(
        "share:Q", scale=alt.Scale(type="sqrt", domain=[0, most], range=[0, 1]), legend=alt.Legend(format=".0%", values=list(STRENGTHS))
    )
    base = alt.Chart().encode(x=x)
    boxes = base.mark_rect(aria=False, stroke=None).transform_filter("datum.share > 0").encode(
        y=alt.Y("x0:Q", **y), y2="x1:Q", color=colour, fillOpacity=strength, tooltip=_tooltip())  # fmt: skip
    line = base.mark_line(color=INK, strokeWidth=1.6, point=alt.OverlayMarkDef(size=16, color=INK)).encode(y=alt.Y("middle:Q", **y))
    rows = pl.concat([frame.filter(pl.col("share") > 0).drop("position"), _medians(frame)], how="diagonal")
    return panels(alt.layer(boxes, line.transform_filter("isValid(datum.middle)")), labels, _MAP_HEIGHT), _rounded(rows)


def _medians(frame: pl.DataFrame) -> pl.DataFrame:
    """The median of each cell and row, on the logarithmic scale within its bin."""
    rows: list[tuple[Any, Any, float]] = []
    for key, part in frame.group_by("label", "name", maintain_order=True):
        total, below = float(part["share"].sum()), 0.0
        for x0, x1, share in part.select("x0", "x1", "share").iter_rows():
            if share > 0 and below + share >= total / 2:
                rows.append((*key, x0 * (x1 / x0) ** ((total / 2 - below) / share)))
                break
            below += share
    return pl.DataFrame(rows, schema={"label": pl.String, "name": pl.String, "middle": pl.Float64}, orient="row")


def _names(frame: pl.DataFrame) -> list[str]:
    return frame.unique(["position", "name"]).sort("position")["name"].to_list()


def _row_labels(names: list[str]) -> list[str]:
    return [name if name == "real" else f"gen. {name}" for name in names]


def _row_colours(names: list[str]) -> list[str]:
    """The ramp over the generations; the original is grey."""
    return [MUTED, *ramp(len(names) - 1)] if names[0] == "real" else ramp(len(names))


def _axis(frame: pl.DataFrame) -> dict[str, Any]:
    """A logarithmic axis over all bins; over few decades, with 2 and 5 between the powers of ten."""
    import altair as alt

    low, high = float(frame["x0"].min()), float(frame["x1"].max())  # type: ignore[arg-type]
    found = log_axis(low, high)
    if math.log10(high / low) < _FEW_DECADES:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        found["axis"].values = [m * 10.0**p for p in powers for m in (1, 2, 5) if low <= m * 10.0**p <= high] or alt.Undefined
        found["axis"].tickCount = 9
    return found


def _tooltip() -> list[Any]:
    import altair as alt

    fields = (("x0", "from", ".3~r"), ("x1", "to", ".3~r"), ("share", "share", ".2~%"))
    head = [alt.Tooltip("label:N", title=""), alt.Tooltip("name:N", title="generation")]
    return head + [alt.Tooltip(f"{column}:Q", title=title, format=shape) for column, title, shape in fields]


def panels(layers: Any, labels: list[str], height: int) -> Any:
    """A panel for each cell, in rows of at most three; the data set is called ``rows``."""
    import altair as alt

    columns = len(labels) if len(labels) <= 3 else math.ceil(len(labels) / 2)
    width = WIDTH if columns == 1 else WIDTH // columns - 20
    facet = alt.Facet("label:N", sort=labels, header=alt.Header(title=None, labelLimit=max(width, 90)))
    return layers.properties(width=width, height=height).facet(facet=facet, columns=columns, data=alt.NamedData(name=ROWS))


def _rounded(frame: pl.DataFrame) -> Rows:
    """Rows of four significant digits, nulls left out: a chart has thousands of them."""
    floats = [name for name, kind in frame.schema.items() if kind == pl.Float64]
    rounded = frame.with_columns(pl.col(floats).round_sig_figs(4))
    return [{k: v for k, v in row.items() if v is not None} for row in rounded.to_dicts()]
