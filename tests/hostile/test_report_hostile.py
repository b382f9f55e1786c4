"""Run folders that are broken, foreign, or hold text that wants to be markup."""

from __future__ import annotations

import json
import runpy
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from studbook.errors import RunFolderError, SchemaVersionError, StorageError
from studbook.report import load_run, write_report
from studbook.report.markup import json_script, tag

FOLDERS = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "browser" / "run_folders.py")))
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{7*7}}<!--"


@pytest.fixture
def folder(tmp_path):
    return FOLDERS.zipf_folder(tmp_path / "run", replicates=3, last=4)


def edit(folder: Path, **changes: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_folder_that_is_none(tmp_path):
    with pytest.raises(RunFolderError, match="not a run folder"):
        load_run(tmp_path)


def test_a_newer_schema_is_refused(folder):
    edit(folder, schema_version=2)
    with pytest.raises(SchemaVersionError, match="schema version 2"):
        load_run(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe\x00", b'{"kind": "other", "schema_version": 1}', b"[" * 100_000])
def test_a_damaged_manifest_is_named(folder, content):
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(RunFolderError, match=r"manifest\.json"):
        load_run(folder)


@pytest.mark.parametrize("cells", [None, {}, [1], [{"index": "0", "label": "a"}], [{"label": "a"}]])
def test_damaged_cells_are_named(folder, cells):
    edit(folder, cells=cells)
    with pytest.raises(RunFolderError, match="lists no cells"):
        load_run(folder)


@pytest.mark.parametrize("junk", [None, 3, "text", [], [[1]], {"a": {"b": [None]}}])
def test_notes_of_the_wrong_shape_are_left_out(folder, junk):
    cell = json.loads((folder / "manifest.json").read_text())["cells"][0]
    cell |= {"keys": junk, "mix": junk, "learner": junk, "data": junk}
    edit(folder, cells=[cell], config=junk, git=junk, versions=junk, units=junk, started=junk, finished=junk, seconds=junk, seed=junk)
    assert write_report(folder).is_file()


def test_measurements_of_an_unknown_cell(folder):
    edit(folder, cells=[])
    with pytest.raises(RunFolderError, match="cell 0"):
        load_run(folder)


@pytest.mark.parametrize("name", ["measurements.parquet", "theory.parquet"])
@pytest.mark.parametrize("cut", [0, 10, -20])
def test_a_truncated_table_is_named(folder, name, cut):
    path = folder / name
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(RunFolderError, match=name):
        load_run(folder)


def test_a_table_without_a_column_is_named(folder):
    path = folder / "measurements.parquet"
    pl.read_parquet(path).drop("replicate").write_parquet(path)
    with pytest.raises(RunFolderError, match="lacks the column replicate"):
        load_run(folder)


def test_a_table_with_text_for_numbers_is_named(folder):
    path = folder / "measurements.parquet"
    pl.read_parquet(path).with_columns(value=pl.lit("many")).write_parquet(path)
    with pytest.raises(RunFolderError, match=r"measurements\.parquet"):
        load_run(folder)


def test_a_run_without_measurements_says_so(folder):
    path = folder / "measurements.parquet"
    pl.read_parquet(path).clear().write_parquet(path)
    with pytest.raises(RunFolderError, match="no measurement yet"):
        load_run(folder)


@pytest.mark.parametrize(("status", "said"), [("interrupted", "interrupted: 1"), ("failed", "failed: 1"), ("running", "stopped: 0")])
def test_an_unfinished_run_is_not_called_damaged(folder, status, said):
    (folder / "measurements.parquet").unlink()
    edit(folder, status=status, units={"total": 2, "done": 1})
    with pytest.raises(RunFolderError, match=f"is {said} of 2 units are finished") as told:
        load_run(folder)
    assert told.value.hint == f"go on with: studbook study resume {folder}"
    edit(folder, status="finished")
    with pytest.raises(RunFolderError, match="can't be read"):
        load_run(folder)


@pytest.mark.parametrize("suffix", ["npz", "json"])
def test_damaged_samples_are_named(folder, suffix):
    path = folder / "samples" / f"cell-000.{suffix}"
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(RunFolderError, match="cell-000"):
        write_report(folder)


def test_pickles_in_samples_are_refused(folder):
    with (folder / "samples" / "cell-000.npz").open("wb") as stream:
        np.savez(stream, original=np.array([{"a": 1}], dtype=object))
    with pytest.raises(RunFolderError, match=r"cell-000\.npz"):
        load_run(folder).pictures(0)


class Elements(HTMLParser):
    """Collects what a browser would take for elements, and every attribute that could run a script."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[dict[str, str | None]] = []
        self.handlers: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.handlers += [name for name in named if name.startswith("on")]
        self.sources += [named["src"]] if named.get("src") else []
        if tag == "script":
            self.scripts.append(named)


def test_text_from_the_data_never_becomes_markup(tmp_path):
    data = FOLDERS.data_of(EVIL, "text", 5) | {"origin": EVIL}
    cells = [FOLDERS.cell_of(i, f"{EVIL}{i}", {EVIL: str(i)}, {"kind": EVIL}, data, EVIL) for i in range(3)]
    rows = [FOLDERS.tall(i, metric, np.ones((2, 3)) + i, np.arange(3)) for i in range(3) for metric in ("types_share", EVIL)]
    theory = FOLDERS.theory_rows(0, EVIL, np.arange(3), np.ones(3), EVIL, EVIL)
    passed = {"study": {"name": EVIL, EVIL: [EVIL, {EVIL: EVIL}]}}
    FOLDERS.write_folder(
        tmp_path, EVIL, cells, rows, theory, passed, versions={EVIL: EVIL}, git={"revision": EVIL, "dirty": True}, seed=EVIL
    )
    note = {"kind": "text", "original": [EVIL], "generations": {"0": [EVIL], "2": [f"a {EVIL} {EVIL}"]}}
    FOLDERS.save_samples(tmp_path, 0, note, {"original": np.array([3, 1]), "generation-00000": np.array([2, 1])})
    parsed = Elements()
    parsed.feed(write_report(tmp_path).read_text(encoding="utf-8"))
    kinds = [script.get("type") for script in parsed.scripts]
    assert kinds.count(None) == 2  # Vega and the page's own
    assert set(kinds) == {None, "application/json"}
    assert parsed.handlers == []
    assert all(source.startswith("data:image/png") for source in parsed.sources)
    written = {p.name for p in (tmp_path / "report" / "charts").iterdir()}
    assert all(name.isascii() and "/" not in name and "<" not in name for name in written)


def test_paths_in_metric_names_stay_inside_the_folder(tmp_path):
    cell = FOLDERS.cell_of(0, "a", {}, {"kind": "replace"}, FOLDERS.data_of("d", "numbers", 5), "gaussian")
    rows = [FOLDERS.tall(0, name, np.ones((2, 2)), np.arange(2)) for name in ("../../../escape", "..", "/etc/x", "a/b", "a b")]
    run = FOLDERS.write_folder(tmp_path / "run", "paths", [cell], rows)
    write_report(run)
    assert {p.name for p in tmp_path.iterdir()} == {"run"}
    assert len(list((run / "report" / "charts").glob("*.svg"))) == 5


def test_markup_escapes_attributes_and_json():
    assert tag("p", EVIL, title=EVIL).text.count("<") == 2
    assert json_script("a", {EVIL: [EVIL]}).text.count("<") == 2


def test_a_single_generation_a_single_state_and_collapsed_values(tmp_path):
    cell = FOLDERS.cell_of(0, "a", {}, {"kind": "replace"}, FOLDERS.data_of("d", "numbers", 5), "gaussian")
    rows = [FOLDERS.tall(0, name, np.zeros((2, 1)), np.zeros(1)) for name in ("variance", "types_share", "mean")]
    FOLDERS.write_folder(tmp_path, "flat", [cell], rows)
    FOLDERS.save_samples(
        tmp_path, 0, {"kind": "numbers", "generations": [0]}, {"original": np.zeros(4), "generation-00000": np.full(3, np.nan)}
    )
    assert write_report(tmp_path).is_file()


def test_big_pictures_stay_within_the_size(tmp_path):
    rng = np.random.default_rng(0)
    cells = [FOLDERS.cell_of(i, f"c{i}", {}, {"kind": "replace"}, FOLDERS.data_of("d", "images", 5), "vae") for i in range(8)]
    FOLDERS.write_folder(tmp_path, "big", cells, [FOLDERS.tall(i, "recall", np.ones((1, 2)), np.arange(2)) for i in range(8)])
    for i in range(8):
        arrays = {f"generation-{g:05d}": rng.integers(0, 256, (40, 64, 64, 3)).astype(np.uint8) for g in range(8)}
        FOLDERS.save_samples(tmp_path, i, {"kind": "images"}, {"original": arrays["generation-00000"]} | arrays)
    page = write_report(tmp_path)
    assert page.stat().st_size < 4_000_000
    assert page.read_text(encoding="utf-8").count('class="sprite"') == 8 * 6 + 1


@pytest.mark.mount
def test_a_full_disk_is_told(folder, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("no right to mount a temporary file system")
    try:
        for path in [p for p in folder.rglob("*") if p.is_file()]:
            copy = disk / path.relative_to(folder)
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(path.read_bytes())
        with pytest.raises(StorageError, match="can't write"):
            write_report(disk)
        assert not list((disk / "report").rglob(".*"))
        assert load_run(disk).name == "zipf-tails"
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_report_folder_that_is_a_file(folder):
    (folder / "report").write_text("in the way")
    with pytest.raises(StorageError, match="can't write"):
        write_report(folder)
