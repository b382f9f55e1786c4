"""What the mark commands share: settings files, records to calibrate on, and calibrations."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from studbook.errors import ConfigError, DataError

if TYPE_CHECKING:
    from studbook.arrays import AnyArray
    from studbook.marks import TextMarkDetector
    from studbook.marks.images import PictureMark
    from studbook.provenance import SigningKey
    from studbook.records import DetectorCalibration
    from studbook.screening.likelihood_ratio import LikelihoodRatio

MAX_SETTINGS_BYTES = 1 << 20
MAX_PICTURE_BYTES = 1 << 28
MAX_TEXT_BYTES = 1 << 26
TEXT_MARKS = ("kgw", "synthid")
PICTURE_MARKS = ("dwtDctSvd", "dalle_strip")
DETECTORS = ("likelihood_ratio",)
_IGNORED = ("calibration", "source", "tokenizer")


def read_settings(file: Path) -> tuple[str, dict[str, Any]]:
    """The kind and the other keys of a mark's settings: the section of a screen file, in a file of its own.

    Raises:
        ConfigError: It can't be read, or is of no known kind.
    """
    try:
        if file.stat().st_size > MAX_SETTINGS_BYTES:
            raise ConfigError(f"{file} has more than {MAX_SETTINGS_BYTES:,} bytes, it holds no mark's settings")
        text = file.read_text(encoding="utf-8-sig")
        table = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"{file} can't be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file} isn't valid {'JSON' if file.suffix == '.json' else 'TOML'}: {str(error)[:200]}") from error
    if not isinstance(table, dict):
        raise ConfigError(f"{file} holds {type(table).__name__}, expected the settings of a mark")
    kind, known = table.pop("kind", None), (*TEXT_MARKS, *PICTURE_MARKS, *DETECTORS)
    if kind not in known:
        raise ConfigError(f"{file}: kind is {kind!r}, expected one of {', '.join(known)}", hint='kind = "kgw" in its first line')
    return kind, table


def text_detector(kind: str, options: dict[str, Any]) -> TextMarkDetector:
    """The detector of a text's mark.

    Raises:
        ConfigError: The settings can't be meant.
    """
    from studbook.marks import Kgw, SynthId, TextMarkDetector
    from studbook.parameters import build

    own = {name: value for name, value in options.items() if name not in _IGNORED}
    mark: Any = build(Kgw if kind == "kgw" else SynthId, own, where=kind)
    return TextMarkDetector(mark)


def picture_mark(kind: str, options: dict[str, Any]) -> PictureMark:
    """The mark of a picture.

    Raises:
        ConfigError: The settings can't be meant.
    """
    from studbook.marks.dalle_strip import DalleStrip
    from studbook.marks.dwt_dct_svd import DwtDctSvd
    from studbook.parameters import build

    own = {name: value for name, value in options.items() if name not in _IGNORED}
    mark: Any = build(DwtDctSvd if kind == "dwtDctSvd" else DalleStrip, own, where=kind)
    return mark  # type: ignore[no-any-return]


def likelihood_ratio(options: dict[str, Any], base: Path) -> LikelihoodRatio:
    """The detector from two stored language models; relative folders count from ``base``.

    Raises:
        ConfigError: A folder isn't named.
        CheckpointError: It can't be read.
    """
    from studbook.screening.likelihood_ratio import load_likelihood_ratio

    folders = [options.get(name) for name in ("human", "generated")]
    if not all(isinstance(each, str) for each in folders):
        raise ConfigError("a likelihood ratio needs human and generated, each the folder of a language model")
    return load_likelihood_ratio(base / str(folders[0]), base / str(folders[1]), tokens=options.get("tokens", 128))


def tokenizer_of(options: dict[str, Any], given: Path | None, base: Path) -> Callable[[str], Sequence[int]]:
    """The tokenizer of a text's mark: as it was given, or as the settings name it.

    Raises:
        ConfigError: Neither, or it isn't there.
        MissingExtraError: The package tokenizers isn't installed.
    """
    from studbook.screening.settings import encoder_of

    named = options.get("tokenizer")
    if given is None and not isinstance(named, str):
        raise ConfigError("a text's mark is counted in the model's tokens", hint="--tokenizer FOLDER, with the model's tokenizer.json")
    return encoder_of(given if given is not None else base / str(named))


def load_picture(file: Path) -> AnyArray:
    """A picture ``(h, w, 3)`` from a file.

    Raises:
        DataError: It isn't there, is too large, or is no picture.
    """
    from studbook.pictures import read_picture

    return read_picture(_read(file, MAX_PICTURE_BYTES), str(file), max_bytes=MAX_PICTURE_BYTES)


def load_text(file: Path) -> str:
    """A text from a file of UTF-8.

    Raises:
        DataError: It isn't there, is too large, or isn't UTF-8.
    """
    data = _read(file, MAX_TEXT_BYTES)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} isn't UTF-8 from byte {error.start} on", hint="convert it, or name a text") from error


def named_texts(file: Path) -> Iterator[tuple[str, str]]:
    """Each text with its name: the records of a table, an archive or a folder, any other file as a whole.

    Raises:
        DataError: It isn't there, is too large, isn't UTF-8, or has no texts.
    """
    from studbook.screening.reading import form_of

    if not file.is_dir() and form_of(file.name) in (None, "files"):
        yield str(file), load_text(file)
        return
    some = False
    for record in _records([file], "text"):
        if record.kind == "text":
            some = True
            yield record.id, record.text
    if not some:
        raise DataError(f"there are no texts in {file}", hint="Parquet, JSONL, tar and .txt are read; the column is text")


def read_texts(paths: Sequence[Path], column: str = "text") -> list[str]:
    """The texts of some files and folders, of all kinds that a screen reads, each once.

    Raises:
        DataError: A path that isn't there, or no text in it.
    """
    texts = dict.fromkeys(record.text for record in _records(paths, column) if record.kind == "text")
    if not texts:
        raise DataError(f"there are no texts in {', '.join(map(str, paths))}", hint="Parquet, JSONL, tar and .txt are read")
    return list(texts)


def read_pictures(paths: Sequence[Path], column: str = "image") -> list[AnyArray]:
    """The pictures of some files and folders, each once; what can't be read is left out.

    Raises:
        DataError: A path that isn't there, or no picture in it.
    """
    found = {}
    for record in _records(paths, column):
        if record.kind == "image" and record.content not in found:
            with suppress(DataError):
                found[record.content] = np.asarray(record.pixels)
    if not found:
        raise DataError(f"there are no pictures in {', '.join(map(str, paths))}", hint="name a folder of PNG or JPEG files")
    return list(found.values())


def _read(file: Path, most: int) -> bytes:
    try:
        with file.open("rb") as stream:
            data = stream.read(most + 1)
    except OSError as error:
        raise DataError(f"{file} can't be read: {error.strerror}") from error
    if len(data) > most:
        raise DataError(f"{file} has more than {most:,} bytes", hint="make it smaller first")
    return data


def _records(paths: Sequence[Path], column: str) -> Any:
    from studbook.screening.reading import Limits, find_inputs, read_pieces

    inputs, _ = find_inputs(paths)
    for source in inputs:
        for piece in read_pieces(source, 0, column=column, limits=Limits()):
            yield from piece.records


def calibrate(
    settings: Path,
    tokenizer: Path | None,
    human: Sequence[Path],
    generated: Sequence[Path],
    promise: tuple[float, float, int],
) -> DetectorCalibration:
    """The calibration of what a settings file describes; ``promise`` is false-alarm rate, confidence and seed.

    Raises:
        CalibrationError: Too few records, or a promise that they don't bear out.
        ConfigError: Settings that can't be meant, or generated records that are missing or aren't needed.
    """
    from studbook.verification.calibration import now

    kind, options = read_settings(settings)
    if (kind in PICTURE_MARKS) == bool(generated):
        wanted = "marks the human pictures itself" if kind in PICTURE_MARKS else "needs generated texts"
        raise ConfigError(f"{kind} {wanted}", hint="leave out --generated" if generated else "--generated PATH")
    make = _calibrate_picture if kind in PICTURE_MARKS else _calibrate_texts
    found: DetectorCalibration = make(kind, options, settings.parent, tokenizer, human, generated, promise)
    return replace(found, made=now())


def _calibrate_picture(
    kind: str,
    options: dict[str, Any],
    _base: Path,
    _tokenizer: Any,
    human: Sequence[Path],
    _generated: Any,
    promise: tuple[float, float, int],
) -> DetectorCalibration:
    from studbook.marks.calibrate_images import calibrate_picture_mark

    false_alarm, confidence, seed = promise
    mark = picture_mark(kind, options)
    return calibrate_picture_mark(mark, read_pictures(human), false_alarm=false_alarm, confidence=confidence, seed=seed)


def _calibrate_texts(
    kind: str,
    options: dict[str, Any],
    base: Path,
    tokenizer: Path | None,
    human: Sequence[Path],
    generated: Sequence[Path],
    promise: tuple[float, float, int],
) -> DetectorCalibration:
    from studbook.marks import calibrate_mark
    from studbook.screening.calibrate import calibrate_detector
    from studbook.screening.text_changes import usual_changes

    false_alarm, confidence, seed = promise
    texts, made = read_texts(human), read_texts(generated)
    if kind in DETECTORS:
        detector, attacks = likelihood_ratio(options, base), usual_changes(texts[:1000])
        return calibrate_detector(detector, texts, made, false_alarm=false_alarm, confidence=confidence, attacks=attacks, seed=seed)
    encode = tokenizer_of(options, tokenizer, base)
    ids, made_ids = ([np.asarray(encode(text)) for text in each] for each in (texts, made))
    return calibrate_mark(text_detector(kind, options), ids, made_ids, false_alarm=false_alarm, confidence=confidence, seed=seed)


def write_calibration(calibration: DetectorCalibration, key: SigningKey, out: Path) -> None:
    """Write a signed calibration.

    Raises:
        StorageError: The disk refused.
    """
    from studbook.files import write_file
    from studbook.provenance import sign

    write_file(out, sign(calibration, key))
