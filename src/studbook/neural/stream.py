"""A decoder's weights laid out for compiled loops, and rows of its stream on their way through it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self, TypeAlias, cast

import torch
from torch import Tensor, nn

from studbook.arrays import AnyArray
from studbook.neural.block_kernels import ACTIVATIONS, finish, likelihoods, normalise, pass_texts, project
from studbook.neural.causal_attention import takes
from studbook.neural.product_kernels import Matrix, multiply_rows, pack

if TYPE_CHECKING:
    from studbook.neural.decoder import Decoder

READ_NUMBERS, READ_ROWS = 1 << 17, 512
"""Numbers inside the MLP, where rows are widest, of texts that are read at once; and tokens, if those are more."""
PASSED, PASSED_ROWS = 4, 128
"""Times as many texts are passed through whole blocks, which take about so many of their tokens at once by themselves."""

Norm: TypeAlias = tuple[AnyArray, tuple[float, bool]]


@dataclass(frozen=True, slots=True)
class PackedBlock:
    """A block's weights: as ``block_kernels`` takes them."""

    attention_norm: Norm
    qkv: Matrix
    mlp_norm: Norm
    rest: tuple[Matrix, Matrix, Matrix]


@dataclass(frozen=True, slots=True)
class Packed:
    """A decoder's weights as they are now, once more; of no use once they have changed.

    Attributes:
        blocks: Of each block.
        norm: The last one.
        head: The output matrix.
        rows: The same as it is, ``(vocabulary, width)``, flat.
        mlp: As ``block_kernels.finish`` takes it.
        spoilt: 0; not a number where one of the head isn't finite: compiled sums don't see that.
    """

    blocks: list[PackedBlock]
    norm: Norm
    head: Matrix
    rows: AnyArray
    mlp: tuple[int, bool]
    spoilt: float

    @classmethod
    def of(cls, decoder: Decoder) -> Packed:
        """Those of a decoder in single precision on a CPU."""
        blocks = [
            PackedBlock(
                _norm(block.attention_norm),
                pack(block.qkv.weight, block.qkv.bias),
                _norm(block.mlp_norm),
                (pack(block.out.weight, block.out.bias), pack(block.up.weight, block.up.bias), pack(block.down.weight, block.down.bias)),
            )
            for block in decoder.layers
        ]
        mlp, head = (ACTIVATIONS.index(decoder.config.activation), decoder.config.gated), decoder.head_weight()
        rows, spoilt = head.detach().numpy().reshape(-1), float(head.detach().sum()) * 0.0
        return cls(blocks, _norm(decoder.norm), pack(head, None), rows, mlp, spoilt)


class Stream(Protocol):
    """Rows of a decoder's stream on their way through its blocks."""

    @property
    def x(self) -> Tensor:
        """The rows as they are now, ``(n, width)``."""
        ...

    def again(self, x: Tensor) -> Self:
        """Begin with as many other rows."""
        ...

    def project(self, layer: int) -> Tensor:
        """Queries, keys and values ``(n, columns)`` of a block; the next one may write over them."""
        ...

    def finish(self, layer: int, mixed: Tensor) -> None:
        """The rest of a block, after its heads have read ``(n, heads * head_width)``."""
        ...

    def logits(self) -> Tensor:
        """The logits of the next token, ``(n, vocabulary)``, after the last block; the next call may write over them."""
        ...


def stream_of(decoder: Decoder, packed: Packed | None, x: Tensor) -> Stream:
    """A stream that begins with rows ``(n, width)``, through the packed weights where there are any."""
    return PlainStream(decoder, x) if packed is None else PackedStream(packed, x)


def attend_texts(decoder: Decoder, stream: Stream, layer: int, n: int) -> tuple[Tensor, Tensor]:
    """A block's queries, keys and values of ``n`` texts that the stream's rows are, ``(n, t, columns)``, and what its heads read,
    ``(n, t, heads * head_width)``.
    """
    block, rows = decoder.layers[layer], stream.project(layer)
    length = len(rows) // n
    projected = rows.view(n, length, rows.shape[1])
    if decoder.rotary is not None:
        block.turn(projected, decoder.rotary[:, :length])
    return projected, block.attend(projected, None, decoder.attention_bias(length))


def text_log_likelihoods(decoder: Decoder, packed: Packed, tokens: Tensor, targets: Tensor) -> Tensor:
    """The log-probability of the target after each token of texts, ``(b, t)`` in nats.

    Args:
        decoder: What is asked.
        packed: Its weights.
        tokens: ``(b, t)``; each target is asked after this one and those before it.
        targets: ``(b, t)`` tokens of the vocabulary.

    Raises:
        IndexError: A target isn't in the vocabulary.
    """
    if not 0 <= int(targets.min()) <= int(targets.max()) < decoder.vocabulary:
        raise IndexError(f"targets are {int(targets.min())} to {int(targets.max())}, the vocabulary has {decoder.vocabulary} tokens")
    found, stream = [], None
    whole = decoder.rotary is None and decoder.slopes is None and takes(tokens.shape[1])
    for part in texts_at_once(packed, len(tokens), tokens.shape[1], PASSED if whole else 1):
        x, asked = decoder.embed(tokens[part], 0).flatten(0, 1), targets[part]
        stream = PackedStream(packed, x) if stream is None or len(x) != len(stream.x) else stream.again(x)
        for layer, block in enumerate(decoder.layers):
            if whole:
                stream.pass_texts(layer, tokens.shape[1], (block.heads, block.kv_heads, block.head_width))
            else:
                stream.finish(layer, attend_texts(decoder, stream, layer, len(asked))[1].flatten(0, 1))
        found.append(stream.log_likelihoods(asked.flatten()).view(asked.shape))
    return torch.cat(found)


class PackedStream:
    """A stream through compiled loops, on a CPU in single precision."""

    def __init__(self, packed: Packed, x: Tensor) -> None:
        """Begin with rows ``(n, width)``."""
        self._packed, self._n, first = packed, len(x), packed.blocks[0]
        self._x, self._rows = self._room(x.shape[1])
        self._projected, self._columns = self._room(first.qkv[2])
        (_, self._added), (_, self._inner) = self._room(x.shape[1]), self._room(first.rest[1][2])
        self._scores: tuple[Tensor, AnyArray] | None = None
        self._mixed: AnyArray | None = None
        self.again(x)

    @property
    def x(self) -> Tensor:
        """See ``Stream``."""
        return self._x

    def again(self, x: Tensor) -> Self:
        """See ``Stream``."""
        self._x[:] = x
        return self

    def project(self, layer: int) -> Tensor:
        """See ``Stream``."""
        block = self._packed.blocks[layer]
        project(self._rows, self._n, *block.attention_norm, block.qkv, self._added, self._columns)
        return self._projected

    def finish(self, layer: int, mixed: Tensor) -> None:
        """See ``Stream``."""
        block, room = self._packed.blocks[layer], (self._added, self._inner)
        finish(self._rows, self._n, mixed.numpy().ravel(), block.mlp_norm, block.rest, self._packed.mlp, room)

    def pass_texts(self, layer: int, length: int, heads: tuple[int, int, int]) -> None:
        """A whole block of texts of ``length`` tokens, where positions don't act inside its attention.

        Args:
            layer: Of the block.
            length: Tokens a text; the rows are whole texts.
            heads: Query heads, key and value heads, numbers a head.
        """
        block, n = self._packed.blocks[layer], min(self._n, max(1, PASSED_ROWS // length) * length)
        if self._mixed is None:
            self._mixed = self._x.new_empty(n * heads[0] * heads[2]).numpy()
        room = self._added[: n * block.qkv[1]], self._columns[: n * block.qkv[2]], self._mixed, self._inner[: n * block.rest[1][2]]
        rest = block.mlp_norm, block.rest, self._packed.mlp
        pass_texts(self._rows, length, heads, (*block.attention_norm, block.qkv), rest, room)

    def logits(self) -> Tensor:
        """See ``Stream``."""
        self._scores = self._scores or self._room(self._packed.head[2])
        multiply_rows(self._normed(), self._n, self._packed.head, self._scores[1])
        return self._scores[0]

    def log_likelihoods(self, targets: Tensor) -> Tensor:
        """The log-probability of a token a row, ``(n,)`` in nats, after the last block."""
        found = self._x.new_empty(self._n)
        normed = self._normed()
        likelihoods(normed, self._packed.head, self._packed.rows, targets.numpy(), found.numpy())
        rows = torch.from_numpy(normed).view(self._x.shape)
        return found + (rows.sum(dim=1) * 0.0 + self._packed.spoilt)

    def _normed(self) -> AnyArray:
        normalise(self._rows, self._n, *self._packed.norm, self._added)
        return self._added

    def _room(self, columns: int) -> tuple[Tensor, AnyArray]:
        """Rows, and the same flat."""
        rows = torch.empty((self._n, columns))
        return rows, rows.numpy().reshape(-1)


class PlainStream:
    """A stream through the decoder's own modules, wherever they are."""

    def __init__(self, decoder: Decoder, x: Tensor) -> None:
        """Begin with rows ``(n, width)``."""
        self._decoder, self._blocks, self.x = decoder, decoder.layers, x

    def again(self, x: Tensor) -> Self:
        """See ``Stream``."""
        self.x = x
        return self

    def project(self, layer: int) -> Tensor:
        """See ``Stream``."""
        block = self._blocks[layer]
        projected: Tensor = block.qkv(block.attention_norm(self.x))
        return projected

    def finish(self, layer: int, mixed: Tensor) -> None:
        """See ``Stream``."""
        block = self._blocks[layer]
        x = self.x + block.out(mixed)
        self.x = x + block.mlp(x)

    def logits(self) -> Tensor:
        """See ``Stream``."""
        return self._decoder.logits(self._decoder.norm(self.x))


def texts_at_once(packed: Packed, n: int, length: int, times: int = 1) -> Iterator[slice]:
    """``n`` texts in parts that are read at once: what is computed of them stays in the cache; ``times`` as many."""
    rows = max(READ_ROWS, READ_NUMBERS // packed.blocks[0].rest[1][2])
    step = max(1, times * rows // length)
    return (slice(first, first + step) for first in range(0, n, step))


def packable(weight: Tensor) -> bool:
    """Whether a decoder with such weights can be packed."""
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")


def _norm(norm: nn.Module) -> Norm:
    """A norm's factors, what is added, its epsilon, and whether it takes the mean off."""
    factors, epsilon = cast("Tensor", norm.weight), cast("float", norm.eps)
    added = cast("Tensor", norm.bias) if isinstance(norm, nn.LayerNorm) else torch.zeros_like(factors)
    return torch.cat((factors, added)).detach().numpy(), (float(epsilon), isinstance(norm, nn.LayerNorm))
