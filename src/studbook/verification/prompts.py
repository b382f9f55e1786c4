"""Prompts for a calibration: from a file, or cut out of a text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from studbook.errors import DataError

MAX_FILE = 64 << 20


class Encoding(Protocol):
    """What turns text to tokens and back: ``language.TextEngine``."""

    def encode(self, request: str) -> list[int]: ...
    def decode(self, tokens: list[int]) -> str: ...


def read_prompts(path: Path) -> list[str]:
    """Prompts from a file, one a line; empty lines are left out.

    Raises:
        DataError: It can't be read, is too long, or isn't UTF-8.
    """
    try:
        if path.stat().st_size > MAX_FILE:
            raise DataError(f"{path} has {path.stat().st_size:,} bytes, expected at most {MAX_FILE:,}", hint="give fewer prompts")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the prompts in {path} can't be read: {error}", hint="expected UTF-8, one prompt a line") from error
    return [line for line in lines if line.strip()]


def cut_prompts(model: Encoding, texts: Iterable[str], n: int, length: int) -> list[str]:
    """The first ``n`` prompts of ``length`` tokens that texts give, each of which is encoded as it was cut.

    Args:
        model: What encodes them.
        texts: Of any lengths.
        n: How many.
        length: Tokens of each.

    Raises:
        DataError: There are fewer.
    """
    found: list[str] = []
    for piece in _pieces(model, texts, length):
        if len(model.encode(piece)) == length + 1 and "\ufffd" not in piece and piece.strip():
            found.append(piece)
            if len(found) == n:
                return found
    raise DataError(
        f"the text gives {len(found)} prompts of {length} tokens, {n} are needed", hint="give a longer text, or set --prompt-tokens lower"
    )


def _pieces(model: Encoding, texts: Iterable[str], length: int) -> Iterator[str]:
    for text in texts:
        tokens = model.encode(text)[1:]
        for start in range(0, len(tokens) - length + 1, length):
            yield model.decode(tokens[start : start + length])


def paragraphs(words: Iterable[str], size: int = 400) -> Iterator[str]:
    """Words put together to texts of ``size`` words."""
    held: list[str] = []
    for word in words:
        held.append(word)
        if len(held) == size:
            yield " ".join(held)
            held = []
    if held:
        yield " ".join(held)
