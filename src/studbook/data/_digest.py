"""Digests of content: what the data are, never where they lie."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import numpy as np

from studbook.arrays import AnyArray, Batch, Space
from studbook.theory.laws import Law


def digest_of_batch(batch: Batch) -> str:
    """SHA-256 (hex) of the records, their labels and their space; the same on every machine, whatever the byte order.

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import counts
        >>> digest_of_batch(counts(np.array([1, 2]))) == digest_of_batch(counts(np.array([1, 2], dtype=np.int8)))
        True
    """
    state = hashlib.sha256(b"studbook.batch.1\0")
    _add_space(state, batch.space)
    _add_array(state, batch.values)
    if batch.labels is not None:
        _add_array(state, batch.labels)
    return state.hexdigest()


def digest_of_law(law: Law, space: Space) -> str:
    """SHA-256 (hex) of a law's parameters and its space."""
    state = hashlib.sha256(b"studbook.law.1\0" + type(law).__name__.encode())
    _add_space(state, space)
    for field in dataclasses.fields(law):
        state.update(field.name.encode() + b"\0")
        _add_array(state, getattr(law, field.name))
    return state.hexdigest()


def _add_space(state: Any, space: Space) -> None:
    head = (space.kind.value, space.shape, space.n_states, tuple(map(float, space.value_range)))
    state.update(repr(head).encode() + b"\0")
    for names in (space.vocabulary, space.columns):
        for name in names:
            # A length before each word: no two vocabularies run together to the same bytes. Lone surrogates are words, too.
            word = name.encode("utf-8", "surrogatepass")
            state.update(len(word).to_bytes(8, "little") + word)
        state.update(b"\xff" * 8)


def _add_array(state: Any, values: AnyArray) -> None:
    array = np.ascontiguousarray(values)
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    state.update(f"{array.dtype.str}{array.shape}".encode() + b"\0")
    # reshape: a memoryview can't be cast where an axis has length 0.
    if array.size:
        state.update(array.reshape(-1).view(np.uint8).data)
