"""The screen as a filter of a datatrove pipeline."""

from __future__ import annotations

from typing import Any

from datatrove.data import Document
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.writers.disk_base import DiskWriter

from studbook.screening._collecting import text_record
from studbook.screening.judging import Judgement
from studbook.screening.protocols import Record
from studbook.screening.reading import Limits
from studbook.screening.settings import ScreenSpec, open_screen
from studbook.screening.writing import columns_of


class ScreenFilter(BaseFilter):
    """Drops the documents that a screen rejects, with the reason; the others carry the screen's columns in their metadata.

    Dropped documents go to the exclusion writer, where there is one, with the same columns. A document without text, with half a
    surrogate pair, or of more than 16 MiB passes unjudged. The screen is opened once in each worker.

    Args:
        screen: A screen file, or a screen (where everything runs in one process).
        exclusion_writer: A datatrove writer for what is dropped.
        batch_size: Documents that the witnesses look at together.

    Examples:
        >>> from datatrove.data import Document
        >>> from studbook.screening import Screen
        >>> from studbook.screening.on_datatrove import ScreenFilter
        >>> class Nobody:
        ...     name, evidence, kinds = "nobody", "detector", frozenset({"text"})
        ...     def describe(self): return {}
        ...     def examine(self, records): return [None for _ in records]
        >>> kept = list(ScreenFilter(Screen((Nobody(),))).run([Document(text="A text.", id="1")]))
        >>> kept[0].metadata["origin"]
        'unknown'
    """

    name = "studbook screen"

    def __init__(self, screen: ScreenSpec, exclusion_writer: DiskWriter | None = None, batch_size: int = 256) -> None:
        super().__init__(exclusion_writer, batch_size)
        self._spec = screen
        self._screen: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_screen": None}  # a register is opened where it is used

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """See datatrove."""
        return self.filter_batch([doc])[0]

    def filter_batch(self, batch: list[Document]) -> list[bool | tuple[bool, str]]:
        """See datatrove."""
        if self._screen is None:
            self._screen = open_screen(self._spec)
        found = [text_record(str(doc.id), doc.text, Limits()) for doc in batch]
        readable = [i for i, each in enumerate(found) if isinstance(each, Record)]
        records = [each for each in found if isinstance(each, Record)]
        results: list[bool | tuple[bool, str]] = [True] * len(batch)
        for i, record, judged in zip(readable, records, self._screen.judge(records), strict=True):
            batch[i].metadata.update(columns_of(record, judged))
            if self._screen.rejects(judged):
                results[i] = (False, _tag(judged))
        return results


def _tag(judged: Judgement) -> str:
    """A short reason, the same for many documents: datatrove counts them by it."""
    return f"{judged.origin}_by_{judged.evidence}"
