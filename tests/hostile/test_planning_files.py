"""Files that no forecast and no dose can use: a typed error in one or two lines that names the place."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from studbook.errors import ConfigError, DataError, RunFolderError
from studbook.planning import forecast, read_probabilities

GOOD = "generation,metric,value\n0,std,1\n1,std,0.9\n2,std,0.8\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "can't be read as CSV"),
        ("generation,metric,value\n", "holds no rows"),
        ("generation,metrics,value\n0,std,1\n", r"no column 'metric' \(did you mean 'metrics'"),
        (GOOD.replace("0.9", "much"), r"value is not a number in row 1 \(line 3"),
        (GOOD.replace("0.9", "nan"), "value is nan in row 1"),
        (GOOD.replace("0.9", "inf"), "value is inf in row 1"),
        (GOOD.replace("0.9", ""), "value is not a number in row 1"),
        (GOOD.replace("0.9", "-0.9"), "is -0.9 in row 1, expected a positive diversity"),
        (GOOD.replace("0.9", "0"), "is 0 in row 1"),
        (GOOD.replace("\n2,", "\n2.5,"), "generation is 2.5 in row 2"),
        (GOOD.replace("\n2,", "\n-2,"), "generation is -2.0 in row 2"),
        (GOOD.replace("\n2,", "\n1,"), "generation is 1.0 in row 2.*one row for each"),
        (GOOD.replace("\n2,std", "\n2,"), "metric is not a number in row 2|metric is .*row 2"),
        (GOOD.rsplit("\n", 2)[0] + "\n", "has 2 generations in 1 runs"),
        ("generation,metric,value\n" + "0,std,x\n" * 9, "rows 0, 1, 2, 3, 4 and 4 more"),
        ("generation,metric,value,stderr\n0,std,1,0\n1,std,.9,-1\n2,std,.8,0\n", "stderr is -1.0 in row 1"),
        ("generation,metric,value,replicate\n0,std,1,a\n1,std,.9,b\n2,std,.8,c\n", "3 generations in 3 runs"),
    ],
)
def test_bad_csv(tmp_path, text, words):
    file = tmp_path / "measured.csv"
    file.write_text(text)
    with pytest.raises(DataError, match=words) as caught:
        forecast(file)
    assert "\n" not in caught.value.message


def test_files_that_are_something_else(tmp_path):
    binary = tmp_path / "binary.csv"
    binary.write_bytes(bytes(range(256)) * 4)
    truncated = tmp_path / "cut.parquet"
    pl.DataFrame({"generation": [0]}).write_parquet(truncated)
    truncated.write_bytes(truncated.read_bytes()[:-6])
    other = tmp_path / "measured.xlsx"
    other.write_text(GOOD)
    for file in (binary, truncated, other, tmp_path / "absent.csv"):
        with pytest.raises(DataError, match=file.name):
            forecast(file)
    with pytest.raises(RunFolderError, match="no measurements"):
        forecast(tmp_path)


def test_a_file_of_text_columns_or_of_a_run_folder(tmp_path):
    file = tmp_path / "measured.csv"
    file.write_text(GOOD)
    frame = pl.read_csv(file)
    frame.with_columns(cell=pl.lit(0), replicate=pl.lit(0), stderr=pl.lit(None, pl.Float64)).write_parquet(
        tmp_path / "measurements.parquet"
    )
    assert (
        forecast(file) == forecast(tmp_path) == forecast(str(tmp_path / "measurements.parquet")) == forecast(frame.to_dict(as_series=False))
    )


def test_columns_of_different_lengths():
    with pytest.raises(DataError, match="different lengths"):
        forecast({"generation": [0, 1], "metric": ["std"], "value": [1.0, 0.9]})


def test_a_metric_that_is_not_there(tmp_path):
    file = tmp_path / "measured.csv"
    file.write_text(GOOD)
    with pytest.raises(ConfigError, match="did you mean 'std'"):
        forecast(file, metric="sdt")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no numbers"),
        ("0.5\nhalf\n", "line 2: 'half' isn't a number"),
        ("# weights\n\n0.5\nnan\n", "line 4: nan is negative or not finite"),
        ("0.5\n-0.5\n", "line 2"),
        ("inf\n", "line 1"),
        ("0.5\n0.4\n", "sum to 0.9"),
        ("0\n0\n", "sum to 0,"),
        ("0.5 0.5\n", "line 1"),
    ],
)
def test_bad_probabilities(tmp_path, text, words):
    file = tmp_path / "law.txt"
    file.write_text(text)
    with pytest.raises(DataError, match=words):
        read_probabilities(file)


def test_probability_files_in_every_format(tmp_path):
    (tmp_path / "law.txt").write_text("\ufeff# comment\n0.25\n\n0.75\n", encoding="utf-8")
    (tmp_path / "counts.txt").write_text("1\n3\n")
    (tmp_path / "law.csv").write_text("word,probability\nthe,0.25\na,0.75\n")
    (tmp_path / "counts.csv").write_text("count\n10\n30\n")
    pl.DataFrame({"count": [2, 6]}).write_parquet(tmp_path / "counts.parquet")
    for name in ("law.txt", "counts.txt", "law.csv", "counts.csv", "counts.parquet"):
        assert read_probabilities(tmp_path / name).probabilities.tolist() == [[0.25, 0.75]]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b"probabilty\n1\n", "did you mean 'probabilty'"),
        ("b.csv", b"count\n1\n\xff\n", "can't be read|isn't a number"),
        ("c.csv", b"probability\n1\nx\n", "line 3: 'x'"),
        ("d.parquet", b"PAR1 nothing", "can't be read as PARQUET"),
        ("e.txt", b"0.5\n\xff\xfe\n", "isn't UTF-8"),
        ("f.csv", b"probability\n10\n30\n", "sum to 40"),
        ("g.csv", b"count\n1.5\n2\n", "whole counts"),
    ],
)
def test_bad_probability_files(tmp_path, name, content, words):
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_probabilities(file)


def test_a_missing_value_in_parquet_names_its_row(tmp_path):
    file = tmp_path / "law.parquet"
    pl.DataFrame({"probability": [0.5, None, 0.5]}).write_parquet(file)
    with pytest.raises(DataError, match="row 1"):
        read_probabilities(file)
    with pytest.raises(DataError, match="no file"):
        read_probabilities(tmp_path)


def test_huge_tables_of_replicates_are_forecast(tmp_path):
    rng = np.random.default_rng(0)
    runs = np.cumprod(rng.chisquare(99, (2_000, 20)) / 100, axis=1)
    frame = pl.DataFrame(
        {
            "replicate": np.repeat(np.arange(2_000), 20),
            "generation": np.tile(np.arange(20), 2_000),
            "metric": ["variance"] * 40_000,
            "value": runs.reshape(-1),
        }
    )
    answer = forecast(frame)["variance"]
    assert answer.effective_sample_size.low < 100 < answer.effective_sample_size.high
    assert answer.effective_sample_size.high / answer.effective_sample_size.low < 1.05
