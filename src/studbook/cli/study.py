"""``studbook study``: run, resume, list, show, report, export."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from studbook.cli.rendering import Bar, Format, show_json, show_table
from studbook.errors import printable

SHOWN = {
    "cell": "cell",
    "metric": "metric",
    "replicates": "runs",
    "last_generation": "generation",
    "first_median": "at first",
    "last_median": "median",
    "last_q05": "5 %",
    "last_q95": "95 %",
    "last_mean": "mean",
    "theory": "theory",
    "z": "z",
}
"""The columns of ``study show``, and what they are called there."""

if TYPE_CHECKING:
    from studbook.api import Result
    from studbook.execution import Executor
    from studbook.study import Plan

app = typer.Typer(help="Run studies of recursive training and look at them.", no_args_is_help=True, rich_markup_mode=None)

Out = Annotated[Path | None, typer.Option("--out", help="Run folder; by default runs/NAME-DIGEST.")]
Workers = Annotated[int, typer.Option("--workers", help="Worker processes.")]
Folder = Annotated[Path, typer.Argument(help="A run folder.")]


class ExecutorName(StrEnum):
    """Where units run."""

    LOCAL = "local"
    PROCESSES = "processes"
    RAY = "ray"


class ExportFormat(StrEnum):
    """What measurements can be exported to."""

    CSV = "csv"
    JSON = "json"


Where = Annotated[ExecutorName | None, typer.Option("--executor", help="Where units run; by default local for one worker, else processes.")]


@app.command()
def run(
    file: Annotated[Path, typer.Argument(help="A study file (TOML).")],
    out: Out = None,
    workers: Workers = 1,
    executor: Where = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replace a key of the study file.")] = None,
    register: Annotated[str | None, typer.Option("--register", help="Register all samples: a file, or postgresql://…")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, say what would run, and stop.")] = False,
) -> None:
    """Run a study, or go on with one that was stopped."""
    from studbook.api import create_study

    where = _executor(executor, workers)
    study = create_study(file, overrides=overrides or [])
    if dry_run:
        _show_plan(study.plan, out or study.default_folder)
        return
    _say_done(study.run(out, executor=where, progress=Bar(), register=register))


@app.command()
def resume(folder: Folder, workers: Workers = 1, executor: Where = None) -> None:
    """Go on with a run that was stopped: only what is missing is run."""
    from studbook.api import resume_study

    _say_done(resume_study(folder).run(folder, executor=_executor(executor, workers), progress=Bar()))


@app.command(name="list")
def list_runs(
    folder: Annotated[Path, typer.Argument(help="Where run folders are.")] = Path("runs"),
    format_: Annotated[Format, typer.Option("--format")] = Format.TABLE,
) -> None:
    """List the runs in a folder."""
    from studbook.errors import RunFolderError, StudbookError
    from studbook.study import RunFolder

    if not folder.is_dir():
        raise RunFolderError(f"there is no folder {folder}", hint="name the folder that holds the run folders")
    rows = []
    for path in sorted(child for child in folder.iterdir() if (child / "manifest.json").exists()):
        try:
            manifest = RunFolder(path).read_manifest(whole=True)
        except StudbookError as error:
            typer.echo(f"studbook: {error}", err=True)
            continue
        status = manifest["status"]
        status = "stopped" if status == "running" and not RunFolder(path).is_locked() else status
        units = f"{manifest['units']['done']}/{manifest['units']['total']}"
        rows.append({"run": str(path), "status": status, "units": units, "started": manifest["started"], "seconds": manifest["seconds"]})
    if format_ is Format.JSON:
        show_json(rows)
    elif rows:
        show_table(rows)
    else:
        typer.echo(f"no runs in {folder}", err=True)


@app.command()
def show(folder: Folder, format_: Annotated[Format, typer.Option("--format")] = Format.TABLE) -> None:
    """Show a run's metrics, first and last, beside theory."""
    from studbook.report import load_run, table, without_bins

    loaded = load_run(folder)
    numbers = table(loaded)
    _say_failures(loaded.manifest)
    if format_ is Format.JSON:
        show_json({"manifest": loaded.manifest, "table": numbers.to_dicts()})
    else:
        shown = [{title: row[key] for key, title in SHOWN.items()} for row in without_bins(numbers).to_dicts()]
        show_table(shown, title=f"{loaded.manifest['name']}: {loaded.manifest['status']}; --format json has all columns")


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Run folders; several share one page.")],
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Where to write; needed for several runs.")] = None,
) -> None:
    """Write the report of a run or several, one HTML file that works offline, and its charts as SVG and PNG."""
    from studbook.report import write_report

    typer.echo(write_report(*folders, out=out))


@app.command()
def export(
    folder: Folder,
    to: Annotated[ExportFormat, typer.Option("--to", help="File format.")],
    file: Annotated[Path | None, typer.Option("--file", help="Where to write; by default standard output.")] = None,
) -> None:
    """Write a run's measurements as CSV or JSON."""
    from studbook.api import load_result
    from studbook.files import write_file

    frame = load_result(folder).frame()
    text = frame.write_csv() if to is ExportFormat.CSV else frame.write_json()
    if file is None:
        typer.echo(text, nl=to is ExportFormat.JSON)
    else:
        write_file(file, text.encode())


def _executor(name: ExecutorName | None, workers: int) -> Executor:
    from studbook.execution import create_executor

    if name is None:
        return create_executor("local" if workers == 1 else "processes", workers)
    return create_executor(name.value, workers)


def _say_done(result: Result) -> None:
    manifest = result.manifest
    _say_failures(manifest)
    if missing := manifest.get("models_missing"):
        typer.echo(f"the models of {missing} replicates weren't kept: their workers don't see {result.folder}", err=True)
    typer.echo(f"finished; the report: studbook study report {result.folder}", err=True)
    typer.echo(result.folder)


def _say_failures(manifest: Mapping[str, Any]) -> None:
    if failures := manifest.get("failures"):
        typer.echo(printable(f"{failures} trainings failed and went on with what they had: see fits.parquet, column failure"), err=True)


def _show_plan(plan: Plan, folder: Path) -> None:
    units = Counter(id(unit.job) for unit in plan.units)
    rows = [
        {
            "cell": job.cell.label,
            "data": plan.datasets[job.data_digest].name,
            "original": job.n_original,
            "samples": job.n,
            "generations": job.cell.study.generations,
            "replicates": job.cell.study.replicates,
            "method": job.method,
            "units": units[id(job)],
        }
        for job in plan.jobs
    ]
    show_table(rows, title=f"{plan.name}: nothing was run; it would write {folder}")
