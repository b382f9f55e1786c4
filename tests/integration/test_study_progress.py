"""How far a run is: finished units, and the generations of those that are under way."""

from __future__ import annotations

import io
import json
import time

import pytest
from rich.console import Console

import studbook
from studbook.cli.rendering import Bar
from studbook.execution import create_executor
from studbook.study import plan, underway

LAST = 6


class Listener:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def begin(self, total, done):
        self.told.append(("begin", total, done))

    def advance(self):
        self.told.append("advance")

    def under_way(self, generations):
        self.told.append(tuple(generations))

    def out_of_date(self, units, generations):
        self.told.append(("out of date", units, generations))

    def end(self):
        self.told.append("end")


def study(**learner):
    config = {
        "study": {"name": "progress", "generations": LAST, "samples": 40, "replicates": 2, "seed": 1},
        "data": {"source": "digits"},
        "learner": learner or {"kind": "vae", "hidden": 8, "latents": 2, "training": {"epochs": 2, "batch": 20}},
        "mix": {"kind": "replace"},
        "metrics": {"names": ["mean"]},
    }
    return studbook.create_study(config)


@pytest.mark.parametrize("executor", ["local", "processes"])
def test_generations_under_way_are_told_whichever_process_makes_them(tmp_path, monkeypatch, executor):
    monkeypatch.setattr(underway, "LOOK_S", 0.01)
    listener, before = Listener(), time.process_time()
    study().run(tmp_path / "run", executor=create_executor(executor, 1 if executor == "local" else 2), progress=listener)
    assert listener.told[0] == ("begin", 2, 0)
    assert listener.told[-1] == "end"
    assert listener.told.count("advance") == 2
    seen = {pair for told in listener.told[1:-1] if told != "advance" for pair in told}
    assert {last for _, last in seen} == {LAST}
    assert len({made for made, _ in seen} - {0}) >= 3  # of six, whatever a look misses
    assert max(made for made, _ in seen) <= LAST
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_bytes())
    others = 0.5 if executor == "processes" else 0.0  # of the workers, which load PyTorch first
    assert manifest["cpu_seconds"] > 0.5 * (time.process_time() - before) + others


def test_a_learner_without_a_journal_has_no_generations_to_tell(tmp_path, monkeypatch):
    monkeypatch.setattr(underway, "LOOK_S", 0.01)
    listener = Listener()
    study(kind="kde").run(tmp_path / "run", progress=listener)
    assert {told for told in listener.told if isinstance(told, tuple) and told[:1] != ("begin",)} <= {()}


def test_the_bar_counts_finished_generations_as_parts_of_units():
    bar, written = Bar(), io.StringIO()
    bar._progress.live.console = Console(file=written, force_terminal=True, width=120)
    bar.begin(3, 1)
    bar.under_way([(2, 4), (0, 4)])
    task = bar._progress.tasks[0]
    assert (task.completed, task.description) == (1.4, "generation 2/4, 0/4")
    bar.advance()
    assert task.completed == 2.0
    bar.under_way([])
    bar.under_way([(1, 4)] * 6)
    assert task.description == "generation 1/4, 1/4, 1/4, 1/4, …"
    bar.end()
    assert "units" in written.getvalue()


def test_what_other_code_finished_is_told_once(tmp_path, monkeypatch):
    """A unit and its neighbour's journal, of a run that was stopped, then gone on with by other code, and by other code again."""
    out = tmp_path / "run"

    def told() -> list[object]:
        listener = Listener()
        study().run(out, progress=listener)
        return [told for told in listener.told if told[0] == "out of date"]

    assert told() == []
    _, second = study().plan.units
    (out / "units" / f"{second.key}.unit").unlink()
    for index in range(3):
        mark = out / "work" / second.key / f"generation-{index:05d}" / "finished.json"
        mark.parent.mkdir(parents=True)
        mark.touch()
    monkeypatch.setattr(plan, "code_digest", lambda: "other")
    assert told() == [("out of date", 1, 3)]
    assert told() == []
    monkeypatch.setattr(plan, "code_digest", lambda: "another")
    assert told() == [("out of date", 2, 0)]


def test_the_bar_says_what_is_out_of_date():
    bar, output = Bar(), io.StringIO()
    bar._progress.live.console = Console(file=output, width=160)
    bar.out_of_date(1200, 3)
    assert output.getvalue() == "1,200 finished units and 3 generations of others are made again: the code has changed since\n"
