"""Who holds which rows, and studies of federated select: every row once, rows of a table, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from studbook.errors import ConfigError
from studbook.protocols.objectives import open_objective
from studbook.protocols.partition import Partition, split_by_document, split_by_label, split_by_size
from studbook.protocols.select_study import read_select_study, run_select_study, student_interval, study_of

MLP = open_objective("mlp", {"hidden": 16})


def test_every_row_is_dealt_exactly_once() -> None:
    rng = np.random.default_rng(0)
    labels, documents = rng.integers(0, 10, 500), np.repeat(np.arange(50), 10)
    for parts in (
        split_by_label(labels, 40, alpha=0.05, rng=rng),
        split_by_document(documents, 13, rng=rng),
        split_by_size(500, 60, exponent=2.0, rng=rng),
        split_by_size(500, 500, exponent=2.0, rng=rng),
    ):
        assert sorted(np.concatenate(parts).tolist()) == list(range(500))
        assert min(map(len, parts)) >= 1


def test_parts_are_not_alike() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(10), 100)

    def largest_share(alpha: float) -> float:
        parts = split_by_label(labels, 20, alpha=alpha, rng=rng)
        return float(np.mean([np.bincount(labels[rows]).max() / len(rows) for rows in parts]))

    assert largest_share(0.1) > 0.5 > 0.25 > largest_share(100.0)
    documents = np.repeat(np.arange(30), 5)
    for rows in split_by_document(documents, 30, rng=rng):
        assert len(np.unique(documents[rows])) == 1
    sizes = list(map(len, split_by_size(1000, 10, exponent=1.0, rng=rng)))
    assert sizes[0] > 5 * sizes[-1]


@pytest.mark.parametrize("n", [0, -1, 11])
def test_more_clients_than_data_are_refused(n: int) -> None:
    rng = np.random.default_rng(0)
    for split in (
        lambda: split_by_label(np.zeros(10, np.int64), n, alpha=1.0, rng=rng),
        lambda: split_by_document(np.arange(10), n, rng=rng),
        lambda: split_by_size(10, n, exponent=1.0, rng=rng),
    ):
        with pytest.raises(ConfigError, match="expected 1 to 10 clients"):
            split()
    with pytest.raises(ConfigError, match="no documents"):
        Partition("document").split(MLP, 3, seed=0)


TABLE = {
    "study": {"name": "small", "seeds": 2},
    "experiment": [
        {
            "name": "neurons", "objective": "mlp", "group": "neurons", "m": [2, 8], "how": ["random"], "clients": 20,
            "partition": {"by": "label"}, "plan": {"rounds": 8, "clients": 5, "rate": 0.1, "every": 8}, "settings": {"hidden": 8},
        }
    ],
}  # fmt: skip


def test_a_study_has_a_row_for_each_size_and_compares_seed_by_seed() -> None:
    rows = run_select_study(study_of(TABLE))
    assert [(row.how, row.m, row.n, row.seeds) for row in rows] == [("all", 8, 8, 2), ("random", 2, 8, 2)]
    assert rows[0].change == 0.0
    assert rows[1].change == pytest.approx(rows[1].accuracy - rows[0].accuracy)
    assert rows[1].down_bytes < 0.3 * rows[0].down_bytes
    numbers = 64 * 2 + 2 + 2 * 10 + 10
    assert (rows[1].down_bytes, rows[1].up_bytes, rows[1].client_bytes) == (4 * numbers, 4 * numbers + 4 * 2, 3 * 4 * numbers)
    assert rows == run_select_study(study_of(TABLE))


def test_studies_that_make_no_sense(tmp_path) -> None:
    experiment = TABLE["experiment"][0]
    for bad, said in (
        ({"studdy": {}}, "studdy"),
        ({**TABLE, "study": {"name": "x", "seeds": 1}}, "seeds"),
        ({"study": {"name": "x"}}, "no experiment"),
        ({**TABLE, "experiment": [{**experiment, "mm": 3}]}, "mm"),
        ({**TABLE, "experiment": [experiment, experiment]}, "one name"),
        ({**TABLE, "experiment": [3]}, "a table"),
        ({**TABLE, "experiment": [{**experiment, "plan": {"rounds": 0}}]}, "steps is 0"),
        ({**TABLE, "experiment": [{**experiment, "plan": {"clients": 0}}]}, "federated.clients is 0"),
        ({**TABLE, "experiment": [{**experiment, "plan": {"rate": 0}}]}, "rate of 0"),
    ):
        with pytest.raises(ConfigError, match=said):
            study_of(bad)
    with pytest.raises(ConfigError, match="99 keys"):
        run_select_study(study_of({**TABLE, "experiment": [{**experiment, "m": [99]}]}))
    with pytest.raises(ConfigError, match="can't be read"):
        read_select_study(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("a = [")
    with pytest.raises(ConfigError, match="no TOML"):
        read_select_study(tmp_path / "bad.toml")


def test_the_interval_is_students() -> None:
    mean, half = student_interval([1.0, 2.0, 3.0], 0.95)
    assert (mean, round(half, 3)) == (2.0, 2.484)  # 4.303 / √3
