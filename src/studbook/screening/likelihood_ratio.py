"""A detector from two of our own language models: one that was fitted to human text, one to generated text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from studbook.arrays import Floats, Ints
from studbook.errors import ConfigError, DataError
from studbook.records.digest import Setting
from studbook.screening.language import Language

LEAST_TOKENS = 8
_LETTERS = 256
"""Letters a token that are looked at, at most: what has fewer tokens in so many letters is no running text."""
_PART = 1 << 22
"""Probabilities that are in memory at a time, at most."""


@dataclass(frozen=True, slots=True, eq=False)
class LikelihoodRatio:
    """How much better a text fits generated text than human text.

    The score is the mean of ln p(generated) − ln p(human) over a text's first ``tokens`` tokens, in nats a token. Every score rests on
    equally many tokens, because the mean of few scatters more: one threshold for all lengths would accuse short texts. A shorter text gets
    not-a-number, and so does one of which less than half of the words are known: of such text neither model can tell anything. What comes
    after the first ``tokens`` isn't looked at; for longer passages calibrate another detector with more of them.

    It knows the two sources that it was fitted to, and no other: text of another domain gets scores too, and they mean nothing that a
    calibration on the first domain could tell.

    Attributes:
        human: Fitted to human text.
        generated: Fitted to generated text, over the same vocabulary.
        tokens: Tokens that are looked at, 8 or more.

    Raises:
        ConfigError: Two vocabularies, or too few tokens.

    References:
        J. Neyman, E. S. Pearson, "On the problem of the most efficient tests of statistical hypotheses", Phil. Trans. A 231 (1933).

    Examples:
        >>> import numpy as np
        >>> from studbook.learners.ngram import NGram
        >>> from studbook.screening.language import Language, TextCoding
        >>> from studbook.screening.likelihood_ratio import LikelihoodRatio
        >>> human, robot = ["it rained and then it rained again and again"] * 9, ["it is important and it is important to note"] * 9
        >>> coding = TextCoding.of(human + robot, size=20)
        >>> models = [Language.fit(NGram(), each, coding, block=9, rng=np.random.default_rng(0)) for each in (human, robot)]
        >>> LikelihoodRatio(*models, tokens=8).scores([human[0], robot[0], "it rained"]).round(1).tolist()
        [-2.9, 3.2, nan]
    """

    name: ClassVar[str] = "likelihood-ratio"

    human: Language
    generated: Language
    tokens: int = 128

    def __post_init__(self) -> None:
        if self.human.coding != self.generated.coding:
            raise ConfigError("the two models read text in different ways", hint="fit both with one TextCoding")
        if type(self.tokens) is not int or not LEAST_TOKENS <= self.tokens <= 1 << 20:
            raise ConfigError(f"tokens is {self.tokens!r}, expected {LEAST_TOKENS} to {1 << 20:,}")

    @property
    def parameters(self) -> tuple[tuple[str, Setting], ...]:
        """The two models, by digest, and the number of tokens."""
        return (("generated", self.generated.digest), ("human", self.human.digest), ("tokens", self.tokens))

    def scores(self, texts: Sequence[str]) -> Floats:
        """One score a text ``(n,)``; not-a-number where it can't tell."""
        found = np.full(len(texts), np.nan)
        size = max(1, _PART // self.tokens)
        for start in range(0, len(texts), size):
            part = texts[start : start + size]
            found[start : start + len(part)] = self._scores(part)
        return found

    def _scores(self, texts: Sequence[str]) -> Floats:
        found, coding = np.full(len(texts), np.nan), self.human.coding
        ids = [self._ids(text) for text in texts]
        enough = [i for i, each in enumerate(ids) if len(each) == self.tokens and 2 * int((each == coding.unknown).sum()) <= self.tokens]
        if enough:
            blocks = np.stack([ids[i] for i in enough])
            found[enough] = (self.generated.token_log_prob(blocks) - self.human.token_log_prob(blocks)).mean(axis=1)
        return found

    def _ids(self, text: str) -> Ints:
        """Ids of the first tokens; fewer where a text is short, or is no running text."""
        begin = text[: _LETTERS * self.tokens]
        try:
            return self.human.coding.encode(begin)[: self.tokens]
        except DataError:
            return np.empty(0, np.int64)


def load_likelihood_ratio(human: Path, generated: Path, *, tokens: int = 128) -> LikelihoodRatio:
    """The detector from two folders that ``Language.save`` wrote.

    Raises:
        CheckpointError: A folder that can't be read, or was changed.
        ConfigError: Two vocabularies.
    """
    return LikelihoodRatio(Language.load(human), Language.load(generated), tokens)
