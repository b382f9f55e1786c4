"""A training taken apart: the network, its loss, and how a model comes of it, for whoever takes the steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from studbook.neural.options import Training
from studbook.neural.training import fit_module
from studbook.records import FitReport


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """What a family's training is, but for its steps. Every learner that trains by gradients has one: ``learner.lesson(data, rng=…)``.

    Attributes:
        network: What is trained, with the weights to begin with, on one device with the data.
        n: Rows of the training set.
        loss: The mean loss of the rows ``(b,)`` that it is given, a scalar. A step goes down its gradient.
        finish: The model with the network's weights as they are, and the report of the fit; it takes the network over.
        judge: What went wrong, from the loss of every step, once the network has its last weights; ``None`` where finite losses are enough.
        betas: Adam's decays of the gradient's mean and square.
        averaged: What the names of those weights begin with of which the model has a moving average.
        decay: Of that average; 0: the model has the weights themselves.
        players: Whether the network's parts play against each other: a step clips the gradient of each by its own norm.

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import text
        >>> from studbook.learners import Gpt
        >>> blocks = text(np.tile([0, 1, 2, 1], (40, 2)), ("the", "cat", "sat"))
        >>> lesson = Gpt(layers=1, width=16, heads=2).lesson(blocks, rng=np.random.default_rng(0))
        >>> lesson.n, 0.9 < lesson.loss(torch.arange(40)).item() < 1.3  # about as good as guessing among three words: ln 3
        (40, True)
    """

    network: nn.Module
    n: int
    loss: Callable[[Tensor], Tensor]
    finish: Callable[[FitReport], Any]
    judge: Callable[[Sequence[float]], str | None] | None = None
    betas: tuple[float, float] = (0.9, 0.999)
    averaged: str = ""
    decay: float = 0.0
    players: bool = False

    def fit(self, options: Training, *, device: torch.device, rng: np.random.Generator) -> Any:
        """The model, trained as ``fit_module`` does; for families without a moving average."""
        return self.finish(fit_module(self.network, self.n, self.loss, options, device=device, rng=rng))
