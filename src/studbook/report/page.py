"""The page: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from typing import Any

import polars as pl

from studbook.report.aggregate import table
from studbook.report.figures import LINE_NAMES, Figure
from studbook.report.markup import Content, Html, json_script, tag
from studbook.report.numerals import count, number, slug
from studbook.report.run import Run, table_of
from studbook.report.sentences import describe
from studbook.report.tables import config_text, facts, numbers_table, scrolling, verdict_table
from studbook.report.theme import css_colour

_SECTIONS = (
    ("samples", "What the models make", "The real data first, then what one replicate of each model generated."),
    ("tails", "The tails", "What is rare goes first. These measures move before averages do."),
    ("metrics", "Measures", "Every other measure, generation by generation."),
    ("dose", "Dose and response", "What the last generation keeps, against the number that was varied."),
)


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """A figure that is ready for the page.

    Attributes:
        figure: The figure.
        spec: Spec and data, see :func:`studbook.report.specs.page_spec`.
        svg: The static picture, shown where scripts don't run.
    """

    figure: Figure
    spec: dict[str, Any]
    svg: str


def render_page(run: Run, curves: pl.DataFrame, drawn: list[Drawn], sheet: Html | None) -> str:
    """The report as HTML text."""
    sections = [_summary_section(run, curves)]
    for name, title, about in _SECTIONS:
        figures = [d for d in drawn if d.figure.section == name]
        if figures or (name == "samples" and sheet):
            sections.append(_section(name, title, about, sheet if name == "samples" else None, figures))
    sections += [_numbers_section(run), _provenance_section(run)]
    body = tag("body", _header(run, sections), tag("main", *[s.html for s in sections]), _footer(), *_scripts(drawn))
    return f"<!doctype html>\n{tag('html', _head(run), body, lang='en').text}\n"


@dataclass(frozen=True, slots=True)
class _Section:
    anchor: str
    title: str
    html: Html


def asset(name: str) -> str:
    """A text file of the package."""
    return files("studbook.report").joinpath("assets", name).read_text(encoding="utf-8")


@functools.cache
def vega_bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script; the versions are those that draw the static pictures."""
    import vl_convert

    bundle = str(vl_convert.javascript_bundle("window.vegaEmbed=vegaEmbed;"))
    return bundle.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _head(run: Run) -> Html:
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
        tag("title", f"{run.name} – studbook report"),
        Html('<link rel="icon" href="data:,">'),
        Html(f"<style>{asset('report.css')}</style>"),
        Html("<noscript><style>.chart { display: none }</style></noscript>"),
    )


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _scripts(drawn: list[Drawn]) -> list[Html]:
    data = [json_script(f"spec-{d.figure.name}", d.spec) for d in drawn]
    return [*data, Html(f"<script>{vega_bundle()}</script>"), Html(f"<script>{asset('report.js')}</script>")]


def _header(run: Run, sections: list[_Section]) -> Html:
    manifest, facts_line = (
        run.manifest,
        [count(len(run.cells), "cell"), count(run.n_replicates, "replicate"), count(run.last_generation, "generation")],
    )
    status = str(manifest["status"])
    chips = [tag("li", status, class_=f"status {'ok' if status == 'finished' else 'warn'}"), *[tag("li", fact) for fact in facts_line]]
    if when := _day(manifest.get("finished") or manifest.get("started")):
        chips.append(tag("li", when))
    links: list[Content] = [tag("a", s.title, href=f"#{s.anchor}") for s in sections]
    return tag(
        "header",
        tag("div", tag("p", "studbook study", class_="eyebrow"), tag("h1", run.name), tag("ul", *chips, class_="chips"), class_="masthead"),
        tag("nav", tag("div", *links), aria_label="Contents"),
    )


def _day(stamp: Any) -> str:
    try:
        moment = datetime.fromisoformat(str(stamp))
    except ValueError:
        return ""
    return f"{moment.day} {moment:%B %Y}"


def _summary_section(run: Run, curves: pl.DataFrame) -> _Section:
    told = describe(run, curves)
    sentences = [tag("p", *(_with_emphasis(s) if i == 1 else [s]), class_="lede" if i == 1 else None) for i, s in enumerate(told)]
    content = tag(
        "section", tag("h2", "Summary", class_="quiet"), tag("div", *sentences, class_="prose"), verdict_table(run, curves), id="summary"
    )
    return _Section("summary", "Summary", content)


def _with_emphasis(sentence: str) -> list[Content]:
    """A sentence whose numbers stand out, but for those in brackets."""
    parts = re.split(r"(\([^)]*\)|“[^”]*”|(?<!\w)[<>]?\u00a0?−?\d+(?:[.,]\d+)*(?:\u00a0(?:%|×\u00a010[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+))?(?!\w))", sentence)
    return [tag("b", part) if i % 2 and part[0] not in "(“" else part for i, part in enumerate(parts)]


def _section(name: str, title: str, about: str, sheet: Html | None, drawn: list[Drawn]) -> _Section:
    intro = tag("p", about, class_="intro") if about else None
    figures = tag("div", *[_figure(d) for d in drawn], class_="figures") if drawn else None
    return _Section(name, title, tag("section", tag("h2", title), intro, sheet, figures, id=name))


def _figure(drawn: Drawn) -> Html:
    figure = drawn.figure
    stem = f"charts/{figure.name}"
    downloads = tag("span", tag("a", "SVG", href=f"{stem}.svg"), " ", tag("a", "PNG", href=f"{stem}.png"), class_="downloads")
    notes = [tag("p", note) for note in figure.notes]
    return tag(
        "figure",
        tag("div", tag("h3", figure.title), downloads, class_="figure-head"),
        tag("p", figure.about, class_="about") if figure.about else None,
        _legend(figure),
        tag("div", class_="chart", data_spec=f"spec-{figure.name}", role="img", aria_label=figure.description),
        tag("noscript", Html(drawn.svg)),
        tag("figcaption", *notes) if notes else None,
        id=f"figure-{figure.name}",
        class_="wide" if figure.wide else None,
    )


def _legend(figure: Figure) -> Html | None:
    entries = [tag("li", Html(f'<i class="swatch" style="background:{css_colour(colour)}"></i>'), label) for label, colour in figure.legend]
    key = [tag("li", tag("i", class_=f"line {line}"), LINE_NAMES[line].partition(": ")[2]) for line in figure.lines]
    lists = [tag("ul", *entries, class_="legend") if entries else None, tag("ul", *key, class_="legend key") if key else None]
    return tag("div", *lists, class_="legends") if entries or key else None


def _numbers_section(run: Run) -> _Section:
    content = tag("details", tag("summary", "Every cell and metric at its last generation"), numbers_table(table(run)))
    return _Section("numbers", "All numbers", tag("section", tag("h2", "All numbers"), content, id="numbers"))


def _provenance_section(run: Run) -> _Section:
    config = run.noted("config")
    file = f"{slug(run.name)}.toml"
    command = f"studbook study run {file}"
    theory_link = tag("a", "theory.parquet", href="../theory.parquet") if (run.folder / "theory.parquet").is_file() else None
    links: list[Content] = [
        tag("a", "measurements.parquet", href="../measurements.parquet"),
        " · ",
        theory_link,
        " · " if theory_link else None,
    ]
    links.append(tag("a", "manifest.json", href="../manifest.json"))
    sources = run.theory.select("source").unique(maintain_order=True).to_series().drop_nulls().to_list()
    content = tag(
        "section",
        tag("h2", "How this was made"),
        tag("p", "Data: ", *links, class_="intro"),
        facts(_facts(run)),
        tag("h3", "Run it again"),
        tag("p", "Save this as ", tag("code", file), " and run ", tag("code", command), "."),
        _code(config_text(config.get("passed"))),
        tag("details", tag("summary", "The config with every default resolved"), _code(config_text(config.get("resolved")))),
        [tag("h3", "Sources of the theory"), tag("ul", *[tag("li", s) for s in sources if s], class_="sources")] if any(sources) else None,
        id="provenance",
    )
    return _Section("provenance", "How this was made", content)


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


def _footer() -> Html:
    return tag("footer", tag("p", "Made by studbook. This file works offline and asks nothing of the network."))
