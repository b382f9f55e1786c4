"""The contract of an executor, for those who write their own.

Subclass ``ExecutorContract`` in your tests and give it a fixture ``executor``. The tasks are functions of this module, so that workers
can import them.

Example:
    >>> import pytest
    >>> from studbook.execution import ProcessExecutor
    >>> class TestMine(ExecutorContract):
    ...     @pytest.fixture
    ...     def executor(self):
    ...         return ProcessExecutor(2)
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar, TypeVar, cast

import numpy as np

from studbook.errors import FitError, StudbookError, UnitFailedError
from studbook.execution.local import LocalExecutor
from studbook.execution.protocols import Executor

E = TypeVar("E", bound=StudbookError)

LARGE_BYTES = 10_000_000


def square(number: int) -> int:
    """A tiny task.

    Args:
        number: Any.
    """
    return number * number


def factorise(seed: int, *, size: int = 200, rounds: int = 1) -> bytes:
    """A task of linear algebra whose last bits depend on how BLAS splits the work.

    Args:
        seed: Seed of the matrix, 0 or more.
        size: Its rows and columns.
        rounds: How often the eigenvectors become the next matrix.

    Returns:
        The bytes of all eigenvalues and eigenvectors.
    """
    matrix = np.random.default_rng(seed).normal(size=(size, size))
    found = []
    for _ in range(rounds):
        values, vectors = np.linalg.eigh(matrix @ matrix.T)
        found += [values.tobytes(), vectors.tobytes()]
        matrix = vectors * np.log1p(np.abs(values))
    return b"".join(found)


def work(seed: int) -> bytes:
    """A task of half a second or so of linear algebra with a small result, for measuring.

    Args:
        seed: Seed, 0 or more.

    Returns:
        A digest of what ``factorise`` gives.
    """
    return hashlib.sha256(factorise(seed, size=300, rounds=48)).digest()


def make_large(seed: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """A task with a result of 10 MB.

    Args:
        seed: Seed, 0 or more.
    """
    return np.random.default_rng(seed).integers(0, 256, LARGE_BYTES, dtype=np.uint8)


def measure(array: np.ndarray[tuple[int], np.dtype[np.uint8]]) -> int:
    """A task with an argument that may be large.

    Args:
        array: Any.
    """
    return int(array.sum(dtype=np.int64))


def count_threads(_: object) -> int:
    """A task that says how many threads the busiest of its numerical libraries would use."""
    from threadpoolctl import threadpool_info

    np.ones((2, 2)) @ np.ones((2, 2))
    return max((int(library["num_threads"]) for library in threadpool_info()), default=1)


def find_process(_: object) -> int:
    """A task that says which process it runs in."""
    return os.getpid()


def raise_known(path: Path) -> None:
    """A task that leaves a mark and raises one of studbook's errors.

    Args:
        path: File that gets one more byte a call.
    """
    _mark(path)
    raise FitError("column 3 is constant", hint="drop it")


def raise_unknown(path: Path) -> None:
    """A task that leaves a mark and raises an error of somebody else's.

    Args:
        path: File that gets one more byte a call.
    """
    _mark(path)
    raise KeyError("height")


def raise_stubborn(path: Path) -> None:
    """A task that raises an error that pickle can't carry.

    Args:
        path: File that gets one more byte a call.
    """
    _mark(path)

    class StubbornError(Exception):
        lock = threading.Lock()

    raise StubbornError("holds a lock")


def raise_for_odd(number: int) -> int:
    """A task that fails on odd numbers.

    Args:
        number: Any.
    """
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number


def leave_python(path: Path) -> None:
    """A task that tries to end its process as a program would.

    Args:
        path: File that gets one more byte a call.
    """
    _mark(path)
    sys.exit(3)


def return_lock(path: Path) -> object:
    """A task whose result pickle can't carry.

    Args:
        path: File that gets one more byte a call.
    """
    _mark(path)
    return threading.Lock()


def die_first(path: Path) -> int:
    """A task that kills its process the first time and succeeds the second.

    Args:
        path: File that gets one more byte a call.

    Returns:
        The number of calls.
    """
    if _mark(path) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return path.stat().st_size


def die_always(path: Path) -> None:
    """A task that kills its process.

    Args:
        path: File that gets one more byte a call.
    """
    _mark(path)
    os.kill(os.getpid(), signal.SIGKILL)


def die_by_name(path: Path) -> int:
    """A task that kills its process the first time, or always where the file's name says so.

    Args:
        path: File that gets one more byte a call; ``always``, or any other name.

    Returns:
        The number of calls.
    """
    if path.name == "always":
        die_always(path)
    return die_first(path)


def abandon_child(path: Path) -> None:
    """A task that kills its process and leaves a child behind that holds whatever its parent had open.

    Args:
        path: File that gets the child's process id.
    """
    child = os.fork()
    if child == 0:
        time.sleep(120)
        os._exit(0)
    path.write_text(str(child))
    os.kill(os.getpid(), signal.SIGKILL)


def nap_or_raise(place: tuple[Path, float]) -> int:
    """``nap``, or an error where the seconds are negative.

    Args:
        place: As for ``nap``.
    """
    if place[1] < 0:
        raise ValueError("can't nap backwards")
    return nap(place)


def nap(place: tuple[Path, float]) -> int:
    """A task that says when it starts and when it is done.

    Args:
        place: A folder, which gets a file ``started-…`` with the process id and later a file ``done-…``; and the seconds between.

    Returns:
        The process id.
    """
    folder, seconds = place
    name = f"{os.getpid()}-{time.monotonic_ns()}"
    (folder / f"started-{name}").write_text(str(os.getpid()))
    time.sleep(seconds)
    (folder / f"done-{name}").touch()
    return os.getpid()


def _mark(path: Path) -> int:
    with path.open("ab") as file:
        file.write(b".")
    return path.stat().st_size


class ExecutorContract:
    """What every executor keeps to.

    Attributes:
        most_under_way: Tasks that may be under way at once with the executor of the fixture, that is twice its workers.
    """

    most_under_way: ClassVar[int] = 4

    def test_gives_every_result_once(self, executor: Executor) -> None:
        """All results, in any order, each with the index of its task."""
        assert sorted(executor.run(square, [3, 1, 2])) == [(0, 9), (1, 1), (2, 4)]

    def test_gives_nothing_for_nothing(self, executor: Executor) -> None:
        """No task, no result."""
        assert list(executor.run(square, [])) == []

    def test_runs_one_task(self, executor: Executor) -> None:
        """A single task runs under the same rules."""
        assert list(executor.run(factorise, [5])) == [(0, factorise_alone(5))]

    def test_runs_a_thousand_tiny_tasks(self, executor: Executor) -> None:
        """Nothing is lost or doubled among many."""
        assert sorted(executor.run(square, range(1000))) == [(i, i * i) for i in range(1000)]

    def test_carries_large_results_and_tasks(self, executor: Executor) -> None:
        """10 MB one way and the other, more of them than fit in a pipe."""
        made = dict(executor.run(make_large, range(3)))
        assert all(np.array_equal(made[seed], make_large(seed)) for seed in range(3))
        assert dict(executor.run(measure, [made[0], made[1]])) == {0: measure(made[0]), 1: measure(made[1])}

    def test_gives_the_same_bits_as_the_local_executor(self, executor: Executor) -> None:
        """Linear algebra on seeded data, to the last bit."""
        assert dict(executor.run(factorise, range(6))) == {seed: factorise_alone(seed) for seed in range(6)}

    def test_gives_each_task_one_thread(self, executor: Executor) -> None:
        """BLAS and OpenMP included."""
        assert [threads for _, threads in executor.run(count_threads, [0, 0])] == [1, 1]

    def test_keeps_studbook_errors(self, executor: Executor, tmp_path: Path) -> None:
        """Type, message and hint arrive as they were; the task isn't run again."""
        error = _caught(executor, raise_known, tmp_path / "calls", FitError)
        assert (error.message, error.hint) == ("column 3 is constant", "drop it")
        assert (tmp_path / "calls").stat().st_size == 1

    def test_wraps_other_errors(self, executor: Executor, tmp_path: Path) -> None:
        """The message names the task, the type and the text, and the cause is the error; the task isn't run again."""
        error = _caught(executor, raise_unknown, tmp_path / "calls", UnitFailedError)
        assert "task 0" in error.message and "KeyError: 'height'" in error.message
        assert isinstance(error.__cause__, KeyError)
        assert (tmp_path / "calls").stat().st_size == 1

    def test_wraps_errors_that_cannot_travel(self, executor: Executor, tmp_path: Path) -> None:
        """They aren't mistaken for a lost worker."""
        error = _caught(executor, raise_stubborn, tmp_path / "calls", UnitFailedError)
        assert "StubbornError: holds a lock" in error.message
        assert (tmp_path / "calls").stat().st_size == 1

    def test_wraps_an_exit(self, executor: Executor, tmp_path: Path) -> None:
        """``sys.exit`` in a task is an error of the task."""
        error = _caught(executor, leave_python, tmp_path / "calls", UnitFailedError)
        assert "SystemExit: 3" in error.message
        assert (tmp_path / "calls").stat().st_size == 1

    def test_results_before_an_error_stay(self, executor: Executor) -> None:
        """What was given before the error is right, and the error is that of a failing task."""
        got: dict[int, int] = {}
        try:
            got.update(executor.run(raise_for_odd, [0, 2, 4, 6, 8, 10, 12, 7]))
        except UnitFailedError as error:
            assert "task 7 raised ValueError: 7 is odd" in error.message
        else:
            raise AssertionError("task 7 must fail")
        assert all(got[index] == 2 * index for index in got)

    def test_runs_again_after_an_error(self, executor: Executor, tmp_path: Path) -> None:
        """A failed run leaves nothing behind that hurts the next."""
        _caught(executor, raise_unknown, tmp_path / "calls", UnitFailedError)
        assert sorted(executor.run(square, [2, 3])) == [(0, 4), (1, 9)]

    def test_is_lazy(self, executor: Executor, tmp_path: Path) -> None:
        """Tasks run as results are taken: memory doesn't grow with their number."""
        results = executor.run(nap, [(tmp_path, 0.0)] * 40)
        assert not list(tmp_path.iterdir())
        next(results)
        time.sleep(0.5)
        assert 1 <= len(list(tmp_path.glob("started-*"))) <= 1 + self.most_under_way
        _close(results)

    def test_ends_its_tasks_when_closed(self, executor: Executor, tmp_path: Path) -> None:
        """Closed early, it starts nothing more and ends what is under way."""
        results = executor.run(nap, [(tmp_path, 0.0)] + [(tmp_path, 2.0)] * 8)
        next(results)
        _close(results)
        time.sleep(2.5)
        assert len(list(tmp_path.glob("done-*"))) == 1


def factorise_alone(seed: int) -> bytes:
    """``factorise`` where every other executor's result is compared with: in this process, on one thread.

    Args:
        seed: Seed, 0 or more.
    """
    return next(LocalExecutor().run(factorise, [seed]))[1]


def _caught(executor: Executor, function: Callable[[Path], object], path: Path, kind: type[E]) -> E:
    try:
        list(executor.run(function, [path]))
    except kind as error:
        return error
    raise AssertionError(f"{function.__name__} must raise {kind.__name__}")


def _close(results: Iterator[object]) -> None:
    # Executors are written as generators; another iterator may have its own close, or none.
    close = cast("Callable[[], None] | None", getattr(results, "close", None))
    if close is not None:
        close()
