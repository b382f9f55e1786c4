"""The charts of a diagnosis: drift by step, a panel for each source, a colour for each model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from studbook.protocols.diagnose_growth import Mean
from studbook.protocols.diagnose_records import Diagnosis, Drift
from studbook.report.densities import panels
from studbook.report.figure import Figure, Rows
from studbook.report.theme import CELL_COLOURS

_HEIGHT = 150
_FLOORS = {"weights": 1e-12, "losses": 3e-8}
"""Where what doesn't differ at all is drawn on a logarithmic scale."""
_TITLES = {
    "again": "nothing",
    "seed": "initial weights",
    "noise": "noise",
    "order": "data order",
    "threads": "threads",
    "split": "batch split",
    "dtype": "number type",
    "engine": "engine",
    "reload": "checkpoint",
    "workers": "processes",
}

Measure = Literal["weights", "losses", "outputs"]


def source_title(source: str) -> str:
    """What a source is called in headings."""
    return _TITLES.get(source, source)


def diagnosis_figures(found: Sequence[Diagnosis]) -> tuple[Figure, Figure, Figure]:
    """The drift of the weights, of the loss and of the outputs."""
    edge = "Lines on the lower edge don't differ by a single bit."
    return (
        _figure(
            found, "weights", "Drift of the weights", "Distance from the baseline's weights over their norm (L2), after each step.",
            (f"{edge} Bands: intervals over the repeats. Both axes are logarithmic.",),
        ),
        _figure(
            found, "losses", "Drift of the loss", "Absolute difference of the loss of the same records under the same noise.",
            ("Lines on the lower edge differ by less than single precision resolves. Both axes are logarithmic.",),
        ),
        _figure(
            found, "outputs", "Drift of the outputs",
            "Share of the outputs' fingerprints that differs: bits of perceptual hashes of pictures drawn from the same noise, tokens of "
            "texts drawn by the same random numbers.",
            ("Hashes of unlike pictures differ in about half of their bits, unlike texts in most of their tokens.",),
        ),
    )  # fmt: skip


def _figure(found: Sequence[Diagnosis], measure: Measure, title: str, about: str, notes: tuple[str, ...]) -> Figure:
    colours = {each.name: CELL_COLOURS[i % len(CELL_COLOURS)] for i, each in enumerate(found)}
    labels = list(dict.fromkeys(source_title(drift.source) for each in found for drift in each.drifts))
    return Figure(
        name=measure,
        section=measure,
        title=title,
        about=about,
        description=f"{title} by step, for each source of randomness and each model.",
        chart=_chart(labels, colours, measure),
        rows=[row for each in found for drift in each.drifts for row in _rows(each, drift, measure)],
        legend=tuple(colours.items()),
        notes=notes,
        wide=True,
    )


def _rows(found: Diagnosis, drift: Drift, measure: Measure) -> Rows:
    means: tuple[Mean, ...] = getattr(drift, measure)
    return [
        {
            "label": source_title(drift.source),
            "group": found.name,
            "change": drift.changed,
            "kind": drift.kind,
            "step": step,
            **_drawn(mean, measure),
        }
        for step, mean in zip(found.looks, means, strict=True)
        if step >= 1
    ]


def _drawn(mean: Mean, measure: Measure) -> dict[str, Any]:
    """A value and its band, kept within what the scale shows."""
    low, high = (mean.value if end is None else end for end in (mean.low, mean.high))
    if measure == "outputs":
        low, high = max(low, 0.0), min(high, 1.0)
        return {"value": mean.value, "shown": mean.value, "low": low, "high": high}
    floor = _FLOORS[measure]
    shown = max(mean.value, floor)
    return {"value": mean.value, "shown": shown, "low": min(max(low, floor, shown / 30), shown), "high": max(min(high, shown * 30), shown)}


def _chart(labels: list[str], colours: dict[str, str], measure: Measure) -> Any:
    import altair as alt

    scale = alt.Scale(domain=list(colours), range=list(colours.values()))
    colour = alt.Color("group:N", scale=scale, sort=list(colours), legend=alt.Legend(title=None))
    x = alt.X("step:Q", scale=alt.Scale(type="log", base=2, nice=False), axis=alt.Axis(title="step", format="d", tickCount=5))
    base = alt.Chart().encode(x=x, color=colour, detail=alt.Detail("change:N"))
    band = base.mark_area(opacity=0.16, line=False).encode(y=_axis("low", measure), y2=alt.Y2("high:Q"))
    line = base.mark_line(strokeWidth=1.8).encode(y=_axis("shown", measure))
    dots = base.mark_point(size=16, filled=True, opacity=1).encode(y=_axis("shown", measure), tooltip=list(_tooltip()))
    return panels(alt.layer(band, line, dots), labels, _HEIGHT)


def _axis(field: str, measure: Measure) -> Any:
    import altair as alt

    if measure == "outputs":
        return alt.Y(f"{field}:Q", scale=alt.Scale(domain=[0.0, 1.0]), axis=alt.Axis(title=None, format="%", tickCount=4))
    floor = _FLOORS[measure]
    ticks = [10.0**power for power in range(-12, 4, 3 if measure == "weights" else 2)]
    return alt.Y(
        f"{field}:Q", scale=alt.Scale(type="log", domainMin=floor, nice=False), axis=alt.Axis(title=None, format=".0e", values=ticks)
    )


def _tooltip() -> Iterator[Any]:
    import altair as alt

    for name, title, shape in (
        ("group:N", "", ""), ("change:N", " ", ""), ("kind:N", "kind", ""), ("step:Q", "step", "d"), ("value:Q", "difference", ".3~g")
    ):  # fmt: skip
        yield alt.Tooltip(name, title=title, format=shape)
