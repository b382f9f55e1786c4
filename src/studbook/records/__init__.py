"""Frozen values that are stored and passed between floors."""

from studbook.records.fit_report import FitReport
from studbook.records.measurement import Measurement

__all__ = ["FitReport", "Measurement"]
