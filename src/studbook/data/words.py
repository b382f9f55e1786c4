"""Text to blocks of token ids, and back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from studbook.arrays import AnyArray, Batch, Joined, Space, text
from studbook.data import tokenizers
from studbook.data._files import CHUNK, require_size
from studbook.errors import ConfigError, DataError

Tokens: TypeAlias = Literal["words", "whitespace", "characters", "bytes", "bpe"]
UNKNOWN = "<unk>"

_JOINED: dict[str, Joined] = {"words": "words", "whitespace": "words", "characters": "plain", "bytes": "bytes"}

# In this order: WikiText's <unk> and @-@, a detached ending ('s), a number, a word (with n't, hyphens and dots inside), else one mark.
_WORD = re.compile(r"<[A-Za-z]+>|@[-.,]@|['’](?:s|re|ve|ll|d|m)\b|\d+(?:[.,]\d+)*(?!\w)|\w+(?:[-.]\w+)*(?:['’]t\b)?|\.{3}|[^\w\s]")
_NO_SPACE_BEFORE = frozenset(".,;:!?)]}%'’…”") | {"...", "'s", "'re", "'ve", "'ll", "'d", "'m", "’s", "’re", "’ve", "’ll", "’d", "’m"}
_NO_SPACE_AFTER = frozenset("([{$#“‘")


@dataclass(frozen=True, slots=True)
class TextOptions:
    """How running text becomes records.

    Args:
        tokens: What a token is: ``words`` (words, numbers and punctuation marks apart), ``whitespace`` (whatever stands between
            blanks, as in WikiText), ``characters``, ``bytes``, or ``bpe``: byte-level byte pair encoding (Sennrich et al. 2016; Radford
            et al. 2019), trained on the text itself to at most ``vocabulary`` tokens.
        block: Tokens a record; the remainder at the end of the text is dropped.
        vocabulary: Largest number of different tokens, ``<unk>`` included: rarer ones become ``<unk>``. 0 keeps all.
        lowercase: Whether upper case is folded away.
        limit: Number of blocks taken from the start; 0 takes all.
        tokenizer: A pretrained model's tokenizer in place of ``tokens``: its folder, its hub id, or ``smollm2``.

    Raises:
        ConfigError: A size out of range, or options that exclude each other.
    """

    tokens: Tokens = "words"
    block: int = 64
    vocabulary: int = 0
    lowercase: bool = False
    limit: int = 0
    tokenizer: str = ""

    def __post_init__(self) -> None:
        require_size("block", self.block, 1)
        require_size("limit", self.limit, 0)
        if self.tokenizer:
            self._require_nothing_else()
        elif self.tokens == "bpe":
            require_size("vocabulary", self.vocabulary, tokenizers.LEAST)
        elif self.vocabulary != 0:
            require_size("vocabulary", self.vocabulary, 2)

    def blocks(self, chunks: Iterable[str], where: str) -> Batch:
        """The text, given in chunks, as a batch of blocks.

        Token ids are ranks: 0 is the most frequent token; equally frequent ones follow their first appearance. Those of ``bpe`` and of
        a pretrained tokenizer are the tokenizer's own.

        Raises:
            CheckpointError: A tokenizer that isn't there, or is damaged.
            DataError: Fewer tokens than one block holds, or no text at all.
            MissingExtraError: A tokenizer is asked for, and the library ``tokenizers`` isn't installed.
        """
        if self.tokenizer or self.tokens == "bpe":
            return self._subwords(chunks, where)
        ids, words = _numbered(split_tokens(chunks, self.tokens, self.lowercase, where), self.limit * self.block)
        blocks = self._cut(ids, where)
        ids, words = _ranked(*_capped(blocks.reshape(-1), words, self.vocabulary))
        return text(ids.reshape(blocks.shape), tuple(words), _JOINED[self.tokens])

    def _subwords(self, chunks: Iterable[str], where: str) -> Batch:
        parts = (chunk.lower() for chunk in chunks) if self.lowercase else chunks
        if self.tokenizer:
            encoder = tokenizers.open_encoder(self.tokenizer)
        else:
            parts = list(parts)
            encoder = tokenizers.train_encoder(parts, self.vocabulary)
        ids = encoder.encode(parts, self.limit * self.block)
        return text(self._cut(ids, where), encoder.vocabulary, encoder.joined)

    def _cut(self, ids: AnyArray, where: str) -> AnyArray:
        """Token ids as ``(n, block)``."""
        n_blocks = len(ids) // self.block
        if n_blocks == 0:
            message = f"{where} holds {len(ids):,} tokens, fewer than one block of {self.block:,}"
            raise DataError(message, hint="take a longer text, or set data.block lower")
        return ids[: n_blocks * self.block].reshape(n_blocks, self.block)

    def _require_nothing_else(self) -> None:
        """A pretrained tokenizer brings its own tokens."""
        for name, given, unset in (("tokens", self.tokens, "words"), ("vocabulary", self.vocabulary, 0)):
            if given != unset:
                message = f"data.{name} is {given!r}, but data.tokenizer is given, which has its own"
                raise ConfigError(message, hint=f"drop data.{name} or data.tokenizer")


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


def join_tokens(ids: AnyArray, space: Space) -> str:
    """Token ids as readable text: words with blanks where English has them, characters and parts of words put end to end.

    Args:
        ids: ``(length,)`` token ids.
        space: Has the word behind each id, and how words are joined. Bytes that are no UTF-8 become a replacement mark.

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import text
        >>> batch = text(np.array([[0, 1, 2, 3, 4]]), ("Models", "(", "eat", ")", "."))
        >>> join_tokens(batch.values[0], batch.space)
        'Models (eat).'
    """
    words = [space.vocabulary[i] for i in np.asarray(ids).tolist()]
    if space.joined == "words":
        return _spaced(words)
    joined = "".join(words)
    return joined if space.joined == "plain" else joined.encode("latin-1", "replace").decode("utf-8", "replace")


def _spaced(words: list[str]) -> str:
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
