"""Reading a run folder: the manifest, the measurements, the theory and the pictures."""

from __future__ import annotations

import json
import shlex
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from studbook.arrays import AnyArray
from studbook.errors import RunFolderError
from studbook.report.numerals import percent
from studbook.study.folder import RunFolder

_MEASUREMENTS = {"cell": pl.Int32, "replicate": pl.Int32, "generation": pl.Int32, "metric": pl.String, "value": pl.Float64}
_THEORY = {
    "cell": pl.Int32,
    "metric": pl.String,
    "generation": pl.Int32,
    "mean": pl.Float64,
    "median": pl.Float64,
    "exact": pl.Boolean,
    "source": pl.String,
    "formula": pl.String,
}
_LONGEST_MESSAGE = 300
_FITS = {
    "cell": pl.Int32,
    "replicate": pl.Int32,
    "generation": pl.Int32,
    "steps": pl.Int64,
    "epochs": pl.Int64,
    "loss": pl.Float64,
    "validation": pl.Float64,
    "stopped_early": pl.Boolean,
    "failure": pl.String,
}


def _no_fits() -> pl.DataFrame:
    return pl.DataFrame(schema=_FITS)


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination of the grid.

    Attributes:
        index: Its number in the tables.
        label: A short name, unique in the run: the values of its grid keys, else the manifest's label.
        keys: Grid key to value, as text.
        about: Everything the manifest says of it: learner, mix, data, method.
    """

    index: int
    label: str
    keys: Mapping[str, str] = field(hash=False)
    about: Mapping[str, Any] = field(repr=False, hash=False)


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """What replicate 0 of one cell generated, at a few generations.

    Attributes:
        kind: The kind of the records, as in ``studbook.arrays.Kind``.
        original: Real records: ``(m, h, w[, 3])`` uint8 for images, values for numbers and counts, counts by rank for states and text.
        generations: The same for each generation that was kept, in order.
        original_text: Real blocks (text only).
        texts: Generated blocks by generation (text only).
        prompts: What the first generated blocks of every generation continue, in their order; empty for text without a prompt.
    """

    kind: str
    original: AnyArray | None
    generations: Mapping[int, AnyArray]
    original_text: tuple[str, ...] = ()
    texts: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    prompts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, order=True)
class Failure:
    """A fit that failed; its model is the last one with finite numbers.

    Attributes:
        cell: The cell's number.
        replicate: The replicate.
        generation: The generation.
        message: What went wrong, one line.
    """

    cell: int
    generation: int
    replicate: int
    message: str


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """A run folder's content, checked.

    Attributes:
        folder: Where it lies.
        manifest: The manifest as it was written.
        measurements: Columns ``cell, replicate, generation, metric, value, …``; rows without a value are left out.
        theory: Columns ``cell, metric, generation, mean, median, exact, source, formula``; empty where no theory applies.
        fits: Columns ``cell, replicate, generation, steps, epochs, loss, validation, stopped_early, failure``; empty where no learner is
            trained by gradient steps.
    """

    folder: Path
    manifest: Mapping[str, Any]
    measurements: pl.DataFrame = field(repr=False)
    theory: pl.DataFrame = field(repr=False)
    fits: pl.DataFrame = field(default_factory=_no_fits, repr=False)

    def noted(self, key: str) -> Mapping[str, Any]:
        """A table of the manifest, empty where there is none: what isn't needed to draw may be missing."""
        return table_of(self.manifest, key)

    @property
    def name(self) -> str:
        """The study's name."""
        return str(self.manifest["name"])

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The cells of the grid that have measurements, in order."""
        measured = set(self.measurements["cell"].unique().to_list())
        listed = [c for c in self.manifest["cells"] if c["index"] in measured]
        names = Counter(_short_name(c) for c in listed)
        return tuple(_cell(c, unique=names[_short_name(c)] == 1) for c in listed)

    @property
    def n_replicates(self) -> int:
        """The largest number of replicates that any cell has."""
        return int(self.measurements["replicate"].n_unique())

    @property
    def last_generation(self) -> int:
        """The last generation that was measured."""
        return int(self.measurements["generation"].max())  # type: ignore[arg-type]

    @property
    def failures(self) -> tuple[Failure, ...]:
        """The fits that failed, in order."""
        failed = self.fits.filter(pl.col("failure").is_not_null()).select("cell", "generation", "replicate", "failure")
        return tuple(sorted(Failure(c, g, r, " ".join(message.split())[:_LONGEST_MESSAGE]) for c, g, r, message in failed.iter_rows()))

    @property
    def n_failures(self) -> int:
        """How many fits failed: the manifest knows it also where the table of fits is missing."""
        noted = self.manifest.get("failures")
        return max(len(self.failures), noted if isinstance(noted, int) else 0)

    def pictures(self, cell: int) -> Pictures | None:
        """The samples kept of a cell, or ``None`` where none were.

        Raises:
            RunFolderError: The files are there but damaged; the message names the file.
        """
        stem = self.folder / "samples" / f"cell-{cell:03d}"
        note = stem.with_suffix(".json")
        if not note.is_file():
            return None
        return _pictures(_read_json(note), stem.with_suffix(".npz"), note)


def table_of(parent: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """``parent[key]`` where it is a table, else an empty one."""
    value = parent.get(key)
    return value if isinstance(value, dict) else {}


def load_run(folder: Path) -> Run:
    """Reads a run folder.

    Args:
        folder: A folder that ``studbook study run`` wrote; the run may be unfinished.

    Returns:
        The run, with tables checked for their columns.

    Raises:
        RunFolderError: It is not a run folder, holds no measurement yet, or a file is damaged (the message says which).
        SchemaVersionError: A newer studbook wrote it.

    Examples:
        >>> from pathlib import Path
        >>> load_run(Path("no-such-folder"))
        Traceback (most recent call last):
        studbook.errors.RunFolderError: no-such-folder is not a run folder: it has no manifest.json (studbook study list ...
    """
    folder = Path(folder)
    manifest = RunFolder(folder).read_manifest()
    path = folder / "measurements.parquet"
    if manifest["status"] != "finished" and not path.is_file():
        raise _unfinished(folder, manifest)
    measurements = _read_table(path, _MEASUREMENTS)
    measurements = measurements.filter(pl.col("value").is_not_nan() & pl.col("value").is_not_null())
    if measurements.is_empty():
        raise RunFolderError(f"{folder} holds no measurement yet", hint="resume the study with 'studbook study resume'")
    theory_path = folder / "theory.parquet"
    theory = _read_table(theory_path, _THEORY) if theory_path.is_file() else pl.DataFrame(schema=_THEORY)
    fits_path = folder / "fits.parquet"
    fits = _read_table(fits_path, _FITS) if fits_path.is_file() else _no_fits()
    run = Run(folder, manifest, measurements, theory, fits)
    unknown = set(measurements["cell"].unique().to_list()) - {c.index for c in run.cells}
    if unknown:
        raise RunFolderError(f"measurements.parquet holds cell {min(unknown)}, which manifest.json doesn't know", hint=_DAMAGED)
    return run


def _unfinished(folder: Path, manifest: Mapping[str, Any]) -> RunFolderError:
    """What keeps a run from having results, and what to do."""
    status, units = str(manifest["status"]), table_of(manifest, "units")
    running, done = RunFolder(folder).is_locked(), units.get("done", 0)
    if status == "running":  # its manifest counts units only when it ends
        status, done = "running" if running else "stopped", len(list((folder / "units").glob("*.unit")))
    hint = "wait for it" if running else f"go on with: studbook study resume {shlex.quote(str(folder))}"
    return RunFolderError(f"the run in {folder} is {status}: {done} of {units.get('total', 'its')} units are finished", hint=hint)


def _cell(about: Mapping[str, Any], *, unique: bool) -> Cell:
    index, name = int(about["index"]), _short_name(about)
    named = {str(k): str(v) for k, v in table_of(about, "keys").items()}
    return Cell(index, name if unique else f"{name} #{index}", named, about)


def _short_name(about: Mapping[str, Any]) -> str:
    """What tells the cell apart, short enough for a legend: ``keep 10 %`` or ``samples 100, fresh 5``."""
    parts = [
        (_mix_name(about) or str(value)) if key == "mix" else str(value) if "." not in key else f"{key.rpartition('.')[2]} {value}"
        for key, value in table_of(about, "keys").items()
    ]
    return ", ".join(parts) or str(about["label"]) or "cell"


def _mix_name(about: Mapping[str, Any]) -> str:
    mix = dict(table_of(about, "mix"))
    kind = str(mix.pop("kind", ""))
    if kind == "keep" and isinstance(mix.get("share"), float):
        return f"keep {percent(mix['share'])}".replace("\u00a0", " ")
    plain = {str(k): str(v) for k, v in mix.items() if isinstance(v, int | float | str) and not isinstance(v, bool)}
    # A parameter that its kind is named after goes without its name: "fresh 200", "weighted golden, fresh 2000".
    parts = [value if kind.startswith(name) else f"{name} {value}" for name, value in sorted(plain.items(), key=lambda p: p[0] not in kind)]
    return " ".join(filter(None, [kind, ", ".join(parts)]))


_DAMAGED = "the folder is damaged; 'studbook study resume' writes the tables again"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunFolderError(f"{path} can't be read: {_first_line(error)}", hint=_DAMAGED) from error
    if not isinstance(content, dict):
        raise RunFolderError(f"{path} holds a {type(content).__name__}, expected an object", hint=_DAMAGED)
    return content


def _read_table(path: Path, schema: Mapping[str, Any]) -> pl.DataFrame:
    try:
        table = pl.read_parquet(path)
        missing = [name for name in schema if name not in table.columns]
        if missing:
            raise RunFolderError(f"{path} lacks the column {missing[0]}", hint=_DAMAGED)
        return table.with_columns(pl.col(name).cast(kind) for name, kind in schema.items())
    except (OSError, pl.exceptions.PolarsError) as error:
        raise RunFolderError(f"{path} can't be read: {_first_line(error)}", hint=_DAMAGED) from error


def _pictures(note: Mapping[str, Any], archive: Path, note_path: Path) -> Pictures:
    arrays = _read_arrays(archive) if archive.is_file() else {}
    try:
        named = {int(name.removeprefix("generation-")): a for name, a in arrays.items() if name.startswith("generation-")}
        generations = dict(sorted(named.items()))
        blocks = note.get("generations") if note.get("kind") == "text" else None
        texts = {int(g): tuple(map(str, t)) for g, t in sorted(dict(blocks or {}).items(), key=lambda item: int(item[0]))}
        original_text = tuple(map(str, note.get("original") or ())) if blocks is not None else ()
        prompts = tuple(map(str, note.get("prompts") or ())) if blocks is not None else ()
    except (TypeError, ValueError) as error:
        raise RunFolderError(f"{note_path} or {archive.name} can't be understood: {_first_line(error)}", hint=_DAMAGED) from error
    return Pictures(str(note.get("kind", "")), arrays.get("original"), generations, original_text, texts, prompts)


def _read_arrays(path: Path) -> dict[str, AnyArray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise RunFolderError(f"{path} can't be read: {_first_line(error)}", hint=_DAMAGED) from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
