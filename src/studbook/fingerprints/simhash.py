"""SimHash: near texts have near digests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from studbook.arrays import AnyArray, Ints
from studbook.fingerprints.protocols import Packed, Parameters, seal
from studbook.fingerprints.words import RULE, Texts, check_words, hash_texts
from studbook.parameters import conform
from studbook.records import Digest

N_BITS = 256


@dataclass(frozen=True, slots=True)
class SimHash:
    """``simhash``: 256 bits by majority over word shingles (Charikar, "Similarity estimation techniques from rounding algorithms", 2002).

    1. The text is cut into words (``words_of``), and each word hashed to 64 bits (``studbook.fingerprints.words``).
    2. A shingle is ``words`` words in a row, hashed from theirs by SplitMix64's mixer; a text with fewer words is a single shorter shingle.
       A shingle that is repeated counts as often. Four numbers of the SplitMix64 stream from a shingle's hash give its 256 bits.
    3. Bit 64 l + b of the digest is 1 where more than half of the shingles have bit b of number l set; on a draw it is 0.

    For two texts whose shingle counts form an angle θ, the expected Hamming distance is 256 θ / π; unrelated texts lie at 128 ± 8.

    Attributes:
        words: Words a shingle, 1 … 64.

    Raises:
        ConfigError: Another number of words.

    Examples:
        >>> from studbook.fingerprints import SimHash
        >>> text = "the quick brown fox jumps over the lazy dog and runs away into the deep dark forest where nobody follows"
        >>> near, far = text.replace("lazy", "sleeping"), "a completely unrelated sentence about the price of copper in two cities"
        >>> one, *others = SimHash().digests([text, near, far])
        >>> [one.hamming(other) < 90 for other in others]
        [True, False]
    """

    words: int = 3

    scheme: ClassVar[str] = "simhash"
    version: ClassVar[int] = 2

    def __post_init__(self) -> None:
        conform(self, "simhash")
        check_words("simhash", self.words)

    @property
    def parameters(self) -> Parameters:
        """See ``studbook.fingerprints.Fingerprint``."""
        return (("rule", RULE), ("words", self.words))

    def pack(self, outputs: Iterable[str], *, threads: int = 1) -> Packed:
        """The digests' bits ``(n, 32)`` uint8.

        Args:
            outputs: The texts.
            threads: Threads to share them among, 1 … 256; the bits don't depend on it.

        Raises:
            ConfigError: An impossible number of threads.
            DataError: Not texts, one without a word, one that is too long, or one with half a surrogate pair.
        """
        from studbook.fingerprints._text_kernels import simhash_texts

        def kernel(texts: Texts, rows: AnyArray, n_shingles: Ints) -> None:
            simhash_texts(texts, self.words, rows, n_shingles)

        blocks = hash_texts(outputs, kernel, np.empty(N_BITS, np.bool_), threads)
        return np.concatenate([np.empty((0, N_BITS // 8), np.uint8), *(np.packbits(rows, axis=1) for rows in blocks)])

    def digests(self, outputs: Iterable[str], *, threads: int = 1) -> list[Digest]:
        """The digests of many texts; see ``pack``."""
        return seal(self, self.pack(outputs, threads=threads))

    def digest(self, output: str) -> Digest:
        """The digest of one text; see ``pack``."""
        return self.digests([output])[0]
