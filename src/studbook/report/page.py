"""The page: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Sequence
from importlib.resources import files

from studbook.report.markup import Html, json_script, tag
from studbook.report.numerals import listed
from studbook.report.overview import TITLE, overview
from studbook.report.parts import Part, Section, chips, sections, spec_id


def render_page(parts: Sequence[Part]) -> str:
    """The report as HTML text: a run by itself, or an overview and a part for each of several."""
    named = [(part, sections(part)) for part in parts]
    if len(named) == 1:
        masthead, contents, main = _of_one(*named[0])
    else:
        masthead, contents, main = _of_several(named)
    header = tag("header", tag("div", *masthead, class_="masthead"))
    body = tag("body", header, tag("nav", *contents, aria_label="Contents"), tag("main", *main), page_footer(), *_scripts(parts))
    return f"<!doctype html>\n{tag('html', page_head(listed([p.run.name for p in parts])), body, lang='en').text}\n"


def _of_one(part: Part, made: list[Section]) -> tuple[list[Html], list[Html], list[Html]]:
    masthead = [tag("p", "studbook study", class_="eyebrow"), tag("h1", part.run.name), chips(part.run)]
    return masthead, [tag("div", *_contents(made))], [s.html for s in made]


def _of_several(named: list[tuple[Part, list[Section]]]) -> tuple[list[Html], list[Html], list[Html]]:
    first = overview([part for part, _ in named])
    masthead = [tag("p", f"studbook: {listed([p.run.name for p, _ in named])}", class_="eyebrow"), tag("h1", TITLE), first.about]
    runs = [tag("a", "Overview", href=f"#{first.anchor}"), *[tag("a", p.run.name, href=f"#{p.prefix}") for p, _ in named]]
    contents = [tag("div", *runs, class_="runs")]
    contents += [tag("div", *_contents(made), class_="sections", data_run=part.prefix) for part, made in named]
    return masthead, contents, [first.html, *[_run(part, made) for part, made in named]]


def _contents(made: list[Section]) -> list[Html]:
    return [tag("a", section.title, href=f"#{section.anchor}") for section in made]


def _run(part: Part, made: list[Section]) -> Html:
    head = tag("header", tag("h2", part.run.name), chips(part.run))
    return tag("article", head, *[s.html for s in made], id=part.prefix, class_="run")


def asset(name: str) -> str:
    """A text file of the package."""
    return files("studbook.report").joinpath("assets", name).read_text(encoding="utf-8")


@functools.cache
def vega_bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script; the versions are those that draw the static pictures."""
    import vl_convert

    bundle = str(vl_convert.javascript_bundle("window.vegaEmbed=vegaEmbed;"))
    return bundle.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def page_head(title: str) -> Html:
    """The head of a page: it lets the page's own scripts run, and nothing be fetched."""
    # The hashes let the page's own two scripts run and no other; Vega's expressions are interpreted, so that no eval is needed.
    hashes = " ".join(f"'sha256-{_sha256(script)}'" for script in (vega_bundle(), asset("report.js")))
    policy = (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; connect-src 'none'; "
        "form-action 'none'; base-uri 'none'"
    )
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="generator", content="studbook"),
        tag("title", f"{title} – studbook report"),
        Html('<link rel="icon" href="data:,">'),
        Html(f"<style>{asset('report.css')}</style>"),
        Html("<noscript><style>.chart { display: none } nav:has(.sections) { position: static }</style></noscript>"),
    )


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _scripts(parts: Sequence[Part]) -> list[Html]:
    data = [json_script(spec_id(part, d), d.spec) for part in parts for d in part.drawn]
    return [*data, Html(f"<script>{vega_bundle()}</script>"), Html(f"<script>{asset('report.js')}</script>")]


def page_footer() -> Html:
    """The foot of a page."""
    return tag("footer", tag("p", "Made by studbook. This file works offline and asks nothing of the network."))
