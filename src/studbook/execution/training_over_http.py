"""Training nodes as processes of their own on this machine, asked over HTTP."""

from __future__ import annotations

import functools
import json
import secrets
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from os import environ
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from studbook.errors import ConfigError, RecordError, WorkerLostError
from studbook.execution.launch import without_interrupt
from studbook.execution.threads import WORKER_ENVIRONMENT
from studbook.execution.wire import Address, Buffer, Steps, Wire, WireError, connect, finish, head_of, side_by_side, size_of
from studbook.protocols.cluster import Lost
from studbook.protocols.messages import Message, raise_error
from studbook.protocols.node import Node
from studbook.protocols.recorder import Place
from studbook.protocols.spec import TrainingSpec

_BOOT = "import sys; sys.path[:] = sys.argv[1:]; from studbook.web.training_node import main; main()"
_FRESH_S = 5.0  # a node hangs up after 15 s without a request
_PROBE_S = 0.25
_HEALTH_S = 2.0
_MAX_HEALTH = 1 << 12
_BODY_BYTES = 1 << 28


@dataclass(slots=True, eq=False)
class _Line:
    """One node's address, and the line to it.

    Attributes:
        address: Where it listens.
        token: The run's.
        most: Longest message that goes either way, in bytes.
        process: Where we started it.
    """

    address: Address
    token: str = field(repr=False)
    most: int = _BODY_BYTES
    process: subprocess.Popen[bytes] | None = None
    _answered: bool = False
    _wire: Wire | None = None
    _used: float = 0.0

    def ask(self, message: Sequence[Buffer]) -> Steps[tuple[int, memoryview]]:
        """The status and the body of the answer to a message.

        Raises:
            OSError: Nobody is there, or not any more.
            WireError: What came is no answer.
        """
        if time.monotonic() - self._used > _FRESH_S:
            self.drop()
        if self._wire is None:
            self._wire = yield from connect(self.address)
        fields = {
            "Host": "localhost", "Authorization": f"Bearer {self.token}", "Content-Type": "application/octet-stream",
            "Content-Length": str(size_of(message)),
        }  # fmt: skip
        yield from self._wire.send([head_of("POST /ask HTTP/1.1", fields), *message])
        status, body, closes = yield from _answer(self._wire, self.most)
        self._used = time.monotonic()
        if closes:
            self.drop()
        return status, body

    def read(self, found: tuple[int, memoryview] | Exception, timeout_s: float, size: int) -> Message | Lost:
        """What ``ask`` found, as an answer, or why there is none.

        Raises:
            ConfigError: The node refuses the token, or a message of this size. One that has answered before is lost by that: it can't stop
                the others.
        """
        if isinstance(found, Exception):
            self.drop()
            if isinstance(found, TimeoutError):
                return Lost("slow", f"no whole answer within {timeout_s:g} s")
            return Lost("down" if isinstance(found, OSError) else "garbage", _plain(f"{type(found).__name__}: {found}"))
        status, data = found
        if status in (401, 403, 413):
            what, hint = "refuses the token", "each run has its own; start its nodes with it"
            if status == 413:
                what, hint = f"takes no message of {size:,} bytes", "raise body_bytes"
            if not self._answered:
                raise ConfigError(f"the node at {_shown(self.address)} {what}", hint=hint)
            return Lost("garbage", f"it {what}: {hint}")
        if status != 200:
            return Lost("garbage", f"HTTP {status}")
        try:
            answer = Message.decode(data, "its answer")
        except RecordError as error:
            return Lost("garbage", _plain(error.message))
        self._answered = True
        return answer

    def idle(self) -> bool:
        """Whether the node answers and has nothing under way."""
        try:
            answer = json.loads(bytes(finish(self._health(), _HEALTH_S)))
        except (OSError, ValueError, RecursionError):
            return False
        return isinstance(answer, dict) and answer.get("busy") is False

    def _health(self) -> Steps[memoryview]:
        wire = yield from connect(self.address)
        try:
            yield from wire.send([head_of("GET /health HTTP/1.1", {"Host": "localhost", "Connection": "close"})])
            return (yield from _answer(wire, _MAX_HEALTH))[1]
        finally:
            wire.close()

    def drop(self) -> None:
        """Hang up."""
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()

    def end(self) -> None:
        """Hang up, and kill the process that was started."""
        self.drop()
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout):
                if pipe is not None:
                    pipe.close()


def _answer(wire: Wire, most: int) -> Steps[tuple[int, memoryview, bool]]:
    """Status and body of an answer, and whether the line ends with it."""
    head = yield from wire.head()
    version, status, _ = head.start
    if not version.startswith("HTTP/") or not (status.isascii() and status.isdigit() and len(status) == 3) or head.length > most:
        raise WireError(f"an answer begins {version[:20]} {status[:20]} and is {head.length:,} bytes long, expected {most:,} at most")
    return int(status), (yield from wire.body(head.length)), head.closes


class HttpCluster:
    """Nodes in processes of their own on this machine, which end with this process.

    Messages are bytes, never code; every node knows one token, drawn for the run. Nodes listen on sockets in a folder that only you can
    enter, or on ports of the loopback.

    Args:
        spec: What the nodes are; each process builds its own from it.
        place: Where nodes may keep records and keys; ``None``: they can't commit to their training.
        loopback: On ports of 127.0.0.1; slower where models are large.
        start_timeout_s: Longest wait for a process to be ready.
        body_bytes: Longest message that a node takes, and that is taken from it.

    Raises:
        ConfigError: An impossible spec.
        WorkerLostError: A process didn't start.

    Examples:
        >>> from studbook.execution import HttpCluster
        >>> from studbook.protocols import Independent, Plan, TrainingSpec, train
        >>> with HttpCluster(TrainingSpec("quadratic", nodes=1)) as cluster:
        ...     run = train(cluster, Independent(), Plan(steps=2))
        >>> len(run.rows)
        2
    """

    _folder: str | None = None

    def __init__(
        self,
        spec: TrainingSpec,
        *,
        place: Place | None = None,
        loopback: bool = False,
        start_timeout_s: float = 120.0,
        body_bytes: int = _BODY_BYTES,
    ) -> None:
        self._spec, self._token = spec, secrets.token_urlsafe(32)
        kept = None if place is None else place.plain()
        self._told = {"spec": spec.plain(), "token": self._token, "body_bytes": body_bytes, "place": kept}
        self._start_timeout_s = start_timeout_s
        self._open([])
        if not loopback:
            self._folder = tempfile.mkdtemp(prefix="studbook-nodes-")
        try:
            for i in range(spec.nodes):
                self._lines.append(_Line("", self._token, body_bytes, self._started(i)))
            for i, line in enumerate(self._lines):
                line.address = _ready(line.process, i, start_timeout_s)
        except BaseException:
            self.close()
            raise

    @classmethod
    def at(cls, spec: TrainingSpec, urls: Sequence[str], token: str) -> HttpCluster:
        """Nodes of a spec that run already, in order; they aren't ended with the cluster, nor replaced.

        Raises:
            ConfigError: Not such addresses, or another number of them than the spec has nodes.
        """
        if len(urls) != spec.nodes:
            raise ConfigError(f"{len(urls)} addresses for {spec.nodes} nodes, expected one each")
        cluster = cls.__new__(cls)
        cluster._spec, cluster._told, cluster._token, cluster._start_timeout_s = spec, {}, token, 0.0
        cluster._open([_address(url, token) for url in urls])
        return cluster

    def _open(self, lines: list[_Line]) -> None:
        self._lines = lines
        self._lost: set[int] = set()
        self._back: set[int] = set()
        self._closed = threading.Event()
        self._prober: threading.Thread | None = None

    def __enter__(self) -> HttpCluster:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def n(self) -> int:
        """See ``Cluster``."""
        return len(self._lines)

    @functools.cached_property
    def nodes(self) -> Sequence[Node]:
        """See ``Cluster``; built from the spec here, too, when they are first asked for."""
        return self._spec.build()

    @property
    def pids(self) -> list[int | None]:
        """Of the nodes' processes."""
        return [None if line.process is None else line.process.pid for line in self._lines]

    def ask(self, requests: Mapping[int, Message], *, timeout_s: float) -> Mapping[int, Message | Lost]:
        """See ``Cluster``."""
        sent = {key: message.buffers() for key, message in {id(each): each for each in requests.values()}.items()}
        asked = {i: self._lines[i].ask(sent[id(requests[i])]) for i in sorted(requests)}
        found: dict[int, Message | Lost] = {}
        for i, answer in side_by_side(asked, time.monotonic() + timeout_s).items():
            found[i] = self._lines[i].read(answer, timeout_s, size_of(sent[id(requests[i])]))
            if isinstance(found[i], Lost):
                self._lose(i)
        return found

    def revive(self, index: int, *, fresh: bool) -> bool:
        """See ``Cluster``."""
        if not fresh:
            back = index in self._back
            self._lost -= {index} if back else set()
            self._back.discard(index)
            return back or index not in self._lost
        if not self._told:
            return False
        self._lines[index].end()
        process = self._started(index)
        self._lines[index] = _Line("", self._token, self._lines[index].most, process)
        self._lines[index].address = _ready(process, index, self._start_timeout_s)
        self._lost.discard(index)
        self._back.discard(index)
        return True

    def close(self) -> None:
        """See ``Cluster``."""
        self._closed.set()
        for line in self._lines:
            line.end()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _started(self, index: int) -> subprocess.Popen[bytes]:
        listens = None if self._folder is None else str(Path(self._folder, f"{index}.sock"))
        try:
            return _start({**self._told, "index": index, "socket": listens})
        except OSError as error:
            raise WorkerLostError(f"node {index} can't be started: {error}", hint="fewer nodes, or look at the machine") from error

    def _lose(self, index: int) -> None:
        self._lost.add(index)
        if self._prober is None:
            self._prober = threading.Thread(target=self._probe, daemon=True)
            self._prober.start()

    def _probe(self) -> None:
        """Look now and then, beside the run, whether a lost node answers again."""
        while not self._closed.wait(_PROBE_S):
            for index in sorted(self._lost - self._back):
                if self._lines[index].idle():
                    self._back.add(index)


def _start(told: Mapping[str, Any]) -> subprocess.Popen[bytes]:
    path = [entry or str(Path.cwd()) for entry in sys.path]
    command = [sys.executable, "-P", "-c", _BOOT, *path]
    with without_interrupt():
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**environ, **WORKER_ENVIRONMENT}, bufsize=0
        )  # fmt: skip
    assert process.stdin is not None
    with suppress(OSError):  # it has died; whoever waits for it says so
        process.stdin.write(json.dumps(told).encode() + b"\n")
    return process


def _ready(process: subprocess.Popen[bytes] | None, index: int, timeout_s: float) -> Address:
    """Where a node that was started listens."""
    assert process is not None
    assert process.stdout is not None
    deadline, line = time.monotonic() + timeout_s, b""
    while not line.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
            raise WorkerLostError(f"node {index} wasn't ready within {timeout_s:g} s", hint="raise start_timeout_s, or look at the machine")
        part = process.stdout.read(1 << 16)
        if not part or len(line) > 1 << 16:
            raise WorkerLostError(f"node {index} ended before it was ready, exit code {process.wait()}", hint="its error output says why")
        line += part
    told = json.loads(line)
    raise_error(Message("error" if "code" in told else "ready", told), f"node {index}")
    return str(told["socket"]) if "socket" in told else ("127.0.0.1", int(told["port"]))


def _address(url: str, token: str) -> _Line:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme != "http" or parts.hostname not in ("127.0.0.1", "localhost", "::1") or not port or parts.path not in ("", "/"):
        raise ConfigError(f"{url[:200]!r} is no node's address", hint="such as http://127.0.0.1:8501; other machines by a tunnel")
    return _Line((parts.hostname, port), token)


def _shown(address: Address) -> str:
    return address if isinstance(address, str) else f"{address[0]}:{address[1]}"


def _plain(text: str) -> str:
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text[:600]).split())[:300]
