"""``studbook training diagnose``: where a training's randomness comes from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from studbook.cli.rendering import Bar, Format, show_json, show_table

if TYPE_CHECKING:
    from studbook.protocols.diagnose_records import Diagnosis, Drift

RESULTS = "results.json"


def diagnose_command(
    study: Annotated[Path, typer.Argument(metavar="STUDY|CONFIG", help="A study file, a run folder, or a file with [data] and [learner].")],
    out: Annotated[Path, typer.Option("--out", help="Folder of results.json and report.html.")] = Path("runs/diagnosis"),
    sources: Annotated[str, typer.Option(help="Sources, comma-separated; default: all.")] = "",
    steps: Annotated[int, typer.Option(help="Steps of each training run.")] = 64,
    repeats: Annotated[int, typer.Option(help="Repeats with seeds of their own, 2 or more.")] = 5,
    seed: Annotated[int, typer.Option(help="Root seed.")] = 0,
    confidence: Annotated[float, typer.Option(help="Confidence of every interval.")] = 0.95,
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replace a key of the study file.")] = None,
    format_: Annotated[Format, typer.Option("--format", help="How to write the answer.")] = Format.TABLE,
) -> None:
    """Train the same model with one source of randomness changed at a time, and show which matters, how fast it grows, what removes it."""
    from studbook.protocols.diagnose_records import Examined
    from studbook.report.diagnosis import write_diagnosis_report
    from studbook.study.diagnosed import diagnose_study, made_with, write_diagnoses

    names = tuple(name.strip() for name in sources.split(",")) if sources else ()
    asked = Examined(names, steps, repeats, seed, confidence)
    found = diagnose_study(study, asked, overrides=overrides or (), progress=Bar())
    written = write_diagnoses(found, out / RESULTS)
    page = write_diagnosis_report(found, made_with(), out)
    if format_ is Format.JSON:
        show_json(written)
    else:
        _show(found)
    typer.echo(page, err=True)


def _show(found: Sequence[Diagnosis]) -> None:
    from studbook.report.diagnosis import headline

    for each in found:
        about = f"{each.name}: {each.learner} on {each.data}, {each.parameters:,} weights, {each.examined.repeats} repeats"
        show_table([_row(each, drift) for drift in each.drifts], title=about)
    for each in found:
        typer.echo(_plain(headline(each)))


def _row(found: Diagnosis, drift: Drift) -> dict[str, Any]:
    from studbook.report.diagnosis import first_text, growth_text, mean_text
    from studbook.report.numerals import number, percent

    row = {
        "source": drift.source,
        "changed to": drift.changed,
        "kind": drift.kind,
        "from step": first_text(drift),
        "growth": growth_text(drift.growth),
        f"weights at {found.looks[-1]}": mean_text(drift.weights[-1]),
        "loss": number(drift.losses[-1].value),
        found.unit: percent(drift.outputs[-1].value),
        "what removes it": drift.remedy,
    }
    return {name: _plain(text) for name, text in row.items()}


def _plain(text: str) -> str:
    """Without spaces that a terminal's table would break a number at."""
    return text.replace("\u00a0×\u00a0", "·").replace("\u00a0", " ")
