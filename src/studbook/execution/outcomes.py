"""What became of a task, as a value that can travel from a worker to the parent."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, NoReturn, TypeVar

from studbook.errors import ConfigError, StudbookError, UnitFailedError

T = TypeVar("T")
R = TypeVar("R")

OUT_OF_MEMORY = "it may be out of memory: try fewer workers, or smaller units"

_MESSAGE_LENGTH = 300


class RemoteTraceback(Exception):  # noqa: N818 - it carries a text and is never an error of its own
    """The traceback of an error in a worker, as text; it hangs on the error as its cause."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class RemoteError(Exception):
    """Stands for an error whose own class can't leave the worker."""


@dataclass(frozen=True, slots=True)
class Success(Generic[R]):
    """A task's result."""

    value: R

    def result(self, index: int) -> R:
        """The result of task ``index``."""
        return self.value


@dataclass(frozen=True, slots=True)
class Failure:
    """A task's error.

    Attributes:
        error: The error itself, or a ``RemoteError`` that stands for it.
        summary: Type and first line of the message.
        trace: The worker's traceback as text; ``None`` while the error is where it was raised and has its own.
    """

    error: BaseException
    summary: str
    trace: str | None = None

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """The failure that ``error`` is."""
        first_line = next(iter(str(error).splitlines()), "")[:_MESSAGE_LENGTH]
        name = type(error).__name__
        return cls(error, f"{name}: {first_line}" if first_line else name)

    def portable(self) -> Failure:
        """The same failure, fit for another process: whole where its error survives pickling, else with a stand-in."""
        trace = "".join(traceback.format_exception(self.error))
        copied = attempt(_round_trip, self.error)
        error = self.error if isinstance(copied, Success) else RemoteError(self.summary)
        return Failure(error, self.summary, trace)

    def result(self, index: int) -> NoReturn:
        """Raise the error of task ``index``.

        Raises:
            StudbookError: The task's own error.
            UnitFailedError: From any other error.
        """
        if self.trace is not None:
            self.error.__cause__ = RemoteTraceback(self.trace)
        if isinstance(self.error, StudbookError):
            self.error.add_note(f"raised by task {index}")
            raise self.error
        raise UnitFailedError(f"task {index} raised {self.summary}") from self.error


def attempt(function: Callable[[T], R], task: T) -> Success[R] | Failure:
    """Call ``function`` and turn whatever it raises into a value, so that an error never looks like a dead worker.

    Args:
        function: Called once.
        task: Its argument.

    Returns:
        What it returned or raised. ``KeyboardInterrupt`` isn't a task's outcome and passes through.

    Examples:
        >>> attempt(int, "7")
        Success(value=7)
        >>> attempt(int, "seven").summary
        "ValueError: invalid literal for int() with base 10: 'seven'"
    """
    try:
        return Success(function(task))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the one place where anybody's error may arrive; it is raised again
        return Failure.of(error)


def encode(outcome: Success[R] | Failure) -> bytes:
    """The bytes of an outcome; a result that pickle can't carry becomes a failure that says so."""
    sent = outcome.portable() if isinstance(outcome, Failure) else outcome
    packed = attempt(dump, sent)
    return packed.value if isinstance(packed, Success) else dump(packed.portable())


def dump(value: object) -> bytes:
    """``value`` for another process of ours on the same code."""
    return pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)


def pack_function(function: Callable[[T], R], pack: Callable[[object], bytes]) -> bytes:
    """The bytes of a function, for workers.

    Args:
        function: The function.
        pack: What turns it into bytes.

    Raises:
        ConfigError: It can't be sent.
    """
    packed = attempt(pack, function)
    if isinstance(packed, Success):
        return packed.value
    name = getattr(function, "__qualname__", repr(function))
    hint = "use a function at the top level of a module"
    raise ConfigError(f"{name} can't be sent to workers: {packed.summary}", hint=hint) from packed.error


def _round_trip(error: BaseException) -> BaseException:
    copy: BaseException = pickle.loads(dump(error))  # noqa: S301 - bytes of our own, made a moment ago
    return copy
