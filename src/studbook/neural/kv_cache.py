"""Keys and values of what was read and written, and one step of a decoder that uses them.

Beams of a prompt share its keys and values. What they write goes into slots that are never moved: each beam knows which slots hold the
steps of its text, so that reordering beams is a look-up in a small table instead of a copy of the cache.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

from studbook.arrays import AnyArray
from studbook.neural.attention_kernels import attend, locate, padded
from studbook.neural.stream import Packed, Stream, attend_texts, packable, stream_of, texts_at_once

if TYPE_CHECKING:
    from studbook.neural.decoder import Decoder

FIRST_SLOTS = 96
"""Slots a prompt that the compiled loop begins with; when its beams need more, it takes at least twice as many."""


class Continuation:
    """Prompts that a decoder has read, and what is written after them.

    A layer's cache is ``(b, kv_heads, 2, slots, head_width)``, the last rounded up to whole cache lines where the loops are compiled.
    A prompt's slots are those of its tokens, then ``beams`` for each step that is written. ``slots`` ``(b, beams, max_new)`` says which of
    the latter hold the steps of each beam's text: the compiled loop takes the first that no beam reads, other devices those of the step.
    """

    def __init__(self, decoder: Decoder, packed: Packed | None, caches: list[Tensor], n_read: int, beams: int, max_new: int) -> None:
        self._decoder, self._caches, self._n_read, self._beams, self._written = decoder, caches, n_read, beams, 0
        self._blocks, self._packed = decoder.layers, packed
        self._stream: Stream | None = None
        n, device = len(caches[0]), caches[0].device
        self._slots = torch.zeros((n, beams, max_new), dtype=torch.int64, device=device)
        self._own = torch.arange(beams, device=device).expand(n, -1)
        self._compiled = packable(caches[0])
        self._flat = self._flattened()
        self._slopes = caches[0].new_zeros(decoder.config.heads) if decoder.slopes is None else decoder.slopes

    @classmethod
    def start(cls, decoder: Decoder, packed: Packed | None, prompts: Tensor, *, beams: int, max_new: int) -> tuple[Tensor, Continuation]:
        """Read prompts ``(b, t)``: the logits of the next token ``(b, vocabulary)``, and what goes on."""
        n, length = prompts.shape
        _, kv_heads, head_width = decoder.config.sizes()
        like, layers = decoder.embed(prompts[:1, :1], 0), decoder.layers
        caches = [_empty_cache((n, kv_heads, 2), length, beams * max_new, head_width, like) for _ in layers]
        parts = [slice(0, n)] if packed is None else texts_at_once(packed, n, length)
        read = [_read_texts(decoder, packed, prompts[part], [cache[part] for cache in caches]) for part in parts]
        x, mixed = (torch.cat(rows) for rows in zip(*read, strict=True))
        stream = stream_of(decoder, packed, x)
        stream.finish(len(layers) - 1, mixed)
        return stream.logits(), cls(decoder, packed, caches, length, beams, max_new)

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
        stream = self._stream = stream_of(decoder, self._packed, x) if self._stream is None else self._stream.again(x)
        for layer, block in enumerate(self._blocks):
            projected = stream.project(layer)
            if rotary is not None:
                block.turn(projected, rotary)
            stream.finish(layer, read(layer, projected))
        return stream.logits()

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
        (n, k, _), heads, (_, kv_heads, width) = self._slots.shape, self._decoder.config.heads, self._decoder.config.sizes()
        sizes = (n, k, heads, kv_heads, width, (heads + 2 * kv_heads) * width, self._caches[0].shape[3], self._n_read + self._written)
        scale, mixed = 1.0 / math.sqrt(width), self._caches[0].new_empty((n * k, heads * width))
        out = mixed.numpy().ravel()

        def read(layer: int, projected: Tensor) -> Tensor:
            attend(projected.numpy().ravel(), self._flat[layer], places, slopes, sizes, scale, out)
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
            self._flat = self._flattened()
        flat: AnyArray = places.ravel()
        return flat

    def _flattened(self) -> list[AnyArray]:
        """The caches as the compiled loop takes them."""
        return [cache.numpy().reshape(-1) for cache in self._caches] if self._compiled else []

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


def _read_texts(decoder: Decoder, packed: Packed | None, tokens: Tensor, caches: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Put the keys and values of texts ``(b, t)`` into the caches.

    Returns:
        Of the last tokens, which alone are asked for their successors: the stream before the end of the last block ``(b, width)``, and what
        the heads have read ``(b, heads * head_width)``.
    """
    n, length = tokens.shape
    stream = stream_of(decoder, packed, decoder.embed(tokens, 0).flatten(0, 1))
    for layer, (block, cache) in enumerate(zip(decoder.layers, caches, strict=True)):
        projected, mixed = attend_texts(decoder, stream, layer, n)
        _, key, value = block.split(projected)
        cache[:, :, 0, :length, : block.head_width], cache[:, :, 1, :length, : block.head_width] = key, value
        if cache is not caches[-1]:
            stream.finish(layer, mixed.flatten(0, 1))
    return stream.x.view(n, length, -1)[:, -1], mixed[:, -1]


def _empty_cache(sizes: tuple[int, ...], n_read: int, n_new: int, head_width: int, like: Tensor) -> Tensor:
    """Room for the keys and values of prompts, and of ``n_new`` tokens or as many as the compiled loop is likely to need."""
    if not packable(like):
        return like.new_empty((*sizes, n_read + n_new, head_width))
    cache = like.new_empty((*sizes, n_read + min(n_new, FIRST_SLOTS), padded(head_width)))
    cache[..., head_width:] = 0.0
    return cache


def _grown(cache: Tensor, slots: int) -> Tensor:
    """The cache with so many slots."""
    larger = cache.new_zeros((*cache.shape[:3], slots, cache.shape[4]))
    larger[:, :, :, : cache.shape[3]] = cache
    return larger
