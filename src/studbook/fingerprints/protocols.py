"""What a fingerprint is."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from studbook.records import Digest
from studbook.records.digest import Setting

Parameters: TypeAlias = tuple[tuple[str, Setting], ...]
Packed: TypeAlias = NDArray[np.uint8]


@runtime_checkable
class Fingerprint(Protocol):
    """From outputs to digests: a frozen dataclass whose fields determine the bits, and nothing else does.

    Attributes:
        scheme: Name in the catalog and in every digest.
        version: Rises when a single bit of any output's digest changes.
    """

    scheme: ClassVar[str]
    version: ClassVar[int]

    @property
    def parameters(self) -> Parameters:
        """What determines the bits beside the output; goes into every digest."""
        ...

    def digest(self, output: Any) -> Digest:
        """The digest of one output."""
        ...

    def digests(self, outputs: Any) -> list[Digest]:
        """The digests of many outputs, in order; none for none."""
        ...


@runtime_checkable
class FixedWidth(Fingerprint, Protocol):
    """A fingerprint whose digests all have the same width, for ``studbook.hamming``."""

    def pack(self, outputs: Any) -> Packed:
        """The digests' bits ``(n, n_bytes)`` uint8; bit 0 is the highest bit of byte 0."""
        ...


@runtime_checkable
class OwnMeasure(Protocol):
    """A fingerprint whose digests aren't compared by counting bits."""

    @staticmethod
    def distance(one: Digest, other: Digest) -> float:
        """How far apart two digests are, 0 (no difference seen) … 1.

        Raises:
            DigestError: The digests can't be compared.
        """
        ...


def seal(fingerprint: Fingerprint, packed: Packed) -> list[Digest]:
    """Digests of a fingerprint from their bits ``(n, n_bytes)``."""
    return [Digest(fingerprint.scheme, fingerprint.version, fingerprint.parameters, row.tobytes()) for row in packed]
