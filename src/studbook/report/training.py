"""How the fits of a run went: loss, epochs, early stops, and what failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from studbook.report.aggregate import thin
from studbook.report.curves import (
    HEIGHT,
    MAX_PANELS,
    OVERLAY,
    PANEL_HEIGHT,
    PANEL_WIDTH,
    ROWS,
    WIDTH,
    Panel,
    generation_axis,
    rows_of,
    spread_evenly,
    value_axis,
)
from studbook.report.figure import Rows
from studbook.report.markup import Html, tag
from studbook.report.numerals import count, number
from studbook.report.run import Cell, Failure, Run
from studbook.report.theme import cell_colours

if TYPE_CHECKING:
    import altair as alt

PARTS = {"loss": "training", "validation": "validation"}
_MOST_NAMED, _MOST_DOTS = 6, 16


def has_losses(run: Run) -> bool:
    """Whether there is a loss to draw."""
    fits = run.fits.filter(pl.col("generation") >= 0)
    return bool(fits["loss"].is_finite().any() or fits["validation"].is_finite().any())


def varies(run: Run, column: str) -> bool:
    """Whether fits differ in this."""
    return run.fits.filter(pl.col("generation") >= 0)[column].drop_nulls().n_unique() > 1


def losses(run: Run) -> Panel:
    """Training and validation loss by generation: rows of a panel with a column ``part``."""
    return _panel(run, PARTS, "training_loss")


def epochs(run: Run) -> Panel:
    """Epochs taken by generation."""
    return _panel(run, {"epochs": "epochs"}, "training_epochs")


def _panel(run: Run, columns: dict[str, str], metric: str) -> Panel:
    cells = {c.index: c.label for c in run.cells}
    trained = set(run.fits["cell"].to_list())
    shown = spread_evenly(tuple(c for c in run.cells if c.index in trained), MAX_PANELS)
    labels = pl.DataFrame({"cell": [c.index for c in shown], "label": [cells[c.index] for c in shown]}, schema_overrides={"cell": pl.Int32})
    # A base model that the learner names was fitted before generation 0.
    fits = run.fits.filter(pl.col("generation") >= 0)
    parts = [
        fits.select("cell", "generation", value=pl.col(column).cast(pl.Float64), part=pl.lit(name)) for column, name in columns.items()
    ]
    value = pl.col("value")
    frame = (
        pl.concat(parts)
        .filter(value.is_finite())
        .join(labels, on="cell")
        .group_by("cell", "label", "part", "generation")
        .agg(n=pl.len(), median=value.median(), mean=value.mean(), low=value.min(), high=value.max())
        .sort("cell", "part", "generation")
    )
    present = set(frame["cell"].to_list())
    drawn = thin(frame, max(30, min(200, 1200 // max(1, len(shown))))).with_columns(theory=pl.lit(None, pl.Float64))
    return Panel(metric, tuple(c for c in shown if c.index in present), drawn, log=False, n_replicates=int(frame["n"].max() or 0))  # type: ignore[arg-type]


def training_chart(panel: Panel) -> tuple[alt.Chart, Rows]:
    """A line for each cell and part with the range of its replicates; what is held out is dashed."""
    import altair as alt

    labels, axis = [c.label for c in panel.cells], value_axis(panel)
    parts = panel.frame["part"].unique().sort().to_list()
    colour = alt.Color("label:N", scale=alt.Scale(domain=labels, range=cell_colours(labels)), sort=labels, legend=_legend(panel))
    dash = alt.StrokeDash("part:N", scale=alt.Scale(domain=list(PARTS.values()), range=[[1, 0], [6, 3]]), legend=None)
    base = alt.Chart().encode(x=generation_axis(panel.frame, n_ticks=4 if panel.facets else 8), color=colour, detail="part:N")
    layers: list[Any] = []
    if panel.n_replicates > 1:
        layers.append(base.mark_area(fillOpacity=0.14).encode(y=alt.Y("low:Q", **axis), y2="high:Q"))
    point = alt.OverlayMarkDef(size=26, filled=True) if panel.frame["generation"].n_unique() <= _MOST_DOTS else False
    line = base.mark_line(strokeWidth=2.2, point=point).encode(y=alt.Y("median:Q", **axis), tooltip=_tooltip(panel, len(parts)))
    layers.append(line.encode(strokeDash=dash) if len(parts) > 1 else line)
    rows = rows_of(panel.frame.select("label", "part", "generation", "n", "median", "low", "high"))
    layered: Any = alt.layer(*layers)
    if not panel.facets:
        return layered.properties(width=WIDTH, height=HEIGHT, data=alt.NamedData(name=ROWS)), rows
    facet = alt.Facet("label:N", sort=labels, header=alt.Header(title=None, labelLimit=PANEL_WIDTH))
    small = layered.properties(width=PANEL_WIDTH, height=PANEL_HEIGHT)
    return small.facet(facet=facet, columns=3, data=alt.NamedData(name=ROWS)), rows


def _legend(panel: Panel) -> Any:
    import altair as alt

    return alt.Legend(title=None) if 1 < len(panel.cells) <= OVERLAY else None


def _tooltip(panel: Panel, n_parts: int) -> list[Any]:
    import altair as alt

    head = [alt.Tooltip("label:N", title=""), alt.Tooltip("generation:Q", title="generation", format=",d")]
    which = [alt.Tooltip("part:N", title="loss")] if n_parts > 1 else []
    spread = [("low", "lowest"), ("high", "highest")] if panel.n_replicates > 1 else []
    shown = [("median", "median" if spread else "value"), *spread]
    return [*head, *which, *[alt.Tooltip(f"{column}:Q", title=title, format=".4~g") for column, title in shown]]


def training_words(run: Run) -> Html | None:
    """How many fits there were, how long they took, which failed; ``None`` where no learner is trained by gradient steps."""
    if run.fits.is_empty() and not run.n_failures:
        return None
    failed = failure_sentences(run, most=100)
    told = tag("p", " ".join(training_sentences(run))) if len(run.fits) else None
    return tag("div", told, tag("ul", *[tag("li", s) for s in failed]) if failed else None, class_="prose trained")


def training_sentences(run: Run) -> list[str]:
    """The fits in figures."""
    fits = run.fits
    took = f"{_extent(fits['epochs'], 'epoch')} and {_extent(fits['steps'], 'step')}"
    sentences = [f"{count(len(fits), 'fit')} by gradient steps, of {took}."]
    if stopped := int(fits["stopped_early"].fill_null(value=False).sum()):
        what = "All" if stopped == len(fits) else f"{stopped:,} of {len(fits):,}"
        sentences.append(f"{what} stopped early, as the loss on the part that was held out no longer fell.")
    return sentences


def _extent(values: pl.Series, noun: str) -> str:
    low, high = int(values.min() or 0), int(values.max() or 0)  # type: ignore[arg-type]
    return f"{count(low, noun)} each" if low == high else f"{low:,} to {count(high, noun)} (median {number(float(values.median() or 0))})"  # type: ignore[arg-type]


def failure_sentences(run: Run, most: int = _MOST_NAMED) -> list[str]:
    """What failed, fit by fit: failures are results and are never hidden."""
    failed = run.failures
    labels = {c.index: c.label for c in run.cells}
    sentences = [
        f"The training of {_whose(f)}{_where(f.cell, labels, run.cells)}, failed: {f.message}; its model is the last one with finite "
        "numbers."
        for f in failed[:most]
    ]
    rest = run.n_failures - len(sentences)
    more = "more fit" if sentences else "fit"
    return [*sentences, f"{count(rest, more)} failed{'' if failed else ': which, the run folder no longer says'}."] if rest else sentences


def _whose(failure: Failure) -> str:
    generation = f"generation {failure.generation}" if failure.generation >= 0 else "the base model"
    return f"{generation}, replicate {failure.replicate}"


def _where(cell: int, labels: dict[int, str], cells: tuple[Cell, ...]) -> str:
    if cell in labels:
        return f" in “{labels[cell]}”" if len(cells) > 1 else ""
    return f" of cell {cell}"
