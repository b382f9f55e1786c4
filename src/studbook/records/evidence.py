"""What a claimant shows when a verifier asks: openings of what the claim committed to."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import ClassVar

from studbook.errors import RecordError
from studbook.records.claim import require_sha
from studbook.records.codec import STRICT
from studbook.records.digest import Digest
from studbook.records.merkle import Opening

MAX_VALUE = 4 << 20
_NONCE = re.compile(r"(?:[0-9a-f]{32})?")


@dataclass(frozen=True, slots=True)
class Opened:
    """One of the values under a claim's commitment.

    Attributes:
        data: The value's bytes in base64.
        opening: What shows that it lies under the commitment.
    """

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    data: str
    opening: Opening

    @property
    def value(self) -> bytes:
        """The bytes.

        Raises:
            RecordError: Not base64, or too long.
        """
        if len(self.data) > 2 * MAX_VALUE:
            raise RecordError(f"an opened value has {len(self.data):,} characters, expected at most {2 * MAX_VALUE:,}")
        try:
            value = base64.b64decode(self.data, validate=True)
        except (binascii.Error, ValueError) as error:
            raise RecordError(f"an opened value isn't base64: {error}") from error
        if base64.b64encode(value).decode() != self.data:
            raise RecordError("an opened value isn't base64 in its only form")
        return value

    @classmethod
    def of(cls, value: bytes, opening: Opening) -> Opened:
        """From the bytes."""
        return cls(base64.b64encode(value).decode(), opening)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The answer to a challenge.

    Attributes:
        claim: The claim's ``id``.
        nonce: The verifier's 128 random bits in hex; empty where the challenge is drawn from the commitment alone.
        projections: Of a text's hidden states, under the key that the challenge gives; ``None`` for a picture.
        opened: The values under the commitment that the challenge asks for, in order.
    """

    SCHEMA: ClassVar[str] = "studbook.evidence/1"
    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    claim: str
    nonce: str
    projections: Digest | None
    opened: tuple[Opened, ...]

    def __post_init__(self) -> None:
        require_sha(self.claim, "evidence.claim")
        if not _NONCE.fullmatch(self.nonce):
            raise RecordError(f"evidence.nonce is {self.nonce[:80]!r}, expected 32 hex digits, or nothing")
        if not 1 <= len(self.opened) <= 64:
            raise RecordError(f"evidence opens {len(self.opened)} values, expected 1 to 64", hint="empty evidence proves nothing")
