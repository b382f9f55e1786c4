"""The pages of training: what they say and draw, and what they refuse to read."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import polars as pl
import pytest

from studbook.errors import ConfigError, RunFolderError, SchemaVersionError
from studbook.protocols import Gossip, Independent, InProcess, Local, Patience, Plan, Synchronised, TrainingSpec, ring, train
from studbook.protocols.cluster import Lost
from studbook.protocols.contest_digits import Plan as ContestPlan
from studbook.protocols.contest_digits import contest_rows
from studbook.protocols.federated import Federated
from studbook.protocols.select import Choice, Selection
from studbook.protocols.select_study import run_select_study, study_of
from studbook.protocols.writing import write_run
from studbook.report.figure import Figure
from studbook.report.one_page import picture
from studbook.report.training_attacks import attacks_figure, best_accuracy, harm, headlines, render_attacks
from studbook.report.training_figures import training_figures
from studbook.report.training_folders import TrainedRun, load_training
from studbook.report.training_page import comparison_sentence, render_training, summary_sentence, write_training_report
from studbook.report.training_select import PUBLISHED, headline, render_select, select_figures

SPEC = TrainingSpec("quadratic", {"dimension": 10}, nodes=6, batch=4)
STEPS = 40


class Losing(InProcess):
    """Nodes in this process, one of which is silent between two steps."""

    down, back = 12, 24

    def ask(self, requests, *, timeout_s):
        found = dict(super().ask(requests, timeout_s=timeout_s))
        if any(self.down <= message.fields.get("step", 0) < self.back for message in requests.values()) and 2 in found:
            found[2] = Lost("slow", "told so <b>")
        return found


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    protocols = {"alone": Independent(), "local": Local(10), "gossip": Gossip(ring(6)), "together": Synchronised()}
    made = {}
    for name, protocol in protocols.items():
        made[name] = tmp_path_factory.mktemp("runs") / name
        plan = Plan(STEPS, evaluate_every=10, settings={"spec": SPEC.plain()})
        write_run(train(InProcess(SPEC.build()), protocol, plan), made[name])
    return made


@pytest.fixture(scope="module")
def runs(folders) -> list[TrainedRun]:
    return load_training(list(folders.values()))


def figure_of(figures: list[Figure], name: str) -> Figure:
    return next(figure for figure in figures if figure.name == name)


def words(page: str) -> str:
    """The text of a page without its scripts, pictures and style."""
    body = re.sub(r"<(script|style|noscript).*?</\1>", " ", page, flags=re.DOTALL)
    body = re.sub(r"</?(b|i|span|code|small)\b[^>]*>", "", body)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).replace("\u00a0", " ").split())


def test_labels_tell_runs_apart(folders, runs):
    assert [run.label for run in runs] == ["independent", "local, every 10", "gossip, ring, pairs", "synchronised"]
    twice = load_training([folders["gossip"], folders["gossip"], folders["alone"]])
    assert [run.label for run in twice] == ["gossip, ring, pairs (gossip) #1", "gossip, ring, pairs (gossip) #2", "independent"]


def test_the_page_holds_what_the_run_left(folders, runs):
    gossip = runs[2]
    page = write_training_report([folders["gossip"]])
    text = words(page.read_text())
    assert page == folders["gossip"] / "report.html"
    assert "second largest eigenvalue" in text
    rho = gossip.summary["contraction_predicted"]
    assert f"σ₂ = {math.sqrt(rho):.3f}".rstrip("0") in text
    assert all(digest in text for digest in gossip.summary["digests"].values())
    for setting in ("protocol graph ring", "batch 4", "optimiser kind sgd", f"steps {STEPS}"):
        assert setting in text
    assert "6 nodes" in text


def test_the_spread_is_drawn_beside_theory(runs):
    figure = figure_of(training_figures(runs), "spread")
    drawn = {run.label: [row for row in figure.rows if row["label"] == run.label] for run in runs}
    gossip = drawn["gossip, ring, pairs"]
    assert [row["step"] for row in gossip] == list(range(1, STEPS + 1))
    for row, spread, before, theory in zip(
        gossip, *(runs[2].curve[name] for name in ("spread", "spread_before", "spread_predicted")), strict=True
    ):
        assert (row["median"], row["high"], row["theory"]) == pytest.approx((spread, before, theory), rel=1e-5)
    # Just averaged nodes are the same: nothing is drawn there; nodes that always are have a line on the lower edge.
    assert [row["step"] for row in drawn["local, every 10"] if "median" not in row] == [10, 20, 30, 40]
    assert len({row["median"] for row in drawn["synchronised"]}) == 1
    assert any("lower edge" in note for note in figure.notes)
    assert any("gap" in note for note in figure.notes)


def test_losses_are_each_nodes_and_the_mean(runs):
    figure = figure_of(training_figures(runs[:1]), "loss")
    nodes = {row["node"] for row in figure.rows if "node" in row}
    assert nodes == {f"node {i}" for i in range(6)}
    means = [row["median"] for row in figure.rows if "median" in row]
    assert means == pytest.approx(runs[0].curve["loss"].to_list(), rel=1e-5)


def test_long_runs_stay_small(tmp_path):
    spec = replace(SPEC, nodes=3, settings={"dimension": 2})
    write_run(train(InProcess(spec.build()), Gossip(ring(3)), Plan(1300)), tmp_path)
    (run,) = load_training([tmp_path])
    spread = figure_of(training_figures([run]), "spread")
    assert len(spread.rows) == 650
    assert spread.rows[-1]["step"] == 1300
    pair = run.curve["spread"][:2]
    assert (spread.rows[0]["median"], spread.rows[0]["low"]) == pytest.approx((pair.median(), pair.min()), rel=1e-5)


def test_many_nodes_are_a_band(tmp_path):
    spec = replace(SPEC, nodes=17, settings={"dimension": 2, "rows": 100})
    write_run(train(InProcess(spec.build()), Independent(), Plan(3)), tmp_path)
    (run,) = load_training([tmp_path])
    loss = figure_of(training_figures([run]), "loss")
    assert not any("node" in row for row in loss.rows)
    losses = [run.curve[f"loss_{i}"][2] for i in range(17)]
    assert (loss.rows[2]["low"], loss.rows[2]["high"]) == pytest.approx((min(losses), max(losses)), rel=1e-5)


def test_nodes_that_never_differ_have_no_picture_of_their_spread(folders, runs):
    names = [figure.name for figure in training_figures(runs[3:])]
    assert "spread" not in names
    assert "same to the bit" in summary_sentence(runs[3])
    assert "all nodes" in words(render_training(runs[3:]))


def test_what_happened_to_nodes_is_marked_and_told(tmp_path):
    run = train(Losing(SPEC.build()), Gossip(ring(6)), Plan(STEPS), patience=Patience(on_loss="leave_out"))
    write_run(run, tmp_path)
    (loaded,) = load_training([tmp_path])
    figures = training_figures([loaded])
    marks = {row["step"]: row["told"] for row in figure_of(figures, "spread").rows if "what" in row}
    assert marks[11] == "node 2 lost, slow: told so <b>"
    assert any("node 2 rejoined" in told for told in marks.values())
    page = render_training([loaded])
    assert "told so <b>" in words(page)
    assert "told so <b>" not in page
    assert "no node to be lost" in words(page)


def test_several_runs_need_a_file_and_are_compared(folders, tmp_path, runs):
    with pytest.raises(ConfigError, match="4 training runs needs a file"):
        write_training_report(list(folders.values()))
    with pytest.raises(ConfigError, match="0 folders"):
        write_training_report([])
    page = write_training_report(list(folders.values()), tmp_path / "deep" / "all.html")
    told = comparison_sentence(runs)
    assert told in words(page.read_text())
    assert told.startswith("Furthest apart")
    assert "× closer: “gossip, ring, pairs”" in told
    assert "the same to the bit: “local, every 10” and “synchronised”" in told


def test_many_runs_get_panels_of_their_own(folders):
    many = load_training([folders["gossip"], folders["alone"]] * 4)
    figures = training_figures(many)
    assert "facet" in figure_of(figures, "spread").chart.to_dict()
    assert figure_of(figures, "spread").legend == ()
    assert all(picture(figure).startswith("<svg") for figure in figures)


@pytest.fixture
def broken(folders, tmp_path) -> Path:
    for file in ("summary.json", "curve.parquet"):
        (tmp_path / file).write_bytes((folders["gossip"] / file).read_bytes())
    return tmp_path


@pytest.mark.parametrize(
    "change",
    [
        {"settings": None}, {"settings": {"protocol": {"protocol": "gossip"}, "nodes": "8"}}, {"settings": {"protocol": "x", "nodes": 8}},
        {"steps": 41}, {"steps": True}, {"spread": "wide"}, {"contraction": [1]}, {"measures": {"0": {"loss": "low"}}},
        {"measures": {"../0": {"loss": 1.0}}}, {"measures": [1]}, {"events": [{"step": 1}]}, {"events": [{"step": "1", "node": 0}]},
        {"digests": {"0": 7}}, {"commitments": [{"node": 1}]}, {"schema": None, "events": 5},
    ],
)  # fmt: skip
def test_summaries_that_make_no_sense_are_refused(broken, change):
    summary = json.loads((broken / "summary.json").read_text())
    (broken / "summary.json").write_text(json.dumps({**summary, **change}))
    with pytest.raises(RunFolderError):
        load_training([broken])


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"schema": 1}', "[" * 100_000])
def test_summaries_that_are_none_are_refused(broken, text):
    (broken / "summary.json").write_text(text)
    with pytest.raises(RunFolderError):
        load_training([broken])


def test_damaged_curves_and_newer_schemas_are_refused(broken, tmp_path_factory):
    table = pl.read_parquet(broken / "curve.parquet")
    for changed in (table.drop("spread"), table.head(-1), table.with_columns(spread=pl.lit("x")), table.reverse()):
        changed.write_parquet(broken / "curve.parquet")
        with pytest.raises(RunFolderError):
            load_training([broken])
    (broken / "curve.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(RunFolderError, match=r"curve\.parquet"):
        load_training([broken])
    (broken / "curve.parquet").unlink()
    with pytest.raises(RunFolderError, match=r"curve\.parquet"):
        load_training([broken])
    summary = json.loads((broken / "summary.json").read_text())
    (broken / "summary.json").write_text(json.dumps({**summary, "schema": 99}))
    with pytest.raises(SchemaVersionError, match="schema 99"):
        load_training([broken])
    with pytest.raises(RunFolderError, match="no finished training run"):
        load_training([tmp_path_factory.mktemp("empty")])


EXPERIMENT = {
    "name": "neurons", "objective": "mlp", "group": "neurons", "m": [2, 4, 8], "how": ["random"], "clients": 10,
    "plan": {"rounds": 2, "clients": 3, "rate": 0.1}, "settings": {"hidden": 8},
}  # fmt: skip


@pytest.fixture(scope="module")
def selected():
    study = study_of({"study": {"name": "small", "seeds": 2}, "experiment": [EXPERIMENT]})
    return study, run_select_study(study)


def test_a_select_study_is_drawn_and_told(selected):
    study, rows = selected
    accuracy, change = select_figures(study, rows)
    whole = next(row for row in rows if row.how == "all")
    assert {(row["m"], row["value"]) for row in accuracy.rows if row["group"] == "whole model"} == {(m, whole.accuracy) for m in (2, 4, 8)}
    sizes = {row["m"]: row for row in accuracy.rows if row["group"] == "random keys"}
    two = next(row for row in rows if row.m == 2)
    assert (sizes[2]["value"], sizes[2]["high"] - sizes[2]["value"]) == pytest.approx((two.accuracy, two.half))
    assert [row["m"] for row in change.rows] == [2, 4]
    assert not any("published" in row["group"] for row in accuracy.rows)
    text = words(render_select(study, rows, [("Code", "here")]))
    assert "all 8" in text
    assert f"{two.accuracy:.3f} ± {two.half:.3f}" in text


def test_the_published_points_are_marked_as_another_data_set(selected):
    """Only the convolutional network's filters of 64 are what was published; its rows here are other sizes of the small study."""
    study, rows = selected
    experiment = replace(study.experiments[0], objective="cnn", group="filters", m=(4, 32, 64))
    sizes = {2: 4, 4: 32, 8: 64}
    filters = tuple(replace(row, m=sizes[row.m], n=64) for row in rows)
    accuracy = select_figures(replace(study, experiments=(experiment,)), filters)[0]
    marks = {row["m"]: row["value"] for row in accuracy.rows if "published" in row["group"]}
    assert marks == {m: PUBLISHED[m] for m in (4, 32, 64)}
    assert any("another data set" in name for name, _ in accuracy.legend)
    assert picture(accuracy).count("another data set") >= 1


def test_headlines_of_select_say_from_which_size_on(selected):
    study, rows = selected
    row = rows[0]
    of = [
        replace(row, how="all", m=8, change=float("nan")),
        *[replace(row, how="frequent", m=m, change=change, change_half=0.001) for m, change in ((2, -0.2), (4, -0.004))],
        replace(row, how="random", m=4, change=-0.1),
    ]
    told = headline(study.experiments[0], of).replace("\u00a0", " ")
    assert "most frequent keys from 4 of 8 on (50 %; 0.004 ± 0.001 below)" in told
    assert "random keys at none of the sizes" in told
    assert "without whole models" in headline(study.experiments[0], of[:1])


@pytest.fixture(scope="module")
def contested():
    plan = ContestPlan(("none", "backdoor", "sign flip"), ("mean", "coordinate median", "replay"), seeds=2, steps=25)
    return plan, contest_rows(plan)


def test_attacks_are_told_drawn_and_shaded(contested):
    plan, rows = contested
    best = best_accuracy(rows)
    page = render_attacks(plan, rows, [("Code", "here")])
    text = words(page)
    for row in rows:
        assert f"{row['accuracy']:.3f} ±" in text
    assert "caught 6 of 6" in text
    shades = [int(found) for found in re.findall(r"var\(--warn\) (\d+)%", page)]
    assert shades == [round(45 * min(1.0, max(0.0, harm(row, best)))) for row in rows]
    assert max(shades) >= 20
    figure = attacks_figure(plan, rows)
    assert len(figure.rows) == len(rows) + 3
    assert {row["group"] for row in figure.rows if row["label"] == "backdoor"} == {"accuracy", "pictures taken in by the mark"}
    assert picture(figure).startswith("<svg")


def test_headlines_of_attacks_name_what_holds(contested):
    told = headlines(contested[1])
    assert [each.split(":")[0] for each in told] == ["Backdoor", "Sign flip"]
    assert "gets past mean" in told[1]
    assert "replay" in told[1].split("not past")[1]
    calm = {"attack": "copy", "defence": "mean", "accuracy": 0.9, "marked": 1.0}
    assert headlines([calm, {**calm, "attack": "stale"}]) == ["No harm to the model under any defence: copy and stale."]
    assert headlines([{**calm, "attack": "none"}, {**calm, "accuracy": 0.1}]) == ["Copy: gets past mean; nothing holds."]


def test_a_servers_run_and_commitments_are_told(tmp_path):
    spec = replace(SPEC, objective="digits-mlp", settings={"hidden": 8}, nodes=5)
    protocol = Federated(clients=3, selection=Selection({"neurons": Choice(4, "random")}))
    write_run(train(InProcess(spec.build()), protocol, Plan(3)), tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    signed = {"node": 1, "key": "ed25519:k", "commitment": f"sha256:{'0' * 64}", "steps": 2, "why": "lost <b>"}
    (tmp_path / "summary.json").write_text(json.dumps({**summary, "commitments": [signed]}))
    (run,) = load_training([tmp_path])
    assert run.label == "federated, 3 clients, 4 random neurons"
    text = words(render_training([run]))
    assert "One server holds the model" in text
    assert "lost <b>" in text
    assert f"sha256:{'0' * 64}" in text
    assert comparison_sentence([run, run]) == "In none of the runs do the nodes end apart."
