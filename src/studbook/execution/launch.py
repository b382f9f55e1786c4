"""Start a worker process and hold the line to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

from studbook.execution.threads import WORKER_ENVIRONMENT

# The parent's search path comes first of all, so that the worker finds the same modules. -P keeps the working folder's files from
# shadowing the standard library.
_BOOT = "import sys; sys.path[:] = sys.argv[3:]; from studbook.execution.worker import main; main()"

_LEAVE_S = 5.0


@dataclass(frozen=True, slots=True)
class Worker:
    """A fresh interpreter at the other end of a line (never a fork of this process, which may hold threads and locks)."""

    process: subprocess.Popen[bytes]
    line: Connection

    def send(self, message: bytes) -> None:
        """Send a message. Where the worker has died, the next ``receive`` says so."""
        try:
            self.line.send_bytes(message)
        except OSError:
            return

    def receive(self) -> bytes | None:
        """The next message, once the line is ready or the process has ended; ``None`` from a dead worker."""
        try:
            # A process that the task left behind may hold the dead worker's end of the line open: don't wait for more then.
            return self.line.recv_bytes() if self.line.poll() or self.alive else None
        except (EOFError, OSError):
            return None

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None

    def end(self) -> str:
        """Kill the process, and say how it ended: ``"signal SIGKILL"`` or ``"exit code 1"``."""
        # An end of file comes a moment before the process is gone; its own end says more than ours.
        self.line.close()
        code = self._wait(1.0)
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def leave(self) -> None:
        """Wait for a worker whose line is closed to end by itself, and end it if it doesn't."""
        self._wait(_LEAVE_S)

    def _wait(self, patience_s: float) -> int:
        try:
            return self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def start_worker() -> Worker:
    """Start a worker and return without waiting for it: several start side by side."""
    ours, theirs = Pipe()
    path = [entry or str(Path.cwd()) for entry in sys.path]
    command = [sys.executable, "-P", "-c", _BOOT, str(theirs.fileno()), str(os.getpid()), *path]
    environment: Mapping[str, str] = {**os.environ, **WORKER_ENVIRONMENT}
    with theirs, without_interrupt():
        return Worker(subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], env=environment), ours)


@contextmanager
def without_interrupt() -> Iterator[None]:
    """Block SIGINT, which the new process inherits: a Ctrl-C while it starts would print its traceback."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
