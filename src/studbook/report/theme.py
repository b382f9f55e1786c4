"""Colours and chart style. Charts are built in the light theme; in the page its colours become CSS variables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# Cells: distinguishable with the common colour deficiencies (vermilion, blue, green, purple, ochre, slate), each at least 4.5:1 on white.
CELL_COLOURS = ("#bf4408", "#0b66a8", "#08775a", "#93428a", "#806000", "#56606b")
# Ordered quantities and classes: a perceptually even ramp from early to late (viridis, cut at the pale end).
RAMP = ("#440154", "#482878", "#3e4a89", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#a5d642", "#d8c41f")
INK, MUTED, GRID, PAPER = "#1b1f24", "#59636e", "#e4e4df", "#ffffff"

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"

_VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid", PAPER: "--card"}
_VARIABLES |= {colour: f"--cell-{i}" for i, colour in enumerate(CELL_COLOURS)}
_VARIABLES |= {colour: f"--ramp-{i}" for i, colour in enumerate(RAMP)}


def ramp(n: int) -> list[str]:
    """``n`` colours spread over the ramp."""
    if n <= 1:
        return [RAMP[3]][:n]
    return [RAMP[round(i * (len(RAMP) - 1) / (n - 1))] for i in range(n)]


def css_colour(colour: str) -> str:
    """The CSS variable that stands for a theme colour in the page, or the colour itself."""
    return f"var({_VARIABLES[colour]})" if colour in _VARIABLES else colour


def with_variables(spec: Any) -> Any:
    """A chart spec with theme colours replaced by CSS variables; data sets are left alone."""
    if isinstance(spec, dict):
        return {key: part if key in ("datasets", "values") else with_variables(part) for key, part in spec.items()}
    if isinstance(spec, list):
        return [with_variables(part) for part in spec]
    return css_colour(spec) if isinstance(spec, str) else spec


def chart_config(*, n_labels: int = 1) -> dict[str, Any]:
    """Vega-Lite's ``config`` for every chart.

    Args:
        n_labels: Entries of the legend, to lay it out.
    """
    text: dict[str, Any] = {"labelFont": FONT, "titleFont": FONT, "labelColor": MUTED, "titleColor": MUTED, "labelFontSize": 11}
    axis = text | {"titleFontSize": 11, "titleFontWeight": "normal", "domainColor": GRID, "tickColor": GRID, "gridColor": GRID}
    subtitle = {"subtitleFont": FONT, "subtitleColor": MUTED, "subtitleFontSize": 11.5, "subtitlePadding": 4}
    return {
        "background": PAPER,
        "font": FONT,
        "padding": {"left": 4, "right": 14, "top": 6, "bottom": 4},
        "view": {"stroke": None},
        "axis": axis | {"gridWidth": 1, "tickSize": 4, "labelPadding": 4, "titlePadding": 6, "labelFlush": False},
        "axisX": {"grid": False, "domainColor": MUTED, "tickColor": MUTED},
        "axisY": {"domain": False, "ticks": False, "minExtent": 44, "maxExtent": 44, "tickCount": 5},
        "header": text | {"labelFontSize": 12, "labelColor": INK, "labelFontWeight": 600, "labelPadding": 4, "title": None},
        "legend": _legend(text, n_labels),
        "title": {"font": FONT, "fontSize": 15, "color": INK, "anchor": "start", "frame": "group", "offset": 10} | subtitle,
        "facet": {"spacing": 18},
        "concat": {"spacing": 10},
    }


def _legend(text: dict[str, Any], n_labels: int) -> dict[str, Any]:
    layout = {"orient": "bottom", "columns": min(n_labels, 4), "labelLimit": 260, "columnPadding": 16}
    return text | layout | {"title": None, "symbolStrokeWidth": 3, "labelFontSize": 12, "labelColor": INK}


def cell_colours(labels: Sequence[str]) -> list[str]:
    """One colour a cell; with more cells than colours, all have the second (they are drawn in panels of their own)."""
    return list(CELL_COLOURS[: len(labels)]) if len(labels) <= len(CELL_COLOURS) else [CELL_COLOURS[1]] * len(labels)
