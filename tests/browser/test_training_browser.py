"""The pages of training in a real browser: drawn, silent, offline, readable on a phone and in the dark."""

from __future__ import annotations

import runpy
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from studbook.protocols import Gossip, Independent, InProcess, Local, Patience, Plan, Synchronised, TrainingSpec, ring, train
from studbook.protocols.cluster import Lost
from studbook.protocols.contest_digits import Plan as ContestPlan
from studbook.protocols.contest_digits import contest_rows
from studbook.protocols.select_study import SelectRow, run_select_study, study_of
from studbook.protocols.writing import write_run
from studbook.report.training_attacks import write_attacks_report
from studbook.report.training_page import write_training_report
from studbook.report.training_select import write_select_report

pytestmark = pytest.mark.browser

PAGES = SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "test_report_browser.py")))
SPEC = TrainingSpec("digits-softmax", nodes=4, batch=16)


class Losing(InProcess):
    """Nodes in this process, one of which is silent between two steps."""

    def ask(self, requests, *, timeout_s):
        found = dict(super().ask(requests, timeout_s=timeout_s))
        if any(10 <= message.fields.get("step", 0) < 20 for message in requests.values()) and 2 in found:
            found[2] = Lost("slow", "told so <b>")
        return found


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
def pages(tmp_path_factory: Any) -> dict[str, Path]:
    out, plan = tmp_path_factory.mktemp("pages"), Plan(40, evaluate_every=10)
    protocols = {"alone": Independent(), "local": Local(10), "together": Synchronised()}
    for name, protocol in protocols.items():
        write_run(train(InProcess(SPEC.build()), protocol, plan), out / name)
    lost = train(Losing(SPEC.build()), Gossip(ring(4)), plan, patience=Patience(on_loss="leave_out"))
    write_run(lost, out / "lost")
    experiment = {"name": "a <b> study", "objective": "mlp", "group": "neurons", "m": [2, 8], "clients": 10, "settings": {"hidden": 8}}
    experiment |= {"plan": {"rounds": 2, "clients": 3, "rate": 0.1}}
    study = study_of({"study": {"name": "small", "seeds": 2}, "experiment": [experiment]})
    rows = run_select_study(study)
    # What was published is of filters of 64: rows of another name and size, with and without marks beside each other.
    filters = replace(study.experiments[0], name="filters", objective="cnn", group="filters", m=(16, 64))
    study, rows = replace(study, experiments=(*study.experiments, filters)), (*rows, *(replace(row, **_as_filters(row)) for row in rows))
    contest = ContestPlan(("none", "backdoor", "sign flip"), ("mean", "coordinate median", "replay"), seeds=2, steps=25)
    return {
        "run": write_training_report([out / "lost"]),
        "comparison": write_training_report([out / name for name in (*protocols, "lost")], out / "all.html"),
        "select": write_select_report(study, rows, [("Code", "none")], out / "select"),
        "attacks": write_attacks_report(contest, contest_rows(contest), [("Code", "none")], out / "attacks"),
    }


def _as_filters(row: SelectRow) -> dict[str, Any]:
    return {"experiment": "filters", "m": 8 * row.m, "n": 64}


CHARTS = {"run": 4, "comparison": 4, "select": 2, "attacks": 1}
MARKS = "svg .mark-line path, svg .mark-symbol path, svg .mark-rule line"


@pytest.mark.parametrize("kind", CHARTS)
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_pages_draw_in_silence_and_fit(browser: Any, pages: dict[str, Path], kind: str, width: int, scheme: str) -> None:
    with PAGES.Visit(browser, pages[kind], viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True) as visit:
        assert visit.said == []
        assert [url for url in visit.asked if not url.startswith(("file:", "data:"))] == []
        assert visit.run(PAGES.OVERFLOW) == 0
        boxes = visit.run(f"""[...document.querySelectorAll('.chart[data-drawn=yes]')].map((box) => ({{
            marks: box.querySelectorAll('{MARKS}').length, overflow: box.querySelector('svg').width.baseVal.value - box.clientWidth}}))""")
        assert len(boxes) == CHARTS[kind]
        assert all(box["marks"] > 0 and box["overflow"] <= 1 for box in boxes), boxes


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", CHARTS)
def test_pages_can_be_read_on_either_background(browser: Any, pages: dict[str, Path], kind: str, scheme: str) -> None:
    with PAGES.Visit(browser, pages[kind], viewport={"width": 1280, "height": 900}, color_scheme=scheme) as visit:
        for selector in (".about", ".legend li", ".chart svg text", "figcaption p"):
            contrasts = visit.tab.evaluate(PAGES.LUMINANCE, selector)
            assert all(c >= 4.5 for c in contrasts), (selector, min(contrasts))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_shaded_cells_can_be_read(browser: Any, pages: dict[str, Path], scheme: str) -> None:
    """The text's contrast with the shade that the browser in fact paints below it."""
    with PAGES.Visit(browser, pages["attacks"], viewport={"width": 1280, "height": 900}, color_scheme=scheme) as visit:
        shades = visit.run("""() => {
          const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
          const paint = (...colours) => {
            canvas.clearRect(0, 0, 1, 1);
            for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
            return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
          };
          const light = (rgb) => rgb.map((c) => c / 255).map((c) => c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
            .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
          const page = getComputedStyle(document.body).backgroundColor;
          return [...document.querySelectorAll('.shaded td, .shaded td small')].map((e) => {
            const below = light(paint(page, getComputedStyle(e.closest('td')).backgroundColor));
            const own = light(paint(getComputedStyle(e).color));
            return {below, contrast: (Math.max(own, below) + .05) / (Math.min(own, below) + .05)};
          });
        }""")
        assert len({round(each["below"], 3) for each in shades}) > 2
        assert min(each["contrast"] for each in shades) >= 4.5


def test_names_are_text_and_the_pointer_finds_values(browser: Any, pages: dict[str, Path]) -> None:
    with PAGES.Visit(browser, pages["select"], viewport={"width": 1280, "height": 900}) as visit:
        assert "a <b> study" in visit.run("document.querySelector('#summary').innerText")
    with PAGES.Visit(browser, pages["run"], viewport={"width": 1280, "height": 900}) as visit:
        assert "told so <b>" in visit.run("document.querySelector('#events').innerText")
        box = visit.tab.locator("#figure-spread .chart")
        box.scroll_into_view_if_needed()
        area = box.bounding_box()
        for x in (0.3, 0.4, 0.5, 0.6):
            visit.tab.mouse.move(area["x"] + area["width"] * x, area["y"] + area["height"] * 0.5)
            visit.tab.wait_for_timeout(60)
            if visit.tab.locator(".tip:not([hidden])").count():
                break
        shown = visit.tab.inner_text(".tip")
        assert "step" in shown
        assert "theory" in shown
        assert visit.said == []
