"""Fixtures that several test folders share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout, or where STUDBOOK_TEST_DATA points; tests that need it skip without it."""
    folder = Path(os.environ.get("STUDBOOK_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}; set STUDBOOK_TEST_DATA")
    return folder
