"""The shipped contract of learners, kept by diffusion models."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from studbook.arrays import Batch, images
from studbook.learners.diffusion import Diffusion
from studbook.neural.options import Training
from studbook.testing import learners as contract

RNG = np.random.default_rng(21)
GREY = images(RNG.uniform(size=(120, 3, 2)), (0.0, 1.0))
LABELLED = images(RNG.uniform(0, 9, size=(120, 3, 3)), (0.0, 9.0), RNG.integers(0, 3, 120))
COLOUR = images(RNG.uniform(size=(100, 5, 4, 3)), (0.0, 1.0))
SHORT = Diffusion(width=8, depth=1, steps=20, sampling_steps=3, batch=1000, training=Training(epochs=1, batch=64))

CASES = {
    "mlp": (SHORT, GREY),
    "guided": (replace(SHORT, eta=1.0, conditional=True, guidance=1.0), LABELLED),
    "unet": (replace(SHORT, network="unet", width=4, patch=2, sampling_steps=2), COLOUR),
}


@pytest.mark.parametrize(
    ("learner", "batch", "check"),
    [
        pytest.param(learner, batch, check, id=f"{name}-{check.__name__}")
        for name, (learner, batch) in CASES.items()
        for check in contract.learner_checks(learner)
    ],
)
def test_diffusion_keeps_the_contract(learner: Any, batch: Batch, check: contract.Check) -> None:
    check(learner, batch)
