"""What drift consists of: what decoding cuts off, what a finite sample loses by chance, and what the fit gets wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from studbook.report.aggregate import thin
from studbook.report.curves import rows_of, spread_evenly
from studbook.report.densities import panels
from studbook.report.figure import Rows
from studbook.report.names import Family
from studbook.report.numerals import count, number, percent
from studbook.report.run import Cell, Run
from studbook.report.spectra import MAX_COLUMNS
from studbook.report.theme import INK, PAPER, RAMP, ramp

if TYPE_CHECKING:
    import altair as alt

FAMILY = "drift_parts"
PARTS = {"truncation": "truncation by decoding", "sampling": "sampling noise (theory)", "fitting": "fitting error"}
LEVEL = "word_diversity"
"""The metric that the parts change: the diversity of what a model would write without truncation."""
_MOST_BARS, _SPELT_OUT, _HEIGHT, _SMALL = 40, 6, 210, 0.1
_COLOURS = (RAMP[3], RAMP[6], RAMP[9])
"""None so dark that the line of the sum is lost on it."""


def legend_of(family: Family) -> tuple[tuple[str, str], ...]:
    """The parts by name, and their colours."""
    names = [PARTS.get(m, m.replace("_", " ")) for m in _members(family)]
    return tuple(zip(names, _COLOURS if len(names) == len(_COLOURS) else ramp(len(names)), strict=True))


def _members(family: Family) -> list[str]:
    """The parts, the known ones first."""
    parts = [m.partition(".")[2] for m in family.members]
    return [p for p in PARTS if p in parts] + [p for p in parts if p not in PARTS]


def parts_of(curves: pl.DataFrame, cells: tuple[Cell, ...], family: Family) -> pl.DataFrame:
    """Each part by cell and generation, as a mean over the replicates.

    Returns:
        Columns ``cell, label, generation, part, order, value, added``; ``added`` is the sum over all generations up to this one.
    """
    names = [(f"{family.name}.{m}", PARTS.get(m, m.replace("_", " ")), i) for i, m in enumerate(_members(family))]
    named = pl.DataFrame(names, schema={"metric": pl.String, "part": pl.String, "order": pl.Int32}, orient="row")
    labels = pl.DataFrame({"cell": [c.index for c in cells], "label": [c.label for c in cells]}, schema_overrides={"cell": pl.Int32})
    rows = curves.join(named, on="metric").join(labels, on="cell").filter(pl.col("mean").is_finite()).sort("cell", "order", "generation")
    return rows.select(
        "cell", "label", "generation", "part", "order", value="mean", added=pl.col("mean").cum_sum().over("cell", "order")
    ).sort("cell", "generation", "order")


def every_generation(curves: pl.DataFrame, family: Family) -> bool:
    """Whether no generation between the first and the last is missing, so that parts can be added up."""
    generations = curves.filter(pl.col("metric").is_in(family.members))["generation"].unique()
    return len(generations) == int(generations.max()) - int(generations.min()) + 1  # type: ignore[arg-type]


def measured_change(curves: pl.DataFrame, cells: tuple[Cell, ...], family: Family) -> pl.DataFrame:
    """By how much diversity has really changed since the first training set, once a generation's sample is drawn.

    With M the model, T its training set and S its sample's law it is D(S) − D(T of the first generation); the parts sum to it where every
    generation trains on nothing but the sample before it. Columns ``label, generation, measured``; empty where it can't be told.
    """
    names = {f"{family.name}.{m}": m for m in PARTS} | {LEVEL: LEVEL}
    if family.name != FAMILY or not set(names) <= set(curves["metric"].unique().to_list()):
        return pl.DataFrame(schema={"label": pl.String, "generation": pl.Int32, "measured": pl.Float64})
    labels = pl.DataFrame({"cell": [c.index for c in cells], "label": [c.label for c in cells]}, schema_overrides={"cell": pl.Int32})
    rows = curves.filter(pl.col("metric").is_in(list(names))).with_columns(part=pl.col("metric").replace_strict(names))
    wide = rows.pivot("part", index=["cell", "generation"], values="mean").join(labels, on="cell").sort("cell", "generation")
    start = (pl.col(LEVEL) - pl.col("fitting")).first().over("cell")
    return wide.select("label", "generation", measured=pl.col(LEVEL) + pl.col("truncation") + pl.col("sampling") - start)


def parts_chart(curves: pl.DataFrame, cells: tuple[Cell, ...], family: Family, *, added: bool) -> tuple[alt.Chart, Rows]:
    """Stacked bars, those below zero downwards, and a line for their sum: of each generation, or of all up to it.

    Added up, a dashed line shows the measured change.
    """
    import altair as alt

    present = set(curves.filter(pl.col("metric").is_in(family.members))["cell"].to_list())
    shown = spread_evenly(tuple(c for c in cells if c.index in present), MAX_COLUMNS)
    bars = thin(parts_of(curves, shown, family), _MOST_BARS).with_columns(value=pl.col("added" if added else "value"))
    sums = bars.group_by("label", "generation", maintain_order=True).agg(total=pl.col("value").sum())
    if added:
        sums = sums.join(measured_change(curves, shown, family), on=["label", "generation"], how="left", maintain_order="left")
    x = alt.X("generation:O", axis=alt.Axis(title="generation", labelAngle=0, labelOverlap=True), scale=alt.Scale(paddingInner=0.25))
    axis = alt.Axis(title=None, format="~r")
    head = [alt.Tooltip("label:N", title=""), alt.Tooltip("generation:Q", title="generation", format=",d")]
    base = alt.Chart().encode(x=x)
    names, colours = zip(*legend_of(family), strict=True)
    stack = base.mark_bar(stroke=PAPER, strokeWidth=0.6, aria=False).transform_filter("isValid(datum.part)").encode(
        y=alt.Y("value:Q", axis=axis, stack="zero"),
        color=alt.Color("part:N", scale=alt.Scale(domain=list(names), range=list(colours)), sort=list(names)),
        order=alt.Order("order:Q"),
        tooltip=[*head, alt.Tooltip("part:N", title="part"), alt.Tooltip("value:Q", title="value", format="+.3~g")],
    )  # fmt: skip
    lines = [("total", "sum", [1, 0])] + [("measured", "measured change", [5, 3])] * ("measured" in sums.columns)
    drawn = [
        base.transform_filter(f"isValid(datum.{column})")
        .mark_line(color=INK, strokeWidth=1.6, strokeDash=dash, point=alt.OverlayMarkDef(size=22, color=INK, filled=True))
        .encode(y=alt.Y(f"{column}:Q", axis=axis), tooltip=[*head, alt.Tooltip(f"{column}:Q", title=title, format="+.3~g")])
        for column, title, dash in lines
    ]
    rows = rows_of(pl.concat([bars.drop("cell", "added"), sums], how="diagonal"))
    return panels(alt.layer(stack, *drawn), [c.label for c in shown], _HEIGHT), rows


def drift_sentence(run: Run, curves: pl.DataFrame) -> str:
    """How much of the lost diversity is decoding and how much recursion, cell by cell; empty where it wasn't measured."""
    members = tuple(m for m in curves["metric"].unique().sort().to_list() if m.startswith(f"{FAMILY}."))
    if not {f"{FAMILY}.{part}" for part in PARTS} <= set(members):
        return ""
    family = Family(FAMILY, members, "parts")
    parts = parts_of(curves, run.cells, family)
    ends = parts.sort("generation").group_by("cell", "part", maintain_order=True).last()
    measured = [c for c in run.cells if c.index in set(ends["cell"].to_list())]
    clauses = [_split(cell, ends.filter(pl.col("cell") == cell.index), len(measured)) for cell in measured[:_SPELT_OUT]]
    rest = f" ({count(len(measured) - _SPELT_OUT, 'more cell')} in the charts)" if len(measured) > _SPELT_OUT else ""
    over = "all generations" if every_generation(curves, family) else "the generations that were measured"
    return f"Diversity of words (Rényi entropy, in nats), summed over {over}: {'; '.join(clauses)}{rest}."


def _split(cell: Cell, ends: pl.DataFrame, n_cells: int) -> str:
    """What each part has taken; as shares only where no part makes up for another."""
    taken = {part: 0.0 - value for part, value in ends.select("part", "added").iter_rows()}
    total, decoding = sum(taken.values()), taken.pop(PARTS["truncation"])
    where = f"in “{cell.label}” " if n_cells > 1 else ""
    recursion = total - decoding
    if total > 0 and min(decoding, *taken.values()) > -_SMALL * total:
        terms = ", ".join(f"{part} {_signed_percent(value / total)}" for part, value in taken.items())
        shares = f"{_signed_percent(decoding / total)} of it to decoding and {_signed_percent(recursion / total)} to recursion ({terms})"
        return f"{where}{number(total)} are lost, {shares}"
    terms = ", ".join(f"{part} {_moved(value)}" for part, value in taken.items())
    change = f"{number(total)} are lost" if total > 0 else f"{number(-total)} are gained"
    return f"{where}{change}: decoding {_moved(decoding)}, recursion {_moved(recursion)} ({terms})"


def _moved(taken: float) -> str:
    return f"takes {number(taken)}" if taken >= 0 else f"adds {number(-taken)}"


def _signed_percent(share: float) -> str:
    return percent(share) if share >= 0 else f"−{percent(-share)}"
