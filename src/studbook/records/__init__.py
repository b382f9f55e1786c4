"""Frozen values that are stored and passed between floors."""

from studbook.records.measurement import Measurement

__all__ = ["Measurement"]
