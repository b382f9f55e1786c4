"""Exact digest of a text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import ClassVar

import numpy as np

from studbook.fingerprints.protocols import Packed, Parameters, seal
from studbook.fingerprints.words import checked_text, checked_texts
from studbook.records import Digest


@dataclass(frozen=True, slots=True)
class ExactText:
    r"""``text_exact``: SHA-256 (FIPS 180-4) of the UTF-8 of a text in Unicode's normal form C.

    Two texts that are the same to a reader, one with é as a letter and one with e and an accent, have one digest; any other difference,
    case, spaces and line ends included, gives another. Compared by Hamming distance it says "equal" at 0 and nothing above.

    Examples:
        >>> from studbook.fingerprints import ExactText
        >>> composed, apart = ExactText().digests(["caf\u00e9", "cafe\u0301"])
        >>> composed.hamming(apart), ExactText().digest("cafe").hamming(apart) > 0
        (0, True)
    """

    scheme: ClassVar[str] = "text_exact"
    version: ClassVar[int] = 1

    @property
    def parameters(self) -> Parameters:
        """See ``studbook.fingerprints.Fingerprint``."""
        return (("form", "NFC"), ("hash", "sha256"))

    def pack(self, outputs: Iterable[str]) -> Packed:
        """The digests' bits ``(n, 32)`` uint8.

        Raises:
            DataError: Not texts, an empty one, one that is too long, or one with half a surrogate pair.
        """
        found = b"".join(sha256(checked_text(text).encode()).digest() for text in checked_texts(outputs))
        return np.frombuffer(found, np.uint8).reshape(-1, 32)

    def digests(self, outputs: Iterable[str]) -> list[Digest]:
        """The digests of many texts; see ``pack``."""
        return seal(self, self.pack(outputs))

    def digest(self, output: str) -> Digest:
        """The digest of one text; see ``pack``."""
        return self.digests([output])[0]
