"""Keys and values of what was read and written, and one step of a decoder that uses them.

Beams of a prompt share its keys and values. What they write goes into slots that are never moved: each beam knows which beam wrote each
step of its text, so that reordering beams is a look-up in a small table instead of a copy of the cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

from studbook.neural.attention_kernels import attend
from studbook.neural.decoder_layers import Block, rotate
from studbook.neural.parts import in_parts

if TYPE_CHECKING:
    from studbook.neural.decoder import Decoder


class Continuation:
    """Prompts that a decoder has read, and what is written after them.

    The cache is ``(layers, b, slots, 2, kv_heads, head_width)``; slot ``t + s * k + j`` of a prompt holds step ``s`` of beam ``j`` after
    ``t`` prompt tokens, for ``k`` beams. ``ancestors`` ``(b, k, max_new)`` says for each beam which beam wrote each of its steps.
    """

    def __init__(self, decoder: Decoder, cache: Tensor, n_read: int, beams: int, max_new: int) -> None:
        self._decoder, self._cache, self._n_read, self._beams, self._written = decoder, cache, n_read, beams, 0
        n = cache.shape[1]
        self._ancestors = torch.zeros((n, beams, max_new), dtype=torch.int32, device=cache.device)
        self._own = torch.arange(beams, dtype=torch.int32, device=cache.device)
        self._compiled = cache.device.type == "cpu" and cache.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        self._head = _head(decoder.head_weight(), n * beams)
        self._slopes = cache.new_zeros(decoder.config.heads) if decoder.slopes is None else decoder.slopes

    @classmethod
    def start(cls, decoder: Decoder, prompts: Tensor, *, beams: int, max_new: int) -> tuple[Tensor, Continuation]:
        """Read prompts ``(b, t)``: the logits of the next token ``(b, vocabulary)``, and what goes on."""
        n, length = prompts.shape
        _, kv_heads, head_width = decoder.config.sizes()
        x = decoder.embed(prompts, 0)
        slots = length + beams * max(max_new - 1, 0)
        cache = x.new_empty((decoder.config.layers, n, slots, 2, kv_heads, head_width))
        rotary = None if decoder.rotary is None else decoder.rotary[:, :length]
        bias = decoder.attention_bias(length)
        for layer, block in enumerate(decoder.layers):
            query, key, value = block.project(x, rotary)
            cache[layer, :, :length, 0], cache[layer, :, :length, 1] = key.transpose(1, 2), value.transpose(1, 2)
            shared = block.heads != block.kv_heads
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, is_causal=bias is None, enable_gqa=shared)
            if layer == decoder.config.layers - 1:  # only the last token is asked for its successor
                x, mixed = x[:, -1:], mixed[:, :, -1:]
            x = x + block.out(mixed.transpose(1, 2).flatten(2))
            x = x + block.mlp(x)
        return decoder.logits(decoder.norm(x[:, -1])), cls(decoder, cache, length, beams, max_new)

    def step(self, tokens: Tensor, parents: Tensor | None = None) -> Tensor:
        """Write one token a beam.

        Args:
            tokens: ``(b * beams,)``, the beams of a prompt side by side.
            parents: For each beam the one (0 … beams - 1) of the same prompt that it continues; ``None``: itself.

        Returns:
            The logits of the next token, ``(b * beams, vocabulary)``; the next step may write over them.
        """
        decoder, k, written = self._decoder, self._beams, self._written
        if parents is not None and written:
            index = parents.view(-1, k, 1).expand(-1, -1, written)
            self._ancestors[:, :, :written] = self._ancestors[:, :, :written].gather(1, index)
        self._ancestors[:, :, written] = self._own
        self._written += 1
        position = self._n_read + written
        rotary = None if decoder.rotary is None else decoder.rotary[:, position : position + 1]
        mask = None if self._compiled else self._mask()
        x = decoder.embed(tokens[:, None], position)[:, 0]
        for layer, block in enumerate(decoder.layers):
            x = x + block.out(self._read(block, self._cache[layer], block.qkv(block.attention_norm(x)), rotary, mask))
            x = x + block.mlp(x)
        return self._head(decoder.norm(x))

    def _read(self, block: Block, cache: Tensor, projected: Tensor, rotary: Tensor | None, mask: Tensor | None) -> Tensor:
        """Put the new keys and values into the cache, and give what the heads read from it, ``(b * beams, heads * head_width)``."""
        k, heads, kv_heads, width = self._beams, block.heads, block.kv_heads, block.head_width
        n, seen = len(projected) // k, self._n_read + self._written * k
        if rotary is not None:
            both = projected.view(n * k, -1, width)
            both[:, : heads + kv_heads] = rotate(both[:, : heads + kv_heads], rotary)
        if self._compiled:
            return self._read_compiled(block, cache, projected)
        cache[:, seen - k : seen] = projected[:, heads * width :].view(n, k, 2, kv_heads, width)
        query = projected[:, : heads * width].view(n, k, heads, width).transpose(1, 2)
        keys, values = cache[:, :seen, 0].transpose(1, 2), cache[:, :seen, 1].transpose(1, 2)
        mixed = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask, enable_gqa=heads != kv_heads)
        return mixed.transpose(1, 2).reshape(n * k, -1)

    def _read_compiled(self, block: Block, cache: Tensor, projected: Tensor) -> Tensor:
        """The same by the compiled loop."""
        k, heads, width = self._beams, block.heads, block.head_width
        n, slots, max_new = len(projected) // k, cache.shape[1], self._ancestors.shape[2]
        mixed = projected.new_empty((n * k, heads * width))
        lines, kept = projected.view(n, -1).numpy(), cache.view(n, -1).numpy()
        ancestors, out, slopes = self._ancestors.view(n, -1).numpy(), mixed.view(n, -1).numpy(), self._slopes.numpy()
        rest = (k, heads, block.kv_heads, width, projected.shape[1], slots, self._n_read, self._written, max_new)

        def read(first: int, last: int) -> None:
            part = slice(first, last)
            flat = (lines[part].reshape(-1), kept[part].reshape(-1), ancestors[part].reshape(-1))
            attend(*flat, slopes, (last - first, *rest), 1.0 / math.sqrt(width), out[part].reshape(-1))

        in_parts(read, n)
        return mixed

    def _mask(self) -> Tensor | None:
        """What is added to the scores ``(b, heads or 1, beams, slots)``: minus infinity where another beam wrote, and ALiBi."""
        k, n_read, written = self._beams, self._n_read, self._written
        position = torch.arange(n_read + written * k, device=self._cache.device)
        step = (position - n_read).div(k, rounding_mode="floor")
        mask = None
        if k > 1:
            slots = n_read + step[n_read::k] * k + self._ancestors[:, :, :written]
            mask = self._cache.new_full((len(slots), k, len(position)), -math.inf)
            mask[:, :, :n_read] = 0.0
            mask = mask.scatter_(2, slots.long(), 0.0)[:, None]
        if self._decoder.slopes is None:
            return mask
        bias = (self._decoder.slopes[:, None] * torch.where(step < 0, position, n_read + step))[None, :, None]
        return bias if mask is None else mask + bias


def _head(weight: Tensor, rows: int) -> Callable[[Tensor], Tensor]:
    """The product of hidden states ``(rows, width)`` with the output matrix, many times over.

    On a CPU oneDNN takes the matrix in its own order, which is up to twice as fast for a few rows; a PyTorch without it multiplies into
    one buffer, since fresh pages for large results cost as much as the product.
    """
    if weight.device.type != "cpu" or weight.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
        return lambda hidden: F.linear(hidden, weight)
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
        product = torch.ops.mkldnn._linear_pointwise
    except (AttributeError, RuntimeError):
        buffer = weight.new_empty((rows, len(weight)))
        return lambda hidden: torch.mm(hidden, weight.t(), out=buffer)
    return lambda hidden: product(hidden, packed, None, "none", [], "")
