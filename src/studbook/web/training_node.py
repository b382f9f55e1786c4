"""A training node over HTTP: one process, one node, one coordinator that knows its token. Needs no web server."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from studbook.errors import ConfigError, RecordError, StudbookError
from studbook.execution.wire import Buffer, Head, Wire, WireError, finish, head_of, size_of
from studbook.protocols.host import Host
from studbook.protocols.messages import Message, error_message
from studbook.protocols.recorder import Place
from studbook.protocols.spec import TrainingSpec
from studbook.records import read_json
from studbook.web.guard import Tokens, known_caller
from studbook.web.limits import Problem, RefusedError, RequestLimits

_MAX_START = 1 << 20
_IDLE_S = 15.0
_DRAIN_S = 5.0
_DRAINED = 8
_LINES = 256
_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 413: "Content Too Large"}


class TrainingNode:
    """Answers a coordinator's messages, one after the other; each line to it has a thread of its own.

    ``POST /ask`` takes a message and gives one, as ``studbook.protocols.Message`` writes them; ``GET /health`` says whether it is at work.

    Args:
        host: The node and its state.
        tokens: Whoever has none of these is told nothing but the node's health.
        limits: Of bodies and open lines.

    Examples:
        >>> import numpy as np
        >>> from studbook.protocols import Host, Message, Node, Optimiser, Quadratic
        >>> from studbook.web.guard import Tokens
        >>> from studbook.web.limits import RequestLimits
        >>> from studbook.web.training_node import TrainingNode
        >>> host = Host(Node(0, Quadratic(), np.arange(10), 5, Optimiser(), 0))
        >>> node = TrainingNode(host, Tokens.of(["a token of sixteen letters"]), RequestLimits())
        >>> asked = [b"".join(Message("pull").buffers()), b"?"]
        >>> [Message.decode(b"".join(node.work(body)), "the answer").kind for body in asked]
        ['parameters', 'error']
    """

    def __init__(self, host: Host, tokens: Tokens, limits: RequestLimits) -> None:
        self._host, self._tokens, self._limits = host, tokens, limits
        self._at_work = threading.Lock()
        self._free = threading.BoundedSemaphore(limits.open_requests)

    def work(self, body: bytes | memoryview) -> list[Buffer]:
        """The answer to a message's bytes, as bytes; what is no message gets an error for an answer."""
        try:
            message = Message.decode(body, "the request")
        except RecordError as error:
            return error_message(error).buffers()
        with self._at_work:
            return self._host.answer(message).buffers()

    def serve(self, listener: socket.socket) -> NoReturn:
        """Take lines for as long as the process lives."""
        while True:
            try:
                line = listener.accept()[0]
            except OSError:  # as many files are open as may be
                time.sleep(0.1)
                continue
            if not self._free.acquire(blocking=False):
                line.close()
                continue
            try:
                threading.Thread(target=self._converse, args=(Wire(line),), daemon=True).start()
            except (OSError, RuntimeError):  # it hung up already, or as many threads run as may
                line.close()
                self._free.release()

    def _converse(self, wire: Wire) -> None:
        """Answer requests until the other end hangs up, says nothing for long, or says what is no request."""
        try:
            with suppress(OSError):
                while self._answer(wire):
                    pass
        finally:
            wire.close()
            self._free.release()

    def _answer(self, wire: Wire) -> bool:
        """Answer a request; whether there may be another on this line."""
        try:
            head = finish(wire.head(), _IDLE_S)
        except WireError as error:
            self._send(wire, 400, [Problem("bad-request", str(error), "speak HTTP/1.1").body()], close=True)
            return False
        try:
            kind, answer = self._looked_up(wire, head)
        except RefusedError as refused:
            with suppress(TimeoutError):  # whoever is still sending gets to read the answer
                finish(wire.skip(min(head.length, _DRAINED * self._limits.body_bytes)), _DRAIN_S)
            self._send(wire, refused.status, [refused.problem.body()], close=True)
            return False
        self._send(wire, 200, answer, kind=kind, close=head.closes)
        return not head.closes

    def _looked_up(self, wire: Wire, head: Head) -> tuple[str, list[Buffer]]:
        asked = head.start[:2]
        if asked == ("GET", "/health") and not head.length:
            health = {"node": self._host.node.index, "busy": self._at_work.locked()}
            return "application/json", [json.dumps(health).encode()]
        known_caller(head.fields, self._tokens)
        if asked != ("POST", "/ask"):
            raise RefusedError(404, Problem("not-found", "there is no such address", "POST /ask"))
        if head.length > self._limits.body_bytes:
            problem = Problem("too-large", f"the body is longer than {self._limits.body_bytes:,} bytes", "send less at once")
            raise RefusedError(413, problem)
        body = finish(wire.body(head.length), self._limits.body_timeout_s)
        return "application/octet-stream", self.work(body)

    def _send(self, wire: Wire, status: int, body: list[Buffer], *, kind: str = "application/json", close: bool) -> None:
        fields = {"Content-Type": kind, "Content-Length": str(size_of(body)), "Connection": "close" if close else "keep-alive"}
        start = f"HTTP/1.1 {status} {_REASONS[status]}"
        finish(wire.send([head_of(start, fields), *body]), self._limits.body_timeout_s)


def main() -> None:
    """Serve one node until standard input ends: it belongs to the process that started it, and goes when that goes.

    The first line of standard input says what to serve, as JSON: ``spec``, ``index``, ``token``, ``body_bytes``, ``place``, ``socket`` (the
    path of one to listen on; else it is a port of 127.0.0.1). Standard output gets one line of JSON: ``socket`` or ``port``, or ``code``,
    ``message`` and ``hint`` of an error.
    """
    try:
        told = read_json(sys.stdin.buffer.readline(_MAX_START), "the first line", max_bytes=_MAX_START)
        node = _open(told)
        listener, address = _listening(told.get("socket"))
    except StudbookError as error:
        _say({"code": error.code, "message": error.message, "hint": error.hint})
        sys.exit(error.exit_code)
    threading.Thread(target=node.serve, args=(listener,), daemon=True).start()
    with suppress(OSError):  # who started it may be gone
        _say(address)
    while sys.stdin.buffer.read(1 << 16):
        pass
    if "socket" in address:
        _tidy(Path(address["socket"]))
    os._exit(0)  # a step under way would hold the interpreter up


def _open(told: Any) -> TrainingNode:
    if not isinstance(told, dict) or not isinstance(told.get("spec"), dict) or type(told.get("index")) is not int:
        raise ConfigError("the first line has no spec and index of a node", hint="see studbook.web.training_node.main")
    token = told.get("token")
    if not isinstance(token, str) or len(token) < 16:
        raise ConfigError("the first line has no token of 16 or more letters", hint="draw one for each run")
    limits = RequestLimits(body_bytes=told.get("body_bytes", 1 << 28), body_timeout_s=120.0, open_requests=_LINES)
    return TrainingNode(Host(TrainingSpec.of(told["spec"]).node(told["index"]), Place.of(told.get("place"))), Tokens.of([token]), limits)


def _listening(path: str | None) -> tuple[socket.socket, dict[str, Any]]:
    if path is None:
        listener = socket.create_server(("127.0.0.1", 0), backlog=_LINES)
        return listener, {"port": listener.getsockname()[1]}
    Path(path).unlink(missing_ok=True)  # a node that was killed leaves it
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(path)
    except OSError as error:
        raise ConfigError(f"no node can listen at {path}: {error}", hint="set TMPDIR to a shorter path, or use loopback=True") from error
    listener.listen(_LINES)
    return listener, {"socket": path}


def _tidy(path: Path) -> None:
    """Remove a socket; where who started the nodes was killed, the last of them takes the folder along."""
    for remove in (path.unlink, path.parent.rmdir):
        with suppress(OSError):
            remove()


def _say(value: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()
