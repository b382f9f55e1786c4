"""What a screen asks of a witness. Witnesses conform by shape; nothing is inherited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from studbook.pictures import read_picture
from studbook.records import EvidenceKind, Finding, Kind


@dataclass(frozen=True, eq=False)
class Record:
    """One record of a corpus.

    Attributes:
        id: Where it stands: the path within the corpus, and ``#`` with a row or member where a file holds several.
        kind: ``"text"`` or ``"image"``.
        content: SHA-256 of its bytes, ``sha256:…``: a text's UTF-8 in normal form C, a picture's file.
        text: The text; empty for a picture.
        data: The bytes of a picture's file, or of a text's that has a sidecar; else empty.
        sidecar: Bytes of a content credential beside it, or empty.
    """

    id: str
    kind: Kind
    content: str
    text: str = ""
    data: bytes = b""
    sidecar: bytes = b""

    @cached_property
    def pixels(self) -> NDArray[np.uint8]:
        """A picture's pixels ``(h, w, 3)``, unpacked once.

        Raises:
            DataError: They can't be read.
        """
        return read_picture(self.data, self.id)


class Witness(Protocol):
    """One way of finding out where a record comes from.

    Attributes:
        name: Its name in findings.
        evidence: What kind of evidence it gives.
        kinds: Kinds of records that it can look at; it isn't asked about others.
    """

    @property
    def name(self) -> str: ...
    @property
    def evidence(self) -> EvidenceKind: ...
    @property
    def kinds(self) -> frozenset[Kind]: ...

    def examine(self, records: Sequence[Record]) -> list[Finding | None]:
        """A finding for each record, in order; ``None`` where it has nothing to say.

        It doesn't raise on a record that it can't read: that one gets ``None``. What it raises stops the screen.
        """
        ...

    def describe(self) -> Mapping[str, Any]:
        """What determines its findings, as JSON's types: settings, calibration, state of the register; part of the receipt."""
        ...


@runtime_checkable
class Growing(Protocol):
    """A witness that may know more when a screen ends than when it began: a register that others write to."""

    def sizes(self) -> Mapping[str, int]:
        """How much it knows now, by what: ``{"entries": 1000}``."""
        ...


class Detector(Protocol):
    """A pluggable detector of generated texts: a score, and nothing about what it means; that comes from its calibration.

    Attributes:
        name: Its name in findings and calibrations.
        parameters: What determines its scores, sorted by name.
    """

    @property
    def name(self) -> str: ...
    @property
    def parameters(self) -> tuple[tuple[str, str | int | float | bool], ...]: ...

    def scores(self, texts: Sequence[str]) -> Any:
        """One score a text ``(n,)`` float64, higher where it looks more like a model's; not-a-number where it can't tell."""
        ...
