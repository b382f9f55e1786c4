"""A screen's output on disk: the same records with the screen's columns, piece by piece."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from studbook.records import to_plain
from studbook.screening.columns import COLUMNS, corpus_name
from studbook.screening.judging import Judgement
from studbook.screening.protocols import Record
from studbook.screening.reading import Piece, Skip


@dataclass(frozen=True, slots=True, eq=False)
class Written:
    """One piece of output as bytes, by the file that it goes to.

    Attributes:
        kept: A Parquet file, or nothing.
        rejected: Another, or nothing.
        skipped: JSON Lines, or nothing.
    """

    kept: bytes
    rejected: bytes
    skipped: bytes


def encode_piece(piece: Piece, judgements: Sequence[Judgement], rejected: Sequence[bool]) -> Written:
    """A piece with the screen's columns, those that are kept apart from those that aren't.

    A column of the corpus that has the name of one of the screen's is called ``original_…``; of two of one name the second is numbered.
    """
    table = _with_columns(piece, judgements)
    kept = [not each for each in rejected]
    lines = "".join(json.dumps({"record": skip.record, "reason": skip.reason}, ensure_ascii=False) + "\n" for skip in piece.skipped)
    return Written(_parquet(table, kept), _parquet(table, list(rejected)), lines.encode("utf-8", "backslashreplace"))


def columns_of(record: Record, judgement: Judgement) -> dict[str, Any]:
    """What the screen says of one record, by the names of its columns."""
    deciding = judgement.deciding
    findings = [to_plain(each) for each in judgement.findings]
    return {
        "record": record.id,
        "content": record.content,
        "origin": judgement.origin,
        "evidence": judgement.evidence,
        "witness": "" if deciding is None else deciding.witness,
        "p_value": None if deciding is None else deciding.p_value,
        "source": "" if deciding is None else deciding.source,
        "reason": judgement.reason,
        "findings": json.dumps(findings, ensure_ascii=False),
    }


def _with_columns(piece: Piece, judgements: Sequence[Judgement]) -> Any:
    import pyarrow as pa

    table = piece.columns
    rows = [columns_of(record, judgement) for record, judgement in zip(piece.records, judgements, strict=True)]
    kinds = {"string": pa.string(), "float64": pa.float64()}
    ours = {name: pa.array([row[name] for row in rows], kinds[kind]) for name, kind in COLUMNS}
    if table is None:
        return pa.table(ours)
    table = table.rename_columns(corpus_names(table.column_names))
    for name, column in ours.items():
        table = table.append_column(name, column)
    return table


def corpus_names(names: Sequence[str]) -> list[str]:
    """The names of a table's columns in the output, each once."""
    found: dict[str, None] = {}
    for name in map(corpus_name, names):
        unique, n = name, 1
        while unique in found:
            n += 1
            unique = f"{name}_{n}"
        found[unique] = None
    return list(found)


def _parquet(table: Any, wanted: Sequence[bool]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not any(wanted):
        return b""
    sink = io.BytesIO()
    pq.write_table(table.filter(pa.array(wanted, pa.bool_())), sink, compression="zstd")
    return sink.getvalue()


def skip_lines(skipped: Sequence[Skip]) -> bytes:
    """What was passed over before reading, as JSON Lines."""
    lines = (json.dumps({"record": each.record, "reason": each.reason}, ensure_ascii=False) + "\n" for each in skipped)
    return "".join(lines).encode("utf-8", "backslashreplace")
