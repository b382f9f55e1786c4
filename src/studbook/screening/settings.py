"""Screen files: which witnesses a screen asks, in TOML, and the screen that they make."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from studbook.errors import ConfigError, MissingExtraError
from studbook.parameters import build
from studbook.provenance import PublicKey, Signed, Trust, read_signed
from studbook.records import DetectorCalibration
from studbook.screening.judging import Screen
from studbook.screening.protocols import Witness

ScreenSpec: TypeAlias = "Screen | Path | str | Mapping[str, Any]"

SECTIONS = ("reject", "trust_calibrations", "signature", "register", "watermark", "detector")
MAX_FILE_BYTES = 1 << 20
MAX_KEY_CHARACTERS = 1 << 10
CALIBRATE = "studbook mark calibrate makes a calibration"


def open_screen(spec: ScreenSpec) -> Screen:
    """The screen that a screen file, or the table in one, describes; a screen as it is.

    Relative paths count from the file's folder.

    Args:
        spec: A TOML file, its content, or a screen.

    Raises:
        ConfigError: A key or kind that isn't known, a missing file, or no witness at all.
        RecordError, SignatureError: A calibration that was changed, or whose signer isn't trusted.
        RegisterError, RegisterUnavailableError: The register can't be opened.
    """
    if isinstance(spec, Screen):
        return spec
    if isinstance(spec, Mapping):
        return _screen(spec, Path())
    path = Path(spec)
    return _screen(_read(path), path.parent)


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(f"{path} has {path.stat().st_size:,} bytes, a screen file has at most {MAX_FILE_BYTES:,}")
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise ConfigError(f"there is no screen file {path}", hint="docs/guides/screening.md shows one") from error
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} isn't valid TOML: {error}") from error


def _screen(table: Mapping[str, Any], base: Path) -> Screen:
    unknown = sorted(set(table) - set(SECTIONS))
    if unknown:
        near = difflib.get_close_matches(unknown[0], SECTIONS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(SECTIONS)}"
        raise ConfigError(f"a screen has no section {unknown[0]!r}", hint=hint)
    keys = _keys(table.get("trust_calibrations", []), base)
    reject = table.get("reject", ["generated"])
    if not isinstance(reject, list) or not all(isinstance(each, str) for each in reject):
        raise ConfigError(f"reject is {reject!r}, expected a list of origins", hint='reject = ["generated"]')
    return Screen(tuple(_witnesses(table, base, keys)), frozenset(reject))


def _keys(texts: Any, base: Path) -> frozenset[PublicKey] | None:
    """Keys that may sign calibrations, each as it is or in a file; none named trusts any."""
    if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts):
        raise ConfigError(f"trust_calibrations is {texts!r}, expected a list of public keys", hint='such as ["ed25519:…"]')
    return frozenset(PublicKey(each if each.startswith("ed25519:") else _key_text(base / each)) for each in texts) or None


def _key_text(path: Path) -> str:
    try:
        with path.open(encoding="ascii") as file:
            return file.read(MAX_KEY_CHARACTERS).strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it isn't text"
        raise ConfigError(f"the public key {path} can't be read: {reason}", hint='or the key itself: "ed25519:…"') from error


def _witnesses(table: Mapping[str, Any], base: Path, keys: Collection[PublicKey] | None) -> Iterator[Witness]:
    from studbook.screening.witnesses import RegisterWitness, SignatureWitness

    trust = None
    if "signature" in table:
        section = _section(table, "signature", ("trust", "signers"))
        signers = _list(section, "signature.signers", "names") if "signers" in section else []
        trust = Trust.load([base / each for each in _list(section, "signature.trust", "paths")], signers=signers)
        yield SignatureWitness(trust)
    if "register" in table:
        from studbook.registry import Register

        location = _section(table, "register", ("location",)).get("location")
        if not isinstance(location, str) or not location:
            raise ConfigError(f"register.location is {location!r}, expected a path or an address", hint='location = "register.db"')
        yield RegisterWitness(Register.open(location if "://" in location else base / location), trust)
    for kind, makers in (("watermark", _WATERMARKS), ("detector", _DETECTORS)):
        sections = table.get(kind, [])
        for section in sections if isinstance(sections, list) else [sections]:
            yield _made(kind, makers, section, base, keys)


_Maker: TypeAlias = Callable[[dict[str, Any], Path, Signed[DetectorCalibration]], Witness]


def _made(section_name: str, makers: Mapping[str, _Maker], section: Any, base: Path, keys: Collection[PublicKey] | None) -> Witness:
    """A witness that goes by a calibration."""
    if not isinstance(section, Mapping):
        raise ConfigError(f"{section_name} is {section!r}, expected a table", hint=f"write [[{section_name}]] and its keys below it")
    options = dict(section)
    kind, path = options.pop("kind", None), options.pop("calibration", None)
    if not isinstance(kind, str) or kind not in makers:
        raise ConfigError(f"{section_name}.kind is {kind!r}, expected one of {', '.join(sorted(makers))}")
    if not isinstance(path, str):
        raise ConfigError(f"the {section_name} {kind} has no calibration", hint='calibration = "FILE", made by studbook mark calibrate')
    return makers[kind](options, base, read_signed(base / path, DetectorCalibration, keys=keys, hint=CALIBRATE))


def _text_mark(kind: str) -> _Maker:
    def make(options: dict[str, Any], base: Path, calibration: Signed[DetectorCalibration]) -> Witness:
        from studbook.marks import Kgw, SynthId, TextMarkDetector
        from studbook.screening.witnesses import TextMarkWitness

        tokenizer, source = options.pop("tokenizer", None), str(options.pop("source", ""))
        if not isinstance(tokenizer, str):
            raise ConfigError(f"the watermark {kind} has no tokenizer", hint="tokenizer = the folder of the model's tokenizer.json")
        mark: Any = build(Kgw if kind == "kgw" else SynthId, options, where=f"watermark {kind}")
        return TextMarkWitness(TextMarkDetector(mark), encoder_of(base / tokenizer), calibration.record, source, calibration.data)

    return make


def encoder_of(folder: Path) -> Callable[[str], Sequence[int]]:
    """A model's tokenizer, without added tokens.

    Raises:
        ConfigError: No ``tokenizer.json`` there.
        MissingExtraError: The package tokenizers isn't installed.
    """
    path = folder / "tokenizer.json" if folder.is_dir() else folder
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingExtraError("text watermarks need the package tokenizers", hint="pip install 'studbook[neural]'") from error
    if not path.is_file():
        raise ConfigError(f"there is no tokenizer {path}", hint="name the folder of the model, which holds tokenizer.json")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:
        raise ConfigError(f"{path} isn't a tokenizer: {error}") from error
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def _picture_mark(options: dict[str, Any], _base: Path, calibration: Signed[DetectorCalibration]) -> Witness:
    from studbook.marks.dwt_dct_svd import DwtDctSvd
    from studbook.screening.witnesses import PictureMarkWitness

    source = str(options.pop("source", ""))
    mark: DwtDctSvd = build(DwtDctSvd, options, where="watermark dwtDctSvd")
    return PictureMarkWitness(mark, calibration.record, source, calibration.data)


def _strip(options: dict[str, Any], _base: Path, calibration: Signed[DetectorCalibration]) -> Witness:
    from studbook.marks.dalle_strip import DalleStrip
    from studbook.screening.witnesses import PictureMarkWitness

    source = str(options.pop("source", "DALL·E 2"))
    mark: DalleStrip = build(DalleStrip, options, where="watermark dalle_strip")
    return PictureMarkWitness(mark, calibration.record, source, calibration.data)


def _likelihood_ratio(options: dict[str, Any], base: Path, calibration: Signed[DetectorCalibration]) -> Witness:
    from studbook.screening.detector_witness import DetectorWitness
    from studbook.screening.likelihood_ratio import load_likelihood_ratio

    folders, tokens = [options.pop(name, None) for name in ("human", "generated")], options.pop("tokens", 128)
    if options or not all(isinstance(each, str) for each in folders):
        raise ConfigError(
            "a likelihood ratio needs human and generated, each the folder of a model", hint="and nothing else but tokens and calibration"
        )
    detector = load_likelihood_ratio(base / folders[0], base / folders[1], tokens=tokens)
    return DetectorWitness(detector, calibration.record, calibration.data)


_WATERMARKS: Mapping[str, _Maker] = {
    "kgw": _text_mark("kgw"),
    "synthid": _text_mark("synthid"),
    "dwtDctSvd": _picture_mark,
    "dalle_strip": _strip,
}
_DETECTORS: Mapping[str, _Maker] = {"likelihood_ratio": _likelihood_ratio}


def _section(table: Mapping[str, Any], name: str, known: Sequence[str]) -> Mapping[str, Any]:
    section = table[name]
    if not isinstance(section, Mapping):
        raise ConfigError(f"{name} is {section!r}, expected a table", hint=f"write [{name}] and its keys below it")
    unknown = sorted(set(section) - set(known))
    if unknown:
        raise ConfigError(f"{name} has no key {unknown[0]!r}", hint=f"known are {', '.join(known)}")
    return section


def _list(section: Mapping[str, Any], where: str, what: str) -> list[str]:
    value = section.get(where.rpartition(".")[2])
    if not isinstance(value, list) or not value or not all(isinstance(each, str) for each in value):
        raise ConfigError(f"{where} is {value!r}, expected a list of {what}", hint="name one at least")
    return value
