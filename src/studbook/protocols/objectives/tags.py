"""Which section is this passage from? Bags of words and tags, on real articles."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np

from studbook.errors import DataError
from studbook.neural.options import require
from studbook.parameters import conform
from studbook.protocols.objectives._text import RunningText, load_text
from studbook.protocols.objectives._words import WordObjective, WordRows


@dataclass(frozen=True, slots=True)
class Tags:
    """The title of the section that a passage stands in (``History``, ``Reception``, …), from its bag of words.

    The ``classes`` most frequent titles are told apart; passages of other sections aren't rows.

    Attributes:
        data: A text file with headings in the form of WikiText.
        tokens: How the text is cut: ``whitespace`` for WikiText.
        vocabulary: Words that are told apart, the last of which stands for all rarer ones.
        classes: Titles.
        passage: Words a row, at most.
        hidden: Neurons of a hidden layer; 0 is none.
        held_out: Share of the articles that is held out.

    Raises:
        ConfigError: A value out of range.

    References:
        Charles et al. 2022, "Federated select", section 5: tags from bags of words.
    """

    data: str
    tokens: Literal["words", "whitespace"] = "whitespace"
    vocabulary: int = 10_000
    classes: int = 10
    passage: int = 40
    hidden: int = 0
    held_out: float = 0.2

    def __post_init__(self) -> None:
        conform(self, "objective")
        require(2 <= self.vocabulary <= 1 << 24, "objective", "vocabulary", self.vocabulary, "2 to 16,777,216 words")
        require(2 <= self.classes <= 10_000, "objective", "classes", self.classes, "2 to 10,000 titles")
        require(1 <= self.passage <= 1 << 16, "objective", "passage", self.passage, "1 to 65,536 words")
        require(0 <= self.hidden <= 1 << 16, "objective", "hidden", self.hidden, "0 (none) to 65,536 neurons")
        require(0.0 < self.held_out < 1.0, "objective", "held_out", self.held_out, "a share above 0 and below 1")

    def load(self) -> WordObjective:
        """The objective, with its data.

        Raises:
            DataError: No text, too few different words, or too few sections.
        """
        text = load_text(self.data, self.vocabulary, self.passage, self.tokens)
        about = {"objective": "tags", **text.about(), "passage": self.passage}
        rows = self._rows(text)
        held = text.held_documents(self.held_out)[rows.documents]
        if held.all() or not held.any():
            raise DataError("no passage is left to train on, or to hold out", hint="take a longer text, or set held_out otherwise")
        return WordObjective(rows.take(~held), rows.take(held), self.vocabulary, self.classes, self.hidden, about)

    def _rows(self, text: RunningText) -> WordRows:
        sections = _sections(text)
        counts = Counter(title for title, _, _ in sections)
        titles = sorted(counts, key=lambda title: (-counts[title], title))[: self.classes]
        if len(titles) < self.classes:
            message = f"{self.data} has {len(titles)} different titles of sections, expected {self.classes} or more"
            raise DataError(message, hint="the form is that of WikiText: = Article =, = = Section = =; or take the objective next_word")
        spans = [
            (first, min(first + self.passage, end), titles.index(title))
            for title, start, end in sections
            if title in titles
            for first in range(start, end, self.passage)
        ]
        bag = np.full((len(spans), self.passage), -1, np.int32)
        for row, (first, end, _) in zip(bag, spans, strict=True):
            row[: end - first] = text.ids[first:end]
        documents = text.documents[[first for first, _, _ in spans]]
        return WordRows({"bag": bag}, np.array([label for _, _, label in spans]), documents)


def _sections(text: RunningText) -> list[tuple[str, int, int]]:
    """Title, start and end of each section of the first level under an article; its subsections' headings are passed over with it."""
    tops = [heading for heading in text.headings if heading.level <= 2]
    ends = [heading.start for heading in tops[1:]] + [len(text.ids)]
    return [
        (heading.title, heading.end, end)
        for heading, end in zip(tops, ends, strict=True)
        if heading.level == 2 and heading.title != "<unk>" and heading.end < end
    ]
