"""Watermarks: marking through the libraries that define them, detection of our own with exact p-values and calibrated error rates."""

from studbook.marks.binomial import tokens_needed, tokens_needed_normal
from studbook.marks.calibrate_text import calibrate_mark, require_calibrated
from studbook.marks.choice import mark_of
from studbook.marks.kgw import SettingsCheck
from studbook.marks.scanning import MarkResult, Windows
from studbook.marks.settings import Kgw, Mark, SynthId
from studbook.marks.text_changes import TEXT_CHANGES, Excerpt, ReplaceTokens, ShufflePassages, TextChange
from studbook.marks.text_marks import TextMarkDetector

__all__ = [
    "Excerpt",
    "Kgw",
    "Mark",
    "MarkResult",
    "ReplaceTokens",
    "SettingsCheck",
    "ShufflePassages",
    "SynthId",
    "TEXT_CHANGES",
    "TextChange",
    "TextMarkDetector",
    "Windows",
    "calibrate_mark",
    "mark_of",
    "require_calibrated",
    "tokens_needed",
    "tokens_needed_normal",
]
