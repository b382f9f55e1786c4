"""Run a plan in a folder: what is done is done, what is missing is run, and what was finished stays."""

from __future__ import annotations

import io
import json
import resource
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from studbook.errors import InterruptedRunError, RunFolderError, StudbookError
from studbook.execution import Executor
from studbook.files import remove, storage
from studbook.recursion import last_finished
from studbook.study.folder import RunFolder
from studbook.study.kept import has_models, keep_models, kept_generations
from studbook.study.overlays import overlay
from studbook.study.plan import Plan, Unit
from studbook.study.provenance import new_manifest, now
from studbook.study.registering import Registering, prepare_registering
from studbook.study.results import UnitResult
from studbook.study.sifted import frame_of
from studbook.study.underway import watched
from studbook.study.units import run_unit

if TYPE_CHECKING:
    import polars as pl


class Progress(Protocol):
    """Who wants to know how far a run is."""

    def begin(self, total: int, done: int) -> None:
        """``total`` units, of which ``done`` were finished before."""
        ...

    def advance(self) -> None:
        """One more unit is finished."""
        ...

    def under_way(self, generations: Sequence[tuple[int, int]]) -> None:
        """From another thread, now and then: the generation that each unit with a journal is making, and the unit's last one."""
        ...

    def out_of_date(self, units: int, generations: int) -> None:
        """Before ``begin``, where code has changed: so many finished units, and generations of others, count no more and are made again."""
        ...

    def end(self) -> None:
        """No more units."""
        ...


class Silent:
    """Tells nobody."""

    def begin(self, total: int, done: int) -> None:
        """See ``Progress``."""

    def advance(self) -> None:
        """See ``Progress``."""

    def under_way(self, generations: Sequence[tuple[int, int]]) -> None:
        """See ``Progress``."""

    def out_of_date(self, units: int, generations: int) -> None:
        """See ``Progress``."""

    def end(self) -> None:
        """See ``Progress``."""


def run_plan(plan: Plan, folder: Path, executor: Executor, progress: Progress | None = None, register: str | None = None) -> Path:
    """Run what is missing of a plan, then write the measurements and the theory.

    Args:
        plan: The study.
        folder: The run folder; it is created, or continued if it holds a run of the same config and data.
        executor: Where units run.
        progress: Told after every unit.
        register: Where every generation's samples are registered; by default where the run that is gone on with had them registered.

    Returns:
        The folder.

    Raises:
        FolderBusyError: Another process runs in the folder.
        RunFolderError: The folder holds another study, or a model that the study starts from or measures with has changed since.
        InterruptedRunError: Ctrl-C; finished units stay.
        StorageError: The disk refused; finished units stay.
    """
    run = RunFolder(folder)
    with run.locked():
        manifest, registering = _open_manifest(run, plan, register)
        run.remove_leftovers()
        with _status(run, manifest, plan):
            missing = [unit for unit in plan.units if run.read_unit(unit.key) is None or not has_models(run, unit)]
            _tell_out_of_date(run, plan, manifest, progress or Silent())
            _remove_stale_work(run, missing)
            run.write_manifest(manifest)
            _run_missing(run, plan, missing, (executor, progress or Silent()), registering)
            manifest |= _write_results(run, plan)
            _remove_work(run, plan)
    return folder


def _open_manifest(run: RunFolder, plan: Plan, register: str | None) -> tuple[dict[str, Any], Registering | None]:
    """The manifest to go on with, and where samples are registered; refuses a folder that holds something else."""
    fresh, old = new_manifest(plan), None
    if run.has_manifest():
        old = run.read_manifest(whole=True)
        if old.get("config_digest") != plan.digest:
            raise RunFolderError(
                f"{run.path} holds a run of another config: {_difference(old['config']['resolved'], fresh['config']['resolved'])}",
                hint="choose another folder with --out, or delete that one",
            )
        _refuse_changed_weights(run, old.get("weights"), fresh["weights"])
        fresh |= {"started": old["started"], "seconds": old["seconds"], "cpu_seconds": old["cpu_seconds"]}
        told = old["units"].get("out_of_date")
        fresh["units"]["out_of_date"] = told if isinstance(told, int) else 0
        before = old.get("register")
        register = before if register is None and isinstance(before, str) else register
    registering = None if register is None else prepare_registering(plan, register, old)
    return fresh | ({} if registering is None else {"register": registering.shown}), registering


def _refuse_changed_weights(run: RunFolder, old: Any, new: dict[str, str]) -> None:
    """Weights are part of the units' keys: with other ones all that was finished would count for nothing, and be made again."""
    for name, digest in old.items() if isinstance(old, dict) else ():  # an older run's manifest has none
        if new.get(name) != digest:
            raise RunFolderError(
                f"the model {name} {'has changed' if name in new else 'is gone'} since the run in {run.path} was begun",
                hint="put the model back as it was, or choose another folder with --out",
            )


def _difference(old: Any, new: list[dict[str, Any]]) -> str:
    """The first thing in which two resolved configs differ."""
    if not isinstance(old, list) or not all(isinstance(cell, dict) for cell in old):
        return "that can't be read"
    if len(old) != len(new):
        return f"{len(old)} cells there, {len(new)} here"
    for before, after in zip(old, new, strict=True):
        if before != after:
            return _first_difference(before, after, "")
    return "its data have changed"


def _first_difference(old: Any, new: Any, name: str) -> str:
    """Where two values differ: the dotted key of the first that isn't a table, and what it is in both; kinds and data settle others."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted({*old, *new}, key=lambda key: (key in {"kind", "data"}, key), reverse=True)
        key = next(key for key in keys if old.get(key) != new.get(key) or (key in old) != (key in new))
        return _first_difference(old.get(key), new.get(key), f"{name}.{key}" if name else key)
    if _names(old) == _names(new) and _names(old):
        index = next(index for index, pair in enumerate(zip(old, new, strict=True)) if pair[0] != pair[1])
        return _first_difference(old[index], new[index], f"{name}.{_names(old)[index]}")
    return f"{name} is {json.dumps(old)} there, {json.dumps(new)} here"


def _names(value: Any) -> list[str]:
    """The names in a list of tables, such as metrics; empty for anything else."""
    tables = value if isinstance(value, list) else []
    return [table["name"] for table in tables] if all(isinstance(table, dict) and "name" in table for table in tables) else []


def _run_missing(run: RunFolder, plan: Plan, missing: list[Unit], how: tuple[Executor, Progress], registering: Registering | None) -> None:
    executor, progress = how
    progress.begin(len(plan.units), len(plan.units) - len(missing))
    run_in_folder = partial(run_unit, folder=run.path.absolute(), registering=registering)
    try:
        with watched(run, missing, progress):
            for index, data in executor.run(run_in_folder, missing):
                unit = missing[index]
                # In this order: a run that is stopped in between still has the journal to take the unit's result from.
                keep_models(run, unit)
                run.write_unit(unit.key, data)
                _remove(run.work(unit.key))
                progress.advance()
    finally:
        progress.end()


def _tell_out_of_date(run: RunFolder, plan: Plan, manifest: dict[str, Any], progress: Progress) -> None:
    """Say what was finished by other code, once: its units stay in the folder, and the manifest counts them."""
    keys = {unit.key for unit in plan.units}
    old = sum(path.stem not in keys for path in (run.path / "units").glob("*.unit"))
    generations = sum(last_finished(path) + 1 for path in (run.path / "work").glob("*") if path.name not in keys)
    units = max(0, old - manifest["units"]["out_of_date"])
    manifest["units"]["out_of_date"] = old
    if units or generations:
        progress.out_of_date(units, generations)


def _remove_stale_work(run: RunFolder, missing: list[Unit]) -> None:
    """Delete the journals of units that won't be run: the code has changed since."""
    keys = {unit.key for unit in missing}
    for path in (run.path / "work").glob("*"):
        if path.name not in keys:
            _remove(path)


def _remove_work(run: RunFolder, plan: Plan) -> None:
    """Delete what only a run that goes on needs."""
    _remove(run.path / "work")
    if all(job.cell.study.models == "none" for job in plan.jobs):
        _remove(run.path / "base")


def _remove(path: Path) -> None:
    with storage(path):
        remove(path)


def _cpu_seconds() -> float:
    """Of this process and of those that it has waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


@contextmanager
def _status(run: RunFolder, manifest: dict[str, Any], plan: Plan) -> Iterator[None]:
    """Keep the manifest true whatever happens, and count the time."""
    wall, cpu = time.monotonic(), _cpu_seconds()
    ending = "failed"
    try:
        yield
        ending, manifest["finished"] = "finished", now()
    except KeyboardInterrupt:
        ending = "interrupted"
        command = f"studbook study resume {shlex.quote(str(run.path))}"
        raise InterruptedRunError("stopped; finished units and generations are kept", hint=f"go on with: {command}") from None
    finally:
        manifest["seconds"] += time.monotonic() - wall
        manifest["cpu_seconds"] += _cpu_seconds() - cpu
        manifest["status"] = ending
        manifest["units"]["done"] = sum((run.path / "units" / f"{unit.key}.unit").exists() for unit in plan.units)
        try:
            run.write_manifest(manifest)
        except StudbookError:
            if ending == "finished":
                raise


def _write_results(run: RunFolder, plan: Plan) -> dict[str, Any]:
    """Put the finished units together, and give what the manifest says of them."""
    results = []
    for unit in plan.units:
        result = run.read_unit(unit.key)
        if result is None:
            raise RunFolderError(f"the unit {unit.key} is missing or damaged", hint=f"go on with: studbook study resume {run.path}")
        results.append((unit, result))
    measurements = assemble(results)
    run.write("measurements.parquet", _parquet(measurements))
    run.write("theory.parquet", _parquet(overlay(plan, measurements)))
    fits = assemble_fits(results)
    if fits.height:
        run.write("fits.parquet", _parquet(fits))
    if sifted := [(unit, result) for unit, result in results if result.sifted]:
        run.write("curation.parquet", _parquet(assemble_curation(sifted)))
    for unit, result in results:
        if unit.start == 0:
            _write_pictures(run, plan, unit, result)
            if result.rejects:
                lines = [json.dumps(reject, ensure_ascii=False) for reject in result.rejects]
                run.write(f"rejects/cell-{unit.job.cell.index:03d}.jsonl", "\n".join([*lines, ""]).encode())
    kept = [unit for unit in plan.units if kept_generations(unit)]
    about = {"models": sum(has_models(run, unit) for unit in kept), "models_missing": sum(not has_models(run, unit) for unit in kept)}
    return {"failures": int(fits["failure"].is_not_null().sum()), **(about if kept else {})}


def assemble(results: list[tuple[Unit, UnitResult]]) -> pl.DataFrame:
    """All measurements in one table, ordered by cell, replicate, generation and metric."""
    import polars as pl

    frames = []
    for unit, result in results:
        columns = result.columns
        frame = pl.DataFrame(
            {
                "cell": np.full(len(columns["value"]), unit.job.cell.index, dtype=np.int32),
                "replicate": columns["replicate"],
                "generation": columns["generation"],
                "metric": pl.Series(result.names, dtype=pl.String).gather(columns["metric"]),
                "value": columns["value"],
                "stderr": columns["stderr"],
                "n": columns["n"],
            }
        ).with_columns(pl.col("stderr").fill_nan(None))
        frames.append(_with_keys(frame, unit))
    return pl.concat(frames, how="vertical_relaxed").sort("cell", "replicate", "generation", "metric")


def assemble_fits(results: list[tuple[Unit, UnitResult]]) -> pl.DataFrame:
    """All fits by gradient steps in one table; generation -1 is a base model that the study pretrained. No rows where there are none."""
    import polars as pl

    schema = {
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
    frames = [
        _with_keys(pl.DataFrame([{"cell": unit.job.cell.index, **row} for row in result.fits], schema=schema), unit)
        for unit, result in results
        if result.fits
    ]
    if not frames:
        return pl.DataFrame(schema=schema)
    return pl.concat(frames, how="vertical_relaxed").sort("cell", "replicate", "generation")


def assemble_curation(results: list[tuple[Unit, UnitResult]]) -> pl.DataFrame:
    """All counts of candidates in one table, by origin and reason; the reason ``kept`` is none."""
    import polars as pl

    frames = [_with_keys(frame_of(result.sifted, result.sifted_names, unit.job.cell.index), unit) for unit, result in results]
    return pl.concat(frames, how="vertical_relaxed").sort("cell", "replicate", "generation", "origin", "reason")


def _with_keys(frame: pl.DataFrame, unit: Unit) -> pl.DataFrame:
    """A column for each key of the grid."""
    import polars as pl

    return frame.with_columns(pl.lit(value).alias(key) for key, value in unit.job.cell.keys.items())


def _parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd", statistics=True)
    return buffer.getvalue()


def _write_pictures(run: RunFolder, plan: Plan, unit: Unit, result: UnitResult) -> None:
    named = {key if key == "original" else f"generation-{int(key):05d}": value for key, value in result.pictures.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **named)
    stem = f"samples/cell-{unit.job.cell.index:03d}"
    run.write(f"{stem}.npz", buffer.getvalue())
    about: dict[str, Any] = {"kind": plan.datasets[unit.job.data_digest].space.kind.value}
    about["generations"] = {k: v for k, v in result.texts.items() if k != "original"} or sorted(
        int(k) for k in result.pictures if k != "original"
    )
    if "original" in result.texts:
        about["original"] = result.texts["original"]
    if result.prompts:
        about["prompts"] = list(result.prompts)
    run.write(f"{stem}.json", json.dumps(about, ensure_ascii=False).encode())
