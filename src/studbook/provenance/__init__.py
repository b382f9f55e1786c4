"""Signing and reading: keys and signed records, content credentials, signed folders, and what data sets say of themselves."""

from studbook.provenance.bindings import SoftBinding, binding_of, check_binding, digest_of_binding, soft_binding_of
from studbook.provenance.certificates import Chain, new_chain, renew_signer
from studbook.provenance.containers import manifest_of, picture_format
from studbook.provenance.credentials import (
    Credential,
    Inspection,
    inspect_credential,
    inspect_stream,
    read_credential,
    verify_credential,
    verify_recovered,
    verify_stream,
)
from studbook.provenance.croissant import DatasetFacts, write_croissant
from studbook.provenance.dataset_card import write_card
from studbook.provenance.keys import PublicKey, SigningKey
from studbook.provenance.model_folders import FolderSignature, read_folder_signature, sign_folder, verify_folder
from studbook.provenance.sidecars import inspect_path, sidecar_of, sign_path, verify_path
from studbook.provenance.signed import Signed, open_signed, payload_schema, read_bounded, read_signed, sign
from studbook.provenance.signing import sign_bytes, sign_picture, sign_stream
from studbook.provenance.statements import Statement
from studbook.provenance.trust import Trust

__all__ = [
    "Chain",
    "Credential",
    "DatasetFacts",
    "FolderSignature",
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
    "inspect_path",
    "inspect_stream",
    "manifest_of",
    "new_chain",
    "open_signed",
    "payload_schema",
    "picture_format",
    "read_bounded",
    "read_credential",
    "read_folder_signature",
    "read_signed",
    "renew_signer",
    "sidecar_of",
    "sign",
    "sign_bytes",
    "sign_folder",
    "sign_path",
    "sign_picture",
    "sign_stream",
    "soft_binding_of",
    "verify_credential",
    "verify_folder",
    "verify_path",
    "verify_recovered",
    "verify_stream",
    "write_card",
    "write_croissant",
]
