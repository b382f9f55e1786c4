"""A review queue as Label Studio's tasks, and its export read back without trust."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studbook.errors import DataError
from studbook.files import write_file
from studbook.records import read_json
from studbook.screening.review import Queue, save_answer
from studbook.screening.scores import Located, count_strata, iterate_uncertain

MAX_BYTES = 256 << 20
MAX_TASKS = 100_000
MAX_TEXT = 100_000
NAME = "origin"
CONFIG = """<View>
  <Text name="text" value="$text"/>
  <Choices name="origin" toName="text" choice="single" showInLine="true">
    <Choice value="generated"/>
    <Choice value="human"/>
    <Choice value="skip"/>
  </Choices>
</View>
"""
"""Labelling interface: paste it into the project's settings."""


def export_tasks(queue: Queue, path: Path) -> int:
    """Write a queue as tasks that Label Studio imports; returns how many.

    Raises:
        StorageError: The disk refused.
    """
    tasks = [_task(stratum, item) for stratum, item in queue.items]
    write_file(path, (json.dumps(tasks, ensure_ascii=False, indent=1) + "\n").encode("utf-8", "backslashreplace"))
    return len(tasks)


def _task(stratum: str, item: Located) -> dict[str, Any]:
    shown = item.text[:MAX_TEXT] or f"(no text: look at {item.record})"
    return {"data": {"text": shown, "record": item.record, "content": item.content, "group": item.group, "stratum": stratum}}


def import_answers(folder: Path, path: Path) -> int:
    """Save the answers of a Label Studio export (JSON or JSON-MIN) in the folder; returns how many, skipped ones included.

    Every record is looked up in the folder: its group and stratum are those that it has there, and its content must be the same. All
    tasks are checked before the first answer is saved. A task without an annotation is left out; of several the last one counts.

    Raises:
        DataError: Not such an export, too large, a record that isn't in the corpus or that needs no review, or another choice.
        StorageError: The disk refused.
    """
    answers = _read(path)
    places: dict[str, Located] = {each.record: each for each in iterate_uncertain(folder) if each.record in answers}
    for record, (content, _) in answers.items():
        found = places.get(record)
        if found is None or (content and content != found.content):
            what = "isn't among the corpus's records whose origin is open" if found is None else "has another content in the corpus"
            raise DataError(f"{path.name}: the record {record[:200]!r} {what}", hint="import the export of this corpus's own queue")
    strata = count_strata(folder)
    for record, (_, choice) in answers.items():
        item = places[record]
        save_answer(folder, item, strata.stratum(item.group, item.bin), choice)
    return len(answers)


def _read(path: Path) -> dict[str, tuple[str, str]]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror}", hint="name Label Studio's JSON export") from error
    tasks = read_json(data, path.name, max_bytes=MAX_BYTES)
    if not isinstance(tasks, list) or len(tasks) > MAX_TASKS:
        raise DataError(f"{path.name} is no list of up to {MAX_TASKS:,} tasks", hint="export as JSON or JSON-MIN")
    found: dict[str, tuple[str, str]] = {}
    for i, task in enumerate(tasks):
        answer = _answer(task, f"{path.name}, task {i}")
        if answer is not None:
            found[answer[0]] = answer[1:]
    return found


def _answer(task: Any, where: str) -> tuple[str, str, str] | None:
    """Record, content and choice of a task; ``None`` where nobody answered it."""
    if not isinstance(task, dict):
        raise DataError(f"{where} is {type(task).__name__}, expected an object", hint="export as JSON or JSON-MIN")
    data = task.get("data", task)
    record, content = (data.get("record"), data.get("content", "")) if isinstance(data, dict) else (None, None)
    if not isinstance(record, str) or not isinstance(content, str):
        raise DataError(f"{where} names no record", hint="import tasks that studbook exported")
    choice = task.get(NAME) if "annotations" not in task else _chosen(task["annotations"], where)
    if choice is None:
        return None
    if choice not in ("generated", "human", "skip"):
        raise DataError(f"{where} has the choice {str(choice)[:80]!r}, expected generated, human or skip", hint="use the exported labels")
    return record, content, choice


def _chosen(annotations: Any, where: str) -> Any:
    """The choice of the last annotation that wasn't cancelled."""
    if not isinstance(annotations, list):
        raise DataError(f"{where}: annotations is no list", hint="export as JSON or JSON-MIN")
    choice: Any = None
    for annotation in annotations:
        if not isinstance(annotation, dict) or annotation.get("was_cancelled"):
            continue
        results = annotation.get("result")
        for result in results if isinstance(results, list) else ():
            chosen = _choices(result)
            if chosen is not None:
                choice = chosen
    return choice


def _choices(result: Any) -> Any:
    if not isinstance(result, dict) or result.get("from_name") != NAME:
        return None
    value: Any = result.get("value")
    choices = value.get("choices") if isinstance(value, Mapping) else None
    return choices[0] if isinstance(choices, list) and len(choices) == 1 else "not exactly one"
