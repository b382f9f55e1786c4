"""The page of attacks against defences: what is left of a model's quality, and who is caught."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

from studbook.files import write_file
from studbook.protocols.contest_digits import DISHONEST, HONEST, SYBILS, Plan
from studbook.report.densities import panels
from studbook.report.figure import Figure
from studbook.report.markup import Html, tag
from studbook.report.numerals import count, listed, percent
from studbook.report.one_page import drawn, render_one_page
from studbook.report.tables import facts, scrolling
from studbook.report.theme import CELL_COLOURS

PAGE, RESULTS = "report.html", "results.json"
TITLE = "Dishonest nodes against defences"
Row: TypeAlias = Mapping[str, Any]
"""One pair, as ``contest_rows`` gives it."""
_ACCURACY, _MARK, _BACKDOOR = "accuracy", "pictures taken in by the mark", "backdoor"
_COLOURS = {_ACCURACY: CELL_COLOURS[1], _MARK: CELL_COLOURS[0]}
_STRONGEST, _HARMLESS, _HEIGHT = 45, 0.05, 130


def write_attacks_report(plan: Plan, rows: Sequence[Row], made: Sequence[tuple[str, str]], out: Path) -> Path:
    """Write ``results.json`` and ``report.html``, which needs nothing else.

    Args:
        plan: What was played.
        rows: What came of it; see ``contest_rows``.
        made: What it was made with, by name.
        out: Folder.

    Returns:
        The path of the page.

    Raises:
        StorageError: The disk refused; no file is half-written.
    """
    results = {"plan": asdict(plan), "made_with": dict(made), "rows": [dict(row) for row in rows]}
    write_file(out / RESULTS, (json.dumps(results, indent=2) + "\n").encode())
    write_file(out / PAGE, render_attacks(plan, rows, made).encode())
    return out / PAGE


def render_attacks(plan: Plan, rows: Sequence[Row], made: Sequence[tuple[str, str]]) -> str:
    """The page as HTML text; arguments as of ``write_attacks_report``."""
    figure = attacks_figure(plan, rows)
    chapters = [
        ("summary", "Summary", tag("div", *[tag("p", each) for each in headlines(rows)], class_="prose")),
        ("table", "Attack × defence", tag("div", tag("p", _about(plan), class_="intro"), _table(rows))),
        (figure.name, figure.title, drawn(figure)),
        ("provenance", "How this was made", facts([("Replayed", f"{plan.drawn} steps of each node after every 25"), *made])),
    ]
    chips = [count(len(_names(rows, "attack")), "attack"), count(len(_names(rows, "defence")), "defence")]
    chips += [count(plan.seeds, "seed"), count(plan.steps, "step")]
    return render_one_page("studbook training attacks", TITLE, chips, chapters, [figure])


def harm(row: Row, best: float) -> float:
    """The share of an accuracy that is lost, or of pictures that the backdoor takes in: whichever is larger.

    Examples:
        >>> harm({"attack": "backdoor", "accuracy": 0.9, "marked": 0.75}, 0.9), harm({"attack": "copy", "accuracy": 0.45}, 0.9)
        (0.75, 0.5)
    """
    lost = 1.0 - row["accuracy"] / best if best > 0.0 else 0.0
    return max(lost, row["marked"] if row["attack"] == _BACKDOOR else 0.0)


def best_accuracy(rows: Sequence[Row]) -> float:
    """The best of the defences without an attack; of all pairs, where none was without."""
    return float(max([row["accuracy"] for row in rows if row["attack"] == "none"] or [row["accuracy"] for row in rows]))


def headlines(rows: Sequence[Row]) -> list[str]:
    """For each attack that harms the model: which defences it gets past, and which not; then those that harm it nowhere."""
    best, told, harmless = best_accuracy(rows), [], []
    for attack in (name for name in _names(rows, "attack") if name != "none"):
        of = [row for row in rows if row["attack"] == attack]
        past = [row["defence"] for row in of if harm(row, best) > _HARMLESS]
        held = [row["defence"] for row in of if row["defence"] not in past]
        if past:
            told.append(
                f"{attack.capitalize()}: gets past {listed(past, 8)}; {f'not past {listed(held, 8)}' if held else 'nothing holds'}."
            )
        else:
            harmless.append(attack)
    return told + ([f"No harm to the model under any defence: {listed(harmless, 8)}."] if harmless else [])


def attacks_figure(plan: Plan, rows: Sequence[Row]) -> Figure:
    """Accuracy with its interval, a panel for each attack, a row for each defence."""
    marked = any(row["attack"] == _BACKDOOR for row in rows)
    keys = tuple(_COLOURS.items()) if marked else ((_ACCURACY, _COLOURS[_ACCURACY]),)
    return Figure(
        name="quality",
        section="quality",
        title="Quality under attack",
        about="Final accuracy on held-out pictures by defence, a panel for each attack.",
        description=" ".join(headlines(rows)) or "Accuracy by defence, without an attack.",
        chart=_chart(rows, keys),
        rows=[part for row in rows for part in _parts(row)],
        legend=keys,
        notes=(f"Bars: {percent(plan.confidence)} intervals over {count(plan.seeds, 'seed')} (Student's t).",),
        wide=True,
    )


def _parts(row: Row) -> list[dict[str, Any]]:
    named = {"label": row["attack"], "defence": row["defence"], "caught": row["caught"] or "nobody is replayed"}
    shown = {_ACCURACY: "accuracy", **({_MARK: "marked"} if row["attack"] == _BACKDOOR else {})}
    return [{**named, "group": group, **_interval(row[name], row[f"{name} ±"])} for group, name in shown.items()]


def _interval(value: float, half: float) -> dict[str, float]:
    return {"value": value, "low": max(0.0, value - half), "high": min(1.0, value + half)}


def _chart(rows: Sequence[Row], keys: Sequence[tuple[str, str]]) -> Any:
    import altair as alt

    defences, attacks = _names(rows, "defence"), _names(rows, "attack")
    scale = alt.Scale(domain=[name for name, _ in keys], range=[colour for _, colour in keys])
    colour = alt.Color("group:N", scale=scale, legend=alt.Legend(title=None, symbolOpacity=1))
    axis = alt.Axis(title=None, minExtent=110, maxExtent=130, labelLimit=130, grid=True)
    base = alt.Chart().encode(y=alt.Y("defence:N", sort=defences, axis=axis), color=colour)
    x: dict[str, Any] = {
        "scale": alt.Scale(domain=[0.0, 1.0]),
        "axis": alt.Axis(title=None, format="%", values=[0.0, 0.5, 1.0], labelFlush=True),
    }
    told = [
        ("label:N", "", ""),
        ("defence:N", "defence", ""),
        ("group:N", " ", ""),
        ("value:Q", "share", ".3f"),
        ("caught:N", "caught", ""),
    ]
    tooltip = [alt.Tooltip(name, title=title, format=shape) for name, title, shape in told]
    bars = base.mark_rule(strokeWidth=2.4, opacity=0.55).encode(x=alt.X("low:Q", **x), x2="high:Q")
    dots = base.mark_point(size=46, filled=True, opacity=1).encode(x=alt.X("value:Q", **x), tooltip=tooltip)
    return panels(alt.layer(bars, dots), attacks, _HEIGHT)


def _about(plan: Plan) -> str:
    return (
        f"{HONEST} honest nodes and {DISHONEST} dishonest ones (of Sybils {SYBILS} names of one client) train softmax regression on "
        f"digits for {plan.steps} steps: final accuracy ± half the {percent(plan.confidence)} interval over {plan.seeds} seeds. The "
        "stronger the colour, the more accuracy is lost against no attack, or the more pictures the backdoor's mark takes in."
    )


def _table(rows: Sequence[Row]) -> Html:
    best = best_accuracy(rows)
    pairs = {(row["attack"], row["defence"]): row for row in rows}
    defences = _names(rows, "defence")
    top = tag("tr", tag("th", "attack", scope="col"), *[tag("th", name, scope="col") for name in defences])
    body = [
        tag("tr", tag("th", attack, scope="row"), *[_cell(pairs[attack, defence], best) for defence in defences])
        for attack in _names(rows, "attack")
    ]
    listing = tag("table", tag("thead", top), tag("tbody", *body), class_="shaded", style="font-size:13px")
    return scrolling(listing, "Attacks by defences")


def _cell(row: Row, best: float) -> Html:
    notes = [f"mark {row['marked']:.2f}"] if row["attack"] == _BACKDOOR else []
    if row["caught"] is not None:
        notes += [f"caught {row['caught']}", f"(at least {percent(row['caught at least'])})"]
    if row["wronged"] is not None and not row["wronged"].startswith("0 "):
        notes.append(f"wronged {row['wronged']}")
    strength = round(_STRONGEST * min(1.0, max(0.0, harm(row, best))))
    shade = f"white-space:nowrap;background:color-mix(in srgb, var(--warn) {strength}%, transparent)"
    accuracy = f"{row['accuracy']:.3f} ± {row['accuracy ±']:.3f}"
    return tag("td", accuracy, *[[tag("br"), tag("small", note)] for note in notes], style=shade)


def _names(rows: Sequence[Row], column: str) -> list[str]:
    return list(dict.fromkeys(str(row[column]) for row in rows))
