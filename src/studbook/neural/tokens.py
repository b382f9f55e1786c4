"""Tokenizers: those of pretrained models, and byte pair encoding trained on a text. Needs the library ``tokenizers``, but not PyTorch."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from studbook.arrays import AnyArray, Joined
from studbook.errors import CheckpointError, MissingExtraError

FILE = "tokenizer.json"
MAX_BYTES = 256 << 20
MAX_TOKENS = 10_000_000
# Text is encoded in pieces of about this many characters: memory stays bounded.
PIECE = 1 << 16

# Files that hold a tokenizer, in whatever form.
FILES = (
    FILE, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "vocab.txt",
    "tokenizer.model", "spiece.model", "sentencepiece.bpe.model",
)  # fmt: skip
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_BLANK = "\u2581"
# Ugaritic letters: if a tokenizer doesn't know any word at all, it is this one.
_UNHEARD_OF = "\U00010380\U0001039f\U00010391"


@dataclass(frozen=True, slots=True, eq=False)
class Encoder:
    """A tokenizer with its tokens as text.

    Attributes:
        tokenizer: Of the library ``tokenizers``.
        vocabulary: The text of each token id; ids that no token has are named ``<unused ID>``.
        joined: How these are put together, see ``studbook.arrays.Space``.
        where: The file that it comes from, for messages.
    """

    tokenizer: Any
    vocabulary: tuple[str, ...]
    joined: Joined
    where: str = "the tokenizer"

    def encode(self, chunks: Iterable[str], most: int = 0) -> AnyArray:
        """Token ids ``(n,)`` int32 of a text, without special tokens around it.

        Args:
            chunks: The text, cut anywhere.
            most: Number of ids taken from the start; 0 takes all.

        Raises:
            CheckpointError: The tokenizer fails on the text.
        """
        ids: list[AnyArray] = [np.empty(0, np.int32)]
        n = 0
        for piece in pieces(chunks, keep_blank=not self._adds_blank()):
            ids.append(np.array(self._ids(piece), np.int32))
            n += len(ids[-1])
            if most and n >= most:
                break
        joined = np.concatenate(ids)
        return joined[:most] if most else joined

    def _ids(self, text: str) -> list[int]:
        try:
            return list(self.tokenizer.encode(text, add_special_tokens=False).ids)
        except Exception as error:  # the library raises bare Exceptions
            message = f"{self.where} can't encode a text: {str(error)[:200]}"
            raise CheckpointError(
                message, hint="it is damaged, or lacks a token for what it doesn't know; choose another tokenizer"
            ) from error

    def require_unknown(self) -> None:
        """Refuse a tokenizer that would fail at the first word that it doesn't know.

        Raises:
            CheckpointError: Its token for unknown words isn't in its vocabulary.
        """
        try:
            self.tokenizer.encode(_UNHEARD_OF, add_special_tokens=False)
        except Exception as error:  # the library raises bare Exceptions
            name = json.loads(self.tokenizer.to_str())["model"].get("unk_token")
            said = "no token for unknown words" if name is None else f"the token {name!r} for unknown words, which isn't in its vocabulary"
            message = f"{self.where} has {said}"
            raise CheckpointError(
                message, hint="add it to the vocabulary, as the model was trained with it, or choose another model"
            ) from error

    def _adds_blank(self) -> bool:
        """Whether a text is taken to begin with a blank, as SentencePiece does: a piece that does, has one too many."""
        return self._ids("a b") != self._ids("a") + self._ids(" b")


def pieces(chunks: Iterable[str], *, keep_blank: bool = True) -> Iterator[str]:
    """The text in pieces, cut before a blank between two words; with ``keep_blank`` it begins the next piece, else it is dropped."""
    rest = ""
    for chunk in chunks:
        rest += chunk
        while len(rest) > 2 * PIECE:
            cut = _cut(rest, PIECE)
            yield rest[:cut]
            rest = rest[cut + (not keep_blank and rest[cut] == " ") :]
    if rest:
        yield rest


def _cut(text: str, start: int) -> int:
    """The first single blank from ``start`` on, else the end of a line, else the middle."""
    found = re.compile(r"(?<=\S) (?=\S)").search(text, start)
    if found:
        return found.start()
    line = text.find("\n", start)
    return line + 1 if 0 <= line < len(text) - 1 else start


def train_bpe(chunks: Iterable[str], n_tokens: int) -> Encoder:
    """Byte-level byte pair encoding with at most ``n_tokens`` tokens (the 256 bytes among them), trained on a text.

    Deterministic: of equally frequent pairs the one with the smaller ids is merged first.

    Raises:
        MissingExtraError: The library ``tokenizers`` isn't installed.
    """
    require_tokenizers()
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=n_tokens, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(pieces(chunks), trainer)
    return encoder_of(tokenizer, "the trained tokenizer")


def read_encoder(folder: Path) -> Encoder:
    """The tokenizer of a model's folder: its ``tokenizer.json``, else what transformers makes of the older files.

    Raises:
        CheckpointError: The folder has no tokenizer, or one that is damaged or can't be read.
        MissingExtraError: A library that reads it isn't installed.
    """
    require_tokenizers()
    file = folder / FILE
    if not file.is_file():
        return encoder_of(_from_older_files(folder), str(folder))
    from tokenizers import Tokenizer

    if file.stat().st_size > MAX_BYTES:
        raise CheckpointError(f"{file} has {file.stat().st_size:,} bytes, expected at most {MAX_BYTES:,}", hint="this is no tokenizer")
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exceptions
        message = f"{file} can't be read as a tokenizer: {str(error)[:200]}"
        raise CheckpointError(message, hint="it is damaged or cut off; copy it again") from error
    return encoder_of(tokenizer, str(file))


def has_tokenizer(folder: Path) -> bool:
    """Whether a model's folder has a tokenizer in a form that can be read."""
    names = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    return (
        bool(names & {FILE, "vocab.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model"})
        or {
            "vocab.json",
            "merges.txt",
        }
        <= names
    )


def encoder_of(tokenizer: Any, where: str) -> Encoder:
    """An encoder from an object of the library ``tokenizers``.

    Raises:
        CheckpointError: It has no vocabulary, or none of its tokens stands for unknown words though it needs one.
    """
    tokenizer.no_truncation()
    tokenizer.no_padding()
    by_name: dict[str, int] = tokenizer.get_vocab(with_added_tokens=True)
    n_ids = max(by_name.values(), default=-1) + 1
    if n_ids == 0:
        raise CheckpointError(f"{where} has no vocabulary", hint="choose a trained tokenizer")
    if n_ids > MAX_TOKENS:
        raise CheckpointError(f"{where} has token ids up to {n_ids - 1:,}, expected fewer than {MAX_TOKENS:,}", hint="it is damaged")
    names = [f"<unused {i}>" for i in range(n_ids)]
    for name, i in by_name.items():
        names[i] = name
    added = {i: token.content for i, token in tokenizer.get_added_tokens_decoder().items()}
    texts, joined = _texts(names, added, json.loads(tokenizer.to_str()))
    encoder = Encoder(tokenizer, tuple(texts), joined, where)
    encoder.require_unknown()
    return encoder


def require_tokenizers() -> None:
    """Refuse to go on without the library ``tokenizers``."""
    if importlib.util.find_spec("tokenizers") is None:
        message = "the tokenizer needs the package tokenizers, which isn't installed"
        raise MissingExtraError(message, hint="pip install 'studbook[neural]'")


def _from_older_files(folder: Path) -> Any:
    if not has_tokenizer(folder):
        raise CheckpointError(f"{folder} has no {FILE}", hint="choose a folder with a tokenizer, or set data.tokens instead")
    if importlib.util.find_spec("transformers") is None:
        message = f"{folder} has no {FILE}; its older files need the package transformers, which isn't installed"
        raise MissingExtraError(message, hint="pip install 'studbook[neural]'")
    from transformers import AutoTokenizer

    try:
        loaded = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False, use_fast=True)
        tokenizer = getattr(loaded, "backend_tokenizer", None)
    except Exception as error:  # anything, from damaged files
        message = f"the tokenizer in {folder} can't be read: {str(error).strip().splitlines()[0][:200]}"
        raise CheckpointError(message, hint=f"save it as {FILE}: AutoTokenizer.from_pretrained(…).save_pretrained(…)") from error
    if tokenizer is None:
        raise CheckpointError(f"the tokenizer in {folder} has no fast form", hint=f"choose a model with a {FILE}")
    return tokenizer


def _texts(names: Sequence[str], added: dict[int, str], layout: dict[str, Any]) -> tuple[list[str], Joined]:
    """The text of each token, and how texts are joined, from how the tokenizer is built."""
    model = layout.get("model") or {}
    parts = _types(layout.get("decoder")) | _types(layout.get("pre_tokenizer"))
    plain = [added.get(i) for i in range(len(names))]
    if "ByteLevel" in parts:
        of_letter = _byte_letters()
        spell = [_latin(name) if text is not None else _of_letters(name, of_letter) for name, text in zip(names, plain, strict=True)]
        return spell, "bytes"
    if any(_BLANK in name for name in names):
        with_blanks = [name if text is not None else name.replace(_BLANK, " ") for name, text in zip(names, plain, strict=True)]
        if not (model.get("byte_fallback") or "ByteFallback" in parts):
            return with_blanks, "plain"
        return [_of_byte(text) for text in with_blanks], "bytes"
    if model.get("type") == "WordPiece":
        prefix = str(model.get("continuing_subword_prefix", "##"))
        return [_of_piece(name, prefix, text is not None) for name, text in zip(names, plain, strict=True)], "plain"
    suffix = model.get("end_of_word_suffix")
    if suffix:
        return [name.removesuffix(suffix) + " " if name.endswith(suffix) else name for name in names], "plain"
    return list(names), "words" if model.get("type") == "WordLevel" else "plain"


def _types(part: object) -> set[str]:
    """The types of a part of a tokenizer and of everything inside it."""
    if isinstance(part, dict):
        inner = set[str]().union(*map(_types, part.values()))
        return inner | ({part["type"]} if isinstance(part.get("type"), str) else set())
    return set[str]().union(*map(_types, part)) if isinstance(part, list) else set()


def _byte_letters() -> dict[str, str]:
    """GPT-2's letters for bytes: printable ones stand for themselves, the others follow from 256 on."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): chr(byte) for byte in printable} | {chr(256 + i): chr(byte) for i, byte in enumerate(others)}


def _of_letters(name: str, of_letter: dict[str, str]) -> str:
    return "".join(of_letter.get(letter) or _latin(letter) for letter in name)


def _latin(text: str) -> str:
    """One character a byte of the text's UTF-8."""
    return text.encode("utf-8", "surrogatepass").decode("latin-1")


def _of_byte(text: str) -> str:
    found = _BYTE.fullmatch(text)
    return chr(int(found.group(1), 16)) if found else _latin(text)


def _of_piece(name: str, prefix: str, is_added: bool) -> str:
    if is_added:
        return name
    return name.removeprefix(prefix) if name.startswith(prefix) else f" {name}"
