"""What a coordinator and its nodes say to each other: a kind, a few fields, and arrays; the same bytes wherever a node lives."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from studbook import errors
from studbook.errors import RecordError, StudbookError, UnitFailedError
from studbook.protocols.values import MAX_BYTES, Parameters, buffers, decode, encoded_size

_MAX_HEADER = 1 << 26
_MAX_PARTS = 100_000
_ALIGNED = 64


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """One request or answer.

    Attributes:
        kind: What is asked, or answered.
        fields: JSON's types; numbers may be NaN, as a diverged loss is.
        arrays: Parameters, gradients, an optimiser's arrays, by name.

    Examples:
        >>> import numpy as np
        >>> from studbook.protocols.messages import Message
        >>> sent = Message("adopt", {"step": 3}, {"parameters": {"w": np.ones(2, np.float32)}})
        >>> read = Message.decode(sent.encode(), "the answer")
        >>> read.kind, read.fields["step"], read.arrays["parameters"]["w"].tolist()
        ('adopt', 3, [1.0, 1.0])
    """

    kind: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, Parameters] = field(default_factory=dict)

    @property
    def array_bytes(self) -> int:
        """Bytes of its arrays, without the words around them; found without encoding."""
        return sum(encoded_size(part) for part in self.arrays.values())

    def encode(self) -> bytes:
        """As bytes: the length of a header, the header (JSON), then the arrays by name."""
        return b"".join(self.buffers())

    def buffers(self) -> list[bytes | memoryview]:
        """What ``encode`` joins: bytes, and views of the arrays.

        Spaces after the header put the first array where an array read from memory begins: it is used there, not copied.
        """
        names = sorted(self.arrays)
        parts = [buffers(self.arrays[name]) for name in names]
        lengths = [[name, sum(map(len, part))] for name, part in zip(names, parts, strict=True)]
        header = json.dumps({"kind": self.kind, "fields": self.fields, "arrays": lengths}, sort_keys=True).encode()
        header += b" " * (-(8 + len(header) + sum(len(part[0]) for part in parts[:1])) % _ALIGNED)
        return [len(header).to_bytes(8, "little") + header, *(buffer for part in parts for buffer in part)]

    @classmethod
    def decode(cls, data: bytes | memoryview, what: str) -> Message:
        """The message that ``encode`` wrote; from outside, so nothing in it is trusted.

        Memory that can be written to is taken over: arrays are views of it.

        Raises:
            RecordError: Cut off, oversized, or not such bytes.
        """
        size = int.from_bytes(data[:8], "little")
        if len(data) < 8 or len(data) > MAX_BYTES or size > min(_MAX_HEADER, len(data) - 8):
            raise _garbage(what, f"{len(data):,} bytes with a header of {size:,}")
        kind, fields, lengths = _header(bytes(data[8 : 8 + size]), what)
        start, arrays = 8 + size, {}
        for name, length in lengths:
            arrays[name] = decode(data[start : start + length], f"{name!r} of {what}")
            start += length
        if start != len(data):
            raise _garbage(what, f"{len(data) - start:,} bytes too many")
        return cls(kind, fields, arrays)


def _header(data: bytes, what: str) -> tuple[str, dict[str, Any], list[tuple[str, int]]]:
    try:
        header = json.loads(data)
        kind, fields, lengths = header["kind"], header["fields"], [(name, n) for name, n in header["arrays"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _garbage(what, "a header that can't be read") from error
    sound = all(isinstance(name, str) and type(n) is int and 0 <= n <= MAX_BYTES for name, n in lengths)
    if not isinstance(kind, str) or not isinstance(fields, dict) or not sound or len(lengths) > _MAX_PARTS:
        raise _garbage(what, "a header of another form")
    return kind, fields, lengths


def _garbage(what: str, seen: str) -> RecordError:
    return RecordError(f"{what} is no message: {seen}", hint="ask for it again; both sides need the same version of studbook")


def error_message(error: Exception) -> Message:
    """An error as an answer."""
    if isinstance(error, StudbookError):
        return Message("error", {"code": error.code, "message": error.message, "hint": error.hint})
    return Message("error", {"code": UnitFailedError.code, "message": f"{type(error).__name__}: {error}"[:2000], "hint": None})


def raise_error(message: Message, who: str) -> None:
    """Raise the error that an answer holds, of the class it had there; return nothing for other answers.

    Raises:
        StudbookError: As it was raised there.
    """
    if message.kind != "error":
        return
    code, text, hint = (message.fields.get(name) for name in ("code", "message", "hint"))
    kinds = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, StudbookError)]
    kind = next((each for each in kinds if each.code == code), UnitFailedError)
    raise kind(f"{who}: {str(text)[:2000]}", hint=str(hint)[:500] if isinstance(hint, str) else None)
