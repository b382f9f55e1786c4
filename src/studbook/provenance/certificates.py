"""One's own certificates: a root that others trust, and a signer whose key signs credentials and folders."""

from __future__ import annotations

import datetime as dt
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from studbook.errors import ConfigError, KeyFileError, ProvenanceError
from studbook.files import replacing_folder, storage, write_file

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate, CertificateBuilder, KeyUsage, Name

ROOT, ROOT_KEY = "root.pem", "root.key"
SIGNER, SIGNER_KEY = "signer.pem", "signer.key"
ROOT_DAYS = 3650
SIGNER_DAYS = 1095
"""A credential without a time stamp of a third party can be checked as long as its signer's certificate is valid."""
MAX_PEM = 1 << 17
MAX_CHAIN = 8
MAX_NAME = 64
_EARLY = dt.timedelta(minutes=5)
"""A certificate begins a little before it was made: clocks differ."""


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """A signer's certificate with those above it, and its key; the key never appears in a text or a message.

    Attributes:
        certificates: In PEM: the signer's own first, then those between it and the root.
        folder: Where they and the key lie.
    """

    certificates: bytes
    folder: Path
    _secret: EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def load(cls, folder: Path) -> Chain:
        """The chain in a folder: ``signer.pem`` with the certificates, ``signer.key`` with the key.

        Raises:
            KeyFileError: A file is missing, others than its owner can read the key, or the two don't belong together.
        """
        certificates = _read_pem(folder / SIGNER)
        chain = cls(certificates, folder, load_key(folder / SIGNER_KEY))
        if chain.leaf.public_key() != chain._secret.public_key():
            raise KeyFileError(f"{folder / SIGNER_KEY} isn't the key of {folder / SIGNER}", hint="keep the two files of one chain together")
        return chain

    @property
    def leaf(self) -> Certificate:
        """The signer's own certificate."""
        return read_certificates(self.certificates, SIGNER)[0]

    @property
    def name(self) -> str:
        """The signer's common name."""
        return common_name(self.leaf.subject)

    def secret_pem(self) -> bytes:
        """The key as PKCS 8 in PEM: for a library that signs, and for nothing else."""
        return key_pem(self._secret)


def new_chain(folder: Path, name: str, *, valid: dt.timedelta = dt.timedelta(days=SIGNER_DAYS), start: dt.datetime | None = None) -> Chain:
    """Make a root and a signer below it (ECDSA P-256), as C2PA wants them, in a new folder.

    ``root.pem`` is for others: whoever trusts it trusts what the signer signs. ``root.key`` makes further signers and belongs in a safe
    place; ``signer.pem`` and ``signer.key`` are what signing needs. Both keys can be read by their owner alone.

    Args:
        folder: A folder that isn't there yet, or is empty.
        name: Who signs: shown to whoever reads a credential, at most 64 characters.
        valid: How long the signer's certificate is valid.
        start: From when on, in UTC; by default from now on.

    Raises:
        ConfigError: An impossible name or time.
        KeyFileError: There is something in the folder: keys are never overwritten.
        StorageError: The disk refused.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from studbook.provenance.certificates import new_chain
        >>> folder = Path(tempfile.mkdtemp(), "chain")
        >>> new_chain(folder, "Example Laboratory").name
        'Example Laboratory'
        >>> sorted(file.name for file in folder.iterdir())
        ['root.key', 'root.pem', 'signer.key', 'signer.pem']
    """
    from cryptography.hazmat.primitives.asymmetric import ec

    _check_name(name)
    with storage(folder):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise KeyFileError(f"{folder} is there already", hint="choose another name; a key is never overwritten")
    begin = (start or dt.datetime.now(dt.UTC)).replace(microsecond=0) - _EARLY
    _check_valid(valid)
    root_key = ec.generate_private_key(ec.SECP256R1())
    root = _root(name, root_key, begin)
    signer_key, signer = _signer(name, root, root_key, (begin, begin + _EARLY + valid))
    with replacing_folder(folder) as made:
        for file, secret in ((ROOT_KEY, root_key), (SIGNER_KEY, signer_key)):
            _write_secret(made / file, secret)
        (made / ROOT).write_bytes(_pem(root))
        (made / SIGNER).write_bytes(_pem(signer))
    return Chain(_pem(signer), folder, signer_key)


def renew_signer(folder: Path, *, valid: dt.timedelta = dt.timedelta(days=SIGNER_DAYS)) -> Chain:
    """A new key and certificate for the signer of a chain, under the same root: whoever trusted the old one trusts the new one.

    Raises:
        ConfigError: An impossible time.
        KeyFileError: The folder holds no root with its key.
        ProvenanceError: The root has expired.
        StorageError: The disk refused.
    """
    _check_valid(valid)
    root, root_key = read_certificates(_read_pem(folder / ROOT), ROOT)[0], load_key(folder / ROOT_KEY)
    if root.public_key() != root_key.public_key():
        raise KeyFileError(f"{folder / ROOT_KEY} isn't the key of {folder / ROOT}", hint="keep the two files of one chain together")
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    if now + valid > root.not_valid_after_utc:
        raise ProvenanceError(
            f"the root is valid until {root.not_valid_after_utc:%Y-%m-%d}, and its signer can't outlive it",
            hint="choose a shorter time, or make a new chain: studbook provenance chain new",
        )
    key, signer = _signer(common_name(root.subject).removesuffix(" root"), root, root_key, (now - _EARLY, now + valid))
    secret = folder / f".writing-{SIGNER_KEY}"
    with storage(folder):
        secret.unlink(missing_ok=True)
        _write_secret(secret, key)
        secret.replace(folder / SIGNER_KEY)
    write_file(folder / SIGNER, _pem(signer))
    return Chain(_pem(signer), folder, key)


def read_certificates(pem: bytes, what: str, *, most: int = MAX_CHAIN) -> list[Certificate]:
    """Certificates in PEM, in order.

    Raises:
        ProvenanceError: None, too many, or not certificates.
    """
    from cryptography import x509

    if len(pem) > MAX_PEM * most:
        raise ProvenanceError(
            f"{what} has {len(pem):,} bytes, expected at most {MAX_PEM * most:,} of certificates", hint="is it another file?"
        )
    try:
        found = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise ProvenanceError(f"there are no certificates in PEM in {what}", hint="expected -----BEGIN CERTIFICATE-----") from error
    if len(found) > most:
        raise ProvenanceError(f"{what} holds {len(found)} certificates, expected at most {most}")
    return found


def load_key(path: Path) -> EllipticCurvePrivateKey:
    """A key on P-256 in a file that only its owner can read.

    Raises:
        KeyFileError: It isn't there, others can read it, or it is no such key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    hint = "make certificates of your own: studbook provenance chain new FOLDER --name NAME"
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(MAX_PEM)
    except (OSError, ValueError) as error:
        raise KeyFileError(f"the key {path} can't be read: {getattr(error, 'strerror', None) or error}", hint=hint) from error
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise KeyFileError(f"the key {path} can be read by others (mode {stat.S_IMODE(mode):o}), expected 600", hint=f"chmod 600 {path}")
    try:
        secret = load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyFileError(f"{path} is no private key in PEM", hint=hint) from error
    if not isinstance(secret, ec.EllipticCurvePrivateKey) or secret.curve.name != "secp256r1":
        raise KeyFileError(f"{path} holds another kind of key, expected ECDSA on P-256", hint=hint)
    return secret


def key_pem(secret: EllipticCurvePrivateKey) -> bytes:
    """A key as PKCS 8 in PEM."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def common_name(name: Name) -> str:
    """The common name in a certificate's name, or the whole name where it has none."""
    from cryptography.x509.oid import NameOID

    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return printable(str(found[0].value) if found else name.rfc4514_string())


def printable(text: str) -> str:
    """A text from outside with what controls a terminal shown as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _root(name: str, key: EllipticCurvePrivateKey, begin: dt.datetime) -> Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    subject = _name(name, f"{name} root"[:MAX_NAME])
    made = (
        _builder(subject, subject, key, (begin, begin + dt.timedelta(days=ROOT_DAYS)))
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .add_extension(_usage(sign=False), critical=True)
    )
    return made.sign(key, hashes.SHA256())


def _signer(
    name: str, root: Certificate, root_key: EllipticCurvePrivateKey, valid: tuple[dt.datetime, dt.datetime]
) -> tuple[EllipticCurvePrivateKey, Certificate]:
    """C2PA wants digitalSignature alone, and one of a few purposes; e-mail protection is the one that every reader knows."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    key = ec.generate_private_key(ec.SECP256R1())
    above = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    made = (
        _builder(_name(name, name), root.subject, key, valid)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(above), critical=False)
    )
    return key, made.sign(root_key, hashes.SHA256())


def _builder(subject: Name, issuer: Name, key: EllipticCurvePrivateKey, valid: tuple[dt.datetime, dt.datetime]) -> CertificateBuilder:
    from cryptography import x509

    made = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    made = made.serial_number(x509.random_serial_number()).not_valid_before(valid[0]).not_valid_after(valid[1])
    return made.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)


def _usage(*, sign: bool) -> KeyUsage:
    from cryptography import x509

    others = dict.fromkeys(("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False)
    return x509.KeyUsage(
        digital_signature=sign, key_cert_sign=not sign, crl_sign=not sign, encipher_only=False, decipher_only=False, **others
    )


def _name(organisation: str, common: str) -> Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    parts = ((NameOID.ORGANIZATION_NAME, organisation), (NameOID.COMMON_NAME, common))
    return x509.Name([x509.NameAttribute(kind, text) for kind, text in parts])


def _check_name(name: str) -> None:
    if not 0 < len(name) <= MAX_NAME - len(" root") or not name.isprintable() or name != name.strip():
        raise ConfigError(f"the signer's name is {name[:80]!r}, expected 1 to {MAX_NAME - 5} printable characters", hint="--name NAME")


def _check_valid(valid: dt.timedelta) -> None:
    if not dt.timedelta(0) < valid < dt.timedelta(days=ROOT_DAYS):
        raise ConfigError(f"the signer's certificate is to be valid for {valid}, expected less than {ROOT_DAYS:,} days", hint="--days 1095")


def _pem(certificate: Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def _read_pem(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_PEM + 1)
    except (OSError, ValueError) as error:
        hint = "make certificates of your own: studbook provenance chain new FOLDER --name NAME"
        raise KeyFileError(f"{path} can't be read: {getattr(error, 'strerror', None) or error}", hint=hint) from error
    return data


def _write_secret(path: Path, secret: EllipticCurvePrivateKey) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(key_pem(secret))
        file.flush()
        os.fsync(file.fileno())
