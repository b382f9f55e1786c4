"""A page on one subject: a head, sections one after the other, figures and tables. One HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from studbook.report.figure import Figure
from studbook.report.markup import Content, Html, json_script, tag
from studbook.report.page import asset, page_footer, page_head, vega_bundle
from studbook.report.parts import legends
from studbook.report.specs import page_spec, static_spec
from studbook.report.tables import scrolling
from studbook.report.theme import css_colour

Chapter: TypeAlias = tuple[str, str, Content]
"""Anchor, title and content of a section."""


def render_one_page(command: str, title: str, chips: Sequence[str], chapters: Sequence[Chapter], figures: Sequence[Figure]) -> str:
    """The page as HTML text.

    Args:
        command: What makes such a page, such as ``studbook training diagnose``.
        title: Its heading.
        chips: What it is about in a few short facts.
        chapters: Its sections.
        figures: Those that the sections draw; see ``drawn``.
    """
    sections = [tag("section", tag("h2", name), content, id=anchor) for anchor, name, content in chapters]
    links = [tag("a", name, href=f"#{anchor}") for anchor, name, _ in chapters]
    facts = tag("ul", *[tag("li", each) for each in chips], class_="chips")
    masthead = tag("div", tag("p", command, class_="eyebrow"), tag("h1", title), facts, class_="masthead")
    specs = [json_script(f"spec-{figure.name}", page_spec(static_spec(figure))) for figure in figures]
    scripts = [*specs, *[Html(f"<script>{text}</script>") for text in (vega_bundle(), asset("report.js"))]]
    nav = tag("nav", tag("div", *links), aria_label="Contents")
    body = tag("body", tag("header", masthead), nav, tag("main", *sections), page_footer(), *scripts)
    return f"<!doctype html>\n{tag('html', page_head(title), body, lang='en').text}\n"


def picture(figure: Figure) -> str:
    """The figure as SVG, with title, legend and data."""
    import vl_convert

    return str(vl_convert.vegalite_to_svg(static_spec(figure), allowed_base_urls=[]))


def drawn(figure: Figure, *, headed: bool = False) -> Html:
    """The figure in the page; ``headed`` where its section has another title."""
    return tag(
        "figure",
        tag("h3", figure.title) if headed else None,
        tag("p", figure.about, class_="about"),
        legends(figure),
        tag("div", class_="chart", data_spec=f"spec-{figure.name}", role="img", aria_label=figure.description),
        tag("noscript", Html(picture(figure))),
        tag("figcaption", *[tag("p", note) for note in figure.notes]) if figure.notes else None,
        id=f"figure-{figure.name}",
        class_="wide",
    )


def swatch(colour: str) -> Html:
    """A small square of a colour."""
    return Html(f'<i class="swatch" style="background:{css_colour(colour)}"></i>')


def table(head: Sequence[Content], rows: Sequence[Sequence[Content]], label: str) -> Html:
    """A table whose first column names its rows."""
    top = tag("tr", *[tag("th", cell, scope="col") for cell in head])
    body = [tag("tr", tag("th", row[0], scope="row"), *[tag("td", cell) for cell in row[1:]]) for row in rows]
    return scrolling(tag("table", tag("thead", top), tag("tbody", *body), style="font-size:13px"), label)
