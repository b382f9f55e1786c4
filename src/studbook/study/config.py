"""Study files: reading, checking, and one cell for each combination of the grid."""

from __future__ import annotations

import copy
import difflib
import itertools
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any, Literal

from studbook.arrays import Batch
from studbook.data import Dataset, InMemory, open_source
from studbook.errors import ConfigError
from studbook.parameters import build
from studbook.recursion import Network
from studbook.study.catalog import (
    OPTIONS,
    ChosenMetric,
    changed_options,
    choose_metric,
    create_curation,
    create_learner,
    create_mix,
    create_network,
    describe,
)

SECTIONS = ("study", "data", "learner", "mix", "curation", "metrics", "grid")
CASE = "case"
"""The key of the grid whose values set several keys together: [[grid.case]]."""
MAX_FILE_BYTES = 1 << 20
MAX_CELLS = 10_000


@dataclass(frozen=True, slots=True)
class StudySection:
    """The ``[study]`` table.

    Attributes:
        name: Name of the study, letters, digits, ``-`` and ``_``; it names the run folder.
        generations: Index of the last generation; generation 0 is fitted to the original data.
        seed: Root of every random stream, 0 or more.
        replicates: Independent repetitions.
        samples: Records that a generation generates; by default as many as the original data have.
        method: ``"law"`` draws fitted parameters exactly in law, ``"samples"`` draws every record, ``"auto"`` takes the law where it can.
        models: Which models of each replicate are kept in the run folder: none, the last generation's, or all.
    """

    name: str
    generations: int
    seed: int = 0
    replicates: int = 1
    samples: int | None = None
    method: Literal["auto", "law", "samples"] = "auto"
    models: Literal["none", "last", "all"] = "none"

    def __post_init__(self) -> None:
        if not self.name or not all(c.isalnum() or c in "-_" for c in self.name) or len(self.name) > 80:
            raise ConfigError(f"study.name is {self.name!r}, expected up to 80 letters, digits, - and _")
        for name, low, high in (("generations", 0, 10**7), ("replicates", 1, 10**7), ("samples", 1, 10**15), ("seed", 0, 2**63)):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ConfigError(f"study.{name} is {value}, expected {low} to {high:,}")


@dataclass(frozen=True, slots=True)
class SplitSection:
    """What the ``[data]`` table says beside the source and its parameters.

    Attributes:
        heldout: Share of a data set's records that no generation is trained on; by default 0.1 for text and images, else 0.
        reserve: Records set aside for mixes that ask for fresh ones; by default as many as the study's cells need.
        base: Share of a data set's records on which a base model is pretrained, once for all replicates; no generation is trained on
            them. By default 0: no base model but one that the learner names.
    """

    heldout: float | None = None
    reserve: int | None = None
    base: float | None = None

    def __post_init__(self) -> None:
        if self.heldout is not None and not 0.0 <= self.heldout < 1.0:
            raise ConfigError(f"data.heldout is {self.heldout}, expected a share from 0 up to (not including) 1")
        if self.reserve is not None and self.reserve < 0:
            raise ConfigError(f"data.reserve is {self.reserve}, expected 0 or more records")
        if self.base is not None and not 0.0 <= self.base < 1.0:
            raise ConfigError(f"data.base is {self.base}, expected a share from 0 up to (not including) 1")


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination of the grid, resolved to objects.

    Attributes:
        index: Position in the grid, from 0.
        keys: The grid's values for this cell, as they are shown.
        study: The ``[study]`` table.
        split: How the data are divided.
        source: Where the data come from.
        source_table: The ``[data]`` table as resolved.
        learner: The model family.
        mix: What each generation trains on.
        metrics: What is measured.
        every: Generations between measurements.
        curation: What judges the candidates of each generation; ``None`` takes all.
        network: How several nodes share what they generate, each with a model of its own; ``None``: a single model.
    """

    index: int
    keys: Mapping[str, str | int | float]
    study: StudySection
    split: SplitSection
    source: Any
    source_table: Mapping[str, object]
    learner: Any
    mix: Any
    metrics: tuple[ChosenMetric, ...]
    every: int
    curation: Any = None
    network: Network | None = None

    @property
    def label(self) -> str:
        """How the cell is called in tables and legends."""
        return ", ".join(str(value) if key in {*SECTIONS, CASE} else f"{key} = {value}" for key, value in self.keys.items()) or str(
            describe(self.mix)["kind"]
        )


def read_study_file(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """A study file as a table, with ``KEY=VALUE`` overrides applied.

    Args:
        path: A TOML file of at most 1 MiB.
        overrides: Dotted keys with TOML values, for example ``"study.samples=500"``; a value that isn't TOML is taken as a string.

    Raises:
        ConfigError: It can't be read; the message names the line.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(f"{path} has {path.stat().st_size:,} bytes, a study file has at most {MAX_FILE_BYTES:,}")
        table = parse_toml(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise ConfigError(f"there is no study file {path}", hint="shipped studies are in studies/") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} isn't UTF-8 text: byte {error.start} can't be decoded") from error
    except ValueError as error:
        raise ConfigError(f"{path} isn't valid TOML: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}") from error
    return apply_overrides(table, overrides)


def parse_toml(text: str) -> dict[str, Any]:
    """TOML as a table.

    Raises:
        ValueError: It isn't TOML; numbers of thousands of digits and thousands of brackets count as that too.
    """
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("it nests too deeply") from error


def apply_overrides(table: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The table with ``KEY=VALUE`` overrides applied."""
    changed = copy.deepcopy(dict(table)) if overrides else dict(table)
    for override in overrides:
        _override(changed, override)
    return changed


def expand(table: Mapping[str, Any]) -> tuple[Cell, ...]:
    """Every cell of a study.

    Args:
        table: The study file's content; in Python, ``data``, ``learner`` and ``mix`` may be objects instead of tables.

    Raises:
        ConfigError: Unknown key, kind or metric, or a value that can't be.
    """
    unknown = sorted(set(table) - set(SECTIONS))
    if unknown:
        near = difflib.get_close_matches(unknown[0], SECTIONS, n=1)
        raise ConfigError(
            f"there is no section [{unknown[0]}]", hint=f"did you mean [{near[0]}]?" if near else f"known are {', '.join(SECTIONS)}"
        )
    for section in ("study", "data", "learner", "mix", "metrics"):
        if section not in table and section not in table.get("grid", {}):
            raise ConfigError(f"the study has no section [{section}]", hint="see studies/ for complete files")
    return tuple(_resolve(index, keys, raw) for index, (keys, raw) in enumerate(_combinations(table)))


def _combinations(table: Mapping[str, Any]) -> Iterator[tuple[dict[str, str | int | float], dict[str, Any]]]:
    grid = table.get("grid", {})
    if not isinstance(grid, Mapping):
        raise ConfigError("[grid] must be a table of lists", hint='for example "mix.fresh" = [0, 1, 10]')
    grid = dict(_flatten(grid))
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise ConfigError(f"grid.{key} is {values!r}, expected a list of values", hint='for example "mix.fresh" = [0, 1, 10]')
    names = [case["name"] for case in grid.get(CASE, ()) if isinstance(case, Mapping) and isinstance(case.get("name"), str)]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two cases have the name {_short(name)}", hint="give each [[grid.case]] a name of its own")
    n_cells = 1
    for values in grid.values():
        n_cells *= len(values)
    if n_cells > MAX_CELLS:
        raise ConfigError(f"the grid has {n_cells:,} cells, at most {MAX_CELLS:,} are run", hint="split the study")
    shown = {key: _alike(_show_all(values)) for key, values in grid.items()}
    for positions in itertools.product(*(range(len(values)) for values in grid.values())):
        combination = [values[at] for values, at in zip(grid.values(), positions, strict=True)]
        raw = {name: copy.copy(section) for name, section in table.items() if name != "grid"}
        for key, value in zip(grid, combination, strict=True):
            for dotted, wanted in _settings(key, value):
                _put(raw, dotted, wanted)
        yield {key: shown[key][at] for key, at in zip(grid, positions, strict=True)}, raw


def _settings(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The keys that one value of the grid sets: its own, or, of a case, all that stand in it."""
    if key != CASE:
        yield key, value
        return
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise ConfigError(
            f"grid.case holds {_short(value)}, expected tables with a name",
            hint='for example [[grid.case]] with name = "long" and "learner.training.epochs" = 10 below it',
        )
    yield from ((dotted, wanted) for dotted, wanted in value.items() if dotted != "name")


def _alike(values: list[str | int | float]) -> list[Any]:
    """Values of one column of the result, which can't hold words beside numbers."""
    return [str(value) for value in values] if any(isinstance(value, str) for value in values) else values


def _flatten(grid: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in grid.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _resolve(index: int, keys: dict[str, str | int | float], raw: Mapping[str, Any]) -> Cell:
    study = build(StudySection, _table(raw, "study"), where="study")
    source, split, source_table = _resolve_data(raw["data"])
    metrics, every = _resolve_metrics(_table(raw, "metrics"))
    learner, network = _split_protocol(raw)
    return Cell(
        index,
        keys,
        study,
        split,
        source,
        source_table,
        _object(learner, "learner", create_learner, "fit"),
        _object(raw, "mix", create_mix, "parts"),
        metrics,
        every,
        _object(raw, "curation", create_curation, "open") if raw.get("curation") is not None else None,
        network,
    )


def _split_protocol(raw: Mapping[str, Any]) -> tuple[Mapping[str, Any], Network | None]:
    """The study without ``[learner.protocol]``, and the network that this table means."""
    section = raw["learner"]
    if not isinstance(section, Mapping) or "protocol" not in section:
        return raw, None
    return {**raw, "learner": {key: value for key, value in section.items() if key != "protocol"}}, create_network(section["protocol"])


def _object(raw: Mapping[str, Any], section: str, create: Callable[[Mapping[str, object]], Any], method: str) -> Any:
    """A section as an object: built from its table, or, from Python, passed as it is."""
    value = raw[section]
    if isinstance(value, Mapping):
        return create(value)
    if not hasattr(value, method) or isinstance(value, type):
        raise ConfigError(f"{section} is {_short(value)}, expected a table with a kind", hint=f"write [{section}] and its kind below it")
    if not is_dataclass(value):
        raise ConfigError(
            f"{section} is a {type(value).__qualname__}, which isn't a dataclass",
            hint="make it a frozen dataclass: its fields tell its results from another one's",
        )
    return value


def _short(value: object) -> str:
    text = f"the class {value.__qualname__}" if isinstance(value, type) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _resolve_data(section: Any) -> tuple[Any, SplitSection, dict[str, object]]:
    """Source, split and the resolved table; in Python the section may be a source, a batch or a data set."""
    if not isinstance(section, Mapping):
        source = InMemory(section) if isinstance(section, Dataset | Batch) else section
        if not hasattr(source, "load") or isinstance(source, type):
            raise ConfigError(
                f"data is {_short(section)}, expected a table with a source, a source, a batch or a data set",
                hint='for example data = { source = "digits" }; from Python studbook.arrays.numbers(values) makes a batch',
            )
        return source, SplitSection(), {"source": f"{type(source).__module__}:{type(source).__qualname__}"}
    parameters = dict(section)
    split = build(SplitSection, {k: parameters.pop(k) for k in ("heldout", "reserve", "base") if k in parameters}, where="data")
    name = parameters.pop("source", None)
    if isinstance(name, Path):
        name = str(name)
    if not isinstance(name, str):
        if isinstance(name, Dataset | Batch) or hasattr(name, "load"):
            return _resolve_data(name)[0], split, _resolve_data(name)[2]
        raise ConfigError(f"data.source is {name!r}, expected a name or a path", hint="studbook data list shows the names")
    source = open_source(name, **parameters)
    path = getattr(source, "path", None)
    if isinstance(path, Path | str):
        name = str(Path(path).expanduser().resolve())
    return source, split, {"source": name, **parameters}


def _resolve_metrics(section: Mapping[str, Any]) -> tuple[tuple[ChosenMetric, ...], int]:
    tables = dict(section)
    names, every = tables.pop("names", None), tables.pop("every", 1)
    if not isinstance(names, list | tuple) or not names:
        raise ConfigError(f"metrics.names is {names!r}, expected a list of metrics", hint="studbook catalog shows them")
    if not isinstance(every, int) or isinstance(every, bool) or every < 1:
        raise ConfigError(f"metrics.every is {every!r}, expected a whole number of generations, 1 or more")
    chosen = []
    for name in names:
        if not isinstance(name, str):
            if not is_dataclass(name) or isinstance(name, type) or not hasattr(name, "measure") or not hasattr(name, "kinds"):
                raise ConfigError(f"metrics.names holds {_short(name)}, expected names", hint="studbook catalog shows them")
            chosen.append(ChosenMetric(type(name).__name__.lower(), name))
        else:
            parameters = tables.get(name, {})
            if not isinstance(parameters, Mapping):
                raise ConfigError(
                    f"metrics.{name} is {_short(parameters)}, expected a table of its parameters", hint=f"write [metrics.{name}]"
                )
            chosen.append(choose_metric(name, parameters))
    stray = sorted(set(tables) - {c.name for c in chosen})
    if stray:
        near = difflib.get_close_matches(stray[0], ["names", "every", *(c.name for c in chosen)], n=1)
        raise ConfigError(f"there is no key metrics.{stray[0]}", hint=f"did you mean {near[0]}?" if near else "it isn't in metrics.names")
    repeated = sorted({c.name for c in chosen if sum(d.name == c.name for d in chosen) > 1})
    if repeated:
        raise ConfigError(f"metrics.names holds {repeated[0]!r} more than once")
    return tuple(chosen), every


def _table(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = raw.get(name)
    if not isinstance(section, Mapping):
        raise ConfigError(f"{name} is {section!r}, expected a table", hint=f"write [{name}] and its keys below it")
    return section


def _put(raw: dict[str, Any], dotted: str, value: Any) -> None:
    """Set a dotted key, without touching tables that other cells share."""
    section, _, key = dotted.partition(".")
    if section not in SECTIONS or section == "grid":
        near = difflib.get_close_matches(section, SECTIONS, n=1)
        raise ConfigError(
            f"the key {dotted!r} names no section", hint=f"did you mean {near[0]}?" if near else f"known are {', '.join(SECTIONS)}"
        )
    if not key:
        raw[section] = copy.copy(value)
        return
    table = dict(_table(raw, section)) if section in raw else {}
    raw[section] = table
    *parents, leaf = key.split(".")
    for parent in parents:
        if not isinstance(table.get(parent, {}), Mapping):
            raise ConfigError(f"the key {dotted!r} goes into {parent}, which is {table[parent]!r}, not a table")
        table[parent] = dict(table.get(parent, {}))
        table = table[parent]
    table[leaf] = value


def _override(table: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {override!r} isn't KEY=VALUE", hint="for example --set study.samples=500")
    try:
        value = parse_toml(f"value = {text}")["value"]
    except ValueError:
        value = text
    key = key.strip()
    if key == "grid":
        raise ConfigError("--set grid=… replaces nothing", hint="name a key of the grid, for example --set 'grid.mix=[{kind=\"replace\"}]'")
    if key.startswith("grid."):
        grid = table.setdefault("grid", {})
        grid[key.removeprefix("grid.").strip('"')] = value
        return
    _put(table, key, value)


def _show_all(values: list[Any]) -> list[str | int | float]:
    """The values of one key, each as one word or number; a path by its last name, where that tells it from the others."""
    full, brief = [_show(value) for value in values], [_show(_last_name(value)) for value in values]
    return brief if len(set(brief)) == len(set(full)) else full


def _last_name(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _last_name(item) for key, item in value.items()}
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() and Path(value).name else value


def _show(value: Any) -> str | int | float:
    """A grid value as one word or number."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return value
    if isinstance(value, list | tuple):
        return ", ".join(str(_show(item)) for item in value) or "none"
    table = value if isinstance(value, Mapping) else _brief(value)
    if "name" in table and "kind" not in table:
        return str(table["name"])
    kind = str(table.get("kind", table.get("source", "")))
    rest = [f"{key} {shown}" for key, shown in _leaves(table) if key not in {"kind", "source"} and shown is not None]
    plain = [str(v) for k, v in table.items() if k == kind]
    return f"{kind} {plain[0]}" if plain and len(rest) == 1 else " ".join([kind, *rest]).strip() or str(value)


def _leaves(table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The values of a table and of the tables in it, by their own names."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _leaves(value)
        else:
            yield key, value


def _brief(thing: object) -> dict[str, object]:
    """An object as the table that creates it, without the options that are as usual."""
    options = {name: changed_options(getattr(thing, name)) for name, cls in OPTIONS.items() if isinstance(getattr(thing, name, None), cls)}
    return {**describe(thing), **options}
