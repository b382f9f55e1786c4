"""Disks and folders that refuse, damaged and future manifests."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

import studbook
from studbook.api import resume_study
from studbook.errors import RunFolderError, SchemaVersionError, StorageError

TABLE = {
    "study": {"name": "small", "generations": 5, "replicates": 40, "samples": 50, "method": "samples"},
    "data": {"source": "normal"},
    "learner": {"kind": "gaussian"},
    "mix": {"kind": "replace"},
    "metrics": {"names": ["std"]},
}


@contextmanager
def mounted(folder: Path, options: str):
    """A temporary file system; skips where mounting isn't allowed."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "studbook-test", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"can't mount a temporary file system: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


needs_mount = pytest.mark.skipif(shutil.which("mount") is None or os.geteuid() != 0, reason="mounting needs root")


@pytest.mark.mount
@needs_mount
def test_full_disk_keeps_what_was_finished(tmp_path):
    with mounted(tmp_path / "disk", "size=96k") as disk:
        with pytest.raises(StorageError, match="disk is full"):
            studbook.create_study(TABLE).run(disk / "run")
        kept = list((disk / "run" / "units").glob("*.unit"))
        assert kept
        assert not list((disk / "run").rglob(".writing-*"))
        subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
        before = {path: path.stat().st_mtime_ns for path in kept}
        resumed = resume_study(disk / "run").run(disk / "run")
        assert {path: path.stat().st_mtime_ns for path in kept} == before
        assert resumed.manifest["status"] == "finished"


@pytest.mark.mount
@needs_mount
def test_read_only_folder(tmp_path):
    with mounted(tmp_path / "disk", "size=1m") as disk:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(StorageError, match="read-only"):
            studbook.create_study(TABLE).run(disk / "run")


def test_out_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="can't write"):
        studbook.create_study(TABLE).run(tmp_path / "file" / "run")
    with pytest.raises(StorageError, match="can't write"):
        studbook.create_study(TABLE).run(tmp_path / "file")


@pytest.fixture
def finished(tmp_path) -> Path:
    return studbook.create_study(TABLE).run(tmp_path / "run").folder


def rewrite(folder: Path, **changes: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_future_schema_version_is_refused_by_every_command(finished):
    rewrite(finished, schema_version=99)
    for action in (
        lambda: studbook.load_result(finished),
        lambda: studbook.create_study(TABLE).run(finished),
        lambda: resume_study(finished),
    ):
        with pytest.raises(SchemaVersionError, match="schema version 99; this studbook reads up to 1"):
            action()
    for name in ("show", "report", "resume"):
        done = subprocess.run([sys.executable, "-m", "studbook", "study", name, str(finished)], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "schema version 99" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff\xfe", b'{"kind": "else"}', b'{"kind": "studbook.study", "schema_version": "1"}']
)
def test_a_damaged_manifest(finished, content):
    (finished / "manifest.json").write_bytes(content)
    with pytest.raises(RunFolderError):
        studbook.load_result(finished)
    with pytest.raises(RunFolderError):
        resume_study(finished)


def test_killed_while_the_first_manifest_was_written(tmp_path):
    (tmp_path / "units").mkdir()
    for name in (".lock", ".writing-k2j3"):
        (tmp_path / name).touch()
    studbook.create_study(TABLE).run(tmp_path)
    assert not list(tmp_path.glob(".writing-*"))


def test_no_run_folder(tmp_path):
    with pytest.raises(RunFolderError, match="not a run folder"):
        studbook.load_result(tmp_path)
    with pytest.raises(RunFolderError, match="not a run folder"):
        studbook.load_result(tmp_path / "nowhere")
