"""The register behind a service: opened, read by some threads and written by one, and given back."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from studbook.errors import RegisterError, RegisterUnavailableError
from studbook.web.limits import Problem, RefusedError, RequestLimits, check_counts, check_seconds

if TYPE_CHECKING:
    from studbook.provenance import Trust
    from studbook.registry import Register

T = TypeVar("T")
_SERVER = re.compile(r"[a-z][a-z0-9+]*://")


@dataclass(frozen=True, slots=True)
class RegisterLimits:
    """Bounds of a register's service.

    Attributes:
        requests: Of requests.
        answer_timeout_s: Longest wait for the register's answer; work that has begun goes on, and what it wrote is kept.
        threads: That read at once; one more writes. Each may hold a picture.
        pixels: Most pixels of a picture, three bytes each.

    Raises:
        ConfigError: Out of range.
    """

    requests: RequestLimits = field(default_factory=lambda: RequestLimits(body_bytes=32 << 20))
    answer_timeout_s: float = 30.0
    threads: int = 2
    pixels: int = 1 << 25

    def __post_init__(self) -> None:
        check_counts(self, {"threads": 12, "pixels": 1 << 26})  # a pool of the register's has 15 connections
        check_seconds(self, "answer_timeout_s")


class RegisterNode:
    """A register for many callers at once.

    Readers share one handle: its connections come from a pool, and its indexes are followed under locks. Writes wait in a row of their
    own, so that a writer who waits for another process keeps no reader waiting. A file that was replaced is opened anew.

    Args:
        location: File or server; see ``Register.open``.
        limits: Of the service.
        trust: Whose manifests are kept; ``None`` keeps none.
        index: Folder of the indexes.
    """

    def __init__(self, location: str, limits: RegisterLimits, *, trust: Trust | None = None, index: Path | None = None) -> None:
        self.limits, self.trust, self.stopping = limits, trust, False
        self._location, self._index = location, index
        self._file = None if _SERVER.match(location) else Path(location)
        self._register: Register | None = None
        self._identity: tuple[int, int] | None = None
        self._lock = threading.Lock()
        self._readers = ThreadPoolExecutor(limits.threads, "register-reader")
        self._writer = ThreadPoolExecutor(1, "register-writer")
        self._n_open = 0

    def start(self) -> None:
        """Open the register, and make ready what the first request would wait for.

        Raises:
            RegisterError: There is none, or it is damaged.
            RegisterUnavailableError: The server can't be reached.
            MissingExtraError: Pictures can't be read.
        """
        from studbook.web.register_matching import warm_up

        warm_up(self._opened())

    def close(self, drain_s: float) -> None:
        """Take no more, finish what was taken for so long at most, and give the register back."""
        self.stopping = True
        end = time.monotonic() + drain_s
        while self._n_open and time.monotonic() < end:
            time.sleep(0.02)
        for pool in (self._readers, self._writer):
            pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            register, self._register = self._register, None
        if register is not None:
            register.close()

    async def read(self, call: Callable[[Register], T]) -> T:
        """What a call gives, in one of the threads that read.

        Raises:
            RefusedError: It took too long, or the service is stopping.
            StudbookError: As the call.
        """
        return await self._run(self._readers, call)

    async def write(self, call: Callable[[Register], T]) -> T:
        """What a call gives, in the thread that writes; see ``read``."""
        return await self._run(self._writer, call)

    async def _run(self, pool: ThreadPoolExecutor, call: Callable[[Register], T]) -> T:
        if self.stopping:
            raise RefusedError(503, Problem("stopping", "the service is stopping", "ask again later"), {"Retry-After": "5"})
        self._n_open += 1  # counted here and down again in the event loop's own thread
        try:
            async with asyncio.timeout(self.limits.answer_timeout_s):
                return await asyncio.wrap_future(pool.submit(lambda: call(self._opened())))
        except TimeoutError as error:
            problem = Problem(
                "slow", f"no answer within {self.limits.answer_timeout_s:g} s", "ask again; repeating a write changes nothing"
            )
            raise RefusedError(503, problem, {"Retry-After": "5"}) from error
        finally:
            self._n_open -= 1

    def _opened(self) -> Register:
        """The register; where another file has taken the place of its own, that one."""
        with self._lock:
            found = self._look()
            if self._register is None:
                self._register = self._open()
            elif found != self._identity:
                try:
                    fresh = self._open()
                except RegisterError as error:
                    message = f"in the place of the register {self._location} is something else: {error.message}"
                    raise RegisterUnavailableError(message, hint=error.hint) from error
                self._register.close()  # threads that are in it keep their connection
                self._register = fresh
            self._identity = found
            return self._register

    def _open(self) -> Register:
        from studbook.registry import Register

        return Register.open(self._location, index=self._index)

    def _look(self) -> tuple[int, int] | None:
        """What tells the register's file from every other; a connection would go on with a file that was removed."""
        if self._file is None:
            return None
        try:
            found = self._file.stat()
        except OSError as error:
            if self._register is None:
                return None  # opening says what is wrong
            raise RegisterUnavailableError(f"the register {self._location} is gone: {error.strerror or error}") from error
        return found.st_dev, found.st_ino
