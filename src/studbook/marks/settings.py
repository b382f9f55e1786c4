"""What determines a text watermark, and transformers' own processors that make it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

from studbook.errors import ConfigError, MissingExtraError
from studbook.parameters import conform
from studbook.records.canonical import digest_of

MAX_VOCABULARY = 1 << 24
MAX_DEPTH = 128
MAX_CONTEXT = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Kgw:
    """A green list for each context, whose tokens get ``delta`` more on their logits.

    The green list is the beginning of ``torch.randperm(vocabulary)`` under a seed that depends on the key and on the tokens before
    (``lefthash``: on the last one), or also on the token itself (``selfhash``), as transformers does it **on a CPU**: its lists on a GPU
    are others.

    Attributes:
        vocabulary: Tokens that the model gives logits for, 2 or more: ``model.config.vocab_size``, which may be more than the tokenizer
            has. A wrong one changes every list.
        key: 64 bits with a sign; its owner's secret.
        gamma: Share of the vocabulary that is green, above 0 and below 1.
        delta: What is added to green tokens' logits, above 0. It doesn't matter for detection.
        scheme: What the seed depends on.
        context: Tokens of the context: for ``selfhash`` those that the seed depends on; an n-gram that counts once has one more
            (``lefthash``) or as many (``selfhash``).

    Raises:
        ConfigError: A value out of range, or a key under which two tokens have the same list.

    References:
        Kirchenbauer et al. 2023, "A watermark for large language models", algorithms 2 and 3.

    Examples:
        >>> from studbook.marks import Kgw
        >>> Kgw(vocabulary=50_257, key=15_485_863).n_green
        12564
    """

    name: ClassVar[str] = "kgw"
    vocabulary: int
    key: int
    gamma: float = 0.25
    delta: float = 2.0
    scheme: Literal["lefthash", "selfhash"] = "lefthash"
    context: int = 1

    def __post_init__(self) -> None:
        conform(self, "kgw")
        _require_vocabulary(self.vocabulary)
        if not 0.0 < self.gamma < 1.0 or not 1 <= self.n_green < self.vocabulary:
            raise ConfigError(f"kgw.gamma is {self.gamma}, expected above 0 and below 1, so that some tokens are green and some aren't")
        if not 0.0 < self.delta < math.inf:
            raise ConfigError(f"kgw.delta is {self.delta}, expected above 0")
        if not 1 <= self.context <= MAX_CONTEXT:
            raise ConfigError(f"kgw.context is {self.context}, expected 1 to {MAX_CONTEXT}")
        if not -(1 << 63) <= self.key < 1 << 63:
            raise ConfigError(f"kgw.key is {self.key}, expected a number of 64 bits with a sign")
        twos = self.key & -self.key
        if self.key == 0 or (1 << 32) // min(twos, 1 << 32) < self.vocabulary:
            # Seeds count modulo 2^32.
            raise ConfigError(f"kgw.key is {self.key}, under which tokens share their green lists", hint="choose an odd number")

    @property
    def n_green(self) -> int:
        """Tokens of a green list."""
        return int(self.vocabulary * self.gamma)

    @property
    def rate(self) -> float:
        """Green tokens to be expected where there is no mark, exactly: the share of the vocabulary after rounding."""
        return self.n_green / self.vocabulary

    @property
    def width(self) -> int:
        """Tokens of an n-gram that counts once."""
        return self.context + (self.scheme == "lefthash")

    @property
    def digest(self) -> str:
        """What the mark is, but for ``delta``: SHA-256 in hex. It doesn't give the key away if the key is a random one."""
        return digest_of({name: value for name, value in self.settings().items() if name != "delta"})

    def settings(self) -> dict[str, Any]:
        """All that determines the mark, by name."""
        own = ("vocabulary", "key", "gamma", "delta", "scheme", "context")
        # As a text: the canonical form has no numbers above 2^53.
        return {"mark": self.name} | {name: str(self.key) if name == "key" else getattr(self, name) for name in own}

    def config(self) -> Any:
        """Transformers' ``WatermarkingConfig``, for ``generate(watermarking_config=…)``.

        Raises:
            MissingExtraError: transformers isn't installed.
        """
        return _transformers().WatermarkingConfig(
            greenlist_ratio=self.gamma,
            bias=self.delta,
            hashing_key=self.key,
            seeding_scheme=self.scheme,
            context_width=self.context,
        )

    def processor(self) -> Any:
        """Transformers' ``WatermarkLogitsProcessor`` on the CPU, for ``generate(logits_processor=[…])`` or a sampler of one's own.

        Raises:
            MissingExtraError: transformers isn't installed.
        """
        return self.config().construct_processor(self.vocabulary, "cpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class SynthId:
    """A tournament among tokens, in as many rounds as there are keys: of the tokens drawn, those win whose g-value is 1.

    Attributes:
        keys: One for each round, 1 to 128 of them; their owner's secret.
        ngram: Tokens whose hash decides, the token itself the last; 2 or more.
        table_size: Places of the table of g-values, 2 to 2^24.
        table_seed: What the table is drawn from.
        history: So many contexts of a text are remembered, and not marked twice.

    Raises:
        ConfigError: A value out of range, or two keys that act alike.

    References:
        Dathathri et al. 2024, "Scalable watermarking for identifying large language model outputs", Nature 634.

    Examples:
        >>> from studbook.marks import SynthId
        >>> SynthId(keys=(654, 400, 836, 123)).config().ngram_len
        5
    """

    name: ClassVar[str] = "synthid"
    keys: tuple[int, ...]
    ngram: int = 5
    table_size: int = 1 << 16
    table_seed: int = 0
    history: int = 1024

    def __post_init__(self) -> None:
        conform(self, "synthid")
        if not 1 <= len(self.keys) <= MAX_DEPTH:
            raise ConfigError(f"synthid.keys has {len(self.keys)} keys, expected 1 to {MAX_DEPTH}")
        if any(not -(1 << 63) <= key < 1 << 63 for key in self.keys):
            raise ConfigError("synthid.keys has a key above 64 bits with a sign")
        if not 2 <= self.ngram <= MAX_CONTEXT:
            raise ConfigError(f"synthid.ngram is {self.ngram}, expected 2 to {MAX_CONTEXT}")
        if not 2 <= self.table_size <= 1 << 24:
            raise ConfigError(f"synthid.table_size is {self.table_size}, expected 2 to {1 << 24:,}")
        if not 0 <= self.table_seed < 1 << 63:
            raise ConfigError(f"synthid.table_seed is {self.table_seed}, expected 0 or more, below 2^63")
        if not 1 <= self.history <= 1 << 20:
            raise ConfigError(f"synthid.history is {self.history}, expected 1 to {1 << 20:,}")
        # In a table whose size is a power of two only a key's low bits matter.
        whole = 1 << 64 if self.table_size & (self.table_size - 1) else self.table_size
        if len({key % whole for key in self.keys}) < len(self.keys):
            raise ConfigError(
                f"synthid.keys has two keys that are the same modulo {whole:,}: they'd give the same g-values",
                hint="choose others, at random",
            )

    @property
    def width(self) -> int:
        """Tokens of an n-gram."""
        return self.ngram

    @property
    def digest(self) -> str:
        """What the mark is, but for ``history``: SHA-256 in hex."""
        return digest_of({name: value for name, value in self.settings().items() if name != "history"})

    def settings(self) -> dict[str, Any]:
        """All that determines the mark, by name."""
        own = {name: getattr(self, name) for name in ("ngram", "table_size", "history")}
        return {"mark": self.name, "keys": " ".join(map(str, self.keys)), "table_seed": str(self.table_seed)} | own

    def config(self) -> Any:
        """Transformers' ``SynthIDTextWatermarkingConfig``, for ``generate(watermarking_config=…, do_sample=True)``.

        Raises:
            MissingExtraError: transformers isn't installed.
        """
        return _transformers().SynthIDTextWatermarkingConfig(
            ngram_len=self.ngram,
            keys=list(self.keys),
            context_history_size=self.history,
            sampling_table_seed=self.table_seed,
            sampling_table_size=self.table_size,
        )

    def processor(self) -> Any:
        """Transformers' ``SynthIDTextWatermarkLogitsProcessor`` on the CPU; it keeps a state, so that each batch needs a new one.

        Raises:
            MissingExtraError: transformers isn't installed.
        """
        return self.config().construct_processor(0, "cpu")


Mark: TypeAlias = Kgw | SynthId


def _require_vocabulary(vocabulary: int) -> None:
    if not 2 <= vocabulary <= MAX_VOCABULARY:
        raise ConfigError(f"kgw.vocabulary is {vocabulary}, expected 2 to {MAX_VOCABULARY:,} tokens")


def _transformers() -> Any:
    try:
        import transformers
    except ImportError:
        raise MissingExtraError("marking text needs transformers, which isn't installed", hint="pip install 'studbook[neural]'") from None
    return transformers
