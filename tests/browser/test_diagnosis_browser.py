"""The page of a diagnosis in a real browser: charts are drawn, nothing is asked of the network, a phone needs no sideways scrolling."""

from __future__ import annotations

import runpy
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from studbook.data import open_source
from studbook.execution import LocalExecutor
from studbook.learners import Vae
from studbook.neural.options import Training
from studbook.protocols.diagnose import diagnose, prepare_diagnosis
from studbook.protocols.diagnose_records import Examined, Subject
from studbook.report.diagnosis import write_diagnosis_report

pytestmark = pytest.mark.browser

PAGES = SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "test_report_browser.py")))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    pytest.importorskip("torch")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Debian's chromium is not installed (apt install chromium)")
    with playwright.sync_playwright() as driver:
        process = driver.chromium.launch(executable_path=chromium, args=list(PAGES.ARGUMENTS))
        yield process
        process.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: Any) -> Path:
    digits = open_source("digits").load().records.take(np.arange(160))
    subject = Subject("a model called <b>", Vae(latents=2, hidden=8, training=Training(epochs=2, batch=32)), digits, "digits")
    asked = Examined(sources=("again", "seed", "order", "split", "dtype", "engine", "reload"), steps=8, repeats=2)
    found = diagnose(prepare_diagnosis(subject, asked), LocalExecutor())
    return write_diagnosis_report([found], [("Code", "none")], tmp_path_factory.mktemp("diagnosis"))


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "light"), (360, "dark")])
def test_the_page_draws_and_fits(browser: Any, page: Path, width: int, scheme: str) -> None:
    with PAGES.Visit(browser, page, viewport={"width": width, "height": 800}, color_scheme=scheme) as visit:
        assert visit.said == []
        assert [url for url in visit.asked if not url.startswith(("file:", "data:"))] == []
        assert visit.run("document.documentElement.scrollWidth <= window.innerWidth")
        assert visit.run("document.querySelectorAll('.chart[data-drawn=yes] svg').length") == 3
        assert visit.run("document.querySelectorAll('section b').length") == 1  # the name is text, not markup
        assert "a model called <b>" in visit.run("document.querySelector('#summary').innerText")
