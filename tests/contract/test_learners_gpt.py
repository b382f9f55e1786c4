"""The contract of a learner, for the small decoder."""

from __future__ import annotations

import numpy as np
import pytest

from studbook.arrays import text
from studbook.learners import Gpt
from studbook.neural.options import Decoding, Training
from studbook.testing.learners import learner_checks

pytest.importorskip("torch")

LEARNERS = {
    "sampling": Gpt(layers=1, width=16, heads=2, training=Training(epochs=1, batch=32, rate=1e-3)),
    "prompted": Gpt(
        layers=1,
        width=16,
        heads=2,
        context=16,
        training=Training(epochs=1, batch=32),
        decoding=Decoding(prompt=8, temperature=0.9, top_k=5),
    ),
}  # fmt: skip
CASES = [pytest.param(one, check, id=f"{name}-{check.__name__}") for name, one in LEARNERS.items() for check in learner_checks(one)]


@pytest.mark.parametrize(("learner", "check"), CASES)
def test_contract(learner, check):
    blocks = np.random.default_rng(0).integers(9, size=(120, 8))
    check(learner, text(blocks, tuple("abcdefghi")))
