"""Words of a text, and 64-bit hashes of runs of them ("shingles").

The hash of a word, rule ``words2``: its UTF-8 is taken eight bytes at a time as little-endian numbers, the last filled up with zeros; from
h = 0, h becomes mix(h + block + φ) block by block, where mix is the last steps of SplitMix64 (Steele, Lea and Flood, 2014) and φ its
constant 0x9E3779B97F4A7C15. Words of up to eight bytes never share a hash; others do by chance, 2⁻⁶⁴ a pair. It is no cryptographic hash:
who wants two words to share one can construct them. ``words1`` took BLAKE2b, which cost more than all else in a fingerprint.
"""

from __future__ import annotations

import re
import unicodedata
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from studbook.arrays import AnyArray, Ints
from studbook.errors import ConfigError, DataError

Texts: TypeAlias = tuple[NDArray[np.uint8], Ints, NDArray[np.uint8]]
"""Bytes, text behind text, ``(n_bytes,)``; where each text begins and the last ends ``(n + 1,)``; and the class of each code point."""
Kernel: TypeAlias = Callable[[Texts, AnyArray, Ints], None]

RULE = "words2"
"""Version of the rule by which a text is cut into words, and of the hash of a word."""
MAX_CHARACTERS = 1 << 24
MAX_SHINGLE = 64
MAX_THREADS = 256
# Texts are hashed in blocks of about so many bytes, so that a stream of them takes little memory.
_BLOCK_BYTES, _BLOCK_TEXTS = 1 << 22, 1 << 12
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


def fold(text: str) -> str:
    """A text in normal form C, its case folded, in normal form C again.

    Raises:
        DataError: See ``checked_text``.
    """
    return unicodedata.normalize("NFC", checked_text(text).casefold())


def words_of(text: str) -> list[str]:
    """The words of a text, in order.

    The text in normal form C, its case folded, in normal form C again; then every longest run of letters and digits is
    a word, and every Han character and kana is one by itself. All else, the underscore and marks that form C leaves alone included, only
    separates. Unicode's own tables decide what a letter is; they don't change for characters already assigned.

    Raises:
        DataError: Not a text; or no word in it.

    Examples:
        >>> from studbook.fingerprints.words import words_of
        >>> words_of("Don't PANIC: 42 Straßen, 日本!")
        ['don', 't', 'panic', '42', 'strassen', '日', '本']
    """
    folded = fold(text)
    found = folded.translate(_SPACES).split() if folded.isascii() else _WORD.findall(folded)
    if not found:
        raise DataError(f"a text has no word: {text[:40]!r}", hint="the exact fingerprint takes any text")
    return found


@lru_cache(maxsize=1)
def _classes() -> NDArray[np.uint8]:
    """By code point: 0 separates, 1 is part of a word, 2 is a word by itself. Unicode has no letters behind plane 3."""
    found = np.fromiter((chr(point).isalnum() for point in range(0x40000)), np.uint8, 0x40000)
    for first, last in re.findall("(.)-(.)", _ALONE):
        found[ord(first) : ord(last) + 1] = 2
    return np.concatenate([found, np.zeros(0x110000 - 0x40000, np.uint8)])


def _folded(text: Any) -> bytes:
    """A text as compiled code reads it: ASCII in large letters too, all else case-folded in normal form C, in UTF-8."""
    if isinstance(text, str) and text.isascii() and 0 < len(text) <= MAX_CHARACTERS:
        return text.encode()
    return fold(text).encode()


def read_texts(texts: Iterable[Any]) -> Iterator[Texts]:
    """Texts in blocks, ready for compiled code.

    Raises:
        DataError: See ``checked_text``.
    """
    parts: list[bytes] = []
    n_bytes = 0
    for text in checked_texts(texts):
        parts.append(_folded(text))
        n_bytes += len(parts[-1])
        if n_bytes >= _BLOCK_BYTES or len(parts) == _BLOCK_TEXTS:
            yield _block(parts)
            parts, n_bytes = [], 0
    if parts:
        yield _block(parts)


def _block(parts: list[bytes]) -> Texts:
    bounds = np.zeros(len(parts) + 1, np.int64)
    np.cumsum(list(map(len, parts)), out=bounds[1:])
    data = b"".join(parts)
    return np.frombuffer(data, np.uint8), bounds, np.empty(0, np.uint8) if data.isascii() else _classes()


def hash_texts(texts: Iterable[Any], kernel: Kernel, like: AnyArray, threads: int) -> Iterator[AnyArray]:
    """What a kernel makes of the texts, block by block, each block shared among the threads.

    Args:
        texts: Any iterable of texts.
        kernel: Called with texts, the rows to write ``(n, width)`` and the number of each text's shingles to write ``(n,)``.
        like: An array of one row, for its width and dtype.
        threads: 1 … ``MAX_THREADS``; the result doesn't depend on it.

    Yields:
        The rows of each block.

    Raises:
        ConfigError: An impossible number of threads.
        DataError: See ``words_of``.
    """
    if type(threads) is not int or not 1 <= threads <= MAX_THREADS:
        raise ConfigError(f"threads is {threads!r}, expected an integer, 1 to {MAX_THREADS}")
    blocks = read_texts(texts)
    if threads == 1:
        yield from (_hash_block(block, kernel, like, 1, map) for block in blocks)
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from (_hash_block(block, kernel, like, threads, pool.map) for block in blocks)


def _hash_block(block: Texts, kernel: Kernel, like: AnyArray, n_parts: int, run: Callable[..., Iterable[None]]) -> AnyArray:
    data, bounds, classes = block
    n = len(bounds) - 1
    rows, n_shingles = np.empty((n, like.shape[-1]), like.dtype), np.empty(n, np.int64)

    def work(part: tuple[int, int]) -> None:
        a, b = part
        kernel((data, bounds[a : b + 1], classes), rows[a:b], n_shingles[a:b])

    edges = np.searchsorted(bounds, np.linspace(0, bounds[-1], n_parts + 1)).tolist()
    deque(run(work, [(a, b) for a, b in pairwise(edges) if a < b]), maxlen=0)
    if not n_shingles.all():
        empty = int(np.argmin(n_shingles))
        words_of(data[bounds[empty] : bounds[empty + 1]].tobytes().decode())  # says what is wrong
    return rows


def check_words(scheme: str, words: int) -> None:
    """Refuse a shingle of no words or of more than ``MAX_SHINGLE``.

    Raises:
        ConfigError: It is one.
    """
    if not 1 <= words <= MAX_SHINGLE:
        raise ConfigError(f"{scheme}.words is {words}, expected 1 to {MAX_SHINGLE}", hint="3 tells texts apart and survives small edits")
