"""Frozen values that are stored and passed between floors."""

from studbook.records.canonical import canonical_bytes, digest_of, read_json
from studbook.records.digest import Digest
from studbook.records.fit_report import FitReport
from studbook.records.measurement import Measurement

__all__ = ["Digest", "FitReport", "Measurement", "canonical_bytes", "digest_of", "read_json"]
