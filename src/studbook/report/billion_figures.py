"""The charts of the billion comparisons: distances by group, and error rates by radius."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from studbook.report.densities import panels
from studbook.report.figure import Figure, Rows
from studbook.report.theme import CELL_COLOURS, INK
from studbook.verification.billion import BillionResult, SchemeResult

_HEIGHT = 170
_HONEST, _CHEATS, _SAME, _OTHER = "same recipe, honest", "same recipe, cheats", "same class, other seed", "other class"
_COLOURS = {_HONEST: CELL_COLOURS[2], _CHEATS: CELL_COLOURS[3], _SAME: CELL_COLOURS[0], _OTHER: CELL_COLOURS[1]}
_MISSED = "honest missed"
_ERRORS = {_MISSED: CELL_COLOURS[2], _SAME: CELL_COLOURS[0], _OTHER: CELL_COLOURS[1]}


def billion_figures(result: BillionResult) -> tuple[Figure, Figure]:
    """Distances and error rates, a panel for each scheme."""
    labels = [scheme.scheme for scheme in result.schemes]
    distances = Figure(
        name="distances",
        section="distances",
        title="Distances of all pairs",
        about="Share of a group's comparisons at each distance in bits, on a logarithmic scale. The upright line is the radius.",
        description="For each scheme the shares of comparisons by distance: same recipe in honest environments and in cheats, same class, "
        "other class.",
        chart=_distance_chart(labels),
        rows=[row for scheme in result.schemes for row in _distance_rows(scheme, result)],
        legend=tuple(_COLOURS.items()),
        wide=True,
    )
    errors = Figure(
        name="errors",
        section="errors",
        title="Error rates by radius",
        about="Solid: the rate; dashed: its upper bound. A point on the left of the radius accepts less, one on the right misses less.",
        description="For each scheme and radius the share of honest pictures missed, and of wrong pictures accepted, with bounds.",
        chart=_error_chart(labels),
        rows=[row for scheme in result.schemes for row in _error_rows(scheme)],
        legend=tuple(_ERRORS.items()),
        notes=(
            "Honest pictures: each in the worst of its environments. Wrong ones: the honest environment in which the bound is largest.",
            "Bounds on collisions count pictures, by leaving out one at a time; where close pairs are too many to be listed, Hoeffding's "
            "bound for disjoint pairs. At the radius, the bootstrap over pictures: see the table.",
        ),
        wide=True,
    )
    return distances, errors


def _distance_rows(scheme: SchemeResult, result: BillionResult) -> Iterator[dict[str, Any]]:
    groups = ((_HONEST, result.honest, 0), (_CHEATS, result.cheats, 0), (_SAME, result.honest, 1), (_OTHER, result.honest, 2))
    for name, settings, group in groups:
        counts = np.sum([np.array(scheme.counts[setting][group]) for setting in settings], axis=0)
        for bits in np.flatnonzero(counts).tolist():
            share = float(f"{counts[bits] / counts.sum():.4g}")
            yield {"label": scheme.scheme, "group": name, "bits": bits, "share": share, "pairs": int(counts[bits])}
    yield _radius_row(scheme)


def _error_rows(scheme: SchemeResult) -> Rows:
    rows: Rows = []
    for point in scheme.curve[: scheme.n_bits // 2 + 1]:
        for name, bound in ((_MISSED, point.missed), (_SAME, point.same_class), (_OTHER, point.other_class)):
            row = {"label": scheme.scheme, "group": name, "bits": point.radius_bits, "upper": float(f"{bound.upper:.4g}"), "how": bound.how}
            rows.append(row | ({"share": float(f"{bound.rate:.4g}")} if bound.events else {}))
    return [*rows, _radius_row(scheme)]


def _radius_row(scheme: SchemeResult) -> dict[str, Any]:
    return {"label": scheme.scheme, "radius": scheme.chosen.radius_bits + 0.5}


def _distance_chart(labels: list[str]) -> Any:
    import altair as alt

    base = _base(_COLOURS).transform_filter("isValid(datum.share)")
    tooltip = _tooltip([("share", "share", ".3~g"), ("pairs", "comparisons", ",d")])
    lines = base.mark_line(strokeWidth=1.8, point=alt.OverlayMarkDef(size=14, filled=True)).encode(y=_rate_axis("share"), tooltip=tooltip)
    return _faceted([lines], labels)


def _error_chart(labels: list[str]) -> Any:
    base = _base(_ERRORS)
    tooltip = _tooltip([("share", "rate", ".3~g"), ("upper", "at most", ".3~g"), ("how", "bound", "")])
    rates = base.transform_filter("isValid(datum.share)").mark_line(strokeWidth=2).encode(y=_rate_axis("share"))
    bounds = base.transform_filter("isValid(datum.upper)").mark_line(strokeWidth=1.3, strokeDash=[4, 3]).encode(y=_rate_axis("upper"))
    dots = base.transform_filter("isValid(datum.upper)").mark_point(size=40, opacity=0).encode(y=_rate_axis("upper"), tooltip=tooltip)
    return _faceted([rates, bounds, dots], labels)


def _base(colours: dict[str, str]) -> Any:
    import altair as alt

    scale = alt.Scale(domain=list(colours), range=list(colours.values()))
    x = alt.X("bits:Q", axis=alt.Axis(title="bits", format="d", tickCount=5), scale=alt.Scale(nice=False))
    return alt.Chart().encode(x=x, color=alt.Color("group:N", scale=scale, sort=list(colours), legend=alt.Legend(title=None)))


def _rate_axis(field: str) -> Any:
    import altair as alt

    return alt.Y(
        f"{field}:Q", scale=alt.Scale(type="log", domain=[1e-9, 1.0], clamp=True), axis=alt.Axis(title=None, format=".0e", tickCount=5)
    )


def _tooltip(fields: Iterable[tuple[str, str, str]]) -> list[Any]:
    import altair as alt

    head = [alt.Tooltip("label:N", title=""), alt.Tooltip("group:N", title=" "), alt.Tooltip("bits:Q", title="bits", format="d")]
    return head + [alt.Tooltip(f"{name}:{'Q' if shape else 'N'}", title=title, format=shape) for name, title, shape in fields]


def _faceted(layers: list[Any], labels: list[str]) -> Any:
    import altair as alt

    rule = alt.Chart().transform_filter("isValid(datum.radius)").mark_rule(color=INK, strokeWidth=1.2).encode(x=alt.X("radius:Q"))
    return panels(alt.layer(*layers, rule), labels, _HEIGHT).resolve_scale(x="independent")
