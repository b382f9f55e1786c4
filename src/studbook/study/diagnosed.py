"""A diagnosis of a study's models: one for each different pair of learner and data."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from studbook.arrays import Kind
from studbook.errors import ConfigError
from studbook.execution import ProcessExecutor
from studbook.files import write_file
from studbook.protocols.diagnose import Progress, diagnose, prepare_diagnosis
from studbook.protocols.diagnose_records import Diagnosis, Examined, Subject
from studbook.protocols.diagnose_sources import check_learner
from studbook.records.codec import to_plain
from studbook.study.catalog import describe
from studbook.study.config import Cell, apply_overrides, expand, read_study_file
from studbook.study.folder import RunFolder
from studbook.study.keys import code_digest
from studbook.study.plan import divide, load_dataset
from studbook.study.provenance import now, versions
from studbook.study.reserves import reserve_for
from studbook.study.runner import Silent

MAX_MODELS = 8
_REST: Mapping[str, Any] = {
    "study": {"name": "diagnosis", "generations": 0},
    "mix": {"kind": "replace"},
    "metrics": {"names": ["variance"]},
}
"""What a study file has beside data and learner, and a diagnosis doesn't look at."""


def subjects_of(path: Path, overrides: Sequence[str] = ()) -> tuple[Subject, ...]:
    """The models of a study file, of a run folder, or of a file with ``[data]`` and ``[learner]`` alone.

    Each is trained on what generation 0 of the study is trained on.

    Args:
        path: A TOML file, or a run folder.
        overrides: ``KEY=VALUE``, as of ``studbook study run``.

    Raises:
        ConfigError: Not such a file, a learner that can't be diagnosed, or more than 8 different models.
        RunFolderError: Not a run folder.
        DataError: The data can't be read.
    """
    if path.is_dir():
        table = apply_overrides(RunFolder(path).read_manifest(whole=True)["config"]["passed"], overrides)
    else:
        table = read_study_file(path, overrides)
    cells = expand({**_REST, **table})
    chosen: dict[str, Cell] = {}
    for cell in cells:
        chosen.setdefault(repr((describe(cell.learner), cell.source_table, cell.split, cell.study.seed)), cell)
    if len(chosen) > MAX_MODELS:
        message = f"the study has {len(chosen)} different models, at most {MAX_MODELS} are diagnosed in one go"
        raise ConfigError(message, hint="choose one with --set learner.…=…, or write a file with [data] and [learner] alone")
    for cell in chosen.values():
        check_learner(cell.learner)
    return tuple(_subject(cell, cells, alone=len(chosen) == 1) for cell in chosen.values())


def _subject(cell: Cell, cells: tuple[Cell, ...], *, alone: bool) -> Subject:
    dataset = load_dataset(cell.source)
    if dataset.records is None:
        raise ConfigError(f"{dataset.name} is a distribution, expected pictures or text", hint="set data.source")
    total = len(dataset.records)
    reserve = reserve_for(cells, cell, dataset) if cell.split.reserve is None else cell.split.reserve
    share = cell.split.heldout if cell.split.heldout is not None else (0.1 if dataset.space.kind in {Kind.TEXT, Kind.IMAGES} else 0.0)
    n_heldout, n_base = round(share * total), round((cell.split.base or 0.0) * total)
    if total - n_heldout - reserve - n_base < 2:
        message = f"{dataset.name} has {total:,} records: {n_heldout + reserve + n_base:,} are set aside, which leaves nothing to train on"
        raise ConfigError(message, hint="lower data.heldout, data.base or data.reserve")
    original = divide(dataset, seed=cell.study.seed, n_heldout=n_heldout, n_reserve=reserve, n_base=n_base).original
    assert original is not None  # there are records
    name = str(describe(cell.learner)["kind"]) if alone else cell.label
    return Subject(name, cell.learner, original, dataset.name)


def diagnose_study(
    path: Path, asked: Examined, *, overrides: Sequence[str] = (), progress: Progress | None = None
) -> tuple[Diagnosis, ...]:
    """Diagnose every model of a study; all are checked before the first is trained.

    Args:
        path: See ``subjects_of``.
        asked: What to change, how long, how often.
        overrides: See ``subjects_of``.
        progress: Told after every training run.

    Raises:
        ConfigError: See ``subjects_of`` and ``studbook.protocols.diagnose.prepare_diagnosis``.
        FitError: Data that can't be fitted, or a loss that isn't finite.
        MissingExtraError: PyTorch or transformers isn't installed.
    """
    prepared = [prepare_diagnosis(subject, asked) for subject in subjects_of(path, overrides)]
    told: Progress = progress or Silent()
    told.begin(sum(each.n_runs for each in prepared), 0)
    try:
        return tuple(diagnose(each, ProcessExecutor(workers=2), told) for each in prepared)
    finally:
        told.end()


def made_with() -> list[tuple[str, str]]:
    """What the numbers depend on beside the config: versions, machine, code."""
    names = ("studbook", "python", "torch", "transformers", "numpy")
    found = versions(neural=True)
    machine = f"{platform.system()} {platform.machine()}"
    return [*[(name, found[name]) for name in names if name in found], ("Machine", machine), ("Code", code_digest()), ("Made", now())]


def write_diagnoses(found: Sequence[Diagnosis], file: Path) -> dict[str, Any]:
    """Write the results as JSON, with what they were made with, and return what was written.

    Raises:
        StorageError: The disk refused.
    """
    table = {"made_with": dict(made_with()), "models": [to_plain(each) for each in found]}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_file(file, json.dumps(table, indent=1, ensure_ascii=False).encode())
    return table
