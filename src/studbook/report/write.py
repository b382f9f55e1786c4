"""Writing a report on a run or several: the page, and a PNG and an SVG of every chart."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from studbook.errors import ConfigError
from studbook.files import write_file
from studbook.report.aggregate import aggregate
from studbook.report.figures import all_figures
from studbook.report.numerals import slug
from studbook.report.page import render_page
from studbook.report.parts import Drawn, Part
from studbook.report.run import Run, load_run
from studbook.report.sheets import sheets
from studbook.report.specs import page_spec, static_spec
from studbook.report.strips import strips

_PNG_SCALE = 2.0


def write_report(*folders: Path, out: Path | None = None) -> Path:
    """Writes ``index.html`` and ``charts/NAME.svg`` and ``.png`` for a run, or for several on one page.

    Every file is written beside its place and moved there, so that a reader never meets half a file.

    Args:
        *folders: Run folders; the runs may be unfinished.
        out: The folder to write into; by default ``report`` inside the run folder. Needed for several runs.

    Returns:
        The path of the page.

    Raises:
        ConfigError: There is no folder, or there are several and ``out`` is missing.
        RunFolderError: A folder isn't a run folder, or is damaged.
        SchemaVersionError: A newer studbook wrote it.
        StorageError: The disk is full or read-only.

    Examples:
        >>> write_report(Path("no-such-folder"))
        Traceback (most recent call last):
        studbook.errors.RunFolderError: no-such-folder is not a run folder: it has no manifest.json (studbook study list ...
    """
    if not folders or (out is None and len(folders) > 1):
        raise ConfigError(
            f"one report for {len(folders)} run folders needs a folder to be written to" if folders else "there is no run folder to report",
            hint="pass out (--out DIR)" if folders else "pass at least one",
        )
    runs = [load_run(Path(folder)) for folder in folders]
    target = Path(out) if out is not None else runs[0].folder / "report"
    parts = [_draw(run, prefix, target, len(runs)) for run, prefix in zip(runs, _prefixes(runs), strict=True)]
    page = target / "index.html"
    write_file(page, render_page(parts).encode())
    return page


def _prefixes(runs: list[Run]) -> list[str]:
    """What the anchors of each run start with: its name, numbered where two share it; nothing for a single run."""
    if len(runs) == 1:
        return [""]
    slugs = [slug(run.name) for run in runs]
    # A slug never holds two dashes in a row, so that numbered names are no other run's.
    return [name if slugs.count(name) == 1 else f"{name}--{1 + slugs[:i].count(name)}" for i, name in enumerate(slugs)]


def _draw(run: Run, prefix: str, target: Path, n_runs: int) -> Part:
    """Writes the charts of a run and gathers what the page shows of it."""
    import vl_convert

    curves = aggregate(run)
    pictures = {cell: found for cell in run.cells if (found := run.pictures(cell.index)) is not None}
    base = quote(Path(os.path.relpath(run.folder.resolve(), target.resolve())).as_posix())
    bare = Part(run, curves, pictures, (), sheets(pictures, n_runs=n_runs), prefix, base, strips(pictures, n_runs=n_runs))
    drawn: list[Drawn] = []
    for figure in all_figures(run, curves, pictures):
        static = static_spec(figure)
        svg = vl_convert.vegalite_to_svg(static, allowed_base_urls=[])
        stem = target / "charts" / bare.anchor(figure.name)
        write_file(stem.with_name(f"{stem.name}.svg"), svg.encode())
        write_file(stem.with_name(f"{stem.name}.png"), vl_convert.svg_to_png(svg, scale=_PNG_SCALE))
        drawn.append(Drawn(figure, page_spec(static), svg))
    return replace(bare, drawn=tuple(drawn))
