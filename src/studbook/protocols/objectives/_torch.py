"""Gradients by PyTorch, as plain arrays. PyTorch is imported when one is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from studbook.protocols.objective import Gradient
from studbook.protocols.objectives._losses import as_gradient
from studbook.protocols.objectives._threads import one_torch_thread
from studbook.protocols.values import Parameters

if TYPE_CHECKING:
    from torch import Tensor


def torch_gradient(parameters: Parameters, n: int, loss_of: Callable[[Mapping[str, Tensor]], Tensor]) -> Gradient:
    """The gradient of a scalar by the parameters alone, on one thread of the CPU; what else is in it stays frozen."""
    import torch

    with one_torch_thread(), torch.enable_grad():
        tensors = {name: torch.from_numpy(np.array(value)).requires_grad_() for name, value in sorted(parameters.items())}
        loss = loss_of(tensors)
        slopes = torch.autograd.grad(loss, list(tensors.values()))
    found = {name: slope.numpy() for name, slope in zip(tensors, slopes, strict=True)}
    return as_gradient(found, float(loss.detach().double()), n)


def as_tensors(parameters: Parameters) -> dict[str, Tensor]:
    """The parameters as tensors on the CPU."""
    import torch

    return {name: torch.from_numpy(np.array(value)) for name, value in parameters.items()}
