"""Running text as tokens, documents and sections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studbook.arrays import Ints, Kind
from studbook.data import open_source
from studbook.errors import DataError
from studbook.rng import stream

_LONGEST_TITLE = 16
_MARK = "="


@dataclass(frozen=True, slots=True, eq=False)
class Heading:
    """A heading in the form of WikiText, ``= Title =``, ``= = Section = =``.

    Attributes:
        start: Place of its first token.
        end: Place after its last one.
        level: 1 is an article's title.
        title: Its words.
    """

    start: int
    end: int
    level: int
    title: str


@dataclass(frozen=True, slots=True, eq=False)
class RunningText:
    """A text as word ids, in order, cut into documents.

    Attributes:
        ids: ``(n,)`` ids in [0, vocabulary): ranks by frequency; the last one stands for all rarer words.
        words: The vocabulary.
        documents: ``(n,)`` the document of each word, ascending from 0.
        headings: Those that were found; none in text of another form.
        digest: Of the text as it was read, and of the vocabulary's size.
    """

    ids: NDArray[np.int32]
    words: tuple[str, ...]
    documents: Ints
    headings: tuple[Heading, ...]
    digest: str

    def held_documents(self, share: float) -> NDArray[np.bool_]:
        """``(documents,)`` which ones are held out, at random: one or more, but not all.

        Raises:
            DataError: Only one document.
        """
        n = int(self.documents[-1]) + 1
        if n < 2:
            raise DataError("the text is one document, expected two or more: one at least is held out", hint="set document lower")
        held = np.zeros(n, bool)
        held[stream(0, "held out").permutation(n)[: min(n - 1, max(1, round(share * n)))]] = True
        return held

    def about(self) -> Mapping[str, Any]:
        """What determines it, as JSON's types."""
        return {"data": self.digest, "vocabulary": len(self.words), "documents": int(self.documents[-1]) + 1}


def load_text(data: str, vocabulary: int, document: int, tokens: str = "words") -> RunningText:
    """The text of a source.

    Args:
        data: ``python-docs``, or a text file.
        vocabulary: Words that are told apart, the last of which stands for all rarer ones.
        document: Words a document where the text has no titles of articles (``= Title =``).
        tokens: As of the source; ``whitespace`` for WikiText.

    Raises:
        DataError: No text, or fewer different words than ``vocabulary``.
    """
    dataset = open_source(data, tokens=tokens, block=1).load()
    batch = dataset.records
    if batch is None or batch.space.kind is not Kind.TEXT:
        raise DataError(f"{data} isn't text", hint="take python-docs, or a text file")
    ids, known = batch.values.reshape(-1), batch.space.vocabulary
    if len(known) < vocabulary:
        message = f"{data} has {len(known):,} different words, expected {vocabulary:,} or more"
        raise DataError(message, hint=f"set vocabulary to {len(known)} or less, or take a longer text")
    headings = find_headings(ids, known)
    starts = np.zeros(len(ids), np.int64)
    starts[[heading.start for heading in headings if heading.level == 1]] = 1
    # Where there are fewer sections than articles, the marks are those of equations or of code.
    articles = 1 < starts.sum() <= sum(heading.level == 2 for heading in headings)
    documents = np.cumsum(starts) if articles else np.arange(len(ids)) // document
    words = (*known[: vocabulary - 1], "<rare>")
    digest = f"sha256:{dataset.digest}/{vocabulary}/{document}"
    return RunningText(np.minimum(ids, vocabulary - 1).astype(np.int32), words, documents - documents[0], headings, digest)


def find_headings(ids: NDArray[Any], words: tuple[str, ...]) -> tuple[Heading, ...]:
    """The headings in a text of word ids: as many marks before the title as after it."""
    if _MARK not in words:
        return ()
    marks = np.flatnonzero(ids == words.index(_MARK))
    if not len(marks):
        return ()
    runs = np.split(marks, np.flatnonzero(np.diff(marks) > 1) + 1)
    found: list[Heading] = []
    opening, *others = runs
    for closing in others:
        if not len(opening):
            opening = closing
            continue
        level, length = len(opening), int(closing[0] - opening[-1]) - 1
        if len(closing) >= level and length <= _LONGEST_TITLE:
            title = " ".join(words[token] for token in ids[opening[-1] + 1 : closing[0]])
            found.append(Heading(int(opening[0]), int(closing[level - 1]) + 1, level, title))
            # What is left of the marks opens a heading that follows at once; nothing left: the next run opens one.
            opening = closing[level:]
        else:
            opening = closing
    return tuple(found)
