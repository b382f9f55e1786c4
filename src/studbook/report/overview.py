"""The top of a page with several runs: a card for each, which says and shows what happened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from studbook.report.markup import Html, tag
from studbook.report.names import label_of
from studbook.report.numerals import count, number, percent
from studbook.report.parts import Part, emphasised
from studbook.report.sentences import SPELT_OUT, headline, headline_metrics, models_and_data
from studbook.report.sheets import glimpse
from studbook.report.tables import swatch

TITLE = "Models trained on their own output"
_ABOUT = "Each first model learned real data. Every model after it learned what the one before had made: alone, or with real data mixed in."
_WIDTH, _HEIGHT = 300, 100


@dataclass(frozen=True, slots=True)
class Overview:
    """The first section of a page with several runs.

    Attributes:
        anchor: Its anchor.
        about: What all the runs have in common, a paragraph.
        html: The section.
    """

    anchor: str
    about: Html
    html: Html


def overview(parts: Sequence[Part]) -> Overview:
    """The overview of several runs."""
    # No run has this anchor: the anchors of a run end in the name of a section or a figure.
    anchor = "page--overview"
    cards = tag("div", *[_card(part, len(parts)) for part in parts], class_="cards")
    return Overview(anchor, tag("p", _ABOUT, class_="tagline"), tag("section", tag("h2", "Overview", class_="quiet"), cards, id=anchor))


def _card(part: Part, n_runs: int) -> Html:
    metric = headline_metrics(part.curves["metric"].unique(maintain_order=True).to_list(), 1)[0]
    model, data = models_and_data(part.run)
    said = [
        _failed(part),
        tag("p", *emphasised(headline(part.run, part.curves, metric)), class_="lede"),
        _curves(part, metric) if len(part.run.cells) <= SPELT_OUT else None,
    ]
    shown = glimpse(part.pictures, n_runs=n_runs)
    return tag(
        "article",
        tag("h3", tag("a", part.run.name, href=f"#{part.prefix}")),
        tag("p", f"{model[:1].upper()}{model[1:]} of {data}", class_="note"),
        # Pictures say it before words can; text comes after what is said of it.
        *([shown, *said] if part.strip else [*said, shown]),
        class_="card",
    )


def _failed(part: Part) -> Html | None:
    n = part.run.n_failures
    link = tag("a", count(n, "fit"), href=f"#{part.anchor('training')}")
    return tag("p", link, " failed: the model is then the last one with finite numbers.", class_="notice") if n else None


def _curves(part: Part, metric: str) -> Html | None:
    """The medians of all cells in one small chart that needs no script, with their last values beside it, the largest first."""
    rows = part.curves.filter((pl.col("metric") == metric) & pl.col("median").is_finite()).sort("generation")
    if rows["generation"].n_unique() < 2:
        return None
    share = label_of(metric).share
    low, high = min(0.0, *rows["median"]), max(1.0 if share else 0.0, *rows["median"])
    first, last = rows["generation"][0], rows["generation"][-1]
    lines, ends = list[Html](), list[tuple[float, Html]]()
    for position, cell in enumerate(part.run.cells):
        own, colour = rows.filter(pl.col("cell") == cell.index), swatch(position, len(part.run.cells))
        if len(own):
            x = (own["generation"] - first) / (last - first) * _WIDTH
            y = (high - own["median"]) / ((high - low) or 1.0) * _HEIGHT
            lines.append(_line(x, y, colour))
            value = _value(own["median"][-1], share=share)
            ends.append((own["median"][-1], tag("li", tag("i", class_=f"swatch {colour}"), tag("span", cell.label), tag("b", value))))
    box = (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" aria-hidden="true">{"".join(line.text for line in lines)}</svg>'
    )
    scale = [tag("span", _value(v, share=share)) for v in (high, low)]
    plot = tag("div", scale[0], Html(box), scale[1], tag("p", f"generation {first:,} to {last:,}"), class_="plot")
    ranked = tag("ul", *[entry for _, entry in sorted(ends, key=lambda end: end[0], reverse=True)])
    return tag("div", tag("p", label_of(metric).title, class_="note"), tag("div", plot, ranked, class_="plotted"), class_="glance")


def _line(x: pl.Series, y: pl.Series, colour: str) -> Html:
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return Html(f'<polyline class="{colour}" points="{points}"/>')


def _value(value: float, *, share: bool) -> str:
    return percent(value) if share else number(value)
