"""Hidden states of a text's tokens as a few bytes each, under a key that nobody knew when they were committed to."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from studbook.arrays import AnyArray, Floats
from studbook.errors import DigestError
from studbook.fingerprints.challenge import challenge_bytes
from studbook.parameters import conform
from studbook.records import Digest, merkle_root

SCHEME, VERSION = "activations", 1
_STEP = 32.0
_LARGEST = 127


def row_bytes(hidden: AnyArray) -> list[bytes]:
    """What a commitment to hidden states ``(n, width)`` is made over: each row as little-endian float32."""
    rows = np.ascontiguousarray(hidden, dtype="<f4")
    return [row.tobytes() for row in rows]


def commit_activations(hidden: AnyArray) -> str:
    """The Merkle root (hex) over the hidden states ``(n, width)`` of a text's tokens.

    Raises:
        RecordError: No tokens.
    """
    return merkle_root(row_bytes(hidden))


def projection_key(commitment: str, nonce: str) -> bytes:
    """The key of a projection: nobody knows it before the commitment is made."""
    return challenge_bytes("projection", commitment, nonce)


@dataclass(frozen=True, slots=True)
class Activations:
    """A random projection of each token's hidden state, bound to the token's position.

    Each position has a matrix of its own of random signs, so that states that are moved, repeated or left out don't fit. A state is brought
    to unit length first; a projected number is then about standard normal and is kept in steps of 1/32.

    Attributes:
        size: Bytes a token, and numbers: 2 to 64.

    References:
        Johnson and Lindenstrauss 1984; Achlioptas 2003, "Database-friendly random projections".

    Examples:
        >>> import numpy as np
        >>> from studbook.fingerprints.activations import Activations
        >>> hidden = np.random.default_rng(0).normal(size=(32, 64)).astype(np.float32)
        >>> scheme, key = Activations(size=8), b"drawn after the commitment"
        >>> honest = scheme.digest(hidden, key)
        >>> changed = hidden.copy()
        >>> changed[17] = hidden[16]
        >>> distances = scheme.distances(scheme.digest(changed, key), hidden, key)
        >>> [int(i) for i in np.flatnonzero(distances > 0.2)], len(honest.bits)
        ([17], 256)
    """

    size: int = 8

    def __post_init__(self) -> None:
        conform(self, "fingerprint")
        if not 2 <= self.size <= 64:
            raise DigestError(f"activations keep {self.size} bytes a token, expected 2 to 64", hint="8 is usual")

    def digest(self, hidden: AnyArray, key: bytes, *, first: int = 0) -> Digest:
        """The projections of hidden states ``(n, width)``, ``size`` bytes a token, the first of which is at position ``first``.

        Raises:
            DigestError: No tokens, or numbers that aren't finite.
        """
        values = np.rint(self._project(hidden, key, first) * _STEP)
        quantised = np.clip(values, -_LARGEST, _LARGEST).astype(np.int8)
        return Digest(SCHEME, VERSION, (("key", key.hex()), ("size", self.size)), quantised.tobytes())

    def distances(self, digest: Digest, hidden: AnyArray, key: bytes) -> Floats:
        """How far each token's claimed projection is from that of the verifier's own hidden state, relative to its length: ``(n,)``.

        About 0.01 is the rounding alone; √2 is what two unrelated states have.

        Args:
            digest: What ``digest`` gave, of as many tokens.
            hidden: The verifier's ``(n, width)``.
            key: The key of both.

        Raises:
            DigestError: Another scheme, key or number of tokens.
        """
        expected = (SCHEME, VERSION, (("key", key.hex()), ("size", self.size)))
        if (digest.scheme, digest.version, digest.parameters) != expected:
            raise DigestError(f"the projections are of {digest.scheme}/{digest.version} {digest.parameters}, expected {expected}")
        if len(digest.bits) != self.size * len(hidden):
            raise DigestError(f"there are projections of {len(digest.bits) / self.size:g} tokens, the text has {len(hidden)}")
        claimed = np.frombuffer(digest.bits, np.int8).reshape(len(hidden), self.size) / _STEP
        difference = claimed - np.clip(self._project(hidden, key), -_LARGEST / _STEP, _LARGEST / _STEP)
        return np.asarray(np.sqrt((difference**2).mean(axis=1)))

    def _project(self, hidden: AnyArray, key: bytes, first: int = 0) -> Floats:
        if hidden.ndim != 2 or not len(hidden):
            raise DigestError(f"hidden states have shape {hidden.shape}, expected (tokens, width) with one token or more")
        states = np.asarray(hidden, np.float64)
        if not np.isfinite(states).all():
            raise DigestError("hidden states aren't finite", hint="the weights are damaged, or the number type is too narrow for them")
        lengths = np.linalg.norm(states, axis=1, keepdims=True)
        unit = states / np.where(lengths > 0, lengths, 1.0)
        out = np.empty((len(states), self.size))
        for i, state in enumerate(unit):
            out[i] = _signs(key, first + i, self.size, states.shape[1]) @ state
        return out


def _signs(key: bytes, position: int, size: int, width: int) -> Floats:
    """``(size, width)`` of ±1 from the key and the position alone: SHAKE-256's bits."""
    n = size * width
    stream = hashlib.shake_256(key + position.to_bytes(8, "little")).digest((n + 7) // 8)
    bits = np.unpackbits(np.frombuffer(stream, np.uint8), count=n)
    return (bits.astype(np.float64) * 2.0 - 1.0).reshape(size, width)
