"""The models that a run keeps: saved beside a unit's journal, with a note of what was written, and moved once the unit is finished."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from studbook.files import remove, storage, write_file
from studbook.recursion import Storable, Torn, digests_of
from studbook.study.folder import RunFolder
from studbook.study.plan import Unit


def kept_generations(unit: Unit) -> Sequence[int]:
    """The generations of a unit whose models are to be kept."""
    study = unit.job.cell.study
    return {"none": (), "last": (study.generations,), "all": range(study.generations + 1)}[study.models]


def save_model(run: RunFolder, unit: Unit, generation: int, model: Storable) -> None:
    """Save a generation's model with the journal, and each file's size and SHA-256 beside it.

    Raises:
        StorageError: The disk refused.
    """
    folder, name = _under_way(run, unit), _name(generation)
    model.save(folder / name)
    write_file(_note(run, unit, generation), json.dumps(digests_of(folder, name)).encode())


def models_are_sound(run: RunFolder, unit: Unit, last: int) -> bool:
    """Whether the models of an unfinished unit's generations up to ``last`` are what was written, as far as they are to be kept."""
    places = (_under_way(run, unit), _finished(run, unit))
    for generation in kept_generations(unit):
        if generation > last:
            continue
        written = _read(_note(run, unit, generation))
        if not written or not any(_found(place, _name(generation)) == written for place in places):
            return False
    return True


def keep_models(run: RunFolder, unit: Unit) -> None:
    """Take the models out of a finished unit's work folder, and note the sizes of their files.

    Raises:
        StorageError: The disk refused.
    """
    source, target = _under_way(run, unit), _finished(run, unit)
    with storage(target):
        for path in sorted(path for path in source.iterdir() if path.is_dir()) if source.is_dir() else ():
            target.mkdir(parents=True, exist_ok=True)
            remove(target / path.name)
            path.replace(target / path.name)
    written = [_read(_note(run, unit, generation)) for generation in kept_generations(unit)]
    if any(written):
        sizes = {path: about[0] for files in written for path, about in files.items()}
        write_file(_sizes(run, unit), json.dumps(sizes).encode())


def has_models(run: RunFolder, unit: Unit) -> bool:
    """Whether every model of a finished unit that is to be kept is in the run folder, its files as long as they were."""
    kept, folder = kept_generations(unit), _finished(run, unit)
    if not all((folder / _name(generation)).is_dir() for generation in kept):
        return False
    return not kept or all(
        (folder / path).is_file() and (folder / path).stat().st_size == n for path, n in _read(_sizes(run, unit)).items()
    )


def _name(generation: int) -> str:
    return f"generation-{generation:05d}"


def _under_way(run: RunFolder, unit: Unit) -> Path:
    return run.work(unit.key) / "models"


def _finished(run: RunFolder, unit: Unit) -> Path:
    return run.models(unit.job.cell.index, unit.start)


def _note(run: RunFolder, unit: Unit, generation: int) -> Path:
    return _under_way(run, unit) / f"{_name(generation)}.json"


def _sizes(run: RunFolder, unit: Unit) -> Path:
    return run.path / "units" / f"{unit.key}.models"


def _read(note: Path) -> Mapping[str, Any]:
    """A note; empty where it is missing (an older run has none) or damaged."""
    try:
        written = json.loads(note.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return written if isinstance(written, dict) else {}


def _found(folder: Path, name: str) -> dict[str, list[Any]]:
    try:
        return {path: list(about) for path, about in digests_of(folder, name).items()}
    except Torn:
        return {}
