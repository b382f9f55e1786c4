"""A digest of an output: bits under a named, versioned scheme."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from studbook.errors import DigestError

Setting: TypeAlias = str | int | float | bool

MAX_DIGEST_BYTES = 1 << 20
_SCHEME = re.compile(r"[a-z][a-z0-9_.-]{0,63}")

_seen: list[tuple[str, int, Any, tuple[tuple[str, Setting], ...]]] = [("", 0, None, ())]
"""Scheme, version, parameters as given and in order, of the digest that was checked last."""


@dataclass(frozen=True, slots=True)
class Digest:
    """What a fingerprint makes of one output.

    Attributes:
        scheme: Name of the fingerprint, for example ``"phash"``.
        version: Version of the scheme; a change of a single bit for any output is a new version.
        parameters: Names and values that determine the bits beside the output, sorted by name.
        bits: The digest, packed: bit 0 is the highest bit of byte 0.

    Raises:
        DigestError: No bits, too many, or a name that isn't one.

    Examples:
        >>> from studbook.records import Digest
        >>> one = Digest("phash", 1, (("size", 8),), bytes.fromhex("ff00ff00ff00ff00"))
        >>> other = Digest("phash", 1, (("size", 8),), bytes.fromhex("ff00ff00ff00ff03"))
        >>> one.hamming(other), one.n_bits, str(one)
        (2, 64, 'phash/1?size=8:ff00ff00ff00ff00')
    """

    scheme: str
    version: int
    parameters: tuple[tuple[str, Setting], ...]
    bits: bytes

    def __post_init__(self) -> None:
        # Digests come by the thousand with the very same scheme: what was found right once isn't looked at again.
        known = _seen[0]
        same = known[0] is self.scheme and known[1] is self.version and known[2] is self.parameters
        if same and type(self.bits) is bytes and 0 < len(self.bits) <= MAX_DIGEST_BYTES:
            object.__setattr__(self, "parameters", known[3])
        else:
            self._check()

    def _check(self) -> None:
        if not isinstance(self.scheme, str) or not _SCHEME.fullmatch(self.scheme):
            raise DigestError(f"a digest's scheme is {str(self.scheme)[:80]!r}, expected a short lower-case name", hint='such as "phash"')
        if type(self.version) is not int or self.version < 1:
            raise DigestError(f"a digest's version is {str(self.version)[:80]!r}, expected an integer of 1 or more")
        if not isinstance(self.bits, bytes) or not 0 < len(self.bits) <= MAX_DIGEST_BYTES:
            size = len(self.bits) if isinstance(self.bits, bytes) else type(self.bits).__name__
            raise DigestError(f"a digest has {size} bytes, expected 1 to {MAX_DIGEST_BYTES:,}", hint="an empty digest proves nothing")
        if len({name for name, _ in self.parameters}) < len(self.parameters):
            raise DigestError("a digest has a parameter twice", hint="name each once")
        given = self.parameters
        object.__setattr__(self, "parameters", tuple(sorted((str(name), value) for name, value in given)))
        if type(given) is tuple and all(type(each) is tuple for each in given):  # nobody can change these
            _seen[0] = (self.scheme, self.version, given, self.parameters)

    @property
    def n_bits(self) -> int:
        """Bits, 8 a byte."""
        return 8 * len(self.bits)

    def check_comparable(self, other: Digest) -> None:
        """Return nothing where the two can be compared.

        Raises:
            DigestError: Another scheme, version, parameters or length; the message names what differs.
        """
        for name in ("scheme", "version", "parameters", "n_bits"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                noun = name.replace("n_bits", "number of bits")
                raise DigestError(
                    f"digests of different {noun} can't be compared: {mine!r} and {theirs!r}", hint="make both by the same scheme"
                )

    def hamming(self, other: Digest) -> int:
        """Bits that differ, 0 … ``n_bits``.

        Raises:
            DigestError: The digests can't be compared.
        """
        self.check_comparable(other)
        return (int.from_bytes(self.bits, "big") ^ int.from_bytes(other.bits, "big")).bit_count()

    def words(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """The bits as ``(n_bytes,)`` uint8, for ``studbook.hamming``."""
        return np.frombuffer(self.bits, dtype=np.uint8)

    def to_json(self) -> dict[str, Any]:
        """Plain values for a record; the bits in base64url without padding."""
        bits = base64.urlsafe_b64encode(self.bits).decode().rstrip("=")
        return {"scheme": self.scheme, "version": self.version, "parameters": dict(self.parameters), "bits": bits}

    @classmethod
    def from_json(cls, value: object) -> Digest:
        """The digest that ``to_json`` made.

        Raises:
            DigestError: Not a digest; the message says what is wrong.
        """
        if not isinstance(value, dict) or set(value) != {"scheme", "version", "parameters", "bits"}:
            raise DigestError("a digest needs the keys scheme, version, parameters and bits, and no others")
        parameters, bits = value["parameters"], value["bits"]
        if (
            not isinstance(parameters, dict)
            or len(parameters) > 32
            or not all(isinstance(each, str | int | float) for each in parameters.values())
        ):
            raise DigestError("a digest's parameters aren't a short table of texts and numbers")
        if not isinstance(bits, str) or len(bits) > 2 * MAX_DIGEST_BYTES:
            raise DigestError("a digest's bits aren't a text in base64url")
        try:
            data = base64.b64decode(bits + "=" * (-len(bits) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError) as error:
            raise DigestError(f"a digest's bits aren't base64url: {error}") from error
        found = cls(value["scheme"], value["version"], tuple(parameters.items()), data)
        if found.to_json() != value:
            raise DigestError("a digest's bits aren't in their only form", hint="base64url without padding, unused bits zero")
        return found

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: object) -> Any:
        from pydantic_core import core_schema

        out = core_schema.plain_serializer_function_ser_schema(cls.to_json)
        return core_schema.no_info_plain_validator_function(cls.from_json, serialization=out)

    def __str__(self) -> str:
        settings = "&".join(f"{name}={value}" for name, value in self.parameters)
        return f"{self.scheme}/{self.version}{'?' if settings else ''}{settings}:{self.bits.hex()}"
