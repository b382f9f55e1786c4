"""The page in a real browser: it draws, is silent, asks nothing of the network, and reads well on a phone and in the dark."""

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

FOLDERS = SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "run_folders.py")))
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Debian's chromium is not installed (apt install chromium)")
    with playwright.sync_playwright() as driver:
        process = driver.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
        yield process
        process.close()


@pytest.fixture(scope="module", params=["gaussian", "text", "digits", "migrants"])
def report(request: Any, tmp_path_factory: Any) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    small = {
        "gaussian": {"replicates": 100, "last": 100, "n": 100}, "text": {"generations": 3, "n_words": 6000},
        "digits": {"generations": 3, "replicates": 2, "n": 100}, "migrants": {"replicates": 20, "last": 20},
    }  # fmt: skip
    getattr(FOLDERS, f"{request.param}_folder")(folder, **small[request.param])
    return write_report(folder)


class Visit:
    """A page that was opened and drawn, with everything it said and asked for."""

    def __init__(self, browser: Any, page: Path, **context: Any) -> None:
        self.context = browser.new_context(**context)
        self.tab = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.tab.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.tab.on("pageerror", lambda error: self.said.append(str(error)))
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.tab.goto(page.as_uri())
        self.tab.wait_for_selector("html[data-charts=drawn]", timeout=60_000)

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def run(self, script: str) -> Any:
        return self.tab.evaluate(script)


LUMINANCE = """(selector) => {
  const rgb = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const light = (colour) => rgb(colour).map((c) => c / 255).map((c) => c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
  const card = light(getComputedStyle(document.querySelector('figure')).backgroundColor);
  return [...document.querySelectorAll(selector)].filter((e) => e.textContent.trim()).map((e) => {
    const style = getComputedStyle(e), own = light(e instanceof SVGElement ? style.fill : style.color);
    return (Math.max(own, card) + .05) / (Math.min(own, card) + .05);
  });
}"""
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def combined(tmp_path_factory: Any) -> Path:
    text = FOLDERS.text_folder(tmp_path_factory.mktemp("text"), generations=3, n_words=6000)
    digits = FOLDERS.digits_folder(tmp_path_factory.mktemp("digits"), generations=3, replicates=2, n=100)
    return write_report(text, digits, out=tmp_path_factory.mktemp("combined"))


def test_several_runs_draw_on_one_page_and_the_contents_follow_the_reader(browser, combined):
    with Visit(browser, combined, viewport={"width": 1280, "height": 900}, offline=True, reduced_motion="reduce") as visit:
        drawn = visit.run("[...document.querySelectorAll('.chart')].map((box) => box.querySelectorAll('svg .mark-line path').length)")
        assert len(drawn) > 10
        # The classes are a stack of areas.
        assert sum(n == 0 for n in drawn) == 1
        shown = "[...document.querySelectorAll('nav .sections')].filter((row) => row.offsetHeight).map((row) => row.dataset.run)"
        here = "[...document.querySelectorAll('nav [aria-current]')].map((a) => a.textContent)"
        assert (visit.run(shown), visit.run(here)) == (["demo-text"], ["Overview"])
        visit.tab.click("nav .runs a[href='#demo-digits']")
        visit.tab.wait_for_selector("nav a[href='#demo-digits--summary'][aria-current]")
        assert visit.run(shown) == ["demo-digits"]
        # The page's own click: the driver's scrolls the page first, and the row of contents is that of the run in sight.
        visit.tab.evaluate("document.querySelector(\"nav a[href='#demo-digits--tails']\").click()")
        visit.tab.wait_for_selector("nav a[href='#demo-digits--tails'][aria-current]")
        assert visit.run(here) == ["demo-digits", "The tails"]
        assert visit.run("document.querySelector('nav').getBoundingClientRect().top") == 0
        assert visit.said == []
        assert [url for url in visit.asked if not url.startswith("data:")] == [combined.as_uri()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_several_runs_can_be_read_on_a_phone_and_on_either_background(browser, combined, scheme):
    with Visit(browser, combined, viewport={"width": 360, "height": 740}, color_scheme=scheme) as visit:
        assert visit.run(OVERFLOW) == 0
        for selector in (".card p", ".card li", ".card span", ".card h3 a", "figcaption p", ".legend li"):
            contrasts = visit.tab.evaluate(LUMINANCE, selector)
            assert contrasts, selector
            assert all(c >= 4.5 for c in contrasts), (selector, min(contrasts))
        assert visit.said == []


def test_every_chart_draws_in_silence_and_offline(browser, report):
    with Visit(browser, report, viewport={"width": 1280, "height": 900}, offline=True) as visit:
        boxes = visit.run("""() => [...document.querySelectorAll('.chart')].map((box) => ({
            marks: box.querySelectorAll('svg .mark-line path, svg .mark-area path, svg .mark-rect path, svg .mark-rule line').length,
            label: box.getAttribute('aria-label'), overflow: box.querySelector('svg').width.baseVal.value - box.clientWidth}))""")
        assert boxes
        named = {box["label"] for box in boxes} - {None, "", "Vega visualization"}
        assert all(box["marks"] > 0 and box["overflow"] <= 1 for box in boxes), boxes
        assert len(named) == len(boxes)
        assert visit.run("[...document.images].every((i) => i.naturalWidth > 0)")
        visit.tab.hover(".chart >> nth=-1")
        assert visit.said == []
        assert [url for url in visit.asked if not url.startswith("data:")] == [report.as_uri()]


def test_a_phone_needs_no_sideways_scrolling(browser, report):
    with Visit(browser, report, viewport={"width": 360, "height": 740}) as visit:
        assert visit.run(OVERFLOW) == 0
        wide = (
            "[...document.querySelectorAll('.chart svg')].filter((s) => s.width.baseVal.value > s.closest('.chart').clientWidth + 1).length"
        )
        assert visit.run(wide) == 0
        assert visit.said == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_on_either_background(browser, report, scheme):
    with Visit(browser, report, viewport={"width": 1280, "height": 900}, color_scheme=scheme) as visit:
        ground = visit.run("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)")
        assert (max(ground) < 60) == (scheme == "dark")
        for selector in (".chart svg text", "figcaption p", ".legend li", ".about", "h3"):
            contrasts = visit.tab.evaluate(LUMINANCE, selector)
            assert all(c >= 4.5 for c in contrasts), (selector, min(contrasts))


def test_charts_follow_the_colour_scheme_and_the_width(browser, report):
    with Visit(browser, report, viewport={"width": 1280, "height": 900}) as visit:
        colour = "getComputedStyle(document.querySelector('.chart svg .role-axis text')).fill"
        light = visit.run(colour)
        visit.tab.emulate_media(color_scheme="dark")
        assert visit.run(colour) != light
        before = visit.run("document.querySelector('.chart svg').width.baseVal.value")
        visit.tab.set_viewport_size({"width": 420, "height": 900})
        for _ in range(100):
            if visit.run("document.querySelector('.chart svg').width.baseVal.value") < before and visit.run(OVERFLOW) == 0:
                break
            visit.tab.wait_for_timeout(200)
        assert visit.run("document.querySelector('.chart svg').width.baseVal.value") < before
        assert visit.run(OVERFLOW) == 0
        assert visit.said == []


def test_the_pointer_finds_the_nearest_value(browser, tmp_path_factory):
    page = write_report(FOLDERS.zipf_folder(tmp_path_factory.mktemp("tip"), last=10))
    with Visit(browser, page, viewport={"width": 1280, "height": 900}) as visit:
        box = visit.tab.locator("#figure-support-share .chart")
        box.scroll_into_view_if_needed()
        area = box.bounding_box()
        visit.tab.mouse.move(area["x"] + area["width"] / 2, area["y"] + area["height"] / 2)
        visit.tab.wait_for_selector(".tip:not([hidden])")
        shown = visit.tab.inner_text(".tip")
        assert "generation" in shown
        assert "median" in shown
        assert visit.said == []


def test_a_page_whose_scripts_are_off_shows_the_pictures(browser, report):
    context = browser.new_context(java_script_enabled=False, viewport={"width": 1000, "height": 800})
    tab = context.new_page()
    tab.goto(report.as_uri())
    assert tab.locator("noscript svg").count() > 0
    context.close()


def test_a_hostile_name_runs_nothing(browser, tmp_path):
    evil = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    cell = FOLDERS.cell_of(0, evil, {}, {"kind": "replace"}, FOLDERS.data_of(evil, "text", 4), evil)
    import numpy as np

    FOLDERS.write_folder(tmp_path, evil, [cell], [FOLDERS.tall(0, evil, np.ones((2, 3)), np.arange(3))])
    with Visit(browser, write_report(tmp_path)) as visit:
        assert visit.tab.title().startswith("</script>")
        assert visit.said == []
        assert len(visit.asked) == len([u for u in visit.asked if u.startswith(("file:", "data:"))])
