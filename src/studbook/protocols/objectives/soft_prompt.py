"""A soft prompt: a few vectors in front of a frozen language model's text."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from studbook.arrays import Batch, Ints, Kind
from studbook.data import open_source
from studbook.errors import ConfigError, DataError
from studbook.learners import CausalLM, Gpt
from studbook.neural.options import Training, require, require_extra
from studbook.parameters import conform
from studbook.protocols.objective import Gradient
from studbook.protocols.objectives._threads import one_torch_thread
from studbook.protocols.objectives._torch import as_tensors, torch_gradient
from studbook.protocols.values import Parameters
from studbook.rng import stream

if TYPE_CHECKING:
    from torch import Tensor

    from studbook.neural.decoder import Decoder

_CHUNK = 64


@dataclass(frozen=True, slots=True)
class SoftPrompt:
    """The vectors of a soft prompt, trained on text that the frozen model hasn't seen.

    Without ``model`` a small decoder is trained here on the first part of the text, from its seed. The prompt is trained on the rest.

    Attributes:
        data: ``python-docs``, or a text file.
        model: A pretrained model instead: what ``CausalLM`` takes, for example ``smollm2``; it brings its own tokens.
        length: Vectors of the prompt.
        block: Tokens a row.
        vocabulary: Words of the decoder that is trained here.
        width: Its numbers a token.
        layers: Its blocks.
        epochs: Passes through the first part that it is trained for.
        base_share: The first part's share of the text; with ``model``, the part that is passed over.
        seed: Of its training.
        held_out: Share of the rest that is held out.
        limit: Blocks of the text that are taken; 0 takes all.

    Raises:
        ConfigError: A value out of range.

    References:
        Lester, Al-Rfou and Constant 2021, "The power of scale for parameter-efficient prompt tuning".
    """

    data: str = "python-docs"
    model: str = ""
    length: int = 4
    block: int = 32
    vocabulary: int = 1000
    width: int = 64
    layers: int = 2
    epochs: int = 2
    base_share: float = 0.5
    seed: int = 0
    held_out: float = 0.2
    limit: int = 4000

    def __post_init__(self) -> None:
        conform(self, "objective")
        require(1 <= self.length <= 4096, "objective", "length", self.length, "1 to 4,096 vectors")
        require(1 <= self.block <= 1 << 16, "objective", "block", self.block, "1 to 65,536 tokens")
        require(2 <= self.vocabulary <= 1 << 20, "objective", "vocabulary", self.vocabulary, "2 to 1,048,576 words")
        require(self.width >= 4 and self.width % 4 == 0, "objective", "width", self.width, "a multiple of 4")
        require(1 <= self.layers <= 100, "objective", "layers", self.layers, "1 to 100 blocks")
        require(1 <= self.epochs <= 10**6, "objective", "epochs", self.epochs, "1 or more passes")
        require(self.seed >= 0, "objective", "seed", self.seed, "0 or more")
        require(self.limit >= 0, "objective", "limit", self.limit, "0 (all) or more blocks")
        for name in ("base_share", "held_out"):
            require(0.0 < getattr(self, name) < 1.0, "objective", name, getattr(self, name), "a share above 0 and below 1")

    def load(self) -> SoftPromptObjective:
        """The objective, with its data and the frozen model; the same model isn't trained twice in one process.

        Raises:
            DataError: No text, or too little.
            CheckpointError: There is no such model.
            MissingExtraError: PyTorch isn't installed, or what the model needs.
        """
        require_extra()
        return _loaded(self)


@dataclass(frozen=True, slots=True, eq=False)
class SoftPromptObjective:
    """The mean loss a token in nats, by ``prompt`` ``(length, width)`` alone.

    Attributes:
        settings: What was asked for.
        decoder: The frozen model.
        begin: The token that every block begins with.
        blocks: ``(n, block)`` the rows.
        held: Those held out.
        about: Digests of the data and of the frozen weights.
    """

    settings: SoftPrompt
    decoder: Decoder = field(repr=False)
    begin: int
    blocks: NDArray[np.int64] = field(repr=False)
    held: NDArray[np.int64] = field(repr=False)
    about: Mapping[str, Any]

    @property
    def n_rows(self) -> int:
        """Training blocks."""
        return len(self.blocks)

    def initial(self, *, rng: np.random.Generator) -> Parameters:
        """The embeddings of random tokens of the vocabulary."""
        tokens = rng.integers(self.decoder.vocabulary, size=self.settings.length)
        return {"prompt": np.array(self.decoder.embedding.weight.detach()[tokens].numpy(), np.float32)}

    def gradient(self, parameters: Parameters, rows: Ints, *, rng: np.random.Generator) -> Gradient:
        """The gradient over rows; nothing in it is random."""
        return torch_gradient(parameters, len(rows), lambda tensors: self._loss(tensors["prompt"], self.blocks[rows]))

    def evaluate(self, parameters: Parameters) -> Mapping[str, float]:
        """``loss`` on what is held out, in nats a token, and ``gain``: by how much it is lower than without the prompt."""
        import torch

        with one_torch_thread(), torch.no_grad():
            prompt = as_tensors(parameters)["prompt"]
            with_prompt, without = (self._held_loss(each) for each in (prompt, prompt[:0]))
        return {"loss": with_prompt, "gain": without - with_prompt}

    def describe(self) -> Mapping[str, Any]:
        """What determines it."""
        sizes = {"length": self.settings.length, "rows": self.n_rows, "held_out": len(self.held)}
        return {"objective": "soft_prompt", **sizes, **self.about}

    def _held_loss(self, prompt: Tensor) -> float:
        parts = [self.held[start : start + _CHUNK] for start in range(0, len(self.held), _CHUNK)]
        return float(np.average([float(self._loss(prompt, part)) for part in parts], weights=list(map(len, parts))))

    def _loss(self, prompt: Tensor, blocks: NDArray[np.int64]) -> Tensor:
        """The prompt's vectors come first and have no position of their own; the text keeps the positions that it was trained with."""
        import torch
        from torch.nn import functional

        decoder, targets = self.decoder, torch.from_numpy(blocks)
        read = torch.cat([torch.full((len(targets), 1), self.begin), targets[:, :-1]], dim=1)
        x = torch.cat([prompt.expand(len(targets), -1, -1), decoder.embed(read, 0)], dim=1)
        rotary = None if decoder.rotary is None else decoder.rotary[:, : x.shape[1]]
        bias = decoder.attention_bias(x.shape[1])
        for block in decoder.layers:
            x = block(x, rotary, bias)
        logits = decoder.logits(decoder.norm(x)[:, len(prompt) :])
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


@functools.lru_cache(maxsize=4)
def _loaded(settings: SoftPrompt) -> SoftPromptObjective:
    from studbook.neural.checkpoints import digest_of_tensors

    tokens: dict[str, object] = {"tokenizer": settings.model} if settings.model else {"vocabulary": settings.vocabulary}
    dataset = open_source(settings.data, block=settings.block, limit=settings.limit, **tokens).load()
    batch = dataset.records
    if batch is None or batch.space.kind is not Kind.TEXT:
        raise DataError(f"{settings.data} isn't text", hint="take python-docs, or a text file")
    n_base = round(settings.base_share * len(batch))
    n_held = max(1, round(settings.held_out * (len(batch) - n_base)))
    if n_base < 1 or len(batch) - n_base - n_held < 1:
        raise DataError(f"{settings.data} has {len(batch):,} blocks of {settings.block} tokens: too few", hint="set block lower")
    decoder, begin = _pretrained(settings, batch) if settings.model else _trained(settings, batch.take(np.arange(n_base)))
    order = n_base + stream(0, "held out").permutation(len(batch) - n_base)
    held, kept = (batch.values[np.sort(rows)].astype(np.int64) for rows in (order[:n_held], order[n_held:]))
    about = {"data": f"sha256:{dataset.digest}", "frozen": digest_of_tensors(decoder.state_dict()), "base_rows": n_base}
    return SoftPromptObjective(settings, decoder, begin, kept, held, about)


def _trained(settings: SoftPrompt, batch: Batch) -> tuple[Decoder, int]:
    training = Training(epochs=settings.epochs, batch=32, rate=3e-3, device="cpu")
    learner = Gpt(layers=settings.layers, width=settings.width, heads=4, training=training)
    model = learner.fit(batch, rng=stream(settings.seed, "frozen", "gpt"))
    model.network.eval().requires_grad_(requires_grad=False)
    return model.network, model.space.n_states


def _pretrained(settings: SoftPrompt, batch: Batch) -> tuple[Decoder, int]:
    from studbook.neural.decoder import Decoder

    model = CausalLM(settings.model).own_base(batch.space)
    if model is None or not isinstance(model.network.module, Decoder):
        raise ConfigError(f"objective.model is {settings.model!r}, expected a pretrained OPT, GPT-2, BLOOM or Llama model")
    decoder = model.network.module
    if settings.length + settings.block > decoder.context:
        message = (
            f"a prompt of {settings.length} and blocks of {settings.block} are more than the {decoder.context} tokens that the model sees"
        )
        raise ConfigError(message, hint="set block or length lower")
    decoder.eval().requires_grad_(requires_grad=False)
    return decoder, model.network.begin
