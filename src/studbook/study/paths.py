"""The paths in a study's table, made absolute, so that a run can be gone on with from another folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from pathlib import Path
from typing import Any

from studbook.data import SOURCES
from studbook.data.hub import PREFIX, split_address
from studbook.learners.causal_lm import RANDOM_NAMES
from studbook.study.config import CASE

_PACKAGED = "smollm2"
PATHS: Mapping[str, Set[str]] = {
    "data.source": SOURCES.keys(),
    "data.tokenizer": {_PACKAGED},
    "learner.model": {_PACKAGED, *RANDOM_NAMES},
    "learner.training.base": {_PACKAGED},
    "metrics.*.network": set(),
}
"""The dotted keys whose values may be paths, and the names that they don't take for one, whatever lies in the folder."""


def with_absolute_paths(table: Mapping[str, Any]) -> dict[str, Any]:
    """A study's table with every path in it absolute, those in the grid and its cases, too.

    Args:
        table: The study file's content. Objects in it stay as they are, and so do hub ids and names of what nobody has a file of.

    Raises:
        ConfigError: An address of the hub that names no data set.
    """
    grid = {"grid": _in_grid(table["grid"], "")} if "grid" in table else {}
    return {**{key: value if key == "grid" else _walk(value, key) for key, value in table.items()}, **grid}


def _walk(value: Any, dotted: str) -> Any:
    if isinstance(value, Mapping):
        return _each(value, dotted, _walk)
    if not isinstance(value, str | Path):
        return value
    section, _, rest = dotted.partition(".")
    key = f"metrics.*.{rest.partition('.')[2]}" if section == "metrics" else dotted
    return _absolute(key, str(value)) if key in PATHS else value


def _in_grid(value: Any, dotted: str) -> Any:
    """The same within the grid, where a key has a list of values and a case sets keys from the root on."""
    if isinstance(value, Mapping):
        return _each(value, dotted, _in_grid)
    if isinstance(value, list):
        return [_walk(item, "" if dotted == CASE else dotted) for item in value]
    return value


def _each(table: Mapping[str, Any], dotted: str, change: Callable[[Any, str], Any]) -> dict[str, Any]:
    return {key: change(value, f"{dotted}.{key}" if dotted else str(key)) for key, value in table.items()}


def _absolute(key: str, name: str) -> str:
    if not name or "\0" in name or name in PATHS[key]:
        return name
    if key == "data.source" and name.startswith(PREFIX):
        return _absolute_on_hub(name)
    path = Path(name).expanduser()
    return str(path.resolve()) if path.exists() else name


def _absolute_on_hub(address: str) -> str:
    """The address of a folder in the hub's layout; one of the hub itself stays."""
    place, colon, split = address.removeprefix(PREFIX).partition(":")
    path = Path(place)
    if not Path(split_address(address)["name"]).is_absolute():
        return address
    return f"{PREFIX}{path.expanduser().absolute()}{colon}{split}"
