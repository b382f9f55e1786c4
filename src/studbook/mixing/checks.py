"""Checks that several mixes share."""

from __future__ import annotations

from studbook.errors import ConfigError


def check_share(name: str, value: float) -> None:
    """Refuse a share outside [0, 1]."""
    if not 0.0 <= value <= 1.0:
        raise ConfigError(f"mix.{name} is {value}, expected a share from 0 to 1", hint="0.1 keeps ten per cent")


def check_fresh(fresh: int) -> None:
    """Refuse a negative number of fresh records."""
    if fresh < 0:
        raise ConfigError(f"mix.fresh is {fresh}, expected 0 or more new real records a generation")


def check_original(needed: int, n_original: int, share: str) -> None:
    """Refuse to draw more original records than there are."""
    if needed > n_original:
        raise ConfigError(
            f"{share} asks for {needed} original records a generation, the original data have {n_original}",
            hint="lower the share or study.samples",
        )
