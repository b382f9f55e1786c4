"""A decoder-only transformer that can be any of OPT, GPT-2, BLOOM and Llama: ``DecoderConfig`` says which."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, cast

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from studbook.errors import ConfigError
from studbook.neural.decoder_layers import Block, alibi_slopes, norm_of, rotary_tables
from studbook.neural.kv_cache import Continuation
from studbook.neural.stream import Packed, packable

Positions: TypeAlias = Literal["learned", "rotary", "alibi"]
Norm: TypeAlias = Literal["layer", "rms"]
Activation: TypeAlias = Literal["relu", "gelu", "gelu_tanh", "silu"]


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """What a decoder is built of.

    Attributes:
        vocabulary: Tokens that can be predicted: the columns of the logits.
        width: Numbers a token.
        layers: Blocks.
        heads: Query heads of the attention.
        context: Largest number of tokens in a row, prompt included.
        inner: Width inside the MLP; 0 is ``4 * width``.
        kv_heads: Key and value heads (grouped-query attention; a divisor of ``heads``); 0 is ``heads``.
        head_width: Numbers a head; 0 is ``width / heads``.
        special: Tokens that can be read but not predicted, after the vocabulary (``vocabulary`` … ``vocabulary + special - 1``).
        positions: ``learned`` embeddings, ``rotary`` (half-split convention) or ``alibi``.
        position_offset: Rows of the table of learned positions before the first position (OPT: 2).
        rotary_base: The rotation's base, "theta".
        norm: ``layer`` (LayerNorm with bias) or ``rms`` (RMSNorm).
        norm_epsilon: Added to the variance.
        embedding_norm: A norm after the embedding (BLOOM).
        activation: Of the MLP: ``relu``, ``gelu`` (by erf), ``gelu_tanh`` (GPT-2's ``gelu_new``, BLOOM's gelu) or ``silu``.
        gated: The MLP multiplies the activation of ``gate`` by ``up`` (Llama).
        attention_bias: The attention's projections have biases.
        mlp_bias: The MLP's projections have biases.
        tied: The output head is the token embedding.
        dropout: Share of numbers that are dropped while training: of the embedding, of attention weights, of what a block adds.

    Raises:
        ConfigError: Sizes that don't fit each other.

    References:
        Zhang et al. 2022 (OPT); Radford et al. 2019 (GPT-2); Le Scao et al. 2022 (BLOOM); Touvron et al. 2023 (Llama).

    Examples:
        >>> from studbook.neural.decoder import DecoderConfig
        >>> DecoderConfig(vocabulary=50, width=32, layers=2, heads=4, context=16).sizes()
        (128, 4, 8)
    """

    vocabulary: int
    width: int
    layers: int
    heads: int
    context: int
    inner: int = 0
    kv_heads: int = 0
    head_width: int = 0
    special: int = 0
    positions: Positions = "learned"
    position_offset: int = 0
    rotary_base: float = 10000.0
    norm: Norm = "layer"
    norm_epsilon: float = 1e-5
    embedding_norm: bool = False
    activation: Activation = "gelu_tanh"
    gated: bool = False
    attention_bias: bool = True
    mlp_bias: bool = True
    tied: bool = True
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("vocabulary", "width", "layers", "heads", "context"):
            if getattr(self, name) < 1:
                raise ConfigError(f"a decoder's {name} is {getattr(self, name)}, expected 1 or more")
        if not self.head_width and self.width % self.heads:
            message = f"a decoder's width, {self.width}, isn't divisible by its {self.heads} heads"
            raise ConfigError(message, hint="set width to a multiple of heads")
        _, kv_heads, head_width = self.sizes()
        if self.heads % kv_heads:
            raise ConfigError(f"a decoder's {self.heads} heads can't share {kv_heads} key-value heads", hint="set a divisor of heads")
        if self.positions == "rotary" and head_width % 2:
            raise ConfigError(f"rotary positions need heads of an even width, got {head_width}", hint="change width or heads")
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigError(f"a decoder's dropout is {self.dropout}, expected at least 0 and below 1")

    def sizes(self) -> tuple[int, int, int]:
        """``(inner, kv_heads, head_width)`` with their defaults filled in."""
        return self.inner or 4 * self.width, self.kv_heads or self.heads, self.head_width or self.width // self.heads

    def with_dropout(self, dropout: float) -> DecoderConfig:
        """The same decoder with another dropout."""
        return replace(self, dropout=dropout)


class Decoder(nn.Module):
    """The network of a ``DecoderConfig``.

    Parameters by name (``d`` width, ``e`` heads * head_width, ``g`` kv_heads * head_width, ``m`` inner; ``(out, in)`` as in
    ``nn.Linear``):

    - ``embedding.weight`` ``(vocabulary + special, d)``; ``positions.weight`` ``(context + position_offset, d)`` where learned;
      ``embedding_norm.weight``, ``.bias`` where it has one;
    - ``blocks.I.attention_norm.weight``, ``.bias`` (no bias with ``rms``);
    - ``blocks.I.qkv.weight`` ``(e + 2 g, d)``, ``.bias``: the rows are all query heads, then all key heads, then all value heads;
    - ``blocks.I.out.weight`` ``(d, e)``, ``.bias``;
    - ``blocks.I.mlp_norm.weight``, ``.bias``;
    - ``blocks.I.up.weight`` ``(m, d)``, ``.bias``; where gated, ``(2 m, d)``: the rows of the gate (which is activated), then of up;
    - ``blocks.I.down.weight`` ``(d, m)``, ``.bias``;
    - ``norm.weight``, ``.bias``;
    - ``head.weight`` ``(vocabulary, d)`` where it isn't tied.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        inner, kv_heads, head_width = config.sizes()
        self.embedding = nn.Embedding(config.vocabulary + config.special, config.width)
        learned = config.positions == "learned"
        self.positions = nn.Embedding(config.context + config.position_offset, config.width) if learned else None
        self.embedding_norm = norm_of(config.norm, config.width, config.norm_epsilon) if config.embedding_norm else None
        self.blocks = nn.ModuleList(
            Block(
                width=config.width, heads=config.heads, kv_heads=kv_heads, head_width=head_width, inner=inner,
                norm=config.norm, epsilon=config.norm_epsilon, activation=config.activation, gated=config.gated,
                attention_bias=config.attention_bias, mlp_bias=config.mlp_bias, dropout=config.dropout,
            )
            for _ in range(config.layers)
        )  # fmt: skip
        self.norm = norm_of(config.norm, config.width, config.norm_epsilon)
        self.head = None if config.tied else nn.Linear(config.width, config.vocabulary, bias=False)
        rotary = rotary_tables(config.context, head_width, config.rotary_base) if config.positions == "rotary" else None
        slopes = alibi_slopes(config.heads) if config.positions == "alibi" else None
        self.register_buffer("rotary", rotary, persistent=False)
        self.register_buffer("slopes", slopes, persistent=False)
        self.rotary: Tensor | None
        self.slopes: Tensor | None
        self._initialise()

    @property
    def layers(self) -> list[Block]:
        """The blocks in order."""
        return cast("list[Block]", list(self.blocks))

    @property
    def vocabulary(self) -> int:
        """Tokens that can be predicted."""
        return self.config.vocabulary

    @property
    def context(self) -> int:
        """Largest number of tokens in a row."""
        return self.config.context

    def forward(self, tokens: Tensor) -> Tensor:
        """Hidden states ``(b, t, width)`` of tokens ``(b, t)``, after the last norm; each sees itself and those before it."""
        length = tokens.shape[1]
        x = F.dropout(self.embed(tokens, 0), self.config.dropout, self.training)
        rotary = None if self.rotary is None else self.rotary[:, :length]
        bias = self.attention_bias(length)
        for block in self.layers:
            x = block(x, rotary, bias)
        normed: Tensor = self.norm(x)
        return normed

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits ``(..., vocabulary)`` of hidden states ``(..., width)``."""
        return F.linear(hidden, self.head_weight())

    def head_weight(self) -> Tensor:
        """The output matrix ``(vocabulary, width)``."""
        return self.embedding.weight[: self.config.vocabulary] if self.head is None else self.head.weight

    def prepare(self) -> Prepared:
        """This decoder as it is now, ready to write; it takes the memory of the weights once more."""
        return Prepared(self, Packed.of(self) if packable(self.embedding.weight) else None)

    def prefill(self, prompts: Tensor, *, beams: int, max_new: int) -> tuple[Tensor, Continuation]:
        """Read prompts ``(b, t)``: the logits ``(b, vocabulary)`` of the next token, and what goes on from there with ``beams`` beams a
        prompt for at most ``max_new`` tokens.
        """
        return self.prepare().prefill(prompts, beams=beams, max_new=max_new)

    def embed(self, tokens: Tensor, start: int) -> Tensor:
        """Embeddings of tokens ``(..., t)``, the first of which is at position ``start``."""
        x: Tensor = self.embedding(tokens)
        if self.positions is not None:
            first = start + self.config.position_offset
            x = x + self.positions.weight[first : first + tokens.shape[-1]]
        return x if self.embedding_norm is None else self.embedding_norm(x)

    def attention_bias(self, length: int) -> Tensor | None:
        """What ALiBi adds to the attention scores, ``(heads, length, length)`` with the causal mask; ``None`` without ALiBi."""
        if self.slopes is None:
            return None
        steps = torch.arange(length, device=self.slopes.device)
        # Counted from the query: in mixed precision large numbers, which the softmax doesn't need, would round the near keys' bias away.
        behind = steps[None, :] - steps[:, None]
        return (self.slopes[:, None, None] * behind).masked_fill(behind > 0, -math.inf)

    @torch.no_grad()
    def _initialise(self) -> None:
        """GPT-2's: normal numbers of spread 0.02, less where a block adds to the stream."""
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1:
                adds = name.endswith(("out.weight", "down.weight"))
                parameter.normal_(0.0, 0.02 / math.sqrt(2 * self.config.layers) if adds else 0.02)
            elif name.endswith("bias"):
                parameter.zero_()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A decoder with its weights laid out for writing; of no use once they have changed."""

    decoder: Decoder
    packed: Packed | None

    def prefill(self, prompts: Tensor, *, beams: int, max_new: int) -> tuple[Tensor, Continuation]:
        """As ``Decoder.prefill``."""
        return Continuation.start(self.decoder, self.packed, prompts, beams=beams, max_new=max_new)
