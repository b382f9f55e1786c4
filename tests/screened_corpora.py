"""Screened folders as ``studbook corpus screen`` writes them, made from lists of rows."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from studbook.provenance import SigningKey, sign
from studbook.records import DetectorCalibration, Rate
from studbook.records.content import text_content
from studbook.screening.columns import CALIBRATIONS, COLUMNS, KEPT, REJECTED, SUMMARY
from studbook.theory import clopper_pearson

SHA = "sha256:" + 64 * "0"


def row(i, origin="unknown", evidence="none", witness="", p_value=None, source="", text=None):
    text = f"record number {i} has a text of its own {i * 7919} {i * 104729}" if text is None else text
    finding = {"evidence": evidence, "witness": witness, "origin": origin, "p_value": p_value}
    return {
        "text": text, "record": f"corpus#{i}", "content": text_content(text) if text else SHA, "origin": origin, "evidence": evidence,
        "witness": witness, "p_value": p_value if evidence != "none" else None, "source": source, "reason": "a reason",
        "findings": json.dumps([finding] if p_value is not None else []),
    }  # fmt: skip


def write_screen(folder: Path, rows, *, witnesses=(), extra=None, register=None):
    """Rejects are what was generated; a few hundred rows a file. ``register`` is what was measured of MinHash's limit, and its size."""
    kinds = {"string": pa.string(), "float64": pa.float64()}
    schema = pa.schema([("text", pa.string()), *((name, kinds[kind]) for name, kind in COLUMNS), *(extra or [])])
    rejected = [each for each in rows if each["origin"] == "generated"]
    for part, chosen in ((KEPT, [each for each in rows if each["origin"] != "generated"]), (REJECTED, rejected)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        for number, start in enumerate(range(0, len(chosen), 500)):
            pq.write_table(pa.Table.from_pylist(chosen[start : start + 500], schema=schema), folder / part / f"part-{number:05d}.parquet")
    false_matches, size = register or ({}, 0)
    sizes = {"register": {"first": {"minhash": size}, "last": {"minhash": size}}}
    (folder / SUMMARY).write_text(json.dumps({"schema": "studbook.screen-summary/1", "read": len(rows), "sizes": sizes}))
    if witnesses:
        listed = [{"name": n, "evidence": e} | ({"false_matches": false_matches} if n == "register" else {}) for n, e in witnesses]
        (folder / "screen.json").write_text(json.dumps({"schema": "studbook.screen/1", "column": "text", "witnesses": listed}))
    return folder


def calibration(detector, hits, generated, false_hits, human, kind="text"):
    return DetectorCalibration(
        detector=detector, kind=kind, parameters=(), threshold=1.0, false_alarm=0.05, confidence=0.95,
        hits=Rate("generated", hits, generated, *clopper_pearson(hits, generated, 0.95)),
        false_hits=Rate("human", false_hits, human, *clopper_pearson(false_hits, human, 0.95)),
        attacked=(), generated=SHA, human=SHA, seed=0, code="test", made="2026-01-01T00:00:00Z",
    )  # fmt: skip


def write_calibration(path: Path, record):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(sign(record, SigningKey.generate()))
    return path


def detected_corpus(folder: Path, *, n=2000, hits=150, certain=50, human=100, tpr=(400, 500), fpr=(25, 500)):
    """Certain records of both origins, a detector's hits with a p-value, and the rest."""
    rows = [row(i, "generated", "register", "register", source="model-a") for i in range(certain)]
    rows += [row(certain + i, "human", "signature", "c2pa", source="Ann") for i in range(human)]
    start = len(rows)
    rows += [row(start + i, "generated", "detector", "lr", p_value=(0.00005, 0.005)[i % 2]) for i in range(hits)]
    rows += [row(i, p_value=(0.05, 0.3, 0.8)[i % 3]) for i in range(len(rows), n)]
    write_screen(folder, rows, witnesses=[("register", "register"), ("lr", "detector")])
    write_calibration(folder / CALIBRATIONS / "lr.json", calibration("likelihood-ratio", *tpr, *fpr))
    return folder
