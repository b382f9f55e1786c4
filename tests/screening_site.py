"""A small corpus of every form that is read, and witnesses that need nothing."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from studbook.pictures import png_bytes
from studbook.records import Finding
from studbook.screening import Record, Screen, screen_corpus


class Knows:
    """A witness that knows texts by a word."""

    kinds = frozenset({"text", "image"})

    def __init__(self, name: str, evidence: Any, word: str, origin: Any = "generated", p_value: float | None = None) -> None:
        self.name, self.evidence, self._word, self._origin, self._p = name, evidence, word, origin, p_value

    def describe(self) -> Mapping[str, Any]:
        return {"word": self._word}

    def examine(self, records: Sequence[Record]) -> list[Finding | None]:
        found = Finding(self.evidence, self.name, self._origin, f"has the word {self._word}", self._p)
        return [found if self._word in record.text.split() else None for record in records]


def member(archive: tarfile.TarFile, name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.type = len(data), kind
    if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        info.linkname = "/etc/passwd"
    archive.addfile(info, io.BytesIO(data))


def make_corpus(folder: Path) -> Path:
    """Ten records in every form: half have the word ``robot``."""
    folder.mkdir(parents=True)
    texts = [f"document {i} by a {'robot' if i % 2 else 'person'}" for i in range(10)]
    (folder / "texts").mkdir()
    for i, text in enumerate(texts):
        (folder / "texts" / f"{i}.txt").write_text(text)
    (folder / "lines.jsonl").write_text("".join(json.dumps({"text": text, "n": i}) + "\n" for i, text in enumerate(texts)))
    with gzip.open(folder / "packed.jsonl.gz", "wt") as file:
        file.writelines(json.dumps({"text": text, "tags": ["a", i]}) + "\n" for i, text in enumerate(texts))
    pq.write_table(pa.table({"text": texts, "origin": ["web"] * 10}), folder / "table.parquet", row_group_size=3)
    rng = np.random.default_rng(1)
    with tarfile.open(folder / "set.tar.gz", "w:gz") as archive:
        for i, text in enumerate(texts):
            member(archive, f"{i:04d}.txt", text.encode())
            member(archive, f"{i:04d}.json", json.dumps({"n": i}).encode())
        for i in range(3):
            member(archive, f"p{i}.png", png_bytes(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)))
    return folder


def run(corpus: Path, screen: Screen, place: Path, **options: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """Screen into ``place/out``: the summary, and why each record that is missing there was skipped."""
    return screen_corpus([corpus], place / "out", screen, **options), skipped(place / "out")


def skipped(out: Path) -> dict[str, str]:
    lines = [line for path in sorted((out / "skipped").glob("*.jsonl")) for line in path.read_text().splitlines()]
    return {each["record"].removeprefix("corpus/"): each["reason"] for each in map(json.loads, lines)}


def tables(out: Path, part: str) -> Iterator[pa.Table]:
    for path in sorted((out / part).glob("part-*.parquet")):
        yield pq.read_table(path)


def column(out: Path, part: str, name: str) -> list[Any]:
    return [value for table in tables(out, part) for value in table.column(name).to_pylist()]
