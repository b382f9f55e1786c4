"""The page of the billion comparisons: rates beside the source's, distances, error curves, and the closest wrong pairs as pictures."""

from __future__ import annotations

import math
from pathlib import Path

from studbook.arrays import AnyArray
from studbook.files import write_file
from studbook.report.billion_figures import billion_figures
from studbook.report.markup import Content, Html, tag
from studbook.report.numerals import count, number
from studbook.report.one_page import drawn, render_one_page, table
from studbook.report.parts import emphasised
from studbook.report.png import data_uri, encode_png, pack_sprite
from studbook.report.tables import facts
from studbook.verification.billion import BillionResult, SchemeResult, WrongPair, source_votes
from studbook.verification.billion_errors import Bound

PAGE = "report.html"
TITLE = "The billion comparisons"
SOURCE = 'Kim, Isozaki, Sirkin, Robson, "Generative Artificial Intelligence Reproducibility and Consensus", arXiv 2307.01898'
_NBSP = "\u00a0"
_SPRITE = 132
_APART = "margin-top:26px"


def write_billion_report(result: BillionResult, pictures: AnyArray, out: Path) -> Path:
    """Write ``report.html``, which needs nothing else.

    Args:
        result: What was found.
        pictures: Those of ``BillionResult.shown``, in that order.
        out: Folder.

    Returns:
        The path of the page.

    Raises:
        StorageError: The disk refused; nothing is half-written.
    """
    page = out / PAGE
    write_file(page, render_billion(result, pictures).encode())
    return page


def render_billion(result: BillionResult, pictures: AnyArray) -> str:
    """The page as HTML text; arguments as of ``write_billion_report``."""
    figures = billion_figures(result)
    sections = (
        ("summary", "Summary", _summary(result)),
        ("distances", "Distances", tag("div", drawn(figures[0]), _environments(result))),
        ("errors", "Error rates", drawn(figures[1])),
        ("cheats", "Cheats", _cheats(result)),
        ("votes", "Majorities", _votes(result)),
        ("closest", "The closest wrong pairs", _closest(result, pictures)),
        ("differences", "Where this differs from the source", _differences(result, pictures)),
        ("provenance", "How this was made", facts(_facts(result))),
    )
    return render_one_page("studbook claim billion", TITLE, _chips(result), sections, figures)


def rate_text(rate: float) -> str:
    r"""A rate as per cent, down to a ten-thousandth of one; smaller ones as a power of ten.

    Examples:
        >>> [rate_text(x) for x in (0.0, 0.000183, 0.0312, 0.5, 2.1e-7)]
        ['0', '0.0183\xa0%', '3.12\xa0%', '50\xa0%', '2.1\xa0×\xa010⁻⁷']
    """
    if rate == 0.0:
        return "0"
    return f"{number(100.0 * rate)}{_NBSP}%" if rate >= 1e-6 else number(rate)


def detection_text(rate: float) -> str:
    r"""A rate near 1 as per cent, with three digits of what is missing, rounded down.

    Examples:
        >>> [detection_text(x) for x in (0.98073, 0.9989, 0.99993, 0.5, 0.9999999, 1.0 - 1e-13)]
        ['98.07\xa0%', '99.89\xa0%', '99.993\xa0%', '50\xa0%', '99.99999\xa0%', '>\xa099.9999999\xa0%']
    """
    missing = 1.0 - rate
    if missing < 1e-9:
        return f">{_NBSP}99.9999999{_NBSP}%"
    digits = math.ceil(-math.log10(missing) - 1e-9)
    text = f"{math.floor(100.0 * rate * 10.0**digits + 1e-6) / 10.0**digits:.{digits}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text}{_NBSP}%"


def best_scheme(result: BillionResult) -> SchemeResult:
    """The scheme with the smallest bounds on collisions; of equals the one that accepts the fewest cheats."""
    return min(
        result.schemes,
        key=lambda s: (s.chosen.same_class.upper, s.chosen.other_class.upper, sum(cheat.rate for cheat in s.cheats.values())),
    )


def headline(result: BillionResult) -> str:
    """The finding in a sentence or two."""
    best, n = best_scheme(result), result.experiment.n_images
    three, source = next(r for r in best.votes[0].rows if r.n == 3), next(r for r in source_votes() if r.n == 3)
    chosen = best.chosen
    return (
        f"{number(float(n) ** 2)} comparisons for each scheme and setting, {number(float(result.comparisons))} in all, took "
        f"{number(result.comparison_s)} s. With “{best.scheme}” and a radius of {chosen.radius_bits} of {best.n_bits} bits a verifier "
        f"accepts at least {detection_text(1.0 - chosen.missed.upper)} of honest pictures, and at most "
        f"{rate_text(chosen.same_class.upper)} of those of the same class and another seed; a majority of three independent ones at least "
        f"{detection_text(three.detection)} and at most {rate_text(three.collision)}. The source reports "
        f"{detection_text(source.detection)} and {rate_text(source.collision)}."
    )


def _chips(result: BillionResult) -> tuple[str, ...]:
    entries = (f"{result.experiment.n_images:,} recipes", f"{1 + len(result.honest)} honest environments", f"{len(result.cheats)} cheats")
    return (*entries, f"{len(result.schemes)} schemes", result.made[:10])


def _summary(result: BillionResult) -> Html:
    level = result.experiment
    promise = (
        f"Each radius is the smallest that leaves at most {rate_text(level.false_alarm)} of honest pictures outside, each in the worst of "
        f"its environments (a tolerance limit; confidence {level.confidence:g}, as of every bound here)."
    )
    head = ("scheme", "radius", "honest missed", "same class accepted", "other class accepted")
    rows: list[list[Content]] = [
        [
            s.scheme,
            f"{s.chosen.radius_bits} of {s.n_bits}",
            *(_bound(b) for b in (s.chosen.missed, s.chosen.same_class, s.chosen.other_class)),
        ]
        for s in result.schemes
    ]
    prose = tag("div", tag("p", *emphasised(headline(result)), class_="lede"), tag("p", promise), class_="prose")
    return tag("div", prose, _notice(result), table(head, rows, "Rates by scheme"))


def _notice(result: BillionResult) -> Html:
    """What nobody may overlook."""
    n, confidence = result.experiment.n_images, result.experiment.confidence
    least = rate_text(-math.expm1(math.log1p(-confidence) / (n // 2)))
    text = (
        f"All pairs aren't independent: {number(float(n) ** 2)} comparisons of {n:,} pictures share those pictures, and no more than "
        f"{n // 2:,} of them share none. Without a single collision a rate is bounded by {least}, not by 3 over the number of comparisons. "
        "Bounds on collisions resample pictures, not pairs; each cell says how."
    )
    return tag("div", tag("p", text), class_="notice", role="note")


def _bound(bound: Bound) -> Html:
    counted = f"{bound.events:,} of {bound.trials:,}"
    how = bound.how.replace("-", "–") if bound.how == "Clopper-Pearson" else bound.how
    return tag(
        "span", f"{rate_text(bound.rate)}, at most {rate_text(bound.upper)}", tag("br"), tag("small", f"{counted}; {how}", class_="note")
    )


def _environments(result: BillionResult) -> Html:
    """How far honest environments are from the reference."""
    rows: list[list[Content]] = []
    for s in result.schemes:
        cells: list[Content] = [s.scheme, f"{s.chosen.radius_bits} of {s.n_bits}"]
        for name in result.honest:
            counts = s.counts[name][0]
            same, beyond = counts[0] / sum(counts), sum(counts[s.chosen.radius_bits + 1 :]) / sum(counts)
            cells.append(f"{rate_text(same)} identical, {rate_text(beyond)} beyond the radius")
        rows.append(cells)
    about = "The same recipes in the other honest environments, against the reference."
    return tag(
        "div",
        tag("h3", "Honest environments", style=_APART),
        tag("p", about, class_="intro"),
        table(("scheme", "radius", *result.honest), rows, about),
    )


def _cheats(result: BillionResult) -> Html:
    rows: list[list[Content]] = [
        [s.scheme, str(s.chosen.radius_bits), *(_bound(s.cheats[name]) for name in result.cheats), _bound(s.chosen.same_class)]
        for s in result.schemes
    ]
    about = (
        "How often a picture that was made otherwise than promised is accepted as the promised one. A cheat that changes the picture "
        "hardly more than an honest environment does can hardly be told from it by a hash of the picture: that takes evidence from inside "
        "the run."
    )
    head = ("scheme", "radius", *result.cheats, "another seed")
    return tag("div", tag("p", about, class_="intro"), table(head, rows, "Cheats accepted"))


def _votes(result: BillionResult) -> Html:
    source = source_votes()
    parts: list[Html] = []
    for place, votes in enumerate(result.schemes[0].votes):
        title = "Independent verifiers" if votes.correlation == 0.0 else f"Votes correlated by {votes.correlation:g}"
        rows: list[list[Content]] = [
            [s.scheme, *(f"{detection_text(r.detection)} / {rate_text(r.collision)}" for r in s.votes[place].rows)] for s in result.schemes
        ]
        if votes.correlation == 0.0:
            rows.append([tag("b", "the source"), *(_published(r.n, r.detection, r.collision) for r in source)])
        head = ("scheme", *(f"{r.n} verifier{'s' if r.n > 1 else ''}, {r.k} decide{'s' if r.k == 1 else ''}" for r in votes.rows))
        parts += [tag("h3", title, style=_APART), table(head, rows, title)]
    about = (
        "Honest pictures accepted, at least / pictures of the same class and another seed accepted, at most: what follows from the bounds "
        "of one verifier in the table above. The source states its row of three; its other entries follow from that if its verifiers "
        "are independent. Verifiers that share model, hash and hardware aren't."
    )
    return tag("div", tag("p", about, class_="intro"), *parts)


def _published(n: int, detection: float, collision: float) -> Html:
    text = f"{detection_text(detection)} / {rate_text(collision)}"
    return tag("b", text) if n == 3 else tag("span", f"({text})")


def _closest(result: BillionResult, pictures: AnyArray) -> Html:
    places = {place: i for i, place in enumerate(result.shown)}
    rows = []
    for scheme in result.schemes:
        for group, title in (("same class", "same class, other seed"), ("other class", "other class")):
            cells = [
                _pair(pair, scheme.scheme, pictures[[places[p] for p in pair.places]]) for pair in scheme.closest if pair.group == group
            ]
            name = tag("h4", scheme.scheme, tag("br"), tag("span", title, class_="note"))
            rows.append(tag("div", name, tag("div", *cells, class_="sheet-cells"), class_="sheet-row"))
    about = (
        "Different recipes that a scheme takes for nearly the same, the closest first; each was drawn again by its recipe in the reference "
        "environment. Below each: what was asked for, and the distance in bits by every scheme."
    )
    return tag("div", tag("p", about, class_="intro"), tag("div", *rows, class_="sheet sheet-images"))


def _pair(pair: WrongPair, scheme: str, pictures: AnyArray) -> Html:
    sheet = pack_sprite(pictures, 2)
    asked = " and ".join(f"class {c}, seed {s}" for c, s in zip(pair.classes, pair.seeds, strict=True))
    source, style = data_uri(encode_png(sheet)), f"width:{_SPRITE}px"
    image = tag("img", src=source, width=sheet.shape[1], height=sheet.shape[0], alt=asked, class_="sprite", style=style)
    others = ", ".join(f"{name} {bits}" for name, bits in pair.distances.items() if name != scheme)
    words = tag("p", tag("b", count(pair.distances[scheme], "bit")), f" · {asked} ({pair.setting})", class_="note")
    return tag("div", image, words, tag("p", others, class_="note") if others else None, class_="sheet-cell")


def differences(result: BillionResult, shape: tuple[int, ...]) -> tuple[str, ...]:
    """What must be known before the figures are held against the source's: model, data, environments, schemes, bounds."""
    size, n = f"{shape[0]} × {shape[1]}", result.experiment.n_images
    colour = "in colour" if len(shape) == 3 else "in grey"
    return (
        f"Model and data: the source drew millions of samples of open diffusion and language models. Here one small diffusion model drew "
        f"{n:,} recipes of {len(result.classes)} classes, {size} pixels {colour}, in {result.experiment.sampling.steps} steps. Small "
        "pictures of a few classes are more alike than large ones of any prompt: collisions are likelier here.",
        "Environments: number type, pictures side by side and threads, on one machine. Other kinds of hardware weren't tried; they may be "
        "further apart than these, and then the radii must be larger.",
        f"Schemes: {', '.join(s.scheme for s in result.schemes)}, in integer arithmetic of studbook's own; their bits aren't those of "
        "other libraries. A scheme of colours says next to nothing about grey pictures.",
        "Radii and rates: the source states rates at tolerances of its own. Here each radius comes from honest runs, and each figure is a "
        "bound that counts pictures, not pairs. One voter accepts an honest claim with probability 1 − (bound on honest missed), and a "
        "false one with the bound on pictures of the same class and another seed.",
    )


def _differences(result: BillionResult, pictures: AnyArray) -> Html:
    paragraphs = [tag("p", text) for text in differences(result, pictures.shape[1:])]
    return tag("div", *paragraphs, tag("p", f"The source: {SOURCE}."), class_="prose")


def _facts(result: BillionResult) -> list[tuple[str, Content]]:
    done, how = result.experiment, result.experiment.sampling
    return [
        ("Model", tag("code", result.model)),
        ("Classes", ", ".join(map(str, result.classes))),
        ("Sampling", f"{how.steps} steps, guidance {how.guidance:g}, eta {how.eta:g}, order {how.order}"),
        ("Seed", str(done.seed)),
        ("Honest", "; ".join(("fp32, 256 side by side (the reference)", *result.honest))),
        ("Cheats", "; ".join(result.cheats)),
        ("Comparisons", f"{result.comparisons:,} in {number(result.comparison_s)} s"),
        ("Code", result.code),
        ("Made", result.made),
    ]
