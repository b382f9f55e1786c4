"""Checks that several curators share."""

from __future__ import annotations

from studbook.errors import ConfigError


def require_rate(name: str, value: float) -> None:
    """Refuse a rate outside [0, 1]."""
    if not 0.0 <= value <= 1.0:
        raise ConfigError(f"curation.{name} is {value}, expected a rate from 0 to 1", hint="0.8 finds eight of ten")


def require_candidates(candidates: int) -> None:
    """Refuse a limit below one candidate a record."""
    if not 1 <= candidates <= 10**6:
        raise ConfigError(f"curation.candidates is {candidates}, expected 1 to 1,000,000 for each record of a training set")
