"""Which frequent word comes next? Classification over a Zipf vocabulary, on real text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from studbook.errors import DataError
from studbook.neural.options import require
from studbook.parameters import conform
from studbook.protocols.objectives._text import RunningText, load_text
from studbook.protocols.objectives._words import WordObjective, WordRows


@dataclass(frozen=True, slots=True)
class NextWord:
    """The next word out of the most frequent ones, from the word before it and a bag of those before that.

    Rows are the places at which one of the ``classes`` most frequent words follows. A client of few words needs few of the vocabulary's
    rows: a slice of a word is its row in both matrices.

    Attributes:
        data: ``python-docs``, or a text file, for example of WikiText.
        tokens: How the text is cut: ``words``, or ``whitespace`` for WikiText.
        vocabulary: Words that are told apart, the last of which stands for all rarer ones.
        classes: Words that are told apart as the next one.
        window: Words of the bag.
        hidden: Neurons of a hidden layer; 0 is none.
        document: Words a document, where the text has no titles of articles.
        held_out: Share of the documents that is held out.
        limit: Rows a document that are kept, from its start; 0 keeps all.

    Raises:
        ConfigError: A value out of range.

    References:
        Charles et al. 2022, "Federated select", section 5: next-word prediction, and tags from bags of words.
    """

    data: str = "python-docs"
    tokens: Literal["words", "whitespace"] = "words"
    vocabulary: int = 5000
    classes: int = 64
    window: int = 8
    hidden: int = 0
    document: int = 2000
    held_out: float = 0.2
    limit: int = 0

    def __post_init__(self) -> None:
        conform(self, "objective")
        require(2 <= self.vocabulary <= 1 << 24, "objective", "vocabulary", self.vocabulary, "2 to 16,777,216 words")
        require(2 <= self.classes < self.vocabulary, "objective", "classes", self.classes, "2 or more words, fewer than the vocabulary")
        require(1 <= self.window <= 4096, "objective", "window", self.window, "1 to 4,096 words")
        require(0 <= self.hidden <= 1 << 16, "objective", "hidden", self.hidden, "0 (none) to 65,536 neurons")
        require(self.document > self.window, "objective", "document", self.document, "more words than the window")
        require(0.0 < self.held_out < 1.0, "objective", "held_out", self.held_out, "a share above 0 and below 1")
        require(self.limit >= 0, "objective", "limit", self.limit, "0 (all) or more rows")

    def load(self) -> WordObjective:
        """The objective, with its data.

        Raises:
            DataError: No text, too few different words, or one document alone.
        """
        text = load_text(self.data, self.vocabulary, self.document, self.tokens)
        about = {"objective": "next_word", **text.about(), "window": self.window, "limit": self.limit}
        rows, origin = self._rows(text)
        held = text.held_documents(self.held_out)[origin]
        if held.all() or not held.any():
            raise DataError("no place of the text is left to train on, or to hold out", hint="take a longer text, or more classes")
        return WordObjective(rows.take(~held), rows.take(held), self.vocabulary, self.classes, self.hidden, about)

    def _rows(self, text: RunningText) -> tuple[WordRows, np.ndarray[tuple[int], np.dtype[np.int64]]]:
        """All rows, and the document of each."""
        classes = _most_frequent(text, self.classes)
        class_of = np.full(self.vocabulary, -1, np.int64)
        class_of[classes] = np.arange(self.classes)
        ends = np.arange(self.window + 1, len(text.ids))
        inside = text.documents[ends - self.window - 1] == text.documents[ends]
        ends = ends[inside & (class_of[text.ids[ends]] >= 0)]
        if self.limit:
            starts = np.searchsorted(text.documents[ends], text.documents[ends])
            ends = ends[np.arange(len(ends)) - starts < self.limit]
        origin = text.documents[ends]
        bag = text.ids[ends[:, None] - np.arange(2, self.window + 2)]
        return WordRows({"bag": bag, "last": text.ids[ends - 1][:, None]}, class_of[text.ids[ends]], origin), origin


def _most_frequent(text: RunningText, n: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The first words that are words: not the text's own mark for unknown ones, nor what stands for all rarer ones."""
    named = [i for i, word in enumerate(text.words[:-1]) if word not in ("<unk>", "=")]
    if len(named) < n:
        raise DataError(f"the vocabulary has {len(named):,} words that can be told apart as the next one, expected {n:,}")
    return np.array(named[:n], np.int64)
