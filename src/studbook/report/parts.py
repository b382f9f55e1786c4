"""One run's part of the page: summary, samples, charts, numbers and provenance."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from studbook.report.aggregate import table
from studbook.report.by_generation import generation_table, interval_note, tabled_metrics
from studbook.report.figure import Figure
from studbook.report.figures import LINE_NAMES
from studbook.report.markup import Content, Html, tag
from studbook.report.names import label_of
from studbook.report.numerals import count, number, slug
from studbook.report.run import Cell, Pictures, Run, table_of
from studbook.report.sentences import describe
from studbook.report.tables import config_text, facts, numbers_table, scrolling, verdict_table
from studbook.report.theme import css_colour
from studbook.report.training import failure_sentences, training_words

_SECTIONS = (
    ("samples", "What the models make", "The real data first, then what one replicate of each model generated."),
    ("tails", "The tails", "What is rare goes first. These measures move before averages do."),
    ("metrics", "Measures", "Every other measure, generation by generation."),
    ("dose", "Dose and response", "What the last generation keeps, against the number that was varied."),
    ("training", "Training", "How the fits went: loss, epochs, early stops and failures."),
)
_FILES = ("measurements.parquet", "theory.parquet", "fits.parquet", "manifest.json")


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """A figure that is ready for the page.

    Attributes:
        figure: The figure.
        spec: Spec and data, see ``studbook.report.specs.page_spec``.
        svg: The static picture, shown where scripts don't run.
    """

    figure: Figure
    spec: dict[str, Any]
    svg: str


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One run on a page.

    Attributes:
        run: The run.
        curves: What ``studbook.report.aggregate.aggregate`` made of it.
        pictures: The samples that were kept, by cell.
        drawn: Its figures.
        sheet: Its sheet of pictures or text.
        strip: A few pictures of each generation, the first thing to see of a run of pictures.
        prefix: What tells its anchors and charts from those of other runs; empty where the page holds one run.
        base: The address of the run folder, seen from the page.
    """

    run: Run
    curves: pl.DataFrame
    pictures: Mapping[Cell, Pictures]
    drawn: tuple[Drawn, ...]
    sheet: Html | None
    prefix: str = ""
    base: str = ".."
    strip: Html | None = None

    def anchor(self, name: str) -> str:
        """The anchor of a section or figure, unique on the page: a prefix never holds two dashes in a row before its end."""
        return f"{self.prefix}--{name}" if self.prefix else name

    def heading(self, title: str, depth: int = 0, **attributes: str) -> Html:
        """A heading; where the page holds several runs, all of a run's headings are a level down."""
        return tag(f"h{2 + depth + bool(self.prefix)}", title, **attributes)


@dataclass(frozen=True, slots=True)
class Section:
    """A section of a part.

    Attributes:
        anchor: Its anchor.
        title: Its name in the table of contents.
        html: The section.
    """

    anchor: str
    title: str
    html: Html


def sections(part: Part) -> list[Section]:
    """The sections of a run, in the order in which they are read; what has no content is left out."""
    made = [_summary(part)]
    for name, title, about in _SECTIONS:
        figures = [d for d in part.drawn if d.figure.section == name]
        sheet = {"samples": part.sheet, "training": training_words(part.run)}.get(name)
        if figures or sheet:
            made.append(_figures(part, name, title, about, sheet, figures))
    if metrics := tabled_metrics(part.curves):
        made.append(_by_generation(part, metrics))
    return [*made, _numbers(part), _provenance(part)]


def chips(run: Run) -> Html:
    """Status, size and day of a run."""
    status = str(run.manifest["status"])
    sizes = (count(len(run.cells), "cell"), count(run.n_replicates, "replicate"), count(run.last_generation, "generation"))
    entries = [tag("li", status, class_=f"status {'ok' if status == 'finished' else 'warn'}"), *[tag("li", size) for size in sizes]]
    if when := _day(run.manifest.get("finished") or run.manifest.get("started")):
        entries.append(tag("li", when))
    return tag("ul", *entries, class_="chips")


def _day(stamp: Any) -> str:
    try:
        moment = datetime.fromisoformat(str(stamp))
    except ValueError:
        return ""
    return f"{moment.day} {moment:%B %Y}"


def _pictures(part: Part) -> Html | None:
    """A few pictures of each generation: what happened, before any number."""
    more = tag("a", "More of each", href=f"#{part.anchor('samples')}")
    about = tag("p", "Real pictures, then what one replicate of each generation made. ", more, class_="note")
    return tag("div", part.strip, about, class_="pictures") if part.strip else None


def _by_generation(part: Part, metrics: tuple[str, ...]) -> Section:
    """The measures that matter most in figures."""
    anchor = part.anchor("by-generation")
    tables = [_tabled(part, metric) for metric in metrics]
    about = tag("p", interval_note(part.run), class_="intro")
    content = tag("section", part.heading("By generation"), about, tag("div", *tables, class_="figures"), id=anchor)
    return Section(anchor, "By generation", content)


def _tabled(part: Part, metric: str) -> Html:
    label = label_of(metric)
    about = tag("p", label.about, class_="about") if label.about else None
    return tag("div", part.heading(label.title, 1), about, generation_table(part.run, part.curves, metric), class_="tabled")


def _notice(part: Part) -> Html | None:
    """What failed, where nobody can miss it."""
    failed = failure_sentences(part.run)
    more = tag("a", "All about the training", href=f"#{part.anchor('training')}")
    return tag("div", *[tag("p", s) for s in failed], tag("p", more), class_="notice", role="note") if failed else None


def _summary(part: Part) -> Section:
    told = describe(part.run, part.curves)
    sentences = [tag("p", *(emphasised(s) if i == 1 else [s]), class_="lede" if i == 1 else None) for i, s in enumerate(told)]
    title, anchor = part.heading("Summary", class_="quiet"), part.anchor("summary")
    prose = tag("div", *sentences, class_="prose")
    content = tag("section", title, _pictures(part), _notice(part), prose, verdict_table(part.run, part.curves), id=anchor)
    return Section(anchor, "Summary", content)


def emphasised(sentence: str) -> list[Content]:
    """A sentence whose numbers stand out, but for those in brackets."""
    pieces = re.split(r"(\([^)]*\)|“[^”]*”|(?<!\w)[<>]?\u00a0?−?\d+(?:[.,]\d+)*(?:\u00a0(?:%|×\u00a010[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+))?(?!\w))", sentence)
    return [tag("b", piece) if i % 2 and piece[0] not in "(“" else piece for i, piece in enumerate(pieces)]


def _figures(part: Part, name: str, title: str, about: str, sheet: Html | None, drawn: list[Drawn]) -> Section:
    anchor = part.anchor(name)
    figures = tag("div", *[_figure(part, d) for d in drawn], class_="figures") if drawn else None
    content = tag("section", part.heading(title), tag("p", about, class_="intro"), sheet, figures, id=anchor)
    return Section(anchor, title, content)


def _figure(part: Part, drawn: Drawn) -> Html:
    figure, stem = drawn.figure, f"charts/{part.anchor(drawn.figure.name)}"
    downloads = tag("span", tag("a", "SVG", href=f"{stem}.svg"), " ", tag("a", "PNG", href=f"{stem}.png"), class_="downloads")
    notes = [tag("p", note) for note in figure.notes]
    return tag(
        "figure",
        tag("div", part.heading(figure.title, 1), downloads, class_="figure-head"),
        tag("p", figure.about, class_="about") if figure.about else None,
        legends(figure),
        tag("div", class_="chart", data_spec=spec_id(part, drawn), role="img", aria_label=_description(part, figure)),
        tag("noscript", Html(drawn.svg)),
        tag("figcaption", *notes) if notes else None,
        id=part.anchor(f"figure-{figure.name}"),
        class_="wide" if figure.wide else None,
    )


def spec_id(part: Part, drawn: Drawn) -> str:
    """The id of a figure's data block."""
    return part.anchor(f"spec-{drawn.figure.name}")


def _description(part: Part, figure: Figure) -> str:
    return f"{part.run.name}: {figure.description}" if part.prefix else figure.description


def legends(figure: Figure) -> Html | None:
    """What the colours and the kinds of line mean."""
    entries = [tag("li", Html(f'<i class="swatch" style="background:{css_colour(colour)}"></i>'), label) for label, colour in figure.legend]
    key = [tag("li", tag("i", class_=f"line {line}"), LINE_NAMES[line].partition(": ")[2]) for line in figure.lines]
    lists = [tag("ul", *entries, class_="legend") if entries else None, tag("ul", *key, class_="legend key") if key else None]
    return tag("div", *lists, class_="legends") if entries or key else None


def _numbers(part: Part) -> Section:
    content = tag("details", tag("summary", "Every cell and metric at its last generation"), numbers_table(table(part.run)))
    anchor = part.anchor("numbers")
    return Section(anchor, "All numbers", tag("section", part.heading("All numbers"), content, id=anchor))


def _provenance(part: Part) -> Section:
    run, config = part.run, part.run.noted("config")
    file = f"{slug(run.name)}.toml"
    sources = [s for s in run.theory.select("source").unique(maintain_order=True).to_series().drop_nulls().to_list() if s]
    content = tag(
        "section",
        part.heading("How this was made"),
        tag("p", "Data: ", *_links(part), class_="intro"),
        facts(_facts(run)),
        part.heading("Run it again", 1),
        tag("p", "Save this as ", tag("code", file), " and run ", tag("code", f"studbook study run {file}"), "."),
        _code(config_text(config.get("passed"))),
        tag("details", tag("summary", "The config with every default resolved"), _code(config_text(config.get("resolved")))),
        [part.heading("Sources of the theory", 1), tag("ul", *[tag("li", s) for s in sources], class_="sources")] if sources else None,
        id=part.anchor("provenance"),
        class_="provenance",
    )
    return Section(part.anchor("provenance"), "How this was made", content)


def _links(part: Part) -> list[Content]:
    names = [name for name in _FILES if (part.run.folder / name).is_file()]
    links = [tag("a", name, href=f"{part.base}/{name}") for name in names]
    return [piece for i, link in enumerate(links) for piece in ((" · ", link) if i else (link,))]


def _code(text: str) -> Html:
    button = tag("button", "Copy", type="button", class_="copy")
    return tag("div", button, scrolling(tag("pre", tag("code", text)), "Config"), class_="code")


def _facts(run: Run) -> list[tuple[str, Content]]:
    manifest = run.manifest
    git, versions = run.noted("git"), run.noted("versions")
    revision = f"{str(git.get('revision', ''))[:12]}{' with local changes' if git.get('dirty') else ''}" if git else ""
    seconds, cpu = manifest.get("seconds"), manifest.get("cpu_seconds")
    took = f"{number(seconds)} s" if isinstance(seconds, int | float) else ""
    took += f" ({number(cpu)} s of CPU)" if isinstance(cpu, int | float) else ""
    data = {str(table_of(c.about, "data").get("digest", "")): table_of(c.about, "data") for c in run.cells}
    described = [tag("span", f"{', '.join(_described(d))} ", tag("code", digest[:16])) for digest, d in list(data.items())[:6] if digest]
    return [
        ("Data", described),
        ("Seed", str(manifest.get("seed", ""))),
        ("Status", f"{manifest['status']}"),
        ("Started", str(manifest.get("started") or "")),
        ("Finished", str(manifest.get("finished") or "")),
        ("Took", took),
        ("Revision", revision),
        ("Code digest", tag("code", str(manifest.get("code_digest", ""))[:16]) if manifest.get("code_digest") else ""),
        ("Versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]


def _described(data: Mapping[str, Any]) -> list[str]:
    n = data.get("n_records")
    size = count(n, "record") if isinstance(n, int) else ""
    return [part for part in (str(data.get("name", "")), size, str(data.get("origin") or "")) if part]
