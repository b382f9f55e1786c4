"""``studbook mark``: put watermarks into pictures, look for them in pictures and texts, and measure how often that errs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from studbook.cli.rendering import Format, show_json, show_table
from studbook.errors import ConfigError, StudbookError

if TYPE_CHECKING:
    from studbook.marks.images import PictureMark
    from studbook.records import DetectorCalibration

app = typer.Typer(help="Watermarks of pictures and texts.", no_args_is_help=True, rich_markup_mode=None)

Files = Annotated[list[Path], typer.Argument(metavar="FILE…")]
FormatOption = Annotated[Format, typer.Option("--format", help="How to write the answer.")]
SettingsOption = Annotated[Path, typer.Option("--mark", help="Settings of the mark (TOML or JSON): kind, and what it takes.")]
TokenizerOption = Annotated[Path | None, typer.Option("--tokenizer", help="Folder of the model that is meant, with its tokenizer.json.")]


@app.callback()
def _group() -> None:
    pass


@app.command("image")
def image_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A picture.")],
    out: Annotated[Path, typer.Option("--out", help="Where the marked picture goes; a PNG file.")],
    payload: Annotated[str, typer.Option("--payload", help="Hex digits, 8 to 64 of them: drawn by chance, and kept.")],
) -> None:
    """Put an invisible mark (dwtDctSvd) into a picture."""
    from studbook.cli._marks import load_picture
    from studbook.files import write_file
    from studbook.marks.dwt_dct_svd import DwtDctSvd
    from studbook.pictures import png_bytes

    if out.suffix.lower() != ".png":
        raise ConfigError(f"--out is {out}, expected a name that ends in .png", hint="PNG loses nothing; compress the marked picture later")
    marked = DwtDctSvd((payload.lower(),)).embed(load_picture(file))
    write_file(out, png_bytes(marked))
    typer.echo(out)


@app.command("payload")
def payload_command(bits: Annotated[int, typer.Option("--bits", help="A multiple of 8, 32 to 256.")] = 32) -> None:
    """Draw a payload for studbook mark image."""
    import numpy as np

    from studbook.marks.dwt_dct_svd import random_payload

    typer.echo(random_payload(np.random.default_rng(), bits))


@app.command("read")
def read_command(
    files: Files,
    payload: Annotated[list[str] | None, typer.Option("--payload", help="A payload to look for; may be given often.")] = None,
    calibration: Annotated[Path | None, typer.Option("--calibration", help="Signed calibration of the strip, for its p-value.")] = None,
    format_: FormatOption = Format.TABLE,
) -> None:
    """Say which marks pictures carry: dwtDctSvd with one of the payloads, the strip of DALL·E 2; exit with 1 where one can't be read."""
    from studbook.marks.dalle_strip import DalleStrip
    from studbook.marks.dwt_dct_svd import DwtDctSvd

    marks: list[PictureMark] = [DwtDctSvd(tuple(each.lower() for each in payload))] if payload else []
    marks.append(DalleStrip())
    found = None if calibration is None else _calibration(calibration, marks[-1])
    rows = [row for file in files for row in _picture_rows(file, marks, found)]
    _show(rows, format_)
    raise typer.Exit(0 if all(row["mark"] for row in rows) else 1)


@app.command("detect")
def detect_command(
    files: Files,
    mark: SettingsOption,
    tokenizer: TokenizerOption = None,
    prompt_tokens: Annotated[int, typer.Option("--prompt-tokens", min=0, help="So many tokens at the beginning are the prompt.")] = 0,
    format_: FormatOption = Format.TABLE,
) -> None:
    """Look for a watermark in texts, with exact p-values; of tables, archives and folders in each of their texts."""
    from studbook.cli._marks import TEXT_MARKS, named_texts, read_settings, text_detector, tokenizer_of

    kind, options = read_settings(mark)
    if kind not in TEXT_MARKS:
        raise ConfigError(f"{mark} is of kind {kind}, expected one of {', '.join(TEXT_MARKS)}", hint="pictures: studbook mark read")
    detector, encode = text_detector(kind, options), tokenizer_of(options, tokenizer, mark.parent)
    rows = []
    for name, text in (named for file in files for named in named_texts(file)):
        result = detector.detect(encode(text), prompt_len=prompt_tokens)
        rows.append(
            {
                "file": name,
                "mark": detector.name,
                "p_value": result.p_value_corrected,
                "green": result.n_green,
                "of": result.n_scored,
                "expected": result.expected,
                "note": result.note,
            }
        )
    _show(rows, format_)


@app.command("calibrate")
def calibrate_command(
    mark: SettingsOption,
    human: Annotated[list[Path], typer.Option("--human", help="Texts or pictures by people; may be given often.")],
    false_alarm: Annotated[float, typer.Option("--false-alarm", help="Largest rate of hits among people's.")],
    key: Annotated[Path, typer.Option("--key", help="Key that signs the calibration; see studbook key new.")],
    out: Annotated[Path, typer.Option("--out", help="Where the calibration goes.")],
    generated: Annotated[list[Path] | None, typer.Option("--generated", help="Texts by the generator; pictures need none.")] = None,
    tokenizer: TokenizerOption = None,
    confidence: Annotated[float, typer.Option("--confidence", help="Of every interval.")] = 0.95,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    format_: FormatOption = Format.TABLE,
) -> None:
    """Measure how often a mark or detector is found, after changes too, and how often where there is none."""
    from rich.console import Console

    from studbook.cli._marks import calibrate, write_calibration
    from studbook.provenance import SigningKey

    signer = SigningKey.load(key)
    with Console(stderr=True).status("calibrating"):
        found = calibrate(mark, tokenizer, human, generated or (), (false_alarm, confidence, seed))
    write_calibration(found, signer, out)
    rates = (("false hits", found.false_hits), *(("hits", each) for each in (found.hits, *found.attacked)))
    rows = [
        {
            "what": what,
            "on": each.name,
            "events": each.events,
            "of": each.units,
            "rate": each.rate,
            "lower": each.lower,
            "upper": each.upper,
        }
        for what, each in rates
    ]
    _show(rows, format_)


@app.command("learn")
def learn_command(
    human: Annotated[list[Path], typer.Option("--human", help="Texts by people; may be given often.")],
    generated: Annotated[list[Path], typer.Option("--generated", help="Texts by the generator; may be given often.")],
    out: Annotated[Path, typer.Option("--out", help="Folder that gets the two models, human and generated.")],
    order: Annotated[int, typer.Option("--order", help="Words of the longest n-gram, 1 to 5.")] = 3,
    words: Annotated[int, typer.Option("--words", min=2, help="Words of the vocabulary; rarer ones are unknown.")] = 20_000,
    block: Annotated[int, typer.Option("--block", min=2, help="Tokens of a block.")] = 128,
) -> None:
    """Fit the two n-gram models of a likelihood-ratio detector; calibrate it on other texts."""
    import numpy as np

    from studbook.cli._marks import read_texts
    from studbook.learners.ngram import NGram
    from studbook.screening.language import Language, TextCoding

    texts = {"human": read_texts(human), "generated": read_texts(generated)}
    coding = TextCoding.of([*texts["human"], *texts["generated"]], size=words)
    for name, some in texts.items():
        Language.fit(NGram(order=order), some, coding, block=block, rng=np.random.default_rng(0)).save(out / name)
        typer.echo(out / name)


def _picture_rows(file: Path, marks: list[PictureMark], calibration: DetectorCalibration | None) -> list[dict[str, Any]]:
    """One row a mark; a file that can't be read is a row with its reason."""
    from math import isnan

    from studbook.cli._marks import load_picture
    from studbook.marks.calibrate_images import calibrated_p_value

    try:
        picture = load_picture(file)
    except StudbookError as error:
        return [{"file": str(file), "mark": "", "p_value": None, "score": None, "note": error.message}]
    rows = []
    for mark in marks:
        found = mark.test(picture)
        p_value = found.p_value
        if p_value is None and calibration is not None and mark.name == calibration.detector:
            p_value = calibrated_p_value(calibration, found.score)
        score = None if isnan(found.score) else found.score
        rows.append({"file": str(file), "mark": mark.name, "p_value": p_value, "score": score, "note": found.reason})
    return rows


def _calibration(file: Path, mark: PictureMark) -> DetectorCalibration:
    from studbook.provenance import read_signed
    from studbook.records import DetectorCalibration

    found = read_signed(file, DetectorCalibration).record
    if found.detector != mark.name or found.parameters != mark.parameters:
        raise ConfigError(f"{file} is the calibration of {found.detector} with other settings, expected {mark.name}")
    return found


def _show(rows: list[dict[str, Any]], format_: Format) -> None:
    show_json(rows) if format_ is Format.JSON else show_table(rows)
