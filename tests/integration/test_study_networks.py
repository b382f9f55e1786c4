"""Networks inside a study: whatever the workers, and wherever a run was stopped, the result is the same to the bit."""

from __future__ import annotations

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import studbook
from studbook.cli.main import app
from studbook.study.config import expand
from studbook.study.plan import prepare
from studbook.study.units import run_unit

GPT = {"kind": "gpt", "layers": 1, "width": 16, "heads": 2, "training": {"epochs": 1, "batch": 8, "rate": 5e-3}}
LAW = {
    "study": {"name": "nets", "generations": 20, "replicates": 1500, "samples": 20},
    "data": {"source": "zipf", "states": 100},
    "learner": {"kind": "categorical"},
    "mix": {"kind": "replace"},
    "metrics": {"names": ["heterozygosity", "support", "entropy"], "every": 10},
    "grid": {"learner.protocol": [{"kind": "none"}, {"kind": "independent", "nodes": 3}, {"kind": "pool", "nodes": 3}]},
}


def gpt(*protocols, **learner):
    return {
        "study": {"name": "nets", "generations": 2, "samples": 8},
        "data": {"source": "python-docs", "tokens": "words", "vocabulary": 100, "block": 16, "limit": 40},
        "learner": {**GPT, **learner},
        "mix": {"kind": "replace"},
        "metrics": {"names": ["types_share", "perplexity", "drift_parts"]},
        "grid": {"learner.protocol": list(protocols)},
    }


def test_theory_stands_beside_every_node_and_the_pool(tmp_path):
    """60 comparisons below 5 standard errors: a fair run fails with probability below 1e-4."""
    run = studbook.create_study(LAW).run(tmp_path / "run")
    theory = pl.read_parquet(tmp_path / "run" / "theory.parquet").filter(
        pl.col("exact") & pl.col("metric").str.starts_with("heterozygosity")
    )
    assert set(theory["metric"]) == {"heterozygosity", "heterozygosity.node"}
    found = (
        run.frame()
        .group_by("cell", "metric", "generation")
        .agg(pl.col("value").mean(), (pl.col("value").std() / pl.len().sqrt()).alias("se"))
    )
    both = theory.join(found, on=["cell", "metric", "generation"])
    z = ((both["value"] - both["mean"]) / both["se"]).abs()
    assert len(both) == 5 * 3
    assert z.max() < 5
    names = set(run.frame()["metric"])
    assert {"support.node", "entropy.between", "heterozygosity.between"} <= names
    assert "support.between" not in names


def test_theory_stands_beside_nodes_that_average(tmp_path):
    """12 comparisons below 5 standard errors: a fair run fails with probability below 1e-5."""
    protocols = [{"kind": "averaged", "nodes": 3}, {"kind": "averaged", "nodes": 5, "rounds": 1}]
    table = {**LAW, "grid": {"learner.protocol": protocols}}
    run = studbook.create_study(table).run(tmp_path / "run")
    theory = pl.read_parquet(tmp_path / "run" / "theory.parquet").filter(pl.col("exact"))
    assert all("averaging" in source for source in theory["source"])
    found = (
        run.frame()
        .group_by("cell", "metric", "generation")
        .agg(pl.col("value").mean(), (pl.col("value").std() / pl.len().sqrt()).alias("se"))
    )
    both = theory.join(found, on=["cell", "metric", "generation"])
    assert len(both) == 2 * 2 * 3
    assert ((both["value"] - both["mean"]) / both["se"]).abs().max() < 5
    one = run.frame().filter(pl.col("cell") == 0)
    apart = one.filter(pl.col("metric") == "heterozygosity.between")["value"].abs().max()
    assert apart < 1e-12  # all have one model


def test_workers_make_no_difference_in_law(tmp_path):
    one = studbook.create_study(LAW).run(tmp_path / "one").frame()
    two = studbook.create_study(LAW).run(tmp_path / "two", workers=2).frame()
    assert_frame_equal(one, two)


def test_a_report_shows_a_network(tmp_path):
    studbook.create_study(LAW).run(tmp_path / "run")
    with pytest.raises(SystemExit) as ended:
        app(["study", "report", str(tmp_path / "run")])
    assert not ended.value.code
    assert any("Heterozygosity, node" in page.read_text() for page in (tmp_path / "run").rglob("*.html"))


def test_moments_of_a_pool_of_normal_models():
    table = {
        **LAW,
        "study": {"name": "nets", "generations": 3, "replicates": 2, "samples": 30},
        "data": {"source": "normal"},
        "learner": {"kind": "gaussian", "protocol": {"kind": "ring", "nodes": 3, "migration": 0.2}},
        "metrics": {"names": ["variance", "drift"]},
    }
    del table["grid"]
    assert prepare(expand(table), table).jobs[0].method == "law"
    table["metrics"] = {"names": ["variance", "w2"]}  # a mixture of normal laws isn't normal
    plan = prepare(expand(table), table)
    assert plan.jobs[0].method == "samples"
    assert run_unit(plan.units[0])


NEURAL = [
    {"kind": "gossip", "nodes": 3},
    {"kind": "local", "nodes": 3, "every": 2},
    {"kind": "synchronised", "nodes": 3},
    {"kind": "federated", "nodes": 3, "clients": 2, "server": "adam", "server_rate": 0.01},
    {"kind": "apart", "nodes": 3},
    {"kind": "ring", "nodes": 3, "migration": 0.5},
]


def test_networks_of_transformers_resume_to_the_bit(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    from studbook.recursion import Journal

    study = studbook.create_study(gpt(*NEURAL))
    whole = study.run(tmp_path / "whole", workers=2).frame()
    spread = whole.filter((pl.col("metric") == "perplexity.node") & (pl.col("generation") == 2))["value"].to_list()
    assert len(set(spread)) == len(NEURAL)  # how nodes train makes a difference
    finish, calls = Journal.finish, []

    def stop(self, generation, notes):
        finish(self, generation, notes)
        calls.append(generation.index)
        if len(calls) % 4 == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "finish", stop)
    for _ in range(20):
        try:
            study.run(tmp_path / "run")
            break
        except studbook.errors.InterruptedRunError:
            continue
    assert len(calls) == 3 * len(NEURAL)
    assert_frame_equal(pl.read_parquet(tmp_path / "run" / "measurements.parquet"), whole)


QUICK = {"epochs": 1, "batch": 32, "start": "previous"}
FAMILIES = {
    "vae": ({"kind": "vae", "latents": 2, "network": "conv", "width": 4}, {"kind": "gossip", "nodes": 3}),
    "gan": ({"kind": "gan", "latents": 4, "width": 4, "conditional": True}, {"kind": "local", "nodes": 3, "every": 2}),
    "diffusion": ({"kind": "diffusion", "width": 16, "depth": 1, "sampling_steps": 4}, {"kind": "synchronised", "nodes": 3}),
    "causal_lm": ({"kind": "causal_lm", "model": "opt-tiny", "layers": 1, "width": 16, "heads": 2}, {"kind": "apart", "nodes": 3}),
}


def every_family():
    """One cell a family, each trained together by another protocol."""
    cases = [{"name": name, "learner": {**learner, "training": QUICK, "protocol": how}} for name, (learner, how) in FAMILIES.items()]
    cases[-1] |= {"data": gpt()["data"], "metrics": {"names": ["types_share"]}}
    return {
        "study": {"name": "nets", "generations": 1, "samples": 30},
        "data": {"source": "digits", "limit": 150},
        "learner": {},
        "mix": {"kind": "replace"},
        "metrics": {"names": ["vendi"]},
        "grid": {"case": cases},
    }


def test_every_family_trains_together_and_resumes_to_the_bit(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    study = studbook.create_study(every_family())
    whole = study.run(tmp_path / "whole", workers=2).frame()
    assert whole["value"].is_finite().all()
    assert set(whole["metric"]) == {"vendi", "vendi.node", "types_share", "types_share.node"}
    stop_within_units(monkeypatch, finished := [])
    for _ in range(len(FAMILIES) + 1):
        try:
            study.run(tmp_path / "run")
            break
        except studbook.errors.InterruptedRunError:
            continue
    assert len(finished) == 2 * len(FAMILIES)
    assert_frame_equal(pl.read_parquet(tmp_path / "run" / "measurements.parquet"), whole)


def stop_within_units(monkeypatch, finished):
    """Kill the run whenever a unit's first generation is in its journal."""
    from studbook.recursion import Journal

    finish = Journal.finish

    def stop(self, generation, notes):
        finish(self, generation, notes)
        finished.append(generation.index)
        if len(finished) % 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "finish", stop)


def test_nodes_go_on_from_the_mean_of_their_weights(tmp_path):
    pytest.importorskip("torch")
    training = {**GPT["training"], "start": "previous"}
    frame = studbook.create_study(gpt({"kind": "gossip", "nodes": 3}, training=training)).run(tmp_path / "run").frame()
    assert frame["value"].is_finite().all()
    fits = pl.read_parquet(tmp_path / "run" / "fits.parquet")
    assert len(fits) == 3 * 3  # every node of every generation


def test_synchronised_nodes_have_one_model(tmp_path):
    pytest.importorskip("torch")
    frame = studbook.create_study(gpt({"kind": "synchronised", "nodes": 3})).run(tmp_path / "run").frame()
    pool = frame.filter(pl.col("metric") == "perplexity")["value"].to_list()
    node = frame.filter(pl.col("metric") == "perplexity.node")["value"].to_list()
    assert pool == pytest.approx(node, rel=1e-5)
