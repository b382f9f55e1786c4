"""``studbook training verify``: did the nodes of a run do the steps that they committed to?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from studbook.cli.rendering import Bar, Format, show_json, show_table

if TYPE_CHECKING:
    from studbook.protocols.committed_run import CommittedRun
    from studbook.protocols.inspection import Draw, Inspected, Inspection
    from studbook.provenance import SigningKey

VERIFICATION, RECEIPTS = "verification.json", "receipts"
_EXIT = {"accept": 0, "reject": 3, "inconclusive": 4}

_Keys = Annotated[
    list[Path] | None, typer.Option("--key", metavar="FILE", help="Private key of a verifier, one for each; default: drawn for this vote.")
]
_Coordinator = Annotated[str | None, typer.Option(metavar="KEY", help="Public key of the run's coordinator; default: anybody's.")]
_Settings = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting that differs here: data=PATH.")]


def verify_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a run whose nodes committed: training run --commit.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the receipts, and of verification.json.")],
    replays: Annotated[int | None, typer.Option("--replays", help="Steps of each node that are replayed.")] = None,
    detect: Annotated[float, typer.Option("--detect", help="Without --replays: wanted probability to find false steps …")] = 0.99,
    false_share: Annotated[float, typer.Option("--false-share", help="… where they are this share of all.")] = 0.05,
    verifiers: Annotated[int, typer.Option("--verifiers", help="How many vote; more than half decide.")] = 3,
    key: _Keys = None,
    coordinator: _Coordinator = None,
    settings: _Settings = None,
    format_: Annotated[Format, typer.Option("--format", help="How to write the answer.")] = Format.TABLE,
) -> None:
    """Replay steps of every node, and vote. Exit code 0: all accepted; 3: a node is rejected, or the coordinator at fault; 4: else."""
    from studbook.cli._claims import resolve_keys
    from studbook.cli.training_select import _settings
    from studbook.execution.threads import single_threaded
    from studbook.protocols.committed_run import open_run
    from studbook.protocols.inspection import Draw, inspect_run

    _require_new(out)
    _warn_of_keys(folder)
    draw, voters = Draw(replays, detect, false_share), _voters(key or [], verifiers)
    known = resolve_keys([coordinator] if coordinator else None)
    with single_threaded(), _Progress() as progress:
        run = open_run(folder, coordinator=known[0] if known else None, settings=_settings(settings or []))
        progress.begin(len(run.nodes) * len(voters), 0)
        found = inspect_run(run, draw, voters, progress=progress.advance)
    told = _write(out, run, draw, found)
    show_json(told) if format_ is Format.JSON else _show(run, draw, found)
    raise typer.Exit(_EXIT[found.outcome])


def _require_new(out: Path) -> None:
    from studbook.errors import ConfigError

    if out.exists():
        raise ConfigError(f"{out} is there already", hint="choose another name: a verification is never overwritten")


def _warn_of_keys(folder: Path) -> None:
    """Say that private keys are in a folder that may be handed on: its signatures would be anybody's."""
    from studbook.errors import printable
    from studbook.protocols.recorder import KEYS

    n = len(list((folder / KEYS).glob("*.pem")))
    if n:
        typer.echo(printable(f"{n} private keys lie in {folder / KEYS}: leave them out when you hand the folder on"), err=True)


def _voters(files: list[Path], n: int) -> list[SigningKey]:
    from studbook.errors import ConfigError
    from studbook.provenance import SigningKey

    if not 1 <= n <= 99:
        raise ConfigError(f"{n} verifiers, expected 1 to 99")
    if files and len(files) != n:
        raise ConfigError(f"{len(files)} keys for {n} verifiers, expected one each", hint="repeat --key, or say --verifiers")
    return [SigningKey.load(file) for file in files] or [SigningKey.generate() for _ in range(n)]


class _Progress(Bar):
    """A bar that ends with its block."""

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def _write(out: Path, run: CommittedRun, draw: Draw, found: Inspection) -> dict[str, Any]:
    """The receipts, and all of it in one file."""
    import dataclasses
    import json

    from studbook.files import write_file

    for node, receipt in found.receipts.items():
        write_file(out / RECEIPTS / f"node-{node:03d}.json", receipt)
    roster = run.roster
    told = {
        "schema": 1, "outcome": found.outcome, "run": roster.record.run, "roster": roster.record.id, "coordinator": str(roster.key),
        "steps": roster.record.steps, "round": found.round, "false_share": draw.share, "fault": found.fault,
        "nodes": [dataclasses.asdict(each) for each in found.nodes],
    }  # fmt: skip
    write_file(out / VERIFICATION, (json.dumps(told, indent=2) + "\n").encode())
    return told


def _show(run: CommittedRun, draw: Draw, found: Inspection) -> None:
    from studbook.errors import printable
    from studbook.theory.replay import found_share

    roster = run.roster.record
    show_table([_row(roster.steps, each) for each in found.nodes], title=f"{roster.steps:,} steps of {len(found.nodes)} nodes")
    for each in found.nodes:
        if each.reason:
            typer.echo(printable(f"node {each.node}: {each.reason}"))
    if found.fault:
        typer.echo(printable(f"the coordinator is at fault: {found.fault}"))
    n = draw.of(roster.steps)
    seen = f"{n:,} steps of each find {draw.share:.3g} of false ones with probability {draw.detects(roster.steps):.4f}"
    typer.echo(f"{seen}; in a run without end with {found_share(n, draw.share):.4f}")
    typer.echo(f"the run is signed by {run.roster.key}")
    typer.echo(found.outcome.upper())


def _row(steps: int, found: Inspected) -> dict[str, Any]:
    return {
        "node": found.node,
        "verdict": str(found.outcome),
        "ballots": found.ballots,
        "committed to": f"{found.covers}/{steps}",
        "replayed": found.replayed,
        "taken again": f"{found.taken / found.covers:.1%}" if found.covers else "–",
        "contacts": f"{found.confirmed}/{found.contacts}",
        "detection": found.detects,
        "CPU s": found.cpu_s,
    }
