"""Digests of token streams: exact, and by their common beginning."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b, sha256
from typing import Any, ClassVar

import numpy as np

from studbook.arrays import AnyArray
from studbook.errors import ConfigError, DataError, DigestError
from studbook.fingerprints.protocols import Packed, Parameters, seal
from studbook.parameters import conform
from studbook.records import Digest
from studbook.records.digest import MAX_DIGEST_BYTES

MAX_TOKENS = 1 << 26
BLOCK_BYTES = 4
"""Bytes kept of each block's hash: a changed beginning passes for the same in one block of 2³²."""


@dataclass(frozen=True, slots=True)
class ExactTokens:
    """``tokens_exact``: SHA-256 (FIPS 180-4) of a token stream.

    Hashed are the number of tokens, 8 bytes, and the ids, 4 bytes each, all little-endian. Compared by Hamming distance it says "equal"
    at 0 and nothing above.

    Examples:
        >>> import numpy as np
        >>> from studbook.fingerprints import ExactTokens
        >>> one, other = ExactTokens().digests([[5, 7, 11], np.array([5, 7, 11], dtype=np.int32)])
        >>> one.hamming(other)
        0
    """

    scheme: ClassVar[str] = "tokens_exact"
    version: ClassVar[int] = 1

    @property
    def parameters(self) -> Parameters:
        """See ``studbook.fingerprints.Fingerprint``."""
        return (("hash", "sha256"), ("ids", "u32le"))

    def pack(self, outputs: Iterable[Any]) -> Packed:
        """The digests' bits ``(n, 32)`` uint8.

        Args:
            outputs: Token streams: ``(n, length)`` integers, or a sequence of ``(length,)`` integers of any lengths; ids 0 … 2³² − 1.

        Raises:
            DataError: Not token ids, or a stream without tokens.
        """
        found = (sha256(len(ids).to_bytes(8, "little") + ids.tobytes()).digest() for ids in _streams(outputs))
        return np.frombuffer(b"".join(found), np.uint8).reshape(-1, 32)

    def digests(self, outputs: Iterable[Any]) -> list[Digest]:
        """The digests of many streams; see ``pack``."""
        return seal(self, self.pack(outputs))

    def digest(self, output: Any) -> Digest:
        """The digest of one stream ``(length,)``; see ``pack``."""
        return self.digests([output])[0]


@dataclass(frozen=True, slots=True)
class TokenPrefix:
    """``tokens_prefix``: how far two token streams agree from their beginning.

    The stream is cut into blocks of ``block`` tokens, the last one maybe shorter. A block's hash is BLAKE2b (RFC 7693), 16 bytes, of the
    hash of the block before it (16 zeros at the beginning) and of its ids, 4 bytes each, little-endian; the digest holds the first 4
    bytes of each. So two streams agree up to the first hash that differs, and a digest is as long as its stream has blocks: only
    ``agreement`` and ``distance`` compare them, not the Hamming distance.

    Deterministic decoding that diverges at one near tie differs in all that follows: the length of the common beginning says when, where
    an exact digest says only "different".

    Attributes:
        block: Tokens a block, 1 … 4096: a smaller one finds the place of divergence more closely, and a larger one makes shorter digests.

    Raises:
        ConfigError: Another size of the blocks.

    Examples:
        >>> from studbook.fingerprints import TokenPrefix
        >>> one, other = TokenPrefix().digests([list(range(64)), [*range(40), *range(24)]])
        >>> TokenPrefix.agreement(one, other), TokenPrefix.distance(one, other)
        (2, 0.5)
    """

    block: int = 16

    scheme: ClassVar[str] = "tokens_prefix"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        conform(self, "tokens_prefix")
        if not 1 <= self.block <= 4096:
            raise ConfigError(f"tokens_prefix.block is {self.block}, expected 1 to 4096 tokens")

    @property
    def parameters(self) -> Parameters:
        """See ``studbook.fingerprints.Fingerprint``."""
        return (("block", self.block), ("hash", "blake2b"), ("ids", "u32le"))

    def digests(self, outputs: Iterable[Any]) -> list[Digest]:
        """The digests of many streams, in order.

        Args:
            outputs: Token streams: ``(n, length)`` integers, or a sequence of ``(length,)`` integers of any lengths; ids 0 … 2³² − 1.

        Raises:
            DataError: Not token ids, a stream without tokens, or one with more blocks than a digest has room for.
        """
        return [Digest(self.scheme, self.version, self.parameters, self._chain(ids)) for ids in _streams(outputs)]

    def digest(self, output: Any) -> Digest:
        """The digest of one stream ``(length,)``; see ``digests``."""
        return self.digests([output])[0]

    def _chain(self, ids: AnyArray) -> bytes:
        most = MAX_DIGEST_BYTES // BLOCK_BYTES * self.block
        if len(ids) > most:
            raise DataError(f"a stream has {len(ids):,} tokens, at most {most:,} fit into a digest", hint="take larger blocks")
        data, step = memoryview(ids.tobytes()), 4 * self.block
        state, kept = bytes(16), []
        for begin in range(0, len(data), step):
            state = blake2b(state + data[begin : begin + step], digest_size=16).digest()
            kept.append(state[:BLOCK_BYTES])
        return b"".join(kept)

    @staticmethod
    def agreement(one: Digest, other: Digest) -> int:
        """Blocks that two streams have in common from their beginning.

        A shorter last block is in common only with the same one. Where the streams agree in everything these are all the blocks.

        Raises:
            DigestError: Digests of another scheme, version or size of blocks.
        """
        for digest in (one, other):
            if digest.scheme != TokenPrefix.scheme or len(digest.bits) % BLOCK_BYTES:
                raise DigestError(f"a digest of {digest.scheme} with {len(digest.bits)} bytes isn't one of {TokenPrefix.scheme}")
        shorter = min(len(one.bits), len(other.bits))
        first, second = (Digest(each.scheme, each.version, each.parameters, each.bits[:shorter]) for each in (one, other))
        first.check_comparable(second)
        differs = (first.words() != second.words()).reshape(-1, BLOCK_BYTES).any(axis=1)
        return int(differs.argmax()) if differs.any() else len(differs)

    @staticmethod
    def distance(one: Digest, other: Digest) -> float:
        """1 less the blocks in common as a share of the longer stream's, 0 (the same tokens) … 1 (they differ in the first block).

        Raises:
            DigestError: See ``agreement``.
        """
        return 1.0 - TokenPrefix.agreement(one, other) * BLOCK_BYTES / max(len(one.bits), len(other.bits))


def _streams(outputs: Any) -> Iterable[AnyArray]:
    """Each stream as ``(length,)`` uint32, little-endian.

    Raises:
        DataError: Not token ids, or a stream without tokens.
    """
    if isinstance(outputs, str | bytes) or not isinstance(outputs, Iterable) or getattr(outputs, "ndim", 2) == 0:
        raise DataError(f"token streams are {type(outputs).__name__}, expected a sequence of sequences of integers")
    for i, output in enumerate(outputs):
        try:
            ids = np.asarray(output)
        except (ValueError, TypeError, OverflowError) as error:
            raise DataError(f"token stream {i} isn't a list of integers: {error}") from error
        if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
            got = f"{ids.dtype} numbers of shape {ids.shape}"
            raise DataError(f"token stream {i} is {got}, expected integers (length,)", hint="digest takes a single stream")
        if not 0 < ids.size <= MAX_TOKENS:
            raise DataError(f"token stream {i} has {ids.size:,} tokens, expected 1 to {MAX_TOKENS:,}", hint="leave empty outputs out")
        if int(ids.min()) < 0 or int(ids.max()) >= 1 << 32:
            raise DataError(f"token stream {i} has the ids {ids.min()} to {ids.max()}, expected 0 to {(1 << 32) - 1}")
        yield ids.astype("<u4")
