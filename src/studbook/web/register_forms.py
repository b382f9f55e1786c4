"""The forms of a register's requests and answers, as its OpenAPI schema shows them.

Those of C2PA's soft binding resolution API have its names; keys that it doesn't know are passed over there, and refused in ours.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from studbook.records import Digest, Entry, Kind, Origin
from studbook.records.entry import MAX_DIGESTS, MAX_NAME, MAX_PARENTS
from studbook.web.schema import Form, Sha

MOST_ENTRIES = 1000
"""Entries of one request."""
MOST_RESULTS = 64
"""Manifests of one answer, however many are asked for: a register gives so many matches."""

Name: TypeAlias = Annotated[str, Field(max_length=MAX_NAME)]


class Algorithm(Form):
    """A soft binding's algorithm."""

    alg: str


class Algorithms(Form):
    """What can be asked for."""

    watermarks: list[Algorithm]
    fingerprints: list[Algorithm]


class BindingQuery(BaseModel):
    """A soft binding."""

    model_config = ConfigDict(strict=True, frozen=True)

    alg: str = Field(description="One of those that are supported.")
    value: str = Field(description="The fingerprint in base64.")


class MatchForm(Form):
    """A manifest that may be the asset's."""

    manifestId: str = Field(description="To ask for at /manifests/{manifestId}: the SHA-256 of its store.")  # noqa: N815
    similarityScore: int = Field(  # noqa: N815
        ge=0, le=100, description="100 for the same bytes or fingerprint, 0 at the largest distance that counts."
    )


class Matches(Form):
    """The manifests, the best first."""

    matches: list[MatchForm]


class DigestForm(Form):
    """A fingerprint."""

    scheme: str
    version: int
    parameters: dict[str, str | int | float | bool]
    bits: str = Field(description="In base64url, without padding.")


class NewEntry(Form):
    """An output to enter; its manifest, if it has one, is sent to /manifests."""

    content: Sha = Field(description="SHA-256 of the output's bytes.")
    kind: Kind
    origin: Origin
    model: Name = ""
    source: Name = ""
    digests: list[DigestForm] = Field(default=[], max_length=MAX_DIGESTS)
    parents: list[Sha] = Field(default=[], max_length=MAX_PARENTS)

    def record(self, made: str) -> Entry:
        """As the register has it.

        Raises:
            RecordError: A name that isn't printable.
            DigestError: A fingerprint that isn't one.
        """
        return Entry(
            content=self.content, kind=self.kind, origin=self.origin, model=self.model, source=self.source, made=made,
            digests=tuple(Digest.from_json(each.model_dump()) for each in self.digests), parents=tuple(self.parents),
        )  # fmt: skip


class EntryForm(Form):
    """An output that is known."""

    content: Sha
    kind: Kind
    origin: Origin
    model: str
    source: str
    digests: list[DigestForm]
    parents: list[Sha]
    manifest: str = Field(description="SHA-256 of its manifest store, or empty.")
    made: str = Field(description="When it was entered, in UTC.")

    @classmethod
    def of(cls, entry: Entry) -> EntryForm:
        """From the register's."""
        return cls(
            content=entry.content, kind=entry.kind, origin=entry.origin, model=entry.model, source=entry.source, manifest=entry.manifest,
            digests=[DigestForm(**each.to_json()) for each in entry.digests], parents=list(entry.parents), made=entry.made,
        )  # fmt: skip


class Entries(Form):
    """All that is known of one content."""

    entries: list[EntryForm]


class NewEntries(Form):
    """Outputs to enter, all of them or none."""

    entries: list[NewEntry] = Field(min_length=1, max_length=MOST_ENTRIES)


class AddedForm(Form):
    """What became of them; they are on the disk."""

    new: int
    known: int


class NewManifest(Form):
    """A signed asset."""

    asset: str = Field(min_length=4, description="Its bytes in base64.")
    mediaType: str = Field(description="Such as image/png, or text/plain.")  # noqa: N815
    manifest: str | None = Field(default=None, description="The manifest store in base64, where it isn't inside the asset.")


class KeptForm(Form):
    """A manifest that was taken in, and the entry that it belongs to."""

    manifestId: str  # noqa: N815
    content: Sha
    new: int
    known: int


class RegisterHealth(Form):
    """What the service grants."""

    version: str
    state: Literal["serving", "stopping"]
    reads: Literal["open", "token"]
    writes: bool
    manifests: bool = Field(description="Whether manifests are taken: whose, its operator says.")
