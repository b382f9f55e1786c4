"""MinHash: the share of shingles that two texts have in common."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

import numpy as np

from studbook.errors import ConfigError, DigestError
from studbook.fingerprints.protocols import Packed, Parameters, seal
from studbook.fingerprints.words import RULE, check_words, checked_texts, shingles_of
from studbook.parameters import conform
from studbook.records import Digest

MAX_PERMUTATIONS = 4096


@dataclass(frozen=True, slots=True)
class Similarity:
    """An estimated Jaccard similarity.

    Attributes:
        value: Shingles in common as a share of all, 0 … 1.
        stderr: Its standard error; with half a match more and half a miss more, so that it is never 0.
    """

    value: float
    stderr: float


@dataclass(frozen=True, slots=True)
class MinHash:
    """``minhash``: smallest hashes of a text's shingles (Broder, 1997), of which only some bits are kept (Li and König, 2010).

    Words and shingles are those of ``SimHash``; how often one is repeated doesn't matter. Each of the permutations xors the shingles'
    hashes with a number of its own from the SplitMix64 stream and mixes them again; the digest holds the lowest ``bits`` bits of the
    smallest result, permutation by permutation, the highest bit first.

    Two digests agree in one permutation with probability J + (1 − J) 2⁻ᵇ, where J is the Jaccard similarity of the sets of shingles;
    ``similarity`` solves for J. With b = 1, J is also 1 − 2 h / permutations for the Hamming distance h.

    Attributes:
        words: Words a shingle, 1 … 64.
        permutations: How many, a multiple of 8, 8 … 4096; the standard error is at most 0.5 / √permutations / (1 − 2⁻ᵇ).
        bits: Bits kept of each, 1, 8, 16, 32 or 64.

    Raises:
        ConfigError: A value out of these ranges.

    Examples:
        >>> from studbook.fingerprints import MinHash
        >>> words = [f"w{i}" for i in range(300)]
        >>> one, other = MinHash(words=1).digests([" ".join(words[:200]), " ".join(words[100:])])  # in common: 100 of 300
        >>> found = MinHash.similarity(one, other)
        >>> abs(found.value - 1 / 3) < 3 * found.stderr, round(found.stderr, 2)
        (True, 0.04)
    """

    words: int = 3
    permutations: int = 128
    bits: int = 16

    scheme: ClassVar[str] = "minhash"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        conform(self, "minhash")
        check_words("minhash", self.words)
        if self.permutations % 8 or not 8 <= self.permutations <= MAX_PERMUTATIONS:
            raise ConfigError(f"minhash.permutations is {self.permutations}, expected a multiple of 8 from 8 to {MAX_PERMUTATIONS}")
        if self.bits not in (1, 8, 16, 32, 64):
            raise ConfigError(f"minhash.bits is {self.bits}, expected 1, 8, 16, 32 or 64")

    @property
    def parameters(self) -> Parameters:
        """See ``studbook.fingerprints.Fingerprint``."""
        return (("bits", self.bits), ("permutations", self.permutations), ("rule", RULE), ("words", self.words))

    def pack(self, outputs: Iterable[str]) -> Packed:
        """The digests' bits ``(n, permutations · bits / 8)`` uint8.

        Raises:
            DataError: Not texts, one without a word, one that is too long, or one with half a surrogate pair.
        """
        from studbook.fingerprints._text_kernels import least_values

        rows = []
        for text in checked_texts(outputs):
            least = np.empty(self.permutations, np.uint64)
            least_values(shingles_of(text, self.words), least)
            rows.append(least)
        table = np.array(rows, dtype=np.uint64).reshape(-1, self.permutations)
        if self.bits == 1:
            return np.packbits((table & np.uint64(1)).astype(bool), axis=1)
        # Big-endian bytes: the kept ones are the last.
        by_byte = table.astype(">u8").view(np.uint8).reshape(-1, self.permutations, 8)
        return np.ascontiguousarray(by_byte[:, :, 8 - self.bits // 8 :]).reshape(-1, self.permutations * self.bits // 8)

    def digests(self, outputs: Iterable[str]) -> list[Digest]:
        """The digests of many texts; see ``pack``."""
        return seal(self, self.pack(outputs))

    def digest(self, output: str) -> Digest:
        """The digest of one text; see ``pack``."""
        return self.digests([output])[0]

    @staticmethod
    def similarity(one: Digest, other: Digest) -> Similarity:
        """The Jaccard similarity of two texts' sets of shingles, with its standard error √(p (1 − p) / k) / (1 − 2⁻ᵇ).

        p is the share of agreeing permutations. The estimate is cut off at 0.

        Raises:
            DigestError: The digests can't be compared, or aren't of this scheme.
        """
        n, bits = _shape(one)
        one.check_comparable(other)
        agree = n - int(np.unpackbits(one.words() ^ other.words()).reshape(n, bits).any(axis=1).sum())
        chance = 2.0**-bits
        held = (agree + 0.5) / (n + 1)
        value = max((agree / n - chance) / (1 - chance), 0.0)
        return Similarity(value, sqrt(held * (1 - held) / n) / (1 - chance))

    @staticmethod
    def distance(one: Digest, other: Digest) -> float:
        """1 less ``similarity``, 0 … 1; see there."""
        return 1.0 - MinHash.similarity(one, other).value


def _shape(digest: Digest) -> tuple[int, int]:
    """Permutations and bits of each, as the digest states them.

    Raises:
        DigestError: It isn't one of this scheme, or its bits aren't as many as it states.
    """
    if (digest.scheme, digest.version) != (MinHash.scheme, MinHash.version):
        got = f"{digest.scheme}, version {digest.version}"
        raise DigestError(f"a digest is of the scheme {got}, expected minhash, version {MinHash.version}")
    stated = dict(digest.parameters)
    n, bits = stated.get("permutations"), stated.get("bits")
    if type(n) is not int or type(bits) is not int or bits < 1 or n * bits != digest.n_bits:
        raise DigestError(f"a minhash of {digest.n_bits} bits states {n!r} permutations of {bits!r} bits")
    return n, bits
