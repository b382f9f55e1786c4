"""Writing a report: the page, and a PNG and an SVG of every chart."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from studbook.errors import StorageError
from studbook.report.aggregate import aggregate
from studbook.report.figures import all_figures
from studbook.report.page import Drawn, render_page
from studbook.report.run import load_run
from studbook.report.sheets import sheets
from studbook.report.specs import page_spec, static_spec

_PNG_SCALE = 2.0


def write_report(folder: Path) -> Path:
    """Writes ``report/index.html`` and ``report/charts/NAME.svg`` and ``.png`` into a run folder.

    Every file is written beside its place and moved there, so that a reader never meets half a file.

    Args:
        folder: A run folder; the run may be unfinished.

    Returns:
        The path of the page.

    Raises:
        RunFolderError: The folder isn't a run folder, or is damaged.
        SchemaVersionError: A newer studbook wrote it.
        StorageError: The disk is full or read-only.

    Example:
        >>> write_report(Path("no-such-folder"))
        Traceback (most recent call last):
        studbook.errors.RunFolderError: no-such-folder is not a run folder: it has no manifest.json (pass the folder that 'studbook ...
    """
    import vl_convert

    run = load_run(Path(folder))
    curves = aggregate(run)
    pictures = {cell: found for cell in run.cells if (found := run.pictures(cell.index)) is not None}
    drawn: list[Drawn] = []
    charts = run.folder / "report" / "charts"
    for figure in all_figures(run, curves, pictures):
        static = static_spec(figure)
        svg = vl_convert.vegalite_to_svg(static, allowed_base_urls=[])
        _write(charts / f"{figure.name}.svg", svg.encode())
        _write(charts / f"{figure.name}.png", vl_convert.svg_to_png(svg, scale=_PNG_SCALE))
        drawn.append(Drawn(figure, page_spec(static), svg))
    page = run.folder / "report" / "index.html"
    _write(page, render_page(run, curves, drawn, sheets(pictures)).encode())
    return page


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(content)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(
            f"the report can't be written to {path.parent}: {error.strerror or error}", hint="free space or make the folder writable"
        ) from error
