"""Rounds of votes on a run with false steps, counted beside theory."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from studbook.protocols import Independent, InProcess, Node, TrainingSpec
from studbook.protocols.inspection import Draw

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import committed_site as site


def test_a_false_step_is_found_as_often_as_theory_says(tmp_path):
    """Of 40 steps 4 are false; 10 are drawn."""

    class Four(Node):
        def gradient_at(self, state):
            return super().gradient_at(self.begin() if state.step in (7, 8, 21, 33) else state)

    spec = TrainingSpec("quadratic", {"dimension": 3, "rows": 50}, nodes=1, batch=4)
    node = spec.build()[0]
    cluster = InProcess([Four(0, node.objective, node.rows, node.batch, node.optimiser, node.seed)], site.place(tmp_path))
    site.commit(tmp_path, Independent(), 40, spec=spec, every=1, cluster=cluster)
    draw = Draw(10, 0.99, 0.1)
    found = [site.verify(tmp_path, draw) for _ in range(200)]
    assert {each.nodes[0].detects for each in found} == {draw.detects(40)}
    assert draw.detects(40) == pytest.approx(1 - np.prod([(36 - i) / (40 - i) for i in range(10)]))
    caught = np.mean([each.outcome == "reject" for each in found])
    # Rounds are random; .70 of 200: beyond .146 (4.5 standard errors) once in 1.5·10⁵.
    assert abs(caught - draw.detects(40)) < 0.146
