"""What the learners of pictures share: what they refuse, and how a fit report is stored beside the weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from studbook.arrays import Batch, Kind, Space
from studbook.errors import CheckpointError, FitError
from studbook.learners.checks import refuse_rows, require_fittable, require_varied
from studbook.records import FitReport

_MARGIN = 1e-6
"""Rounding, as a share of the range."""


def require_pictures(data: Batch, learner: str) -> None:
    """Refuse what isn't pictures within their range of values.

    Raises:
        FitError: Another kind, no records, NaN, a weight that isn't positive, or a pixel out of range; the message names the records.
    """
    require_fittable(data, (Kind.IMAGES,), learner)
    low, high = data.space.value_range
    margin = _MARGIN * (high - low)
    outside = np.any((data.flat < low - margin) | (data.flat > high + margin), axis=1)
    refuse_rows(outside, f"a pixel outside {low:g} … {high:g}, the pictures' range of values")


def require_original_pictures(data: Batch, learner: str) -> None:
    """The same for original data, which must also vary.

    Raises:
        FitError: See ``require_pictures``; or one record, or equal ones.
    """
    require_pictures(data, learner)
    require_varied(data, learner)


def require_same_space(start: Space, space: Space) -> None:
    """Refuse to go on from a model of other pictures.

    Raises:
        FitError: Says both shapes.
    """
    if start.shape != space.shape:
        raise FitError(f"the model to start from makes pictures of {start.shape}, the data hold {space.shape}", hint="use equal pictures")


def require_same_design(where: str, got: object, expected: Mapping[str, Any]) -> None:
    """Refuse a checkpoint whose network is built otherwise.

    Raises:
        CheckpointError: Names the first difference.
    """
    for name, value in expected.items():
        found = got.get(name) if isinstance(got, dict) else None
        if found != value:
            message = f"{where} is of another architecture: its {name} is {found!r}, expected {value!r}"
            raise CheckpointError(message, hint="set the learner and the data as they were when it was trained")


def report_as_table(report: FitReport) -> dict[str, Any]:
    """A report as JSON values."""
    return dataclasses.asdict(report)


def report_of_table(where: str, table: object) -> FitReport:
    """The report that a checkpoint holds.

    Raises:
        CheckpointError: It holds none, or something else.
    """
    fields = {field.name for field in dataclasses.fields(FitReport)}
    if not isinstance(table, dict) or set(table) != fields or not all(isinstance(v, int | float | str | None) for v in table.values()):
        raise CheckpointError(f"{where} doesn't say how its fit went", hint="train or copy it again")
    return FitReport(**table)
