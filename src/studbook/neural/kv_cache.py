"""Keys and values of what was read and written, and one step of a decoder that uses them.

Beams of a prompt share its keys and values. What they write goes into slots that are never moved: each beam knows which slots hold the
steps of its text, so that reordering beams is a look-up in a small table instead of a copy of the cache.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

from studbook.arrays import AnyArray
from studbook.neural.attention_kernels import attend, locate, padded
from studbook.neural.decoder_layers import rotate

if TYPE_CHECKING:
    from studbook.neural.decoder import Decoder

FIRST_SLOTS = 96
"""Slots a prompt that the compiled loop begins with; when its beams need more, it takes at least twice as many."""

Product: TypeAlias = Callable[[Tensor], Tensor]


class Continuation:
    """Prompts that a decoder has read, and what is written after them.

    A layer's cache is ``(b, kv_heads, 2, slots, head_width)``, the last rounded up to whole cache lines where the loops are compiled.
    A prompt's slots are those of its tokens, then ``beams`` for each step that is written. ``slots`` ``(b, beams, max_new)`` says which of
    the latter hold the steps of each beam's text: the compiled loop takes the first that no beam reads, other devices those of the step.
    """

    def __init__(self, decoder: Decoder, products: Products, caches: list[Tensor], n_read: int, beams: int, max_new: int) -> None:
        self._decoder, self._caches, self._n_read, self._beams, self._written = decoder, caches, n_read, beams, 0
        self._blocks, self._products = decoder.layers, products
        n, device = len(caches[0]), caches[0].device
        self._slots = torch.zeros((n, beams, max_new), dtype=torch.int64, device=device)
        self._own = torch.arange(beams, device=device).expand(n, -1)
        self._compiled = _compiled(caches[0])
        self._slopes = caches[0].new_zeros(decoder.config.heads) if decoder.slopes is None else decoder.slopes

    @classmethod
    def start(cls, decoder: Decoder, products: Products, prompts: Tensor, *, beams: int, max_new: int) -> tuple[Tensor, Continuation]:
        """Read prompts ``(b, t)``: the logits of the next token ``(b, vocabulary)``, and what goes on."""
        n, length = prompts.shape
        _, kv_heads, head_width = decoder.config.sizes()
        x = decoder.embed(prompts, 0)
        caches = [_empty_cache((n, kv_heads, 2), length, beams * max_new, head_width, x) for _ in decoder.layers]
        rotary = None if decoder.rotary is None else decoder.rotary[:, :length]
        bias = decoder.attention_bias(length)
        for block, cache in zip(decoder.layers, caches, strict=True):
            query, key, value = block.project(x, rotary)
            cache[:, :, 0, :length, :head_width], cache[:, :, 1, :length, :head_width] = key, value
            shared = block.heads != block.kv_heads
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, is_causal=bias is None, enable_gqa=shared)
            if cache is caches[-1]:  # only the last token is asked for its successor
                x, mixed = x[:, -1:], mixed[:, :, -1:]
            x = x + block.out(mixed.transpose(1, 2).flatten(2))
            x = x + block.mlp(x)
        return decoder.logits(decoder.norm(x[:, -1])), cls(decoder, products, caches, length, beams, max_new)

    def step(self, tokens: Tensor, parents: Tensor | None = None) -> Tensor:
        """Write one token a beam.

        Args:
            tokens: ``(b * beams,)``, the beams of a prompt side by side.
            parents: For each beam the one (0 … beams - 1) of the same prompt that it continues; ``None``: itself.

        Returns:
            The logits of the next token, ``(b * beams, vocabulary)``; the next step may write over them.

        Raises:
            IndexError: ``max_new`` tokens are written.
        """
        if self._written == self._slots.shape[2]:
            raise IndexError(f"there is room for {self._written} new tokens, all are written")
        decoder, position = self._decoder, self._n_read + self._written
        self._written += 1
        rotary = None if decoder.rotary is None else decoder.rotary[:, position : position + 1]
        read = self._reader(parents)
        x = decoder.embed(tokens[:, None], position)[:, 0]
        for layer, (block, multiply) in enumerate(zip(self._blocks, self._products.blocks, strict=True)):
            projected = multiply.qkv(block.attention_norm(x))
            if rotary is not None:
                turning = projected.view(len(projected), -1, block.head_width)[:, : block.heads + block.kv_heads]
                turning.copy_(rotate(turning, rotary))
            x = x + multiply.out(read(layer, projected))
            x = x + block.mlp(x, up=multiply.up, down=multiply.down)
        return self._products.head(decoder.norm(x))

    def _reader(self, parents: Tensor | None) -> Callable[[int, Tensor], Tensor]:
        """What puts a step's keys and values into a layer's cache, and gives what the heads read from it, ``(b * beams, heads *
        head_width)``, which the next layer may write over.
        """
        return self._compiled_reader(parents) if self._compiled else functools.partial(self._read, self._mask(parents))

    def _read(self, mask: Tensor | None, layer: int, projected: Tensor) -> Tensor:
        block, cache, k = self._blocks[layer], self._caches[layer], self._beams
        heads, kv_heads, width = block.heads, block.kv_heads, block.head_width
        n, seen = len(projected) // k, self._n_read + self._written * k
        cache[:, :, :, seen - k : seen] = projected[:, heads * width :].view(n, k, 2, kv_heads, width).permute(0, 3, 2, 1, 4)
        query = projected[:, : heads * width].view(n, k, heads, width).transpose(1, 2)
        keys, values = cache[:, :, 0, :seen], cache[:, :, 1, :seen]
        mixed = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask, enable_gqa=heads != kv_heads)
        return mixed.transpose(1, 2).reshape(n * k, -1)

    def _compiled_reader(self, parents: Tensor | None) -> Callable[[int, Tensor], Tensor]:
        """The same by the compiled loop."""
        places, slopes = self._place(parents), self._slopes.numpy()
        caches = [cache.numpy().ravel() for cache in self._caches]
        (n, k, _), heads, (_, kv_heads, width) = self._slots.shape, self._decoder.config.heads, self._decoder.config.sizes()
        sizes = (n, k, heads, kv_heads, width, (heads + 2 * kv_heads) * width, self._caches[0].shape[3], self._n_read + self._written)
        scale, mixed = 1.0 / math.sqrt(width), self._caches[0].new_empty((n * k, heads * width))
        out = mixed.numpy().ravel()

        def read(layer: int, projected: Tensor) -> Tensor:
            attend(projected.numpy().ravel(), caches[layer], places, slopes, sizes, scale, out)
            return mixed

        return read

    def _place(self, parents: Tensor | None) -> AnyArray:
        """Where the compiled loop finds what each beam reads: ``(b, beams, tokens)``, flat."""
        n, k, _ = self._slots.shape
        places = torch.empty((n, k, padded(self._n_read + self._written)), dtype=torch.uint64).numpy()
        order = self._own if parents is None else parents.view(n, k)
        used = locate(self._slots.numpy(), order.numpy(), self._n_read, self._written, self._caches[0].shape[-1], places)
        if self._n_read + used > self._caches[0].shape[3]:
            slots = self._n_read + max(used, 2 * (self._caches[0].shape[3] - self._n_read))
            self._caches = [_grown(cache, slots) for cache in self._caches]
        flat: AnyArray = places.ravel()
        return flat

    def _mask(self, parents: Tensor | None) -> Tensor | None:
        """What is added to the scores ``(b, heads or 1, beams, slots)``: minus infinity where another beam wrote, and ALiBi."""
        k, n_read, written = self._beams, self._n_read, self._written
        if parents is not None and written > 1:
            index = parents.view(-1, k, 1).expand(-1, -1, written - 1)
            self._slots[:, :, : written - 1] = self._slots[:, :, : written - 1].gather(1, index)
        self._slots[:, :, written - 1] = self._own + (written - 1) * k
        position = torch.arange(n_read + written * k, device=self._slots.device)
        step = (position - n_read).div(k, rounding_mode="floor")
        mask = None
        if k > 1:
            mask = self._caches[0].new_full((len(self._slots), k, len(position)), -math.inf)
            mask[:, :, :n_read] = 0.0
            mask = mask.scatter_(2, n_read + self._slots[:, :, :written], 0.0)[:, None]
        if self._decoder.slopes is None:
            return mask
        bias = (self._decoder.slopes[:, None] * torch.where(step < 0, position, n_read + step))[None, :, None]
        return bias if mask is None else mask + bias


@dataclass(frozen=True, slots=True)
class BlockProducts:
    """A block's matrix products."""

    qkv: Product
    out: Product
    up: Product
    down: Product


@dataclass(frozen=True, slots=True)
class Products:
    """A decoder's matrix products, prepared for few rows, many times over: its weights once more, as they are now."""

    blocks: list[BlockProducts]
    head: Product

    @classmethod
    def of(cls, decoder: Decoder) -> Products:
        """Those of a decoder."""
        blocks = [[_product(each.weight, each.bias) for each in (block.qkv, block.out, block.up, block.down)] for block in decoder.layers]
        return cls([BlockProducts(*products) for products in blocks], _product(decoder.head_weight(), None))


def _product(weight: Tensor, bias: Tensor | None) -> Product:
    """``F.linear`` with this matrix. On a CPU it is transposed here: products of a few rows then take up to a third less time."""
    if not _compiled(weight):
        return lambda x: F.linear(x, weight, bias)
    matrix = weight.t().contiguous()
    return (lambda x: torch.mm(x, matrix)) if bias is None else (lambda x: torch.addmm(bias, x, matrix))


def _compiled(like: Tensor) -> bool:
    """Whether compiled loops can take such numbers."""
    return like.device.type == "cpu" and like.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")


def _empty_cache(sizes: tuple[int, ...], n_read: int, n_new: int, head_width: int, like: Tensor) -> Tensor:
    """Room for the keys and values of prompts, and of ``n_new`` tokens or as many as the compiled loop is likely to need."""
    if not _compiled(like):
        return like.new_empty((*sizes, n_read + n_new, head_width))
    cache = like.new_empty((*sizes, n_read + min(n_new, FIRST_SLOTS), padded(head_width)))
    cache[..., head_width:] = 0.0
    return cache


def _grown(cache: Tensor, slots: int) -> Tensor:
    """The cache with so many slots."""
    larger = cache.new_zeros((*cache.shape[:3], slots, cache.shape[4]))
    larger[:, :, :, : cache.shape[3]] = cache
    return larger
