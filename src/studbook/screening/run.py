"""Screening a corpus: read, judge, write, piece by piece, until all is done; stopped at any moment, it goes on where it was."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from studbook import __version__
from studbook.errors import ConfigError, DataError
from studbook.files import write_file
from studbook.provenance import SigningKey, sign
from studbook.records import OriginCount, ScreenReceipt, canonical_bytes
from studbook.screening.columns import RECEIPT, SUMMARY
from studbook.screening.folder import INPUTS, OUTPUTS, PASSED_OVER, SKIPPED, Marker, ScreenFolder, input_lines, json_bytes
from studbook.screening.judging import Judgement, Screen
from studbook.screening.protocols import Growing
from studbook.screening.reading import Input, Limits, Piece, Skip, find_inputs, read_pieces, require_column, stamp_of
from studbook.screening.writing import encode_piece, skip_lines


class Progress(Protocol):
    """Is told how far a screen is."""

    def advance(self, n_bytes: int, n_records: int) -> None:
        """So many more bytes of the corpus and records are done."""
        ...


class _Quiet:
    def advance(self, n_bytes: int, n_records: int) -> None:
        pass


def screen_corpus(
    paths: Sequence[Path | str],
    out: Path | str,
    screen: Screen,
    *,
    key: SigningKey | None = None,
    column: str = "text",
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Screen files and folders of records.

    Parquet, JSON Lines (plain, gz, bz2, xz, zst), WebDataset tar, and folders of texts and pictures are read as streams: memory doesn't
    depend on the corpus. Written are ``kept/`` and ``rejected/`` (Parquet: the same records with the columns of
    ``studbook.screening.columns``), ``skipped/`` (what couldn't be read, with reasons), the calibrations of the witnesses, ``summary.json``
    and, with a key, the signed ``receipt.json``. Called again with the same arguments it does what is missing; the result is the same.

    Args:
        paths: Files and folders.
        out: Folder to write to.
        screen: Witnesses, and what is rejected.
        key: Signs the receipt; without one there is none.
        column: Column or key of the text, or of the picture.
        limits: What a record may be at most.
        progress: Is told how far it is.

    Returns:
        The summary: how many records were read, kept, rejected and skipped; ``counts`` by origin and evidence; the commonest ``reasons`` of
        skipping; ``sizes``: how much a register knew when the ``first`` piece was judged, and how much when the ``last`` was.

    Raises:
        DataError: A path isn't there, nothing of it can be read, or it was changed meanwhile; or the screen was: a register's limits.
        ConfigError: No table has the column; no file of a kind that is read.
        FolderBusyError: Another screen writes to the folder.
        RunFolderError: The folder holds something else.
        StorageError: The disk refused; what was written stays, and the same call goes on.
    """
    _require_pyarrow()
    inputs, passed = find_inputs(paths, leave_out=Path(out))
    if not inputs:
        raise ConfigError(
            f"there is nothing to screen in {', '.join(map(str, paths))}", hint="Parquet, JSONL, tar, .txt, .md and pictures are read"
        )
    require_column(inputs, column)
    bounds = limits or Limits()
    folder = ScreenFolder(Path(out))
    with folder.locked():
        config = _config(inputs, screen, column, bounds)
        folder.begin(config)
        _keep_calibrations(folder, screen)
        write_file(folder.path / PASSED_OVER, skip_lines(passed))
        done: list[Marker] = []
        for number, source in enumerate(inputs):
            done += _screen_input(folder, number, source, screen, column, bounds, progress or _Quiet())
        _require_unchanged(config, _config(inputs, screen, column, bounds))
        return _finish(folder, inputs, passed, done, config, key)


def _require_unchanged(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Refuse a corpus or a screen that isn't what it was when the first record was read."""
    hint = "screen it again into a new folder, when nobody changes it"
    changed = next((one[0] for one, other in zip(before["corpus"], after["corpus"], strict=True) if one != other), None)
    if changed is not None:
        raise DataError(f"{changed} was changed while it was screened", hint=hint)
    if before != after:
        raise DataError("the screen was changed while it ran: a register's limits, or what a witness goes by", hint=hint)


def _require_pyarrow() -> None:
    from studbook.errors import MissingExtraError

    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("screening a corpus needs pyarrow, not installed", hint="pip install 'studbook[corpus]'") from error


def _config(inputs: Sequence[Input], screen: Screen, column: str, limits: Limits) -> dict[str, Any]:
    described = json.loads(json.dumps(screen.describe()))
    bounds = {name: getattr(limits, name) for name in Limits.__dataclass_fields__}
    return {"schema": "studbook.screen/1", "corpus": _files(inputs), "column": column, "limits": bounds, **described}


def _files(inputs: Sequence[Input]) -> list[list[Any]]:
    """Each file of the corpus with its size and the time of its last change."""
    places = ((name, *stamp_of(path)) for source in inputs for name, path in zip(source.names, source.paths, strict=True))
    return [[name, size, str(time)] for name, size, time in places]


def _keep_calibrations(folder: ScreenFolder, screen: Screen) -> None:
    for witness in screen.witnesses:
        signed = getattr(witness, "signed_calibration", b"")
        if signed:
            folder.write_calibration(witness.name, signed)


def _screen_input(
    folder: ScreenFolder, number: int, source: Input, screen: Screen, column: str, limits: Limits, progress: Progress
) -> list[Marker]:
    """The pieces of one source, those that are there first."""
    done: list[Marker] = []
    while (marker := folder.marker(_name(number, len(done)))) is not None:
        done.append(marker)
    if done and done[-1].last:
        progress.advance(source.size, sum(each.kept + each.rejected for each in done))
        return done
    pieces = read_pieces(source, done[-1].position if done else 0, column=column, limits=limits)
    for piece, last in _with_last(pieces):
        sizes = sizes_of(screen)
        judgements = screen.judge(piece.records)
        rejected = [screen.rejects(judgement) for judgement in judgements]
        marker_fields = _count(piece, judgements, rejected) | {"position": piece.position, "last": last, "sizes": sizes}
        done.append(folder.write_piece(_name(number, len(done)), encode_piece(piece, judgements, rejected), marker_fields))
        progress.advance(source.size if last else 0, len(piece.records))
    return done


def sizes_of(screen: Screen) -> dict[str, dict[str, int]]:
    """How much each witness knows now that may grow: a register."""
    return {each.name: dict(each.sizes()) for each in screen.witnesses if isinstance(each, Growing)}


def _growth(done: Sequence[Marker]) -> dict[str, dict[str, dict[str, int]]]:
    """How much each of them knew when its first piece was judged, and how much when its last one was."""
    found: dict[str, dict[str, dict[str, int]]] = {}
    for name in sorted({name for each in done for name in each.sizes}):
        known = [each.sizes.get(name, {}) for each in done]
        what = sorted({what for each in known for what in each})
        first, last = ({each: pick(one.get(each, 0) for one in known) for each in what} for pick in (min, max))
        found[name] = {"first": first, "last": last}
    return found


def _name(number: int, piece: int) -> str:
    return f"part-{number:06d}-{piece:06d}"


def _with_last(pieces: Iterable[Piece]) -> Iterable[tuple[Piece, bool]]:
    """Each piece, and whether it is the last; a source without any gives one that is empty."""
    held: Piece | None = None
    for piece in pieces:
        if held is not None:
            yield held, False
        held = piece
    yield held or Piece([], None, [], 0), True


def _count(piece: Piece, judgements: Sequence[Judgement], rejected: Sequence[bool]) -> dict[str, Any]:
    counts = Counter(f"{each.origin}/{each.evidence}" for each in judgements)
    return {
        "counts": dict(sorted(counts.items())),
        "kept": len(rejected) - sum(rejected),
        "rejected": sum(rejected),
        "skipped": len(piece.skipped),
    }


def _finish(
    folder: ScreenFolder, inputs: Sequence[Input], passed: Sequence[Skip], done: Sequence[Marker], config: Mapping[str, Any],
    key: SigningKey | None,
) -> dict[str, Any]:  # fmt: skip
    """Write what came out; the summary is written last, and says that the screen is finished."""
    counts: Counter[str] = Counter()
    for marker in done:
        counts.update(marker.counts)
    kept, rejected = sum(each.kept for each in done), sum(each.rejected for each in done)
    skipped = sum(each.skipped for each in done) + len(passed)
    if kept + rejected == 0:
        raise _nothing_read(folder, skipped)
    summary = _summary(kept, rejected, skipped, counts) | {"reasons": folder.skip_reasons(), "sizes": _growth(done)}
    inputs_sum = folder.write_listing(INPUTS, list(input_lines(inputs)))
    outputs_sum = folder.write_listing(OUTPUTS, list(folder.output_lines(done, json_bytes(summary))))
    if key is not None:
        receipt = ScreenReceipt(
            inputs=inputs_sum,
            outputs=outputs_sum,
            settings=canonical_bytes({**{name: config[name] for name in ("witnesses", "reject")}, "sizes": summary["sizes"]}).decode(),
            read=kept + rejected,
            kept=kept,
            rejected=rejected,
            skipped=skipped,
            counts=tuple(_origin_count(name, n) for name, n in sorted(counts.items())),
            code=f"studbook {__version__}",
            made=dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        )
        write_file(folder.path / RECEIPT, sign(receipt, key))
    write_file(folder.path / SUMMARY, json_bytes(summary))
    return summary


def _nothing_read(folder: ScreenFolder, skipped: int) -> DataError:
    if not skipped:
        return DataError("the corpus has no records", hint="its files are empty")
    commonest = folder.skip_reasons(1)[0]["reason"]
    hint = f"all reasons: {folder.path / SKIPPED}"
    return DataError(f"none of the corpus's records could be read, {skipped:,} were skipped, most of all because: {commonest}", hint=hint)


def _origin_count(name: str, n: int) -> OriginCount:
    origin, _, evidence = name.partition("/")
    return OriginCount(origin, evidence, n)  # type: ignore[arg-type]


def _summary(kept: int, rejected: int, skipped: int, counts: Mapping[str, int]) -> dict[str, Any]:
    rows = [{"origin": name.partition("/")[0], "evidence": name.partition("/")[2], "records": n} for name, n in sorted(counts.items())]
    totals = {"read": kept + rejected, "kept": kept, "rejected": rejected, "skipped": skipped}
    return {"schema": "studbook.screen-summary/1", **totals, "counts": rows}
