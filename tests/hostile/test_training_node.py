"""What strangers and broken coordinators send to a training node over HTTP: it refuses, says why, and goes on."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import threading
import time

import numpy as np
import pytest

from studbook.protocols import Host, Message, Node, Optimiser, Quadratic
from studbook.web import training_node
from studbook.web.guard import Tokens
from studbook.web.limits import RequestLimits
from studbook.web.training_node import TrainingNode

TOKEN = "a token of sixteen letters"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
PULL = Message("pull").encode()


class Slow(Quadratic):
    """Says when it is at work, and waits until it may go on."""

    begun, may_go_on = threading.Event(), threading.Event()

    def evaluate(self, parameters):
        self.begun.set()
        assert self.may_go_on.wait(20.0)
        return super().evaluate(parameters)


@pytest.fixture
def address():
    node = Node(0, Slow(dimension=2), np.arange(20), 5, Optimiser(), 0)
    listener = socket.create_server(("127.0.0.1", 0))
    served = TrainingNode(Host(node), Tokens.of([TOKEN]), RequestLimits(body_bytes=10_000, body_timeout_s=0.5, open_requests=4))
    threading.Thread(target=served.serve, args=(listener,), daemon=True).start()
    return listener.getsockname()


def ask(address, method="POST", path="/ask", body=PULL, headers=BEARER):
    connection = http.client.HTTPConnection(*address, timeout=10.0)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers
    finally:
        connection.close()


def say(address, data: bytes) -> bytes:
    """What is answered to raw bytes until the line is closed; a reset, as of a line with bytes that nobody read, ends it, too."""
    found = b""
    with socket.create_connection(address, timeout=10.0) as line, contextlib.suppress(OSError):
        line.sendall(data)
        line.shutdown(socket.SHUT_WR)
        while part := line.recv(1 << 16):
            found += part
    return found


def well(address) -> bool:
    status, body, _ = ask(address)
    return status == 200 and Message.decode(body, "it").kind == "parameters"


def test_lines_that_no_thread_can_be_started_for_are_closed_and_later_ones_answered(address):
    before = threading.stack_size(1 << 47)  # more than a process can address
    try:
        with pytest.raises(RuntimeError):
            threading.Thread(target=print).start()
        assert [say(address, b"") for _ in range(6)] == [b""] * 6
    finally:
        threading.stack_size(before)
    assert well(address)


def test_health_is_anybody_s_and_the_rest_is_not(address):
    assert json.loads(ask(address, "GET", "/health", None, {})[1]) == {"node": 0, "busy": False}
    for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": f"Basic {TOKEN}"}, {"Authorization": "Bearer \xff\xfe"}):
        for path in ("/ask", "/x", "/ask/../health"):
            status, body, fields = ask(address, path=path, headers=headers)
            assert (status, json.loads(body)["code"]) == (401, "unauthorized")
            assert fields["Connection"] == "close"
    assert ask(address, "GET", "/ask", None)[0] == 404
    assert ask(address, path="/openapi.json")[0] == 404
    assert ask(address, "GET", "/health", b"with a body", {})[0] == 401
    assert well(address)


@pytest.mark.parametrize("size", [10_001, 60_000])
def test_a_body_that_is_too_long_is_refused_and_the_answer_can_be_read(address, size):
    status, body, _ = ask(address, body=b"x" * size)
    assert (status, json.loads(body)["code"]) == (413, "too-large")
    assert well(address)


def test_a_length_that_nobody_sends(address):
    head = f"POST /ask HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {{}}\r\n\r\n"
    assert say(address, head.format(10**17).encode()) == b""
    assert say(address, head.format(9_000).encode() + b"x") == b""
    with socket.create_connection(address, timeout=10.0) as line:  # it stays open, and is given up
        line.sendall(head.format(9_000).encode() + b"x")
        assert line.recv(100) == b""
    assert well(address)


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"GET / HTTP/2\r\n\r\n", b"x" * 100_000,
        b"POST /ask HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"POST /ask HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", b"POST /ask HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
    ],
)  # fmt: skip
def test_what_is_no_request(address, data):
    answer = say(address, data)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n") or answer == b""
    assert well(address)


def test_nothing_at_all(address):
    assert say(address, b"") == b""
    assert say(address, b"GET /health HTT") == b""
    assert well(address)


@pytest.mark.parametrize("body", [b"", b"?", os.urandom(5_000), PULL[:-1], PULL + b"x"])
def test_bodies_that_are_no_messages_are_answered_with_an_error(address, body):
    status, data, _ = ask(address, body=body)
    assert status == 200
    assert Message.decode(data, "it").kind == "error"
    assert well(address)


def test_requests_on_one_line_and_those_that_come_too_early(address):
    head = f"POST /ask HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {len(PULL)}\r\n\r\n".encode()
    assert say(address, 3 * (head + PULL)).count(b"HTTP/1.1 200 OK\r\n") == 3


def test_health_is_told_while_the_node_is_at_work_and_a_second_question_waits(address):
    Slow.begun.clear(), Slow.may_go_on.clear()
    found = {}
    asked = threading.Thread(target=lambda: found.update(first=ask(address, body=Message("evaluate").encode())))
    asked.start()
    assert Slow.begun.wait(10.0)
    assert json.loads(ask(address, "GET", "/health", None, {})[1])["busy"] is True
    second = threading.Thread(target=lambda: found.update(second=ask(address)))
    second.start()
    time.sleep(0.1)
    assert not found
    Slow.may_go_on.set()
    asked.join()
    second.join()
    assert Message.decode(found["first"][1], "it").kind == "measures"
    assert Message.decode(found["second"][1], "it").kind == "parameters"


def test_lines_beyond_the_most_are_closed_and_idle_ones_make_place(address, monkeypatch):
    monkeypatch.setattr(training_node, "_IDLE_S", 1.0)
    idle = [socket.create_connection(address, timeout=10.0) for _ in range(4)]
    time.sleep(0.3)
    with socket.create_connection(address, timeout=10.0) as line:
        assert line.recv(1) == b""
    for line in idle:
        assert line.recv(1) == b""
        line.close()
    time.sleep(0.3)
    assert well(address)
