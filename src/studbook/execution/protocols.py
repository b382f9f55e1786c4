"""What a study asks of an executor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Executor(Protocol):
    """Runs independent tasks somewhere. ``studbook.testing.executors.ExecutorContract`` tests an implementation."""

    def run(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[tuple[int, R]]:
        """Run ``function`` on every task, each on one thread, and yield the results as they finish, in any order.

        The iterator is lazy: nothing starts before the first result is asked for, and no more tasks are under way than there are
        workers. Closing it early ends what still runs.

        Args:
            function: A function at the top level of a module that workers can import.
            tasks: Values that pickle can carry, as must the results be.

        Yields:
            The index of the task in ``tasks``, and its result.

        Raises:
            StudbookError: A task raised it; type, message and hint are kept. It is never retried.
            UnitFailedError: A task raised anything else, which is the cause.
            WorkerLostError: A worker died under the same task more often than is retried.
        """
        ...
