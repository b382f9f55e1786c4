"""What a node's commitment binds when it trains a small language model."""

from __future__ import annotations

import numpy as np
import pytest

from studbook.data import open_source
from studbook.learners import Gpt
from studbook.protocols.language_model import NextToken
from studbook.rng import stream

pytest.importorskip("torch")


def test_other_blocks_and_other_weights_are_another_objective():
    text = open_source("python-docs").load().records
    one, other = text.take(np.arange(8)), text.take(np.arange(8, 16))
    learner = Gpt(layers=1, width=32, heads=2)
    start, elsewhere = (learner.unfitted(one, rng=stream(seed)) for seed in (0, 1))
    known = NextToken.of(start, one).describe()
    assert known == NextToken.of(start, one).describe()
    assert NextToken.of(start, other).describe()["data"] != known["data"]
    assert NextToken.of(elsewhere, one).describe()["start"] != known["start"]
