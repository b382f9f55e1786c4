"""The chart of one metric: median, band, mean and theory over the generations, and z below where theory is exact."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from studbook.errors import MetricError
from studbook.report.aggregate import FEW_REPLICATES, LEAST_TO_JUDGE, thin
from studbook.report.names import label_of
from studbook.report.run import Cell
from studbook.report.theme import CELL_COLOURS, INK, MUTED, cell_colours

if TYPE_CHECKING:
    import altair as alt

OVERLAY = len(CELL_COLOURS)
"""Up to this many cells share one panel; more get small multiples."""
MAX_PANELS = 24
WIDTH, HEIGHT, PANEL_WIDTH, PANEL_HEIGHT, Z_HEIGHT = 640, 300, 190, 120, 84
ROWS = "rows"
"""Name of a chart's data set: charts are built without data, which are attached at the end."""
_DRAWN = ("median", "mean", "low", "high", "theory", "theory_median", "z")


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """What one metric's chart is drawn from.

    Attributes:
        metric: The metric.
        cells: The cells drawn, in order.
        frame: Aggregated rows with a ``label`` column, thinned; what can't be drawn is null.
        log: Whether the value axis is logarithmic.
        n_replicates: Largest number of replicates.
    """

    metric: str
    cells: tuple[Cell, ...]
    frame: pl.DataFrame
    log: bool
    n_replicates: int

    @property
    def facets(self) -> bool:
        """Whether each cell has a panel of its own."""
        return len(self.cells) > OVERLAY

    @property
    def has_z(self) -> bool:
        """Whether theory is exact somewhere and there are replicates enough to hold against it, so that z-scores tell something."""
        return self.n_replicates >= LEAST_TO_JUDGE and bool(self.frame["z"].is_not_null().any())

    @property
    def has_theory(self) -> bool:
        """Whether theory predicts this metric."""
        return bool(self.frame["theory"].is_not_null().any())

    @property
    def has_theory_median(self) -> bool:
        """Whether theory predicts the median too, visibly apart from the mean."""
        apart = (pl.col("theory_median") - pl.col("theory")).abs() > 0.02 * pl.col("theory").abs().max()
        return bool(self.frame.select(apart.any()).item())


def make_panel(curves: pl.DataFrame, cells: tuple[Cell, ...], metric: str) -> Panel:
    """The rows of one metric, ready to draw.

    Args:
        curves: What ``studbook.report.aggregate.aggregate`` returned.
        cells: The cells to draw.
        metric: Full name of the metric.

    Raises:
        MetricError: The run holds no such metric for these cells.
    """
    rows = curves.filter((pl.col("metric") == metric) & pl.col("cell").is_in([c.index for c in cells]))
    if rows.is_empty():
        known = ", ".join(curves["metric"].unique().sort().to_list()[:12])
        raise MetricError(f"the run has no metric {metric!r} for these cells", hint=f"it has {known}")
    present = set(rows["cell"].to_list())
    shown = spread_evenly(tuple(c for c in cells if c.index in present), MAX_PANELS)
    labels = pl.DataFrame({"cell": [c.index for c in shown], "label": [c.label for c in shown]}, schema_overrides={"cell": pl.Int32})
    frame = thin(rows.join(labels, on="cell"), max(30, min(200, 1200 // len(shown))))
    finite = frame.with_columns(pl.when(pl.col(c).is_finite()).then(c) for c in _DRAWN)
    log = _needs_log(finite, metric)
    n_replicates = int(rows["n"].max())  # type: ignore[arg-type]
    return Panel(metric, shown, _for_log_axis(finite) if log else finite, log, n_replicates)


def spread_evenly(cells: tuple[Cell, ...], limit: int) -> tuple[Cell, ...]:
    """At most ``limit`` of the cells, evenly spread, the first and the last among them."""
    if len(cells) <= limit:
        return cells
    return tuple(cells[round(i * (len(cells) - 1) / (limit - 1))] for i in range(limit))


def _needs_log(frame: pl.DataFrame, metric: str) -> bool:
    if label_of(metric).share:
        return False
    drawn = frame.select(
        "cell", "generation", pl.min_horizontal("median", "mean").alias("least"), pl.max_horizontal("median", "mean").alias("most")
    ).drop_nulls()
    if drawn.is_empty() or drawn["least"].min() <= 0:  # type: ignore[operator]
        return False
    most = float(drawn["most"].max())  # type: ignore[arg-type]
    if drawn.filter(pl.col("generation") == drawn["generation"].min())["least"].min() < 1e-12 * most:  # type: ignore[operator]
        return False  # it starts from nothing but rounding errors
    small = drawn.group_by("cell").agg(pl.col("least").min())["least"] < most / 100
    # One collapsed cell among many panels would flatten all the others.
    return bool(small.any()) if len(small) <= OVERLAY else 3 * int(small.sum()) >= len(small)


def _for_log_axis(frame: pl.DataFrame) -> pl.DataFrame:
    floor = float(pl.concat([frame["median"], frame["mean"]]).min())  # type: ignore[arg-type]
    bounded = pl.col("low").clip(lower_bound=floor / 3)
    positive = [pl.when(pl.col(c) > 0).then(c) for c in ("theory", "theory_median")]
    return frame.with_columns(bounded, *positive)


def rows_of(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Rows for a chart: six significant digits, nulls left out, so that the page stays small."""
    floats = [name for name, kind in frame.schema.items() if kind == pl.Float64]
    rounded = frame.with_columns(pl.col(floats).round_sig_figs(6))
    return [{k: v for k, v in row.items() if v is not None} for row in rounded.to_dicts()]


def panel_rows(panel: Panel) -> list[dict[str, Any]]:
    """The data set of a panel's chart."""
    return rows_of(panel.frame.select("label", "generation", "n", *_DRAWN))


def curve_chart(panel: Panel) -> alt.Chart:
    """The chart of a panel, with the z-scores below where there are any; its data set is called ``rows``."""
    import altair as alt

    # Altair's classes of charts share no public base with the methods used here.
    data: Any = alt.NamedData(name=ROWS)
    layers: Any = alt.layer(*_value_layers(panel))
    if panel.facets:
        order = [c.label for c in panel.cells]
        body: Any = layers.properties(width=PANEL_WIDTH, height=PANEL_HEIGHT).facet(
            facet=alt.Facet("label:N", sort=order, header=alt.Header(title=None, labelLimit=PANEL_WIDTH)), columns=3, data=data
        )
    else:
        body = layers.properties(width=WIDTH, height=HEIGHT, data=data)
    if not panel.has_z:
        return body  # type: ignore[no-any-return]
    width = 3 * PANEL_WIDTH + 36 if panel.facets else WIDTH
    return alt.vconcat(body, _z_chart(panel, data).properties(width=width, height=Z_HEIGHT))  # type: ignore[return-value]


def generation_axis(frame: pl.DataFrame, *, title: str | None = "generation", n_ticks: int = 8) -> Any:
    """The horizontal axis."""
    import altair as alt

    low, high = int(frame["generation"].min()), int(frame["generation"].max())  # type: ignore[arg-type]
    high = max(high, low + 1)
    # Where every generation has room each one is named: half steps would be rounded to the same number twice.
    ticks = {"values": list(range(low, high + 1))} if high - low <= n_ticks else {"tickMinStep": 1, "tickCount": n_ticks}
    axis = alt.Axis(title=title, format=",d", labelOverlap=True, labelFlush=True, **ticks)
    return alt.X("generation:Q", axis=axis, scale=alt.Scale(domain=[low, high], nice=False))


def value_axis(panel: Panel) -> dict[str, Any]:
    """Scale and axis of the values."""
    import altair as alt

    values = pl.concat([panel.frame[c] for c in ("median", "mean", "low", "high", "theory")]).drop_nulls()
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)  # type: ignore[arg-type]
    if label_of(panel.metric).share:
        whole = {"domain": [0, max(1.0, high)], "nice": False} if high > 0.4 else {"zero": True, "nice": True}
        return {"scale": alt.Scale(**whole), "axis": alt.Axis(title=None, format=".0%" if high > 0.05 else "~%")}
    if panel.log:
        return log_axis(low, high)
    scale = alt.Scale(zero=0 <= low < 0.6 * high, nice=True)
    return {"scale": scale, "axis": alt.Axis(title=None, format="~s" if max(abs(low), abs(high)) >= 1e4 else ",~r")}


def log_axis(low: float, high: float, title: str | None = None) -> dict[str, Any]:
    """Scale and axis for positive values, with a line at powers of ten only."""
    import altair as alt

    powers = range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)
    ticks = [10.0**p for p in powers][:: 1 + len(powers) // 7]
    plain = low > 1e-4 and high < 1e6
    values: Any = ticks if len(ticks) > 1 else alt.Undefined
    axis = alt.Axis(title=title, format=",~r" if plain else ".0e", values=values)
    return {"scale": alt.Scale(type="log", domain=[low, high], nice=False), "axis": axis}


def _colour(panel: Panel) -> Any:
    import altair as alt

    labels = [c.label for c in panel.cells]
    legend = None if panel.facets or len(labels) == 1 else alt.Legend(title=None)
    return alt.Color("label:N", scale=alt.Scale(domain=labels, range=cell_colours(labels)), sort=labels, legend=legend)


def _value_layers(panel: Panel) -> list[Any]:
    import altair as alt

    axis = value_axis(panel)
    title = None if panel.has_z and not panel.facets else "generation"
    base = alt.Chart().encode(x=generation_axis(panel.frame, title=title, n_ticks=4 if panel.facets else 8))
    coloured = base.encode(color=_colour(panel))
    layers: list[Any] = []
    if panel.n_replicates > 1:
        layers.append(coloured.mark_area(fillOpacity=0.17).encode(y=alt.Y("low:Q", **axis), y2="high:Q"))
        layers.append(coloured.mark_line(strokeWidth=1.4, strokeDash=[6, 3]).encode(y=alt.Y("mean:Q", **axis)))
    dots = panel.frame["generation"].n_unique() <= 16
    point = alt.OverlayMarkDef(size=26, filled=True) if dots else False
    layers.append(coloured.mark_line(strokeWidth=2.4, point=point).encode(y=alt.Y("median:Q", **axis), tooltip=_tooltip(panel)))
    theories = [("theory", [0.1, 4])] * panel.has_theory + [("theory_median", [7, 3, 0.1, 3])] * panel.has_theory_median
    layers.extend(
        base.mark_line(strokeWidth=2, strokeDash=dash, strokeCap="round", color=INK).encode(
            y=alt.Y(f"{column}:Q", **axis), detail="label:N"
        )
        for column, dash in theories
    )
    return layers


def _tooltip(panel: Panel) -> list[Any]:
    import altair as alt

    band = [("low", "lowest"), ("high", "highest")] if panel.n_replicates < FEW_REPLICATES else [("low", "5 %"), ("high", "95 %")]
    spread = [("mean", "mean"), *band] if panel.n_replicates > 1 else []
    theory = [("theory", "theory")] * panel.has_theory + [("z", "z")] * panel.has_z
    shown = [("median", "median" if panel.n_replicates > 1 else "value"), *spread, *theory]
    head = [alt.Tooltip("label:N", title=""), alt.Tooltip("generation:Q", title="generation", format=",d")]
    return head + [alt.Tooltip(f"{column}:Q", title=title, format=".2f" if column == "z" else ".4~g") for column, title in shown]


def _z_chart(panel: Panel, data: Any) -> Any:
    import altair as alt

    largest = float(panel.frame["z"].abs().max())  # type: ignore[arg-type]
    limit = max(3.0, math.ceil(largest * 1.05))
    ticks = [-2, 0, 2] if limit < 6 else [-math.floor(limit), -2, 2, math.floor(limit)]
    axis: dict[str, Any] = {
        "scale": alt.Scale(domain=[-limit, limit], nice=False),
        "axis": alt.Axis(title=None, values=ticks, grid=False, format="d"),
    }
    guides = [_guide(0), _guide(-2, [3, 3]), _guide(2, [3, 3])]
    lines = alt.Chart(data).encode(x=generation_axis(panel.frame), y=alt.Y("z:Q", **axis))
    dots = panel.frame["generation"].n_unique() <= 16
    point = alt.OverlayMarkDef(size=18, filled=True) if dots else False
    drawn = lines.mark_line(strokeWidth=0.9 if panel.facets else 1.4, strokeOpacity=0.75 if panel.facets else 1, point=point)
    title = alt.TitleParams("z = (mean − theory) / standard error, guides at ±2", fontSize=11, fontWeight="normal", color=MUTED, offset=4)
    return alt.layer(*guides, drawn.encode(color=_colour(panel), detail="label:N"), title=title)


def _guide(y: int, dash: Sequence[float] = ()) -> Any:
    import altair as alt

    data: Any = alt.InlineData(values=[{"z": y}])
    return alt.Chart(data).mark_rule(color=MUTED, strokeWidth=1, strokeDash=dash).encode(y="z:Q")
