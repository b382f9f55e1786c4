"""A claim on disk: the signed claim, the evidence to send with it, the output, and what the claimant keeps for challenges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from studbook.errors import ConfigError, RecordError
from studbook.files import replacing_folder
from studbook.provenance import Signed, SigningKey, open_signed, read_signed, sign
from studbook.records import Claim, Evidence

if TYPE_CHECKING:
    from studbook.verification.claimant import Made

CLAIM, EVIDENCE, STATES, TEXT = "claim.json", "evidence.json", "states.safetensors", "output.txt"


@dataclass(frozen=True, slots=True)
class Packet:
    """What a verifier is sent.

    Attributes:
        claim: The signed claim.
        evidence: The signed evidence, of the same claimant.
    """

    claim: Signed[Claim]
    evidence: Signed[Evidence]


def read_packet(folder: Path, *, evidence: Path | None = None) -> Packet:
    """Claim and evidence out of a claim's folder.

    Raises:
        ConfigError: One is missing.
        RecordError: They belong to different claims or claimants.
        SignatureError: One was changed.
    """
    claim = read_signed(folder / CLAIM, Claim)
    shown = read_signed(evidence or folder / EVIDENCE, Evidence)
    return pair(claim, shown)


def pair(claim: Signed[Claim], evidence: Signed[Evidence]) -> Packet:
    """Claim and evidence that belong together.

    Raises:
        RecordError: They don't.
    """
    if evidence.key != claim.key:
        raise RecordError("claim and evidence are signed by different keys", hint="the claimant signs both")
    if evidence.record.claim != claim.id:
        raise RecordError("the evidence is for another claim", hint="ask the claimant for that of this one")
    return Packet(claim, evidence)


def require_new(folder: Path) -> None:
    """Refuse a folder that is there: the states of an earlier claim can't be made again.

    Raises:
        ConfigError: There is something of that name.
    """
    if folder.exists():
        raise ConfigError(f"{folder} is there already", hint="choose another name; a claim is never overwritten")


def write_claim_folder(folder: Path, made: Made, key: SigningKey, files: Mapping[str, bytes] | None = None) -> Packet:
    """Write a claim with all that belongs to it, whole or not at all.

    Args:
        folder: Where.
        made: What is claimed.
        key: The claimant's.
        files: Further files by name: the picture.

    Raises:
        ConfigError: There is something of that name.
        StorageError: The disk refused.
    """
    from studbook.verification.claimant import answer, save_states

    require_new(folder)
    claim, evidence = sign(made.claim, key), sign(answer(made.claim, made.states), key)
    with replacing_folder(folder) as temporary:
        (temporary / CLAIM).write_bytes(claim)
        (temporary / EVIDENCE).write_bytes(evidence)
        save_states(temporary / STATES, made.states)
        for name, content in {**({TEXT: made.text.encode()} if made.text else {}), **(files or {})}.items():
            (temporary / name).write_bytes(content)
    return pair(open_signed(claim, Claim, CLAIM), open_signed(evidence, Evidence, EVIDENCE))
