"""Inception v3 in the variant whose features published Fréchet distances use (Szegedy et al. 2016; Heusel et al. 2017).

Only the network is here; its weights are a file of the user's, ``pt_inception-2015-12-05-6726825d.pth`` or the same tensors as safetensors.
The variant differs from the usual one in its poolings: averages leave the zeros of the padding out, and the last block pools by the
largest value. Features are the 2,048 numbers before the classifier, of pictures resized to 299 × 299.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from studbook.arrays import Batch, Floats, Kind
from studbook.errors import CheckpointError, MetricError
from studbook.neural.checkpoints import load_into, read_tensors
from studbook.neural.classifier import one_thread
from studbook.neural.device import choose_device
from studbook.neural.images import Pictures

SIDE = 299
N_FEATURES = 2048
AT_ONCE = 16
MAX_BYTES = 512 << 20
MAX_TENSORS = 2_000

Layer: TypeAlias = tuple[str, int, int, tuple[int, int], int]
"""Name, channels in and out, kernel, stride; a kernel of stride 1 keeps the size."""
Branch: TypeAlias = tuple[Layer, ...]


class Convolution(nn.Module):
    """A convolution without a bias, batch normalisation, rectifier."""

    def __init__(self, channels: int, out: int, kernel: tuple[int, int], stride: int = 1, *, padded: bool = True) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2) if padded else 0
        self.conv = nn.Conv2d(channels, out, kernel, stride=stride, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """``(n, out, h, w)``."""
        return functional.relu(self.bn(self.conv(x)), inplace=True)


class Mixed(nn.Module):
    """Branches side by side, put together along the channels.

    Args:
        branches: Layers one after the other; two layers whose names differ in their last letter alone are side by side at the branch's end.
        pool: What a further branch pools by: ``average``, ``largest``, or ``halve`` (largest of every second).
        pooled: Channels in and out of the convolution after that pooling; none where it halves.
    """

    def __init__(self, branches: tuple[Branch, ...], pool: str, pooled: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.pool, self.branches = pool, [[layer[0] for layer in branch] for branch in branches]
        for name, channels, out, kernel, stride in (layer for branch in branches for layer in branch):
            self.add_module(name, Convolution(channels, out, kernel, stride, padded=stride == 1))
        if pooled is not None:
            self.branch_pool = Convolution(*pooled, (1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """``(n, channels of all branches, h, w)``."""
        parts = [part for names in self.branches for part in self._branch(names, x)]
        if self.pool == "halve":
            return torch.cat([*parts, functional.max_pool2d(x, 3, stride=2)], dim=1)
        if self.pool == "average":
            pooled = functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
        else:
            pooled = functional.max_pool2d(x, 3, stride=1, padding=1)
        return torch.cat([*parts, self.branch_pool(pooled)], dim=1)

    def _branch(self, names: list[str], x: Tensor) -> list[Tensor]:
        split = names[-1].endswith("b")
        for name in names[: len(names) - 2 if split else len(names)]:
            x = self.get_submodule(name)(x)
        return [self.get_submodule(name)(x) for name in names[-2:]] if split else [x]


class Inception(nn.Module):
    """The network up to its last pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Convolution(3, 32, (3, 3), 2, padded=False)
        self.Conv2d_2a_3x3 = Convolution(32, 32, (3, 3), padded=False)
        self.Conv2d_2b_3x3 = Convolution(32, 64, (3, 3))
        self.Conv2d_3b_1x1 = Convolution(64, 80, (1, 1))
        self.Conv2d_4a_3x3 = Convolution(80, 192, (3, 3), padded=False)
        for letter, channels, pooled in (("b", 192, 32), ("c", 256, 64), ("d", 288, 64)):
            self.add_module(f"Mixed_5{letter}", _small(channels, pooled))
        self.Mixed_6a = _halving_small()
        for letter, narrow in (("b", 128), ("c", 160), ("d", 160), ("e", 192)):
            self.add_module(f"Mixed_6{letter}", _long(narrow))
        self.Mixed_7a = _halving_long()
        self.Mixed_7b = _wide(1280, "average")
        self.Mixed_7c = _wide(2048, "largest")

    def forward(self, pixels: Tensor) -> Tensor:
        """Features ``(n, 2048)`` of pictures ``(n, 3, 299, 299)`` in [-1, 1]."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(pixels)))
        x = functional.max_pool2d(x, 3, stride=2)
        x = functional.max_pool2d(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)), 3, stride=2)
        for name in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"):
            x = self.get_submodule(f"Mixed_{name}")(x)
        return torch.mean(x, dim=(2, 3))


@dataclass(frozen=True, slots=True, eq=False)
class InceptionFeatures:
    """The network with its weights, on its device, in evaluation mode."""

    network: Inception

    @torch.no_grad()
    def features(self, batch: Batch) -> Floats:
        """``(n, 2048)`` float64; grey pictures are shown as red, green and blue alike.

        Raises:
            MetricError: Not pictures.
        """
        if batch.space.kind is not Kind.IMAGES:
            raise MetricError(f"the Inception network looks at pictures, got {batch.space.kind.value}", hint="leave network out")
        device = next(self.network.parameters()).device
        found = np.empty((len(batch), N_FEATURES))
        with one_thread():
            for start in range(0, len(batch), AT_ONCE):
                rows = np.arange(start, min(start + AT_ONCE, len(batch)))
                pixels = Pictures.of(batch.take(rows), device).pixels
                pixels = functional.interpolate(pixels, (SIDE, SIDE), mode="bilinear", align_corners=False)
                found[rows] = self.network(pixels.expand(-1, 3, -1, -1)).double().cpu().numpy()
        return found


def load(file: Path) -> InceptionFeatures:
    """The network with the weights in ``file``, on the device that ``auto`` means.

    Args:
        file: A PyTorch state dict (read as tensors alone, never as objects) or safetensors.

    Raises:
        CheckpointError: It isn't there, is damaged, too large, or holds other weights; the message names the first that differs.
    """
    if not file.is_file():
        raise CheckpointError(f"there is no file {file}", hint="give the path of the Inception weights")
    if file.stat().st_size > MAX_BYTES:
        raise CheckpointError(
            f"{file} has {file.stat().st_size:,} bytes; the Inception weights have some 95 million", hint="check the path"
        )
    tensors = read_tensors(file)[0] if file.suffix == ".safetensors" else _read_state(file)
    network = Inception()
    counters = {name: value for name, value in network.state_dict().items() if name.endswith("num_batches_tracked")}
    # The classifier isn't used; counters of batches are of newer PyTorch versions than the file.
    wanted = {name: value for name, value in tensors.items() if not name.startswith("fc.") and name not in counters}
    load_into(network, {**wanted, **counters}, str(file))
    network.eval()
    network.requires_grad_(requires_grad=False)
    return InceptionFeatures(network.to(choose_device("auto")))


def _read_state(file: Path) -> dict[str, Tensor]:
    try:
        state: Any = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, AttributeError, TypeError, IndexError, OSError) as error:
        # PyTorch's own words advise to unpickle whatever is in the file.
        hint = "it is damaged or something else: give the weights of FID's Inception network, tensors by name"
        raise CheckpointError(f"{file} can't be read as a PyTorch state dict", hint=hint) from error
    if not isinstance(state, Mapping) or len(state) > MAX_TENSORS:
        raise CheckpointError(f"{file} holds a {type(state).__name__}, expected a state dict", hint="give the Inception weights")
    if not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()):
        raise CheckpointError(f"{file} holds more than tensors by name", hint="give the Inception weights")
    return dict(state)


def _small(channels: int, pooled: int) -> Mixed:
    branches: tuple[Branch, ...] = (
        (("branch1x1", channels, 64, (1, 1), 1),),
        (("branch5x5_1", channels, 48, (1, 1), 1), ("branch5x5_2", 48, 64, (5, 5), 1)),
        (
            ("branch3x3dbl_1", channels, 64, (1, 1), 1),
            ("branch3x3dbl_2", 64, 96, (3, 3), 1),
            ("branch3x3dbl_3", 96, 96, (3, 3), 1),
        ),
    )
    return Mixed(branches, "average", (channels, pooled))


def _halving_small() -> Mixed:
    branches: tuple[Branch, ...] = (
        (("branch3x3", 288, 384, (3, 3), 2),),
        (("branch3x3dbl_1", 288, 64, (1, 1), 1), ("branch3x3dbl_2", 64, 96, (3, 3), 1), ("branch3x3dbl_3", 96, 96, (3, 3), 2)),
    )
    return Mixed(branches, "halve")


def _long(narrow: int) -> Mixed:
    across, down = (1, 7), (7, 1)
    branches: tuple[Branch, ...] = (
        (("branch1x1", 768, 192, (1, 1), 1),),
        (
            ("branch7x7_1", 768, narrow, (1, 1), 1),
            ("branch7x7_2", narrow, narrow, across, 1),
            ("branch7x7_3", narrow, 192, down, 1),
        ),
        (
            ("branch7x7dbl_1", 768, narrow, (1, 1), 1),
            ("branch7x7dbl_2", narrow, narrow, down, 1),
            ("branch7x7dbl_3", narrow, narrow, across, 1),
            ("branch7x7dbl_4", narrow, narrow, down, 1),
            ("branch7x7dbl_5", narrow, 192, across, 1),
        ),
    )
    return Mixed(branches, "average", (768, 192))


def _halving_long() -> Mixed:
    branches: tuple[Branch, ...] = (
        (("branch3x3_1", 768, 192, (1, 1), 1), ("branch3x3_2", 192, 320, (3, 3), 2)),
        (
            ("branch7x7x3_1", 768, 192, (1, 1), 1),
            ("branch7x7x3_2", 192, 192, (1, 7), 1),
            ("branch7x7x3_3", 192, 192, (7, 1), 1),
            ("branch7x7x3_4", 192, 192, (3, 3), 2),
        ),
    )
    return Mixed(branches, "halve")


def _wide(channels: int, pool: str) -> Mixed:
    branches: tuple[Branch, ...] = (
        (("branch1x1", channels, 320, (1, 1), 1),),
        (
            ("branch3x3_1", channels, 384, (1, 1), 1),
            ("branch3x3_2a", 384, 384, (1, 3), 1),
            ("branch3x3_2b", 384, 384, (3, 1), 1),
        ),
        (
            ("branch3x3dbl_1", channels, 448, (1, 1), 1),
            ("branch3x3dbl_2", 448, 384, (3, 3), 1),
            ("branch3x3dbl_3a", 384, 384, (1, 3), 1),
            ("branch3x3dbl_3b", 384, 384, (3, 1), 1),
        ),
    )
    return Mixed(branches, pool, (channels, 192))
