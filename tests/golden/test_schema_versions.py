"""Run folders that old releases wrote are still read; one from the future is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import studbook
from studbook.errors import SchemaVersionError
from studbook.report import load_run, summary, table, write_report
from studbook.study.folder import SCHEMA_VERSION

HERE = Path(__file__).parent
OLD = sorted(HERE.glob("schema-*"))


def test_there_is_a_folder_of_every_schema_version():
    assert [int(folder.name.removeprefix("schema-")) for folder in OLD] == list(range(1, SCHEMA_VERSION + 1))


@pytest.mark.parametrize("folder", OLD, ids=lambda folder: folder.name)
def test_an_old_run_is_read_and_reported(folder, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(folder, copy)
    result = studbook.load_result(copy)
    frame = result.frame()
    assert frame.columns[:7] == ["cell", "replicate", "generation", "metric", "value", "stderr", "n"]
    assert frame.filter(cell=0, replicate=0, generation=0, metric="support")["value"].to_list() == [15.0]
    assert result.theory()["exact"].all()
    assert table(load_run(copy)).height == 4
    assert summary(load_run(copy))
    assert write_report(copy).is_file()


def test_a_future_run_is_refused(tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(OLD[-1], copy)
    path = copy / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": SCHEMA_VERSION + 1}))
    for read in (studbook.load_result, load_run, write_report):
        with pytest.raises(SchemaVersionError, match="pip install --upgrade studbook"):
            read(copy)
