"""The boxes of a manifest store (ISO 19566-5), measured before a library reads them.

The signature covers the claim and the claim covers its assertions, but some bytes lie outside: lengths and labels of the boxes around
them, and the padding of the signature (about 1,000 bytes). What is changed there says nothing else, but it would hide foreign bytes, and
one credential would have many digests. So the boxes must fill each other exactly, carry the label of their kind, and pad with zeros.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from studbook.errors import ProvenanceError
from studbook.provenance._cbor import CborError, Tag, read_cbor

MAX_STORE = 8 << 20
"""Bytes of a manifest store: a credential of ours has about 3 kB; others bring thumbnails."""
MAX_DEPTH = 8
MAX_BOXES = 4096

_SUFFIX = bytes.fromhex("00110010800000aa00389b71")
_STORE = b"c2pa"
_LABELS = {
    b"c2pa": ("c2pa",), b"c2as": ("c2pa.assertions",), b"c2cl": ("c2pa.claim", "c2pa.claim.v2"), b"c2cs": ("c2pa.signature",),
    b"c2vc": ("c2pa.credentials",), b"c2db": ("c2pa.databoxes",),
}  # fmt: skip
_PADDING = ("pad", "pad2")
_UNPROTECTED = frozenset({*_PADDING, "sigTst", "sigTst2", "rVals", "x5chain", "temp_signing_time", 33})


@dataclass(frozen=True, slots=True)
class _Box:
    """A box: its kind, and its content within the store."""

    kind: bytes
    content: bytes


def check_store(store: bytes, what: str) -> None:
    """Return nothing where these bytes are a manifest store and nothing else.

    Args:
        store: The bytes: a sidecar's, or those embedded in a picture.
        what: What they are, for the messages.

    Raises:
        ProvenanceError: Too long, cut off, longer than it says, or with bytes where there should be none; the message says where.
    """
    if len(store) > MAX_STORE:
        raise ProvenanceError(f"{what} has {len(store):,} bytes, expected at most {MAX_STORE:,}", hint="don't rely on it")
    try:
        boxes = list(_boxes(store))
        if len(boxes) != 1 or boxes[0].kind != b"jumb":
            raise _BoxError(f"expected one box of boxes, got {len(boxes)}")
        if _check_superbox(boxes[0].content, _Budget()) != _STORE:
            raise _BoxError("it is no manifest store")
    except (_BoxError, CborError) as error:
        raise ProvenanceError(f"{what} is damaged or was changed: {error}", hint="don't rely on it; ask for the original") from error


class _BoxError(Exception):
    """What is wrong with the boxes."""


@dataclass(slots=True)
class _Budget:
    """Boxes that may still be opened."""

    boxes: int = MAX_BOXES

    def spend(self) -> None:
        """One more."""
        self.boxes -= 1
        if self.boxes < 0:
            raise _BoxError(f"it has more than {MAX_BOXES:,} boxes")


def _boxes(data: bytes) -> Iterator[_Box]:
    """The boxes in a row that fill ``data`` to its end."""
    place = 0
    while place < len(data):
        if place + 8 > len(data):
            raise _BoxError("a box is cut off")
        length, kind = struct.unpack_from(">I4s", data, place)
        if length < 8 or place + length > len(data):
            raise _BoxError(f"a box says that it has {length:,} bytes where {len(data) - place:,} are left")
        yield _Box(kind, data[place + 8 : place + length])
        place += length


def _check_superbox(content: bytes, budget: _Budget, depth: int = 1) -> bytes:
    """Check a box of boxes and those within; the first four bytes of its kind."""
    if depth > MAX_DEPTH:
        raise _BoxError(f"its boxes are nested more than {MAX_DEPTH} deep")
    budget.spend()
    description, *inner = _boxes(content)
    if description.kind != b"jumd":
        raise _BoxError("a box has no description")
    kind, label = _describe(description.content)
    if kind in _LABELS and label not in _LABELS[kind]:
        raise _BoxError(f"a box of the kind {kind.decode('ascii')} has the label {label[:40]!r}")
    for box in inner:
        if box.kind == b"jumb":
            _check_superbox(box.content, budget, depth + 1)
    if kind == b"c2cs":
        _check_signature(inner)
    return kind


def _describe(content: bytes) -> tuple[bytes, str]:
    """Kind and label out of a description: 16 bytes, switches, the label, and what the switches announce."""
    if len(content) < 18:
        raise _BoxError("a description is cut off")
    switches, rest = content[16], io.BytesIO(content[17:])
    if switches & 0xE0 or switches & 3 != 3:
        raise _BoxError(f"a description has the switches {switches:#04x}")
    label, end, after = rest.read().partition(b"\0")
    if not end:
        raise _BoxError("a label doesn't end")
    for bit, size in ((4, 4), (8, 32)):  # a number, a digest
        if switches & bit:
            if len(after) < size:
                raise _BoxError("a description is cut off")
            after = after[size:]
    if not switches & 16 and after:
        raise _BoxError(f"a description has {len(after):,} bytes too many")
    list(_boxes(after))  # the salt
    try:
        return content[:4] if content[4:16] == _SUFFIX else b"", label.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _BoxError("a label isn't UTF-8") from error


def _check_signature(inner: list[_Box]) -> None:
    """The signature's padding is zeros, and nothing else lies beside it."""
    if len(inner) != 1 or inner[0].kind != b"cbor":
        raise _BoxError("the signature isn't one CBOR box")
    value = read_cbor(inner[0].content)
    parts = value.value if isinstance(value, Tag) and value.number == 18 else value
    if not isinstance(parts, list) or len(parts) != 4 or not isinstance(parts[1], dict):
        raise _BoxError("the signature isn't a COSE_Sign1")
    unknown = [name for name in parts[1] if name not in _UNPROTECTED]
    if unknown:
        raise _BoxError(f"beside the signature lies {str(unknown[0])[:40]!r}")
    for name in _PADDING:
        padding = parts[1].get(name, b"")
        if not isinstance(padding, bytes) or padding.strip(b"\0"):
            raise _BoxError("the signature's padding isn't zeros")
