"""A verifier's node: takes signed claims into a bounded queue, examines them in workers, seals its ballots and reveals them."""

from __future__ import annotations

import hashlib
import hmac
import logging
import math
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from studbook.errors import EvidenceError, StudbookError
from studbook.provenance import PublicKey, SigningKey, open_signed, sign
from studbook.records import Claim, Evidence
from studbook.verification.folder import pair
from studbook.verification.models import ModelStore
from studbook.verification.quorum import Revealed, seal_ballot
from studbook.web.examiner import IN_THE_LOG, Examiner, Setup, Task
from studbook.web.limits import Limits, Problem, RefusedError

State: TypeAlias = Literal["queued", "running", "sealed", "failed"]

_LOG = logging.getLogger("studbook.web")
_STOPPING = Problem("SB707", "the node stopped before the claim was examined; there is no ballot", "ask it again later, or another node")
_LINGER_S = 10.0
_OPENED_AT_ONCE = 2  # JSON of a few megabytes may become a hundred times as much in memory


@dataclass(slots=True, eq=False)
class Job:
    """A claim in one round of votes.

    Attributes:
        id: 128 random bits in hex.
        caller: Who sent it; nobody else may look.
        key: Claim, claimant and round.
        evidence: SHA-256 of the evidence.
        task: What is to be done; ``None`` once it is.
        state: How far it is.
        ballot: Signed.
        salt: That the ballot is sealed with.
        seal: The commitment to it.
        seals: All voters', as they were when the ballot was revealed.
        problem: Why there is no ballot.
        finished: When (monotonic seconds).
        collected: Whether the caller has what can be had.
    """

    id: str
    caller: str
    key: tuple[str, str, str]
    evidence: str
    task: Task | None
    state: State = "queued"
    ballot: bytes = b""
    salt: str = ""
    seal: str = ""
    seals: Mapping[str, str] | None = None
    problem: Problem | None = None
    finished: float = 0.0
    collected: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """A job as its caller sees it.

    Attributes:
        job: Its id.
        state: How far it is.
        position: Place in the queue from 1; 0 once it has left it.
        seal: The commitment to the ballot, once there is one.
        problem: Why there is no ballot, where it failed.
        created: Whether the request made it; else it was there.
    """

    job: str
    state: State
    position: int
    seal: str | None = None
    problem: Problem | None = None
    created: bool = False


@dataclass(slots=True)
class _Shelf:
    """All jobs, by id and by claim and round; finished ones in the order in which they finished."""

    by_id: dict[str, Job] = field(default_factory=dict)
    by_key: dict[tuple[str, str, str], Job] = field(default_factory=dict)
    waiting: deque[Job] = field(default_factory=deque)
    running: set[Job] = field(default_factory=set)
    finished: OrderedDict[str, Job] = field(default_factory=OrderedDict)


class VerifierNode:
    """Votes on claims with the models that its operator has registered.

    A claim is data: nothing in it is executed, loaded or fetched; its recipe names a model by digest. Whatever keeps the node from a
    ballot is a failed job with a reason, and nobody's vote.

    Args:
        key: The node's own; ballots are signed with it here and nowhere else.
        setup: Models and calibrations.
        limits: Bounds.
        claimants: Keys whose claims are examined; ``None`` takes anybody's.

    Raises:
        CheckpointError: A folder without a model.
    """

    def __init__(self, key: SigningKey, setup: Setup, limits: Limits, *, claimants: Collection[PublicKey] | None = None) -> None:
        self._key, self.setup, self.limits, self._claimants = key, setup, limits, claimants
        self.public = key.public
        self.models = tuple((model.digest, model.family) for model in ModelStore(setup.models))
        self._shelf = _Shelf()
        self._changed = threading.Condition()
        self._opening = threading.BoundedSemaphore(_OPENED_AT_ONCE)
        self._stopping = self._ended = False
        self._mean_s = 1.0
        self._examiners = [Examiner(setup, limits) for _ in range(limits.workers)]
        self._threads = [threading.Thread(target=self._run, args=(examiner,), daemon=True) for examiner in self._examiners]

    @property
    def stopping(self) -> bool:
        """Whether it takes no more claims."""
        return self._stopping

    @property
    def n_queued(self) -> int:
        """Claims that wait."""
        return len(self._shelf.waiting)

    @property
    def n_running(self) -> int:
        """Claims that are being examined."""
        return len(self._shelf.running)

    def start(self) -> None:
        """Start the workers, and wait until they are ready.

        Raises:
            StudbookError: One can't work; the operator has to see to it.
        """
        for examiner in self._examiners:
            examiner.start()
        for thread in self._threads:
            thread.start()

    def submit(self, caller: str, claim: bytes, evidence: bytes, vote: tuple[str, str]) -> View:
        """Check a claim with its evidence, and queue it; the same again gives the job that is there.

        Args:
            caller: Who asks.
            claim: Signed.
            evidence: Signed by the same key.
            vote: The round, 32 hex digits, and the electorate: see ``Ballot``.

        Raises:
            RefusedError: 409 where the round was begun with other evidence or by somebody else, 422 for what isn't a claim with its
                evidence, 429 where the queue is full, 503 where the node is stopping.
        """
        with self._opening:
            task = self._open(claim, evidence, vote)
        key = (task.packet.claim.id, str(task.packet.claim.key), vote[0])
        digest = hashlib.sha256(evidence + vote[1].encode()).hexdigest()
        with self._changed:
            known = self._shelf.by_key.get(key)
            if known is not None:
                return self._known(known, caller, digest)
            self._require_room()
            job = Job(secrets.token_hex(16), caller, key, digest, task)
            self._shelf.by_id[job.id] = self._shelf.by_key[key] = job
            self._shelf.waiting.append(job)
            self._changed.notify_all()
            return View(job.id, "queued", len(self._shelf.waiting), created=True)

    def look(self, caller: str, job_id: str) -> View:
        """How far a job is.

        Raises:
            RefusedError: 404 where the caller has no such job.
        """
        with self._changed:
            job = self._find(caller, job_id)
            job.collected |= job.state == "failed"
            return self._view(job)

    def reveal(self, caller: str, job_id: str, seals: Mapping[str, str]) -> Revealed:
        """The ballot, in return for the seals of all voters; they can't be changed afterwards.

        Raises:
            RefusedError: 404 as in ``look``; 409 where there is no ballot, its seal isn't among them, or it was revealed for others.
        """
        with self._changed:
            job = self._find(caller, job_id)
            if job.state != "sealed":
                raise _conflict(f"the job is {job.state}; there is no sealed ballot", "wait for the seal")
            if not hmac.compare_digest(seals.get(str(self.public), ""), job.seal):
                raise _conflict("this node's seal isn't among the seals", "send the seals of all voters, as they gave them")
            if job.seals is not None and dict(job.seals) != dict(seals):
                raise _conflict("the ballot was revealed for other seals", "a round is closed once its first ballot is revealed")
            job.seals, job.collected = dict(seals), True
            return Revealed(job.ballot, job.salt)

    def close(self, patience_s: float) -> None:
        """Take no more claims, finish those that were taken, wait for their callers, and end the workers.

        Args:
            patience_s: Longest time for that. What isn't finished then fails with a reason.
        """
        end = time.monotonic() + patience_s
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
            while self._busy() and time.monotonic() < end:
                self._changed.wait(0.1)
            self._ended = True
            while self._shelf.waiting:
                self._fail(self._shelf.waiting.popleft(), _STOPPING)
            self._changed.notify_all()
        for examiner in self._examiners:
            examiner.stop()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(5.0)

    def _open(self, claim: bytes, evidence: bytes, vote: tuple[str, str]) -> Task:
        round_, electorate = vote
        try:
            signed = open_signed(claim, Claim, "the claim", keys=self._claimants)
            packet = pair(signed, open_signed(evidence, Evidence, "the evidence", keys={signed.key}))
            nonce = packet.evidence.record.nonce
            fresh = nonce == round_ or (self.limits.accept_offline_evidence and not nonce)
            if not fresh:
                raise EvidenceError("the evidence answers another challenge than this round's", hint="answer with the round as the nonce")
        except StudbookError as error:
            raise RefusedError(422, Problem(error.code, error.message, error.hint)) from error
        return Task(packet, round_, electorate)

    def _known(self, job: Job, caller: str, digest: str) -> View:
        if job.caller != caller:
            raise _conflict("this round of the claim was begun by another caller", "draw another round")
        if job.evidence != digest:
            raise _conflict("this round of the claim was begun with other evidence or voters", "draw another round")
        return self._view(job)

    def _require_room(self) -> None:
        if self._stopping:
            problem = Problem("stopping", "the node is stopping and takes no more claims", "ask another node, or later")
            raise RefusedError(503, problem, {"Retry-After": "5"})
        waiting = len(self._shelf.waiting)
        if waiting >= self.limits.queue:
            problem = Problem("queue-full", f"{waiting} claims wait, as many as may", "ask again after the seconds in Retry-After")
            raise RefusedError(429, problem, {"Retry-After": str(min(60, max(1, math.ceil(self._mean_s / self.limits.workers))))})

    def _find(self, caller: str, job_id: str) -> Job:
        job = self._shelf.by_id.get(job_id)
        if job is None or job.caller != caller:
            raise RefusedError(404, Problem("not-found", "there is no such job of yours", "send the claim again"))
        return job

    def _view(self, job: Job) -> View:
        position = self._shelf.waiting.index(job) + 1 if job.state == "queued" else 0
        return View(job.id, job.state, position, job.seal or None, job.problem)

    def _run(self, examiner: Examiner) -> None:
        while True:
            with self._changed:
                while not self._shelf.waiting and not self._ended:
                    self._changed.wait()
                if self._ended:
                    return
                job = self._shelf.waiting.popleft()
                job.state = "running"
                self._shelf.running.add(job)
            self._examine(examiner, job)
            try:
                examiner.start()  # where the claim ended the worker: the next one needn't wait for another
            except StudbookError as error:
                _LOG.error("no worker is ready: %s", error)

    def _examine(self, examiner: Examiner, job: Job) -> None:
        assert job.task is not None
        start = time.monotonic()
        try:
            ballot = sign(examiner.examine(job.task), self._key)
            problem = None
        except StudbookError as error:
            problem = _STOPPING if self._ended else Problem(error.code, error.message, error.hint)
        except Exception:  # noqa: BLE001 - the node lives on, whatever a claim brings about
            _LOG.exception("a claim couldn't be examined")
            problem = Problem("SB707", "the verifier met something unexpected; there is no ballot", IN_THE_LOG)
        with self._changed:
            self._mean_s += 0.2 * (time.monotonic() - start - self._mean_s)
            self._shelf.running.discard(job)
            if problem is None:
                salt = secrets.token_hex(16)
                job.ballot, job.salt, job.seal = ballot, salt, seal_ballot(ballot, salt, self.public)
                self._finish(job, "sealed")
            else:
                self._fail(job, problem)
            self._changed.notify_all()

    def _fail(self, job: Job, problem: Problem) -> None:
        job.problem = problem
        self._finish(job, "failed")

    def _finish(self, job: Job, state: State) -> None:
        job.state, job.task, job.finished = state, None, time.monotonic()
        self._shelf.finished[job.id] = job
        while len(self._shelf.finished) > self.limits.keep:
            _, oldest = self._shelf.finished.popitem(last=False)
            del self._shelf.by_id[oldest.id], self._shelf.by_key[oldest.key]

    def _busy(self) -> bool:
        """Whether a claim isn't finished, or was a moment ago and its caller hasn't come for it."""
        since = time.monotonic() - _LINGER_S
        shelf = self._shelf
        return bool(shelf.waiting or shelf.running) or any(not job.collected and job.finished > since for job in shelf.finished.values())


def _conflict(message: str, hint: str) -> RefusedError:
    return RefusedError(409, Problem("conflict", message, hint))
