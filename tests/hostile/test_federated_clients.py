"""Clients of federated training that answer garbage: left out, named, not asked again; and what a client refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from studbook.errors import RunFolderError
from studbook.protocols import (
    Choice,
    Federated,
    InProcess,
    Message,
    Node,
    Optimiser,
    Patience,
    Plan,
    Selection,
    Synchronised,
    train,
)
from studbook.protocols.objectives import open_objective
from studbook.protocols.partition import Partition
from studbook.protocols.saving import NAME

MLP = open_objective("mlp", {"hidden": 16, "limit": 200})
START = MLP.initial(rng=np.random.default_rng(0))
SLICED = Federated(clients=4, selection=Selection({"neurons": Choice(4, "random")}))
WHOLE = Federated(clients=4)
LIAR = 1


def clients() -> list[Node]:
    parts = Partition("label").split(MLP, 4, seed=0)
    return [Node(i, MLP, rows, 16, Optimiser(), 0) for i, rows in enumerate(parts)]


class Lying(InProcess):
    """One node answers questions of a kind with something else."""

    def __init__(self, kind: str, lie) -> None:
        super().__init__(clients())
        self._kind, self._lie, self.asked = kind, lie, 0

    def ask(self, requests, *, timeout_s):
        answers = dict(super().ask(requests, timeout_s=timeout_s))
        if LIAR in requests and requests[LIAR].kind == self._kind:
            self.asked += 1
            answers[LIAR] = self._lie(answers[LIAR])
        return answers


def fields(**changed):
    return lambda answer: replace(answer, fields={**answer.fields, **changed})


def arrays(change):
    return lambda answer: replace(answer, arrays={"update": change(dict(answer.arrays["update"]))})


def one(value: float):
    return arrays(lambda update: {**update, "outer_bias": np.full(10, value, np.float32)})


UPDATES = {
    "nan": one(np.nan), "inf": one(np.inf), "minus inf": one(-np.inf),
    "shape": arrays(lambda update: {**update, "inner": update["inner"][:-1]}),
    "transposed": arrays(lambda update: {**update, "inner": update["inner"].T}),
    "whole in place of a slice": arrays(lambda _: {name: np.ones((3, *value.shape), np.float32) for name, value in START.items()}),
    "oversized": arrays(lambda update: {**update, "inner": np.zeros((64, 200_000), np.float32)}),
    "names": arrays(lambda update: {f"{name}_": value for name, value in update.items()}), "no arrays": arrays(lambda _: {}),
    "more arrays": lambda answer: replace(answer, arrays={**answer.arrays, "more": {}}),
    "none": lambda answer: replace(answer, arrays={}), "another kind": lambda answer: replace(answer, kind="done"),
    "an error": lambda _: Message("error", {"code": "SB101", "message": "stop, all of you", "hint": None}),
    "an error without words": lambda _: Message("error", {"message": ["x"] * 1000}),
    "more rows": fields(n=1 << 30), "fewer rows": fields(n=1), "no rows": fields(n=0), "rows": fields(n="all"),
    "rows of 400 digits": fields(n=10**400),
    "true rows": fields(n=True), "loss": fields(loss="low"), "no loss": fields(loss=None), "true loss": fields(loss=True),
    "nan loss": fields(loss=float("nan")), "inf loss": fields(loss=float("inf")), "loss of 400 digits": fields(loss=10**400),
}  # fmt: skip
KEYS = {
    "out of range": fields(keys={"neurons": [0, 1, 2, 16]}), "negative": fields(keys={"neurons": [-1, 0, 1, 2]}),
    "too few": fields(keys={"neurons": [1, 2]}), "too many": fields(keys={"neurons": list(range(16))}),
    "twice": fields(keys={"neurons": [1, 1, 2, 3]}), "not sorted": fields(keys={"neurons": [3, 2, 1, 0]}),
    "another group": fields(keys={"words": [0, 1, 2, 3]}), "one group more": fields(keys={"neurons": [0, 1, 2, 3], "words": [0]}),
    "many groups": fields(keys={str(i): [0] for i in range(10_000)}), "no groups": fields(keys={}), "text": fields(keys="all"),
    "texts": fields(keys={"neurons": ["0", "1", "2", "3"]}), "huge": fields(keys={"neurons": [0, 1, 2, 1 << 50]}),
    "huge and in order": fields(keys={"neurons": [0, 1, 2, 1 << 39]}), "floats": fields(keys={"neurons": [0.0, 1.0, 2.0, 3.0]}),
    "true": fields(keys={"neurons": [False, True, 2, 3]}), "nested": fields(keys={"neurons": [[0], [1], [2], [3]]}),
    "none": lambda answer: replace(answer, fields={}),
    "an error": lambda _: Message("error", {"code": "SB101", "message": "no", "hint": None}),
}  # fmt: skip


def check(cluster: Lying, protocol: Federated) -> None:
    run = train(cluster, protocol, Plan(3))
    assert [(event.step, event.node, event.what) for event in run.events] == [(0, LIAR, "lost")]
    assert run.events[0].why.startswith("garbage: ")
    assert cluster.asked == 1
    assert [row.live for row in run.rows] == [3, 3, 3]
    assert all(np.isfinite(value).all() for value in run.server.values())


@pytest.mark.parametrize("lie", UPDATES.values(), ids=UPDATES.keys())
@pytest.mark.parametrize("protocol", [WHOLE, SLICED], ids=["whole", "sliced"])
def test_updates_that_cannot_be(protocol: Federated, lie) -> None:
    check(Lying("train", lie), protocol)


@pytest.mark.parametrize("lie", KEYS.values(), ids=KEYS.keys())
def test_keys_that_cannot_be(lie) -> None:
    check(Lying("choose", lie), SLICED)


def test_who_is_left_out_is_the_only_one_missing() -> None:
    """The others' result is what it is where the liar never was."""
    lied = train(Lying("train", one(np.nan)), WHOLE, Plan(1))
    honest = [node for node in clients() if node.index != LIAR]
    assert lied.digests == train(InProcess(honest), replace(WHOLE, clients=3), Plan(1)).digests


def test_a_liar_is_named_in_a_run_that_stops_and_not_asked_after_a_checkpoint(tmp_path) -> None:
    cluster = Lying("train", one(np.nan))
    train(cluster, WHOLE, Plan(2), folder=tmp_path)
    run = train(cluster, WHOLE, Plan(5), folder=tmp_path)
    assert cluster.asked == 1
    assert [row.live for row in run.rows] == [3] * 5
    assert [event.node for event in run.events] == [LIAR]
    assert run.digests == train(Lying("train", one(np.nan)), WHOLE, Plan(5)).digests


def test_a_server_in_a_checkpoint_that_makes_no_sense(tmp_path) -> None:
    import hashlib

    train(InProcess(clients()), WHOLE, Plan(2), folder=tmp_path)
    found = Message.decode((tmp_path / NAME).read_bytes()[:-32], "it")
    for changed in (
        replace(found, arrays={}),
        replace(found, fields={**found.fields, "nodes": [0]}),
        replace(found, arrays={name.replace("server", "servant"): part for name, part in found.arrays.items()}),
    ):
        forged = changed.encode()
        (tmp_path / NAME).write_bytes(forged + hashlib.sha256(forged).digest())
        with pytest.raises(RunFolderError, match="damaged"):
            train(InProcess(clients()), WHOLE, Plan(4), folder=tmp_path)


@pytest.mark.parametrize("n", [1, 15, 17, 1 << 30])
def test_a_gradient_of_other_rows_than_the_node_has_is_garbage(n: int) -> None:
    run = train(Lying("gradient", fields(n=n)), Synchronised(), Plan(2), patience=Patience(on_loss="leave_out"))
    assert [(event.node, event.what) for event in run.events] == [(LIAR, "lost")]
    assert run.events[0].why == f"garbage: it says that its gradient is of {n} rows, but it holds 16 for a step"


def test_a_client_refuses_what_makes_no_sense() -> None:
    cluster = InProcess(clients())
    part, how = {"slice": START}, {"round": 0, "keys": {}, "epochs": 1}
    assert cluster.ask({0: Message("train", how, part)}, timeout_s=1.0)[0].kind == "update"
    bad = [Message("train", how), *(Message("train", {**how, name: -1}, part) for name in how), Message("choose", {"round": 0})]
    bad += [Message("choose", {"round": 0, "groups": {"neurons": {"m": 99}}}), Message("train", {**how, "keys": {"neurons": [99]}}, {})]
    bad += [Message("train", {**how, "epochs": 1 << 40}, part)]
    for message in bad:
        assert cluster.ask({0: message}, timeout_s=1.0)[0].kind == "error", message
