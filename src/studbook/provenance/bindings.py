"""Soft bindings: a fingerprint in a credential, by which it is found again once it was stripped from a picture."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from studbook.errors import ConfigError, DigestError, ProvenanceError
from studbook.fingerprints import FINGERPRINTS, Fingerprint, PerceptualHash, create, distance
from studbook.fingerprints.pixels import Bytes
from studbook.records import Digest

SOFT_BINDING = "c2pa.soft-binding"
PREFIX = "org.studbook"
_ALG = re.compile(r"org\.studbook\.([a-z][a-z0-9_]{0,31})\.([1-9][0-9]{0,3})((?:\.[a-z][a-z0-9_]{0,31}-[A-Za-z0-9_]{1,32}){0,8})")
_MAX_VALUE = 1 << 16


@dataclass(frozen=True, slots=True)
class SoftBinding:
    """A fingerprint as C2PA writes it.

    Attributes:
        alg: Name of the algorithm, such as ``org.studbook.phash.1``.
        value: The fingerprint in base64.
    """

    alg: str
    value: str

    def to_json(self) -> dict[str, Any]:
        """The data of the assertion: it is of the whole output."""
        return {"alg": self.alg, "blocks": [{"scope": {}, "value": self.value}]}


def soft_binding_of(picture: Bytes) -> SoftBinding:
    """The soft binding of a picture: its perceptual hash of 64 bits.

    Args:
        picture: uint8 ``(h, w)`` or ``(h, w, 3)``; see ``studbook.pictures.read_picture``.

    Raises:
        DataError: Not a picture.

    Examples:
        >>> import numpy as np
        >>> from studbook.provenance.bindings import soft_binding_of
        >>> soft_binding_of(np.arange(64, dtype=np.uint8).reshape(8, 8)).alg
        'org.studbook.phash.1'
    """
    return binding_of(PerceptualHash().digest(picture))


def binding_of(digest: Digest) -> SoftBinding:
    """A fingerprint's soft binding; parameters other than the scheme's own become part of the algorithm's name.

    Raises:
        ConfigError: The catalog has no such scheme, or the name would be none.
    """
    own = dict(create(digest.scheme).parameters)
    more = "".join(f".{name}-{value}" for name, value in digest.parameters if own.get(name) != value)
    alg = f"{PREFIX}.{digest.scheme}.{digest.version}{more}"
    if not _ALG.fullmatch(alg):
        raise ConfigError(f"the fingerprint {alg[:80]!r} has no name as a soft binding", hint="use phash, pdq or another of the catalog")
    return SoftBinding(alg, base64.b64encode(digest.bits).decode())


def digest_of_binding(binding: SoftBinding) -> Digest:
    """The fingerprint in a soft binding.

    Raises:
        DigestError: Of another maker, of another version, or not base64.

    Examples:
        >>> from studbook.provenance.bindings import SoftBinding, digest_of_binding
        >>> str(digest_of_binding(SoftBinding("org.studbook.phash.1", "/wD/AP8A/wA=")))
        'phash/1?size=8:ff00ff00ff00ff00'
    """
    return _open(binding)[1]


def _open(binding: SoftBinding) -> tuple[Fingerprint, Digest]:
    """What makes such a fingerprint, and the one in the binding."""
    match = _ALG.fullmatch(binding.alg)
    if match is None or match[1] not in FINGERPRINTS:
        raise DigestError(f"the soft binding {binding.alg[:80]!r} isn't one of ours", hint=f"ours are {PREFIX}.phash.1 and the like")
    given = dict(part.split("-", 1) for part in match[3].split(".")[1:])
    try:
        fingerprint = create(match[1], {name: int(value) if value.isdigit() else value for name, value in given.items()})
        bits = base64.b64decode(binding.value, validate=True)
    except (ConfigError, binascii.Error, ValueError) as error:
        raise DigestError(
            f"the soft binding {binding.alg} can't be read: {error}"[:300], hint="it is damaged, or of another maker"
        ) from error
    if fingerprint.version != int(match[2]):
        raise DigestError(f"the soft binding {binding.alg} is of version {match[2]}, ours is {fingerprint.version}", hint="update studbook")
    return fingerprint, Digest(fingerprint.scheme, fingerprint.version, fingerprint.parameters, bits)


def read_bindings(data: Any) -> tuple[SoftBinding, ...]:
    """The soft bindings in an assertion's data; of whatever isn't one, none."""
    if not isinstance(data, Mapping) or not isinstance(data.get("alg"), str) or not isinstance(data.get("blocks"), list):
        return ()
    texts = [block.get("value") for block in data["blocks"] if isinstance(block, Mapping)]
    values = [text for text in texts if isinstance(text, str) and len(text) <= _MAX_VALUE and text.isprintable()]
    return tuple(SoftBinding(data["alg"][:128], value) for value in values) if data["alg"].isprintable() else ()


def check_binding(bindings: tuple[SoftBinding, ...], output: Bytes | str, what: str, *, max_distance: Mapping[str, float]) -> float:
    """Return how far an output is from the fingerprints in a credential, where that is near enough to be the same one.

    A credential that was found by fingerprint says which picture or text it was made for. Whoever attaches a real credential to another
    one can't change the fingerprints, which are signed: the distance gives it away.

    Args:
        bindings: Those of the credential, after it was verified as signed.
        output: A picture, uint8 ``(h, w)`` or ``(h, w, 3)``, or a text.
        what: What it is, for the messages.
        max_distance: By scheme the largest distance of the same output, from a calibration: bits, or 0 … 1 for a measure of its own.

    Returns:
        The largest distance of those that were compared, as a share of its limit, 0 … 1.

    Raises:
        ProvenanceError: The credential has no fingerprint that can be compared, or belongs to another output.
        DataError: Not of the kind that the schemes in ``max_distance`` are for.
    """
    shares = []
    noun = "text" if isinstance(output, str) else "picture"
    for binding in bindings:
        try:
            fingerprint, theirs = _open(binding)
            limit = max_distance.get(theirs.scheme)
            if limit is None:
                continue
            found = distance(theirs, fingerprint.digest(output))
        except DigestError:
            continue  # of another maker
        if found > limit:
            raise ProvenanceError(
                f"the credential belongs to another {noun} than {what}: {theirs.scheme} is {found:g} away, expected at most {limit:g}",
                hint="don't rely on it: a real credential was attached to something else",
            )
        shares.append(found / limit if limit else 0.0)
    if not shares:
        raise ProvenanceError(f"the credential has no fingerprint by which it could belong to {what}", hint="ask for the original")
    return max(shares)
