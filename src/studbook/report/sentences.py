"""What happened, in plain sentences with numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from studbook.report.aggregate import FEW_REPLICATES, JUDGED, LEAST_TO_JUDGE, aggregate, judge_z
from studbook.report.families import dose_keys
from studbook.report.findings import findings
from studbook.report.names import HEADLINES, label_of, learner_noun
from studbook.report.numerals import count, interval, listed, number, percent
from studbook.report.run import Cell, Run, table_of
from studbook.report.training import failure_sentences

SPELT_OUT = 6
"""Up to this many cells are named one by one; of more, the two ends."""
_MOST_VALUES = 10


def headline_metrics(metrics: list[str], limit: int = 4) -> tuple[str, ...]:
    """The metrics that the summary speaks of, best first; the first few of the run where none is known.

    Examples:
        >>> headline_metrics(["entropy", "std", "types_share"])
        ('types_share', 'std')
    """
    known = [m for m in HEADLINES if m in metrics]
    return tuple(known or [m for m in metrics if "." not in m] or metrics)[:limit]


def summary(run: Run) -> list[str]:
    r"""The result in plain sentences.

    Args:
        run: The run.

    Returns:
        Sentences, in the order in which they are read: what was done, what became of the two most telling metrics in each cell with the
        spread over replicates, what else was found, how theory compares, what limits the conclusion, and which fits failed.

    Examples:
        >>> from pathlib import Path
        >>> import polars as pl
        >>> from studbook.report import Run, summary
        >>> rows = [(0, r, g, "variance", 1.0 - 0.25 * g) for r in range(2) for g in range(3)]
        >>> values = pl.DataFrame(rows, schema=["cell", "replicate", "generation", "metric", "value"], orient="row")
        >>> names = {"cell": pl.Int64, "metric": str, "generation": pl.Int64, "mean": float, "median": float, "exact": bool, "source": str}
        >>> cells = [{"index": 0, "label": "replace", "learner": {"kind": "gaussian"}}]
        >>> manifest = {"name": "tiny", "status": "finished", "cells": cells}
        >>> run = Run(Path(), manifest, values, pl.DataFrame(schema=names | {"formula": str}))
        >>> summary(run)[1]
        'The median variance fell from 1 to 0.5, 50\xa0% of it, after 2 generations.'
    """
    return [*describe(run, aggregate(run)), *failure_sentences(run)]


def describe(run: Run, curves: pl.DataFrame) -> list[str]:
    """As ``summary``, from an aggregated table and without the failures, which the page puts first."""
    metrics = headline_metrics(curves["metric"].unique(maintain_order=True).to_list(), 2)
    sentences = [_what_was_done(run)]
    sentences += [_what_happened(run, curves, metric) for metric in metrics]
    return [s for s in (*sentences, *findings(run, curves), _theory(run, curves, metrics), _limits(run)) if s]


def _what_was_done(run: Run) -> str:
    data = table_of(run.cells[0].about, "data")
    size = data.get("n_original") if isinstance(data.get("n_original"), int) else None
    noun = {"text": "block", "images": "picture"}.get(str(data.get("kind")), "record")
    model, source = models_and_data(run)
    ways = "" if len(run.cells) == 1 else f", in {len(run.cells)} ways"
    return (
        f"{_article(model)} learned from {source}{f' ({count(size, noun)})' if size else ''}; then, for "
        f"{count(run.last_generation, 'generation')}, each model learned from what the one before it had made{ways}, "
        f"{count(run.n_replicates, 'replicate')}{'' if len(run.cells) == 1 else ' each'}."
    )


def models_and_data(run: Run) -> tuple[str, str]:
    """What the run's models are called, and its data."""
    learners = sorted({learner_noun(table_of(c.about, "learner")) for c in run.cells})
    return listed(learners), str(table_of(run.cells[0].about, "data").get("name") or "the data")


def _article(noun: str) -> str:
    return f"{'An' if noun[:1].lower() in 'aeio8' or noun.startswith(('11-', '18-', 'n-')) else 'A'} {noun}"


def way_of(cell: Cell, cells: tuple[Cell, ...]) -> str:
    """How a cell is called inside a sentence: by what its mix means where only the mix differs, else by its label."""
    if len(cells) == 1 and not table_of(cell.about, "mix"):
        return ""
    only_mix = all(key == "mix" or key.startswith("mix.") for key in cell.keys)
    if not only_mix or len({_phrase(c) for c in cells}) < len(cells):
        return f"in “{cell.label}”" if len(cells) > 1 else ""
    return _phrase(cell)


def _phrase(cell: Cell) -> str:
    match table_of(cell.about, "mix"):
        case {"kind": "replace"}:
            return "trained only on its own output"
        case {"kind": "accumulate"}:
            return "with everything accumulated"
        case {"kind": "keep", "share": int() | float() as share}:
            return f"with {percent(float(share))} of the original kept each generation"
        case {"kind": "poison", "share": int() | float() as share}:
            return f"with {percent(float(share))} of the records from outside"
        case {"kind": "fresh" | "weighted" as kind, "fresh": int() as fresh}:
            return f"with {count(fresh, 'fresh real record' if kind == 'fresh' else 'weighted fresh real record')} a generation"
        case _:
            return f"in “{cell.label}”"


def _what_happened(run: Run, curves: pl.DataFrame, metric: str) -> str:
    rows = curves.filter(pl.col("metric") == metric).sort("generation")
    ends = {c.index: rows.filter(pl.col("cell") == c.index) for c in run.cells}
    cells = [c for c in run.cells if len(ends[c.index])]
    if len(cells) > SPELT_OUT:
        return _over_the_grid(run, cells, ends, metric)
    clauses = []
    for position, cell in enumerate(cells):
        text = _change(ends[cell.index], metric, opening=position == 0)
        way = way_of(cell, run.cells)
        clauses.append(f"{way}, {text}" if way else text)
    sentence = "; ".join(clauses)
    return sentence[:1].upper() + sentence[1:] + "."


def headline(run: Run, curves: pl.DataFrame, metric: str) -> str:
    """What became of one metric in the first cell, in a short sentence; over many cells, what the summary says of it."""
    rows = curves.filter((pl.col("metric") == metric) & (pl.col("cell") == run.cells[0].index)).sort("generation")
    if len(run.cells) > SPELT_OUT or rows.is_empty():
        return _what_happened(run, curves, metric)
    parts = (way_of(run.cells[0], run.cells), _change(rows, metric, opening=True, spread=False))
    sentence = ", ".join(filter(None, parts))
    return sentence[:1].upper() + sentence[1:] + "."


def _over_the_grid(run: Run, cells: list[Cell], ends: dict[int, pl.DataFrame], metric: str) -> str:
    """Many cells: by the grid key that matters most, if there is a numeric one; else the two ends."""
    last = {c: float(ends[c.index]["median"][-1]) for c in cells}
    after, noun = count(run.last_generation, "generation"), label_of(metric).noun
    groups = [(key, _groups(cells, last, key)) for key in dose_keys(tuple(cells))]
    groups = [(key, found) for key, found in groups if len(found) <= _MOST_VALUES]
    if groups:
        key, found = max(groups, key=lambda item: float(np.ptp([np.mean(values) for _, values in item[1]])))
        name = key.rpartition(".")[2]
        clauses = [f"{_extent(values, metric)} with {name} {value}" for value, values in found]
        return f"After {after}, the median {noun} is {', '.join(clauses)}{_rest_of_grid(cells, key)}."
    low, high = min(cells, key=last.__getitem__), max(cells, key=last.__getitem__)
    values = [_value(last[c], metric) for c in (low, high)]
    return (
        f"After {after}, the median {noun} of the {len(cells)} cells goes from {values[0]} (“{low.label}”) to {values[1]} (“{high.label}”)."
    )


def _rest_of_grid(cells: list[Cell], key: str) -> str:
    rest = {k: list(dict.fromkeys(c.keys[k] for c in cells)) for k in cells[0].keys if k != key}
    spans = [f"{k.rpartition('.')[2]} {v[0]} to {v[-1]}" for k, v in rest.items() if len(v) > 1]
    return f"; ranges are over {' and '.join(spans)}" if spans else ""


def _groups(cells: list[Cell], last: dict[Cell, float], key: str) -> list[tuple[str, list[float]]]:
    values = sorted({c.keys[key] for c in cells}, key=float)
    return [(value, [last[c] for c in cells if c.keys[key] == value]) for value in values]


def _extent(values: list[float], metric: str) -> str:
    low, high = min(values), max(values)
    return interval(low, high, share=label_of(metric).share) or _value(low, metric)


def _value(value: float, metric: str) -> str:
    return percent(value) if label_of(metric).share else number(value)


def _change(rows: pl.DataFrame, metric: str, *, opening: bool, spread: bool = True) -> str:
    """What became of a metric; the first clause of a sentence names it, the others only give their figures."""
    first, last, label = rows.row(0, named=True), rows.row(-1, named=True), label_of(metric)
    span, after = _spread(last, metric) if spread else "", f" after {count(last['generation'], 'generation')}" if opening else ""
    value = _value(last["median"], metric)
    if label.share:
        return f"the model {label.phrase.format(value)}{after}{span}" if opening else f"{value}{span}"
    ratio = _ratio(first["median"], last["median"])
    change = f"from {_value(first['median'], metric)} to {value}{ratio}"
    if value == _value(first["median"], metric):
        return f"the{_median(last)} {label.noun} stayed at {value}{after}{span}" if opening else f"it stayed at {value}{span}"
    if not opening:
        return f"{change}{span}"
    verb = "rose" if last["median"] > first["median"] else "fell" if last["median"] < first["median"] else "went"
    return f"the{_median(last)} {label.noun} {verb} {change}{',' if ratio else ''}{after}{span}"


def _median(row: dict[str, Any]) -> str:
    return " median" if row["n"] > 1 else ""


def _ratio(first: float, last: float) -> str:
    if not (np.isfinite(first) and np.isfinite(last)) or first <= 0 or last <= 0 or 0.5 < last / first < 2:
        return ""
    return f", {number(last / first, 2)} times as much" if last > first else f", {percent(last / first)} of it"


def _spread(last: dict[str, Any], metric: str) -> str:
    text = interval(last["low"], last["high"], share=label_of(metric).share) if last["n"] > 1 else ""
    return f" ({text})" if text else ""


def _theory(run: Run, curves: pl.DataFrame, metrics: tuple[str, ...]) -> str:
    verdict = judge_z(curves)
    if verdict is None:
        few = bool(curves["z"].is_not_null().any()) and run.n_replicates < LEAST_TO_JUDGE
        return f"Theory predicts some of these means exactly, but {run.n_replicates} replicates are too few to test it." if few else ""
    outcome = "no more than" if verdict.agrees else "more than"
    sentence = (
        f"Theory predicts the mean exactly at {count(verdict.n, 'point')}: the largest deviation is {number(verdict.largest, 2)} "
        f"standard errors, {outcome} chance explains over so many comparisons (Bonferroni limit at 5 %: {number(verdict.limit, 2)})"
    )
    judged = set(curves.filter(JUDGED)["metric"].to_list())
    metric = next((m for m in metrics if m in judged), None)
    return f"{sentence}; {_mean_against_theory(run, curves, metric)}." if metric else f"{sentence}."


def _mean_against_theory(run: Run, curves: pl.DataFrame, metric: str) -> str:
    last = int(curves.filter((pl.col("metric") == metric) & JUDGED)["generation"].max())  # type: ignore[arg-type]
    ends = curves.filter((pl.col("metric") == metric) & (pl.col("generation") == last) & JUDGED).sort("cell")
    labels = {c.index: c.label for c in run.cells}
    clauses = []
    for row in ends.head(3).iter_rows(named=True):
        low, high = mean_interval(run, metric, row["cell"], last)
        name = f"“{labels[row['cell']]}” " if len(run.cells) > 1 else ""
        clauses.append(f"{name}{number(row['mean'])} ({interval(low, high)}) against {number(row['theory'])}")
    return f"mean {label_of(metric).noun} at generation {last:,} with its 95 % bootstrap interval: {', '.join(clauses)}"


def mean_interval(run: Run, metric: str, cell: int, generation: int, n_resamples: int = 1000) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of a mean over the replicates (Efron 1979); the resamples are the same at every call."""
    chosen = (pl.col("metric") == metric) & (pl.col("cell") == cell) & (pl.col("generation") == generation)
    values = run.measurements.filter(chosen).sort("replicate")["value"].to_numpy()
    rng = np.random.default_rng(0)
    means = [float(values[rng.integers(0, len(values), len(values))].mean()) for _ in range(n_resamples)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _limits(run: Run) -> str:
    n, parts = run.n_replicates, []
    if n == 1:
        parts.append("There is one replicate: how much of this is chance can't be told")
    elif n < FEW_REPLICATES:
        parts.append(f"Values are medians, in brackets the range of the {n} replicates")
    else:
        parts.append("Values are medians, in brackets the 5–95 % band of the replicates")
    units = run.noted("units")
    if run.manifest["status"] != "finished":
        done = f" ({units.get('done')} of {units.get('total')} units)" if "total" in units else ""
        parts.append(f"the run is {run.manifest['status']}{done}, so this is what there is so far")
    return "; ".join(parts) + "."
