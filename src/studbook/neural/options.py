"""How networks are trained and how text is decoded and marked: tables of a learner, ``[learner.training]``,
``[learner.decoding]`` and ``[learner.mark]``.
"""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from studbook.errors import ConfigError, MissingExtraError
from studbook.parameters import conform

Start: TypeAlias = Literal["auto", "scratch", "base", "previous"]


@dataclass(frozen=True, slots=True)
class Training:
    """How a generation's network is trained.

    Attributes:
        epochs: Passes through the training set, 1 or more.
        batch: Records a step.
        rate: Largest learning rate.
        optimizer: ``adamw`` (decoupled weight decay), ``adam`` or ``sgd`` (momentum 0.9).
        weight_decay: Of matrices; biases and norms have none.
        schedule: How the rate falls after the warm-up: not at all, to 0 linearly, or to 0 along a cosine.
        warmup: Share of all steps over which the rate rises from 0, in [0, 1).
        clip: Largest norm of a step's gradient; 0 doesn't clip.
        validation: Share of the training set held out of the fit to decide when to stop, in [0, 1).
        patience: Epochs without a better validation loss after which the fit stops and the best weights are taken; 0 never stops early.
        start: What a generation's weights start from: random ones (``scratch``), the base model (``base``: as in the language-model
            study of Shumailov et al. 2024), or the generation before (``previous``; generation 0: the base, where there is one).
            ``auto`` is ``base`` where there is a base, else ``scratch``.
        base: Folder of a saved model that is the base; empty: the learner's own, or the one pretrained on ``data.base``.
        pretrain_epochs: Passes of that pretraining; 0 is ``epochs``.
        pretrain_rate: Largest learning rate of that pretraining; 0 is ``rate``.
        device: ``auto`` takes a CUDA device where there is one.
        dtype: ``fp32``, or ``bf16`` for mixed precision: weights stay in fp32.
        threads: CPU threads; results on the CPU depend on their number, so it is part of the config.

    Raises:
        ConfigError: A value out of range.

    Examples:
        >>> from studbook.neural.options import Training
        >>> Training(epochs=5, rate=2e-5, start="base").schedule
        'cosine'
    """

    epochs: int = 10
    batch: int = 64
    rate: float = 1e-3
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    weight_decay: float = 0.01
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    warmup: float = 0.05
    clip: float = 1.0
    validation: float = 0.0
    patience: int = 0
    start: Start = "auto"
    base: str = ""
    pretrain_epochs: int = 0
    pretrain_rate: float = 0.0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["fp32", "bf16"] = "fp32"
    threads: int = 1

    def __post_init__(self) -> None:
        where = "training"
        conform(self, where)
        require(1 <= self.epochs <= 10**6, where, "epochs", self.epochs, "1 or more passes")
        require(1 <= self.batch <= 10**6, where, "batch", self.batch, "1 or more records a step")
        require(0.0 < self.rate < math.inf, where, "rate", self.rate, "above 0, for example 0.001")
        require(0.0 <= self.weight_decay < math.inf, where, "weight_decay", self.weight_decay, "0 or more")
        require(0.0 <= self.warmup < 1.0, where, "warmup", self.warmup, "a share of the steps, at least 0 and below 1")
        require(0.0 <= self.clip < math.inf, where, "clip", self.clip, "0 (no clipping) or more")
        require(0.0 <= self.validation < 1.0, where, "validation", self.validation, "a share of the training set, at least 0 and below 1")
        require(self.patience >= 0, where, "patience", self.patience, "0 (no early stop) or more epochs")
        require(0 <= self.pretrain_epochs <= 10**6, where, "pretrain_epochs", self.pretrain_epochs, "0 (as epochs) or more passes")
        require(0.0 <= self.pretrain_rate < math.inf, where, "pretrain_rate", self.pretrain_rate, "0 (as rate) or more")
        require(1 <= self.threads <= 1024, where, "threads", self.threads, "1 or more")
        if self.patience and not self.validation:
            raise ConfigError("training.patience needs a validation part", hint="set training.validation, for example to 0.1")
        if self.base and self.start == "scratch":
            raise ConfigError(
                f'training.base is given, but training.start is "{self.start}"', hint='leave training.start out, or set "base"'
            )

    def pretraining(self) -> Training:
        """How a base is trained on ``data.base``: from scratch, with its own epochs and rate where they are given."""
        return replace(
            self,
            epochs=self.pretrain_epochs or self.epochs,
            rate=self.pretrain_rate or self.rate,
            start="auto",
            pretrain_epochs=0,
            pretrain_rate=0.0,
        )


@dataclass(frozen=True, slots=True)
class Decoding:
    """How a language model's probabilities become text.

    Processors act in the usual order: repetition penalty, no end before ``min_new`` tokens, temperature, ``top_k``, ``top_p``. Beam
    search is deterministic and takes the likeliest continuations; the temperature and the truncations belong to sampling.

    Attributes:
        temperature: Of sampling; 0 takes the likeliest token at each step (greedy).
        top_k: Tokens kept at each step; 0 keeps all.
        top_p: Share of the probability kept at each step, in (0, 1].
        beams: Width of the beam search; 1 samples.
        length_penalty: Beam search divides a hypothesis's log-probability by its length to this power.
        repetition_penalty: 1 is none; above 1 makes tokens of the prompt and of what was written less likely (Keskar et al. 2019).
        prompt: Tokens of a real block that are continued: block i of the original, its last ``prompt`` tokens. They aren't part of what is
            generated. 0 writes without a prompt.
        max_new: Tokens of one continuation; 0 is a block's length. Shorter ones are put end to end and cut into blocks.
        min_new: Tokens before a continuation may end; 0 lets it end at once. Has a meaning only with ``end``.
        end: The token that ends a continuation, a word of the vocabulary; empty: continuations have ``max_new`` tokens.
        batch: Continuations that are written side by side; results don't depend on it but for rounding.

    Raises:
        ConfigError: A value out of range, or beams together with sampling's settings.

    References:
        Holtzman et al. 2020, "The curious case of neural text degeneration"; Keskar et al. 2019, "CTRL".
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    beams: int = 1
    length_penalty: float = 1.0
    repetition_penalty: float = 1.0
    prompt: int = 0
    max_new: int = 0
    min_new: int = 0
    end: str = ""
    batch: int = 64

    def __post_init__(self) -> None:
        where = "decoding"
        conform(self, where)
        usable = self.temperature == 0.0 or 1e-6 <= self.temperature < math.inf
        require(usable, where, "temperature", self.temperature, "0 (greedy), or a millionth or more")
        require(self.top_k >= 0, where, "top_k", self.top_k, "0 (keep all) or more")
        require(0.0 < self.top_p <= 1.0, where, "top_p", self.top_p, "above 0 and at most 1 (keep all)")
        require(1 <= self.beams <= 1000, where, "beams", self.beams, "1 (no beam search) to 1000")
        require(math.isfinite(self.length_penalty), where, "length_penalty", self.length_penalty, "a number")
        require(0.0 < self.repetition_penalty < math.inf, where, "repetition_penalty", self.repetition_penalty, "above 0; 1 is none")
        for name in ("prompt", "max_new", "min_new"):
            require(getattr(self, name) >= 0, where, name, getattr(self, name), "0 or more tokens")
        require(1 <= self.batch <= 10**6, where, "batch", self.batch, "1 or more continuations")
        if self.max_new and self.min_new > self.max_new:
            raise ConfigError(f"decoding.min_new is {self.min_new}, above decoding.max_new, {self.max_new}", hint="lower min_new")
        if self.beams > 1 and (self.temperature != 1.0 or self.top_k or self.top_p != 1.0):
            raise ConfigError(
                f"decoding.beams is {self.beams}, with a temperature, top_k or top_p of sampling",
                hint="beam search takes the likeliest continuations; set beams = 1 to sample",
            )


@dataclass(frozen=True, slots=True)
class Marking:
    """The watermark that a language model's text gets.

    The mark acts last, on what temperature and truncations leave, as in transformers' ``generate``.

    Attributes:
        scheme: ``none``; a green list that follows the last token (``kgw``) or depends on the token itself, too (``selfhash``); or the
            tournament of ``synthid``.
        keys: The secret: one number, for ``synthid`` as many as there are rounds.
        gamma: Share of the vocabulary that is green; not for ``synthid``.
        delta: What is added to green tokens' logits; not for ``synthid``.
        context: Tokens that the mark of the next one depends on; 0 is 1 for green lists and 4 for ``synthid``.

    Raises:
        ConfigError: Keys that the scheme can't have, or a value out of range.

    References:
        Kirchenbauer et al. 2023, "A watermark for large language models"; Dathathri et al. 2024, "Scalable watermarking for identifying
        large language model outputs".

    Examples:
        >>> from studbook.neural.options import Marking
        >>> Marking("kgw", keys=(15_485_863,)).gamma
        0.25
    """

    scheme: Literal["none", "kgw", "selfhash", "synthid"] = "none"
    keys: tuple[int, ...] = ()
    gamma: float = 0.25
    delta: float = 2.0
    context: int = 0

    def __post_init__(self) -> None:
        where = "mark"
        conform(self, where)
        least, most = {"none": (0, 0), "synthid": (1, 128)}.get(self.scheme, (1, 1))
        expected = "no key without a scheme" if not most else "one number" if most == 1 else "1 to 128 numbers"
        require(least <= len(self.keys) <= most, where, "keys", list(self.keys), f"{expected} for {self.scheme}")
        require(0.0 < self.gamma < 1.0, where, "gamma", self.gamma, "above 0 and below 1")
        require(0.0 < self.delta < math.inf, where, "delta", self.delta, "above 0")
        require(0 <= self.context <= 63, where, "context", self.context, "0 (as usual) to 63 tokens")


def require(holds: bool, where: str, name: str, got: object, expected: str) -> None:
    """Refuse a value out of range.

    Raises:
        ConfigError: Says what was got and what was expected.
    """
    if not holds:
        raise ConfigError(f"{where}.{name} is {got}, expected {expected}")


def require_extra() -> None:
    """Refuse to go on without PyTorch.

    Raises:
        MissingExtraError: The hint is the pip line.
    """
    if importlib.util.find_spec("torch") is None:
        raise MissingExtraError("neural families need PyTorch, which isn't installed", hint="pip install 'studbook[neural]'")
