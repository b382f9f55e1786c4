"""Pages on neural runs in a real browser: pictures first, ridges that answer to the pointer, phone width, either background."""

from __future__ import annotations

import runpy
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from studbook.report import write_report

pytestmark = pytest.mark.browser

HERE = Path(__file__).parent
FOLDERS = SimpleNamespace(**runpy.run_path(str(HERE / "run_folders.py")))
PAGES = SimpleNamespace(**runpy.run_path(str(HERE / "test_report_browser.py")))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Debian's chromium is not installed (apt install chromium)")
    with playwright.sync_playwright() as driver:
        process = driver.chromium.launch(executable_path=chromium, args=list(PAGES.ARGUMENTS))
        yield process
        process.close()


@pytest.fixture(scope="module")
def language(tmp_path_factory: Any) -> Path:
    return write_report(FOLDERS.language_folder(tmp_path_factory.mktemp("language"), generations=3, replicates=3, n_words=6000))


@pytest.fixture(scope="module")
def flowers(tmp_path_factory: Any) -> Path:
    return write_report(FOLDERS.flowers_folder(tmp_path_factory.mktemp("flowers"), generations=3, replicates=2, n_cells=2))


def test_charts_of_a_language_model_draw_in_silence_and_offline(browser, language):
    with PAGES.Visit(browser, language, viewport={"width": 1280, "height": 900}, offline=True) as visit:
        boxes = visit.run("""() => [...document.querySelectorAll('.chart')].map((box) => ({
            marks: box.querySelectorAll('svg .mark-line path, svg .mark-area path, svg .mark-rect path').length,
            label: box.getAttribute('aria-label'), overflow: box.querySelector('svg').width.baseVal.value - box.clientWidth}))""")
        assert len(boxes) > 8
        assert all(box["marks"] > 0 and box["overflow"] <= 1 for box in boxes), boxes
        # One ridge for the original and each generation in each of two cells.
        assert visit.run("document.querySelectorAll('#figure-perplexity-density svg .mark-area path').length") == 2 * 5
        rows = visit.run("[...document.querySelectorAll('#figure-perplexity-density svg .role-axis text')].map((t) => t.textContent)")
        assert {"real", "gen. 0", "gen. 1", "gen. 2", "gen. 3"} <= set(rows)
        assert visit.said == []
        assert [url for url in visit.asked if not url.startswith("data:")] == [language.as_uri()]


@pytest.mark.parametrize("figure", ["perplexity-density", "perplexity-density-map", "drift-parts", "training-loss"])
def test_the_pointer_finds_values(browser, language, figure):
    with PAGES.Visit(browser, language, viewport={"width": 1280, "height": 900}) as visit:
        box = visit.tab.locator(f"#figure-{figure} .chart")
        box.scroll_into_view_if_needed()
        area = box.bounding_box()
        for x in (0.2, 0.25, 0.3, 0.35):
            visit.tab.mouse.move(area["x"] + area["width"] * x, area["y"] + area["height"] * 0.5)
            visit.tab.wait_for_timeout(60)
            if visit.tab.locator(".tip:not([hidden])").count():
                break
        assert "generation" in visit.tab.inner_text(".tip")
        assert visit.said == []


def test_pictures_are_seen_without_scrolling_and_crisp(browser, flowers):
    with PAGES.Visit(browser, flowers, viewport={"width": 1280, "height": 900}) as visit:
        strip = visit.run("document.querySelector('main .strip').getBoundingClientRect().toJSON()")
        words = visit.run("document.querySelector('.lede').getBoundingClientRect().top")
        assert strip["top"] < 400
        assert strip["bottom"] < words
        shown = visit.run("""() => [...document.querySelectorAll('.strip img')].map((i) => ({
            scale: i.clientWidth / i.naturalWidth, how: getComputedStyle(i).imageRendering}))""")
        assert len(shown) == 2 * 5
        assert all(i["how"] == "pixelated" and i["scale"] == round(i["scale"]) for i in shown), shown
        assert visit.said == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["language", "flowers"])
def test_neural_pages_can_be_read_on_a_phone_and_on_either_background(browser, request, kind, scheme):
    page = request.getfixturevalue(kind)
    with PAGES.Visit(browser, page, viewport={"width": 360, "height": 740}, color_scheme=scheme) as visit:
        assert visit.run(PAGES.OVERFLOW) == 0
        selectors = [".by-generation td", ".by-generation small", ".chart svg text", ".legend li", ".about"]
        selectors += (
            ["figcaption p", ".notice p", ".notice a", ".sheet-title", ".prompt", ".again"]
            if kind == "language"
            else [".strip h4", ".strip-head span"]
        )
        for selector in selectors:
            contrasts = visit.tab.evaluate(PAGES.LUMINANCE, selector)
            assert contrasts, selector
            assert all(c >= 4.5 for c in contrasts), (selector, min(contrasts))
        assert visit.said == []


def test_other_prompts_can_be_opened(browser, language):
    with PAGES.Visit(browser, language, viewport={"width": 1280, "height": 900}) as visit:
        shown = "[...document.querySelectorAll('.prompt')].filter((p) => p.checkVisibility()).length"
        assert visit.run(shown) == 1
        visit.tab.click(".sheet summary")
        assert visit.run(shown) == 6
