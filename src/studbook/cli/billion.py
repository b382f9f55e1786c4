"""``studbook claim billion``: all pairs of many pictures' hashes, in honest environments and cheats."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from studbook.cli._claims import progress_on_stderr
from studbook.cli.rendering import Format, show_json, show_table

if TYPE_CHECKING:
    from studbook.verification.billion import BillionResult
    from studbook.verification.billion_errors import Bound


def billion_command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of a conditional diffusion model.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of hashes, results and report; what is done there isn't done again.")],
    images: Annotated[int, typer.Option(min=1, help="Recipes; each is drawn in every setting, and all pairs are compared.")] = 32_768,
    steps: Annotated[int, typer.Option(help="Denoising steps.")] = 10,
    guidance: Annotated[float, typer.Option(help="Weight of the guidance.")] = 0.0,
    schemes: Annotated[str, typer.Option(help="Fingerprints, comma-separated; default: all of pictures.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="Seed.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the comparisons; no result depends on it.")] = 2,
    confidence: Annotated[float, typer.Option(help="Of every bound.")] = 0.95,
    false_alarm: Annotated[float, typer.Option(help="Largest share of honest pictures beyond the radius.")] = 0.01,
    format_: Annotated[Format, typer.Option("--format", help="How to write the answer.")] = Format.TABLE,
) -> None:
    """Draw, hash, and compare all pairs; choose radii, bound the errors, and set majorities beside the source's. Writes report.html."""
    from studbook.report.billion import write_billion_report
    from studbook.verification.billion import Experiment, compare_billion, image_sampling
    from studbook.verification.billion_hashes import SCHEMES

    names = tuple(name.strip() for name in schemes.split(",")) if schemes else tuple(SCHEMES)
    asked = Experiment(images, image_sampling(steps, guidance), names, seed, confidence, false_alarm)
    with progress_on_stderr() as progress:
        result, pictures = compare_billion(model, out, asked, threads=threads, progress=progress)
        page = write_billion_report(result, pictures, out)
    _show(result, format_)
    typer.echo(page, err=True)


def _show(result: BillionResult, format_: Format) -> None:
    from studbook.records.codec import to_plain
    from studbook.report.billion import headline

    if format_ is Format.JSON:
        plain = to_plain(result)
        brief = [{name: value for name, value in each.items() if name not in ("counts", "curve")} for each in plain["schemes"]]
        show_json({**plain, "schemes": brief})
        return
    show_table(_rates(result), title="one verifier: rate, at most (upper bound)")
    show_table(_majorities(result), title="majorities of independent verifiers: honest accepted, at least / same class accepted, at most")
    typer.echo(headline(result).replace("\u00a0", " "))
    typer.echo("All pairs aren't independent: they share pictures. Bounds on collisions resample pictures, not pairs.")


def _rates(result: BillionResult) -> list[dict[str, Any]]:
    return [
        {
            "scheme": each.scheme,
            "radius": f"{each.chosen.radius_bits} of {each.n_bits}",
            "honest missed": _text(each.chosen.missed),
            "same class": _text(each.chosen.same_class),
            "other class": _text(each.chosen.other_class),
            **{name: _text(bound) for name, bound in each.cheats.items()},
        }
        for each in result.schemes
    ]


def _majorities(result: BillionResult) -> list[dict[str, Any]]:
    from studbook.report.billion import detection_text, rate_text
    from studbook.verification.billion import source_votes

    named = [(each.scheme, each.votes[0].rows) for each in result.schemes] + [("the source (three; others follow)", source_votes())]
    return [
        {"scheme": name} | {f"{row.n} of them": f"{detection_text(row.detection)} / {rate_text(row.collision)}" for row in rows}
        for name, rows in named
    ]


def _text(bound: Bound) -> str:
    from studbook.report.billion import rate_text

    return f"{rate_text(bound.rate)}, ≤ {rate_text(bound.upper)}"
