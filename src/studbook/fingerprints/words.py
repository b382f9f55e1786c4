"""Words of a text, and 64-bit hashes of runs of them ("shingles")."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from studbook.errors import ConfigError, DataError

Hashes: TypeAlias = NDArray[np.uint64]

RULE = "words1"
"""Version of the rule by which a text is cut into words, and of the hash of a word."""
MAX_CHARACTERS = 1 << 24
MAX_SHINGLE = 64
# Scripts written without spaces, a character a word: kana, Han with its extensions and compatibility forms.
_ALONE = "\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(f"[^\\W_{_ALONE}]+|[{_ALONE}]")
# The same rule for ASCII, several times as fast: all that separates becomes a space.
_SPACES = {i: " " for i in range(128) if not chr(i).isalnum()}


def checked_text(text: Any) -> str:
    """The text in Unicode's normal form C.

    Raises:
        DataError: Not a text, an empty one, more than ``MAX_CHARACTERS``, or half a surrogate pair, which has no UTF-8.
    """
    if not isinstance(text, str):
        raise DataError(f"a text is {type(text).__name__}, expected str", hint="decode bytes first")
    if not text:
        raise DataError("a text is empty, and its digest would prove nothing", hint="leave empty outputs out")
    if len(text) > MAX_CHARACTERS:
        raise DataError(f"a text has {len(text):,} characters, at most {MAX_CHARACTERS:,} are read", hint="cut it up")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"a text has half a surrogate pair at character {error.start}", hint="decode it with errors='replace'") from error
    return unicodedata.normalize("NFC", text)


def checked_texts(texts: Iterable[Any]) -> Iterable[Any]:
    """``texts`` as they are.

    Raises:
        DataError: A single text, which would be taken letter by letter.
    """
    if isinstance(texts, str | bytes) or not isinstance(texts, Iterable):
        raise DataError(f"texts are {type(texts).__name__}, expected a sequence of str", hint="digest takes a single text")
    return texts


def words_of(text: str) -> list[str]:
    """The words of a text, in order.

    The rule ``words1``: the text in normal form C, its case folded, in normal form C again; then every longest run of letters and digits is
    a word, and every Han character and kana is one by itself. All else, the underscore and marks that form C leaves alone included, only
    separates. Unicode's own tables decide what a letter is; they don't change for characters already assigned.

    Raises:
        DataError: Not a text; or no word in it.

    Examples:
        >>> from studbook.fingerprints.words import words_of
        >>> words_of("Don't PANIC: 42 Straßen, 日本!")
        ['don', 't', 'panic', '42', 'strassen', '日', '本']
    """
    folded = unicodedata.normalize("NFC", checked_text(text).casefold())
    found = folded.translate(_SPACES).split() if folded.isascii() else _WORD.findall(folded)
    if not found:
        raise DataError(f"a text has no word: {text[:40]!r}", hint="the exact fingerprint takes any text")
    return found


@lru_cache(maxsize=1 << 16)
def word_hash(word: str) -> bytes:
    """BLAKE2b (RFC 7693) of the word's UTF-8, 8 bytes, personalised ``studbook.words1``; taken for a little-endian integer."""
    return blake2b(word.encode(), digest_size=8, person=b"studbook.words1").digest()


def shingles_of(text: str, size: int) -> Hashes:
    """Hashes of all runs of ``size`` words ``(n,)``, repeated ones included; a text with fewer words is a single shorter run.

    Raises:
        DataError: See ``words_of``.
    """
    from studbook.fingerprints._text_kernels import mix_shingles

    words = np.frombuffer(b"".join(map(word_hash, words_of(text))), "<u8").astype(np.uint64)
    size = min(size, len(words))
    shingles = np.empty(len(words) - size + 1, np.uint64)
    mix_shingles(words, size, shingles)
    return shingles


def check_words(scheme: str, words: int) -> None:
    """Refuse a shingle of no words or of more than ``MAX_SHINGLE``.

    Raises:
        ConfigError: It is one.
    """
    if not 1 <= words <= MAX_SHINGLE:
        raise ConfigError(f"{scheme}.words is {words}, expected 1 to {MAX_SHINGLE}", hint="3 tells texts apart and survives small edits")
