"""Protocols on nodes in this process: what they compute, what they refuse, and that a run that was stopped ends the same."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from studbook.errors import ConfigError, RecordError, RunFolderError, SchemaVersionError, WorkerLostError
from studbook.protocols import (
    Gossip,
    Independent,
    InProcess,
    Local,
    Lost,
    Message,
    Node,
    Optimiser,
    Patience,
    Plan,
    Quadratic,
    Synchronised,
    TrainingSpec,
    complete,
    ring,
    spread_of,
    star,
    train,
)
from studbook.protocols.run import expected_spread
from studbook.protocols.saving import NAME
from studbook.protocols.values import encode, encoded_size, mean
from studbook.protocols.writing import write_run

N = 4
SPEC = TrainingSpec("quadratic", {"dimension": 6, "rows": 200}, nodes=N, batch=5, optimiser=Optimiser("adam", rate=0.05))
ALL = [Independent(), Synchronised(), Local(3), Gossip(ring(N)), Gossip(complete(N)), Gossip(star(N), "neighbours", every=2)]


def names(protocol) -> str:
    return "-".join(str(value) for key, value in protocol.describe().items() if key != "edges")


@pytest.mark.parametrize("protocol", ALL, ids=names)
def test_a_run_is_the_same_twice_and_another_seed_is_another_run(protocol):
    runs = [train(InProcess(SPEC.build()), protocol, Plan(steps=10)) for _ in range(2)]
    assert runs[0].digests == runs[1].digests
    assert list(runs[0].rows) == list(runs[1].rows)
    other = TrainingSpec("quadratic", SPEC.settings, nodes=N, batch=5, optimiser=SPEC.optimiser, seed=1)
    assert train(InProcess(other.build()), protocol, Plan(steps=10, seed=1)).digests != runs[0].digests


def test_synchronised_is_one_node_with_the_whole_batch():
    run = train(InProcess(SPEC.build()), Synchronised(), Plan(steps=7))
    nodes = SPEC.build()
    state = nodes[0].begin()
    for _ in range(7):
        found = [node.gradient_at(state) for node in nodes]
        state = nodes[0].apply(state, mean([each.parameters for each in found], [each.n for each in found]))
    assert len(set(run.digests.values())) == 1
    assert np.array_equal(run.parameters[0]["w"], state.parameters["w"])
    assert [row.spread for row in run.rows] == [0.0] * 7


def test_independent_nodes_are_what_each_is_alone():
    run = train(InProcess(SPEC.build()), Independent(), Plan(steps=7))
    node = SPEC.build()[2]
    state = node.begin()
    for _ in range(7):
        state = node.apply(state, node.gradient_at(state).parameters)
    assert np.array_equal(run.parameters[2]["w"], state.parameters["w"])
    assert run.rows[-1].sent == 0
    assert run.rows[-1].spread == pytest.approx(spread_of(run.parameters.values()))


def test_local_averages_every_k_steps_only():
    run = train(InProcess(SPEC.build()), Local(3), Plan(steps=7))
    assert [row.spread == 0.0 for row in run.rows] == [False, False, True, False, False, True, False]
    assert run.rows[2].before > 0.0


def test_gossip_keeps_the_mean_and_shrinks_the_spread():
    run = train(InProcess(SPEC.build()), Gossip(complete(N)), Plan(steps=30))
    assert all(row.spread <= row.before * (1 + 1e-6) for row in run.rows)
    assert run.shrinkage < 0.7
    two = train(InProcess(TrainingSpec("quadratic", nodes=2).build()), Gossip(complete(2)), Plan(steps=3))
    assert [row.spread for row in two.rows] == [0.0] * 3


def test_bytes_are_those_of_the_messages_arrays():
    size = len(encode(SPEC.build()[0].begin().parameters))
    assert encoded_size(SPEC.build()[0].begin().parameters) == size
    for protocol, each_step in ((Synchronised(), 2 * N * size), (Gossip(complete(N)), 2 * N * size), (Independent(), 0)):
        assert train(InProcess(SPEC.build()), protocol, Plan(steps=5)).rows[-1].sent == 5 * each_step
    assert train(InProcess(SPEC.build()), Local(5), Plan(steps=9)).rows[-1].sent == 2 * N * size


@pytest.mark.parametrize(
    ("protocol", "kind", "fields"),
    [
        (Synchronised(), "gradient", {"n": "all"}), (Synchronised(), "gradient", {"n": 0}), (Synchronised(), "gradient", {"n": 1 << 50}),
        (Synchronised(), "gradient", {"loss": None}), (Local(2), "advance", {"losses": []}), (Local(2), "advance", {"losses": ["x"]}),
        (Local(2), "evaluate", {"measures": {"loss": "low"}}), (Local(2), "evaluate", {"measures": [1.0]}),
    ],
)  # fmt: skip
def test_answers_with_fields_that_cannot_be_are_garbage(protocol, kind, fields):
    class Odd(InProcess):
        def ask(self, requests, *, timeout_s):
            answers = dict(super().ask(requests, timeout_s=timeout_s))
            if 1 in answers and requests[1].kind == kind:
                answers[1] = replace(answers[1], fields={**answers[1].fields, **fields})
            return answers

    run = train(Odd(SPEC.build()), protocol, Plan(steps=2, evaluate_every=1), patience=Patience(on_loss="leave_out"))
    assert {event.node for event in run.events} == {1}
    assert run.events[0].why.startswith("garbage")
    assert len(run.rows) == 2


@pytest.mark.parametrize("protocol", [Local(10**6), Gossip(ring(N), every=10**6)], ids=names)
def test_theory_looks_at_each_matrix_once(protocol, monkeypatch):
    seen, found = [], np.linalg.eigvalsh
    monkeypatch.setattr(np.linalg, "eigvalsh", lambda matrix: [seen.append(0), found(matrix)][1])
    run = train(InProcess(SPEC.build()), protocol, Plan(steps=3))
    assert len(seen) == 2
    assert run.rho < 1.0


def test_theory_is_left_out_where_it_would_outlast_the_training():
    rho, predicted = expected_spread([np.eye(200)], 10_000, 1.0)
    assert rho == 1.0
    assert np.isnan(predicted).all()
    assert sum(weights.size for weights in Gossip(ring(400)).mixing(400)) <= 1 << 24
    run = replace(train(InProcess(SPEC.build()), Local(2), Plan(steps=2)), rho=np.nan, predicted=[np.nan, np.nan])
    assert (run.summary()["spread_predicted"], run.summary()["contraction_predicted"]) == (None, None)
    assert [row["spread_predicted"] for row in run.curve()] == [None, None]


def test_evaluations_at_their_steps():
    run = train(InProcess(SPEC.build()), Local(2), Plan(steps=10, evaluate_every=4))
    assert sorted({each.step for each in run.evaluations}) == [4, 8, 10]
    assert sorted(str(each.node) for each in run.evaluations if each.step == 8) == ["0", "1", "2", "3", "None"]


@pytest.mark.parametrize("protocol", ALL, ids=names)
def test_a_stopped_run_goes_on_to_the_same_result(protocol, tmp_path):
    whole = train(InProcess(SPEC.build()), protocol, Plan(steps=12, evaluate_every=5))
    plan = Plan(steps=12, evaluate_every=5, checkpoint_every=4)

    def stop(row):
        if row.step == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(InProcess(SPEC.build()), protocol, plan, folder=tmp_path, progress=stop)
    seen = []
    run = train(InProcess(SPEC.build()), protocol, plan, folder=tmp_path, progress=lambda row: seen.append(row.step))
    assert seen == [9, 10, 11, 12]
    assert run.digests == whole.digests
    assert list(run.rows) == list(whole.rows)
    assert list(run.evaluations) == list(whole.evaluations)
    assert run.settings == whole.settings
    again = train(InProcess(SPEC.build()), protocol, plan, folder=tmp_path)
    assert again.digests == whole.digests


def test_checkpoints_that_cannot_be_taken_up(tmp_path):
    plan = Plan(steps=4)
    train(InProcess(SPEC.build()), Local(2), plan, folder=tmp_path)
    with pytest.raises(RunFolderError, match="another run"):
        train(InProcess(SPEC.build()), Local(3), plan, folder=tmp_path)
    with pytest.raises(RunFolderError, match="holds a run of 4 steps, asked for 3"):
        train(InProcess(SPEC.build()), Local(2), Plan(steps=3), folder=tmp_path)
    data = (tmp_path / NAME).read_bytes()
    for damaged in (data[:-3], data + b"x", b"", b"\xff" * 100, data[:100] + b"!" + data[101:]):
        (tmp_path / NAME).write_bytes(damaged)
        with pytest.raises(RunFolderError, match="damaged"):
            train(InProcess(SPEC.build()), Local(2), plan, folder=tmp_path)
    found = Message.decode(data[:-32], "it")
    newer = Message(found.kind, {**found.fields, "schema": 99}, found.arrays).encode()
    (tmp_path / NAME).write_bytes(newer + hashlib.sha256(newer).digest())
    with pytest.raises(SchemaVersionError):
        train(InProcess(SPEC.build()), Local(2), plan, folder=tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"step": float("inf")}, {"step": float("nan")}, {"step": "x"}, {"nodes": ["a"]}, {"nodes": [float("inf")]}, {"nodes": []},
        {"run": []}, {"run": {}}, {"settings": 3}, {"nodes": [7]}, {"step": -1}, {"step": 1},
    ],
)  # fmt: skip
def test_checkpoints_that_are_sealed_and_make_no_sense(tmp_path, change):
    train(InProcess(SPEC.build()), Local(2), Plan(steps=4), folder=tmp_path)
    found = Message.decode((tmp_path / NAME).read_bytes()[:-32], "it")
    forged = Message(found.kind, {**found.fields, **change}, found.arrays).encode()
    (tmp_path / NAME).write_bytes(forged + hashlib.sha256(forged).digest())
    with pytest.raises(RunFolderError):
        train(InProcess(SPEC.build()), Local(2), Plan(steps=6), folder=tmp_path)


@pytest.mark.parametrize("protocol", [Synchronised(), Local(2), Gossip(ring(2))], ids=names)
def test_one_node_alone_is_refused(protocol):
    with pytest.raises(ConfigError, match=r"1 node, expected 2|the graph has"):
        train(InProcess(TrainingSpec("quadratic", nodes=1).build()), protocol, Plan(steps=1))


def test_a_graph_of_another_size_is_refused():
    with pytest.raises(ConfigError, match="graph has 5 nodes, the run 4"):
        train(InProcess(SPEC.build()), Gossip(ring(5)), Plan(steps=1))


@pytest.mark.parametrize("every", [0, -1, 2_000_000, 1.5, True])
def test_impossible_k(every):
    with pytest.raises(ConfigError, match="every is"):
        Local(every)


@pytest.mark.parametrize(
    "change",
    [{"nodes": 0}, {"nodes": 2000}, {"nodes": 201}, {"batch": 0}, {"seed": -1}, {"split": "x"}, {"objective": "x"}, {"settings": {"x": 1}}],
)
def test_impossible_specs(change):
    with pytest.raises(ConfigError):
        TrainingSpec.of({"objective": "quadratic", "settings": {"rows": 200}, **change}).build()


def test_more_nodes_than_rows():
    with pytest.raises(ConfigError, match="11 nodes share 10 rows"):
        TrainingSpec("quadratic", {"rows": 10}, nodes=11).build()


def test_a_spec_comes_back_from_json():
    assert TrainingSpec.of(json.loads(json.dumps(SPEC.plain()))) == SPEC
    for wrong in ({"objective": "os.system"}, {"objective": "quadratic", "code": "x"}, {"objective": "quadratic", "settings": []}, {}):
        with pytest.raises(ConfigError):
            TrainingSpec.of(wrong).build()


def test_nodes_that_begin_apart_are_refused():
    nodes = [Node(i, Quadratic(dimension=3), np.arange(50), 5, Optimiser(), seed=i) for i in range(2)]
    with pytest.raises(RecordError, match="node 1 begins with other parameters than node 0"):
        train(InProcess(nodes), Local(2), Plan(steps=1))


def test_nodes_with_parameters_of_other_shapes_are_left_out():
    nodes = [Node(i, Quadratic(dimension=3 + (i == 1)), np.arange(50), 5, Optimiser(), 0) for i in range(3)]
    run = train(InProcess(nodes), Local(2), Plan(steps=1), patience=Patience(on_loss="leave_out"))
    assert [(event.node, event.what) for event in run.events] == [(1, "lost")]
    assert "differ in 'w'" in run.events[0].why
    with pytest.raises(WorkerLostError, match="differ in 'w'"):
        train(InProcess(nodes), Local(2), Plan(steps=1), patience=Patience(on_loss="stop"))


@pytest.mark.parametrize("change", [{"steps": 0}, {"seed": -1}, {"evaluate_every": -1}, {"checkpoint_every": -1}, {"spread_every": 0}])
def test_impossible_plans(change):
    with pytest.raises(ConfigError):
        Plan(**{"steps": 1, **change})


@pytest.mark.parametrize("change", [{"timeout_s": 0.0}, {"on_loss": "x"}, {"replacements": -1}])
def test_impossible_patience(change):
    with pytest.raises(ConfigError):
        Patience(**change)


class Flaky:
    """A cluster whose nodes are lost as told: at the n-th question of a kind (or of another), until they are revived."""

    def __init__(self, spec: TrainingSpec, node: int, kind: str, nth: int, *, back_after: int | None = None, also=()) -> None:
        self.inner = InProcess(spec.build())
        self.node, self.when, self.back_after = node, {(kind, nth), *also}, back_after
        self.seen, self.down, self.asked = Counter(), False, 0

    @property
    def n(self) -> int:
        return self.inner.n

    @property
    def nodes(self):
        return self.inner.nodes

    def ask(self, requests, *, timeout_s):
        found = {}
        for i, message in requests.items():
            if i == self.node:
                self.seen[message.kind] += 1
                self.down |= (message.kind, self.seen[message.kind]) in self.when
            found[i] = Lost("slow", "told so") if i == self.node and self.down else self.inner.ask({i: message}, timeout_s=timeout_s)[i]
        return found

    def revive(self, index, *, fresh):
        self.asked += 1
        if fresh or (self.back_after is not None and self.asked > self.back_after):
            self.down = False
            return self.inner.revive(index, fresh=fresh)
        return False

    def close(self) -> None:
        pass


@pytest.mark.parametrize(("kind", "nth"), [("gradient", 1), ("apply", 4), ("apply", 8)])
@pytest.mark.parametrize("optimiser", [Optimiser("sgd", momentum=0.9), Optimiser("adam")])
def test_synchronised_with_a_replaced_node_ends_as_if_nothing_had_been(kind, nth, optimiser):
    spec = TrainingSpec("quadratic", SPEC.settings, nodes=N, batch=5, optimiser=optimiser)
    whole = train(InProcess(spec.build()), Synchronised(), Plan(steps=8))
    run = train(Flaky(spec, 2, kind, nth), Synchronised(), Plan(steps=8), patience=Patience(on_loss="replace"))
    assert run.digests == whole.digests
    assert [row.losses for row in run.rows] == [row.losses for row in whole.rows]
    assert [event.what for event in run.events] == ["lost", "replaced"]


def test_independent_with_a_replaced_node_ends_as_if_nothing_had_been():
    whole = train(InProcess(SPEC.build()), Independent(), Plan(steps=8))
    for kind in ("advance", "pull"):
        run = train(Flaky(SPEC, 1, kind, 5), Independent(), Plan(steps=8), patience=Patience(on_loss="replace"))
        assert run.digests == whole.digests
        assert list(run.rows) == list(whole.rows)


@pytest.mark.parametrize("kind", ["advance", "adopt"])
@pytest.mark.parametrize("protocol", [Local(2), Gossip(ring(N)), Gossip(ring(N), "neighbours")], ids=names)
@pytest.mark.parametrize("on_loss", ["leave_out", "replace"])
def test_the_others_go_on(protocol, kind, on_loss):
    run = train(Flaky(SPEC, 3, kind, 3), protocol, Plan(steps=9), patience=Patience(on_loss=on_loss))
    assert len(run.rows) == 9
    assert run.rows[-1].live == (3 if on_loss == "leave_out" else 4)
    assert sorted(run.parameters) == ([0, 1, 2] if on_loss == "leave_out" else [0, 1, 2, 3])
    assert run.events[0].what == "lost"


@pytest.mark.parametrize("protocol", [Independent(), Synchronised(), Local(2), Gossip(ring(N))], ids=names)
def test_a_node_that_answers_again_rejoins(protocol):
    kind = "apply" if isinstance(protocol, Synchronised) else "advance"
    run = train(Flaky(SPEC, 3, kind, 4, back_after=3), protocol, Plan(steps=12), patience=Patience(on_loss="leave_out"))
    assert [event.what for event in run.events if event.node == 3] == ["lost", "rejoined"]
    assert min(row.live for row in run.rows) == 3
    assert run.rows[-1].live == 4
    if isinstance(protocol, Independent):
        assert run.digests == train(InProcess(SPEC.build()), protocol, Plan(steps=12)).digests


def test_a_loss_stops_synchronised_training_by_default():
    with pytest.raises(WorkerLostError, match="node 2 was lost at step 3, slow: told so"):
        train(Flaky(SPEC, 2, "apply", 4), Synchronised(), Plan(steps=8))


def test_no_more_replacements_than_allowed():
    with pytest.raises(WorkerLostError, match="no more may be"):
        train(Flaky(SPEC, 2, "apply", 4), Synchronised(), Plan(steps=8), patience=Patience(on_loss="replace", replacements=0))


def test_a_replaced_node_is_asked_alone_for_the_gradient_that_the_others_gave_and_may_be_lost_again():
    whole = train(InProcess(SPEC.build()), Synchronised(), Plan(steps=8))
    cluster = Flaky(SPEC, 2, "apply", 4, also=[("gradient", 2)])
    run = train(cluster, Synchronised(), Plan(steps=8), patience=Patience(on_loss="replace"))
    assert run.digests == whole.digests
    assert [(event.step, event.what) for event in run.events] == [(3, "lost"), (3, "replaced"), (4, "lost"), (4, "replaced")]


def test_nodes_cut_off_are_reported():
    run = train(Flaky(SPEC, 0, "advance", 3), Gossip(star(N)), Plan(steps=6))
    assert [(event.what, event.node) for event in run.events] == [("lost", 0), ("cut off", 2), ("cut off", 3)]


def test_results_as_files(tmp_path):
    import polars as pl

    run = train(InProcess(SPEC.build()), Local(2), Plan(steps=6, evaluate_every=3))
    write_run(run, tmp_path)
    curve = json.loads((tmp_path / "curve.json").read_text())
    table = pl.read_parquet(tmp_path / "curve.parquet")
    assert table["spread"].to_list() == [row["spread"] for row in curve] == [row.spread for row in run.rows]
    assert table["mean_loss"].to_list()[:2] == [None, None]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["digests"] == {str(i): each for i, each in run.digests.items()}
    assert np.array_equal(Message.decode((tmp_path / "parameters.bin").read_bytes(), "it").arrays["1"]["w"], run.parameters[1]["w"])
