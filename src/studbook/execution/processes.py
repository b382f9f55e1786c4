"""In worker processes on this machine."""

from __future__ import annotations

import os
import pickle
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, TypeVar

from studbook.errors import ConfigError, WorkerLostError
from studbook.execution.checks import check_retries, check_workers
from studbook.execution.launch import Worker, start_worker
from studbook.execution.outcomes import OUT_OF_MEMORY, Failure, Success, attempt, dump, pack_function
from studbook.execution.worker import Hello, inside_worker

T = TypeVar("T")
R = TypeVar("R")

_LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class ProcessExecutor:
    """Runs tasks in ``workers`` fresh interpreters that live until the last task is done. Needs a POSIX system.

    A worker holds one task at a time, so that memory stays bounded and it is plain which task a dead worker died of. Workers end
    with the iterator, with Ctrl-C, and within a second when this process is killed.

    Args:
        workers: Processes, 1 to 1,024. No more are started than there are tasks.
        retries: How often a task is run again after the worker under it died (killed, or out of memory), 0 or more. A task that
            raises isn't run again.

    Raises:
        ConfigError: ``workers`` or ``retries`` out of range.

    Examples:
        >>> from studbook.execution import ProcessExecutor
        >>> sorted(ProcessExecutor(workers=2).run(abs, [-1, 2, -3]))
        [(0, 1), (1, 2), (2, 3)]
    """

    workers: int
    retries: int = 2

    def __post_init__(self) -> None:
        check_workers(self.workers)
        check_retries(self.retries)

    def run(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[tuple[int, R]]:
        """Run ``function`` on every task; see ``Executor.run``.

        Args:
            function: A function at the top level of a module.
            tasks: Picklable values.

        Yields:
            Index and result, in the order in which they finish.

        Raises:
            ConfigError: ``function`` can't be sent to a worker, or this process is a worker itself.
            StudbookError: A task raised it.
            UnitFailedError: A task raised anything else, which is the cause.
            WorkerLostError: A worker died under the same task more than ``retries`` times.
        """
        pool = _Pool(_hello(function), self.retries, tasks, deque(range(len(tasks))))
        try:
            pool.start(min(self.workers, len(tasks)))
            while pool.busy:
                for line in pool.ready():
                    finished = pool.collect(line)
                    if finished is not None:
                        index, outcome = finished
                        yield index, outcome.result(index)
        finally:
            pool.stop()


@dataclass(slots=True)
class _Pool:
    """The workers of one run.

    Attributes:
        hello: First message to every worker.
        retries: As in ``ProcessExecutor``.
        tasks: All tasks.
        waiting: Indices of those that no worker has.
        busy: By its line, each worker that has a task, and the task's index.
        leaving: Workers that have been told to end.
        losses: How many workers died under each task.
    """

    hello: bytes
    retries: int
    tasks: Sequence[Any]
    waiting: deque[int]
    busy: dict[Connection, tuple[Worker, int]] = field(default_factory=dict)
    leaving: list[Worker] = field(default_factory=list)
    losses: Counter[int] = field(default_factory=Counter)

    def start(self, n_workers: int) -> None:
        """Start workers side by side, each on its first task."""
        started = []
        for _ in range(n_workers):
            worker, index = start_worker(), self.waiting.popleft()
            self.busy[worker.line] = worker, index
            started.append((worker, index))
        for worker, index in started:
            worker.send(self.hello)
            worker.send(self._pack(index))

    def ready(self) -> list[Connection]:
        """Wait for lines with something to read, or whose worker is dead."""
        ready = [line for line in wait(list(self.busy), _LOOK_S) if isinstance(line, Connection)]
        return ready or [line for line, (worker, _) in self.busy.items() if not worker.alive]

    def collect(self, line: Connection) -> tuple[int, Success[Any] | Failure] | None:
        """What a worker has to say of its task, after giving it the next; ``None`` where it died and the task is to be run again."""
        worker, index = self.busy[line]
        message = worker.receive()
        if message is None:
            self._replace(worker, index)
            return None
        outcome: Success[Any] | Failure = pickle.loads(message)  # noqa: S301 - from our own worker
        if isinstance(outcome, Success):
            self._assign(worker)
        return index, outcome

    def stop(self) -> None:
        """End every worker: at once those that still have a task."""
        for worker, _ in self.busy.values():
            worker.process.kill()
            worker.line.close()
            self.leaving.append(worker)
        self.busy.clear()
        for worker in self.leaving:
            worker.leave()

    def _assign(self, worker: Worker) -> None:
        if self.waiting:
            index = self.waiting.popleft()
            self.busy[worker.line] = worker, index
            worker.send(self._pack(index))
        else:
            del self.busy[worker.line]
            self.leaving.append(worker)
            worker.line.close()

    def _replace(self, worker: Worker, index: int) -> None:
        del self.busy[worker.line]
        end = worker.end()
        self.losses[index] += 1
        if self.losses[index] > self.retries:
            times = f" {self.losses[index]} times, last" if self.retries else ","
            raise WorkerLostError(f"task {index} lost its worker process{times} by {end}", hint=OUT_OF_MEMORY)
        self.waiting.appendleft(index)
        self.start(1)

    def _pack(self, index: int) -> bytes:
        return attempt(dump, self.tasks[index]).result(index)


def _hello(function: Callable[[T], R]) -> bytes:
    if os.name != "posix":
        raise ConfigError(f"worker processes need a POSIX system, this is {os.name}", hint='use the executor "local" or "ray"')
    if inside_worker():
        raise ConfigError("a worker process can't start workers of its own", hint='put the call under `if __name__ == "__main__":`')
    return dump(Hello(pack_function(function, dump), _script()))


def _script() -> str | None:
    path = getattr(sys.modules["__main__"], "__file__", None)
    return str(Path(path).absolute()) if path is not None and Path(path).is_file() else None
