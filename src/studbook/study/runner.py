"""Run a plan in a folder: what is done is done, what is missing is run, and what was finished stays."""

from __future__ import annotations

import io
import json
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from studbook.errors import InterruptedRunError, RunFolderError, StudbookError
from studbook.execution import Executor
from studbook.study.folder import RunFolder
from studbook.study.overlays import overlay
from studbook.study.plan import Plan, Unit
from studbook.study.provenance import new_manifest, now
from studbook.study.units import UnitResult, run_unit

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

    def end(self) -> None:
        """No more units."""
        ...


class Silent:
    """Tells nobody."""

    def begin(self, total: int, done: int) -> None:
        """See ``Progress``."""

    def advance(self) -> None:
        """See ``Progress``."""

    def end(self) -> None:
        """See ``Progress``."""


def run_plan(plan: Plan, folder: Path, executor: Executor, progress: Progress | None = None) -> Path:
    """Run what is missing of a plan, then write the measurements and the theory.

    Args:
        plan: The study.
        folder: The run folder; it is created, or continued if it holds a run of the same config and data.
        executor: Where units run.
        progress: Told after every unit.

    Returns:
        The folder.

    Raises:
        FolderBusyError: Another process runs in the folder.
        RunFolderError: The folder holds another study.
        InterruptedRunError: Ctrl-C; finished units stay.
        StorageError: The disk refused; finished units stay.
    """
    run = RunFolder(folder)
    with run.locked():
        manifest = _open_manifest(run, plan)
        run.remove_leftovers()
        with _status(run, manifest, plan):
            missing = [unit for unit in plan.units if run.read_unit(unit.key) is None]
            run.write_manifest(manifest)
            _run_missing(run, plan, missing, executor, progress or Silent())
            _write_results(run, plan)
    return folder


def _open_manifest(run: RunFolder, plan: Plan) -> dict[str, Any]:
    """The manifest to go on with; refuses a folder that holds something else."""
    fresh = new_manifest(plan)
    if run.has_manifest():
        old = run.read_manifest(whole=True)
        if old.get("config_digest") != plan.digest:
            raise RunFolderError(
                f"{run.path} holds a run of another config: {_difference(old['config']['resolved'], fresh['config']['resolved'])}",
                hint="choose another folder with --out, or delete that one",
            )
        fresh |= {"started": old["started"], "seconds": old["seconds"], "cpu_seconds": old["cpu_seconds"]}
    return fresh


def _difference(old: Any, new: list[dict[str, Any]]) -> str:
    """The first thing in which two resolved configs differ."""
    if not isinstance(old, list) or not all(isinstance(cell, dict) for cell in old):
        return "that can't be read"
    if len(old) != len(new):
        return f"{len(old)} cells there, {len(new)} here"
    for before, after in zip(old, new, strict=True):
        for key in sorted({*before, *after}, reverse=True):
            if before.get(key) != after.get(key):
                return f"{key} is {json.dumps(before.get(key))} there, {json.dumps(after.get(key))} here"
    return "its data have changed"


def _run_missing(run: RunFolder, plan: Plan, missing: list[Unit], executor: Executor, progress: Progress) -> None:
    progress.begin(len(plan.units), len(plan.units) - len(missing))
    try:
        for index, data in executor.run(run_unit, missing):
            run.write_unit(missing[index].key, data)
            progress.advance()
    finally:
        progress.end()


@contextmanager
def _status(run: RunFolder, manifest: dict[str, Any], plan: Plan) -> Iterator[None]:
    """Keep the manifest true whatever happens, and count the time."""
    wall, cpu = time.monotonic(), time.process_time()
    ending = "failed"
    try:
        yield
        ending, manifest["finished"] = "finished", now()
    except KeyboardInterrupt:
        ending = "interrupted"
        command = f"studbook study resume {shlex.quote(str(run.path))}"
        raise InterruptedRunError("stopped; finished units are kept", hint=f"go on with: {command}") from None
    finally:
        manifest["seconds"] += time.monotonic() - wall
        manifest["cpu_seconds"] += time.process_time() - cpu
        manifest["status"] = ending
        manifest["units"]["done"] = sum((run.path / "units" / f"{unit.key}.unit").exists() for unit in plan.units)
        try:
            run.write_manifest(manifest)
        except StudbookError:
            if ending == "finished":
                raise


def _write_results(run: RunFolder, plan: Plan) -> None:
    """Put the finished units together."""
    results = []
    for unit in plan.units:
        result = run.read_unit(unit.key)
        if result is None:
            raise RunFolderError(f"the unit {unit.key} is missing or damaged", hint=f"go on with: studbook study resume {run.path}")
        results.append((unit, result))
    measurements = assemble(results)
    run.write("measurements.parquet", _parquet(measurements))
    run.write("theory.parquet", _parquet(overlay(plan, measurements)))
    for unit, result in results:
        if unit.start == 0:
            _write_pictures(run, plan, unit, result)


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
        frames.append(frame.with_columns(pl.lit(value).alias(key) for key, value in unit.job.cell.keys.items()))
    return pl.concat(frames, how="vertical_relaxed").sort("cell", "replicate", "generation", "metric")


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
    run.write(f"{stem}.json", json.dumps(about, ensure_ascii=False).encode())
