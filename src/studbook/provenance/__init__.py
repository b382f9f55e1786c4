"""Signing and reading: keys and signed records."""

from studbook.provenance.keys import PublicKey, SigningKey
from studbook.provenance.signed import Signed, open_signed, payload_schema, sign

__all__ = ["PublicKey", "Signed", "SigningKey", "open_signed", "payload_schema", "sign"]
