"""One manifest out of a manifest store."""

from __future__ import annotations

import struct

from studbook.errors import ProvenanceError

_HEADER = 8


def active_manifest(store: bytes) -> bytes:
    """The store with its active manifest alone: the last one in it (C2PA 2.1, section 11.1.4.2).

    Manifests of what it was made from are left out, so that what it says of them can't be verified with this.

    Args:
        store: A manifest store: one box of boxes (ISO 19566-5).

    Raises:
        ProvenanceError: It isn't one.
    """
    if len(store) < _HEADER or struct.unpack_from(">I4s", store) != (len(store), b"jumb"):
        raise ProvenanceError("the manifest store isn't one box", hint="ask for the whole")
    boxes = _boxes(store[_HEADER:])
    if len(boxes) < 2 or boxes[0][4:8] != b"jumd" or boxes[-1][4:8] != b"jumb":
        raise ProvenanceError("the manifest store has no manifest", hint="ask for the whole")
    inner = boxes[0] + boxes[-1]
    return struct.pack(">I4s", _HEADER + len(inner), b"jumb") + inner


def _boxes(data: bytes) -> list[bytes]:
    found, place = [], 0
    while place < len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        if length < _HEADER or place + length > len(data):
            raise ProvenanceError("a box of the manifest store is cut off", hint="ask for the whole")
        found.append(data[place : place + length])
        place += length
    return found
