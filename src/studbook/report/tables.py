"""The tables of the page: the verdict, all numbers, the config and the provenance."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import polars as pl

from studbook.report.markup import Content, Html, tag
from studbook.report.names import group_families, label_of
from studbook.report.numerals import number, percent
from studbook.report.run import Cell, Run
from studbook.report.sentences import headline_metrics
from studbook.report.theme import CELL_COLOURS

_MAX_ROWS, _FEW = 400, len(CELL_COLOURS)


def verdict_table(run: Run, curves: pl.DataFrame) -> Html:
    """Cells × headline metrics: a small curve, the last value, and where it came from."""
    metrics = headline_metrics(curves["metric"].unique(maintain_order=True).to_list())
    head = tag(
        "tr", tag("th", "Cell" if len(run.cells) > 1 else "", scope="col"), *[tag("th", label_of(m).title, scope="col") for m in metrics]
    )
    body = [
        tag(
            "tr",
            tag("th", _cell_name(run, i, cell), scope="row"),
            *[_verdict(curves, cell, i, metric, len(run.cells)) for metric in metrics],
        )
        for i, cell in enumerate(run.cells[:_MAX_ROWS])
    ]
    return scrolling(
        tag("table", tag("thead", head), tag("tbody", *body), class_="verdict many" if len(run.cells) > _FEW else "verdict"),
        "Verdict by cell",
    )


def _cell_name(run: Run, position: int, cell: Cell) -> Content:
    if len(run.cells) == 1 or len(run.cells) > _FEW:
        return cell.label
    return [tag("i", class_=f"swatch {swatch(position, len(run.cells))}"), cell.label]


def swatch(position: int, n_cells: int) -> str:
    """The colour class of a cell."""
    return f"c{position}" if n_cells <= _FEW else "c1"


def _verdict(curves: pl.DataFrame, cell: Cell, position: int, metric: str, n_cells: int) -> Html:
    rows = curves.filter((pl.col("metric") == metric) & (pl.col("cell") == cell.index)).sort("generation")
    if rows.is_empty():
        return tag("td", "–")
    first, last, share = float(rows["median"][0]), float(rows["median"][-1]), label_of(metric).share
    shown = percent(last) if share else number(last)
    origin = f"from {percent(first) if share else number(first)}"
    if not share and first > 0 and math.isfinite(first) and math.isfinite(last):
        origin += _factor(last / first)
    curve = sparkline(rows["median"].to_list(), swatch(position, n_cells), share=share)
    return tag("td", tag("div", curve, tag("div", tag("strong", shown), tag("small", origin)), class_="verdict-cell"))


def _factor(ratio: float) -> str:
    if 0.995 <= ratio <= 1.005:
        return ""
    if ratio < 1:
        return f", {percent(ratio)} left"
    return f", × {number(ratio, 2)}" if ratio >= 2 else f", + {percent(ratio - 1)}"


def sparkline(values: list[float], colour: str, *, share: bool, width: int = 64, height: int = 26) -> Html:
    """A small curve without axes; a share spans 0 to 1, everything else its own range and zero."""
    finite = [v for v in values if math.isfinite(v)]
    if len(finite) < 2:
        return Html("")
    low, high = (0.0, max(1.0, *finite)) if share else (min(0.0, *finite), max(finite))
    span = (high - low) or 1.0
    step = max(1, len(values) // 60)
    points = [
        f"{2 + i / (len(values) - 1) * (width - 4):.1f},{height - 2 - (v - low) / span * (height - 4):.1f}"
        for i, v in enumerate(values)
        if math.isfinite(v) and (i % step == 0 or i == len(values) - 1)
    ]
    line = f'<polyline points="{" ".join(points)}" fill="none" stroke-width="1.8" stroke-linejoin="round"/>'
    base = f'<path d="M2 {height - 1.5}H{width - 2}" class="base"/>'
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return Html(f'<svg class="spark {colour}" {size} aria-hidden="true">{base}{line}</svg>')


def without_bins(table: pl.DataFrame) -> pl.DataFrame:
    """A run's table without the bins of densities, which are for pictures."""
    bins = [m for f in group_families(table["metric"].unique().to_list()) if f.style == "density" for m in f.members]
    return table.filter(~pl.col("metric").is_in(bins))


def numbers_table(table: pl.DataFrame) -> Html:
    """Every cell and metric in figures, but for the bins of densities."""
    table = without_bins(table)
    columns = (
        ("last_median", "median"), ("last_mean", "mean"), ("last_q05", "low"), ("last_q95", "high"), ("theory", "theory, mean"),
        ("z", "z"), ("max_abs_z", "max |z|"),
    )  # fmt: skip
    head = tag(
        "tr", *[tag("th", name, scope="col") for name in ("cell", "metric", "generation", "first", *(title for _, title in columns))]
    )
    body = [
        tag(
            "tr",
            tag("th", row["cell"], scope="row"),
            tag("td", row["metric"]),
            tag("td", f"{row['last_generation']:,}", class_="n"),
            tag("td", number(row["first_median"]), class_="n"),
            *[tag("td", number(row[name]), class_="n") for name, _ in columns],
        )
        for row in table.head(_MAX_ROWS).iter_rows(named=True)
    ]
    return scrolling(tag("table", tag("thead", head), tag("tbody", *body), class_="numbers"), "All numbers")


def scrolling(content: Html, label: str) -> Html:
    """A box that scrolls sideways by itself, so that the page never does; the keyboard reaches it."""
    return tag("div", content, class_="scroll", tabindex=0, role="region", aria_label=label)


def config_text(config: object) -> str:
    """A config as text: TOML for one table, one after the other for a list with a table for each cell."""
    if isinstance(config, list):
        return "\n\n\n".join(f"# cell {i}\n{config_text(part)}" for i, part in enumerate(config))
    return toml(config) if isinstance(config, dict) else ""


def toml(config: Mapping[str, Any]) -> str:
    """A config as the TOML file that it came from.

    Examples:
        >>> print(toml({"study": {"name": "a", "seed": 0}, "grid": {"mix.fresh": [0, 1]}}))
        [study]
        name = "a"
        seed = 0
        <BLANKLINE>
        [grid]
        "mix.fresh" = [0, 1]
    """
    plain = [f"{_key(k)} = {_value(v)}" for k, v in config.items() if not isinstance(v, dict) and v is not None]
    blocks = ["\n".join(plain)] if plain else []
    for name, part in config.items():
        if isinstance(part, dict):
            lines = [f"{_key(k)} = {_value(v)}" for k, v in part.items() if v is not None]
            blocks.append("\n".join([f"[{_key(name)}]", *lines]))
    return "\n\n".join(blocks)


def _key(name: str) -> str:
    bare = name and all(c.isascii() and (c.isalnum() or c in "-_") for c in name)
    return name if bare else json.dumps(name, ensure_ascii=False)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        inner = ", ".join(f"{_key(str(k))} = {_value(v)}" for k, v in value.items() if v is not None)
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(v) for v in value)}]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str | bool | int) else repr(value)


def facts(pairs: list[tuple[str, Content]]) -> Html:
    """A list of names and values; what is empty is left out."""
    return tag(
        "dl", *[tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs if value not in (None, "", [])], class_="facts"
    )
