"""Text to blocks of token ids, and back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from studbook.arrays import AnyArray, Batch, text
from studbook.data._files import CHUNK, require_size
from studbook.errors import DataError

Tokens: TypeAlias = Literal["words", "whitespace", "characters", "bytes"]
UNKNOWN = "<unk>"

# In this order: WikiText's <unk> and @-@, a detached ending ('s), a number, a word (with n't, hyphens and dots inside), else one mark.
_WORD = re.compile(r"<[A-Za-z]+>|@[-.,]@|['’](?:s|re|ve|ll|d|m)\b|\d+(?:[.,]\d+)*(?!\w)|\w+(?:[-.]\w+)*(?:['’]t\b)?|\.{3}|[^\w\s]")
_NO_SPACE_BEFORE = frozenset(".,;:!?)]}%'’…”") | {"...", "'s", "'re", "'ve", "'ll", "'d", "'m", "’s", "’re", "’ve", "’ll", "’d", "’m"}
_NO_SPACE_AFTER = frozenset("([{$#“‘")


@dataclass(frozen=True, slots=True)
class TextOptions:
    """How running text becomes records.

    Args:
        tokens: What a token is: ``words`` (words, numbers and punctuation marks apart), ``whitespace`` (whatever stands between
            blanks, as in WikiText), ``characters`` or ``bytes``.
        block: Tokens a record; the remainder at the end of the text is dropped.
        vocabulary: Largest number of different tokens, ``<unk>`` included: rarer ones become ``<unk>``. 0 keeps all.
        lowercase: Whether upper case is folded away.
        limit: Number of blocks taken from the start; 0 takes all.

    Raises:
        ConfigError: A size out of range.
    """

    tokens: Tokens = "words"
    block: int = 64
    vocabulary: int = 0
    lowercase: bool = False
    limit: int = 0

    def __post_init__(self) -> None:
        require_size("block", self.block, 1)
        require_size("limit", self.limit, 0)
        if self.vocabulary != 0:
            require_size("vocabulary", self.vocabulary, 2)

    def blocks(self, chunks: Iterable[str], where: str) -> Batch:
        """The text, given in chunks, as a batch of blocks.

        Token ids are ranks: 0 is the most frequent token; equally frequent ones follow their first appearance.

        Raises:
            DataError: Fewer tokens than one block holds, or no text at all.
        """
        ids, words = _numbered(split_tokens(chunks, self.tokens, self.lowercase, where), self.limit * self.block)
        n_blocks = len(ids) // self.block
        if n_blocks == 0:
            message = f"{where} holds {len(ids):,} tokens, fewer than one block of {self.block:,}"
            raise DataError(message, hint="take a longer text, or set data.block lower")
        ids, words = _ranked(*_capped(ids[: n_blocks * self.block], words, self.vocabulary))
        return text(ids.reshape(n_blocks, self.block), tuple(words))


def split_tokens(chunks: Iterable[str], tokens: Tokens, lowercase: bool, where: str) -> Iterator[list[str]]:
    """The tokens of a text, chunk by chunk."""
    if tokens in ("words", "whitespace"):
        chunks = _at_blanks(chunks, where)
    for chunk in chunks:
        part = chunk.lower() if lowercase else chunk
        if tokens == "words":
            yield _WORD.findall(part)
        elif tokens == "whitespace":
            yield part.split()
        elif tokens == "characters":
            yield list(part)
        else:
            # One character a byte, so that a vocabulary is always made of texts.
            yield list(part.encode().decode("latin-1"))


def join_tokens(ids: AnyArray, vocabulary: tuple[str, ...]) -> str:
    """Token ids as readable text: characters run together, words with blanks where English has them.

    Args:
        ids: ``(length,)`` token ids.
        vocabulary: The word behind each id.

    Examples:
        >>> import numpy as np
        >>> join_tokens(np.array([0, 1, 2, 3, 4]), ("Models", "(", "eat", ")", "."))
        'Models (eat).'
    """
    words = [vocabulary[i] for i in np.asarray(ids).tolist()]
    if all(len(word) == 1 for word in vocabulary):
        return "".join(words)
    parts: list[str] = []
    glue, open_quote = "", False
    for word in words:
        closes = word == '"' and open_quote
        parts += [("" if word in _NO_SPACE_BEFORE or closes else glue), word]
        if word == '"':
            open_quote = not open_quote
        glue = "" if word in _NO_SPACE_AFTER or (word == '"' and open_quote) else " "
    return "".join(parts)


def _at_blanks(chunks: Iterable[str], where: str) -> Iterator[str]:
    """The same text, cut only at blanks, so that no word is cut in two."""
    rest = ""
    for chunk in chunks:
        whole = rest + chunk
        cut = max(whole.rfind(" "), whole.rfind("\n")) + 1
        if cut == 0 and len(whole) > CHUNK:
            message = f"{where} holds {len(whole):,} characters without a blank"
            raise DataError(message, hint='for text without blanks set data.tokens = "characters"')
        yield whole[:cut]
        rest = whole[cut:]
    yield rest


class _Numbers(dict[str, int]):
    """Gives each new word the next number, at the speed of a dict look-up."""

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self)
        return number


def _numbered(parts: Iterator[list[str]], most: int) -> tuple[AnyArray, list[str]]:
    """Ids in order of first appearance, and the words; at most ``most`` tokens where that isn't 0."""
    numbers = _Numbers()
    ids: list[AnyArray] = []
    n_tokens = 0
    for part in parts:
        wanted = part[: most - n_tokens] if most else part
        ids.append(np.fromiter(map(numbers.__getitem__, wanted), np.int32, len(wanted)))
        n_tokens += len(wanted)
        if most and n_tokens >= most:
            break
    return np.concatenate([np.empty(0, np.int32), *ids]), list(numbers)


def _capped(ids: AnyArray, words: list[str], most: int) -> tuple[AnyArray, list[str]]:
    """The ids with all but the ``most - 1`` most frequent words replaced by ``<unk>``, where there are more than ``most``."""
    frequency = np.bincount(ids, minlength=len(words))
    if not most or np.count_nonzero(frequency) <= most:
        return ids, words
    unknown = words.index(UNKNOWN) if UNKNOWN in words else len(words)
    extended = words if unknown < len(words) else [*words, UNKNOWN]
    order = np.argsort(-frequency, kind="stable")
    kept = order[order != unknown][: most - 1]
    target = np.full(len(extended), unknown)
    target[kept] = kept
    return target[ids], extended


def _ranked(ids: AnyArray, words: list[str]) -> tuple[AnyArray, list[str]]:
    """Ids by descending frequency; words that don't occur are dropped."""
    frequency = np.bincount(ids, minlength=len(words))
    order = np.argsort(-frequency, kind="stable")[: np.count_nonzero(frequency)]
    rank = np.empty(len(words), dtype=np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    return rank[ids], [words[i] for i in order]
