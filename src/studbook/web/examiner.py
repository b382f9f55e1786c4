"""Claims are examined in a process of its own, with a limit on time and memory: what is too slow or too large ends it and nothing else."""

from __future__ import annotations

import logging
import os
import pickle
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from studbook.errors import (
    CalibrationError,
    DataError,
    DeviceMemoryError,
    DigestError,
    EvidenceError,
    RecordError,
    StudbookError,
    VerifierError,
)
from studbook.execution.launch import Worker, start_worker
from studbook.execution.outcomes import Failure, Success, dump, pack_function
from studbook.execution.worker import Hello
from studbook.records import Ballot, Calibration
from studbook.verification.folder import Packet
from studbook.web.limits import Limits

if TYPE_CHECKING:
    from studbook.verification.verifier import Verifier

LOAD_LIMIT_S = 600.0
"""For a worker to start and to read the models' files; the operator waits for that, no caller does."""
IN_THE_LOG = "the operator finds it in the node's log"
_LOOK_S = 0.05
_LOG = logging.getLogger("studbook.web")
_ABOUT_THE_CLAIM = (CalibrationError, DataError, DigestError, EvidenceError, RecordError, VerifierError)
"""Errors whose words are about the claim; what others say is for the operator's log alone."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What a worker examines claims with.

    Attributes:
        models: Folders of the registered models.
        calibrations: Of them.
        whole: Pictures are drawn again as a whole; else one step is redone.
        offline: Evidence whose challenge was drawn from the commitment alone is taken, too.
    """

    models: tuple[Path, ...]
    calibrations: tuple[Calibration, ...]
    whole: bool = True
    offline: bool = False


@dataclass(frozen=True, slots=True)
class Task:
    """One claim to examine; signatures were checked."""

    packet: Packet
    round: str
    electorate: str


class _Desk:
    """What a worker process keeps from one claim to the next: models that are loaded stay so."""

    verifier: Verifier | None = None


def work(message: Setup | Task) -> Ballot | None:
    """Runs in the worker: take the setup, then examine claims.

    Raises:
        StudbookError: There is no ballot.
    """
    if isinstance(message, Setup):
        # Here, so that the node itself, which never runs a model, doesn't load PyTorch.
        from studbook.verification.models import ModelStore
        from studbook.verification.verifier import Verifier

        _Desk.verifier = Verifier(ModelStore(message.models), message.calibrations, whole=message.whole, offline=message.offline)
        _Desk.verifier.prepare()
        return None
    assert _Desk.verifier is not None
    return _Desk.verifier.examine(message.packet, message.round, message.electorate).ballot


class Examiner:
    """One worker process, started again when it was ended.

    Args:
        setup: What it examines with.
        limits: Of time and memory.
    """

    def __init__(self, setup: Setup, limits: Limits) -> None:
        self._setup, self._limits = setup, limits
        self._worker: Worker | None = None
        self._stopped = False

    def start(self) -> None:
        """Start the worker where none runs, and wait until it is ready.

        Raises:
            StudbookError: It can't work: a model's folder, the memory limit.
        """
        if self._stopped:
            raise VerifierError("the node is stopping; there is no ballot", hint="ask again later, or another node")
        if self._worker is not None and not self._worker.alive:
            self._discard()
        if self._worker is None:
            self._worker = start_worker()
            self._worker.send(dump(Hello(pack_function(work, dump), None)))
            try:
                self._ask(self._setup, LOAD_LIMIT_S)
            except StudbookError:
                self._discard()
                raise

    def examine(self, task: Task) -> Ballot:
        """The ballot on a claim, not yet signed.

        Raises:
            StudbookError: There is none; the message is fit for the caller.
        """
        try:
            self.start()
            ballot = self._ask(task, self._limits.time_limit_s)
        except StudbookError as error:
            raise self._for_caller(error) from error
        assert isinstance(ballot, Ballot)
        return ballot

    def stop(self) -> None:
        """End the worker, even in the middle of a claim."""
        self._stopped = True
        worker = self._worker
        if worker is not None:
            worker.process.kill()
            worker.process.wait()

    def _ask(self, message: Setup | Task, time_limit_s: float) -> object:
        worker = self._worker
        assert worker is not None
        with _Watch(worker, time_limit_s, self._limits.memory_limit_mb) as watch:
            worker.send(dump(message))
            answer = worker.receive()
        if answer is None:
            ended = self._discard()
            _LOG.warning("a worker was ended: %s", watch.reason or ended)
            reason = watch.reason or ("the node is stopping" if self._stopped else f"the worker ended by {ended}")
            raise VerifierError(f"{reason}; there is no ballot", hint="nobody's vote: ask another node, or the operator for more")
        outcome: Success[object] | Failure = pickle.loads(answer)  # noqa: S301 - from our own worker
        if isinstance(outcome, Success):
            return outcome.value
        if isinstance(outcome.error, MemoryError | DeviceMemoryError):
            raise VerifierError("memory ran out; there is no ballot", hint="nobody's vote: ask the operator for more")
        if isinstance(outcome.error, StudbookError):
            raise outcome.error
        _LOG.error("a claim couldn't be examined: %s", outcome.trace or outcome.summary)
        raise VerifierError("the verifier met something unexpected; there is no ballot", hint=IN_THE_LOG)

    def _discard(self) -> str:
        """Let go of the worker, and say how it ended."""
        worker, self._worker = self._worker, None
        return "" if worker is None else worker.end()

    def _for_caller(self, error: StudbookError) -> StudbookError:
        if not isinstance(error, _ABOUT_THE_CLAIM):
            _LOG.error("a claim couldn't be examined: %s", error)
            return VerifierError("the verifier can't run this model now; there is no ballot", hint=IN_THE_LOG)
        return type(error)(self._without_paths(error.message), hint=None if error.hint is None else self._without_paths(error.hint))

    def _without_paths(self, text: str) -> str:
        for folder in self._setup.models:
            for form in (str(folder), str(folder.absolute()), str(folder.resolve())):
                text = text.replace(form, "the model's folder")
        return text


class _Watch:
    """Kills a worker that is beyond its time or memory, for as long as the block lasts.

    Attributes:
        reason: Why it was killed; empty where it wasn't.
    """

    def __init__(self, worker: Worker, time_limit_s: float, memory_limit_mb: int) -> None:
        self.reason = ""
        self._worker, self._time_limit_s, self._memory_limit_mb = worker, time_limit_s, memory_limit_mb
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        end = time.monotonic() + self._time_limit_s
        while not self._done.wait(_LOOK_S):
            if time.monotonic() >= end:
                self._kill(f"the claim took longer than {self._time_limit_s:g} s")
            elif self._memory_limit_mb and resident_mb(self._worker.process.pid) > self._memory_limit_mb:
                self._kill(f"the claim needed more than {self._memory_limit_mb:,} MiB of memory")

    def _kill(self, reason: str) -> None:
        self.reason = self.reason or reason
        self._worker.process.kill()
        self._done.set()


def resident_mb(pid: int) -> float:
    """Memory (MiB) that a process holds; 0 where it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
