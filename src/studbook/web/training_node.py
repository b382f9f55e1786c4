"""A training node over HTTP: one process, one node, one coordinator that knows its token. Plain ASGI, as the guard before it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from studbook.errors import ConfigError, RecordError, StudbookError
from studbook.protocols.host import Host
from studbook.protocols.messages import Message, error_message
from studbook.protocols.recorder import Place
from studbook.protocols.spec import TrainingSpec
from studbook.records import read_json
from studbook.web.guard import Guard, Receive, Scope, Send, Tokens, gate_of
from studbook.web.limits import Problem, RefusedError, RequestLimits
from studbook.web.operating import check_binding, require_service, serve_until_stopped

_MAX_START = 1 << 20


class TrainingNode:
    """Answers a coordinator's messages, one after the other.

    ``POST /ask`` takes a message and gives one, as ``studbook.protocols.Message`` writes them; ``GET /health`` says whether it is at work.

    Args:
        host: The node and its state.

    Examples:
        >>> import numpy as np
        >>> from studbook.protocols import Host, Node, Optimiser, Quadratic
        >>> from studbook.web.training_node import TrainingNode
        >>> node = TrainingNode(Host(Node(0, Quadratic(), np.arange(10), 5, Optimiser(), 0)))
        >>> from studbook.protocols import Message
        >>> Message.decode(node.work(Message("pull").encode()), "the answer").kind, Message.decode(node.work(b"?"), "the answer").kind
        ('parameters', 'error')
        >>> node.close(0.0)
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._worker = ThreadPoolExecutor(1, "training")
        self._n_open = 0

    def start(self) -> None:
        """It is ready once it is made."""

    def close(self, drain_s: float) -> None:
        """Take no more."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    def work(self, body: bytes) -> bytes:
        """The answer to a message's bytes, as bytes; what is no message gets an error for an answer."""
        try:
            message = Message.decode(body, "the request")
        except RecordError as error:
            return error_message(error).encode()
        return self._host.answer(message).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        if scope["type"] != "http":
            return
        if (scope["method"], scope["path"]) == ("GET", "/health"):
            health = {"node": self._host.node.index, "busy": self._n_open > 0}
            await _send(send, 200, json.dumps(health).encode(), "application/json")
        elif (scope["method"], scope["path"]) == ("POST", "/ask"):
            await self._ask(receive, send)
        else:
            await _send(send, 404, Problem("not-found", "there is no such address", "POST /ask").body(), "application/json")

    async def _ask(self, receive: Receive, send: Send) -> None:
        body = (await receive()).get("body", b"")  # the guard hands it on in one piece
        self._n_open += 1
        try:
            answer = await asyncio.wrap_future(self._worker.submit(self.work, body))
        except RuntimeError as error:
            raise RefusedError(503, Problem("stopping", "the node is stopping", None)) from error
        finally:
            self._n_open -= 1
        await _send(send, 200, answer, "application/octet-stream")


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _send(send: Send, status: int, body: bytes, kind: str) -> None:
    headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def create_app(node: TrainingNode, tokens: Tokens, limits: RequestLimits) -> Guard:
    """The service of a node: only whoever has the run's token is answered."""
    return Guard(node, limits, gate_of(tokens))


def main() -> None:
    """Serve one node until standard input ends: it belongs to the process that started it, and goes when that goes.

    The first line of standard input says what to serve, as JSON: ``spec``, ``index``, ``token``, ``body_bytes``, ``place``. Standard output gets one
    line of JSON: ``url``, or ``code``, ``message`` and ``hint`` of an error.
    """
    try:
        require_service()
        told = read_json(sys.stdin.buffer.readline(_MAX_START), "the first line", max_bytes=_MAX_START)
        token, limits, host = _open(told)
    except StudbookError as error:
        _say({"code": error.code, "message": error.message, "hint": error.hint})
        sys.exit(error.exit_code)
    tokens = Tokens.of([token])
    check_binding("127.0.0.1", tokens)
    node = TrainingNode(host)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    serve_until_stopped(create_app(node, tokens, limits), node, ("127.0.0.1", 0), drain_s=0.0, ready=lambda url: _say({"url": url}))
    os._exit(0)  # a step under way would hold the interpreter up


def _open(told: Any) -> tuple[str, RequestLimits, Host]:
    if not isinstance(told, dict) or not isinstance(told.get("spec"), dict) or type(told.get("index")) is not int:
        raise ConfigError("the first line has no spec and index of a node", hint="see studbook.web.training_node.main")
    token = told.get("token")
    if not isinstance(token, str) or len(token) < 16:
        raise ConfigError("the first line has no token of 16 or more letters", hint="draw one for each run")
    limits = RequestLimits(body_bytes=told.get("body_bytes", 1 << 28), body_timeout_s=120.0)
    return token, limits, Host(TrainingSpec.of(told["spec"]).node(told["index"]), Place.of(told.get("place")))


def _say(value: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def _end_with_parent() -> None:
    while sys.stdin.buffer.read(1 << 16):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
