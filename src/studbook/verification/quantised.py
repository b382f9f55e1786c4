"""Weights with fewer bits: what somebody might serve in place of the model that was paid for. Used to calibrate, and in tests."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from studbook.errors import ConfigError

_GROUP = 32
_EMBEDDINGS = ("embedding", "embed", "wte", "wpe", "positions", "lm_head", "head.")


@torch.no_grad()
def quantise_weights(module: nn.Module, bits: int) -> None:
    """Round the weights of a network's matrices and convolutions in place, embeddings and norms left alone.

    With 8 bits each row has a scale of its own (the usual "int8 weights"); with 4 each 32 numbers of a row have (as in Q4_0).

    Args:
        module: The network.
        bits: 8 or 4.

    Raises:
        ConfigError: Another number of bits.
    """
    if bits not in {4, 8}:
        raise ConfigError(f"weights can be rounded to 8 or 4 bits, not {bits}")
    for name, weight in module.named_parameters():
        if weight.ndim >= 2 and not any(part in name for part in _EMBEDDINGS):
            rows = weight.detach().float().flatten(1)
            weight.copy_(_rounded(rows, bits).view_as(weight).to(weight.dtype))


def _rounded(rows: Tensor, bits: int) -> Tensor:
    n, width = rows.shape
    size = _GROUP if bits == 4 and width % _GROUP == 0 else width
    groups = rows.view(n, width // size, size)
    largest = 2 ** (bits - 1) - 1
    scale = groups.abs().amax(dim=2, keepdim=True).clamp_(min=1e-12) / largest
    rounded: Tensor = (groups / scale).round_().clamp_(-largest, largest).mul_(scale).view(n, width)
    return rounded
