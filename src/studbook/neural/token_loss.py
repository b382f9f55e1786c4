"""Cross-entropy of the next token straight from hidden states, a slice of positions at a time.

The logits of a batch are larger than everything else in a small language model together. Here a slice of them is made, turned into the
loss and its gradient while it is in the cache, and written over by the next one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

SLICE_BYTES = 8 << 20
IGNORED = -100
"""Target of a position that doesn't count."""


def token_loss(hidden: Tensor, weight: Tensor, targets: Tensor, shares: Tensor | None = None) -> Tensor:
    """Mean negative log-probability of the targets, in nats.

    Args:
        hidden: ``(n, width)`` hidden states.
        weight: ``(vocabulary, width)`` output matrix.
        targets: ``(n,)`` tokens; ``IGNORED`` where a position doesn't count.
        shares: ``(n,)`` weights of the positions, with a mean of about 1, or ``None`` for 1 each. The sum is divided by the number of
            positions that count.

    Returns:
        A scalar; differentiable once, in ``hidden`` and ``weight``.

    Examples:
        >>> import torch
        >>> hidden, weight, targets = torch.randn(10, 4), torch.randn(7, 4), torch.randint(7, (10,))
        >>> expected = torch.nn.functional.cross_entropy(hidden @ weight.T, targets)
        >>> bool(torch.isclose(token_loss(hidden, weight, targets), expected))
        True
    """
    counts = targets != IGNORED
    kind = hidden.dtype if hidden.dtype == torch.float64 else torch.float32
    scale = counts.to(kind) if shares is None else shares.to(kind) * counts
    scale = scale / counts.sum()
    wanted = torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad)
    loss: Tensor = _TokenLoss.apply(hidden, weight, targets.clamp(min=0), scale, wanted)  # type: ignore[no-untyped-call]
    return loss


@torch.no_grad()
def token_log_likelihood(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """The log-probability of each target, ``(n,)`` in nats; arguments as in ``token_loss``, every target counts."""
    buffer, size = _buffer(hidden, weight), _slice_size(hidden, weight)
    found = torch.empty(len(hidden), dtype=torch.promote_types(hidden.dtype, torch.float32), device=hidden.device)
    for start in range(0, len(hidden), size):
        part = slice(start, start + size)
        _, sums, shifted = _survey(hidden[part], weight, targets[part, None], buffer)
        found[part] = (shifted - sums.log())[:, 0]
    return found


def _slice_size(hidden: Tensor, weight: Tensor) -> int:
    return max(1, min(len(hidden), SLICE_BYTES // (4 * len(weight))))


def _buffer(hidden: Tensor, weight: Tensor) -> Tensor | None:
    """Where a slice's logits are put; ``None`` in mixed precision, which needs a new tensor for each."""
    plain = hidden.dtype == weight.dtype and not torch.is_autocast_enabled(hidden.device.type)
    return weight.new_empty((_slice_size(hidden, weight), len(weight))) if plain else None


def _survey(states: Tensor, weight: Tensor, chosen: Tensor, buffer: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Exponentials of a slice's logits, the largest of a row 1; their sums ``(n, 1)``; and the chosen tokens' logits, shifted likewise."""
    matrix = weight.detach().t()
    logits = torch.mm(states.detach(), matrix).float() if buffer is None else torch.mm(states.detach(), matrix, out=buffer[: len(states)])
    logits -= logits.amax(dim=1, keepdim=True)
    found = logits.gather(1, chosen)
    return logits, logits.exp_().sum(dim=1, keepdim=True), found


class _TokenLoss(torch.autograd.Function):
    """The loss, whose gradients are computed on the way forward."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, scale: Tensor, wanted: bool) -> Tensor:
        buffer = _buffer(hidden, weight)
        size = _slice_size(hidden, weight)
        total = torch.zeros((), dtype=torch.float64, device=hidden.device)
        to_hidden = torch.empty_like(hidden) if wanted else None
        to_weight = torch.zeros_like(weight) if wanted else None
        for start in range(0, len(hidden), size):
            part = slice(start, start + size)
            states, chosen, share = hidden[part], targets[part, None], scale[part, None]
            logits, sums, found = _survey(states, weight, chosen, buffer)
            total += ((sums.log() - found) * share).sum()
            if to_hidden is not None and to_weight is not None:
                factor = share.to(logits.dtype)
                slopes = logits.mul_(factor / sums)
                slopes.scatter_add_(1, chosen, -factor)
                to_hidden[part] = torch.mm(slopes, weight)
                if buffer is not None:
                    to_weight.addmm_(slopes.t(), states)
                else:
                    to_weight += torch.mm(slopes.t(), states)
        if to_hidden is not None and to_weight is not None:
            ctx.save_for_backward(to_hidden, to_weight)
        return total.to(torch.float32 if hidden.dtype != torch.float64 else torch.float64)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        to_hidden, to_weight = ctx.saved_tensors
        return to_hidden * slopes[0], to_weight * slopes[0], None, None, None
