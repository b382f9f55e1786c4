"""What records a learner refuses, with the rows and columns named."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from studbook.arrays import AnyArray, Batch, Floats, Ints, Kind, Space
from studbook.errors import ConfigError, FitError
from studbook.theory.laws import Law

_NAMED_ROWS = 5


def require_fittable(data: Batch, kinds: Iterable[Kind], learner: str) -> None:
    """Refuse data that no model of this family can be fitted to.

    Args:
        data: The training set.
        kinds: The kinds of records that the family knows.
        learner: Its name in the catalog, for the message.

    Raises:
        FitError: Wrong kind, no records, NaN or infinity, a state or count out of range, or a weight that isn't positive.

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import Kind, numbers
        >>> require_fittable(numbers(np.array([1.0, np.nan])), [Kind.NUMBERS], "gaussian")
        Traceback (most recent call last):
        ...
        studbook.errors.FitError: record 1 holds NaN or infinity (drop or repair it)
    """
    require_kind(data.space, kinds, learner)
    if len(data) == 0:
        raise FitError(f"{learner} got no records", hint="give it at least one record")
    if data.space.kind in (Kind.NUMBERS, Kind.IMAGES):
        refuse_rows(np.any(~np.isfinite(data.flat), axis=1), "NaN or infinity")
    elif data.space.kind is Kind.STATES:
        n_states = data.space.n_states
        refuse_rows((data.values < 0) | (data.values >= n_states), f"a state outside 0 … {n_states - 1}")
    elif data.space.kind is Kind.COUNTS:
        refuse_rows(data.values < 0, "a negative count")
    if data.weights is not None:
        refuse_rows(~(np.isfinite(data.weights) & (data.weights > 0)), "a weight that isn't a positive number")


def require_kind(space: Space, kinds: Iterable[Kind], learner: str) -> None:
    """Refuse a space whose kind of records the family doesn't know."""
    known = tuple(kinds)
    if space.kind not in known:
        names = " or ".join(kind.value for kind in known)
        raise FitError(f"{learner} models {names}, the data hold {space.kind.value}", hint="choose another learner or other data")


def refuse_rows(bad: AnyArray, what: str) -> None:
    """Raise a ``FitError`` that names the records where ``bad`` ``(n,)`` is true."""
    rows = np.flatnonzero(bad)
    if len(rows):
        repair = "drop or repair it" if len(rows) == 1 else "drop or repair them"
        raise FitError(f"{name_rows(rows)} {'holds' if len(rows) == 1 else 'hold'} {what}", hint=repair)


def name_rows(rows: Ints) -> str:
    """``"record 3"``, ``"records 3, 5, 8"`` or ``"records 3, 5, 8, 9, 12 and 40 more"``; rows count from 0."""
    listed = ", ".join(str(row) for row in rows[:_NAMED_ROWS])
    more = f" and {len(rows) - _NAMED_ROWS} more" if len(rows) > _NAMED_ROWS else ""
    return f"record{'s' if len(rows) > 1 else ''} {listed}{more}"


def name_columns(columns: AnyArray, space: Space) -> str:
    """The columns' names where the space has them, else their indices from 0; the first few."""
    names = [f"'{space.columns[c]}'" if c < len(space.columns) else str(c) for c in columns[:_NAMED_ROWS].tolist()]
    more = f" and {len(columns) - _NAMED_ROWS} more" if len(columns) > _NAMED_ROWS else ""
    return f"column{'s' if len(columns) > 1 else ''} {', '.join(names)}{more}"


def require_varied(data: Batch, learner: str) -> None:
    """Refuse *original* data without variance: a study of what is lost needs something to lose.

    Later generations may have no variance left; that is a collapsed model, and no error. Pictures may have constant pixels (the
    corners of a digit), but not all of them.

    Raises:
        FitError: One record, or a constant column; the message names it.
    """
    if len(data) < 2:
        raise FitError(f"{learner} got {len(data)} original record, expected 2 or more", hint="one record has no variance")
    constant = np.flatnonzero(data.flat.min(axis=0) == data.flat.max(axis=0))
    if len(constant) and (data.space.kind is Kind.NUMBERS or len(constant) == data.space.dimension):
        what = name_columns(constant, data.space) if data.space.kind is Kind.NUMBERS else "every pixel"
        verb = "are" if len(constant) > 1 and data.space.kind is Kind.NUMBERS else "is"
        raise FitError(f"{what} {verb} constant in the original data, expected some variance", hint="drop it or use other data")


def require_size(n: int, what: str) -> None:
    """Refuse a negative number of records."""
    if n < 0:
        raise ConfigError(f"{what} is {n}, expected 0 or more", hint="ask for a number of records")


def require_single(n_replicates: int) -> None:
    """Refuse to draw records from a model of several replicates."""
    if n_replicates != 1:
        raise FitError(f"the model holds {n_replicates} replicates, records come from one", hint="draw statistics instead")


def record_weights(data: Batch) -> Floats:
    """The weights of the records, 1 each where none are given: ``(n,)``."""
    return np.ones(len(data)) if data.weights is None else data.weights


def wrong_law(learner: str, law: Law) -> FitError:
    """The error for a law of another family."""
    return FitError(f"{learner} can't use a {type(law).__name__}", hint="pass a law of the learner's own family")
