"""A training run's results as files: a summary, the curve, and what every node ended with."""

from __future__ import annotations

import io
import json
from pathlib import Path

from studbook.files import write_file
from studbook.protocols.messages import Message
from studbook.protocols.training_run import TrainingRun

SUMMARY, CURVE, CURVE_TABLE, PARAMETERS = "summary.json", "curve.json", "curve.parquet", "parameters.bin"


def write_run(run: TrainingRun, folder: Path) -> None:
    """Write ``summary.json``, ``curve.json`` and ``curve.parquet`` (one row a step), and ``parameters.bin`` (a message with everybody's).

    Raises:
        StorageError: The disk refused; no file is half-written.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from studbook.protocols import Independent, InProcess, Plan, TrainingSpec, train
        >>> from studbook.protocols.writing import write_run
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_run(train(InProcess(TrainingSpec("quadratic", nodes=1).build()), Independent(), Plan(steps=2)), folder)
        >>> sorted(file.name for file in folder.iterdir())
        ['curve.json', 'curve.parquet', 'parameters.bin', 'summary.json']
    """
    import polars as pl

    curve = run.curve()
    table = io.BytesIO()
    pl.DataFrame(curve, infer_schema_length=None).write_parquet(table)
    write_file(folder / CURVE_TABLE, table.getvalue())
    write_file(folder / CURVE, (json.dumps([_finite(row) for row in curve]) + "\n").encode())
    write_file(folder / PARAMETERS, Message("parameters", {"step": len(run.rows)}, run.held).encode())
    write_file(folder / SUMMARY, (json.dumps(_finite(run.summary()), indent=2) + "\n").encode())


def _finite(value: object) -> object:
    """The same with ``null`` for what JSON has no number for."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and value - value != 0.0 else value
