"""Checkpoints of a training run: one file, written whole or not at all."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studbook.errors import RecordError, RunFolderError, SchemaVersionError
from studbook.files import write_file
from studbook.protocols.messages import Message
from studbook.protocols.team import Event
from studbook.protocols.training_run import SCHEMA, Evaluation, StepRow
from studbook.protocols.values import MAX_BYTES

NAME = "checkpoint.bin"
_SERVER = "server"
_SEAL = 32
"""Bytes of SHA-256 at the end."""


@dataclass(frozen=True, slots=True, eq=False)
class Saved:
    """A run after some steps.

    Attributes:
        settings: What determines it.
        step: Steps taken.
        fields: The rows so far, and the rest, as JSON's types.
        states: Each live node's, as messages that give it back; none where a server holds the model.
        server: The server's.
    """

    settings: Mapping[str, Any]
    step: int
    fields: Mapping[str, Any]
    states: Mapping[int, Message]
    server: Message | None = None

    @property
    def rows(self) -> list[StepRow]:
        """As they were recorded."""
        return [
            StepRow(step, tuple(losses), before, spread, sent, live) for step, losses, before, spread, sent, live in self.fields["rows"]
        ]

    @property
    def evaluations(self) -> list[Evaluation]:
        """As they were made."""
        return [Evaluation(step, node, measures) for step, node, measures in self.fields["evaluations"]]

    @property
    def events(self) -> list[Event]:
        """As they happened."""
        return [Event(*each) for each in self.fields["events"]]


def save_checkpoint(folder: Path, saved: Saved) -> None:
    """Write a checkpoint in the place of the one before.

    Raises:
        StorageError: The disk refused; the one before is still there.
    """
    fields = {"schema": SCHEMA, "settings": dict(saved.settings), "step": saved.step, "nodes": sorted(saved.states), "run": saved.fields}
    holders = {**{str(i): state for i, state in saved.states.items()}, **({_SERVER: saved.server} if saved.server is not None else {})}
    arrays = {f"{holder}/{name}": part for holder, state in holders.items() for name, part in state.arrays.items()}
    data = Message("checkpoint", fields, arrays).encode()
    write_file(folder / NAME, data + hashlib.sha256(data).digest())


def load_checkpoint(folder: Path, settings: Mapping[str, Any]) -> Saved | None:
    """The checkpoint of a run with these settings, ``None`` where there is none yet.

    Raises:
        RunFolderError: It is damaged, or another run's.
        SchemaVersionError: A newer studbook wrote it.
    """
    path = folder / NAME
    if not path.exists():
        return None
    try:
        if path.stat().st_size > MAX_BYTES:
            raise RecordError(f"{path} is longer than any checkpoint")
        data = path.read_bytes()
        if hashlib.sha256(data[:-_SEAL]).digest() != data[-_SEAL:]:
            raise RecordError("it isn't what was written")
        found = Message.decode(data[:-_SEAL], str(path))
        schema = found.fields.get("schema")
        if type(schema) is int and schema > SCHEMA:
            raise SchemaVersionError(f"{path} has schema {schema}, this studbook reads {SCHEMA}", hint="upgrade studbook")
        saved = _read(found)
        _ = saved.rows, saved.evaluations, saved.events
    except (RecordError, OSError, KeyError, TypeError, ValueError) as error:
        raise RunFolderError(f"the checkpoint {path} is damaged: {error}", hint="remove it to begin anew") from error
    if _plain(saved.settings) != _plain(settings):
        raise RunFolderError(f"{folder} holds the checkpoint of another run", hint="choose another folder with --out")
    return saved


def _read(found: Message) -> Saved:
    fields = found.fields
    nodes, n, server = fields["nodes"], fields["settings"]["nodes"], _state(found, _SERVER)
    if bool(nodes) == (server is not None) or any(type(i) is not int or not 0 <= i < n for i in nodes):
        raise RecordError("its nodes aren't the run's")
    states = {int(i): _state(found, str(i)) or Message("restore") for i in nodes}
    run = fields["run"]
    if found.kind != "checkpoint" or fields["schema"] != SCHEMA or not math.isfinite(run["noise"]) or run["sent"] < 0:
        raise RecordError("its fields aren't a checkpoint's")
    if (
        type(fields["step"]) is not int
        or len(run["rows"]) != fields["step"]
        or any("parameters" not in each.arrays for each in (*states.values(), *([] if server is None else [server])))
    ):
        raise RecordError("its rows or states aren't those of its step")
    return Saved(fields["settings"], fields["step"], run, states, server)


def _state(found: Message, holder: str) -> Message | None:
    """What a node or the server held; ``None`` where there is nothing of it."""
    arrays = {name.removeprefix(f"{holder}/"): part for name, part in found.arrays.items() if name.startswith(f"{holder}/")}
    return Message("restore", {"step": found.fields["step"]}, arrays) if arrays else None


def _plain(value: Any) -> Any:
    """As JSON gives it back: tuples are lists there."""
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
