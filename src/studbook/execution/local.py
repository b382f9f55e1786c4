"""In this process, one task after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from studbook.execution.outcomes import attempt
from studbook.execution.threads import single_threaded

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class LocalExecutor:
    """Runs tasks in the calling process, in order, on one thread. Nothing to start, easy to debug.

    Examples:
        >>> from studbook.execution import LocalExecutor
        >>> dict(LocalExecutor().run(abs, [-1, 2]))
        {0: 1, 1: 2}
    """

    def run(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[tuple[int, R]]:
        """Run ``function`` on each task when its result is asked for; see ``Executor.run``.

        Args:
            function: Any callable.
            tasks: Its arguments.

        Yields:
            Index and result, in order.

        Raises:
            StudbookError: A task raised it.
            UnitFailedError: A task raised anything else, which is the cause.
        """
        for index, task in enumerate(tasks):
            # Within the loop, so that the caller has all its threads back while it handles a result.
            with single_threaded():
                outcome = attempt(function, task)
            yield index, outcome.result(index)
