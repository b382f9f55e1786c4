"""What the commands of ``studbook registry`` have in common."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from studbook.cli.rendering import Format, show_json, show_table
from studbook.errors import ConfigError, DataError, MissingExtraError, RegisterError

if TYPE_CHECKING:
    from studbook.records import Origin
    from studbook.registry import Added, Limit, Match, Prints, Register, Stats

TEXTS = frozenset({".txt", ".md", ".text"})
TABLES = frozenset({".jsonl", ".ndjson"})
PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"})
MAX_FILE = 1 << 28
MAX_LINE = 1 << 26
_BATCH = {"text": 4096, "image": 64}
_BATCH_BYTES = 1 << 26


@dataclass(slots=True)
class Batch:
    """Some outputs of one kind, and where each stands."""

    kind: Literal["text", "image"]
    ids: list[str] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    size: int = 0

    def prints(self, skipped: list[str]) -> Prints:
        """As the register sees them; those that can't be read are left out of the batch, and why is noted."""
        from studbook.registry import fingerprint_pictures, fingerprint_texts

        make: Callable[[Any], Prints] = fingerprint_texts if self.kind == "text" else fingerprint_pictures
        try:
            return make(self.outputs)
        except DataError:  # some of them; which?
            faults = [_fault(self.kind, output, name) for name, output in zip(self.ids, self.outputs, strict=True)]
            skipped.extend(fault for fault in faults if fault is not None)
            self.ids = [name for name, fault in zip(self.ids, faults, strict=True) if fault is None]
            self.outputs = [output for output, fault in zip(self.outputs, faults, strict=True) if fault is None]
            return make(self.outputs)


def batches(paths: Sequence[Path], column: str, skipped: list[str]) -> Iterator[Batch]:
    """The outputs in files and folders, some at a time; what can't be read is skipped, and why is noted.

    Raises:
        ConfigError: There is nothing at a path.
    """
    waiting = {"text": Batch("text"), "image": Batch("image")}
    for kind, name, output in _outputs(paths, column, skipped):
        batch = waiting[kind]
        batch.ids.append(name)
        batch.outputs.append(output)
        batch.size += len(output)
        if len(batch.ids) >= _BATCH[kind] or batch.size > _BATCH_BYTES:
            waiting[kind] = Batch(batch.kind)
            yield batch
    yield from (batch for batch in waiting.values() if batch.ids)


def _fault(kind: str, output: Any, name: str) -> str | None:
    """Why an output can't be entered, or ``None``."""
    from studbook.pictures import read_picture
    from studbook.registry import canonical_text

    try:
        canonical_text(output) if kind == "text" else read_picture(output, name)
    except MissingExtraError:
        raise
    except DataError as error:
        return error.message if name in error.message else f"{name}: {error.message}"
    return None


def _outputs(paths: Sequence[Path], column: str, skipped: list[str]) -> Iterator[tuple[str, str, Any]]:
    for path in paths:
        if not path.exists():
            raise ConfigError(f"there is nothing at {path}", hint="name files or folders")
        files = sorted(each for each in path.rglob("*") if each.is_file() and not each.is_symlink()) if path.is_dir() else [path]
        for file in files:
            suffix = file.suffix.lower()
            if suffix in TABLES:
                yield from _rows(file, column, skipped)
            elif suffix in PICTURES or suffix in TEXTS or not path.is_dir():
                yield from _file(file, "image" if suffix in PICTURES else "text", skipped)
            else:
                skipped.append(f"{file}: neither a text, a picture nor JSON Lines by its name")


def _file(file: Path, kind: str, skipped: list[str]) -> Iterator[tuple[str, str, Any]]:
    try:
        with _reading(file), file.open("rb") as opened:
            data = opened.read(MAX_FILE + 1)
        if len(data) > MAX_FILE:
            raise DataError(f"{file} has over {MAX_FILE:,} bytes")
        yield kind, str(file), data if kind == "image" else data.decode("utf-8")
    except UnicodeDecodeError as error:
        skipped.append(f"{file}: not UTF-8 from byte {error.start} on")
    except DataError as error:
        skipped.append(error.message)


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """A file that can't be read is a ``DataError``."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{file} can't be read: {error.strerror or error}") from error


def _rows(file: Path, column: str, skipped: list[str]) -> Iterator[tuple[str, str, Any]]:
    with _reading(file), file.open("rb") as opened:
        number = 0
        while line := opened.readline(MAX_LINE + 1):
            number += 1
            name = f"{file}#{number}"
            if len(line) > MAX_LINE:
                skipped.append(f"{name}: over {MAX_LINE:,} bytes; the rest of the file was left")
                return
            try:
                value = json.loads(line) if line.strip() else None
            except (ValueError, RecursionError) as error:
                skipped.append(f"{name}: not JSON: {str(error)[:120]}")
                continue
            if isinstance(value, dict) and isinstance(value.get(column), str):
                yield "text", name, value[column]
            elif value is not None:
                skipped.append(f"{name}: no text in the column {column!r}")


def add_prints(register: Register, prints: Prints, origin: str, model: str, source: str, parents: tuple[str, ...]) -> Added:
    """Enter a batch."""
    add = register.add_texts if prints.kind == "text" else register.add_images
    return add(prints, origin=cast("Origin", origin), model=model, source=source, parents=parents)


def find_batch(register: Register, batch: Batch, skipped: list[str]) -> list[tuple[str, tuple[Match, ...]]]:
    """Look a batch up."""
    prints = batch.prints(skipped)
    found = register.find_texts(prints) if batch.kind == "text" else register.find_images(prints)
    return list(zip(batch.ids, found, strict=True))


def show_found(
    found: Sequence[tuple[str, tuple[Match, ...]]], skipped: Sequence[str], format_: Format, most: int, expect: str | None
) -> int:
    """Show what a look-up found; gives the exit code."""
    import typer

    rows = [row for name, several in found for row in (_match_row(name, match) for match in several[:most] or (None,))]
    show_json({"outputs": rows, "skipped": list(skipped)}) if format_ is Format.JSON else show_table(rows)
    n = sum(bool(several) for _, several in found)
    typer.echo(f"{n:,} of {len(found):,} found, {len(skipped):,} couldn't be read", err=True)
    if format_ is Format.TABLE:
        for reason in skipped[:20]:
            typer.echo(f"skipped: {reason}", err=True)
    if expect is not None and n != (len(found) if expect == "found" else 0):
        return 3
    return 1 if skipped else 0


def _match_row(name: str, match: Match | None) -> dict[str, Any]:
    if match is None:
        return dict.fromkeys(("output", "how", "by", "distance", "limit", "origin", "model", "source", "content")) | {"output": name}
    entry = match.entry
    return {
        "output": name, "how": match.how, "by": match.scheme, "distance": match.distance, "limit": match.limit, "origin": entry.origin,
        "model": entry.model, "source": entry.source, "content": entry.content,
    }  # fmt: skip


def show_known(register: Register, name: str, format_: Format) -> int:
    """Show whatever the register knows by a name; exit code 3 where that is nothing."""
    from studbook.records import to_plain

    digest = name.startswith("sha256:")
    entries = register.get(name) if digest else ()
    verdicts = [{"signer": str(each.key), **to_plain(each.record.verdict)} for each in register.verdicts(name)] if digest else []
    lineage, claim, manifest = register.lineage(name), None, None
    if digest:
        claim, manifest = _or_none(lambda: to_plain(register.claim(name).record)), _or_none(lambda: len(register.manifest(name)))
    steps = [{"child": edge.child, "relation": edge.relation, "parent": edge.parent} for edge in (*lineage.ancestors, *lineage.descendants)]
    shown = {"entries": [to_plain(each) for each in entries], "claim": claim, "verdicts": verdicts, "manifest_bytes": manifest,
             "lineage": steps, "lineage_complete": lineage.complete}  # fmt: skip
    if format_ is Format.JSON:
        show_json(shown)
    else:
        for title, rows in (("entries", [_entry_row(each) for each in entries]), ("verdicts", verdicts), ("lineage", steps)):
            if rows:
                show_table(rows, title)
        if claim is not None or manifest is not None:
            show_table([{"claim": "signed" if claim else None, "manifest_bytes": manifest}])
    return 0 if entries or verdicts or steps or claim is not None or manifest is not None else _nothing(name)


def _nothing(name: str) -> int:
    import typer

    typer.echo(f"the register knows nothing of {name}", err=True)
    return 3


def _or_none(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except RegisterError:
        return None


def _entry_row(entry: Any) -> dict[str, Any]:
    row = {name: getattr(entry, name) for name in ("kind", "origin", "model", "source", "made", "manifest")}
    return {**row, "fingerprints": ", ".join(digest.scheme for digest in entry.digests), "parents": len(entry.parents)}


def stats_rows(stats: Stats) -> list[dict[str, Any]]:
    """One figure a row."""
    rows: list[dict[str, Any]] = []
    for name, value in asdict(stats).items():
        if isinstance(value, tuple | list):
            rows.extend({"what": f"{name.removeprefix('by_')}: {key}", "value": f"{n:,}"} for key, n in value)
        else:
            rows.append({"what": name, "value": f"{value:,}" if isinstance(value, int) else value})
    return rows


def calibrate_limit(register: Register, scheme: str, path: Path, rate: float | None, confidence: float, seed: int) -> None:
    """Measure a limit on outputs in a folder, and set it."""
    from studbook.registry import Target, calibrate_images, calibrate_texts

    if rate is None:
        raise ConfigError("a calibration needs --rate", hint="--rate 0.01 lets one in a hundred unrelated outputs be taken for a known one")
    kind, skipped = "text" if scheme == "minhash" else "image", list[str]()
    outputs: list[Any] = []
    for batch in batches([path], "text", skipped):
        if batch.kind == kind and len(batch.prints(skipped)):
            outputs.extend(batch.outputs)
    target = Target(rate, confidence, seed)
    found = calibrate_texts(outputs, {}, target) if kind == "text" else calibrate_images(outputs, {}, target, scheme=scheme)
    register.set_limit(scheme, found.threshold, found)


def show_limit(limit: Limit | None, scheme: str, format_: Format) -> None:
    """Show what counts as near."""
    row = {"scheme": scheme, "limit": None if limit is None else limit.value, "basis": "none" if limit is None else limit.basis}
    errs = None if limit is None else limit.false_matches
    if format_ is Format.JSON:
        show_json({**row, "false_matches": None if errs is None else asdict(errs)})
        return
    known = "nobody measured it" if errs is None else f"{errs.events} of {errs.trials:,}, among {errs.registered:,} registered"
    show_table([{**row, "unrelated ones near": known}])


@contextmanager
def progress(noun: str) -> Iterator[Callable[[int], None]]:
    """A line on stderr that counts."""
    from rich.console import Console

    total = 0
    with Console(stderr=True).status(f"0 {noun}") as shown:

        def advance(n: int) -> None:
            nonlocal total
            total += n
            shown.update(f"{total:,} {noun}")

        yield advance


def status(text: str) -> AbstractContextManager[Any]:
    """A line on stderr that says what is being done."""
    from rich.console import Console

    return Console(stderr=True).status(text)
