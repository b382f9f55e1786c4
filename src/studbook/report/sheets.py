"""Sheets of generated pictures and text, a row for each generation beside the real ones."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from studbook.arrays import AnyArray, Kind
from studbook.report.curves import spread_evenly
from studbook.report.markup import Html, tag
from studbook.report.numerals import percent
from studbook.report.png import data_uri, encode_png, pack_sprite, shrink
from studbook.report.run import Cell, Pictures
from studbook.report.spectra import MAX_COLUMNS
from studbook.report.strips import CRISP, is_drawable, strip

_BUDGET, _GLIMPSE_BUDGET = 900_000, 300_000
"""Raw bytes of all sprites of the sheets and of the overview: less than half of the page, whatever the pictures."""
_PLANS = tuple((count, factor) for factor in (1, 2, 4, 8, 16) for count in (40, 30, 20, 12))
_MAX_CHARACTERS, _GLIMPSED_CHARACTERS, _GLIMPSED = 240, 150, 10
_CONTINUED_CHARACTERS, _PROMPT_CHARACTERS, _MOST_PROMPTS = 480, 720, 6
_MOST_GLIMPSED = 6
"""Rows of a glimpse."""


def sheets(pictures: Mapping[Cell, Pictures], *, n_runs: int = 1) -> Html | None:
    """The sheets of a run, or ``None`` where its samples are neither pictures nor text; ``n_runs`` share the page."""
    drawn = {c: p for c, p in pictures.items() if _shown(p)}
    if not drawn:
        return None
    cells = spread_evenly(tuple(drawn), MAX_COLUMNS)
    chosen = {c: drawn[c] for c in cells}
    left_out = f"{len(cells)} of {len(drawn)} cells are shown; the others are in the folder samples." if len(cells) < len(drawn) else None
    note = tag("p", left_out, class_="note") if left_out else None
    if next(iter(chosen.values())).kind == Kind.IMAGES:
        return tag("div", *_image_rows(chosen, _BUDGET // n_runs), note, class_="sheet sheet-images")
    made = [_prompt_sheet(group, chosen) for group in _by_prompts(chosen)]
    free = {c: p for c, p in chosen.items() if not _prompted(p)}
    made += [tag("div", *_text_rows(free, chosen), class_="sheet sheet-text")] if free else []
    return tag("div", *made, note)


def _shown(pictures: Pictures) -> bool:
    return is_drawable(pictures) or (pictures.kind == Kind.TEXT and bool(pictures.texts))


def _row(name: str, entries: list[Html], *, real: bool = False) -> Html:
    return tag("div", tag("h4", name), tag("div", *entries, class_="sheet-cells"), class_="sheet-row real" if real else "sheet-row")


def _generations(maps: list[Mapping[int, object]]) -> list[int]:
    return sorted({g for one in maps for g in one})


def _entry(cell: Cell, position: int, n_cells: int, content: Html) -> Html:
    head = tag("p", tag("i", class_=f"swatch c{position}"), cell.label, class_="sheet-label") if n_cells > 1 else None
    return tag("div", head, content, class_="sheet-cell")


def glimpse(pictures: Mapping[Cell, Pictures], *, n_runs: int = 1) -> Html | None:
    """The first cell's pictures by generation, or real text beside that of its last generation; ``None`` where there are neither."""
    cell, kept = next(((c, p) for c, p in pictures.items() if _shown(p)), (None, None))
    if cell is None or kept is None:
        return None
    if kept.kind == Kind.IMAGES:
        name = tag("p", cell.label, class_="note") if len(pictures) > 1 else None
        return tag("div", name, strip({cell: kept}, _GLIMPSE_BUDGET // n_runs, _GLIMPSED, _MOST_GLIMPSED), class_="glimpse")
    last = max(kept.texts)
    title = f"Generation {last}, {cell.label}" if len(pictures) > 1 else f"Generation {last}"
    quotes = ((kept.original_text, "Real"), (kept.texts[last], title))
    pair = [(name, tag("blockquote", _cut(text[0].lstrip(" .,;:)"), _GLIMPSED_CHARACTERS))) for text, name in quotes if text]
    return tag("div", *[tag("div", tag("p", name, class_="note"), content) for name, content in pair], class_="glimpse")


def _image_rows(pictures: Mapping[Cell, Pictures], budget: int) -> list[Html]:
    arrays = [a for p in pictures.values() for a in (*p.generations.values(), p.original) if a is not None and len(a)]
    count, factor = _plan(arrays, budget)
    first = next((p.original for p in pictures.values() if p.original is not None and len(p.original)), None)
    rows = (
        []
        if first is None
        else [_row("Real", [tag("div", _sprite(first, count, factor, "real pictures"), class_="sheet-cell")], real=True)]
    )
    for generation in _generations([p.generations for p in pictures.values()]):
        entries = [
            _entry(
                cell,
                i,
                len(pictures),
                _sprite(p.generations[generation], count, factor, f"pictures of generation {generation}, {cell.label}"),
            )
            for i, (cell, p) in enumerate(pictures.items())
            if generation in p.generations and len(p.generations[generation])
        ]
        rows.append(_row(f"Generation {generation}", entries))
    return rows


def _plan(arrays: list[AnyArray], budget: int) -> tuple[int, int]:
    """How many pictures a sprite holds, and by what factor they are shrunk, so that all sprites fit into the budget."""
    for count, factor in _PLANS:
        smallest = min(side for a in arrays for side in a.shape[1:3])
        raw = sum(min(count, len(a)) * int(np.prod(a.shape[1:])) // factor**2 for a in arrays)
        if raw <= budget and smallest >= factor:
            return count, factor
    return 4, max(1, min(32, *(side for a in arrays for side in a.shape[1:3])))


def _sprite(images: AnyArray, count: int, factor: int, alt: str) -> Html:
    chosen = images[:count]
    small = shrink(chosen, factor) if factor > 1 else chosen
    sheet = pack_sprite(small, min(10 if len(small) > 12 else 6, len(small)))
    height, width = sheet.shape[:2]
    style = "image-rendering:auto" if min(small.shape[1:3]) > CRISP else None
    source, about = data_uri(encode_png(sheet)), f"{len(small)} {alt}"
    return tag("img", src=source, width=width, height=height, alt=about, class_="sprite", style=style, loading="eager")


def _text_rows(pictures: Mapping[Cell, Pictures], everything: Mapping[Cell, Pictures]) -> list[Html]:
    first = next((p.original_text for p in pictures.values() if p.original_text), ())
    real = [tag("div", _card(block, _MAX_CHARACTERS), class_="sheet-cell") for block in first[:2]]
    return [_row("Real", real, real=True)] * bool(first) + _said(pictures, everything, 0, _MAX_CHARACTERS)


def _said(pictures: Mapping[Cell, Pictures], everything: Mapping[Cell, Pictures], block: int, length: int) -> list[Html]:
    """A row for each generation with the same block of every cell."""
    rows, positions = [], {c: i for i, c in enumerate(everything)}
    for generation in _generations([p.texts for p in pictures.values()]):
        entries = [
            _entry(cell, positions[cell], len(everything), _card(p.texts[generation][block], length))
            for cell, p in pictures.items()
            if len(p.texts.get(generation, ())) > block
        ]
        rows += [_row(f"Generation {generation}", entries)] if entries else []
    return rows


def _prompted(pictures: Pictures) -> bool:
    return any(prompt.strip() for prompt in pictures.prompts)


def _by_prompts(pictures: Mapping[Cell, Pictures]) -> list[dict[Cell, Pictures]]:
    """The cells that continue the same prompts, together."""
    groups: dict[tuple[str, ...], dict[Cell, Pictures]] = {}
    for cell, kept in pictures.items():
        if _prompted(kept):
            groups.setdefault(kept.prompts, {})[cell] = kept
    return list(groups.values())


def _prompt_sheet(pictures: Mapping[Cell, Pictures], everything: Mapping[Cell, Pictures]) -> Html:
    """One prompt, then how each generation goes on from it; the other prompts can be opened."""
    prompts = next(iter(pictures.values())).prompts[:_MOST_PROMPTS]
    made = [rows for i, prompt in enumerate(prompts) if prompt.strip() and (rows := _prompt_rows(pictures, everything, i, prompt))]
    others = [tag("div", *rows, class_="sheet-prompt") for rows in made[1:]]
    more = tag("details", tag("summary", f"{len(others)} more prompt{'s' if len(others) > 1 else ''}"), *others) if others else None
    title = tag("h4", "One prompt, continued by each generation", class_="sheet-title")
    return tag("div", title, *(made[0] if made else []), more, class_="sheet sheet-text")


def _prompt_rows(pictures: Mapping[Cell, Pictures], everything: Mapping[Cell, Pictures], block: int, prompt: str) -> list[Html]:
    said = _said(pictures, everything, block, _CONTINUED_CHARACTERS)
    head = tag("div", tag("blockquote", _cut(prompt, _PROMPT_CHARACTERS), class_="prompt"), class_="sheet-cell")
    return [_row("The prompt", [head], real=True), *said] if said else []


def _card(block: str, length: int) -> Html:
    """A block of text; words that the block has said before are dimmed, which shows repetition at a glance."""
    words, seen, parts = block.split(), set[str](), list[Html | str]()
    for word in _cut(block, length).split():
        parts.append(tag("span", word, class_="again") if word in seen else word)
        parts.append(" ")
        seen.add(word)
    share = len(set(words)) / len(words) if words else 0.0
    return tag("div", tag("blockquote", *parts), tag("p", f"{percent(share)} different words", class_="note"), class_="card-text")


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[:length].rsplit(" ", 1)[0] + " …"
