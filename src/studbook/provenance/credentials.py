"""Content credentials, read: whoever gets one back from ``verify_credential`` or ``read_credential`` may rely on it."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from studbook.errors import ProvenanceError, RecordError, SchemaVersionError
from studbook.fingerprints.pixels import Bytes
from studbook.provenance._c2pa import load_c2pa, make_context
from studbook.provenance.bindings import SOFT_BINDING, SoftBinding, check_binding, read_bindings
from studbook.provenance.certificates import printable
from studbook.provenance.containers import manifest_of, picture_format
from studbook.provenance.jumbf import check_store
from studbook.provenance.signing import ANY_BYTES
from studbook.provenance.statements import GENERATED_TYPES, HUMAN_TYPES, STATEMENT, Statement
from studbook.provenance.trust import Trust
from studbook.records import Origin
from studbook.records.codec import from_bytes

_CONTENT = ("assertion.dataHash.mismatch", "assertion.boxesHash.mismatch")
_SAID = {
    **dict.fromkeys(_CONTENT, "the content was changed after it was signed, or the credential belongs to other content"),
    "claimSignature.mismatch": "its signature is wrong: it is forged, or was changed",
    "claimSignature.outsideValidity": "its signer's certificate has expired, or isn't valid yet",
    "signingCredential.expired": "its signer's certificate has expired",
    "signingCredential.invalid": "its signer's certificate isn't one for content credentials",
    "signingCredential.untrusted": "its signer isn't trusted here",
    "assertion.hashedURI.mismatch": "a part of it was changed",
}
_UNTRUSTED = "signingCredential.untrusted"
_NEEDED = (
    ("claimSignature.validated", "claimSignature.mismatch", "its signature couldn't be verified"),
    ("signingCredential.trusted", _UNTRUSTED, "its signer isn't trusted here"),
)


@dataclass(frozen=True, slots=True)
class Credential:
    """What a content credential says.

    Attributes:
        id: Its own name, ``urn:c2pa:…``.
        store: SHA-256 of its bytes, ``sha256:…``: what the register knows it by.
        signer: Common name of who signed.
        issuer: Organisation in the signer's certificate.
        made: When, as the signer or a time stamp says; empty where neither does.
        origin: Made by a model, or a person's; ``"unknown"`` where it doesn't say.
        model: The model, where the credential is one of ours.
        generator: The program that made the credential.
        statement: What a credential of ours says, else ``None``.
        bindings: Fingerprints of what it was made for.
        labels: Names of all that it asserts.
        n_bytes: Its size.
    """

    id: str
    store: str
    signer: str
    issuer: str
    made: str
    origin: Origin
    model: str
    generator: str
    statement: Statement | None
    bindings: tuple[SoftBinding, ...]
    labels: tuple[str, ...]
    n_bytes: int


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a credential claims, and what is wrong with it; nothing in it was verified unless ``problems`` is empty and a trust was given.

    Attributes:
        claimed: What it says of itself.
        problems: What is wrong, one line each; without a trust, that the signer isn't trusted is one of them.
    """

    claimed: Credential
    problems: tuple[str, ...]


def verify_credential(data: bytes, *, trust: Trust, sidecar: bytes | None = None, what: str = "the file") -> Credential:
    """The credential of these bytes, once everything about it was checked; whoever gets a value back may rely on it.

    1. There is one, of bounded size, and its boxes fill each other exactly. 2. It was signed by whom its certificate names. 3. The
    certificate comes from a trusted root, is one for this purpose, and is valid now. 4. Nothing that it asserts was changed. 5. It
    belongs to these bytes, and not one of them was changed. 6. What it says can be read.

    Args:
        data: The file's bytes.
        trust: Whose signatures count.
        sidecar: The credential beside the file; without one, that inside it.
        what: What it is, for the messages.

    Raises:
        ProvenanceError: There is none, or it can't be relied on; the message says why.
        MissingExtraError: The extra ``provenance`` isn't installed.
    """
    found = read_credential(data, trust=trust, sidecar=sidecar, what=what)
    if found is None:
        raise ProvenanceError(f"{what} carries no content credential", hint="look for its sidecar, or ask the register")
    return found


def read_credential(data: bytes, *, trust: Trust, sidecar: bytes | None = None, what: str = "the file") -> Credential | None:
    """``verify_credential``, but ``None`` where there is no credential; one that can't be relied on raises all the same."""
    store = _store_of(data, sidecar, what)
    return None if store is None else _verified(io.BytesIO(data), store, trust, what, embedded=sidecar is None)


def verify_stream(stream: BinaryIO, sidecar: bytes, *, trust: Trust, what: str = "the file") -> Credential:
    """``verify_credential`` for a file that is never as a whole in memory, with a sidecar."""
    check_store(sidecar, f"the credential of {what}")
    return _verified(stream, sidecar, trust, what, embedded=False)


def inspect_credential(
    data: bytes, *, trust: Trust | None = None, sidecar: bytes | None = None, what: str = "the file"
) -> Inspection | None:
    """What a credential claims, and what is wrong with it; ``None`` where there is none. It decides nothing: see ``verify_credential``.

    Raises:
        ProvenanceError: It can't be read at all.
        MissingExtraError: The extra ``provenance`` isn't installed.
    """
    store = _store_of(data, sidecar, what)
    if store is None:
        return None
    claimed, problems = _read(io.BytesIO(data), store, trust, what, embedded=sidecar is None)
    return Inspection(claimed, tuple(problems.values()))


def inspect_stream(stream: BinaryIO, sidecar: bytes, *, trust: Trust | None = None, what: str = "the file") -> Inspection:
    """``inspect_credential`` for a file that is never as a whole in memory, with a sidecar."""
    check_store(sidecar, f"the credential of {what}")
    claimed, problems = _read(stream, sidecar, trust, what, embedded=False)
    return Inspection(claimed, tuple(problems.values()))


def verify_recovered(
    store: bytes, output: Bytes | str, *, trust: Trust, max_distance: Mapping[str, float], what: str = "the picture"
) -> Credential:
    """The credential that was stripped from an output and found again by fingerprint, once everything that still can be was checked.

    The bytes are others than those that were signed. In their place stands the fingerprint within the credential: see ``check_binding``.
    All else is as for ``verify_credential``.

    Args:
        store: The credential's bytes, as the register kept them.
        output: A picture, uint8 ``(h, w)`` or ``(h, w, 3)`` (see ``studbook.pictures.read_picture``), or a text.
        trust: Whose signatures count.
        max_distance: By scheme the largest distance of the same output, from a calibration, for example ``{"phash": 10}``.
        what: What it is, for the messages.

    Raises:
        ProvenanceError: It can't be relied on, or belongs to another output.
        DataError: Not of the kind that the schemes in ``max_distance`` are for.
        MissingExtraError: The extra ``provenance`` isn't installed.
    """
    check_store(store, f"the credential of {what}")
    # No byte of the signed file is known here. One that can't be the file gives one finding, on the content, and no other.
    claimed, problems = _read(io.BytesIO(b"\0"), store, trust, what, embedded=False)
    _refuse({code: text for code, text in problems.items() if code not in _CONTENT}, what)
    trust.check_signer(claimed.signer, what)
    check_binding(claimed.bindings, output, what, max_distance=max_distance)
    return claimed


def _store_of(data: bytes, sidecar: bytes | None, what: str) -> bytes | None:
    """The bytes of the credential, measured (1)."""
    store = manifest_of(data, what) if sidecar is None else sidecar
    if store is not None:
        check_store(store, f"the credential of {what}")
    return store


def _verified(stream: BinaryIO, store: bytes, trust: Trust, what: str, *, embedded: bool) -> Credential:
    claimed, problems = _read(stream, store, trust, what, embedded=embedded)
    _refuse(problems, what)
    trust.check_signer(claimed.signer, what)
    return claimed


def _refuse(problems: Mapping[str, str], what: str) -> None:
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        # Whatever else is wrong says more than that the signer is unknown.
        first = next((text for code, text in problems.items() if code != _UNTRUSTED), next(iter(problems.values())))
        raise ProvenanceError(f"the credential of {what} can't be relied on: {first}{more}", hint="don't rely on what it says")


def _read(stream: BinaryIO, store: bytes, trust: Trust | None, what: str, *, embedded: bool) -> tuple[Credential, dict[str, str]]:
    """What a credential says, and by C2PA's codes what is wrong with it (2 to 5)."""
    anchors = b"" if trust is None else trust.valid_anchors(dt.datetime.now(dt.UTC))
    c2pa = load_c2pa()
    form = picture_format(stream.read(16)) if embedded else ANY_BYTES
    stream.seek(0)
    try:
        with make_context(anchors) as context, c2pa.Reader(form, stream, None if embedded else store, context=context) as reader:
            report = json.loads(reader.json())
    except c2pa.C2paError as error:
        reason = f"{error}"[:200]
        raise ProvenanceError(f"the credential of {what} is damaged or was changed: {reason}", hint="ask for the original") from error
    claimed = _credential(report, store, what)
    problems = dict(_problems(report))
    if claimed.id.encode() not in store:
        problems["store"] = "it is found at two places in the file"
    for code, failed, text in _NEEDED:  # that nothing failed isn't enough
        if code not in set(_successes(report)) and (trust is not None or failed != _UNTRUSTED):
            problems.setdefault(failed, text)
    if trust is not None and not problems and report.get("validation_state") != "Trusted":
        problems["state"] = f"it is {report.get('validation_state')!r}, expected Trusted"
    return claimed, problems


def _problems(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """C2PA's codes of what failed, in the credential and in those of what it was made from, with what they mean."""
    results = report.get("validation_results") or {}
    deltas = [each.get("validationDeltas") or {} for each in results.get("ingredientDeltas") or ()]
    for part in (results.get("activeManifest") or {}, *deltas):
        for each in part.get("failure") or ():
            code = str(each.get("code"))
            told = f"{_short(code)}: {_short(each.get('explanation'))[:160]}"
            where = _short(each.get("url", "")).rpartition("/")[2]
            yield code, f"{_SAID[code]} ({where or code})" if code in _SAID else told


def _successes(report: Mapping[str, Any]) -> Iterator[str]:
    active = (report.get("validation_results") or {}).get("activeManifest") or {}
    return (str(each.get("code")) for each in active.get("success") or ())


def _credential(report: Mapping[str, Any], store: bytes, what: str) -> Credential:
    manifests = report.get("manifests") or {}
    active = manifests.get(report.get("active_manifest"))
    if not isinstance(active, dict):
        raise ProvenanceError(f"the credential of {what} has no active manifest", hint="ask for the original")
    signed = active.get("signature_info") or {}
    assertions = [each for each in active.get("assertions") or () if isinstance(each, dict)]
    statement = _statement(assertions, what)
    generators = active.get("claim_generator_info") or [{}]
    return Credential(
        id=_short(report["active_manifest"]),
        store=f"sha256:{hashlib.sha256(store).hexdigest()}",
        signer=_short(signed.get("common_name")),
        issuer=_short(signed.get("issuer")),
        made=_short(signed.get("time") or (statement.made if statement else "") or _when(assertions)),
        origin=_origin(manifests.values(), active, statement),
        model=statement.model if statement else "",
        generator=" ".join(_short(generators[0].get(name)) for name in ("name", "version")).strip(),
        statement=statement,
        bindings=tuple(found for each in assertions if _label(each) == SOFT_BINDING for found in read_bindings(each.get("data"))),
        labels=tuple(_short(each.get("label")) for each in assertions),
        n_bytes=len(store),
    )


def _statement(assertions: list[dict[str, Any]], what: str) -> Statement | None:
    """What a credential of ours says (6)."""
    found = [each.get("data") for each in assertions if _label(each) == STATEMENT]
    if not found:
        return None
    text = found[0].get("json") if len(found) == 1 and isinstance(found[0], dict) else None
    try:
        if not isinstance(text, str):
            raise RecordError("expected one text")
        return from_bytes(Statement, text.encode(), "the statement", max_bytes=Statement.MAX_BYTES)
    except (RecordError, SchemaVersionError, ValueError) as error:
        raise ProvenanceError(f"the credential of {what} makes a statement that can't be read: {error}"[:400]) from error


def _origin(manifests: Any, active: Mapping[str, Any], statement: Statement | None) -> Origin:
    """Generated, where anything in its history says so: an edited picture of a model's is still a model's."""
    if (statement is not None and statement.origin == "generated") or any(set(_types(each)) & GENERATED_TYPES for each in manifests):
        return "generated"
    if statement is not None:
        return statement.origin
    return "human" if set(_types(active)) & HUMAN_TYPES else "unknown"


def _types(manifest: Any) -> Iterator[str]:
    for action in _actions(manifest.get("assertions") if isinstance(manifest, dict) else None):
        if isinstance(action.get("digitalSourceType"), str):
            yield action["digitalSourceType"]


def _when(assertions: list[dict[str, Any]]) -> str:
    return next((each["when"] for each in _actions(assertions) if isinstance(each.get("when"), str)), "")


def _actions(assertions: Any) -> Iterator[dict[str, Any]]:
    for each in assertions or ():
        if isinstance(each, dict) and _label(each).startswith("c2pa.actions") and isinstance(each.get("data"), dict):
            yield from (action for action in each["data"].get("actions") or () if isinstance(action, dict))


def _label(assertion: Mapping[str, Any]) -> str:
    """An assertion's kind: a second one of a kind has ``__1`` after it."""
    return str(assertion.get("label")).partition("__")[0]


def _short(value: Any) -> str:
    return "" if value is None else printable(str(value)[:256])
