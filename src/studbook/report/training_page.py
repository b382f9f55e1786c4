"""The page of training runs: how far apart the nodes are beside theory, losses, what was measured, sent, and what happened."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from studbook.errors import ConfigError
from studbook.files import write_file
from studbook.report.markup import Content, Html, tag
from studbook.report.numerals import count, interval, listed, number
from studbook.report.one_page import Chapter, drawn, render_one_page, swatch, table
from studbook.report.parts import emphasised
from studbook.report.theme import cell_colours
from studbook.report.training_figures import training_figures
from studbook.report.training_folders import TrainedRun, load_training

PAGE = "report.html"
_MOST_RUNS, _MOST_EVENTS, _LONGEST_LIST, _MOST_ROWS = 24, 200, 4, 8
_NBSP = "\u00a0"


def write_training_report(folders: Sequence[Path], out: Path | None = None) -> Path:
    """Write one page for one training run or several, side by side; it needs nothing else.

    Args:
        folders: Folders of finished runs.
        out: The file; by default ``report.html`` in the run's folder. Needed for several.

    Returns:
        The path of the page.

    Raises:
        ConfigError: No folder, too many, or several without ``out``.
        RunFolderError: A folder holds no finished run, or is damaged.
        SchemaVersionError: A newer studbook wrote it.
        StorageError: The disk refused; nothing is half-written.

    Examples:
        >>> import tempfile
        >>> from studbook.protocols import Gossip, InProcess, Plan, TrainingSpec, ring, train
        >>> from studbook.protocols.writing import write_run
        >>> folder = Path(tempfile.mkdtemp())
        >>> nodes = TrainingSpec("quadratic", {"dimension": 5}, nodes=4).build()
        >>> write_run(train(InProcess(nodes), Gossip(ring(4)), Plan(steps=20)), folder)
        >>> write_training_report([folder]).name
        'report.html'
    """
    if not 1 <= len(folders) <= _MOST_RUNS:
        raise ConfigError(f"{len(folders)} folders of training runs, expected 1 to {_MOST_RUNS}", hint="compare fewer")
    if out is None and len(folders) > 1:
        raise ConfigError(f"one page for {len(folders)} training runs needs a file to be written to", hint="--out comparison.html")
    page = Path(folders[0]) / PAGE if out is None else out
    write_file(page, render_training(load_training(folders)).encode())
    return page


def render_training(runs: Sequence[TrainedRun]) -> str:
    """The page as HTML text."""
    figures, alone = training_figures(runs), len(runs) == 1
    happened = [("events", "Lost nodes", _events(runs))] if any(run.events for run in runs) else []
    chapters: list[Chapter] = [
        ("summary", "Summary", _summary(runs)),
        *[(figure.name, figure.title, drawn(figure)) for figure in figures],
        *happened,
        ("settings", "Settings", _settings(runs)),
        ("digests", "Parameters at the end", _digests(runs)),
        *([("commitments", "Commitments", _commitments(runs))] if any(run.commitments for run in runs) else []),
    ]
    title = runs[0].label if alone else f"{len(runs)} ways to train together"
    return render_one_page("studbook training run" if alone else "studbook training report", title, _chips(runs), chapters, figures)


def summary_sentence(run: TrainedRun) -> str:
    """What became of a run, beside theory."""
    told = run.summary
    if run.has_server:
        before = number(run.curve["spread_before"][-1])
        return f"One server holds the model. Before its last average the clients' were {before} apart (mean squared distance)."
    if not told["spread"]:
        return f"The nodes end the same to the bit. {_contraction(told)}"
    expected = told["spread_predicted"]
    theory = "" if expected is None else f"; theory expects {number(expected)}, from the noise of the first step and without curvature"
    return f"The nodes end {number(told['spread'])} apart (mean squared distance to their mean){theory}. {_contraction(told)}"


def comparison_sentence(runs: Sequence[TrainedRun]) -> str:
    """How much closer each protocol keeps its nodes than the loosest."""
    apart = [run for run in runs if not run.has_server]
    widest = max(apart, key=lambda run: run.summary["spread"] or 0.0, default=None)
    if widest is None or not widest.summary["spread"]:
        return "In none of the runs do the nodes end apart."
    spread = widest.summary["spread"]
    same = [f"“{run.label}”" for run in apart if not run.summary["spread"]]
    closer = [f"{number(spread / s)} × closer: “{run.label}”" for run in apart if run is not widest and (s := run.summary["spread"])]
    parts = [f"Furthest apart, {number(spread)}, end the nodes of “{widest.label}”", *closer]
    return "; ".join([*parts, *([f"the same to the bit: {listed(same)}"] if same else [])]) + "."


def _contraction(told: Mapping[str, Any]) -> str:
    seen, rho = told["contraction"], told["contraction_predicted"]
    if rho is None:
        return "The contraction by theory was left out: with so many nodes it takes longer than the training."
    if rho >= 1.0 - 1e-9:
        return "Nothing pulls them together: the second largest eigenvalue of E[WᵀW] is 1."
    if rho <= 1e-9:
        return "An exchange makes all nodes equal: the second largest eigenvalue of E[WᵀW] is 0."
    left = "" if seen is None else f"An exchange left {number(seen)} of the spread (geometric mean). "
    some = " Theory takes no node to be lost." if told.get("events") else ""
    return (
        f"{left}By theory it leaves {number(rho)} at most, the second largest eigenvalue of E[WᵀW] (σ₂ = {number(math.sqrt(rho))}).{some}"
    )


def _chips(runs: Sequence[TrainedRun]) -> list[str]:
    specs = [spec for run in runs if isinstance(spec := run.settings.get("spec"), dict)]
    objectives = sorted({str(spec["objective"]) for spec in specs if "objective" in spec})
    sizes = [({run.n_nodes for run in runs}, "node"), ({len(run.curve) for run in runs}, "step")]
    told = [count(max(each), noun) if len(each) == 1 else f"{min(each):,} to {count(max(each), noun)}" for each, noun in sizes]
    return [*([listed(objectives)] if objectives else []), *told]


def _summary(runs: Sequence[TrainedRun]) -> Html:
    lede = summary_sentence(runs[0]) if len(runs) == 1 else comparison_sentence(runs)
    meaning = (
        "By theory: the spread that the noise of the first step and the protocol's matrices lead to without curvature, and ρ, the second "
        "largest eigenvalue of E[WᵀW], the share of the spread that an exchange leaves at most on the average."
    )
    measured = sorted({name for run in runs for measures in run.summary["measures"].values() for name in measures})
    head = ("run", "nodes", "spread", "by theory", "an exchange leaves", "ρ", *measured, "sent")
    rows = [[_name(runs, i), *_row(run, measured)] for i, run in enumerate(runs)]
    prose = tag("div", tag("p", *emphasised(lede), class_="lede"), tag("p", meaning, class_="note"), class_="prose")
    return tag("div", prose, table(head, rows, "Runs"))


def _name(runs: Sequence[TrainedRun], place: int) -> Content:
    label = runs[place].label
    return label if len(runs) == 1 else [swatch(cell_colours([run.label for run in runs])[place]), label]


def _row(run: TrainedRun, measured: Sequence[str]) -> list[Content]:
    told, live = run.summary, int(run.curve["nodes"][-1] or 0)
    spreads = [number(told[name]) for name in ("spread", "spread_predicted", "contraction", "contraction_predicted")]
    nodes = str(run.n_nodes) if live == run.n_nodes else f"{live} of {run.n_nodes}"
    return [nodes, *spreads, *[_measure(run, name) for name in measured], bytes_text(told["bytes_sent"])]


def _measure(run: TrainedRun, name: str) -> Content:
    whole, nodes = run.at_last(name)
    span = interval(min(nodes.values()), max(nodes.values())) if nodes else ""
    return [number(whole), *([tag("br"), tag("small", f"nodes {span}", class_="note", style="white-space:nowrap")] if span else [])]


def bytes_text(n: float | None) -> str:
    r"""Bytes in a unit that fits.

    Examples:
        >>> [bytes_text(n) for n in (0, 512, 20_480, 10_976_944, None)]
        ['0', '512\xa0B', '20.5\xa0kB', '11\xa0MB', '–']
    """
    if not n:
        return number(n)
    power = min(4, int(math.log10(n)) // 3)
    return f"{number(n / 1000**power)}{_NBSP}{('B', 'kB', 'MB', 'GB', 'TB')[power]}"


def _events(runs: Sequence[TrainedRun]) -> Html:
    rows: list[list[Content]] = [
        [run.label, f"{event['step']:,}", str(event["node"]), event["what"], event["why"]] for run in runs for event in run.events
    ]
    more = f"{len(rows) - _MOST_EVENTS:,} more are in summary.json." if len(rows) > _MOST_EVENTS else None
    about = tag("p", "Nodes that gave no answer, or none that could be one, and what became of them.", class_="intro")
    return tag("div", about, table(("run", "step", "node", "what", "why"), rows[:_MOST_EVENTS], "Events"), tag("p", more, class_="note"))


def _settings(runs: Sequence[TrainedRun]) -> Html:
    """A row for each setting, a column for each run."""
    flat = [dict(_flat(run.settings, run.settings)) for run in runs]
    names = list(dict.fromkeys(name for each in flat for name in each))
    rows: list[list[Content]] = [[name, *[each.get(name, "–") for each in flat]] for name in names]
    return table(("", *[run.label for run in runs]), rows, "Settings")


def _flat(settings: Mapping[str, Any], whole: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, str]]:
    """Settings one by one, once each; of a long list, such as a graph's edges, the length."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, whole, name)
        elif within and whole.get(name) == value:
            continue
        elif isinstance(value, list) and len(value) > _LONGEST_LIST:
            yield f"{within} {name}", f"{len(value):,} of them"
        else:
            full = name if within in ("", name, "spec") else f"{within} {name}"
            yield full, number(value, 6) if isinstance(value, float) else str(value)


def _digests(runs: Sequence[TrainedRun]) -> Html:
    """Each digest with the nodes that share it."""
    rows: list[list[Content]] = []
    for run in runs:
        owners: dict[str, list[str]] = {}
        for who, digest in run.summary["digests"].items():
            owners.setdefault(digest, []).append(who)
        for digest, who in owners.items():
            shared = len(who) == run.n_nodes > 1
            rows.append([run.label, "all nodes" if shared else listed(who, 12), tag("code", digest)])
    about = tag("p", "Equal digests: the same parameters to the bit.", class_="intro")
    listing = table(("run", "node", "digest"), rows, "Digests")
    return tag("div", about, _folded(listing, len(rows), "digest"))


def _commitments(runs: Sequence[TrainedRun]) -> Html:
    """What ``studbook training verify`` holds the nodes to."""
    rows = [[run.label, *_commitment(each)] for run in runs for each in run.commitments]
    about = tag("p", "What each node signed; ", tag("code", "studbook training verify"), " replays steps of them.", class_="intro")
    listing = table(("run", "node", "steps", "commitment", "key", "where not all steps, why"), rows, "Commitments")
    return tag("div", about, _folded(listing, len(rows), "commitment"))


def _commitment(each: Mapping[str, Any]) -> list[Content]:
    signed = [tag("code", each[name]) if each[name] else "–" for name in ("commitment", "key")]
    return [str(each["node"]), f"{each['steps']:,}", *signed, each["why"]]


def _folded(listing: Html, n: int, noun: str) -> Html:
    """A long table folds away."""
    return listing if n <= _MOST_ROWS else tag("details", tag("summary", count(n, noun)), listing)
