"""Names of outputs by their bytes, and the fingerprints under which the register looks for what is near."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from studbook.errors import DataError
from studbook.fingerprints import FINGERPRINTS, FixedWidth, MinHash, PdqHash, PerceptualHash
from studbook.fingerprints.words import checked_text, words_of
from studbook.pictures import read_picture
from studbook.records import content

Packed: TypeAlias = NDArray[np.uint8]
Picture: TypeAlias = bytes | NDArray[np.uint8]

TEXT_SCHEMES: tuple[MinHash, ...] = (MinHash(),)
IMAGE_SCHEMES: tuple[FixedWidth, ...] = (PerceptualHash(), PdqHash())
_PIXELS = b"studbook.pixels/1 "


@dataclass(frozen=True, slots=True, eq=False)
class Prints:
    """Outputs as the register sees them; made once, they serve both to add and to find.

    Attributes:
        kind: ``"text"`` or ``"image"``.
        contents: SHA-256 of each output, 32 bytes.
        packed: For each fingerprint its digests ``(m, n_bytes)`` uint8 and which of the outputs they are of ``(m,)``: what has no word, or
            shows nothing, has none.
    """

    kind: str
    contents: list[bytes]
    packed: tuple[tuple[FixedWidth, Packed, NDArray[np.int64]], ...]

    def __len__(self) -> int:
        return len(self.contents)


def canonical_text(text: str) -> bytes:
    r"""The bytes that name a text: UTF-8 in Unicode's normal form C.

    Raises:
        DataError: Not a text, an empty one, one that is too long, or half a surrogate pair.

    Examples:
        >>> from studbook.registry import canonical_text
        >>> canonical_text("cafe\u0301")
        b'caf\xc3\xa9'
    """
    return content.canonical_text(checked_text(text))


def text_content(text: str) -> str:
    """``"sha256:…"`` of ``canonical_text``.

    Examples:
        >>> from studbook.registry import text_content
        >>> text_content("café")[:15]
        'sha256:850f7dc4'
    """
    return content.bytes_content(canonical_text(text))


def picture_content(picture: Picture) -> str:
    """``"sha256:…"`` of a picture's file, or of shape and pixels of an array.

    Args:
        picture: The file's bytes, or ``(h, w)`` or ``(h, w, 3)`` uint8.

    Raises:
        DataError: Neither.

    Examples:
        >>> import numpy as np
        >>> from studbook.registry import picture_content
        >>> picture_content(np.zeros((2, 3), np.uint8)) == picture_content(np.zeros((3, 2), np.uint8))
        False
    """
    return f"sha256:{_picture_bytes(picture, 'the picture').hex()}"


def _picture_bytes(picture: Any, what: str) -> bytes:
    if isinstance(picture, bytes):
        return hashlib.sha256(picture).digest()
    if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.ndim not in (2, 3):
        got = f"{picture.dtype} of shape {picture.shape}" if isinstance(picture, np.ndarray) else type(picture).__name__
        raise DataError(f"{what} is {got}, expected a file's bytes, or uint8 (h, w) or (h, w, 3)")
    header = _PIXELS + b"x".join(str(side).encode() for side in picture.shape) + b"\n"
    return hashlib.sha256(header + np.ascontiguousarray(picture).tobytes()).digest()


def fingerprint_texts(texts: Iterable[str], *, threads: int = 1) -> Prints:
    """Texts as the register sees them: SHA-256, and MinHash over three words.

    A text without a word (only signs) has no MinHash, and is found by its bytes alone.

    Args:
        texts: The texts.
        threads: Threads to share the MinHashes among; the result doesn't depend on it.

    Raises:
        DataError: Not texts, an empty one, one that is too long, or one with half a surrogate pair.

    Examples:
        >>> from studbook.registry import fingerprint_texts
        >>> prints = fingerprint_texts(["one two three four", "!!!"])
        >>> len(prints), prints.packed[0][1].shape, prints.packed[0][2].tolist()
        (2, (1, 256), [0])
    """
    if isinstance(texts, str | bytes):
        raise DataError(f"texts are {type(texts).__name__}, expected a sequence of str", hint="put the single text into a list")
    taken, sha256 = list(texts), hashlib.sha256
    contents = [sha256(content.canonical_text(_plain(text))).digest() for text in taken]
    packed = []
    for scheme in TEXT_SCHEMES:
        try:
            packed.append((scheme, scheme.pack(taken, threads=threads), np.arange(len(taken))))
        except DataError:
            # Some text has no word; who is it?
            rows = np.array([i for i, text in enumerate(taken) if _has_words(text)], np.int64)
            packed.append((scheme, scheme.pack([taken[i] for i in rows], threads=threads), rows))
    return Prints("text", contents, tuple(packed))


def _plain(text: Any) -> str:
    """The text, where a short look shows nothing wrong; else what ``checked_text`` says of it."""
    if type(text) is str and text and len(text) <= 1 << 20 and text.isascii():
        return text
    return checked_text(text)


def _has_words(text: str) -> bool:
    try:
        words_of(text)
    except DataError:
        return False
    return True


def fingerprint_pictures(pictures: Sequence[Picture], *, unpacked: Sequence[NDArray[np.uint8]] | None = None) -> Prints:
    """Pictures as the register sees them: SHA-256, the perceptual hash and PDQ.

    A picture without a shape (all of one colour) has neither hash: all such pictures would be near each other. It is found by its bytes.

    Args:
        pictures: Files' bytes, or ``(h, w)`` or ``(h, w, 3)`` uint8.
        unpacked: Their pixels, where somebody unpacked them before; by default they are unpacked here.

    Raises:
        DataError: Not pictures, the message names which; or not as many unpacked ones.
        MissingExtraError: Files, and Pillow isn't installed.

    Examples:
        >>> import numpy as np
        >>> from studbook.registry import fingerprint_pictures
        >>> one = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
        >>> [len(rows) for _, _, rows in fingerprint_pictures([one, np.zeros((32, 32), np.uint8)]).packed]
        [1, 1]
    """
    contents = [_picture_bytes(each, f"picture {i}") for i, each in enumerate(pictures)]
    pixels = pixels_of(pictures) if unpacked is None else list(unpacked)
    if len(pixels) != len(contents):
        raise DataError(f"there are {len(pixels)} unpacked pictures of {len(contents)}", hint="give one for each")
    packed = []
    for scheme in IMAGE_SCHEMES:
        bits = scheme.pack(pixels) if pixels else np.empty((0, 1), np.uint8)
        rows = np.flatnonzero(bits.any(axis=1))
        packed.append((scheme, bits[rows], rows))
    return Prints("image", contents, tuple(packed))


def pixels_of(pictures: Sequence[Picture]) -> list[NDArray[np.uint8]]:
    """Pictures unpacked, arrays as they are.

    Raises:
        DataError: A file that is no picture.
        MissingExtraError: Files, and Pillow isn't installed.
    """
    return [read_picture(each, f"picture {i}") if isinstance(each, bytes) else each for i, each in enumerate(pictures)]


def measured_in_bits(scheme: str) -> bool:
    """Whether a scheme's distances are Hamming's; those with a measure of their own have no index but MinHash's."""
    return scheme in FINGERPRINTS and not hasattr(FINGERPRINTS[scheme], "distance")
