"""The forms of a verifier's requests and answers, as its OpenAPI schema shows them."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from studbook.records.canonical import MAX_BYTES

Sha: TypeAlias = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Hex32: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Hex64: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Key: TypeAlias = Annotated[str, Field(pattern=r"^ed25519:[A-Za-z0-9_-]{43}$")]
SignedText: TypeAlias = Annotated[str, Field(min_length=2, max_length=MAX_BYTES)]


class Form(BaseModel):
    """Strict: no key too many, no text for a number."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ProblemForm(Form):
    """Why a request was refused, or why there is no ballot."""

    code: str = Field(description="Stable: a code of studbook's errors such as SB707, or a word such as queue-full.")
    message: str
    hint: str | None = Field(description="What to do about it.")


class Health(Form):
    """Who the node is, and how busy."""

    version: str
    key: Key = Field(description="The public key that its ballots are signed with.")
    state: Literal["serving", "stopping"]
    n_queued: int
    n_running: int
    queue: int = Field(description="Claims that may wait.")
    accepts_offline_evidence: bool


class ModelForm(Form):
    """A registered model."""

    digest: str
    family: Literal["text", "image"]
    calibrations: list[str] = Field(description="Digests of its calibrations.")


class Models(Form):
    """What claims may be about."""

    models: list[ModelForm]


class Submission(Form):
    """A claim to examine."""

    claim: SignedText = Field(description="The signed claim, as canonical JSON.")
    evidence: SignedText = Field(description="The signed evidence, by the same key.")
    round: Hex32 = Field(description="128 random bits of the coordinator's; the evidence's nonce.")
    electorate: Sha = Field(description="Digest of the voters and of how many votes decide; the ballot counts in no other company.")


class Ticket(Form):
    """Where to ask for the ballot."""

    job: Hex32
    position: int = Field(description="Place in the queue from 1; 0 once it has left it.")


class JobForm(Form):
    """How far a claim is."""

    job: Hex32
    state: Literal["queued", "running", "sealed", "failed"]
    position: int
    voter: Key
    seal: Hex64 | None = Field(description="Commitment to the signed ballot, once there is one.")
    error: ProblemForm | None = Field(description="Why there is no ballot, where it failed.")


class Reveal(Form):
    """The seals of a round."""

    seals: dict[Key, Hex64] = Field(
        min_length=1,
        max_length=1024,
        description="Of all voters that gave one, this node's among them.",
        json_schema_extra={"additionalProperties": False},
    )


class RevealedForm(Form):
    """A ballot that fits its seal."""

    ballot: str = Field(description="The signed ballot, as canonical JSON.")
    salt: Hex32
