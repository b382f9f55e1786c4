"""Whose signatures count: root certificates that the reader chose."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from studbook.errors import ConfigError, ProvenanceError
from studbook.provenance.certificates import MAX_PEM, ROOT, common_name, read_certificates

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

MAX_ANCHORS = 256


@dataclass(frozen=True, slots=True)
class Trust:
    """The roots that are trusted, and, where they are named, the signers below them.

    Attributes:
        anchors: Root certificates in PEM, one after the other.
        signers: Common names of the signers that count; empty for whoever has a certificate from one of the roots.

    Raises:
        ConfigError: No certificate, one that isn't a root, or an empty name: such a trust would be in nobody, or in everybody.
    """

    anchors: bytes
    signers: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not self.anchors.strip():
            raise ConfigError("no root certificate is trusted", hint="name one: --trust root.pem")
        for certificate in self._certificates():
            if not _is_authority(certificate):
                name = common_name(certificate.subject)
                raise ConfigError(f"{name[:80]!r} isn't the certificate of a root", hint="trust root.pem, not signer.pem")
        if not all(name.strip() for name in self.signers):
            raise ConfigError("a trusted signer's name is empty", hint="leave --signer out to trust whoever the root certifies")

    @classmethod
    def load(cls, paths: Iterable[Path], *, signers: Iterable[str] = ()) -> Trust:
        """The roots in files of PEM, or in folders that hold a ``root.pem``.

        Raises:
            ConfigError: No file, one that can't be read, or one without a root certificate.
        """
        found = []
        for path in paths:
            file = path / ROOT if path.is_dir() else path
            try:
                with file.open("rb") as opened:
                    found.append(opened.read(MAX_PEM + 1))
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                raise ConfigError(f"the root certificate {file} can't be read: {reason}", hint="--trust root.pem") from error
            _certificates_in(found[-1], str(file), MAX_ANCHORS)
        return cls(b"\n".join(found), frozenset(signers))

    def _certificates(self) -> list[Certificate]:
        return _certificates_in(self.anchors, "the trusted roots", MAX_ANCHORS)

    def check_signer(self, name: str, what: str) -> None:
        """Return nothing where this signer counts.

        Raises:
            ProvenanceError: Others were named.
        """
        if self.signers and name not in self.signers:
            listed = ", ".join(sorted(self.signers))[:200]
            raise ProvenanceError(f"{what} is signed by {name[:80]!r}, who isn't trusted here", hint=f"trusted: {listed}")

    def valid_anchors(self, now: dt.datetime) -> bytes:
        """The roots that are valid at a time, in PEM.

        Raises:
            ProvenanceError: None is.
        """
        from cryptography.hazmat.primitives.serialization import Encoding

        found = self._certificates()
        valid = [each for each in found if each.not_valid_before_utc <= now <= each.not_valid_after_utc]
        if not valid:
            last = max(each.not_valid_after_utc for each in found)
            raise ProvenanceError(f"no trusted root is valid now; the last one expired on {last:%Y-%m-%d}", hint="trust a newer root")
        return b"".join(each.public_bytes(Encoding.PEM) for each in valid)


def _certificates_in(pem: bytes, what: str, most: int) -> list[Certificate]:
    try:
        return read_certificates(pem, what, most=most)
    except ProvenanceError as error:
        raise ConfigError(error.message, hint=error.hint) from error


def _is_authority(certificate: Certificate) -> bool:
    from cryptography import x509

    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False
