"""Whether data are in a pretrained model's own tokens."""

from __future__ import annotations

import functools
from pathlib import Path

from studbook.arrays import Space
from studbook.errors import FitError


def require_same_tokens(folder: Path, space: Space, name: str) -> None:
    """Refuse data in other tokens than a model's.

    Raises:
        FitError: More tokens than the model has, or others; names the first one that differs.
        CheckpointError: The folder has no config, or a damaged tokenizer.
    """
    from studbook.neural.causal import read_config
    from studbook.neural.tokens import has_tokenizer

    hint = "read the data in the tokens that the model was trained with: data.tokens, data.vocabulary (it comes without a tokenizer)"
    size = read_config(folder).vocab_size
    if has_tokenizer(folder):
        theirs = _tokens_of(folder, tuple((entry.name, entry.stat().st_mtime_ns) for entry in sorted(folder.iterdir())))
        if theirs != space.vocabulary:
            message = f"a tokenizer that doesn't fit: {_first_difference(space.vocabulary, theirs)}"
            raise FitError(message, hint=f'set data.tokenizer = "{name}"')
        hint = "its tokenizer and its weights don't belong together; choose another model"
    if space.n_states > size:
        message = f"a tokenizer that doesn't fit: the data have {space.n_states:,} tokens, {name} has {size:,}"
        raise FitError(message, hint=hint)


@functools.lru_cache(maxsize=4)
def _tokens_of(folder: Path, stamp: tuple[tuple[str, int], ...]) -> tuple[str, ...]:
    """The vocabulary of a folder's tokenizer; ``stamp`` makes the cache forget what was changed."""
    del stamp
    from studbook.neural.tokens import read_encoder

    return read_encoder(folder).vocabulary


def _first_difference(ours: tuple[str, ...], theirs: tuple[str, ...]) -> str:
    place = next((i for i, (one, two) in enumerate(zip(ours, theirs, strict=False)) if one != two), None)
    if place is None:
        return f"the data have {len(ours):,} tokens, the model {len(theirs):,}"
    sizes = f" ({len(ours):,} and {len(theirs):,} tokens)" if len(ours) != len(theirs) else ""
    return f"token {place} of the data is {ours[place]!r}, the model's is {theirs[place]!r}{sizes}"
