"""How a fit went."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FitReport:
    """What a fit by gradient steps leaves behind beside its model: non-convergence is a result, not an error.

    Attributes:
        steps: Optimiser steps that were taken.
        epochs: Passes through the training set, the last one counted in full.
        loss: Mean training loss of the last pass, in the family's own unit; NaN where no pass ended.
        validation: Loss on the part that was held out of the training set for the early stop; ``None`` without one.
        stopped_early: Whether the validation loss ended the fit.
        failure: What went wrong, in one line (``"the loss was NaN in step 12"``); ``None`` where nothing did.
    """

    steps: int
    epochs: int
    loss: float
    validation: float | None = None
    stopped_early: bool = False
    failure: str | None = None
