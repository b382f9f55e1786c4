"""A screened corpus on disk: one writer at a time, pieces that are there whole or not at all, and the receipt."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studbook.errors import RecordError, RunFolderError, SignatureError
from studbook.files import locked_folder, storage, write_file
from studbook.provenance import PublicKey, Signed, open_signed
from studbook.records import STRENGTH, ScreenReceipt, bytes_content, canonical_bytes, read_json
from studbook.screening.columns import CALIBRATIONS, KEPT, NO_EVIDENCE, RECEIPT, REJECTED, SUMMARY
from studbook.screening.reading import Input
from studbook.screening.writing import Written

CONFIG, INPUTS, OUTPUTS, SKIPPED, MARKERS = "screen.json", "inputs.jsonl", "outputs.jsonl", "skipped", "pieces"
PASSED_OVER = f"{SKIPPED}/passed-over.jsonl"
MAX_JSON = 64 << 20
MAX_REASONS = 1000
OTHER = "other reasons"
_NUMBER = re.compile(r"(?<![\w-])\d[\d,.]*")
_CELLS = {f"{origin}/{evidence}" for origin in ("generated", "human", "unknown") for evidence in (*STRENGTH, NO_EVIDENCE)}


@dataclass(frozen=True, slots=True)
class Marker:
    """A piece that is done.

    Attributes:
        position: Where the next piece of the same source begins.
        last: Whether there is none.
        counts: Records by ``origin/evidence``.
        kept: Records kept.
        rejected: Records rejected.
        skipped: What wasn't read.
        files: SHA-256 of each of the piece's files, by its name in the folder.
        sizes: How much each witness that may grow knew, by its name.
    """

    position: int
    last: bool
    counts: Mapping[str, int]
    kept: int
    rejected: int
    skipped: int
    files: Mapping[str, str]
    sizes: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class ScreenFolder:
    """The folder of one screen.

    Attributes:
        path: The folder.
    """

    path: Path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder alone.

        Raises:
            FolderBusyError: Another screen writes to it.
            RunFolderError: It holds something else.
            StorageError: It can't be written.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RunFolderError(f"{self.path} is a file, expected a folder", hint="choose another with --out")
        if self.path.is_dir() and not (self.path / CONFIG).exists() and any(each.name != ".lock" for each in self.path.iterdir()):
            raise RunFolderError(f"{self.path} isn't empty and holds no screened corpus", hint="choose an empty or a new folder with --out")
        with locked_folder(self.path):
            yield

    def begin(self, config: Mapping[str, Any]) -> None:
        """Note what is screened and how; going on needs the same.

        Raises:
            RunFolderError: The folder holds another screen.
        """
        path, data = self.path / CONFIG, canonical_bytes(config)
        if not path.exists():
            write_file(path, data)
            return
        held = read_json(path.read_bytes(), path.name, max_bytes=MAX_JSON)
        if not isinstance(held, dict) or held.get("schema") != config["schema"]:
            raise RunFolderError(f"{path} isn't of this version of studbook, or is damaged", hint="choose a new folder with --out")
        if held != json.loads(data):
            differing = sorted(key for key in {*held, *config} if held.get(key) != json.loads(data).get(key))
            raise RunFolderError(
                f"{self.path} holds another screen, which differs in {', '.join(differing)}",
                hint="choose a new folder with --out, or screen with the same options",
            )

    def marker(self, name: str) -> Marker | None:
        """A piece that was finished and whose files are there, or ``None``.

        Raises:
            RunFolderError: Its marker is damaged.
        """
        path = self.path / MARKERS / f"{name}.json"
        if not path.is_file():
            return None
        try:
            found = _marker(read_json(path.read_bytes(), path.name, max_bytes=MAX_JSON))
        except (RecordError, OSError) as error:
            raise RunFolderError(f"{path} can't be read: {error}", hint="screen again into a new folder") from error
        if found is None:
            raise RunFolderError(f"{path} is damaged", hint="screen again into a new folder")
        return found if all((self.path / place).is_file() for place in found.files) else None

    def write_piece(self, name: str, written: Written, marker: Mapping[str, Any]) -> Marker:
        """Write a piece's files, then its marker: a piece without one doesn't count and is written again."""
        places = {f"{KEPT}/{name}.parquet": written.kept, f"{REJECTED}/{name}.parquet": written.rejected}
        places[f"{SKIPPED}/{name}.jsonl"] = written.skipped
        files = {place: data for place, data in places.items() if data}
        for place, data in files.items():
            write_file(self.path / place, data)
        done = Marker(files={place: bytes_content(data) for place, data in files.items()}, **marker)
        write_file(self.path / MARKERS / f"{name}.json", canonical_bytes(_plain(done)))
        return done

    def skip_reasons(self, most: int = 10) -> list[dict[str, Any]]:
        """The commonest reasons why records weren't read, numbers left out, and how many there are of each."""
        counts: Counter[str] = Counter()
        for path in sorted((self.path / SKIPPED).glob("*.jsonl")):
            with path.open("rb") as file:
                for line in file:
                    reason = _NUMBER.sub("…", str(json.loads(line)["reason"]))[:200]
                    counts[reason if reason in counts or len(counts) < MAX_REASONS else OTHER] += 1
        return [{"reason": reason, "records": n} for reason, n in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:most]]

    def output_lines(self, done: Sequence[Marker], summary: bytes) -> Iterator[dict[str, str]]:
        """Each file that was written with its sum: the pieces', how they were judged, and what came out."""
        for marker in done:
            yield from ({"file": name, "sha256": value} for name, value in marker.files.items())
        calibrations = sorted(each.relative_to(self.path).as_posix() for each in (self.path / CALIBRATIONS).glob("*.json"))
        for name in (CONFIG, PASSED_OVER, *calibrations):
            yield {"file": name, "sha256": bytes_content((self.path / name).read_bytes())}
        yield {"file": SUMMARY, "sha256": bytes_content(summary)}

    def write_listing(self, name: str, lines: Sequence[Mapping[str, Any]]) -> str:
        """Write a listing as JSON Lines and give its SHA-256."""
        data = b"".join(canonical_bytes(line) + b"\n" for line in lines)
        write_file(self.path / name, data)
        return bytes_content(data)

    def write_calibration(self, witness: str, data: bytes) -> None:
        """Keep the signed calibration that a witness went by."""
        write_file(self.path / CALIBRATIONS / f"{witness}.json", data)

    def summary(self) -> dict[str, Any]:
        """What came out.

        Raises:
            RunFolderError: The screen isn't finished, or this isn't one.
        """
        try:
            found = read_json((self.path / SUMMARY).read_bytes(), SUMMARY, max_bytes=MAX_JSON)
        except FileNotFoundError as error:
            raise RunFolderError(
                f"{self.path} holds no finished screen", hint="studbook corpus screen PATH… --out DIR finishes it"
            ) from error
        if not isinstance(found, dict):
            raise RecordError(f"{SUMMARY} isn't an object")
        return found


def json_bytes(value: Any) -> bytes:
    """JSON for people and programs."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _marker(value: Any) -> Marker | None:
    """A marker from its JSON, or ``None`` where it is none."""
    if not isinstance(value, dict) or set(value) != set(Marker.__dataclass_fields__):
        return None
    numbers = [value[name] for name in ("position", "kept", "rejected", "skipped")]
    counts, files = value["counts"], value["files"]
    if not isinstance(counts, dict) or not isinstance(files, dict) or not all(isinstance(each, str) for each in files.values()):
        return None
    if not are_sizes(value["sizes"]):
        return None
    if type(value["last"]) is not bool or not all(type(each) is int and each >= 0 for each in [*numbers, *counts.values()]):
        return None
    return Marker(**value) if set(counts) <= _CELLS and sum(counts.values()) == value["kept"] + value["rejected"] else None


def are_sizes(value: Any) -> bool:
    """Whether this says how much witnesses knew: ``{"register": {"entries": 1000}}``."""
    return isinstance(value, dict) and all(
        isinstance(each, dict) and all(type(n) is int and n >= 0 for n in each.values()) for each in value.values()
    )


def _plain(marker: Marker) -> dict[str, Any]:
    return {name: getattr(marker, name) for name in Marker.__dataclass_fields__}


def input_lines(inputs: Sequence[Input]) -> Iterator[dict[str, Any]]:
    """Each file of the corpus with its size and sum."""
    for source in inputs:
        for path, name in zip(source.paths, source.names, strict=True):
            digest = hashlib.sha256()
            with storage(path), path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
                yield {"file": name, "bytes": file.tell(), "sha256": digest.hexdigest()}


def check_screen(folder: Path | str, *, keys: Collection[PublicKey] | None = None) -> Signed[ScreenReceipt]:
    """Check a screened corpus against its receipt: the signature, the two listings, and every file that was written.

    Args:
        folder: What ``studbook corpus screen`` wrote.
        keys: Who may have signed; ``None`` takes anybody.

    Raises:
        RunFolderError: No finished screen.
        SignatureError: The receipt, a listing or a file was changed, or the signer isn't trusted; the message names it.
    """
    path = Path(folder)
    if not (path / RECEIPT).is_file():
        raise RunFolderError(f"{path} has no signed receipt", hint="studbook corpus screen … --key KEY signs one")
    receipt = open_signed((path / RECEIPT).read_bytes(), ScreenReceipt, RECEIPT, keys=keys)  # 1. the signature
    for name, expected in ((INPUTS, receipt.record.inputs), (OUTPUTS, receipt.record.outputs)):  # 2. the listings
        _require_content(path / name, expected)
    for line in (path / OUTPUTS).read_bytes().splitlines():  # 3. the files
        entry = read_json(line, OUTPUTS)
        place = path / str(entry["file"])
        if not place.resolve().is_relative_to(path.resolve()):
            raise SignatureError(f"{OUTPUTS} names a file outside the folder: {entry['file']!r}")
        _require_content(place, str(entry["sha256"]))
    extra = _unlisted(path)
    if extra:
        raise SignatureError(f"{extra} was added after the receipt was signed", hint="remove it, or screen again")
    return receipt


def _require_content(path: Path, expected: str) -> None:
    try:
        found = bytes_content(path.read_bytes())
    except OSError as error:
        raise SignatureError(f"{path.name} can't be read: {error.strerror}", hint="it belongs to the receipt; restore it") from error
    if found != expected:
        raise SignatureError(f"{path.name} was changed after the receipt was signed", hint="restore it, or screen again")


def _unlisted(path: Path) -> str:
    listed = {read_json(line, OUTPUTS)["file"] for line in (path / OUTPUTS).read_bytes().splitlines()}
    kinds = ((KEPT, "*.parquet"), (REJECTED, "*.parquet"), (CALIBRATIONS, "*.json"))
    places = (each.relative_to(path).as_posix() for part, kind in kinds for each in sorted((path / part).glob(kind)))
    return next((place for place in places if place not in listed), "")
