"""The charts of training runs: spread beside theory, losses, held-out measures and bytes, by step; a colour for each run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from studbook.report.curves import HEIGHT, OVERLAY, ROWS, WIDTH, log_axis, rows_of
from studbook.report.densities import panels
from studbook.report.figure import Figure, Rows
from studbook.report.theme import INK, cell_colours
from studbook.report.training_folders import TrainedRun

_MARKS = {"lost": ("cross", "✚"), "replaced": ("diamond", "◆"), "rejoined": ("triangle-up", "▲"), "cut off": ("triangle-down", "▼")}
"""What can happen to a node: its mark in charts and in words."""
_PANEL_HEIGHT = 150
_MOST_POINTS, _LEAST_POINTS = 1200, 60
"""Of all runs together, and of each."""
_MOST_LINES = 16
"""Nodes with a line of their own; more are a band."""
_NOTHING = 1e-9
"""A spread below this share of the largest is rounding."""


def training_figures(runs: Sequence[TrainedRun]) -> list[Figure]:
    """Whatever there is to draw of spread, losses, held-out measures and bytes."""
    return [figure for figure in (_spread(runs), _losses(runs), _measures(runs), _bytes(runs)) if figure is not None]


def _spread(runs: Sequence[TrainedRun]) -> Figure | None:
    frames = [_spread_frame(run, _points(runs)) for run in runs]
    values = pl.concat([frame[column] for frame in frames for column in ("median", "high", "theory")]).drop_nulls()
    highest = float(values.max() or 0.0)  # type: ignore[arg-type]
    if highest <= 0.0:
        return None
    lowest = float(values.filter(values > highest * _NOTHING).min()) / 1.5  # type: ignore[arg-type]
    shown = [_for_log_axis(frame, lowest) for frame in frames]
    known = any(frame["theory"].is_not_null().any() for frame in frames)
    return Figure(
        name="spread",
        section="spread",
        title="How far apart the nodes are",
        about="Mean squared distance of the nodes' parameters to their mean, after each step.",
        description=f"Spread of the nodes by step on a logarithmic scale, beside theory: {_ends(runs, 'spread')}.",
        chart=_placed(_spread_layers(runs, lowest, highest * 1.1), runs),
        rows=[row for run, frame in zip(runs, shown, strict=True) for row in _marked(run, _named(run, frame))],
        legend=_legend(runs),
        lines=("step", "exchange", *(("expected",) if known else ())),
        notes=(*_sameness(runs, highest * _NOTHING), *_event_notes(runs)),
        wide=True,
    )


def _spread_frame(run: TrainedRun, points: int) -> pl.DataFrame:
    """Where a row stands for several steps it has their medians, and the band all that lies between."""
    after, before = pl.col("spread"), pl.col("spread_before")
    high = pl.max_horizontal(after.max(), before.max())
    return _bunched(run.curve, points, median=after.median(), low=after.min(), high=high, theory=pl.col("spread_predicted").median())


def _for_log_axis(frame: pl.DataFrame, lowest: float) -> pl.DataFrame:
    """Where the nodes are the same nothing is drawn; if they always are after a step, a line on the lower edge is."""
    spread = pl.col("median")
    if frame.select((spread < lowest).all()).item():
        return frame.with_columns(pl.col("median", "high", "theory").fill_null(lowest).clip(lowest), low=None)
    drawn = frame.with_columns(pl.when(pl.col(name) >= lowest).then(name) for name in ("median", "high", "theory"))
    return drawn.with_columns(pl.when(spread.is_not_null()).then(pl.col(name).clip(lowest)).alias(name) for name in ("low", "high"))


def _sameness(runs: Sequence[TrainedRun], nothing: float) -> tuple[str, ...]:
    same = [run.curve["spread"].drop_nulls() <= nothing for run in runs]
    always, at_times = any(each.all() for each in same), any(each.any() and not each.all() for each in same)
    edge = ("A line on the lower edge: all nodes are the same, to the bit or nearly so.",) if always else ()
    return (*edge, *(("A gap: nodes that were just averaged are all the same.",) if at_times else ()))


def _spread_layers(runs: Sequence[TrainedRun], low: float, high: float) -> list[Any]:
    import altair as alt

    axis, base = log_axis(low, high), _base(runs)
    edge: Any = alt.OverlayMarkDef(strokeWidth=0.8, opacity=0.5)
    told = (("median", "spread"), ("high", "before"), ("theory", "theory"))
    return [
        base.mark_area(fillOpacity=0.15, line=edge).encode(y=alt.Y("high:Q", **axis), y2="low:Q"),
        base.mark_line(strokeWidth=1.6, strokeDash=[6, 4]).encode(y=alt.Y("theory:Q", **axis)),
        base.mark_line(strokeWidth=1.8).encode(y=alt.Y("median:Q", **axis), tooltip=_tooltip(told)),
        *_event_layers(runs, axis),
    ]


def _losses(runs: Sequence[TrainedRun]) -> Figure | None:
    shown = [run for run in runs if run.curve["loss"].is_not_null().any()]
    if not shown:
        return None
    few = all(len(run.loss_columns) <= _MOST_LINES for run in shown)
    return Figure(
        name="loss",
        section="loss",
        title="Loss of the nodes",
        about="Of each node on its own batch, before the step, and the mean of all.",
        description=f"Loss by step of every node and their mean: {_ends(shown, 'loss')}.",
        chart=_placed(_loss_layers(shown, few=few), shown, together=1),
        rows=[row for run in shown for row in _loss_rows(run, _points(shown), few=few)],
        legend=_legend(shown),
        lines=("together", "each" if few else "all"),
        notes=_event_notes(shown),
        wide=True,
    )


def _loss_rows(run: TrainedRun, points: int, *, few: bool) -> Rows:
    nodes = {f"node {name.removeprefix('loss_')}": pl.col(name).mean() for name in run.loss_columns}
    band = {"low": pl.min_horizontal(run.loss_columns).min(), "high": pl.max_horizontal(run.loss_columns).max()}
    mean = _bunched(run.curve, points, median=pl.col("loss").mean(), **({} if few else band))
    each = _bunched(run.curve, points, **nodes).unpivot(index="step", variable_name="node", value_name="loss")
    return [*_marked(run, _named(run, mean)), *(_named(run, each) if few else [])]


def _loss_layers(runs: Sequence[TrainedRun], *, few: bool) -> list[Any]:
    import altair as alt

    axis: dict[str, Any] = {"scale": alt.Scale(zero=False), "axis": alt.Axis(title=None)}
    # Rows of nodes have no mean and the other way round: apart by node, neither breaks the other's line.
    base = _base(runs).encode(detail="node:N")
    each = base.mark_line(strokeWidth=0.8, strokeOpacity=0.4).encode(y=alt.Y("loss:Q", **axis))
    band = base.mark_area(fillOpacity=0.16).encode(y=alt.Y("low:Q", **axis), y2="high:Q")
    mean = base.mark_line(strokeWidth=2).encode(y=alt.Y("median:Q", **axis), tooltip=_tooltip((("median", "mean loss"),)))
    return [each if few else band, mean, *_event_layers(runs, axis)]


def _measures(runs: Sequence[TrainedRun]) -> Figure | None:
    names = list(dict.fromkeys(name for run in runs for name in run.measured))
    rows = [row for run in runs for name in names for row in _measure_rows(run, name)]
    if not rows:
        return None
    return Figure(
        name="measures",
        section="measures",
        title="On held-out data",
        about="Of the mean of all parameters, or of the server's, as training goes on; dots at the end are the nodes' own.",
        description=f"Held-out {', '.join(names)} by step: {'; '.join(_ends(runs, f'mean_{name}') for name in names)}.",
        chart=panels(_measure_layers(runs, rows), names, _PANEL_HEIGHT).resolve_scale(y="independent"),
        rows=rows,
        legend=_legend(runs),
        wide=True,
    )


def _measure_rows(run: TrainedRun, name: str) -> Rows:
    column = f"mean_{name}"
    if column not in run.curve.columns:
        return []
    known = run.curve.select("step", median=column).drop_nulls()
    nodes = [{"step": len(run.curve), "node": f"node {who}", "own": value} for who, value in run.at_last(name)[1].items()]
    return [{"label": name, "group": run.label, **row} for row in (*rows_of(_thinned(known, 300)), *nodes)]


def _measure_layers(runs: Sequence[TrainedRun], rows: Rows) -> Any:
    import altair as alt

    axis: dict[str, Any] = {"scale": alt.Scale(zero=False), "axis": alt.Axis(title=None, tickCount=4)}
    base = _base(runs, by="group").encode(detail="node:N")
    mean = base.mark_line(strokeWidth=1.8, point=alt.OverlayMarkDef(size=22, filled=True))
    own = base.mark_point(size=14, filled=True, opacity=0.45)
    told = [alt.Tooltip("group:N", title=""), *_tooltip((("own", "its own"),), by="node")]
    dots = [own.encode(y=alt.Y("own:Q", **axis), tooltip=told)] if any("own" in row for row in rows) else []
    return alt.layer(mean.encode(y=alt.Y("median:Q", **axis), tooltip=_tooltip((("median", "all"),), by="group")), *dots)


def _bytes(runs: Sequence[TrainedRun]) -> Figure | None:
    if not any(run.summary["bytes_sent"] for run in runs):
        return None
    import altair as alt

    shown = "datum.value ? format(datum.value, '~s') + 'B' : '0'"
    y = alt.Y("median:Q", axis=alt.Axis(title=None, labelExpr=shown))
    line = _base(runs).mark_line(strokeWidth=1.8).encode(y=y, tooltip=_tooltip((("median", "bytes"),), shape=",d"))
    return Figure(
        name="bytes",
        section="bytes",
        title="Bytes sent",
        about="Parameters and gradients that nodes sent and were sent for the protocol so far.",
        description=f"Bytes sent by step: {_ends(runs, 'bytes_sent')}.",
        chart=_placed([line], runs),
        rows=[row for run in runs for row in _named(run, _thinned(run.curve.select("step", median="bytes_sent"), 100))],
        legend=_legend(runs),
        wide=True,
    )


def _points(runs: Sequence[TrainedRun]) -> int:
    return max(_LEAST_POINTS, _MOST_POINTS // len(runs))


def _bunched(curve: pl.DataFrame, points: int, **columns: pl.Expr) -> pl.DataFrame:
    """At most so many rows, each for as many steps, named after the last of them."""
    bunch = max(1, -(-len(curve) // points))
    found = curve.group_by(bunch=(pl.col("step") - 1) // bunch, maintain_order=True).agg(pl.col("step").last(), **columns)
    return found.drop("bunch")


def _thinned(frame: pl.DataFrame, points: int) -> pl.DataFrame:
    """At most so many rows and the last, evenly spread."""
    stride = max(1, -(-len(frame) // points))
    return pl.concat([frame.head(-1).gather_every(stride), frame.tail(1)])


def _base(runs: Sequence[TrainedRun], by: str = "label") -> Any:
    import altair as alt

    labels, last = [run.label for run in runs], max(len(run.curve) for run in runs)
    scale = alt.Scale(domain=labels, range=cell_colours(labels))
    legend = alt.Legend(title=None, symbolOpacity=1) if 1 < len(runs) <= OVERLAY else None
    axis = alt.Axis(title="step", format=",d", tickMinStep=1, tickCount=5)
    x = alt.X("step:Q", scale=alt.Scale(domain=[0, last], nice=False), axis=axis)
    return alt.Chart().encode(x=x, color=alt.Color(f"{by}:N", scale=scale, sort=labels, legend=legend))


def _placed(layers: list[Any], runs: Sequence[TrainedRun], *, together: int = OVERLAY) -> Any:
    """Up to so many runs in one panel, else one for each."""
    import altair as alt

    layered: Any = alt.layer(*layers)
    if len(runs) > together:
        return panels(layered, [run.label for run in runs], _PANEL_HEIGHT)
    return layered.properties(width=WIDTH, height=HEIGHT, data=alt.NamedData(name=ROWS))


def _legend(runs: Sequence[TrainedRun]) -> tuple[tuple[str, str], ...]:
    labels = [run.label for run in runs]
    return tuple(zip(labels, cell_colours(labels), strict=True)) if 1 < len(labels) <= OVERLAY else ()


def _named(run: TrainedRun, frame: pl.DataFrame) -> Rows:
    return [{"label": run.label, **row} for row in rows_of(frame)]


def _tooltip(columns: Sequence[tuple[str, str]], *, by: str = "label", shape: str = ".4~g") -> list[Any]:
    import altair as alt

    head = [alt.Tooltip(f"{by}:N", title=""), alt.Tooltip("step:Q", title="step", format=",d")]
    return [*head, *[alt.Tooltip(f"{column}:Q", title=title, format=shape) for column, title in columns]]


def _ends(runs: Sequence[TrainedRun], column: str) -> str:
    """First and last value of each run, in words."""
    known = {run.label: run.curve[column].drop_nulls() for run in runs[:OVERLAY] if column in run.curve.columns}
    return "; ".join(f"{label} {values[0]:.3g} to {values[-1]:.3g}" for label, values in known.items() if len(values))


def _marked(run: TrainedRun, rows: Rows) -> Rows:
    """The rows of a run's line, those with word of what happened to nodes at their steps."""
    line = [row for row in rows if "median" in row]
    for event in run.events if line else ():
        row = next((row for row in line if row["step"] >= event["step"]), line[-1])
        said = f"node {event['node']} {event['what']}, {event['why']}"
        row |= {"at": row["median"], "what": row.get("what", event["what"]), "told": f"{row['told']}; {said}" if "told" in row else said}
    return rows


def _event_layers(runs: Sequence[TrainedRun], axis: dict[str, Any]) -> list[Any]:
    import altair as alt

    if not any(run.events for run in runs):
        return []
    scale = alt.Scale(domain=list(_MARKS), range=[mark for mark, _ in _MARKS.values()])
    marks = _base(runs).mark_point(size=80, filled=True, opacity=1, stroke=INK, strokeWidth=0.8)
    told = [alt.Tooltip("label:N", title=""), alt.Tooltip("step:Q", title="step"), alt.Tooltip("told:N", title=" ")]
    return [marks.encode(y=alt.Y("at:Q", **axis), shape=alt.Shape("what:N", scale=scale, legend=None), tooltip=told)]


def _event_notes(runs: Sequence[TrainedRun]) -> tuple[str, ...]:
    seen = {event["what"] for run in runs for event in run.events}
    named = [f"{sign} {what}" for what, (_, sign) in _MARKS.items() if what in seen]
    return (f"A node was: {', '.join(named)}.",) if named else ()
