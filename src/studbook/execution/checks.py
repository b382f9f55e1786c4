"""Ranges of what an executor is built from."""

from __future__ import annotations

from studbook.errors import ConfigError

MAX_WORKERS = 1024
"""More are surely a slip, and would be started before anybody notices."""

MAX_RETRIES = 100


def check_workers(workers: int) -> None:
    """Check a number of workers.

    Args:
        workers: 1 to 1,024.

    Raises:
        ConfigError: It isn't.
    """
    _check("workers", workers, 1, MAX_WORKERS)


def check_retries(retries: int) -> None:
    """Check how often a task whose worker died is run again.

    Args:
        retries: 0 to 100.

    Raises:
        ConfigError: It isn't.
    """
    _check("retries", retries, 0, MAX_RETRIES)


def _check(name: str, value: int, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"{name} is {value!r}, expected a whole number from {low} to {high:,}", hint=f"set {name}")
