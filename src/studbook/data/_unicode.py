"""Text files as chunks of text: strict UTF-8, in bounded memory."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

from studbook.data._files import CHUNK, reading
from studbook.errors import DataError

# UTF-32 first: its little-endian mark begins with UTF-16's.
_OTHER_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


def read_text(file: Path, where: str) -> Iterator[str]:
    """The decoded file in chunks of a few MiB.

    Raises:
        DataError: Not UTF-8 (the message gives the byte offset), another encoding by its byte-order mark, or binary.
    """
    with reading(where), file.open("rb") as stream:
        pending = stream.read(CHUNK)
        _refuse_marks(pending, where)
        skipped = len(codecs.BOM_UTF8) if pending.startswith(codecs.BOM_UTF8) else 0
        offset, pending = skipped, pending[skipped:]
        while pending:
            chunk = stream.read(CHUNK)
            text, used = _decode(pending, offset, not chunk, where)
            yield text
            offset += used
            pending = pending[used:] + chunk


def _refuse_marks(head: bytes, where: str) -> None:
    for mark, encoding in _OTHER_MARKS:
        if head.startswith(mark):
            hint = f"convert it: iconv -f {encoding} -t UTF-8"
            raise DataError(f"{where} is {encoding} text, expected UTF-8", hint=hint)


def _decode(pending: bytes, offset: int, final: bool, where: str) -> tuple[str, int]:
    zero = pending.find(b"\0")
    if zero >= 0:
        raise DataError(f"{where} isn't text: a zero byte at offset {offset + zero:,}", hint="point data.source at a text file")
    try:
        return codecs.utf_8_decode(pending, "strict", final)
    except UnicodeDecodeError as error:
        bad = pending[error.start]
        message = f"{where} isn't UTF-8: byte 0x{bad:02x} at offset {offset + error.start:,}"
        raise DataError(message, hint="convert it, for example: iconv -f LATIN1 -t UTF-8") from error
