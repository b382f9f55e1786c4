"""Executors by name, for the command line."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Literal, get_args

from studbook.errors import ConfigError
from studbook.execution.checks import check_workers
from studbook.execution.local import LocalExecutor
from studbook.execution.on_ray import RayExecutor
from studbook.execution.processes import ProcessExecutor
from studbook.execution.protocols import Executor

ExecutorName = Literal["local", "processes", "ray"]
EXECUTORS: tuple[str, ...] = get_args(ExecutorName)


def create_executor(name: ExecutorName, workers: int) -> Executor:
    """The executor of that name.

    Args:
        name: ``"local"`` (this process), ``"processes"`` or ``"ray"`` (extra ``cluster``).
        workers: Tasks under way at once, 1 to 1,024; ``"local"`` has one.

    Raises:
        ConfigError: An unknown name, a number of workers out of range, or several for ``"local"``.
        MissingExtraError: Ray isn't installed.

    Examples:
        >>> from studbook.execution import create_executor
        >>> create_executor("processes", 2)
        ProcessExecutor(workers=2, retries=2)
    """
    check_workers(workers)
    if name == "processes":
        return ProcessExecutor(workers)
    if name == "ray":
        return RayExecutor(workers)
    if name != "local":
        raise _unknown(name)
    if workers > 1:
        raise ConfigError(f'the executor "local" has one worker, got {workers}', hint='use the executor "processes"')
    return LocalExecutor()


def _unknown(name: str) -> ConfigError:
    nearest = get_close_matches(name.lower(), EXECUTORS, n=1, cutoff=0.5)
    hint = f'did you mean "{nearest[0]}"?' if nearest else None
    return ConfigError(f'unknown executor "{name}", expected one of {", ".join(EXECUTORS)}', hint=hint)
