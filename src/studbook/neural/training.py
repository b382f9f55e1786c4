"""Gradient steps: batches, optimiser, schedule, averages of weights, and the loop that most families share."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from studbook.arrays import Ints
from studbook.neural.device import precision, tensor_rows
from studbook.neural.options import Training
from studbook.records import FitReport


@dataclass(frozen=True, slots=True)
class Rows:
    """A training set's rows, divided.

    Attributes:
        training: Rows that steps are taken on.
        validation: Rows that decide when to stop; may be none.
    """

    training: Ints
    validation: Ints

    @classmethod
    def divide(cls, n: int, share: float, *, rng: np.random.Generator) -> Rows:
        """A random ``share`` of ``n`` rows for validation, at least one row on each side where the share isn't 0."""
        n_validation = min(max(1, round(share * n)), n - 1) if share and n > 1 else 0
        order = rng.permutation(n)
        return cls(np.sort(order[n_validation:]), np.sort(order[:n_validation]))


def epoch_batches(rows: Ints, batch: int, *, rng: np.random.Generator) -> Iterator[Ints]:
    """One pass through ``rows`` in random order, ``batch`` at a time; the last one may be smaller."""
    order = rng.permutation(rows)
    for start in range(0, len(order), batch):
        yield order[start : start + batch]


class Stepper:
    """An optimiser with its schedule and clipping.

    Args:
        module: Whose weights it moves.
        options: Its settings.
        n_steps: Steps of the whole training.
        betas: Adam's decays of the gradient's mean and square.
        players: Whether each of the module's parts is clipped by its own norm.
    """

    def __init__(
        self, module: nn.Module, options: Training, n_steps: int, *, betas: tuple[float, float] = (0.9, 0.999), players: bool = False
    ) -> None:
        self._options, self._n_steps, self.steps = options, max(n_steps, 1), 0
        self._clipped = [[p for p in part.parameters() if p.requires_grad] for part in (module.children() if players else [module])]
        parameters = [p for part in self._clipped for p in part]
        decaying = [p for p in parameters if p.ndim > 1] if options.weight_decay else []
        others = [p for p in parameters if p.ndim <= 1] if options.weight_decay else parameters
        groups = [{"params": decaying, "weight_decay": options.weight_decay}, {"params": others, "weight_decay": 0.0}]
        groups = [group for group in groups if group["params"]]
        if options.optimizer == "sgd":
            self._optimizer: torch.optim.Optimizer = torch.optim.SGD(groups, lr=options.rate, momentum=0.9)
        elif options.optimizer == "adam":
            self._optimizer = torch.optim.Adam(groups, lr=options.rate, betas=betas, fused=True)
        else:
            self._optimizer = torch.optim.AdamW(groups, lr=options.rate, betas=betas, fused=True)

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """What takes the steps; its state belongs to a checkpoint as much as the weights do."""
        return self._optimizer

    def step(self, loss: Tensor) -> None:
        """One step down the gradient of ``loss``."""
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.descend()

    def descend(self) -> None:
        """One step down the gradient that the weights have."""
        for group in self._optimizer.param_groups:
            group["lr"] = self._options.rate * self._share()
        if self._options.clip:
            for part in self._clipped:
                nn.utils.clip_grad_norm_(part, self._options.clip)
        self._optimizer.step()
        self.steps += 1

    def _share(self) -> float:
        """Share of the full rate at this step."""
        warm = self._options.warmup * self._n_steps
        if self.steps < warm:
            return (self.steps + 1) / (warm + 1)
        left = 1.0 - (self.steps - warm) / max(self._n_steps - warm, 1.0)
        if self._options.schedule == "constant":
            return 1.0
        return left if self._options.schedule == "linear" else 0.5 * (1.0 - math.cos(math.pi * left))


class Average:
    """An exponential moving average of a network's weights (and a plain copy of its buffers).

    Its weights and ``steps``, which says how fast it moves, are all that it remembers.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(module)
        self.module.requires_grad_(requires_grad=False)
        self._decay, self.steps = decay, 0

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move towards ``module``; early on faster, so that the random start is forgotten."""
        self.steps += 1
        decay = min(self._decay, (1 + self.steps) / (10 + self.steps))
        ours: list[Tensor] = [p.detach() for p in self.module.parameters()]
        theirs: list[Tensor] = [p.detach() for p in module.parameters()]
        torch._foreach_lerp_(ours, theirs, 1.0 - decay)
        for kept, buffer in zip(self.module.buffers(), module.buffers(), strict=True):
            kept.copy_(buffer)


class LastSound:
    """The last weights that gave a finite loss: those after a step are known to be sound only at the next one."""

    def __init__(self, module: nn.Module) -> None:
        self._weights = [value.detach() for value in module.state_dict().values()]
        self._kept = [value.clone() for value in self._weights]

    @torch.no_grad()
    def keep(self) -> None:
        """The weights gave a finite loss."""
        torch._foreach_copy_(self._kept, self._weights)

    @torch.no_grad()
    def restore(self) -> None:
        """Take the last kept weights back."""
        torch._foreach_copy_(self._weights, self._kept)


@dataclass(slots=True)
class _Best:
    """The weights with the lowest validation loss so far."""

    loss: float = math.inf
    weights: dict[str, Tensor] | None = None
    waited: int = 0

    def offer(self, loss: float, module: nn.Module) -> None:
        if loss < self.loss:
            self.loss, self.waited = loss, 0
            self.weights = {name: value.detach().clone() for name, value in module.state_dict().items()}
        else:
            self.waited += 1


def fit_module(
    module: nn.Module,
    n: int,
    loss: Callable[[Tensor], Tensor],
    options: Training,
    *,
    device: torch.device,
    rng: np.random.Generator,
    after_step: Callable[[], None] | None = None,
) -> FitReport:
    """Train ``module`` in place.

    Args:
        module: What is trained; on ``device``.
        n: Records of the training set.
        loss: The mean loss of the records at the rows ``(b,)`` that it is given, a scalar.
        options: Epochs, batch, optimiser, early stop.
        device: Where the rows go.
        rng: Order of the records.
        after_step: Called after every step (averages of weights).

    Returns:
        How it went. A loss that isn't finite ends the fit with the last weights that gave a finite one, and is reported as its failure.
    """
    rows = Rows.divide(n, options.validation, rng=rng)
    n_steps = options.epochs * math.ceil(len(rows.training) / options.batch)
    stepper, best, sound = Stepper(module, options, n_steps), _Best(), LastSound(module)
    mean = validation = math.nan
    epoch = 0
    for epoch in range(1, options.epochs + 1):
        module.train()
        sums: list[Tensor] = []
        for chosen in epoch_batches(rows.training, options.batch, rng=rng):
            with precision(options, device):
                value = loss(tensor_rows(chosen, device))
            if not bool(torch.isfinite(value.detach())):
                sound.restore()
                failure = f"the loss was {float(value.detach())} in step {stepper.steps + 1}"
                return FitReport(stepper.steps, epoch, mean, None, failure=failure)
            sound.keep()
            stepper.step(value)
            sums.append(value.detach() * len(chosen))
            if after_step is not None:
                after_step()
        last = mean_loss(module, loss, chosen, options, device=device) if epoch == options.epochs else 0.0
        if not math.isfinite(last):  # what the last step did is seen only now
            sound.restore()
            return FitReport(stepper.steps, epoch, mean, None, failure=f"the loss was {last} after the last step")
        mean = float(torch.stack(sums).sum()) / len(rows.training)
        if len(rows.validation):
            validation = mean_loss(module, loss, rows.validation, options, device=device)
            best.offer(validation, module)
            if options.patience and best.waited >= options.patience:
                break
    stopped = bool(options.patience) and best.waited >= options.patience
    if stopped and best.weights is None:
        sound.restore()
        return FitReport(stepper.steps, epoch, mean, None, failure=f"the validation loss was {validation} after epoch {epoch}")
    if options.patience and best.weights is not None:
        module.load_state_dict(best.weights)
        validation = best.loss
    return FitReport(stepper.steps, epoch, mean, validation if len(rows.validation) else None, stopped_early=stopped)


@torch.no_grad()
def mean_loss(module: nn.Module, loss: Callable[[Tensor], Tensor], rows: Ints, options: Training, *, device: torch.device) -> float:
    """The mean loss over ``rows``, without training."""
    module.eval()
    total = 0.0
    for start in range(0, len(rows), options.batch):
        chosen = rows[start : start + options.batch]
        with precision(options, device):
            total += float(loss(tensor_rows(chosen, device))) * len(chosen)
    return total / len(rows)


def count_parameters(modules: Iterable[nn.Module]) -> int:
    """Trained numbers of several networks."""
    return sum(parameter.numel() for module in modules for parameter in module.parameters())
