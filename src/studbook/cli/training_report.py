"""``studbook training report``: training runs side by side on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report_command(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders of training runs; several share one page.")],
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Where to write; needed for several runs.")] = None,
) -> None:
    """Draw training runs: spread beside theory, losses, held-out measures and bytes, in one HTML file that works offline."""
    from studbook.report.training_page import write_training_report

    typer.echo(write_training_report(folders, out))
