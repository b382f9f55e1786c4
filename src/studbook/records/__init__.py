"""Frozen values that are stored and passed between floors."""

from studbook.records.ballot import FINDINGS, Ballot, Check, FindingName
from studbook.records.calibration import Calibration, Feature, Level, Radius, Rate, Sequential, Spread
from studbook.records.canonical import canonical_bytes, digest_of, read_json
from studbook.records.claim import Claim, Dtype, Engine, Environment, ImageSampling, Recipe, Sampling, TextSampling
from studbook.records.codec import from_bytes, from_plain, to_bytes, to_plain
from studbook.records.content import bytes_content, canonical_text, text_content
from studbook.records.digest import Digest
from studbook.records.entry import Entry, Kind, Origin
from studbook.records.evidence import Evidence, Opened
from studbook.records.fit_report import FitReport
from studbook.records.measurement import Measurement
from studbook.records.merkle import Opening, check_opening, merkle_root, open_merkle
from studbook.records.screening import STRENGTH, DetectorCalibration, EvidenceKind, Finding, OriginCount, ScreenReceipt
from studbook.records.training import Checkpoint, Contact, ReplayCalibration, StepRecord, TrainingCommitment, TrainingTask
from studbook.records.verdict import Outcome, Receipt, Tally, Verdict

__all__ = [
    "FINDINGS",
    "STRENGTH",
    "Ballot",
    "Calibration",
    "Check",
    "Checkpoint",
    "Claim",
    "Contact",
    "DetectorCalibration",
    "Digest",
    "Dtype",
    "Engine",
    "Entry",
    "Environment",
    "Evidence",
    "EvidenceKind",
    "Feature",
    "Finding",
    "FindingName",
    "FitReport",
    "ImageSampling",
    "Kind",
    "Level",
    "Measurement",
    "Opened",
    "Opening",
    "Origin",
    "OriginCount",
    "Outcome",
    "Radius",
    "Rate",
    "Receipt",
    "Recipe",
    "ReplayCalibration",
    "Sampling",
    "ScreenReceipt",
    "Sequential",
    "Spread",
    "StepRecord",
    "Tally",
    "TextSampling",
    "TrainingCommitment",
    "TrainingTask",
    "Verdict",
    "bytes_content",
    "canonical_bytes",
    "canonical_text",
    "check_opening",
    "digest_of",
    "from_bytes",
    "from_plain",
    "merkle_root",
    "open_merkle",
    "read_json",
    "text_content",
    "to_bytes",
    "to_plain",
]
