"""Cross-entropy of the next token straight from hidden states, a slice of positions at a time.

The logits of a batch are larger than everything else in a small language model together. Here a slice of them is made, turned into the
loss and its gradient while it is in the cache, and written over by the next one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from studbook.neural.choice_kernels import descend
from studbook.neural.parts import in_parts
from studbook.neural.sampling import compiled, survey

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
    buffer, size, spoilt = _buffer(hidden, weight), _slice_size(hidden, weight), _spoilt(hidden, weight)
    found = torch.empty(len(hidden), dtype=torch.promote_types(hidden.dtype, torch.float32), device=hidden.device)
    for start in range(0, len(hidden), size):
        part = slice(start, start + size)
        logits = _logits(hidden[part], weight, buffer)
        chosen = logits.gather(1, targets[part, None])
        found[part] = (chosen - survey(logits)[0])[:, 0] + spoilt[part]
    return found


def _slice_size(hidden: Tensor, weight: Tensor) -> int:
    return max(1, min(len(hidden), SLICE_BYTES // (4 * len(weight))))


def _buffer(hidden: Tensor, weight: Tensor) -> Tensor | None:
    """Where a slice's logits are put; ``None`` in mixed precision, which needs a new tensor for each."""
    plain = hidden.dtype == weight.dtype and not torch.is_autocast_enabled(hidden.device.type)
    return weight.new_empty((_slice_size(hidden, weight), len(weight))) if plain else None


def _spoilt(hidden: Tensor, weight: Tensor) -> Tensor:
    """0 for each row, ``(n,)``; not a number where a number that its logits come from isn't finite: compiled loops don't see that."""
    return (hidden.detach().sum(dim=1) + weight.detach().sum()) * 0.0


def _logits(states: Tensor, weight: Tensor, buffer: Tensor | None) -> Tensor:
    """A slice's logits, at least in single precision."""
    matrix = weight.detach().t()
    return torch.mm(states.detach(), matrix).float() if buffer is None else torch.mm(states.detach(), matrix, out=buffer[: len(states)])


def _descend(logits: Tensor, targets: Tensor, shares: Tensor) -> Tensor:
    """The targets' log-probabilities ``(n,)``; the logits become the slopes of the loss, times ``shares`` ``(n,)``."""
    if compiled(logits):
        found = logits.new_empty(len(logits))
        if int(targets.max()) >= logits.shape[1]:
            raise IndexError(f"a target is {int(targets.max())}, the vocabulary has {logits.shape[1]} tokens")
        rows, chosen, scales, out = logits.numpy(), targets.numpy(), shares.numpy(), found.numpy()
        in_parts(lambda part: descend(rows[part].reshape(-1), rows.shape[1], chosen[part], scales[part], out[part]), len(rows))
        return found
    places = targets[:, None]
    logits -= logits.amax(dim=1, keepdim=True)
    found = logits.gather(1, places)
    sums = logits.exp_().sum(dim=1, keepdim=True)
    logits *= shares[:, None] / sums
    logits.scatter_add_(1, places, -shares[:, None])
    return (found - sums.log())[:, 0]


class _TokenLoss(torch.autograd.Function):
    """The loss, whose gradients are computed on the way forward."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, scale: Tensor, wanted: bool) -> Tensor:
        buffer = _buffer(hidden, weight)
        size = _slice_size(hidden, weight)
        total = _spoilt(hidden, weight).sum(dtype=torch.float64)
        to_hidden = torch.empty_like(hidden) if wanted else None
        to_weight = torch.zeros_like(weight) if wanted else None
        for start in range(0, len(hidden), size):
            part = slice(start, start + size)
            states, share = hidden[part], scale[part]
            logits = _logits(states, weight, buffer)
            if to_hidden is None or to_weight is None:
                total -= ((logits.gather(1, targets[part, None]) - survey(logits)[0])[:, 0] * share).sum()
                continue
            total -= (_descend(logits, targets[part], share.to(logits.dtype)) * share).sum()
            to_hidden[part] = torch.mm(logits, weight)
            if buffer is not None:
                to_weight.addmm_(logits.t(), states)
            else:
                to_weight += torch.mm(logits.t(), states)
        if to_hidden is not None and to_weight is not None:
            ctx.save_for_backward(to_hidden, to_weight)
        return total.to(torch.float32 if hidden.dtype != torch.float64 else torch.float64)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        to_hidden, to_weight = ctx.saved_tensors
        return to_hidden * slopes[0], to_weight * slopes[0], None, None, None
