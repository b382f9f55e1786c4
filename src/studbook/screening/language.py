"""Our own language models as parts of a detector: how they read running text, and where they are kept."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np

from studbook.arrays import AnyArray, Batch, Floats, Ints, text
from studbook.data.words import UNKNOWN, TextOptions, Tokens, split_tokens
from studbook.errors import CheckpointError, ConfigError, DataError, RecordError
from studbook.files import replacing_folder
from studbook.learners.ngram import NGram, NGramModel
from studbook.parameters import build
from studbook.records import canonical_bytes, digest_of, read_json
from studbook.records.content import bytes_content

if TYPE_CHECKING:
    from studbook.learners.gpt import Gpt, GptModel

Model: TypeAlias = "NGramModel | GptModel"

SCHEMA = "studbook.language/1"
MAX_WORDS = 1 << 20
MAX_ABOUT_BYTES = 64 << 20
MAX_BLOCKS_BYTES = 1 << 31
_ABOUT, _BLOCKS, _WEIGHTS = "language.json", "blocks.npy", "weights"
_JOINED: Mapping[str, Any] = {"words": "words", "whitespace": "words", "characters": "plain", "bytes": "bytes"}


@dataclass(frozen=True, slots=True)
class TextCoding:
    """How running text becomes token ids.

    Attributes:
        vocabulary: The word behind each id; with ``<unk>`` among them, words that aren't there become it, else they are left out.
        tokens: What a token is: ``words``, ``whitespace``, ``characters`` or ``bytes``; see ``TextOptions``.
        lowercase: Whether upper case is folded away.

    Examples:
        >>> from studbook.screening.language import TextCoding
        >>> coding = TextCoding.of(["a rose is a rose"], size=3)
        >>> coding.vocabulary, coding.encode("a daisy is a rose").tolist()
        (('a', 'rose', '<unk>'), [0, 2, 2, 0, 1])
    """

    vocabulary: tuple[str, ...]
    tokens: Tokens = "words"
    lowercase: bool = False
    _ids: Mapping[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.tokens not in _JOINED:
            raise ConfigError(f"tokens is {str(self.tokens)[:80]!r}, expected one of {', '.join(_JOINED)}")
        if not 2 <= len(self.vocabulary) <= MAX_WORDS or len(set(self.vocabulary)) != len(self.vocabulary):
            raise ConfigError(f"a vocabulary has {len(self.vocabulary):,} words, expected 2 to {MAX_WORDS:,} different ones")
        object.__setattr__(self, "_ids", {word: i for i, word in enumerate(self.vocabulary)})

    @classmethod
    def of(cls, texts: Sequence[str], *, size: int, tokens: Tokens = "words", lowercase: bool = False) -> TextCoding:
        """The ``size`` most frequent words of some texts, ``<unk>`` among them."""
        options = TextOptions(tokens=tokens, block=1, vocabulary=size, lowercase=lowercase)
        words = options.blocks((text + "\n" for text in texts), "the texts").space.vocabulary
        return cls(words if UNKNOWN in words else (*words[: size - 1], UNKNOWN), tokens, lowercase)

    @property
    def unknown(self) -> int:
        """Id of ``<unk>``; −1 where there is none."""
        return self._ids.get(UNKNOWN, -1)

    def encode(self, text_: str) -> Ints:
        """A text's token ids ``(n,)``."""
        words = [word for part in split_tokens([text_], self.tokens, self.lowercase, "a text") for word in part]
        ids = np.fromiter((self._ids.get(word, self.unknown) for word in words), np.int64, len(words))
        return ids[ids >= 0]

    def batch(self, blocks: AnyArray) -> Batch:
        """Blocks of ids ``(n, length)`` as records."""
        return text(blocks, self.vocabulary, _JOINED[self.tokens])

    def blocks(self, texts: Sequence[str], length: int) -> Batch:
        """Texts, put end to end, as blocks of ``length`` tokens; the remainder is dropped.

        Raises:
            DataError: Fewer tokens than a block has.
        """
        ids = np.concatenate([np.empty(0, np.int64), *(self.encode(each) for each in texts)])
        if len(ids) < length:
            raise DataError(f"the texts have {len(ids):,} tokens, fewer than one block of {length:,}", hint="take more texts")
        return self.batch(ids[: len(ids) // length * length].reshape(-1, length))


@dataclass(frozen=True, slots=True, eq=False)
class Language:
    """A language model with the way it reads text.

    Attributes:
        model: Of the family ``ngram`` or ``gpt``.
        coding: How text becomes its tokens.
        training: What it was fitted to; an n-gram model is stored as that.
        digest: SHA-256 of all that determines its probabilities, ``sha256:…``.
    """

    MAX_BYTES: ClassVar[int] = MAX_ABOUT_BYTES

    model: Model
    coding: TextCoding
    training: Batch
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        if self.model.space.vocabulary != self.coding.vocabulary:
            raise ConfigError("a language model has another vocabulary than its coding", hint="fit_language puts them together")
        object.__setattr__(self, "digest", digest_of(_about(self)))

    @classmethod
    def fit(cls, learner: NGram | Gpt, texts: Sequence[str], coding: TextCoding, *, block: int, rng: np.random.Generator) -> Language:
        """Fit a model to texts.

        Args:
            learner: Its family.
            texts: What it learns from.
            coding: Their tokens.
            block: Tokens of a block, 2 or more; a model begins anew at each.
            rng: Where chance comes from.

        Raises:
            DataError: Too few texts.
            FitError: Data that the learner refuses.
        """
        training = coding.blocks(texts, block)
        return cls(learner.fit(training, rng=rng), coding, training)

    def token_log_prob(self, ids: AnyArray) -> Floats:
        """Natural log of each token's probability, in nats: ``(n, length)`` for ids ``(n, length)``, anew every block."""
        block = self.model.space.dimension
        parts = [self.model.token_log_prob(self.coding.batch(ids[:, i : i + block])) for i in range(0, ids.shape[1], block)]
        return np.concatenate(parts, axis=1) if parts else np.empty(ids.shape)

    def save(self, folder: Path) -> None:
        """Write ``folder``, whole or not at all; it is replaced.

        Raises:
            StorageError: The disk refused.
        """
        with replacing_folder(folder) as temporary:
            about = {"schema": SCHEMA, **_about(self), "vocabulary": list(self.coding.vocabulary)}
            (temporary / _ABOUT).write_bytes(canonical_bytes(about))
            if isinstance(self.model, NGramModel):
                (temporary / _BLOCKS).write_bytes(_npy(self.training.values))
            else:
                self.model.save(temporary / _WEIGHTS)

    @classmethod
    def load(cls, folder: Path) -> Language:
        """The model that ``save`` wrote. An n-gram model is fitted anew, so that no file can put a number out of its place.

        Raises:
            CheckpointError: It can't be read, was changed, or isn't such a folder.
            MissingExtraError: A ``gpt``, and PyTorch isn't installed.
        """
        about = _read_about(folder)
        try:
            coding = TextCoding(tuple(about["vocabulary"]), about["tokens"], about["lowercase"])
            ngram = about["family"] == "ngram"
            language = _load_ngram(folder, about, coding) if ngram else _load_gpt(folder, about, coding)
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(f"{folder} isn't a stored language model: {error}", hint="fit and save it again") from error
        if language.digest != digest_of({key: value for key, value in about.items() if key not in ("schema", "vocabulary")}):
            raise CheckpointError(f"{folder} was changed after it was written", hint="fit and save it again")
        return language


def _about(language: Language) -> dict[str, Any]:
    """All that determines a model's probabilities, as JSON's types."""
    model, coding = language.model, language.coding
    ngram = isinstance(model, NGramModel)
    names = ("order", "discount") if ngram else ("layers", "width", "heads", "context")
    weights = bytes_content(_npy(language.training.values)) if isinstance(model, NGramModel) else _weights_digest(model)
    return {
        "family": "ngram" if ngram else "gpt",
        "learner": {name: getattr(model.learner, name) for name in names},
        "block": model.space.dimension,
        "tokens": coding.tokens,
        "lowercase": coding.lowercase,
        "words": digest_of(list(coding.vocabulary)),
        "weights": weights,
    }


def _weights_digest(model: GptModel) -> str:
    from studbook.neural.checkpoints import digest_of_tensors

    return f"sha256:{digest_of_tensors(model.network.state_dict())}"


def _npy(blocks: AnyArray) -> bytes:
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(blocks, np.int32), allow_pickle=False)
    return file.getvalue()


def _read_about(folder: Path) -> dict[str, Any]:
    value = _parsed(_read(folder / _ABOUT, MAX_ABOUT_BYTES), str(folder))
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        raise CheckpointError(f"{folder} isn't a stored language model of this version", hint="fit and save it again")
    words = value.get("vocabulary")
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise CheckpointError(f"{folder} has no vocabulary", hint="fit and save it again")
    return value


def _parsed(data: bytes, what: str) -> object:
    try:
        return read_json(data, what, max_bytes=MAX_ABOUT_BYTES)
    except RecordError as error:
        raise CheckpointError(error.message, hint="fit and save it again") from error


def _read(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror}", hint="choose a folder with a stored language model") from error
    if len(data) > most:
        raise CheckpointError(f"{path} has more than {most:,} bytes", hint="it isn't a stored language model")
    return data


def _load_ngram(folder: Path, about: Mapping[str, Any], coding: TextCoding) -> Language:
    data = _read(folder / _BLOCKS, MAX_BLOCKS_BYTES)
    if bytes_content(data) != about["weights"]:
        raise CheckpointError(f"{folder / _BLOCKS} was changed after it was written", hint="fit and save it again")
    blocks = np.load(io.BytesIO(data), allow_pickle=False)
    if blocks.ndim != 2 or blocks.dtype != np.int32:
        raise CheckpointError(f"{folder / _BLOCKS} holds no blocks of tokens", hint="fit and save it again")
    training = coding.batch(blocks)
    learner = build(NGram, about["learner"], where="learner")
    return Language(learner.fit(training, rng=np.random.default_rng(0)), coding, training)


def _load_gpt(folder: Path, about: Mapping[str, Any], coding: TextCoding) -> Language:
    from studbook.learners.gpt import Gpt

    block = about["block"]
    if type(block) is not int or not 1 <= block <= 1 << 20:
        raise CheckpointError(f"{folder} has blocks of {block!r} tokens")
    training = coding.batch(np.empty((0, block), np.int32))
    learner = build(Gpt, about["learner"], where="learner")
    return Language(learner.load(folder / _WEIGHTS, training.space), coding, training)
