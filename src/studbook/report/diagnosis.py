"""The page of a diagnosis: which source matters, from which step on, how fast its drift grows, and what removes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from studbook.files import write_file
from studbook.protocols.diagnose_growth import PACE_OF_ANOTHER_RUN, Growth, Mean
from studbook.protocols.diagnose_records import Diagnosis, Drift
from studbook.report.diagnosis_figures import diagnosis_figures, source_title
from studbook.report.markup import Content, Html, tag
from studbook.report.numerals import count, number, percent
from studbook.report.one_page import drawn, render_one_page, swatch
from studbook.report.tables import facts, scrolling
from studbook.report.theme import CELL_COLOURS
from studbook.theory import clopper_pearson

PAGE = "report.html"
TITLE = "Where the randomness of training comes from"
_MARKS = {"bit-exact": CELL_COLOURS[2], "rounding": CELL_COLOURS[4], "different run": CELL_COLOURS[0]}


def write_diagnosis_report(found: Sequence[Diagnosis], facts_of: Sequence[tuple[str, str]], out: Path) -> Path:
    """Write ``report.html``, which needs nothing else.

    Args:
        found: The models' diagnoses, one or more.
        facts_of: How it was made, by name.
        out: Folder.

    Returns:
        The path of the page.

    Raises:
        StorageError: The disk refused; nothing is half-written.
    """
    write_file(out / PAGE, render_diagnosis(found, facts_of).encode())
    return out / PAGE


def render_diagnosis(found: Sequence[Diagnosis], facts_of: Sequence[tuple[str, str]]) -> str:
    """The page as HTML text; arguments as of ``write_diagnosis_report``."""
    figures = diagnosis_figures(found)
    sections = [
        ("summary", "Summary", _summary(found)),
        *[(figure.name, figure.title, drawn(figure)) for figure in figures],
        *[(f"model-{i}", each.name, _model(each)) for i, each in enumerate(found)],
        ("provenance", "How this was made", facts([*_facts(found), *facts_of])),
    ]
    return render_one_page("studbook training diagnose", TITLE, _chips(found), sections, figures)


def growth_text(growth: Growth | None) -> str:
    r"""A law of growth in words.

    Examples:
        >>> from studbook.protocols.diagnose_growth import Growth, Mean
        >>> growth_text(Growth("power", Mean(1.5, 1.2, 1.8), 1.59, 5)), growth_text(Growth("power", Mean(0.1, -0.2, 0.4), None, 5))
        ('steps^1.5 (1.2–1.8)', 'no growth seen')
    """
    if growth is None:
        return "–"
    if growth.doubles_after is None:
        return "no growth seen" if (growth.rate.high or 0.0) > 0.0 else "shrinks"
    if growth.shape == "power":
        return f"steps^{number(growth.rate.value)} ({_ends(growth.rate)})"
    return f"doubles every {number(growth.doubles_after)} steps"


def mean_text(mean: Mean) -> str:
    r"""A mean with its interval.

    Examples:
        >>> from studbook.protocols.diagnose_growth import Mean
        >>> mean_text(Mean(0.02, 0.01, 0.04)), mean_text(Mean(0.0, 0.0, 0.0))
        ('0.02 (0.01–0.04)', '0')
    """
    return number(mean.value) + (f" ({_ends(mean)})" if mean.low != mean.high else "")


def first_text(drift: Drift) -> str:
    """From which step on it matters: the earliest and the latest of the repeats, and in how many of them where not in all."""
    steps = sorted(step for step in drift.first_steps if step is not None)
    if not steps:
        return "never"
    span = str(steps[0]) if steps[0] == steps[-1] else f"{steps[0]}–{steps[-1]}"
    text = "the start" if span == "0" else span
    return text if len(steps) == len(drift.first_steps) else f"{text} ({len(steps)} of {len(drift.first_steps)})"


def headline(found: Diagnosis) -> str:
    """What was found for a model, in a sentence or two."""
    kinds = {kind: [d for d in found.drifts if d.kind == kind] for kind in _MARKS}
    parts = []
    if kinds["different run"]:
        parts.append(f"a different run: {_changes(kinds['different run'])}")
    if kinds["rounding"]:
        worst = max(kinds["rounding"], key=lambda d: d.weights[-1].value)
        last = found.looks[-1]
        furthest = f"{worst.changed} goes furthest, {number(worst.weights[-1].value)} of the weights' norm after {last} steps"
        parts.append(f"rounding: {_changes(kinds['rounding'])} ({furthest})")
    if kinds["bit-exact"]:
        parts.append(f"bit-exact: {_changes(kinds['bit-exact'])}")
    return f"{found.name} – {'; '.join(parts)}."


def _changes(drifts: Sequence[Drift]) -> str:
    return ", ".join(drift.changed for drift in drifts)


def _ends(mean: Mean) -> str:
    return f"{number(mean.low)}–{number(mean.high)}"


def _chips(found: Sequence[Diagnosis]) -> list[str]:
    how = found[0].examined
    sizes = [f"{each.name}: {each.parameters:,} weights" for each in found]
    return [*sizes, count(how.steps, "step"), count(how.repeats, "repeat"), count(sum(len(each.drifts) for each in found), "change")]


def _summary(found: Sequence[Diagnosis]) -> Html:
    about = (
        "Each model is trained again and again from the same start, with one thing changed. What a step changes is carried on by all that "
        "follow: a difference in the last bit is no error, but after it no digest of the weights is the same."
    )
    meaning = (
        "Bit-exact: no digest of the weights differed at any step of any repeat. A different run: it starts from other weights, or drifts "
        f"at its fastest at least {percent(PACE_OF_ANOTHER_RUN)} as fast as another order of the records does. Rounding: what lies between."
    )
    return tag("div", tag("p", about), *[tag("p", _headline(each)) for each in found], tag("p", meaning, class_="note"), class_="prose")


def _headline(found: Diagnosis) -> list[Content]:
    name, _, rest = headline(found).partition(" – ")
    return [tag("b", name), " – ", rest]


def _model(found: Diagnosis) -> Html:
    last = found.looks[-1]
    head = ("source", "changed to", "what it is", "from step", "grows like", f"weights at {last}",
            "loss", found.unit, "what removes it")  # fmt: skip
    top = tag("tr", *[tag("th", cell, scope="col") for cell in head])
    body = [tag("tr", tag("th", source_title(d.source), scope="row"), *_cells(d)) for d in found.drifts]
    about = (
        f"{found.learner} on {found.data}, {found.parameters:,} weights. After {last} steps the baseline's weights have moved by "
        f"{number(found.moved[-1].value)} of their norm, and its loss is {number(found.loss[-1].value)} (at first "
        f"{number(found.loss[0].value)}). Intervals: {percent(found.examined.confidence)}, over {found.examined.repeats} repeats. "
        f"Bit-exact in all of them still leaves up to {percent(_unseen(found))} of repeats that could differ."
    )
    table = tag("table", tag("thead", top), tag("tbody", *body), style="font-size:13px")
    return tag("div", tag("p", about, class_="intro"), scrolling(table, f"Sources of {found.name}"))


def _unseen(found: Diagnosis) -> float:
    """Upper bound on the share of repeats that differ where none did."""
    n = found.examined.repeats
    return clopper_pearson(0, n, found.examined.confidence)[1]


def _cells(drift: Drift) -> list[Html]:
    exact = drift.kind == "bit-exact"
    cells: tuple[Content, ...] = (
        drift.changed,
        tag("span", swatch(_MARKS[drift.kind]), drift.kind, style="white-space:nowrap"),
        first_text(drift),
        growth_text(drift.growth),
        "0" if exact else mean_text(drift.weights[-1]),
        number(drift.losses[-1].value),
        percent(drift.outputs[-1].value),
        drift.remedy,
    )
    wide = (0, len(cells) - 1)
    return [tag("td", cell, style="min-width:150px" if i in wide else None) for i, cell in enumerate(cells)]


def _facts(found: Sequence[Diagnosis]) -> list[tuple[str, Content]]:
    how = found[0].examined
    return [
        ("Steps", f"{how.steps}, looked at after {', '.join(map(str, found[0].looks))}"),
        ("Repeats", f"{how.repeats}, seed {how.seed}"),
        ("Checkpoint", f"after step {found[0].reload_at}"),
        ("CPU", f"{number(sum(each.cpu_s for each in found))} s in the main process"),
    ]
