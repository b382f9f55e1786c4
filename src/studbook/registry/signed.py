"""Signed claims and receipts, manifests and limits in the register."""

from __future__ import annotations

import hashlib
from typing import Any

from sqlalchemy import Connection, Table, delete, insert, select

from studbook.errors import RecordError, RegisterError
from studbook.provenance import Signed, open_signed
from studbook.records import Claim, DetectorCalibration, Receipt, from_bytes, to_bytes
from studbook.registry.limits import DEFAULTS, false_matches_of
from studbook.registry.schema import claims, limits, manifests, verdicts
from studbook.registry.store import Store
from studbook.registry.values import Limit
from studbook.registry.writing import sha_bytes

MAX_MANIFEST = 16 << 20
"""Most bytes of a content credential."""
MAX_SIGNED = 8 << 20


def put_claim(store: Store, data: bytes) -> str:
    """Keep a signed claim once its signature was checked; gives its ``id``."""
    found = open_signed(data, Claim, "the claim", max_bytes=MAX_SIGNED)
    with store.write() as connection:
        _put(connection, claims, found.id, signer=str(found.key), data=data)
    return found.id


def put_verdict(store: Store, data: bytes) -> str:
    """Keep a signed receipt and the claim in it, once both signatures were checked; gives the receipt's ``id``."""
    found = open_signed(data, Receipt, "the receipt", max_bytes=MAX_SIGNED)
    inner = found.record.claim.encode()
    claim = open_signed(inner, Claim, "the receipt's claim", max_bytes=MAX_SIGNED)
    if found.record.verdict.claim != claim.id:
        raise RecordError(f"the receipt's verdict is on {found.record.verdict.claim}, its claim is {claim.id}", hint="ask for it again")
    with store.write() as connection:
        _put(connection, claims, claim.id, signer=str(claim.key), data=inner)
        _put(connection, verdicts, found.id, signer=str(found.key), data=data, claim=sha_bytes(claim.id))
    return found.id


def verdicts_on(store: Store, claim: str) -> tuple[Signed[Receipt], ...]:
    """The receipts on a claim, signatures checked again."""
    asked = select(verdicts.c.data).where(verdicts.c.claim == name_bytes(claim, "a claim")).order_by(verdicts.c.id)
    with store.read() as connection:
        found = [bytes(row[0]) for row in connection.execute(asked)]
    return tuple(open_signed(data, Receipt, "a receipt in the register", max_bytes=MAX_SIGNED) for data in found)


def claim_of(store: Store, claim: str) -> Signed[Claim]:
    """A signed claim, signature checked again."""
    data = _get(store, claims, claim, "claim")
    return open_signed(data, Claim, "a claim in the register", max_bytes=MAX_SIGNED)


def put_manifest(store: Store, data: bytes) -> str:
    """Keep a content credential under its SHA-256."""
    if not isinstance(data, bytes) or not 0 < len(data) <= MAX_MANIFEST:
        got = f"{len(data):,} bytes" if isinstance(data, bytes) else type(data).__name__
        raise RegisterError(f"a manifest has {got}, expected 1 to {MAX_MANIFEST:,} bytes")
    name = f"sha256:{hashlib.sha256(data).hexdigest()}"
    with store.write() as connection:
        _put(connection, manifests, name, data=data)
    return name


def manifest_of(store: Store, name: str) -> bytes:
    """A content credential by its SHA-256."""
    return _get(store, manifests, name, "manifest")


def _put(connection: Connection, table: Table, name: str, **values: Any) -> None:
    key = sha_bytes(name)
    if connection.execute(select(table.c.id).where(table.c.id == key)).first() is None:
        connection.execute(insert(table).values(id=key, **values))


def _get(store: Store, table: Table, name: str, noun: str) -> bytes:
    with store.read() as connection:
        data = connection.execute(select(table.c.data).where(table.c.id == name_bytes(name, f"a {noun}"))).scalar()
    if data is None:
        raise RegisterError(f"the register has no {noun} {name}", hint="is it another register's?")
    return bytes(data)


def name_bytes(name: str, noun: str) -> bytes:
    """The 32 bytes of a digest from outside.

    Raises:
        RegisterError: No digest.
    """
    from studbook.records.claim import require_sha

    try:
        require_sha(name if isinstance(name, str) else str(type(name)), noun)
    except RecordError as error:
        raise RegisterError(error.message) from error
    return sha_bytes(name)


def put_limit(store: Store, scheme: str, value: float, calibration: DetectorCalibration | None, *, replace: bool = True) -> None:
    """What counts as near from now on; takes the place of an earlier limit, or leaves it."""
    data = None if calibration is None else to_bytes(calibration)
    with store.write() as connection:
        if not replace and connection.execute(select(limits.c.scheme).where(limits.c.scheme == scheme)).first() is not None:
            return
        connection.execute(delete(limits).where(limits.c.scheme == scheme))
        connection.execute(insert(limits).values(scheme=scheme, value=float(value), calibration=data))


def limit_of(connection: Connection, scheme: str) -> Limit | None:
    """The register's own limit for a scheme, else the default, else ``None``."""
    row = connection.execute(select(limits.c.value, limits.c.calibration).where(limits.c.scheme == scheme)).first()
    if row is None:
        return DEFAULTS.get(scheme)
    value, data = row
    if data is None:
        default = DEFAULTS.get(scheme)
        # Whatever is within a smaller limit is within the larger one.
        known = default.false_matches if default is not None and value <= default.value else None
        return Limit(scheme, value, "stated, without a calibration", false_matches=known)
    calibration = from_bytes(DetectorCalibration, bytes(data), "a limit's calibration")
    rate = calibration.false_hits
    basis = (
        f"calibrated: {rate.events} of {rate.units:,} unrelated outputs within it, at most {rate.upper:.2g} at {calibration.confidence:.0%}"
    )
    return Limit(scheme, value, basis, calibration, false_matches_of(calibration))
