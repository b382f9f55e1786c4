"""What pictures and text turned into, in sentences of their own: recognised pictures, too probable text, the parts of drift."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter

import polars as pl

from studbook.report.decomposition import drift_sentence
from studbook.report.numerals import percent
from studbook.report.run import Cell, Run

RECOGNISED = "recognised"
_HALF, _SPELT_OUT = 0.5, 6
_TEXT_TAILS = (
    ("low_perplexity_share", "more probable to generation 0 than all but 5 % of the original"),
    ("high_perplexity_share", "less probable than all but 5 %"),
)


def findings(run: Run, curves: pl.DataFrame) -> list[str]:
    """The sentences that apply to a run.

    Args:
        run: The run.
        curves: What ``studbook.report.aggregate.aggregate`` returned.
    """
    return [s for s in (_until_recognised(run, curves), _tails_of_text(run, curves), drift_sentence(run, curves)) if s]


def _of_cells(run: Run, curves: pl.DataFrame, metric: str) -> list[tuple[Cell, pl.DataFrame]]:
    rows = curves.filter((pl.col("metric") == metric) & pl.col("median").is_finite()).sort("generation")
    found = [(cell, rows.filter(pl.col("cell") == cell.index)) for cell in run.cells]
    return [(cell, own) for cell, own in found if len(own)][:_SPELT_OUT]


def _until_recognised(run: Run, curves: pl.DataFrame) -> str:
    """In which generations fewer than half of the pictures are recognised."""
    clauses = []
    for cell, rows in _of_cells(run, curves, RECOGNISED):
        when = _when([(generation, median < _HALF) for generation, median in rows.select("generation", "median").rows()])
        clauses.append(f"in “{cell.label}” {when}" if len(run.cells) > 1 else when)
    colon = ":" if len(run.cells) > 1 else ""
    return f"Fewer than half of the pictures are recognised for what they should show{colon} {'; '.join(clauses)}." if clauses else ""


def _when(held: list[tuple[int, bool]]) -> str:
    """In which of the measured generations something holds."""
    spans = [[generation for generation, _ in span] for holds, span in groupby(held, key=itemgetter(1)) if holds]
    words = [f"in generation {span[0]}" if len(span) == 1 else f"in generations {span[0]} to {span[-1]}" for span in spans]
    if spans and spans[-1][-1] == held[-1][0]:
        words[-1] = f"from generation {spans[-1][0]} on"
    return _joined(words) if words else "at no generation"


def _tails_of_text(run: Run, curves: pl.DataFrame) -> str:
    """How many sequences are too probable, and how many the original would hardly hold."""
    kinds = []
    for metric, words in _TEXT_TAILS:
        clauses = [
            f"{percent(rows['median'][-1])}{f' in “{cell.label}”' if len(run.cells) > 1 else ''} (generation {rows['generation'][0]}: "
            f"{percent(rows['median'][0])})"
            for cell, rows in _of_cells(run, curves, metric)
        ]
        if clauses:
            kinds.append(f"{words}: {_joined(clauses)}")
    return f"Sequences of the last generation that are {'; '.join(kinds)}." if kinds else ""


def _joined(clauses: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(clauses[:-1]), *clauses[-1:])))
