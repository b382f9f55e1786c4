"""Charts of metrics that belong together: quantiles as a fan, class shares as a stack; and the dose-response."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from studbook.report.curves import (
    HEIGHT,
    MAX_PANELS,
    PANEL_HEIGHT,
    ROWS,
    WIDTH,
    Panel,
    generation_axis,
    make_panel,
    rows_of,
    spread_evenly,
    value_axis,
)
from studbook.report.figure import Rows
from studbook.report.names import Family
from studbook.report.run import Cell
from studbook.report.theme import CELL_COLOURS, INK, PAPER, cell_colours, ramp

if TYPE_CHECKING:
    import altair as alt


def fan_chart(curves: pl.DataFrame, cells: tuple[Cell, ...], family: Family) -> tuple[alt.Chart, Rows]:
    """Quantiles ``NAME.p05 … NAME.p95``: nested bands around the middle one, one panel a cell.

    What is drawn is the median over the replicates of each quantile.
    """
    import altair as alt

    ordered = sorted(family.members, key=lambda m: int(m.partition(".p")[2]))
    panels = [make_panel(curves, cells, member) for member in ordered]
    wide = panels[0].frame.select("label", "generation", pl.col("median").alias("q0"))
    for i, panel in enumerate(panels[1:], start=1):
        wide = wide.join(panel.frame.select("label", "generation", pl.col("median").alias(f"q{i}")), on=["label", "generation"], how="left")
    joint = _joint_panel(panels, family)
    axis, last = value_axis(joint), len(panels) - 1
    labels = [c.label for c in joint.cells]
    colour = alt.Color("label:N", scale=alt.Scale(domain=labels, range=cell_colours(labels)), legend=None)
    base = alt.Chart().encode(x=generation_axis(joint.frame, n_ticks=4), color=colour)
    layers: list[Any] = [
        base.mark_area(fillOpacity=0.2).encode(y=alt.Y(f"q{i}:Q", **axis), y2=f"q{last - i}:Q") for i in range((last + 1) // 2)
    ]
    titles = [m.partition(".p")[2].lstrip("0") + " %" for m in ordered]
    tooltip = [alt.Tooltip("label:N", title=""), alt.Tooltip("generation:Q", title="generation")]
    tooltip += [alt.Tooltip(f"q{i}:Q", title=title, format=".4~g") for i, title in enumerate(titles)]
    layers.append(base.mark_line(strokeWidth=2.2, point=alt.OverlayMarkDef(size=24)).encode(
        y=alt.Y(f"q{last // 2}:Q", **axis), tooltip=tooltip))  # fmt: skip
    return _facet(alt.layer(*layers), labels), rows_of(wide)


def stack_chart(curves: pl.DataFrame, cells: tuple[Cell, ...], family: Family) -> tuple[alt.Chart, Rows]:
    """Shares that sum to one: stacked areas, one panel a cell, means over the replicates."""
    import altair as alt

    members = [(m, m.partition(".")[2]) for m in family.members]
    panels = [make_panel(curves, cells, m) for m, _ in members]
    parts = [p.frame.select("label", "generation", "mean").with_columns(part=pl.lit(name), order=pl.lit(i))
             for i, (p, (_, name)) in enumerate(zip(panels, members, strict=True))]  # fmt: skip
    tall = pl.concat(parts)
    names = [name for _, name in members]
    axis: dict[str, Any] = {"scale": alt.Scale(domain=[0, 1], nice=False), "axis": alt.Axis(title=None, format=".0%")}
    area = alt.Chart().mark_area(stroke=PAPER, strokeWidth=0.8).encode(
        x=generation_axis(tall, n_ticks=4),
        y=alt.Y("mean:Q", stack="zero", **axis),
        color=alt.Color("part:N", scale=alt.Scale(domain=names, range=ramp(len(names))), sort=names, legend=alt.Legend(columns=10)),
        order=alt.Order("order:Q"),
        tooltip=[alt.Tooltip("label:N", title=""), alt.Tooltip("part:N", title="class")],
    )  # fmt: skip
    return _facet(area, [c.label for c in panels[0].cells]), rows_of(tall)


def _joint_panel(panels: list[Panel], family: Family) -> Panel:
    """All members' values in one panel, so that one axis fits them all."""
    frame = pl.concat([p.frame for p in panels])
    low, high = frame["median"].min(), frame["median"].max()
    log = bool(low is not None and low > 0 and high > 30 * low)  # type: ignore[operator]
    centred = frame.with_columns(pl.col("median").alias(c) for c in ("mean", "low", "high"))
    return Panel(family.name, panels[0].cells, centred.with_columns(theory=pl.lit(None, pl.Float64)), log, panels[0].n_replicates)


def _facet(layer: Any, labels: list[str]) -> Any:
    import altair as alt

    columns = len(labels) if len(labels) <= 4 else 3
    width = WIDTH if columns == 1 else WIDTH // columns - 20
    header = alt.Header(title=None, labelLimit=max(width, 90))
    return layer.properties(width=width, height=PANEL_HEIGHT + (70 if len(labels) <= 4 else 0)).facet(
        facet=alt.Facet("label:N", sort=labels, header=header), columns=columns, data=alt.NamedData(name=ROWS)
    )


def dose_keys(cells: tuple[Cell, ...]) -> tuple[str, ...]:
    """Grid keys with at least three different numeric values; each can be the axis of a dose-response chart."""
    keys = cells[0].keys if cells else {}
    return tuple(key for key in keys if all(_float(c.keys.get(key)) is not None for c in cells) and len({c.keys[key] for c in cells}) >= 3)


def dose_chart(curves: pl.DataFrame, cells: tuple[Cell, ...], metric: str, key: str) -> tuple[alt.Chart, Rows]:
    """The last generation's value against a numeric grid key; the other keys tell the lines apart."""
    import altair as alt

    last = curves.filter(pl.col("metric") == metric).sort("generation").group_by("cell").last()
    doses = [(c.index, _float(c.keys[key]), other_keys(c, key)) for c in cells]
    schema = {"cell": pl.Int32, "dose": pl.Float64, "label": pl.String}
    frame = last.join(pl.DataFrame(doses, schema=schema, orient="row"), on="cell").sort("dose")
    finite = frame.with_columns(pl.when(pl.col(c).is_finite()).then(c) for c in ("median", "mean", "low", "high", "theory"))
    labels = list(dict.fromkeys(d[2] for d in doses))
    panel = Panel(metric, spread_evenly(cells, MAX_PANELS), finite, log=False, n_replicates=int(frame["n"].max()))  # type: ignore[arg-type]
    axis = value_axis(panel)
    x = alt.X(
        "dose:Q",
        scale=_dose_scale(finite["dose"]),
        axis=alt.Axis(title=key.rpartition(".")[2], values=finite["dose"].unique().sort().to_list(), format=",~r", labelOverlap=True),
    )
    palette = list(CELL_COLOURS[: len(labels)]) if len(labels) <= len(CELL_COLOURS) else ramp(len(labels))
    legend = alt.Legend(title=None) if len(labels) > 1 else None
    base = alt.Chart().encode(x=x)
    coloured = base.encode(color=alt.Color("label:N", scale=alt.Scale(domain=labels, range=palette), sort=labels, legend=legend))
    layers: list[Any] = [
        coloured.mark_rule(strokeWidth=5, strokeOpacity=0.25, strokeCap="round").encode(y=alt.Y("low:Q", **axis), y2="high:Q"),
        coloured.mark_line(strokeWidth=2.2, point=alt.OverlayMarkDef(size=40)).encode(
            y=alt.Y("median:Q", **axis), tooltip=_dose_tooltip(key)
        ),
    ]
    if finite["theory"].is_not_null().any():
        theory = base.mark_line(strokeWidth=2, strokeDash=[0.1, 4], strokeCap="round", color=INK)
        layers.append(theory.encode(y=alt.Y("theory:Q", **axis), detail="label:N"))
    rows = rows_of(finite.select("label", "dose", "generation", "n", "median", "mean", "low", "high", "theory"))
    drawn: Any = alt.layer(*layers, data=alt.NamedData(name=ROWS)).properties(width=WIDTH, height=HEIGHT)
    return drawn, rows


def _dose_tooltip(key: str) -> list[Any]:
    import altair as alt

    fields = (("median", "median"), ("mean", "mean"), ("low", "low"), ("high", "high"), ("theory", "theory"))
    head = [alt.Tooltip("label:N", title=""), alt.Tooltip("dose:Q", title=key, format=",~r")]
    return head + [alt.Tooltip(f"{column}:Q", title=title, format=".4~g") for column, title in fields]


def _dose_scale(doses: pl.Series) -> Any:
    import altair as alt

    positive = doses.filter(doses > 0)
    if len(positive) == 0 or positive.max() < 10 * positive.min():  # type: ignore[operator]
        return alt.Scale(nice=False, zero=False, padding=14)
    if doses.min() > 0:  # type: ignore[operator]
        return alt.Scale(type="log", nice=False, padding=14)
    return alt.Scale(type="symlog", constant=float(positive.min()), nice=False, padding=14)  # type: ignore[arg-type]


def other_keys(cell: Cell, key: str) -> str:
    """What tells a line of a dose chart from the others: the cell's other grid keys."""
    return ", ".join(f"{name.rpartition('.')[2]} {value}" for name, value in cell.keys.items() if name != key)


def _float(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None
