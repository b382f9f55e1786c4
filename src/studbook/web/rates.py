"""How often a caller may ask: token buckets in bounded memory."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from studbook.errors import ConfigError
from studbook.web.limits import Problem, RefusedError


@dataclass(slots=True)
class _Bucket:
    """What a caller has left, and when that was."""

    left: float
    at_s: float


class Rates:
    """A bucket for each caller: a request takes one out, and it fills again evenly.

    Args:
        per_s: Requests a second that a caller may go on asking.
        burst: Requests that a caller who has been quiet may ask at once.
        callers: Callers that are remembered; the one who was quiet longest is forgotten first, and begins with a full bucket again.
        clock: Seconds, never going back.

    Raises:
        ConfigError: Out of range.

    Examples:
        >>> from studbook.web.rates import Rates
        >>> rates = Rates(1.0, 2, clock=lambda: 0.0)
        >>> rates.spend("me"), rates.spend("me"), rates.wait_s("me")
        (None, None, 1.0)
    """

    def __init__(self, per_s: float, burst: int, *, callers: int = 1 << 16, clock: Callable[[], float] = time.monotonic) -> None:
        if not 0.0 < per_s <= 1e6 or not 1 <= burst <= 1_000_000 or callers < 1:
            raise ConfigError(
                f"the rate is {per_s} a second and {burst} at once for {callers} callers, expected above 0, and 1 or more", hint="--rate 10"
            )
        self._per_s, self._burst, self._callers, self._clock = per_s, burst, callers, clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def __len__(self) -> int:
        """Callers that are remembered."""
        return len(self._buckets)

    def spend(self, caller: str) -> None:
        """Take one request out of a caller's bucket.

        Raises:
            RefusedError: It is empty; ``Retry-After`` says for how long.
        """
        wait_s = self.wait_s(caller)
        if wait_s > 0.0:
            problem = Problem("too-many", f"more than {self._per_s:g} requests a second", "ask again after the seconds in Retry-After")
            raise RefusedError(429, problem, {"Retry-After": str(math.ceil(wait_s))})
        self._buckets[caller].left -= 1.0

    def wait_s(self, caller: str) -> float:
        """Seconds until a caller may ask again; 0 for now."""
        now, bucket = self._clock(), self._buckets.get(caller)
        if bucket is None:
            bucket = self._buckets[caller] = _Bucket(float(self._burst), now)
            if len(self._buckets) > self._callers:
                self._buckets.popitem(last=False)
        bucket.left = min(float(self._burst), bucket.left + self._per_s * (now - bucket.at_s))
        bucket.at_s = now
        self._buckets.move_to_end(caller)
        return 0.0 if bucket.left >= 1.0 else (1.0 - bucket.left) / self._per_s
