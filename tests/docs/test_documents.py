"""Every fenced Python block of the README and the docs runs, and every docstring's example gives what it says."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import studbook

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^( *)```python\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
MODULES = sorted(module.name for module in pkgutil.walk_packages(studbook.__path__, "studbook.") if not module.name.endswith("__main__"))


def blocks(page: Path) -> list[str]:
    found = []
    for indent, code in FENCE.findall(page.read_text(encoding="utf-8")):
        found.append("\n".join(line.removeprefix(indent) for line in code.splitlines()))
    return found


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: str(page.relative_to(ROOT)))
def test_python_blocks_run_one_after_the_other(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "studies").symlink_to(ROOT / "studies")
    names: dict[str, object] = {"__name__": "__main__"}
    for number, code in enumerate(blocks(page)):
        exec(compile(code, f"{page.name} block {number}", "exec"), names)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


def test_there_is_something_to_run():
    assert sum(len(blocks(page)) for page in PAGES) >= 8
    assert (ROOT / "mkdocs.yml").exists()
