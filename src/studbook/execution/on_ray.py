"""On Ray: a cluster of machines, or a local one that is started for the run."""

from __future__ import annotations

import importlib.util
import logging
import os
import pickle
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from studbook.errors import ConfigError, MissingExtraError, UnitFailedError, WorkerLostError
from studbook.execution.checks import check_retries, check_workers
from studbook.execution.outcomes import OUT_OF_MEMORY, Failure, Success, attempt, encode, pack_function
from studbook.execution.threads import BLAS_ENVIRONMENT, environment, single_threaded

T = TypeVar("T")
R = TypeVar("R")

# Never a call to the network that nobody asked for.
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_DEDUP_LOGS": "0"}

_ANSWER_S = 10.0


@dataclass(frozen=True, slots=True)
class RayExecutor:
    """Runs tasks on Ray (``pip install 'studbook[cluster]'``).

    A session that is open already is used and left open. Otherwise the run opens one and closes it at its end: a local cluster
    without dashboard, or the cluster at ``address``, where studbook must be installed on every machine. Results are the same to
    the bit on machines of one kind; another make of processor may round differently.

    Args:
        workers: Tasks under way at once, 1 to 1,024; ``None`` for as many as the cluster has processors.
        address: Of a running cluster, such as ``"auto"`` or ``"ray://head:10001"``; ``None`` for the environment's ``RAY_ADDRESS``
            where it is set, else a local cluster.
        retries: How often a task is run again after the worker under it died, 0 or more. A task that raises isn't run again.

    Raises:
        ConfigError: ``workers`` or ``retries`` out of range.
        MissingExtraError: Ray isn't installed.
    """

    workers: int | None = None
    address: str | None = None
    retries: int = 2

    def __post_init__(self) -> None:
        if self.workers is not None:
            check_workers(self.workers)
        check_retries(self.retries)
        if importlib.util.find_spec("ray") is None:
            raise MissingExtraError('the executor "ray" needs Ray, which isn\'t installed', hint="pip install 'studbook[cluster]'")

    def run(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[tuple[int, R]]:
        """Run ``function`` on every task; see ``Executor.run``.

        Args:
            function: A function at the top level of a module that the cluster's machines can import.
            tasks: Picklable values.

        Yields:
            Index and result, in the order in which they finish.

        Raises:
            StudbookError: A task raised it.
            UnitFailedError: A task raised anything else, which is the cause.
            WorkerLostError: A worker died under the same task more than ``retries`` times.
        """
        if not tasks:
            return
        with self.session():
            yield from self._run(function, tasks)

    def _run(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[tuple[int, R]]:
        import ray
        from ray import cloudpickle

        remote = ray.remote(_remote).options(num_cpus=1, max_retries=self.retries, retry_exceptions=False)
        packed = pack_function(function, cloudpickle.dumps)
        waiting = deque(range(len(tasks)))
        running: dict[Any, int] = {}
        limit = self.workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        try:
            while waiting or running:
                while waiting and len(running) < limit:
                    index = waiting.popleft()
                    task = attempt(cloudpickle.dumps, tasks[index]).result(index)
                    running[remote.remote(packed, task)] = index
                (done,), _ = ray.wait(list(running), num_returns=1)
                index = running.pop(done)
                yield index, self._fetch(done, index).result(index)
        finally:
            for reference in running:
                ray.cancel(reference, force=True)

    def _fetch(self, reference: Any, index: int) -> Success[Any] | Failure:
        import ray

        try:
            outcome: Success[Any] | Failure = pickle.loads(ray.get(reference))  # noqa: S301 - from our own worker
        except ray.exceptions.RayTaskError as error:  # What the task itself raises arrives as a Failure.
            raise UnitFailedError(
                f"task {index} failed before it ran: {Failure.of(error.cause).summary}",
                hint="install studbook on every machine of the cluster",
            ) from error
        except ray.exceptions.RayError as error:
            times = f" {self.retries + 1} times, last" if self.retries else ","
            raise WorkerLostError(f"task {index} lost its Ray worker{times} by {type(error).__name__}", hint=OUT_OF_MEMORY) from error
        return outcome

    @contextmanager
    def session(self) -> Iterator[None]:
        """Open Ray within the block, where nobody has yet."""
        import ray

        if ray.is_initialized():
            yield
            return
        address = self.address or os.environ.get("RAY_ADDRESS", "local")
        try:
            with environment({**BLAS_ENVIRONMENT, **_QUIET}):  # Inherited by the processes that Ray starts.
                self._connect(address)
            yield
        finally:
            ray.shutdown()

    def _connect(self, address: str) -> None:
        import ray

        _check_reachable(address)
        # Without the last, Ray would try for ever to run a task that is out of memory.
        local = {"num_cpus": self.workers, "include_dashboard": False, "_system_config": {"task_oom_retries": self.retries}}
        try:
            ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, **(local if address == "local" else {}))
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ConfigError(f"no Ray cluster at {address!r}: {Failure.of(error).summary}", hint="see `ray status`") from error


def _check_reachable(address: str) -> None:
    """Ask the address itself first: Ray waits for minutes, or ends the process, where nobody answers."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return  # A name such as "auto" or "local".
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_S).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(f"no Ray cluster answers at {address!r}: {error}", hint="see `ray status` on its head") from error


def _remote(function: bytes, task: bytes) -> bytes:
    """The body of a Ray task: its errors travel as values, so that Ray retries lost workers alone."""
    with single_threaded():  # Before the function's module is imported, and NumPy with it.
        opened = attempt(pickle.loads, function)
        if isinstance(opened, Success):
            argument = attempt(pickle.loads, task)
            return encode(attempt(opened.value, argument.value) if isinstance(argument, Success) else argument)
        return encode(opened)
