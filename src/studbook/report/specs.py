"""Chart specs: one for the files beside the report, one for the page."""

from __future__ import annotations

import copy
from typing import Any

from studbook.report.curves import ROWS
from studbook.report.figure import Figure
from studbook.report.figures import styled
from studbook.report.theme import PAPER, with_variables

_TIMES = ("generation", "step")


def static_spec(figure: Figure) -> dict[str, Any]:
    """The spec of the picture files, with title, legend and data."""
    spec: dict[str, Any] = styled(figure).to_dict()
    return spec | {"datasets": spec.get("datasets", {}) | {ROWS: figure.rows}}


def page_spec(static: dict[str, Any]) -> dict[str, Any]:
    """The same for the page: its words and legend are HTML there, its colours CSS variables, and it answers to the pointer.

    Args:
        static: What ``static_spec`` returned; it is left as it is.

    Returns:
        A spec whose data are ``{"columns": [...], "rows": [[...], ...]}``, which the page's script unfolds.
    """
    bare = {key: part for key, part in static.items() if key not in ("title", "$schema")}
    rows = bare["datasets"][ROWS]
    bare["datasets"] = {name: small for name, small in bare["datasets"].items() if name != ROWS}
    spec: dict[str, Any] = with_variables(copy.deepcopy(bare))
    spec["config"]["background"] = None
    _drop_legends(spec)
    for layers in _layers(spec):
        layers += [_hover(layer) for layer in list(layers) if _answers(layer)]
        layers += [_targets(layer) for layer in list(layers) if layer.get("encoding", {}).get("y2", {}).get("field") == "base"]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return {"spec": spec, "data": {"columns": columns, "rows": [[row.get(name) for name in columns] for row in rows]}}


def _drop_legends(part: Any) -> None:
    for child in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        _drop_legends(child)
    for channel in ("color", "fillOpacity"):
        if isinstance(part, dict) and isinstance(part.get(channel), dict) and "field" in part[channel]:
            part[channel]["legend"] = None


def _layers(spec: dict[str, Any]) -> list[list[dict[str, Any]]]:
    found = [spec["layer"]] if "layer" in spec else []
    parts = [*spec.get("vconcat", []), *([spec["spec"]] if "spec" in spec else [])]
    return found + [layers for part in parts for layers in _layers(part)]


def _answers(layer: dict[str, Any]) -> bool:
    encoding = layer.get("encoding", {})
    return encoding.get("y", {}).get("field") == "median" and "tooltip" in encoding and encoding["x"]["field"] in _TIMES


def _hover(line: dict[str, Any]) -> dict[str, Any]:
    """A dot on the nearest point of a line; it carries the line's tooltip."""
    encoding, time = copy.deepcopy(line["encoding"]), line["encoding"]["x"]["field"]
    encoding["opacity"] = {"condition": {"param": "hover", "empty": False, "value": 1}, "value": 0}
    select = {"type": "point", "nearest": True, "on": "pointerover", "clear": "pointerout", "fields": [time, "label"]}
    return {
        **{key: copy.deepcopy(line[key]) for key in ("transform",) if key in line},
        "mark": {"type": "point", "filled": True, "size": 70, "stroke": with_variables(PAPER), "strokeWidth": 1.5},
        "encoding": encoding,
        "params": [{"name": "hover", "select": select}],
    }


def _targets(ridges: dict[str, Any]) -> dict[str, Any]:
    """Invisible boxes over the bins of ridges; they carry the tooltips, as an area answers only with its first point."""
    encoding = copy.deepcopy(ridges["encoding"])
    del encoding["color"]
    encoding["x"]["field"], encoding["y"]["field"] = "x0", "above"
    return {"mark": {"type": "rect", "opacity": 0, "aria": False}, "encoding": encoding | {"x2": {"field": "x1"}}}
