"""Convolutional blocks for pictures of any size: halving down to a few pixels, and growing back to the exact size."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

COARSEST = 7
"""Halving ends where neither side has more pixels than this."""


def sizes_of(height: int, width: int) -> list[tuple[int, int]]:
    """Heights and widths from the picture's own down, each half the one before, rounded up.

    Examples:
        >>> from studbook.neural.convolutional import sizes_of
        >>> sizes_of(28, 28), sizes_of(8, 8), sizes_of(64, 50)[-1]
        ([(28, 28), (14, 14), (7, 7)], [(8, 8), (4, 4)], (4, 4))
    """
    sizes = [(height, width)]
    while max(sizes[-1]) > COARSEST:
        h, w = sizes[-1]
        sizes.append(((h + 1) // 2, (w + 1) // 2))
    return sizes


def channels_at(level: int, width: int) -> int:
    """Channels after ``level`` halvings: doubled each time, up to eight times ``width``."""
    return width * min(1 << level, 8)


def group_norm(channels: int) -> nn.GroupNorm:
    """A group norm of up to eight groups of four channels or more: one of a single number would be 0 whatever it is."""
    return nn.GroupNorm(math.gcd(max(channels // 4, 1), 8), channels)


class Shrinking(nn.Module):
    """From pictures ``(n, c, h, w)`` to features ``(n, features)``."""

    def __init__(self, channels: int, height: int, width: int, base: int) -> None:
        super().__init__()
        sizes = sizes_of(height, width)
        layers: list[nn.Module] = [nn.Conv2d(channels, base, 3, padding=1), nn.SiLU()]
        for level in range(1, len(sizes)):
            wide = channels_at(level, base)
            layers += [nn.Conv2d(channels_at(level - 1, base), wide, 3, stride=2, padding=1), group_norm(wide), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Flatten())
        self.features = channels_at(len(sizes) - 1, base) * math.prod(sizes[-1])

    def forward(self, pictures: Tensor) -> Tensor:
        """Features of the pictures."""
        features: Tensor = self.layers(pictures)
        return features


class Growing(nn.Module):
    """From vectors ``(n, inputs)`` to pictures ``(n, c, h, w)``, of any real numbers."""

    def __init__(self, inputs: int, channels: int, height: int, width: int, base: int) -> None:
        super().__init__()
        self._sizes = sizes_of(height, width)[::-1]
        last = len(self._sizes) - 1
        self._coarsest = (channels_at(last, base), *self._sizes[0])
        self.first = nn.Linear(inputs, math.prod(self._coarsest))
        self.convolutions = nn.ModuleList(
            nn.Conv2d(channels_at(level, base), channels_at(level - 1, base), 3, padding=1) for level in range(last, 0, -1)
        )
        self.norms = nn.ModuleList(group_norm(channels_at(level - 1, base)) for level in range(last, 0, -1))
        self.final = nn.Conv2d(base, channels, 3, padding=1)

    def forward(self, vectors: Tensor) -> Tensor:
        """The pictures that the vectors stand for."""
        grid: Tensor = functional.silu(self.first(vectors).view(-1, *self._coarsest))
        for size, convolution, norm in zip(self._sizes[1:], self.convolutions, self.norms, strict=True):
            grid = functional.silu(norm(convolution(functional.interpolate(grid, size, mode="nearest"))))
        pictures: Tensor = self.final(grid)
        return pictures


class SpectralConv(nn.Module):
    """A convolution divided by its matrix's largest singular value, so that its slope is at most about 1.

    The singular vector follows the weights by one step of the power method at each forward pass in training mode.

    References:
        Miyato, Kataoka, Koyama, Yoshida 2018, "Spectral normalization for generative adversarial networks", algorithm 1.
    """

    direction: Tensor

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)
        self.register_buffer("direction", functional.normalize(torch.randn(outputs), dim=0))

    @torch.no_grad()
    def settle(self) -> None:
        """Take the singular vector that the power method tends to: a function of the weights alone."""
        matrix = self.convolution.weight.flatten(1).double()
        self.direction.copy_(torch.linalg.eigh(matrix @ matrix.T).eigenvectors[:, -1])

    def forward(self, pictures: Tensor) -> Tensor:
        """The normalised convolution."""
        weight = self.convolution.weight
        with torch.autocast(weight.device.type, enabled=False):
            matrix = weight.flatten(1)
            with torch.no_grad():
                right = functional.normalize(matrix.T @ self.direction, dim=0)
                left = functional.normalize(matrix @ right, dim=0)
                if self.training:
                    self.direction.copy_(left)
            weight = weight / (left @ (matrix @ right))
        return functional.conv2d(pictures, weight, self.convolution.bias, self.convolution.stride, self.convolution.padding)
