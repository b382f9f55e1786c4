"""A data set, or a distribution that stands for one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from studbook.arrays import Batch, Space
from studbook.theory.laws import Law


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Real records, or the law they would be drawn from. Exactly one of ``records`` and ``law`` is given.

    Attributes:
        name: Short name, for the report.
        space: What a record is.
        digest: SHA-256 (hex) of the content, or of the law's parameters; it goes into unit keys and the manifest.
        records: All records, in the source's order, or ``None`` for a distribution.
        law: The law (R = 1), or ``None`` for real data.
        origin: Where it comes from and its licence, one sentence, for the report.
        background: Labelled records of all the source's classes, where ``records`` are of some only: what classifiers and feature
            networks are trained on. The digest covers them.
    """

    name: str
    space: Space
    digest: str
    records: Batch | None = None
    law: Law | None = None
    origin: str = ""
    background: Batch | None = None


class Source(Protocol):
    """Something that data come from: a frozen dataclass with its parameters."""

    def load(self) -> Dataset:
        """The data set.

        Raises:
            DataError: It can't be read; the message names the file and the row.
            MissingExtraError: It needs a package that isn't installed.
        """
        ...
