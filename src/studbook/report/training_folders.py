"""Reading what a training run left: its summary and its curve, both checked."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from studbook.errors import RunFolderError, SchemaVersionError
from studbook.protocols.training_run import SCHEMA
from studbook.protocols.writing import CURVE_TABLE, SUMMARY

_MOST_SUMMARY, _MOST_CURVE = 1 << 26, 1 << 31
"""Bytes: 1,024 nodes' measures and digests, and ten million steps."""
_COLUMNS = ("loss", "spread_before", "spread", "spread_predicted", "bytes_sent", "nodes")
_EVENT = {"step": int, "node": int, "what": str, "why": str}
_COMMITMENT = {"node": int, "key": str, "commitment": str, "steps": int, "why": str}
_TOGETHER = ("mean", "server")
"""Whose measures are those of the whole."""
_HINT = "the same 'studbook training run' writes it again"


@dataclass(frozen=True, slots=True, eq=False)
class TrainedRun:
    """A finished training run.

    Attributes:
        folder: Where it lies.
        label: What tells it from the other runs on a page.
        summary: ``summary.json``; see ``TrainingRun.summary``.
        curve: One row a step, ``curve.parquet``; what isn't known is null.
    """

    folder: Path
    label: str
    summary: Mapping[str, Any] = field(repr=False)
    curve: pl.DataFrame = field(repr=False)

    @property
    def settings(self) -> Mapping[str, Any]:
        """What determined it."""
        return self.summary["settings"]  # type: ignore[no-any-return]

    @property
    def n_nodes(self) -> int:
        """Nodes that it began with."""
        return int(self.settings["nodes"])

    @property
    def measured(self) -> tuple[str, ...]:
        """What was measured on held-out data."""
        return tuple(sorted(name.removeprefix("mean_") for name in self.curve.columns if name.startswith("mean_")))

    @property
    def loss_columns(self) -> tuple[str, ...]:
        """The columns of each node's loss, in order."""
        return tuple(name for name in (f"loss_{i}" for i in range(self.n_nodes)) if name in self.curve.columns)

    @property
    def events(self) -> Sequence[Mapping[str, Any]]:
        """What happened to nodes."""
        return self.summary.get("events", ())  # type: ignore[no-any-return]

    @property
    def commitments(self) -> Sequence[Mapping[str, Any]]:
        """What each node committed to, where nodes did."""
        return self.summary.get("commitments", ())  # type: ignore[no-any-return]

    @property
    def has_server(self) -> bool:
        """Whether a server holds the model, and nodes hold none."""
        return "server" in self.summary["digests"]

    def at_last(self, measure: str) -> tuple[float | None, dict[str, float]]:
        """A measure of the whole and of each node after the last step, where it was finite."""
        found = {who: each[measure] for who, each in self.summary["measures"].items() if each.get(measure) is not None}
        whole = [found.pop(who) for who in _TOGETHER if who in found]
        return (whole[0] if whole else None), found


def load_training(folders: Sequence[Path]) -> list[TrainedRun]:
    """Read the folders of finished training runs; each gets a label of its own.

    Args:
        folders: Folders that ``studbook training run`` wrote.

    Raises:
        RunFolderError: One is none, isn't finished, or is damaged.
        SchemaVersionError: A newer studbook wrote it.

    Examples:
        >>> load_training([Path("no-such-folder")])
        Traceback (most recent call last):
        studbook.errors.RunFolderError: no-such-folder holds no finished training run: it has no summary.json (...
    """
    summaries = [_read_summary(Path(folder)) for folder in folders]
    labels = [protocol_label(summary["settings"]["protocol"]) for summary in summaries]
    # Runs that differ in something else are told apart by where they lie.
    named = [f"{label} ({folder.name})" if labels.count(label) > 1 else label for label, folder in zip(labels, folders, strict=True)]
    unique = [name if named.count(name) == 1 else f"{name} #{1 + named[:i].count(name)}" for i, name in enumerate(named)]
    return [
        TrainedRun(Path(folder), label, summary, _read_curve(Path(folder), summary))
        for folder, label, summary in zip(folders, unique, summaries, strict=True)
    ]


def protocol_label(protocol: Mapping[str, Any]) -> str:
    """A protocol in a few words.

    Examples:
        >>> protocol_label({"protocol": "gossip", "graph": "ring", "exchange": "pairs", "every": 1, "edges": [], "nodes": 8})
        'gossip, ring, pairs'
        >>> protocol_label({"protocol": "local", "every": 10}), protocol_label({"protocol": "synchronised"})
        ('local, every 10', 'synchronised')
        >>> protocol_label({"protocol": "federated", "clients": 10, "keys": {"neurons": {"m": 16, "how": "random"}}})
        'federated, 10 clients, 16 random neurons'
    """
    name, every, clients, keys = str(protocol["protocol"]), *(protocol.get(key) for key in ("every", "clients", "keys"))
    words = [str(protocol[key]) for key in ("graph", "exchange") if isinstance(protocol.get(key), str)]
    words += [f"every {every}"] if isinstance(every, int) and (every != 1 or name == "local") else []
    words += [f"{clients} clients"] if isinstance(clients, int) else []
    words += [f"{each['m']} {each['how']} {group}" for group, each in (keys or {}).items()]
    return ", ".join([name, *words])


def _read_summary(folder: Path) -> dict[str, Any]:
    path = folder / SUMMARY
    if not path.is_file():
        raise RunFolderError(f"{folder} holds no finished training run: it has no {SUMMARY}", hint=_HINT)
    try:
        if path.stat().st_size > _MOST_SUMMARY:
            raise ValueError(f"it has {path.stat().st_size:,} bytes, expected {_MOST_SUMMARY:,} at most")
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise TypeError("it is no object")
        if isinstance(found["schema"], int) and found["schema"] > SCHEMA:
            raise SchemaVersionError(f"{path} has schema {found['schema']}, this studbook reads {SCHEMA}", hint="upgrade studbook")
        _check(found)
    except KeyError as error:
        raise RunFolderError(f"{path} lacks {error}", hint=_HINT) from error
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise RunFolderError(f"{path} isn't what a training run writes: {str(error)[:160]}", hint=_HINT) from error
    return found


def _check(summary: Mapping[str, Any]) -> None:
    """Everything that the page reads is of the kind that it takes it for; the rest may be anything."""
    settings = summary["settings"]
    protocol_label(settings["protocol"])
    _require(_is_count(settings["nodes"]) and _is_count(summary["steps"]), "its nodes and steps aren't counts")
    for name in ("spread", "spread_predicted", "contraction", "contraction_predicted", "bytes_sent"):
        _require(summary[name] is None or _is_number(summary[name]), f"{name} is no number")
    for who, measures in summary["measures"].items():
        sound = all(value is None or _is_number(value) for value in measures.values())
        _require(sound and (who in _TOGETHER or who.isdigit()), f"the measures of {who!r} aren't numbers")
    for name, shape in (("events", _EVENT), ("commitments", _COMMITMENT)):
        for each in summary.get(name, ()):
            _require(all(type(each[key]) is kind for key, kind in shape.items()), f"one of its {name} isn't one")
    _require(all(isinstance(each, str) for each in summary["digests"].values()), "a digest is no text")


def _require(sound: bool, wrong: str) -> None:
    if not sound:
        raise ValueError(wrong)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 < value <= 10_000_000


def _read_curve(folder: Path, summary: Mapping[str, Any]) -> pl.DataFrame:
    path = folder / CURVE_TABLE
    try:
        if path.stat().st_size > _MOST_CURVE:
            raise ValueError(f"it has {path.stat().st_size:,} bytes, expected {_MOST_CURVE:,} at most")
        known = pl.read_parquet_schema(path)
        wanted = [*_COLUMNS, *[name for name in known if name.startswith(("mean_", "loss_"))]]
        table = pl.read_parquet(path, columns=["step", *wanted])
        floats = [pl.col(name).cast(pl.Float64) for name in wanted]
        found = table.with_columns(pl.col("step").cast(pl.Int64), *floats).with_columns(
            pl.when(pl.col(name).is_finite()).then(name) for name in wanted
        )
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        raise RunFolderError(f"{path} can't be read: {(str(error).splitlines() or ['?'])[0][:160]}", hint=_HINT) from error
    if found["step"].to_list() != list(range(1, summary["steps"] + 1)):
        raise RunFolderError(f"{path} hasn't the {summary['steps']:,} steps of {SUMMARY}", hint=_HINT)
    return found
