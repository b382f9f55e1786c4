"""Fixtures of the tests of hostile corpora."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from studbook.screening import Screen


@pytest.fixture
def screen(screening_site: ModuleType) -> Screen:
    """A screen that takes texts with the word ``robot`` for generated."""
    return Screen((screening_site.Knows("robots", "detector", "robot"),))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A folder with one text that nothing is wrong with."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "good.txt").write_text("a text that stays")
    return folder


@pytest.fixture
def run(screening_site: ModuleType) -> Callable[..., tuple[dict[str, Any], dict[str, str]]]:
    """``screening_site.run``: screen a corpus; the summary, and reasons of what was skipped."""
    return screening_site.run
