"""Documents of independent words under Zipf's law: a vocabulary's drift, where records have to be told apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from studbook.arrays import text
from studbook.data._digest import digest_of_batch
from studbook.data.dataset import Dataset
from studbook.errors import ConfigError
from studbook.rng import stream

_MOST_TOKENS = 10**9


@dataclass(frozen=True, slots=True)
class ZipfText:
    """Documents of ``block`` words each, drawn independently: the word of rank k with a probability proportional to k^-``exponent``.

    A unigram model (``ngram`` with ``order = 1`` and ``discount = 0``) that trains on its own documents is ``categorical`` on ``zipf``: the
    Wright–Fisher model, ``block`` words at a time. Other than single words, documents can be registered, marked and found again.

    Args:
        states: Words of the vocabulary, 2 to 1,000,000.
        exponent: 0 (uniform) to 20; 1 is the classical law.
        documents: Documents, 2 or more.
        block: Words of a document.
        seed: What they are drawn from.

    Raises:
        ConfigError: A parameter out of range; nothing is allocated before.

    Examples:
        >>> from studbook.data import open_source
        >>> dataset = open_source("zipf-text", states=100, documents=10, block=8).load()
        >>> dataset.records.values.shape, dataset.space.vocabulary[:3]
        ((10, 8), ('w1', 'w2', 'w3'))
    """

    states: int
    exponent: float = 1.0
    documents: int = 10_000
    block: int = 64
    seed: int = 0

    record_kind: ClassVar[str] = "text"
    origin: ClassVar[str] = "Words drawn under Zipf's law; no data, no licence."

    def __post_init__(self) -> None:
        _require(2 <= self.states <= 10**6, "states", self.states, "2 to 1,000,000 words")
        _require(0 <= self.exponent <= 20, "exponent", self.exponent, "a number from 0 to 20")
        _require(self.block >= 1, "block", self.block, "1 or more words")
        _require(self.documents >= 2, "documents", self.documents, "2 or more")
        tokens = self.documents * self.block
        _require(tokens <= _MOST_TOKENS, "documents", self.documents, f"at most {_MOST_TOKENS:,} words in all")
        _require(0 <= self.seed < 2**63, "seed", self.seed, "0 or more")

    def load(self) -> Dataset:
        """The documents."""
        weights = np.arange(1, self.states + 1, dtype=np.float64) ** -float(self.exponent)
        cumulative = np.cumsum(weights)
        uniforms = stream(self.seed, "zipf-text").random((self.documents, self.block))
        words = np.searchsorted(cumulative[:-1] / cumulative[-1], uniforms, side="right").astype(np.int32)
        batch = text(words, tuple(f"w{rank}" for rank in range(1, self.states + 1)))
        return Dataset("zipf-text", batch.space, digest_of_batch(batch), records=batch, origin=self.origin)


def _require(holds: bool, name: str, got: object, expected: str) -> None:
    if not holds:
        raise ConfigError(f"data.{name} is {got}, expected {expected}")
