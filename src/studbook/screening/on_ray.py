"""The screen as a map over a Ray data set."""

from __future__ import annotations

from typing import Any

from studbook.errors import ConfigError
from studbook.screening._collecting import text_record
from studbook.screening.columns import COLUMNS
from studbook.screening.judging import Screen
from studbook.screening.protocols import Record
from studbook.screening.reading import Limits, Skip
from studbook.screening.settings import ScreenSpec, open_screen
from studbook.screening.writing import columns_of, corpus_names


class ScreenBatches:
    """Adds the screen's columns to batches of a Ray data set; nothing is dropped, so that one can filter by them.

    Use it as a class: each worker opens the screen once. A text that can't be read gets ``origin = "unknown"`` and the reason.

    ::

        dataset.map_batches(ScreenBatches, fn_constructor_args=("screen.toml",), batch_format="pyarrow", concurrency=2)

    Args:
        screen: A screen file, or a screen.
        column: The column of the text.

    Examples:
        >>> import pyarrow as pa
        >>> from studbook.screening import Screen
        >>> from studbook.screening.on_ray import ScreenBatches
        >>> class Nobody:
        ...     name, evidence, kinds = "nobody", "detector", frozenset({"text"})
        ...     def describe(self): return {}
        ...     def examine(self, records): return [None for _ in records]
        >>> ScreenBatches(Screen((Nobody(),)))(pa.table({"text": ["A text."]}))["origin"].to_pylist()
        ['unknown']
    """

    def __init__(self, screen: ScreenSpec, column: str = "text") -> None:
        self._screen: Screen = open_screen(screen)
        self._column = column

    def __call__(self, batch: Any) -> Any:
        """A batch (Arrow table) with the screen's columns."""
        import pyarrow as pa

        if self._column not in batch.column_names:
            raise ConfigError(f"a batch has no column {self._column!r}, but {', '.join(batch.column_names)}", hint="name it with column=")
        found = [text_record(str(i), text, Limits()) for i, text in enumerate(batch.column(self._column).to_pylist())]
        records = [each for each in found if isinstance(each, Record)]
        judged = iter(zip(records, self._screen.judge(records), strict=True))
        rows = [_unread(each) if isinstance(each, Skip) else columns_of(*next(judged)) for each in found]
        kinds = {"string": pa.string(), "float64": pa.float64()}
        batch = batch.rename_columns(corpus_names(batch.column_names))
        for name, kind in COLUMNS:
            batch = batch.append_column(name, pa.array([row[name] for row in rows], kinds[kind]))
        return batch


def _unread(skip: Skip) -> dict[str, Any]:
    texts = {name: "" for name, kind in COLUMNS if kind == "string"}
    return {
        **texts,
        "record": skip.record,
        "origin": "unknown",
        "evidence": "none",
        "p_value": None,
        "reason": skip.reason,
        "findings": "[]",
    }
