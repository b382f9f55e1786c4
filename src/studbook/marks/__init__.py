"""Watermarks: marking through the libraries that define them, detection of our own with exact p-values and calibrated error rates."""

from studbook.marks.binomial import tokens_needed, tokens_needed_normal
from studbook.marks.kgw import SettingsCheck
from studbook.marks.scanning import MarkResult, Windows
from studbook.marks.settings import Kgw, Mark, SynthId
from studbook.marks.text_marks import TextMarkDetector

__all__ = [
    "Kgw",
    "Mark",
    "MarkResult",
    "SettingsCheck",
    "SynthId",
    "TextMarkDetector",
    "Windows",
    "tokens_needed",
    "tokens_needed_normal",
]
