"""A figure: a chart and the words around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

Rows: TypeAlias = list[dict[str, Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Figure:
    """A chart with its words.

    Attributes:
        name: File name and anchor.
        section: ``"samples"``, ``"tails"``, ``"metrics"``, ``"dose"`` or ``"training"``.
        title: Heading.
        about: What is shown, one sentence.
        description: What a reader who can't see the chart is told.
        chart: The chart, without data, title and config.
        rows: Its data set.
        legend: Label and colour of each entry.
        lines: Which kinds of line are drawn: names of ``studbook.report.figures.LINE_NAMES``.
        notes: Sentences for the caption: theory with its source, the verdict on z.
        wide: Whether it needs the whole width of the page.
    """

    name: str
    section: str
    title: str
    about: str
    description: str
    chart: Any
    rows: Rows
    legend: tuple[tuple[str, str], ...] = ()
    lines: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    wide: bool = False
