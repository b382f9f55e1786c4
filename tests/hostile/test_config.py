"""Study files that can't be meant: one clear line each, before any work."""

from __future__ import annotations

import copy

import pytest

import studbook
from studbook.errors import ConfigError, DataError, MetricError, StudbookError
from studbook.study import read_study_file

GOOD = {
    "study": {"name": "good", "generations": 3, "replicates": 2, "samples": 20},
    "data": {"source": "normal"},
    "learner": {"kind": "gaussian"},
    "mix": {"kind": "replace"},
    "metrics": {"names": ["std"]},
}


def changed(path: str, value: object) -> dict:
    table = copy.deepcopy(GOOD)
    *parents, leaf = path.split("/")
    inner = table
    for parent in parents:
        inner = inner.setdefault(parent, {})
    inner[leaf] = value
    return table


CASES = [
    ("studdy", {}, r"no section \[studdy\] \(did you mean \[study\]\?\)"),
    ("study/sampels", 3, "sampels.*samples"),
    ("study/samples", -5, "samples is -5"),
    ("study/samples", 0, "samples is 0"),
    ("study/samples", 10**16, "expected 1 to"),
    ("study/samples", "many", "samples"),
    ("study/samples", 2.5, "samples"),
    ("study/samples", True, "samples"),
    ("study/generations", -1, "generations is -1"),
    ("study/generations", 10**9, "generations is 1000000000"),
    ("study/replicates", 0, "replicates is 0"),
    ("study/seed", -1, "seed is -1"),
    ("study/name", "../escape", "study.name"),
    ("study/method", "magic", "method"),
    ("data/source", "norml", "normal"),
    ("data/source", 3, "expected a name or a path"),
    ("data/rate", 3, "rate"),
    ("data/std", -1.0, "std"),
    ("data/std", float("nan"), "std"),
    ("data/dimension", 0, "dimension"),
    ("data/heldout", 1.0, "heldout is 1.0"),
    ("data/reserve", -1, "reserve is -1"),
    ("learner/kind", "gausian", "did you mean gaussian"),
    ("learner/kind", 3, "expected one of"),
    ("learner/ddoff", 1, "ddof"),
    ("learner/ddof", "zero", "ddof"),
    ("mix/kind", "acumulate", "did you mean accumulate"),
    ("mix/share", 0.1, "share"),
    ("mix", {"kind": "keep"}, "share"),
    ("mix", {"kind": "keep", "share": 2}, "mix.share is 2"),
    ("mix", {"kind": "blend", "alpha": 0.5, "beta": 0.4, "gamma": 0.4}, "is 1.3, expected 1"),
    ("mix", {"kind": "fresh", "fresh": 21}, "mix.fresh is 21, but a generation has 20"),
    ("mix", 3, "mix"),
    ("metrics/names", [], "expected a list of metrics"),
    ("metrics/names", "std", "expected a list of metrics"),
    ("metrics/names", ["sdt"], "did you mean std"),
    ("metrics/names", ["std", "std"], "more than once"),
    ("metrics/names", ["perplexity"], "'perplexity' measures text"),
    ("metrics/every", 0, "metrics.every is 0"),
    ("metrics/w2", {"projections": 3}, "it isn't in metrics.names"),
    ("metrics/std", {"projection": 3}, "projection"),
    ("grid", {"mix.fresh": 3}, "expected a list"),
    ("grid", {"mix.fresh": []}, "expected a list"),
    ("grid", {"mixx.fresh": [1]}, "did you mean mix"),
    ("grid", {"learner.ddof": list(range(200)), "study.samples": list(range(1, 200))}, "cells"),
    ("grid", [1], "table of lists"),
]


@pytest.mark.parametrize(("path", "value", "said"), CASES, ids=[f"{path}={str(value)[:30]}" for path, value, _ in CASES])
def test_what_cannot_be_meant_is_refused(path, value, said):
    with pytest.raises((ConfigError, MetricError), match=said) as caught:
        studbook.create_study(changed(path, value))
    assert caught.value.exit_code == 2
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("section", ["study", "data", "learner", "mix", "metrics"])
def test_a_missing_section_is_named(section):
    table = {key: value for key, value in GOOD.items() if key != section}
    with pytest.raises(ConfigError, match=section):
        studbook.create_study(table)


def test_good_is_good():
    assert len(studbook.create_study(GOOD).plan.units) == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[study\nname = 1", "isn't valid TOML.*line"),
        (b"\xff\xfe[\x00s\x00", "isn't UTF-8"),
        (b"a = 1\na = 2", "isn't valid TOML"),
        (b"#" * (2 << 20), "at most"),
    ],
)
def test_files_that_are_no_study(tmp_path, content, said):
    path = tmp_path / "study.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        read_study_file(path)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(ConfigError, match="no study file"):
        read_study_file(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="can't be read"):
        read_study_file(tmp_path)


@pytest.mark.parametrize("override", ["study.samples", "=3", "nowhere.samples=3"])
def test_bad_overrides(tmp_path, override):
    path = tmp_path / "study.toml"
    path.write_text('[study]\nname = "x"')
    with pytest.raises(ConfigError):
        read_study_file(path, [override])


def test_overrides_reach_the_grid_and_strings_need_no_quotes(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text('[study]\nname = "x"\n[grid]\n"mix.fresh" = [1]')
    table = read_study_file(path, ["data.source=digits", "study.samples=7", 'grid."mix.fresh"=[2, 3]'])
    assert table["data"]["source"] == "digits"
    assert table["study"]["samples"] == 7
    assert table["grid"] == {"mix.fresh": [2, 3]}


def test_a_distribution_has_no_size_of_its_own():
    table = copy.deepcopy(GOOD)
    del table["study"]["samples"]
    with pytest.raises(ConfigError, match=r"study.samples is missing"):
        studbook.create_study(table)


def test_more_memory_than_there_is_is_refused_before_it_is_asked_for():
    table = changed("study/samples", 10**13) | {"learner": {"kind": "kde"}}
    with pytest.raises(ConfigError, match="GiB"):
        studbook.create_study(table)


def test_a_method_that_does_not_exist_for_the_cell():
    table = changed("study/method", "law") | {"learner": {"kind": "kde"}}
    with pytest.raises(ConfigError, match="isn't exact in law"):
        studbook.create_study(table)


def test_fresh_records_that_a_data_set_does_not_have():
    table = {
        **GOOD,
        "study": {"name": "x", "generations": 10},
        "data": {"source": "digits"},
        "mix": {"kind": "fresh", "fresh": 170},
        "metrics": {"names": ["variance"]},
    }
    with pytest.raises(ConfigError, match="1,797 records; 180 held out and 1,700 reserved"):
        studbook.create_study(table)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("rows.csv", "x,y\n1,2\n3,four\n", "four"),
        ("nan.csv", "x\n1\nnan\n3\n", "1"),
        ("empty.csv", "", "empty"),
        ("empty.txt", "", "empty"),
    ],
)
def test_bad_data_files_end_in_one_line(tmp_path, name, content, said):
    path = tmp_path / name
    path.write_text(content)
    table = changed("data/source", str(path))
    with pytest.raises(StudbookError, match=said) as caught:
        studbook.create_study(table)
    assert isinstance(caught.value, DataError | ConfigError)
    assert len(str(caught.value).splitlines()) <= 2
