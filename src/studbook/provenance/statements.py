"""What a credential says of where an output comes from, and how that is written as C2PA's assertions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from studbook.errors import RecordError
from studbook.provenance.bindings import SOFT_BINDING, binding_of
from studbook.records import Digest, Entry, Origin
from studbook.records.canonical import digest_of
from studbook.records.claim import require_sha, require_time
from studbook.records.codec import STRICT, to_bytes, to_plain

ACTIONS = "c2pa.actions"
STATEMENT = "org.studbook.statement"

_IPTC = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_C2PA = "http://c2pa.org/digitalsourcetype/"
GENERATED_TYPES = frozenset({
    f"{_IPTC}trainedAlgorithmicMedia", f"{_IPTC}compositeWithTrainedAlgorithmicMedia", f"{_IPTC}compositeSynthetic",
    f"{_C2PA}trainedAlgorithmicData", f"{_IPTC}algorithmicMedia",
})  # fmt: skip
"""Source types of what a model or a program made, in whole or in part."""
HUMAN_TYPES = frozenset(
    _IPTC + name for name in ("digitalCapture", "computationalCapture", "negativeFilm", "positiveFilm", "print", "digitalCreation",
                              "humanEdits", "minorHumanEdits", "digitalArt", "softwareImage")
)  # fmt: skip
"""Source types of what a person made or photographed."""
_WRITTEN: Mapping[Origin, str] = {
    "generated": f"{_IPTC}trainedAlgorithmicMedia", "human": f"{_IPTC}digitalCreation", "unknown": f"{_C2PA}empty",
}  # fmt: skip
_MAX_TEXT = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What a signer says of an output.

    Attributes:
        origin: Made by a model, or known to be a person's.
        model: Digest or name of the model that made it.
        entry: Digest of the claim or of the register's entry that it belongs to, ``sha256:…``, or empty.
        parents: What it was made from, by digest.
        digests: Fingerprints, so that a stripped credential is found again (soft bindings).
        made: When, in UTC, as the signer says; empty where it isn't said.
    """

    SCHEMA: ClassVar[str] = "studbook.statement/1"
    MAX_BYTES: ClassVar[int] = 1 << 18
    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    origin: Origin
    model: str = ""
    entry: str = ""
    parents: tuple[str, ...] = ()
    digests: tuple[Digest, ...] = ()
    made: str = ""

    def __post_init__(self) -> None:
        if len(self.model) > _MAX_TEXT or not self.model.isprintable():
            raise RecordError(f"statement.model is {self.model[:80]!r}, expected up to {_MAX_TEXT} printable characters")
        for name, values in (("entry", (self.entry,) if self.entry else ()), ("parents", self.parents)):
            for value in values:
                require_sha(value, f"statement.{name}")
        if self.made:
            require_time(self.made, "statement.made")
        if len(self.parents) > 1024 or len(self.digests) > 16:
            raise RecordError(f"a statement has {len(self.parents)} parents and {len(self.digests)} fingerprints, at most 1,024 and 16")

    @classmethod
    def of_entry(cls, entry: Entry) -> Statement:
        """What the register knows of an output, to be signed.

        Examples:
            >>> from studbook.provenance.statements import Statement
            >>> from studbook.records import Entry
            >>> entry = Entry("sha256:" + 64 * "a", "image", "generated", model="pixels-1")
            >>> Statement.of_entry(entry).model
            'pixels-1'
        """
        return cls(
            origin=entry.origin, model=entry.model, entry=digest_of(to_plain(entry)), parents=entry.parents,
            digests=entry.digests, made=entry.made,
        )  # fmt: skip


def definition(statement: Statement, title: str) -> dict[str, Any]:
    """The manifest that says it, as the C2PA library takes it."""
    from studbook import __version__

    action = {"action": "c2pa.created", "digitalSourceType": _WRITTEN[statement.origin]}
    if statement.made:
        action["when"] = statement.made
    return {
        "claim_generator_info": [{"name": "studbook", "version": __version__}],
        "title": title,
        "assertions": [
            {"label": ACTIONS, "data": {"actions": [action]}},
            # As canonical JSON in one text: nothing of it depends on how CBOR or a library writes numbers.
            {"label": STATEMENT, "data": {"json": to_bytes(statement).decode()}},
            *({"label": SOFT_BINDING, "data": binding_of(digest).to_json()} for digest in statement.digests),
        ],
    }
