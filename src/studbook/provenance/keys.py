"""Ed25519 keys in files: the private one for its owner's eyes alone."""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from studbook.errors import KeyFileError, SignatureError
from studbook.files import storage

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_PUBLIC = "ed25519:"
_TEXT = re.compile(r"ed25519:[A-Za-z0-9_-]{43}")
_MAX_FILE = 1 << 14
_FIELD = 2**255 - 19
_EIGHTH = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
# y of the points of small order, in every encoding: under such a key everybody can sign.
_SMALL_ORDER = frozenset({0, 1, _FIELD - 1, _FIELD, _FIELD + 1, _EIGHTH, _FIELD - _EIGHTH})


@dataclass(frozen=True, slots=True)
class PublicKey:
    """Who signed.

    Attributes:
        text: ``ed25519:`` and the key's 32 bytes in base64url.

    Raises:
        SignatureError: Not such a text.
    """

    text: str

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not _TEXT.fullmatch(self.text) or _public_text(self._bytes()) != self.text:
            raise SignatureError(f"{str(self.text)[:80]!r} is no public key", hint="expected ed25519: and 43 characters of base64url")
        if int.from_bytes(self._bytes(), "little") % 2**255 in _SMALL_ORDER:
            raise SignatureError(f"{self.text} is a key under which everybody can sign", hint="make one: studbook key new")

    def _bytes(self) -> bytes:
        try:
            return base64.urlsafe_b64decode(self.text.removeprefix(_PUBLIC) + "=")
        except (binascii.Error, ValueError):
            return b""

    def check(self, data: bytes, signature: bytes) -> None:
        """Return nothing where the signature is this key's, on these bytes.

        Raises:
            SignatureError: It isn't.
        """
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self._bytes()).verify(signature, data)
        except (InvalidSignature, ValueError) as error:
            raise SignatureError(f"the signature isn't {self.text[:20]}…'s on these bytes", hint="signature or key was changed") from error

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, eq=False)
class SigningKey:
    """A private key; its secret never appears in a text or a message.

    Examples:
        >>> from studbook.provenance import SigningKey
        >>> key = SigningKey.generate()
        >>> key.public.check(b"claim", key.sign(b"claim"))
    """

    _secret: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def generate(cls) -> SigningKey:
        """A new key from the operating system's randomness."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return cls(Ed25519PrivateKey.generate())

    @property
    def public(self) -> PublicKey:
        """The public half."""
        return PublicKey(_public_text(self._secret.public_key().public_bytes_raw()))

    def sign(self, data: bytes) -> bytes:
        """64 bytes."""
        return self._secret.sign(data)

    def save(self, path: Path) -> None:
        """Write the key as PKCS 8 in PEM, readable and writable by its owner alone; an existing file is never overwritten.

        Raises:
            KeyFileError: There is a file of that name.
            StorageError: The disk refused.
        """
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        data = self._secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        with storage(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing-")  # mode 600 from the start
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                try:
                    os.link(temporary, path)
                except FileExistsError as error:
                    raise KeyFileError(f"{path} is there already", hint="choose another name; a key is never overwritten") from error
            finally:
                Path(temporary).unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> SigningKey:
        """The key in a file.

        Raises:
            KeyFileError: There is none, others than its owner can read it, or it is no Ed25519 key.
        """
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                data = file.read(_MAX_FILE + 1)
        except (OSError, ValueError) as error:
            raise KeyFileError(
                f"the key {path} can't be read: {getattr(error, 'strerror', None) or error}", hint=f"make one: studbook key new {path}"
            ) from error
        if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise KeyFileError(
                f"the key {path} can be read by others (mode {stat.S_IMODE(mode):o}), expected 600", hint=f"chmod 600 {path}"
            )
        try:
            secret = load_pem_private_key(data[:_MAX_FILE], password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise KeyFileError(f"{path} is no private key in PEM", hint=f"make one: studbook key new {path}") from error
        if not isinstance(secret, Ed25519PrivateKey):
            raise KeyFileError(f"{path} holds another kind of key, expected Ed25519", hint=f"make one: studbook key new {path}")
        return cls(secret)


def _public_text(data: bytes) -> str:
    return _PUBLIC + base64.urlsafe_b64encode(data).decode().rstrip("=")
