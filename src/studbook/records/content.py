"""What an output is called: the SHA-256 of its bytes."""

from __future__ import annotations

import hashlib
import unicodedata


def canonical_text(text: str) -> bytes:
    """A text's UTF-8 in Unicode's normal form C.

    Raises:
        UnicodeEncodeError: Half a surrogate pair, which has no UTF-8.
    """
    return (text if unicodedata.is_normalized("NFC", text) else unicodedata.normalize("NFC", text)).encode()


def text_content(text: str) -> str:
    r"""The content of a text, ``sha256:…``; spellings of one text in Unicode's various forms are one.

    Raises:
        UnicodeEncodeError: Half a surrogate pair, which has no UTF-8.

    Examples:
        >>> from studbook.records import text_content
        >>> text_content("caf\u00e9") == text_content("cafe\u0301")
        True
    """
    return bytes_content(canonical_text(text))


def bytes_content(data: bytes) -> str:
    """The content of a file or any bytes, ``sha256:…``."""
    return "sha256:" + hashlib.sha256(data).hexdigest()
