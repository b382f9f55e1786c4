"""Pictures as tensors and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from studbook.arrays import Batch, Floats, Ints, Space


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """A training set of pictures on a device.

    Attributes:
        pixels: ``(n, channels, height, width)`` float32 in [-1, 1].
        classes: ``(n,)`` position of each label in the learner's classes, or ``None`` where the model isn't conditional.
        weights: ``(n,)`` float32 with mean 1.
    """

    pixels: Tensor
    classes: Tensor | None
    weights: Tensor

    @classmethod
    def of(cls, batch: Batch, device: torch.device, classes: tuple[int, ...] = ()) -> Pictures:
        """The pictures of ``batch``; with ``classes`` their labels as positions in it."""
        low, high = batch.space.value_range
        scaled = (np.asarray(batch.values, np.float32) - low) * np.float32(2.0 / ((high - low) or 1.0)) - np.float32(1.0)
        pixels = torch.from_numpy(np.ascontiguousarray(_channels_first(scaled), dtype=np.float32)).to(device)
        weights = np.ones(len(batch), np.float32) if batch.weights is None else (batch.weights / batch.weights.mean()).astype(np.float32)
        positions = None
        if classes and batch.labels is not None:
            positions = torch.from_numpy(np.searchsorted(np.array(classes), batch.labels)).to(device)
        return cls(pixels, positions, torch.from_numpy(weights).to(device))


def pictures_of(pixels: Tensor, space: Space, labels: Ints | None = None) -> Batch:
    """Tensors ``(n, channels, height, width)`` as records of ``space``; values outside [-1, 1] are cut to the space's range."""
    low, high = space.value_range
    scaled: Floats = (pixels.detach().float().cpu().numpy().astype(np.float64) + 1.0) * ((high - low) / 2.0) + low
    values = np.moveaxis(scaled, 1, -1).reshape(len(scaled), *space.shape)
    return Batch(np.ascontiguousarray(np.clip(values, low, high)), space, labels=labels)


def channels_of(space: Space) -> int:
    """1 for grey pictures, else the last axis."""
    return space.shape[2] if len(space.shape) == 3 else 1


def _channels_first(values: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return values[:, None] if values.ndim == 3 else np.moveaxis(values, -1, 1)
