"""The inside of a worker process: receive a task, run it, send what became of it, until the parent closes the line."""

from __future__ import annotations

import io
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.spawn import import_main_path
from typing import Any

from studbook.execution.outcomes import Failure, Success, attempt, encode

WORKER_MARK = "STUDBOOK_WORKER"
"""Holds the process id of the worker that set it, so that a worker knows itself and its children aren't mistaken for it."""

_WATCH_S = 0.5


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message to a worker.

    Attributes:
        function: The pickled function, opened in the worker so that a failure to import it is reported as an error.
        main: The parent's script, from which what was defined in it can be had; ``None`` in a notebook or an interactive session.
    """

    function: bytes
    main: str | None


def inside_worker() -> bool:
    """Whether this process is a worker."""
    return os.environ.get(WORKER_MARK) == str(os.getpid())


def main() -> None:
    """Serve the parent whose line's descriptor and process id are the first arguments."""
    descriptor, parent = int(sys.argv[1]), int(sys.argv[2])
    # Ctrl-C goes to the whole terminal group; only the parent acts on it. It was blocked since before this interpreter started.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    os.environ[WORKER_MARK] = str(os.getpid())
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    with Connection(descriptor) as line:
        _serve(line)


def _watch(parent: int) -> None:
    """End this process soon after its parent, even in the middle of a task."""
    while os.getppid() == parent:
        time.sleep(_WATCH_S)
    os._exit(1)


def _serve(line: Connection) -> None:
    try:
        hello: Hello = pickle.loads(line.recv_bytes())  # noqa: S301 - from our own parent
        function = attempt(_open, (hello.function, hello.main))
        while True:
            payload = line.recv_bytes()
            line.send_bytes(encode(_run(function, payload, hello.main)))
    except (EOFError, OSError):
        return  # The parent closed the line: done, or gone. A task's own OSError doesn't come here: it is an outcome.


def _run(function: Success[Any] | Failure, payload: bytes, script: str | None) -> Success[Any] | Failure:
    if isinstance(function, Failure):
        return function
    task = attempt(_open, (payload, script))
    return attempt(function.value, task.value) if isinstance(task, Success) else task


def _open(message: tuple[bytes, str | None]) -> Any:
    payload, script = message
    return _Unpickler(io.BytesIO(payload), script).load()


class _Unpickler(pickle.Unpickler):
    """Finds what the parent's script defines, by importing that script, and only then.

    ``multiprocessing`` imports it always, at a cost, and fails on scripts from standard input or without a main guard.
    """

    def __init__(self, file: io.BytesIO, script: str | None) -> None:
        super().__init__(file)
        self._script = script

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        if module == "__main__" and self._script is not None:
            import_main_path(self._script)  # Returns at once when it has been imported already.
        found: Callable[..., Any] = super().find_class(module, name)
        return found
