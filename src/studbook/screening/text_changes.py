"""What an attacker does to a text: the changes that a detector's robustness is measured under."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from studbook.errors import ConfigError

_WORD = re.compile(r"\S+")


class TextChange(Protocol):
    """One change; ``name`` is what it is called in calibrations."""

    @property
    def name(self) -> str: ...

    def apply(self, text: str, *, rng: np.random.Generator) -> str:
        """The changed text."""
        ...


@dataclass(frozen=True, slots=True)
class ReplaceWords:
    """A ``share`` of the words, chosen by chance, becomes words drawn from ``words``; blanks stay.

    Give it words as frequent as in human text: those of the corpus, with repetitions.

    Examples:
        >>> import numpy as np
        >>> from studbook.screening.text_changes import ReplaceWords
        >>> ReplaceWords(0.5, ("oak",)).apply("one two three four", rng=np.random.default_rng(0))
        'oak two oak four'
    """

    share: float
    words: tuple[str, ...]

    def __post_init__(self) -> None:
        _require_share(self.share)
        if not self.words:
            raise ConfigError("there are no words to put in place of others")

    @property
    def name(self) -> str:
        return f"{100 * self.share:g} % of words"

    def apply(self, text: str, *, rng: np.random.Generator) -> str:
        spans = [match.span() for match in _WORD.finditer(text)]
        chosen = sorted(rng.permutation(len(spans))[: round(self.share * len(spans))].tolist())
        parts: list[str] = []
        place = 0
        for i in chosen:
            begin, end = spans[i]
            parts += [text[place:begin], self.words[int(rng.integers(len(self.words)))]]
            place = end
        return "".join([*parts, text[place:]])


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A passage of a ``share`` of the words, from where chance wants it."""

    share: float

    def __post_init__(self) -> None:
        _require_share(self.share)

    @property
    def name(self) -> str:
        return f"excerpt of {100 * self.share:g} %"

    def apply(self, text: str, *, rng: np.random.Generator) -> str:
        spans = [match.span() for match in _WORD.finditer(text)]
        n = max(1, round(self.share * len(spans)))
        if not spans:
            return text
        first = int(rng.integers(len(spans) - n + 1))
        return text[spans[first][0] : spans[first + n - 1][1]]


def usual_changes(texts: Sequence[str]) -> tuple[TextChange, ...]:
    """A tenth, a fifth and half of the words replaced by those of ``texts``, and half excerpts."""
    words = tuple(word for text in texts for word in _WORD.findall(text))
    return (ReplaceWords(0.1, words), ReplaceWords(0.2, words), ReplaceWords(0.5, words), Excerpt(0.5))


def _require_share(share: float) -> None:
    if not 0.0 < share <= 1.0:
        raise ConfigError(f"share is {share}, expected above 0 and at most 1")
