"""What the nodes of a run are asked, and what it costs."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from studbook.protocols import Gossip, InProcess, Message, Optimiser, Patience, Plan, Synchronised, TrainingSpec, ring, train

N = 4
SPEC = TrainingSpec("quadratic", {"dimension": 6, "rows": 200}, nodes=N, batch=5, optimiser=Optimiser("adam", rate=0.05))


class Counting:
    """A cluster that counts questions by kind."""

    def __init__(self, spec: TrainingSpec) -> None:
        self.inner, self.nodes, self.n, self.asked = InProcess(spec.build()), spec.build(), spec.nodes, Counter()

    def ask(self, requests, *, timeout_s):
        self.asked.update(message.kind for message in requests.values())
        return self.inner.ask(requests, timeout_s=timeout_s)

    def close(self) -> None:
        pass


def test_a_synchronised_step_is_one_question_and_its_bytes_are_counted_where_they_are_used(tmp_path):
    cluster = Counting(SPEC)
    run = train(cluster, Synchronised(), Plan(steps=6, spread_every=10))
    assert cluster.asked["gradient"] == N
    assert cluster.asked["apply"] == 6 * N
    assert len({after.sent - before.sent for before, after in itertools.pairwise(run.rows)}) == 1
    assert run.rows[0].sent == run.rows[1].sent - run.rows[0].sent
    train(InProcess(SPEC.build()), Synchronised(), Plan(steps=3), folder=tmp_path)
    resumed = train(InProcess(SPEC.build()), Synchronised(), Plan(steps=6), folder=tmp_path)
    assert [row.sent for row in resumed.rows] == [row.sent for row in run.rows]
    assert resumed.digests == run.digests


class Odd(Counting):
    """A cluster whose first node answers with parameters of another form."""

    def ask(self, requests, *, timeout_s):
        answers = super().ask(requests, timeout_s=timeout_s)
        if 0 in answers and "parameters" in answers[0].arrays:
            answers[0] = Message(answers[0].kind, answers[0].fields, {"parameters": {"other": np.ones(1, np.float32)}})
        return answers


@pytest.mark.parametrize("protocol", [Gossip(ring(N)), Synchronised()], ids=["gossip", "synchronised"])
def test_the_node_that_answers_first_doesn_t_say_what_parameters_look_like(protocol):
    run = train(Odd(SPEC), protocol, Plan(steps=4), patience=Patience(on_loss="leave_out"))
    assert [(event.node, event.what) for event in run.events] == [(0, "lost")]
    assert "garbage" in run.events[0].why
    assert run.rows[-1].live == N - 1
