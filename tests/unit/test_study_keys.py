"""A unit's name says everything that its result depends on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import studbook
from studbook.arrays import Batch, numbers
from studbook.errors import CheckpointError, ConfigError
from studbook.study.plan import digest_of
from studbook.study.provenance import new_manifest


@dataclass(frozen=True, eq=False)
class Shifted:
    """A learner with an array among its parameters."""

    shift: np.ndarray

    def fit(self, data: Batch, *, rng: np.random.Generator) -> Shifted:
        return self

    @property
    def space(self):
        return numbers(np.zeros(1)).space

    def sample(self, n: int, *, rng: np.random.Generator) -> Batch:
        return numbers(np.full(n, self.shift.sum()))


@dataclass(frozen=True)
class OfTheHub(Shifted):
    """A learner that begins with a model of the hub."""

    model: str = "me/tiny"
    shift: float = 0.0


class Plain:
    """Not a dataclass: nothing says how one differs from another."""

    def fit(self, data, *, rng):
        raise AssertionError("never asked")


def study(learner):
    return studbook.create_study(data=numbers(np.arange(5.0)), learner=learner, metrics=["mean"], generations=1)


def test_arrays_count_with_all_their_elements():
    one, two = np.zeros(5000), np.zeros(5000)
    two[2500] = 1.0
    assert study(Shifted(one)).plan.digest != study(Shifted(two)).plan.digest
    assert study(Shifted(one)).plan.units[0].key == study(Shifted(one.copy())).plan.units[0].key


def test_objects_that_cannot_be_told_apart_are_refused():
    with pytest.raises(ConfigError, match="isn't a dataclass"):
        study(Plain())
    with pytest.raises(ConfigError, match="can't be told from another one"):
        digest_of({"thing": object()})


@pytest.mark.parametrize("data", [5, np.arange(3.0), [1, 2], None, Batch])
def test_data_that_are_none_are_refused(data):
    with pytest.raises(ConfigError, match="data"):
        studbook.create_study(data=data, learner="gaussian", metrics=["mean"])


def test_grid_values_of_every_type_can_be_told_apart():
    table = {
        "study": {"name": "x", "generations": 1, "samples": 30},
        "data": {"source": "normal", "dimension": 3},
        "learner": {"kind": "ols"},
        "mix": {"kind": "replace"},
        "metrics": {"names": ["variance"]},
        "grid": {"learner.intercept": [True, False]},
    }
    assert [dict(job.cell.keys) for job in studbook.create_study(table).plan.jobs] == [
        {"learner.intercept": "true"},
        {"learner.intercept": "false"},
    ]


def test_planning_many_units_is_cheap_and_too_many_are_refused():
    plan = studbook.create_study(
        data="normal", learner="kde", metrics=["std"], generations=1, replicates=20_000, samples=5, method="samples"
    ).plan
    assert len({unit.key for unit in plan.units}) == 20_000
    with pytest.raises(ConfigError, match="at most 1,000,000"):
        studbook.create_study(
            data="normal", learner="kde", metrics=["std"], generations=1, replicates=5_000_000, samples=5, method="samples"
        )


def test_what_the_hub_has_under_a_name_counts(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="there is no folder me/tiny, and the hub can't be reached"):
        study(OfTheHub())
    kept, keys = tmp_path / "models--me--tiny", []
    (kept / "refs").mkdir(parents=True)
    for commit in ("a" * 40, "b" * 40):
        folder = kept / "snapshots" / commit
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(commit.encode())
        (kept / "refs" / "main").write_text(commit)
        keys.append(study(OfTheHub()).plan.units[0].key)
    assert keys[0] != keys[1] == study(OfTheHub()).plan.units[0].key


@pytest.mark.parametrize(
    "learner",
    [
        {"kind": "vae", "network": "conv", "latents": 2},
        {"kind": "causal_lm", "model": "opt-tiny"},
    ],
)
def test_a_folder_that_is_called_like_a_network_is_no_weights(tmp_path, monkeypatch, learner):
    monkeypatch.chdir(tmp_path)
    data = {"source": "digits"} if learner["kind"] == "vae" else {"source": "python-docs", "vocabulary": 300, "block": 8, "limit": 60}
    table = {
        "study": {"name": "words", "generations": 1},
        "data": data,
        "learner": learner,
        "mix": {"kind": "replace"},
        "metrics": {"names": ["mean" if learner["kind"] == "vae" else "types"]},
    }
    before = studbook.create_study(table).plan.units[0].key
    for name in ("conv", "opt-tiny"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").write_text("of something else")
    study = studbook.create_study(table)
    assert study.plan.units[0].key == before
    assert new_manifest(study.plan)["weights"] == {}
