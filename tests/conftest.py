"""Fixtures that several test folders share."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

settings.register_profile("studbook", deadline=None)  # a deadline is an assertion about the machine's clock
settings.load_profile("studbook")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as where the tests were started in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout, or where STUDBOOK_TEST_DATA points; tests that need it skip without it."""
    folder = Path(os.environ.get("STUDBOOK_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}; set STUDBOOK_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def screening_site() -> ModuleType:
    """``tests/screening_site.py``: a small corpus of every form, and witnesses that need nothing."""
    return load_beside("screening_site.py")


def load_beside(name: str) -> ModuleType:
    """A module of helpers that lies in the folder of the tests."""
    spec = importlib.util.spec_from_file_location(name.removesuffix(".py"), Path(__file__).with_name(name))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def postgres_server():
    """A running PostgreSQL server; see ``tests/postgres_server.py``. Tests that need it skip where Debian's package isn't there."""
    module = load_beside("postgres_server.py")
    if reason := module.why_not():
        pytest.skip(reason)
    pytest.importorskip("psycopg")
    server = module.PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.close()
