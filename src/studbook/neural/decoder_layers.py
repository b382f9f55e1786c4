"""Parts of a decoder: blocks, norms, and the positions that act inside the attention."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from studbook.neural.causal_attention import causal_attention, fits


class Block(nn.Module):
    """Attention and MLP, each behind a norm and added to the stream."""

    def __init__(
        self, *, width: int, heads: int, kv_heads: int, head_width: int, inner: int, norm: str, epsilon: float, activation: str,
        gated: bool, attention_bias: bool, mlp_bias: bool, dropout: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.heads, self.kv_heads, self.head_width = heads, kv_heads, head_width
        self.activation, self.gated, self.dropout = activation, gated, dropout
        self.attention_norm = norm_of(norm, width, epsilon)
        self.qkv = nn.Linear(width, (heads + 2 * kv_heads) * head_width, bias=attention_bias)
        self.out = nn.Linear(heads * head_width, width, bias=attention_bias)
        self.mlp_norm = norm_of(norm, width, epsilon)
        self.up = nn.Linear(width, 2 * inner if gated else inner, bias=mlp_bias)
        self.down = nn.Linear(inner, width, bias=mlp_bias)

    def forward(self, x: Tensor, rotary: Tensor | None, bias: Tensor | None) -> Tensor:
        """The stream ``(b, t, width)`` after this block.

        Args:
            x: The stream.
            rotary: Cosines and sines ``(2, t, head_width)``, or ``None``.
            bias: Added to the attention's scores, ``(heads, t, t)`` with the causal mask in it; ``None``: the causal mask alone.
        """
        mixed = self.attend(self.qkv(self.attention_norm(x)), rotary, bias)
        x = x + F.dropout(self.out(mixed), self.dropout, self.training)
        return x + F.dropout(self.mlp(x), self.dropout, self.training)

    def attend(self, projected: Tensor, rotary: Tensor | None, bias: Tensor | None) -> Tensor:
        """What the heads read, ``(b, t, heads * head_width)``, from queries, keys and values ``(b, t, columns)``."""
        dropout = self.dropout if self.training else 0.0
        if rotary is None and bias is None and not dropout and fits(projected):
            return causal_attention(projected, self.heads, self.kv_heads)
        query, key, value = self.split(projected)
        if rotary is not None:
            query, key = rotate(query, rotary), rotate(key, rotary)
        shared = self.heads != self.kv_heads
        read = F.scaled_dot_product_attention(
            query, key, value, attn_mask=bias, dropout_p=dropout, is_causal=bias is None, enable_gqa=shared
        )
        return read.transpose(1, 2).flatten(2)

    def turn(self, projected: Tensor, rotary: Tensor) -> None:
        """Rotary positions ``(2, t, head_width)``, done in place to the queries and keys of ``(..., t, columns)``."""
        heads = projected.view(*projected.shape[:-1], -1, self.head_width)[..., : self.heads + self.kv_heads, :]
        heads.copy_(rotate(heads, rotary[:, :, None]))

    def split(self, projected: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries ``(b, heads, t, head_width)``, keys and values ``(b, kv_heads, t, head_width)``, of ``(b, t, columns)``."""
        parts = projected.view(*projected.shape[:2], -1, self.head_width).transpose(1, 2)
        query, key, value = torch.split(parts, [self.heads, self.kv_heads, self.kv_heads], dim=1)
        return query, key, value

    def mlp(self, x: Tensor) -> Tensor:
        """What the MLP adds to the stream."""
        inner = self.up(self.mlp_norm(x).flatten(0, -2))
        if self.gated:
            gate, inner = inner.chunk(2, dim=-1)
            inner = activate(gate, self.activation) * inner
        else:
            inner = inner.relu_() if self.activation == "relu" else activate(inner, self.activation)
        added: Tensor = self.down(inner)
        return added.view(x.shape)


def activate(x: Tensor, name: str) -> Tensor:
    """The activation of that name."""
    if name == "relu":
        return F.relu(x)
    return F.silu(x) if name == "silu" else F.gelu(x, approximate="tanh" if name == "gelu_tanh" else "none")


def norm_of(name: str, width: int, epsilon: float) -> nn.Module:
    """LayerNorm for ``layer``, RMSNorm for ``rms``."""
    return nn.LayerNorm(width, eps=epsilon) if name == "layer" else nn.RMSNorm(width, eps=epsilon)


def rotate(x: Tensor, rotary: Tensor) -> Tensor:
    """Rotary positions (Su et al. 2021), half-split: number ``i`` of a head turns with number ``i + head_width / 2``.

    Args:
        x: ``(..., t, head_width)``.
        rotary: Cosines and sines ``(2, t, head_width)``, the sines' first half negated.
    """
    first, second = x.chunk(2, dim=-1)
    return x * rotary[0] + torch.cat((second, first), dim=-1) * rotary[1]


def rotary_tables(length: int, head_width: int, base: float) -> Tensor:
    """Cosines and sines ``(2, length, head_width)`` for ``rotate``."""
    rates = 1.0 / base ** (torch.arange(0, head_width, 2).float() / head_width)
    angles = torch.arange(length).float()[:, None] * rates
    cos, sin = angles.cos(), angles.sin()
    return torch.stack((torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)))


def alibi_slopes(heads: int) -> Tensor:
    """What a key's position is multiplied by in each head (Press et al. 2022): a geometric sequence for a power of two; otherwise
    that of the next lower power of two, then every second one of the next higher.
    """
    below = 2 ** math.floor(math.log2(heads))
    slopes = [2.0 ** (-8.0 * i / below) for i in range(1, below + 1)]
    slopes += [2.0 ** (-4.0 * i / below) for i in range(1, 2 * (heads - below), 2)]
    return torch.tensor(slopes)
