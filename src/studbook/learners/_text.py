"""What language models refuse: blocks, tokens and weights, with the block named."""

from __future__ import annotations

import hashlib

import numpy as np

from studbook.arrays import AnyArray, Batch, Floats, Kind, Space
from studbook.errors import ConfigError, FitError
from studbook.neural.options import Decoding


def require_text(data: Batch, learner: str) -> None:
    """Refuse what isn't text that a model can be fitted to.

    Raises:
        FitError: Not text, no blocks, an empty vocabulary, a token id that isn't in it or a weight that isn't positive.
    """
    space = data.space
    if space.kind is not Kind.TEXT:
        raise FitError(f"{learner} needs text, got {space.kind.value}", hint="choose data of kind text or another learner")
    if space.n_states < 1:
        raise FitError("the vocabulary is empty", hint="the text has no words; check the data source")
    if not len(data):
        raise FitError("there are no blocks of text to fit", hint="use a longer text or shorter blocks")
    if (place := first_outside(data.values, space.n_states)) is not None:
        raise FitError(
            f"{describe(data.values, place)}, the vocabulary has {space.n_states} words",
            hint=f"token ids run from 0 to {space.n_states - 1}",
        )
    check_weights(data.weights)


def first_outside(values: AnyArray, n_words: int) -> tuple[int, int] | None:
    """Block and position of the first token id outside ``[0, n_words)``."""
    if not values.size or (values.min() >= 0 and values.max() < n_words):
        return None
    block, position = np.argwhere((values < 0) | (values >= n_words))[0]
    return int(block), int(position)


def describe(values: AnyArray, place: tuple[int, int]) -> str:
    """A token id and its place, in words."""
    return f"block {place[0]} holds token id {values[place]} at position {place[1]}"


def check_weights(weights: Floats | None) -> None:
    """Refuse weights that aren't positive numbers."""
    if weights is None or (np.isfinite(weights).all() and (weights > 0).all()):
        return
    block = int(np.flatnonzero(~(np.isfinite(weights) & (weights > 0)))[0])
    raise FitError(f"block {block} has the weight {weights[block]}, expected a positive number", hint="leave out records of no weight")


def require_room(space: Space, decoding: Decoding, context: int) -> None:
    """Refuse prompts and continuations that are longer than what the model sees, or than a block.

    Args:
        space: Of the data.
        decoding: Its ``prompt``, ``max_new`` and ``min_new``.
        context: Tokens that the model sees in a row.

    Raises:
        ConfigError: Names the sizes.
    """
    length = space.dimension
    if decoding.prompt > length:
        message = f"decoding.prompt is {decoding.prompt}, the data's blocks have {length} tokens"
        raise ConfigError(message, hint="lower decoding.prompt or raise data.block")
    max_new = decoding.max_new or length
    if decoding.min_new > max_new:
        message = f"decoding.min_new is {decoding.min_new}, above the {max_new} tokens of a continuation"
        raise ConfigError(message, hint="lower decoding.min_new, or set decoding.max_new")
    if decoding.prompt + max_new > context:
        raise ConfigError(
            f"a prompt of {decoding.prompt} tokens and {max_new} new ones don't fit into the model's context of {context}",
            hint="lower decoding.prompt or decoding.max_new, or raise the model's context",
        )


def end_token(space: Space, decoding: Decoding) -> int | None:
    """The id of ``decoding.end``.

    Raises:
        ConfigError: It isn't in the vocabulary.
    """
    if not decoding.end:
        return None
    if decoding.end not in space.vocabulary:
        raise ConfigError(f"decoding.end is {decoding.end!r}, which isn't in the vocabulary", hint="choose a token of the data, or none")
    return space.vocabulary.index(decoding.end)


def digest_of_words(space: Space) -> str:
    """SHA-256 (hex) of the vocabulary. Lone surrogates are words, too."""
    return hashlib.sha256("\0".join(space.vocabulary).encode("utf-8", "surrogatepass")).hexdigest()
