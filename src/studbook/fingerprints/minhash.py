"""MinHash: the share of shingles that two texts have in common."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

import numpy as np

from studbook.arrays import AnyArray, Ints
from studbook.errors import ConfigError, DigestError
from studbook.fingerprints.protocols import Packed, Parameters, seal
from studbook.fingerprints.words import RULE, Texts, check_words, hash_texts
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

    Words and shingles are those of ``SimHash``; how often one is repeated doesn't matter. Permutation i takes a shingle's hash x to
    a x + b modulo 2⁶⁴, where a, made odd, and b are numbers 2 i + 1 and 2 i + 2 of the SplitMix64 stream seeded with 0: a linear
    family, which on hashes that are themselves random does what full ones do (Mitzenmacher and Vadhan, "Why simple hash functions work",
    2008; tested here). The smallest result goes through SplitMix64's mixer, and the digest holds its lowest ``bits`` bits, permutation by
    permutation, the highest bit first. Version 1 mixed every result, at three times the cost.

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
    version: ClassVar[int] = 2

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

    def pack(self, outputs: Iterable[str], *, threads: int = 1) -> Packed:
        """The digests' bits ``(n, permutations · bits / 8)`` uint8.

        Args:
            outputs: The texts.
            threads: Threads to share them among, 1 … 256; the bits don't depend on it.

        Raises:
            ConfigError: An impossible number of threads.
            DataError: Not texts, one without a word, one that is too long, or one with half a surrogate pair.
        """
        from studbook.fingerprints._text_kernels import minhash_texts, permutations

        factors, terms = np.empty((2, self.permutations), np.uint64)
        permutations(factors, terms)

        def kernel(texts: Texts, rows: AnyArray, n_shingles: Ints) -> None:
            minhash_texts(texts, self.words, factors, terms, rows, n_shingles)

        empty = np.empty((0, self.permutations * self.bits // 8), np.uint8)
        return np.concatenate([empty, *map(self._cut, hash_texts(outputs, kernel, factors, threads))])

    def _cut(self, table: AnyArray) -> Packed:
        """The lowest bits of minima ``(n, permutations)``."""
        if self.bits == 1:
            return np.packbits((table & np.uint64(1)).astype(bool), axis=1)
        kept = table.astype(f">u{self.bits // 8}")
        return kept.view(np.uint8).reshape(-1, self.permutations * self.bits // 8)

    def digests(self, outputs: Iterable[str], *, threads: int = 1) -> list[Digest]:
        """The digests of many texts; see ``pack``."""
        return seal(self, self.pack(outputs, threads=threads))

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
