"""What services grant to callers, and how they refuse them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from studbook.errors import ConfigError


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Bounds of requests, whichever service they are for.

    Attributes:
        body_bytes: Longest body of a request.
        body_timeout_s: Longest time in which a body must have come.
        open_requests: Requests that are read or answered at once.

    Raises:
        ConfigError: Out of range.

    Examples:
        >>> from studbook.web.limits import RequestLimits
        >>> RequestLimits().body_bytes
        8388608
    """

    body_bytes: int = 8 << 20
    body_timeout_s: float = 30.0
    open_requests: int = 64

    def __post_init__(self) -> None:
        check_counts(self, {"body_bytes": 1 << 30, "open_requests": 1 << 16})
        check_seconds(self, "body_timeout_s")


def check_counts(limits: object, most: Mapping[str, int]) -> None:
    """Refuse what isn't 1 up to the most of its name.

    Raises:
        ConfigError: Out of range.
    """
    for name, highest in most.items():
        if not 1 <= getattr(limits, name) <= highest:
            raise ConfigError(f"{name} is {getattr(limits, name)}, expected 1 to {highest:,}")


def check_seconds(limits: object, name: str) -> None:
    """Refuse what is no time to wait.

    Raises:
        ConfigError: It isn't.
    """
    if not 0.0 < getattr(limits, name) <= 1e6:
        raise ConfigError(f"{name} is {getattr(limits, name)}, expected above 0 seconds")


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a verifier's node: nothing that callers send makes it hold, run or wait for more.

    Attributes:
        queue: Claims that wait at most, those being examined not counted.
        keep: Finished jobs that are remembered; the oldest are dropped first.
        workers: Processes that examine claims side by side.
        time_limit_s: Longest examination of a claim; the first of a model loads it as well.
        memory_limit_mb: Most memory (resident, in MiB) of a worker, models included; 0 is no limit. Looked at every 50 ms, so that a
            worker may be beyond it for as long; needs Linux.
        body_bytes: Longest body of a request.
        body_timeout_s: Longest time in which a body must have come.
        open_requests: Requests that are read or answered at once.
        accept_offline_evidence: Also takes evidence whose challenge was drawn from the commitment alone; else its nonce must be the round.

    Raises:
        ConfigError: Out of range.

    Examples:
        >>> from studbook.web.limits import Limits
        >>> Limits(queue=4).keep
        1024
    """

    queue: int = 32
    keep: int = 1024
    workers: int = 1
    time_limit_s: float = 120.0
    memory_limit_mb: int = 4096
    body_bytes: int = 8 << 20
    body_timeout_s: float = 30.0
    open_requests: int = 64
    accept_offline_evidence: bool = False

    def __post_init__(self) -> None:
        check_counts(self, {"queue": 1 << 16, "keep": 1 << 20, "workers": 1024})
        check_seconds(self, "time_limit_s")
        self.requests  # noqa: B018  refuses what is out of range
        if self.memory_limit_mb < 0:
            raise ConfigError(f"memory_limit_mb is {self.memory_limit_mb}, expected MiB, or 0 for no limit")
        if self.memory_limit_mb and not Path("/proc/self/statm").exists():
            raise ConfigError("this system doesn't say how much memory a process holds", hint="set --memory-limit-mb 0")

    @property
    def requests(self) -> RequestLimits:
        """Those of requests."""
        return RequestLimits(self.body_bytes, self.body_timeout_s, self.open_requests)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something was refused, for the caller.

    Attributes:
        code: Stable: a code of studbook's errors (``SB707``), or a word such as ``queue-full``.
        message: What was got and what was expected; never a path or a trace of the operator's.
        hint: What to do, or ``None``.
    """

    code: str
    message: str
    hint: str | None = None

    def plain(self) -> dict[str, str | None]:
        """As JSON's types; whatever isn't Unicode in a caller's text is escaped."""
        return {"code": self.code, "message": _clean(self.message), "hint": None if self.hint is None else _clean(self.hint)}

    def body(self) -> bytes:
        """As JSON."""
        return json.dumps(self.plain()).encode()


@dataclass(slots=True)
class RefusedError(Exception):
    """A request that is answered with a problem.

    Attributes:
        status: Of HTTP.
        problem: Why.
        headers: Further ones of the answer.
    """

    status: int
    problem: Problem
    headers: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.status} {self.problem.code}: {self.problem.message}"


def _clean(text: str) -> str:
    return text[:2000].encode("utf-8", "backslashreplace").decode()
