"""Networks that see a noisy picture and its noise level: an MLP for small pictures, a U-Net for larger ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

Architecture: TypeAlias = Literal["mlp", "unet"]
MLP_SIDE = 12
_BOTTOM_SIDE = 8
_FREQUENCIES = 32
_LARGEST_FACTOR = 4  # of the width, at the bottom of a U-Net
_HEAD_FEATURES, _HEAD_WIDTH = 8, 16


@dataclass(frozen=True, slots=True)
class Blueprint:
    """What a denoiser is built from.

    Attributes:
        architecture: ``mlp`` or ``unet``.
        shape: ``(channels, height, width)`` of a picture.
        width: Hidden units of the MLP; channels at the top of the U-Net.
        depth: Residual blocks of the MLP; halvings of the U-Net's side.
        patch: Side of the squares of pixels that the U-Net takes as one; 1 for the MLP.
        n_classes: Classes that it is conditioned on; 0 is none.

    Examples:
        >>> from studbook.neural.denoisers import Blueprint
        >>> Blueprint.for_pictures("auto", (1, 28, 28), width=0, depth=0, patch=0, n_classes=10)
        Blueprint(architecture='unet', shape=(1, 28, 28), width=32, depth=1, patch=2, n_classes=10)
    """

    architecture: Architecture
    shape: tuple[int, int, int]
    width: int
    depth: int
    patch: int
    n_classes: int

    @classmethod
    def for_pictures(
        cls, network: Literal["auto", "mlp", "unet"], shape: tuple[int, int, int], *, width: int, depth: int, patch: int, n_classes: int
    ) -> Blueprint:
        """Fill in what is left to choose: ``network="auto"``, and sizes that are 0."""
        side = max(shape[1:])
        if network == "mlp" or (network == "auto" and side <= MLP_SIDE):
            return cls("mlp", shape, width or 256, depth or 3, 1, n_classes)
        patch = patch or (1 if side <= 16 else 2 if side <= 32 else 4)
        halvings = max(1, math.ceil(math.log2(math.ceil(side / patch) / _BOTTOM_SIDE)))
        return cls("unet", shape, width or 32, depth or halvings, patch, n_classes)

    def build(self) -> nn.Module:
        """A network with random weights; its output is 0 at first."""
        if self.architecture == "mlp":
            return MLPDenoiser(self)
        network = UNetDenoiser(self)
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


class Condition(nn.Module):
    """Noise level and class as one vector."""

    def __init__(self, width: int, n_classes: int) -> None:
        super().__init__()
        self.level = nn.Sequential(nn.Linear(2 * _FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))
        self.label = nn.Embedding(n_classes + 1, width) if n_classes else None

    def forward(self, share: Tensor, classes: Tensor | None) -> Tensor:
        """``(b, width)`` from levels as shares ``(b,)`` in [0, 1) and classes ``(b,)``, the last one for "none"."""
        steps = torch.arange(_FREQUENCIES, device=share.device, dtype=torch.float32) / (_FREQUENCIES - 1)
        angles = share[:, None].float() * 1000.0 * torch.exp(-math.log(1000.0) * steps)
        vector: Tensor = self.level(torch.cat([angles.sin(), angles.cos()], dim=1))
        if self.label is not None and classes is not None:
            vector = vector + self.label(classes)
        return functional.silu(vector)


class _MLPBlock(nn.Module):
    """A residual block whose norm is shifted and scaled by the condition."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(width, 2 * width)
        self.inner, self.outer = nn.Linear(width, width), _zeroed(nn.Linear(width, width))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.modulation(condition).chunk(2, dim=1)
        hidden = self.norm(x) * (1.0 + scale) + shift
        return x + self.outer(functional.silu(self.inner(functional.silu(hidden))))  # type: ignore[no-any-return]


class MLPDenoiser(nn.Module):
    """Residual blocks over all pixels at once."""

    def __init__(self, plan: Blueprint) -> None:
        super().__init__()
        pixels = math.prod(plan.shape)
        self.condition = Condition(plan.width, plan.n_classes)
        self.enter, self.leave = nn.Linear(pixels, plan.width), _zeroed(nn.Linear(plan.width, pixels))
        self.blocks = nn.ModuleList(_MLPBlock(plan.width) for _ in range(plan.depth))

    def forward(self, noisy: Tensor, share: Tensor, classes: Tensor | None = None) -> Tensor:
        """Predictions ``(b, c, h, w)`` for noisy pictures of that shape, levels ``(b,)`` in [0, 1) and classes ``(b,)``."""
        condition = self.condition(share, classes)
        hidden = self.enter(noisy.flatten(1))
        for block in self.blocks:
            hidden = block(hidden, condition)
        return self.leave(functional.silu(hidden)).view_as(noisy)  # type: ignore[no-any-return]


class _ConvBlock(nn.Module):
    """Two convolutions beside a shortcut; the second norm is shifted and scaled by the condition."""

    def __init__(self, n_in: int, n_out: int, n_condition: int) -> None:
        super().__init__()
        self.norm_in, self.norm_out = _norm(n_in), _norm(n_out)
        self.inner, self.outer = nn.Conv2d(n_in, n_out, 3, padding=1), _zeroed(nn.Conv2d(n_out, n_out, 3, padding=1))
        self.modulation = nn.Linear(n_condition, 2 * n_out)
        self.shortcut: nn.Module = nn.Identity() if n_in == n_out else nn.Conv2d(n_in, n_out, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        hidden = self.inner(functional.silu(self.norm_in(x)))
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, dim=1)
        hidden = self.norm_out(hidden) * (1.0 + scale) + shift
        return self.shortcut(x) + self.outer(functional.silu(hidden))  # type: ignore[no-any-return]


class _Attention(nn.Module):
    """Every place looks at every other one: only at the bottom, where there are few."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.norm, self.enter, self.leave = _norm(n), nn.Conv2d(n, 3 * n, 1), _zeroed(nn.Conv2d(n, n, 1))
        self.heads = math.gcd(n, max(1, n // 32))

    def forward(self, x: Tensor) -> Tensor:
        b, n, h, w = x.shape
        query, key, value = self.enter(self.norm(x)).reshape(b, 3, self.heads, n // self.heads, h * w).transpose(3, 4).unbind(1)
        seen = functional.scaled_dot_product_attention(query, key, value)
        return x + self.leave(seen.transpose(2, 3).reshape(b, n, h, w))  # type: ignore[no-any-return]


class _Head(nn.Module):
    """From features of squares of pixels, and the noisy pixels themselves, to predictions.

    What is predicted holds the noise of every pixel, and a square has fewer features than pixels: the noise must come past them.
    """

    def __init__(self, plan: Blueprint, n_condition: int) -> None:
        super().__init__()
        self._patch, channels = plan.patch, plan.shape[0]
        self.spread = nn.Conv2d(plan.width, _HEAD_FEATURES * plan.patch**2, 1)
        self.enter = nn.Conv2d(_HEAD_FEATURES + channels, _HEAD_WIDTH, 3, padding=1)
        self.modulation = nn.Linear(n_condition, 2 * _HEAD_WIDTH)
        self.leave = _zeroed(nn.Conv2d(_HEAD_WIDTH, channels, 3, padding=1))

    def forward(self, features: Tensor, noisy: Tensor, condition: Tensor) -> Tensor:
        spread = functional.pixel_shuffle(self.spread(features), self._patch)
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, dim=1)
        hidden = self.enter(torch.cat([spread, noisy], dim=1)) * (1.0 + scale) + shift
        return self.leave(functional.silu(hidden))  # type: ignore[no-any-return]


class UNetDenoiser(nn.Module):
    """Down, across and up again, with shortcuts between equal sides (after Ho, Jain and Abbeel 2020).

    The side of a picture needn't be a power of two: pictures are padded with their edges, and the result is cut. Squares of ``patch``
    pixels are taken as one pixel of more channels (Hoogeboom, Heek and Salimans 2023): a quarter of the work for each doubling.
    """

    def __init__(self, plan: Blueprint) -> None:
        super().__init__()
        self._patch, self._multiple = plan.patch, plan.patch * 2**plan.depth
        n_condition = 4 * plan.width
        widths = [plan.width * min(2**level, _LARGEST_FACTOR) for level in range(plan.depth + 1)]
        self.condition = Condition(n_condition, plan.n_classes)
        self.enter = nn.Conv2d(plan.shape[0] * plan.patch**2, plan.width, 3, padding=1)
        before = [plan.width, *widths[:-1]]
        self.down = nn.ModuleList(_ConvBlock(n_in, n_out, n_condition) for n_in, n_out in zip(before[:-1], widths[:-1], strict=True))
        self.across = nn.ModuleList([_ConvBlock(before[-1], widths[-1], n_condition), _ConvBlock(widths[-1], widths[-1], n_condition)])
        self.attention = _Attention(widths[-1])
        self.up = nn.ModuleList(
            _ConvBlock(widths[level + 1] + widths[level], widths[level], n_condition) for level in reversed(range(plan.depth))
        )
        self.norm, self.head = _norm(plan.width), _Head(plan, n_condition)

    def forward(self, noisy: Tensor, share: Tensor, classes: Tensor | None = None) -> Tensor:
        """Predictions ``(b, c, h, w)`` for noisy pictures of that shape, levels ``(b,)`` in [0, 1) and classes ``(b,)``."""
        height, width = noisy.shape[2:]
        padded = functional.pad(noisy, (0, -width % self._multiple, 0, -height % self._multiple), mode="replicate")
        padded = padded.contiguous(memory_format=torch.channels_last)
        condition = self.condition(share, classes)
        hidden = self.enter(functional.pixel_unshuffle(padded, self._patch).contiguous(memory_format=torch.channels_last))
        shortcuts = []
        for block in self.down:
            hidden = block(hidden, condition)
            shortcuts.append(hidden)
            hidden = functional.avg_pool2d(hidden, 2)
        hidden = self.across[1](self.attention(self.across[0](hidden, condition)), condition)
        for block in self.up:
            hidden = functional.interpolate(hidden, scale_factor=2.0, mode="nearest")
            hidden = block(torch.cat([hidden, shortcuts.pop()], dim=1), condition)
        pixels = self.head(functional.silu(self.norm(hidden)), padded, condition)
        return pixels[:, :, :height, :width].contiguous()  # type: ignore[no-any-return]


def _norm(n: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(n, 8), n)


def _zeroed(layer: nn.Linear | nn.Conv2d) -> nn.Linear | nn.Conv2d:
    """A layer that gives 0 until it is trained: a block starts as its shortcut."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
