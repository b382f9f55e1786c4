"""Columns that a screen adds to a corpus, and where it puts them: what ``corpus estimate``, ``mix`` and ``review`` read."""

from __future__ import annotations

from typing import Literal, TypeAlias

ColumnType: TypeAlias = Literal["string", "float64"]

COLUMNS: tuple[tuple[str, ColumnType], ...] = (
    ("record", "string"),
    ("content", "string"),
    ("origin", "string"),
    ("evidence", "string"),
    ("witness", "string"),
    ("p_value", "float64"),
    ("source", "string"),
    ("reason", "string"),
    ("findings", "string"),
)
"""Names and types, in order. Only ``p_value`` may be null; ``findings`` is a JSON list of ``studbook.records.Finding``."""

NAMES: tuple[str, ...] = tuple(name for name, _ in COLUMNS)

ORIGINAL = "original_"
"""Put before a column of the corpus that has the name of one of the screen's."""

TEXT = "text"
"""Column of a text, where the corpus had no columns of its own (a folder of texts)."""
IMAGE = "data"
"""Column of a picture's bytes, where the corpus had none of its own (a folder of pictures, a tar)."""

NO_EVIDENCE = "none"
"""Evidence of a record that no witness had anything to say about."""

NEAR = frozenset(f"register-{scheme}" for scheme in ("minhash", "phash", "pdq"))
"""Witnesses of what is near a registered output, by fingerprint: unlike the same bytes, a test that errs."""

KEPT = "kept"
REJECTED = "rejected"
PARTS = "part-*.parquet"
SUMMARY = "summary.json"
RECEIPT = "receipt.json"
CALIBRATIONS = "calibrations"
"""Folder of signed ``DetectorCalibration``s, one a witness: ``WITNESS.json``."""


def is_near(evidence: str, witness: str) -> bool:
    """Whether a record was decided by being near a registered output."""
    return evidence == "register" and witness in NEAR


def corpus_name(name: str) -> str:
    """How a column of the corpus is called in the output; two columns of different names stay two.

    Examples:
        >>> from studbook.screening.columns import corpus_name
        >>> [corpus_name(name) for name in ("text", "content", "original_content")]
        ['text', 'original_content', 'original_original_content']
    """
    inner = name
    while inner.startswith(ORIGINAL):
        inner = inner.removeprefix(ORIGINAL)
    return ORIGINAL + name if inner in NAMES else name
