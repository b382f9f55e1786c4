"""``studbook hamming``: how fast bit strings are compared here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from studbook.cli.rendering import Format, show_json, show_table

if TYPE_CHECKING:
    from studbook.hamming.bench import Comparison

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Bulk comparison of bit strings."""


@app.command("bench")
def bench_command(
    size: Annotated[int, typer.Option("--size", min=1, help="Bit strings on either side; all pairs are compared.")] = 32_768,
    bits: Annotated[str, typer.Option(help="Widths in bits, multiples of 64, with commas between them.")] = "64,256",
    threads: Annotated[str, typer.Option(help="Numbers of threads, with commas between them.")] = "1,2",
    device: Annotated[str, typer.Option(help="cpu, beside NumPy, faiss and usearch; or cuda, beside the chip's limit.")] = "cpu",
    format_: Annotated[Format, typer.Option("--format", help="How to write the answer.")] = Format.TABLE,
) -> None:
    """Compare all pairs of random bit strings, side by side with NumPy, faiss and usearch."""
    from rich.console import Console

    from studbook.hamming.bench import INSTALL, ROUNDS, compare, compare_on_cuda

    widths, counts = _numbers(bits, "--bits"), _numbers(threads, "--threads")
    _check_device(device)
    found: list[Comparison] = []
    console = Console(stderr=True)
    for width in widths:
        if device == "cuda":
            found.append(compare_on_cuda(size, width))
            continue
        for count in counts:
            with console.status(f"{size:,} × {size:,} strings of {width} bits, threads: {count}, rounds: {ROUNDS}"):
                found.extend(compare(size, width, count))
    rows = [_row(each) for each in found]
    show_json(rows) if format_ is Format.JSON else show_table(rows, f"{size:,} × {size:,} strings")
    if absent := sorted({each.peer for each in found if each.peer_s is None}):
        console.print(f"not installed: {', '.join(absent)}; to compare with them: {INSTALL}", highlight=False, markup=False, soft_wrap=True)


def _row(found: Comparison) -> dict[str, Any]:
    return {
        "work": found.work,
        "bits": found.bits,
        "threads": found.threads,
        "pairs_per_s": found.pairs / found.ours_s,
        "ours_s": found.ours_s,
        "peer": found.peer,
        "peer_s": found.peer_s,
        "ratio": found.ratio,
        "wanted": found.wanted,
    }


def _numbers(text: str, option: str) -> list[int]:
    from studbook.errors import ConfigError

    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"{option} is {text[:80]!r}, expected whole numbers with commas between them") from error


def _check_device(device: str) -> None:
    from studbook.hamming.bits import check_device

    check_device(device)
