"""What is done to marked text to see whether its mark is still found: words replaced, an excerpt, passages in another order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from studbook.arrays import AnyArray
from studbook.errors import ConfigError


class TextChange(Protocol):
    """A way to change tokenised text."""

    @property
    def name(self) -> str:
        """For tables."""
        ...

    def apply(self, ids: AnyArray, pool: AnyArray, *, rng: np.random.Generator) -> AnyArray:
        """The changed text.

        Args:
            ids: ``(n,)`` token ids.
            pool: ``(m,)`` tokens of human text, one or more.
            rng: Where the randomness comes from.
        """
        ...


@dataclass(frozen=True, slots=True)
class ReplaceTokens:
    """Tokens at random places become tokens of human text, each drawn by itself: an editor who changes words.

    Attributes:
        share: Of the tokens, rounded up to a whole number; 0 to 1.
    """

    share: float

    def __post_init__(self) -> None:
        _require_share("replaced", self.share)

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.share:.0%} of tokens replaced"

    def apply(self, ids: AnyArray, pool: AnyArray, *, rng: np.random.Generator) -> AnyArray:
        """See ``TextChange``."""
        changed = ids.copy()
        places = rng.permutation(ids.size)[: int(np.ceil(self.share * ids.size))]
        changed[places] = pool[rng.integers(pool.size, size=places.size)]
        return changed


@dataclass(frozen=True, slots=True)
class Excerpt:
    """One passage from a random place.

    Attributes:
        share: Of the tokens, above 0, at most 1.
    """

    share: float

    def __post_init__(self) -> None:
        _require_share("kept", self.share)

    @property
    def name(self) -> str:
        """For tables."""
        return f"excerpt of {self.share:.0%}"

    def apply(self, ids: AnyArray, pool: AnyArray, *, rng: np.random.Generator) -> AnyArray:
        """See ``TextChange``."""
        del pool
        size = int(np.ceil(self.share * ids.size))
        start = int(rng.integers(ids.size - size + 1))
        return ids[start : start + size]


@dataclass(frozen=True, slots=True)
class ShufflePassages:
    """Passages of a few tokens in another order, and some tokens replaced: what a paraphrase leaves of the n-grams.

    Attributes:
        tokens: Of a passage, 1 or more.
        share: Of tokens that are replaced as well.
    """

    tokens: int = 8
    share: float = 0.2

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise ConfigError(f"a passage has {self.tokens} tokens, expected 1 or more")
        _require_share("replaced", self.share)

    @property
    def name(self) -> str:
        """For tables."""
        return f"passages of {self.tokens} shuffled, {self.share:.0%} replaced"

    def apply(self, ids: AnyArray, pool: AnyArray, *, rng: np.random.Generator) -> AnyArray:
        """See ``TextChange``."""
        changed = ReplaceTokens(self.share).apply(ids, pool, rng=rng)
        passages = [changed[i : i + self.tokens] for i in range(0, changed.size, self.tokens)]
        order = rng.permutation(len(passages))
        return np.concatenate([changed[:0], *(passages[i] for i in order)])


def _require_share(what: str, share: float) -> None:
    if not 0.0 <= share <= 1.0:
        raise ConfigError(f"the share {what} is {share}, expected 0 to 1")


TEXT_CHANGES: tuple[TextChange, ...] = (ReplaceTokens(0.1), ReplaceTokens(0.2), ReplaceTokens(0.5), Excerpt(0.5), ShufflePassages())
"""What a calibration measures unless told otherwise."""
