"""The strip of pictures on top of a run: real ones, then a row for each generation."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from studbook.arrays import AnyArray, Kind
from studbook.report.curves import spread_evenly
from studbook.report.markup import Content, Html, tag
from studbook.report.png import data_uri, encode_png, pack_sprite, shrink
from studbook.report.run import Cell, Pictures
from studbook.report.spectra import MAX_COLUMNS

CRISP = 40
"""Pictures of up to so many pixels a side are enlarged without smoothing."""
_BUDGET, _IN_A_ROW, _MOST_ROWS = 900_000, 14, 10
"""Raw bytes of all pictures of a page's strips, pictures in a row over all cells, and rows."""
_SIDE, _LARGEST, _CHANNELS = 64, 128, (1, 3)
"""Pixels of the page that a picture gets, and the most that it keeps of its own, a side."""


def is_drawable(pictures: Pictures) -> bool:
    """Whether these are pictures that can be drawn."""
    arrays = [a for a in (*pictures.generations.values(), pictures.original) if a is not None]
    sound = all(a.dtype == np.uint8 and (a.ndim == 3 or (a.ndim == 4 and a.shape[3] in _CHANNELS)) for a in arrays)
    return pictures.kind == Kind.IMAGES and sound and any(a.size for a in pictures.generations.values())


def strips(pictures: Mapping[Cell, Pictures], *, n_runs: int = 1) -> Html | None:
    """The first thing to see of a run of pictures: real ones on top, then a row for each generation, a column for each cell.

    Args:
        pictures: The samples that were kept, by cell.
        n_runs: So many runs share the page.

    Returns:
        The strip, or ``None`` where the samples aren't pictures.
    """
    drawn = {c: p for c, p in pictures.items() if is_drawable(p)}
    cells = spread_evenly(tuple(drawn), MAX_COLUMNS)
    return strip({c: drawn[c] for c in cells}, _BUDGET // n_runs, _IN_A_ROW, _MOST_ROWS) if cells else None


def strip(pictures: Mapping[Cell, Pictures], budget: int, in_a_row: int, most_rows: int) -> Html:
    """A strip of drawable pictures within a budget of raw bytes."""
    generations = _spread(sorted({g for p in pictures.values() for g in p.generations}), most_rows)
    drawn = [p.generations[g] for p in pictures.values() for g in generations if g in p.generations]
    each, factor = _plan(drawn, max(2, in_a_row // len(pictures)), budget)
    real = next((p.original for p in pictures.values() if p.original is not None and len(p.original)), None)
    rows = [] if real is None else [_row("Real", [_frame(real[i * each :], each, factor, "real pictures") for i in range(len(pictures))])]
    for generation in generations:
        about = f"pictures of generation {generation}"
        entries = [_frame(p.generations.get(generation), each, factor, f"{about}, {c.label}") for c, p in pictures.items()]
        rows.append(_row([tag("span", "Generation "), generation], entries))
    names = [tag("span", tag("i", class_=f"swatch c{i}"), c.label) for i, c in enumerate(pictures)]
    head = tag("div", tag("span", ""), *names, class_="strip-row strip-head") if len(pictures) > 1 else None
    return tag("div", head, *rows, class_="strip", style=f"--cells:{len(pictures)}")


def _spread(generations: list[int], most: int) -> list[int]:
    """At most so many of the generations, the first and the last among them."""
    if len(generations) <= most:
        return generations
    return [generations[round(i * (len(generations) - 1) / (most - 1))] for i in range(most)]


def _plan(arrays: list[AnyArray], each: int, budget: int) -> tuple[int, int]:
    """How many pictures a cell has in a row, and by what they are shrunk, so that all fit into the budget; fewer come before smaller."""
    sides = [int(side) for a in arrays if a.size for side in a.shape[1:3]] or [1]
    least = max(1, -(-max(sides) // _LARGEST))
    plans = [(fewer, least) for fewer in (each, each * 3 // 4, each // 2) if fewer > 1] + [(each, factor) for factor in range(least, 999)]
    for count, factor in plans:
        if sum(min(count, len(a)) * int(np.prod(a.shape[1:])) for a in arrays) <= budget * factor**2:
            return count, min(factor, *sides)
    return 1, min(sides)


def _row(name: Content, entries: list[Html]) -> Html:
    return tag("div", tag("h4", name), *entries, class_="strip-row real" if name == "Real" else "strip-row")


def _frame(images: AnyArray | None, each: int, factor: int, about: str) -> Html:
    """One row of pictures of one cell, enlarged by a whole number where they are small."""
    if images is None or not images.size:
        return tag("div", class_="strip-cell")
    small = shrink(images[:each], factor) if factor > 1 else images[:each]
    sheet, side = pack_sprite(small, len(small)), max(small.shape[1:3])
    height, width = sheet.shape[:2]
    crisp = side <= CRISP
    shown = width * max(1, round(_SIDE / side)) if crisp else round(width * _SIDE / side)
    source, kind, style = data_uri(encode_png(sheet)), "crisp" if crisp else "smooth", f"width:{shown}px"
    picture = tag("img", src=source, width=width, height=height, alt=f"{len(small)} {about}", class_=kind, style=style)
    return tag("div", picture, class_="strip-cell")
