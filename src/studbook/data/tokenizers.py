"""Parts of words as tokens: those of a pretrained model, or byte pair encoding trained on the text itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from studbook.neural.tokens import Encoder

# The 256 bytes, and at least one pair of them.
LEAST = 257


def open_encoder(name: str) -> Encoder:
    """The tokenizer of a pretrained model.

    Args:
        name: A folder, a hub id, or ``smollm2``.

    Raises:
        CheckpointError: There is no such folder or model, or its tokenizer is missing or damaged.
        MissingExtraError: It needs a package that isn't installed.
    """
    from studbook.neural.pretrained import find_folder
    from studbook.neural.tokens import FILES, read_encoder

    return read_encoder(find_folder(name, FILES))


def train_encoder(chunks: Iterable[str], vocabulary: int) -> Encoder:
    """Byte pair encoding with at most ``vocabulary`` tokens, trained on a text.

    Raises:
        MissingExtraError: The library ``tokenizers`` isn't installed.
    """
    from studbook.neural.tokens import train_bpe

    return train_bpe(chunks, vocabulary)
