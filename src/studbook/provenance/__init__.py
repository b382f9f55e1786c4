"""Signing and reading: keys and signed records, content credentials, signed folders, and what data sets say of themselves."""

from studbook.provenance.bindings import SoftBinding, binding_of, check_binding, digest_of_binding, soft_binding_of
from studbook.provenance.certificates import Chain, new_chain, renew_signer
from studbook.provenance.containers import manifest_of, picture_format
from studbook.provenance.credentials import (
    Credential,
    Inspection,
    inspect_credential,
    read_credential,
    verify_credential,
    verify_recovered,
    verify_stream,
)
from studbook.provenance.keys import PublicKey, SigningKey
from studbook.provenance.signed import Signed, open_signed, payload_schema, sign
from studbook.provenance.signing import sign_bytes, sign_picture, sign_stream
from studbook.provenance.statements import Statement
from studbook.provenance.trust import Trust

__all__ = [
    "Chain",
    "Credential",
    "Inspection",
    "PublicKey",
    "Signed",
    "SigningKey",
    "SoftBinding",
    "Statement",
    "Trust",
    "binding_of",
    "check_binding",
    "digest_of_binding",
    "inspect_credential",
    "manifest_of",
    "new_chain",
    "open_signed",
    "payload_schema",
    "picture_format",
    "read_credential",
    "renew_signer",
    "sign",
    "sign_bytes",
    "sign_picture",
    "sign_stream",
    "soft_binding_of",
    "verify_credential",
    "verify_recovered",
    "verify_stream",
]
