"""The page of a study of federated select: accuracy by the size of a client's slice, beside the whole model and what was published."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from studbook.files import write_file
from studbook.protocols.select_study import Experiment, SelectRow, SelectStudy, as_table
from studbook.report.densities import panels
from studbook.report.figure import Figure
from studbook.report.markup import Content, Html, tag
from studbook.report.numerals import count, number, percent
from studbook.report.one_page import drawn, render_one_page, table
from studbook.report.parts import emphasised
from studbook.report.tables import facts
from studbook.report.theme import CELL_COLOURS, INK, MUTED
from studbook.report.training_page import bytes_text

PAGE, RESULTS = "report.html", "results.json"
TITLE = "How small can a client's slice be?"
PUBLISHED = {4: 0.750, 8: 0.819, 16: 0.842, 32: 0.857, 64: 0.867}
"""Accuracy of a convolutional network on EMNIST, 62 classes, by random filters of 64: Charles et al. 2022, arXiv 2208.09432."""
_PUBLISHED = "published: EMNIST, another data set"
_ELSEWHERE = "The published points are of other pictures and 62 classes: compare their shape, not their height."
_KEYS = {"frequent": "most frequent keys", "random": "random keys", "mixed": "random of the frequent"}
_COLOURS = {"frequent": CELL_COLOURS[1], "random": CELL_COLOURS[0], "mixed": CELL_COLOURS[3]}
_WHOLE, _HEIGHT, _CLOSE = "whole model", 190, 0.01


def write_select_report(study: SelectStudy, rows: Sequence[SelectRow], made: Sequence[tuple[str, str]], out: Path) -> Path:
    """Write ``results.json`` and ``report.html``, which needs nothing else.

    Args:
        study: What was asked.
        rows: What was found.
        made: What it was made with, by name.
        out: Folder.

    Returns:
        The path of the page.

    Raises:
        StorageError: The disk refused; no file is half-written.
    """
    results = {"study": study.name, "seeds": study.seeds, "confidence": study.confidence, "made_with": dict(made), "rows": as_table(rows)}
    write_file(out / RESULTS, (json.dumps(results, indent=2) + "\n").encode())
    write_file(out / PAGE, render_select(study, rows, made).encode())
    return out / PAGE


def render_select(study: SelectStudy, rows: Sequence[SelectRow], made: Sequence[tuple[str, str]]) -> str:
    """The page as HTML text; arguments as of ``write_select_report``."""
    figures = select_figures(study, rows)
    chapters = [
        ("summary", "Summary", tag("div", *[_told(each, rows) for each in study.experiments], class_="prose")),
        *[(figure.name, figure.title, drawn(figure)) for figure in figures],
        *[(f"experiment-{i}", each.name, _experiment(each, rows, study)) for i, each in enumerate(study.experiments)],
        ("provenance", "How this was made", facts([*made])),
    ]
    chips = [study.name, count(len(study.experiments), "experiment"), count(study.seeds, "seed")]
    return render_one_page("studbook training select", TITLE, chips, chapters, figures)


def headline(experiment: Experiment, rows: Sequence[SelectRow]) -> str:
    """From which size on slices are as good as the whole model, but for a hundredth."""
    of = [row for row in rows if row.experiment == experiment.name and row.how != "all" and isfinite(row.change)]
    if not of:
        return f"{experiment.name}: without whole models to hold the slices against."
    parts = []
    for how in dict.fromkeys(row.how for row in of):
        close = [row for row in of if row.how == how and row.change >= -_CLOSE]
        best = min(close, key=lambda row: row.m, default=None)
        if best is None:
            parts.append(f"{_KEYS[how]} at none of the sizes")
        else:
            lost = f"{number(abs(best.change), 2)} ± {number(best.change_half, 2)} {'below' if best.change < 0 else 'above'}"
            parts.append(f"{_KEYS[how]} from {best.m:,} of {best.n:,} on ({percent(best.m / best.n)}; {lost})")
    return f"{experiment.name}: within {number(_CLOSE)} of the whole model's accuracy are {', '.join(parts)}."


def select_figures(study: SelectStudy, rows: Sequence[SelectRow]) -> list[Figure]:
    """Accuracy by size, and the difference to whole models where these were run."""
    ways = [how for how in _KEYS if any(row.how == how for row in rows)]
    keys = tuple((_KEYS[how], _COLOURS[how]) for how in ways)
    others = [(_PUBLISHED, CELL_COLOURS[4])] if any(_is_published(each) for each in study.experiments) else []
    interval = f"Bars: {percent(study.confidence)} intervals over {count(study.seeds, 'seed')}."
    accuracy = Figure(
        name="accuracy",
        section="accuracy",
        title="Accuracy by the size of a slice",
        about="On held-out data, by the number of keys that a client holds.",
        description=f"Accuracy by keys. {' '.join(headline(each, rows) for each in study.experiments)}",
        chart=_chart(study, (*keys, (_WHOLE, INK), *others), "accuracy"),
        rows=[row for each in study.experiments for row in _accuracy_rows(each, rows)],
        legend=(*keys, (_WHOLE, INK), *others),
        notes=(interval, *((_ELSEWHERE,) if others else ())),
        wide=True,
    )
    differences = [row for row in rows if row.how != "all" and isfinite(row.change)]
    if not differences:
        return [accuracy]
    change = Figure(
        name="change",
        section="change",
        title="Against the whole model",
        about="Difference in accuracy to whole models, seed by seed.",
        description="The difference in accuracy to whole models, by keys; zero is no loss.",
        chart=_chart(study, keys, "difference"),
        rows=[_row(row, row.change, row.change_half) for row in differences],
        legend=keys,
        notes=(interval,),
        wide=True,
    )
    return [accuracy, change]


def _is_published(experiment: Experiment) -> bool:
    return experiment.objective == "cnn" and experiment.group == "filters"


def _accuracy_rows(experiment: Experiment, rows: Sequence[SelectRow]) -> Iterator[dict[str, Any]]:
    """What was measured, the whole model's accuracy as a line through all sizes, and what was published of these sizes."""
    of = [row for row in rows if row.experiment == experiment.name]
    sizes = sorted({row.m for row in of})
    for row in of:
        yield _row(row, row.accuracy, row.half)
        if row.how == "all":
            yield from ({"label": row.experiment, "m": m, **_known(_WHOLE, row.accuracy), "guide": True} for m in sizes if m != row.n)
    if _is_published(experiment) and of[0].n == max(PUBLISHED):
        yield from ({"label": experiment.name, "m": m, **_known(_PUBLISHED, PUBLISHED[m])} for m in sizes if m in PUBLISHED)


def _known(group: str, value: float) -> dict[str, Any]:
    return {"group": group, "value": value, "low": value, "high": value}


def _row(row: SelectRow, value: float, half: float) -> dict[str, Any]:
    group = _WHOLE if row.how == "all" else _KEYS[row.how]
    sizes = {"m": row.m, "of": row.n, "sent": bytes_text(row.down_bytes), "holds": bytes_text(row.client_bytes)}
    return {"label": row.experiment, "group": group, **sizes, "value": value, "low": value - half, "high": value + half}


def _chart(study: SelectStudy, keys: Sequence[tuple[str, str]], measure: str) -> Any:
    import altair as alt

    names, marked = [name for name, _ in keys], (_WHOLE, _PUBLISHED)
    colour = alt.Color(
        "group:N",
        scale=_scale(names, [c for _, c in keys]),
        sort=names,
        legend=alt.Legend(title=None, columns=2, symbolType="square", symbolDash=[1, 0]),
    )
    dash = alt.StrokeDash("group:N", scale=_scale(names, [[4, 4] if name in marked else [1, 0] for name in names]), legend=None)
    shape = alt.Shape("group:N", scale=_scale(names, ["diamond" if name == _PUBLISHED else "circle" for name in names]), legend=None)
    x = alt.X("m:O", sort="ascending", scale=alt.Scale(type="point", padding=0.4), axis=_size_axis())
    y: dict[str, Any] = {"scale": alt.Scale(zero=measure == "difference"), "axis": alt.Axis(title=None, tickCount=5)}
    told = [("label:N", ""), ("group:N", " "), ("m:Q", "keys"), ("of:Q", "of"), ("sent:N", "sent a round"), ("holds:N", "client holds")]
    tooltip = [*[alt.Tooltip(name, title=title) for name, title in told], alt.Tooltip("value:Q", title=measure, format=".3f")]
    base = alt.Chart().encode(x=x, color=colour)
    zero = alt.Chart().mark_rule(color=MUTED, strokeWidth=1).encode(y=alt.datum(0.0))
    layers = [
        *([zero] if measure == "difference" else []),
        base.mark_line(strokeWidth=1.6).encode(y=alt.Y("value:Q", **y), strokeDash=dash),
        base.mark_rule(strokeWidth=1.6).encode(y=alt.Y("low:Q", **y), y2="high:Q"),
        base.transform_filter("!datum.guide")
        .mark_point(size=46, filled=True, opacity=1)
        .encode(y=alt.Y("value:Q", **y), shape=shape, tooltip=tooltip),
    ]
    return panels(alt.layer(*layers), [each.name for each in study.experiments], _HEIGHT).resolve_scale(x="independent", y="independent")


def _scale(names: Sequence[str], values: Sequence[Any]) -> Any:
    import altair as alt

    return alt.Scale(domain=list(names), range=list(values))


def _size_axis() -> Any:
    import altair as alt

    return alt.Axis(title="keys a client holds", labelExpr="format(datum.value, ',')", labelAngle=0)


def _told(experiment: Experiment, rows: Sequence[SelectRow]) -> Html:
    name, _, rest = headline(experiment, rows).partition(": ")
    return tag("p", tag("b", name), ": ", *emphasised(rest))


def _experiment(experiment: Experiment, rows: Sequence[SelectRow], study: SelectStudy) -> Html:
    of, compared = [row for row in rows if row.experiment == experiment.name], _is_published(experiment)
    head = ("keys", "accuracy", "against whole", "sent to a client a round", "received", "a client holds at most")
    cells: list[list[Content]] = [[*_cells(row), *([_published(row)] if compared else [])] for row in of]
    clients = "one for each document" if experiment.clients == 0 else f"{experiment.clients:,}"
    about = (
        f"{experiment.objective}, keys are {experiment.group}; clients: {clients}, rows dealt by {experiment.partition.by}; "
        f"{experiment.plan.rounds} rounds of {experiment.plan.clients}. Mean ± half the {percent(study.confidence)} interval (Student's t)."
    )
    listing = table((*head, *(("EMNIST, published",) if compared else ())), cells, experiment.name)
    return tag("div", tag("p", about, class_="intro"), listing)


def _cells(row: SelectRow) -> list[Content]:
    whole = row.how == "all"
    change = "" if whole or not isfinite(row.change) else f"{number(row.change)} ± {number(row.change_half, 2)}"
    keys = f"all {row.n:,}" if whole else f"{row.m:,}, {_KEYS[row.how].removesuffix(' keys')}"
    return [keys, f"{row.accuracy:.3f} ± {row.half:.3f}", change, *map(bytes_text, (row.down_bytes, row.up_bytes, row.client_bytes))]


def _published(row: SelectRow) -> str:
    known = row.n == max(PUBLISHED) and row.m in PUBLISHED
    return f"{PUBLISHED[row.m]:.3f}" if known else ""
