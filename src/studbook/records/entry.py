"""An entry of the register: an output that is known, and what is known of where it came from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal, TypeAlias

from studbook.errors import RecordError
from studbook.records.claim import require_sha, require_time
from studbook.records.codec import STRICT
from studbook.records.digest import Digest

Kind: TypeAlias = Literal["text", "image", "tokens", "bytes"]
Origin: TypeAlias = Literal["generated", "human", "unknown"]

MAX_NAME = 512
MAX_DIGESTS = 16
MAX_PARENTS = 1024


@dataclass(frozen=True, slots=True)
class Entry:
    """What the register knows of one output. Two outputs with the same bytes from the same source and model are one entry.

    Attributes:
        content: SHA-256 of the output's bytes, ``sha256:…``: a text's UTF-8 in normal form C, a picture's file or, without one, its pixels.
        kind: What it is.
        origin: Made by a model, or known to be a person's.
        model: Digest or name of the model that made it; empty for a person's.
        source: Where the entry comes from: ``claim:sha256:…``, ``study:NAME-DIGEST/cell/replicate/generation``, or words.
        digests: Fingerprints, for the look-up of what is near.
        parents: What it was made from: contents, claims, models, data sets, by digest.
        manifest: SHA-256 of the content credential that belongs to it, or empty.
        made: When it was entered, in UTC; two entries that differ in this alone are the same.
    """

    SCHEMA: ClassVar[str] = "studbook.entry/1"
    MAX_BYTES: ClassVar[int] = 1 << 20
    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    content: str
    kind: Kind
    origin: Origin
    model: str = ""
    source: str = ""
    digests: tuple[Digest, ...] = ()
    parents: tuple[str, ...] = ()
    manifest: str = ""
    made: str = "1970-01-01T00:00:00Z"

    def __post_init__(self) -> None:
        require_sha(self.content, "entry.content")
        require_time(self.made, "entry.made")
        if self.manifest:
            require_sha(self.manifest, "entry.manifest")
        _require_name(self.model, "entry.model")
        _require_name(self.source, "entry.source")
        if len(self.digests) > MAX_DIGESTS or len(self.parents) > MAX_PARENTS:
            raise RecordError(
                f"an entry has {len(self.digests)} fingerprints and {len(self.parents)} parents, at most {MAX_DIGESTS} and {MAX_PARENTS:,}"
            )
        for parent in self.parents:
            require_sha(parent, "entry.parents")


@lru_cache(maxsize=1024)
def _require_name(text: str, where: str) -> None:
    """Names are few, entries many."""
    if len(text) > MAX_NAME or not text.isprintable():
        raise RecordError(f"{where} is {text[:80]!r}, expected up to {MAX_NAME} printable characters")
