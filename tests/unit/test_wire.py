"""HTTP between a coordinator and its nodes: drips, long bodies both ways at once, deadlines, addresses where nobody is."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import numpy as np
import pytest

from studbook.execution.wire import MAX_HEAD, Wire, WireError, connect, finish, head_of, read_head, side_by_side

LONG = np.random.default_rng(0).integers(0, 256, 5_000_000, np.uint8).tobytes()


@pytest.fixture(params=["loopback", "socket"])
def ends(request):
    if request.param == "socket":
        here, there = socket.socketpair()
        yield here, there
        here.close()
        there.close()
        return
    listener = socket.create_server(("127.0.0.1", 0))
    here = socket.create_connection(listener.getsockname())
    there, _ = listener.accept()
    listener.close()
    yield here, there
    here.close()
    there.close()


def received(wire: Wire):
    head = yield from wire.head()
    return head, (yield from wire.body(head.length))


def test_a_head_and_a_body_in_drips(ends):
    line, other = Wire(ends[0]), ends[1]
    data = head_of("POST /ask HTTP/1.1", {"Content-Length": "5", "Connection": "close"}) + b"hello"

    def drip():
        for k in range(len(data)):
            other.sendall(data[k : k + 1])
            time.sleep(0.001)

    thread = threading.Thread(target=drip)
    thread.start()
    head, body = finish(received(line), 20.0)
    thread.join()
    assert (head.start, head.length, head.closes) == (("POST", "/ask", "HTTP/1.1"), 5, True)
    assert bytes(body) == b"hello"


def test_what_follows_a_body_is_the_next_head(ends):
    line = Wire(ends[0])
    for text in (b"one", b"three"):
        ends[1].sendall(head_of("HTTP/1.1 200 OK", {"Content-Length": str(len(text))}) + text)
    assert [bytes(finish(received(line), 5.0)[1]) for _ in range(2)] == [b"one", b"three"]
    ends[1].sendall(b"x" * 200_000 + head_of("HTTP/1.1 204 None", {}))
    finish(line.skip(200_000), 5.0)


def test_long_bodies_cross_without_waiting_for_each_other(ends):
    here, there = (Wire(end) for end in ends)
    found = side_by_side({0: here.send([LONG, b"", memoryview(LONG)]), 1: there.body(2 * len(LONG))}, time.monotonic() + 30.0)
    assert found[0] is None
    assert bytes(found[1]) == LONG + LONG


def test_more_buffers_than_a_system_takes_at_once(ends):
    here, there = (Wire(end) for end in ends)
    parts = [LONG[k : k + 3] for k in range(5000)]
    found = side_by_side({0: here.send(parts), 1: there.body(15_000)}, time.monotonic() + 30.0)
    assert bytes(found[1]) == b"".join(parts)


def test_the_others_end_beside_one_that_says_nothing(ends):
    here, there = (Wire(end) for end in ends)
    begun = time.monotonic()
    found = side_by_side({0: here.head(), 1: there.send([b"HTTP/1.1 200"]), 2: there.head()}, begun + 0.3)
    assert isinstance(found[0], TimeoutError)
    assert found[1] is None
    assert isinstance(found[2], TimeoutError)


def test_drips_end_at_the_deadline(ends):
    done = threading.Event()

    def drip():
        while not done.wait(0.01):
            ends[1].sendall(b"x")

    thread = threading.Thread(target=drip)
    thread.start()
    with pytest.raises(TimeoutError):
        finish(Wire(ends[0]).head(), 0.3)
    done.set()
    thread.join()


def test_the_other_end_hangs_up(ends):
    ends[1].sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
    ends[1].close()
    with pytest.raises(ConnectionResetError):
        finish(received(Wire(ends[0])), 5.0)


def test_a_head_without_an_end(ends):
    ends[1].sendall(b"GET / HTTP/1.1\r\nx: " + b"a" * (MAX_HEAD + 10))
    with pytest.raises(WireError, match="longer than"):
        finish(Wire(ends[0]).head(), 5.0)


@pytest.mark.parametrize(
    "text",
    [
        b"", b"GET /", b"GET / HTTP/2", b"HTTP/1.1", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\nno colon", b"GET / HTTP/1.1\r\n: x",
        b"GET / HTTP/1.1\r\n folded: x", b"GET / HTTP/1.1\r\nname : x", b"GET / HTTP/1.1\r\na: 1\r\nA: 2",
        b"GET / HTTP/1.1\r\ncontent-length: 1\r\nContent-Length: 1", b"GET / HTTP/1.1\r\ncontent-length: -1",
        b"GET / HTTP/1.1\r\ncontent-length: 1e3", b"GET / HTTP/1.1\r\ncontent-length: \xb2", b"GET / HTTP/1.1\r\ncontent-length:",
        b"GET / HTTP/1.1\r\ncontent-length: " + b"9" * 19, b"GET / HTTP/1.1\r\ntransfer-encoding: chunked",
    ],
)  # fmt: skip
def test_heads_that_are_none(text):
    with pytest.raises(WireError):
        read_head(text)


def test_flipped_bytes_give_a_head_or_a_typed_error():
    data = b"POST /ask HTTP/1.1\r\nHost: 127.0.0.1:1\r\nContent-Length: 12\r\nAuthorization: Bearer x"
    rng = np.random.default_rng(0)
    for _ in range(3000):
        changed = bytearray(data)
        changed[rng.integers(len(data))] = int(rng.integers(256))
        with contextlib.suppress(WireError):
            assert 0 <= read_head(bytes(changed)).length < 10**18


def test_nobody_at_an_address(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        finish(connect(("localhost", port)), 5.0).close()  # by its second address where the first is IPv6's
    with pytest.raises(FileNotFoundError):
        finish(connect(str(tmp_path / "none.sock")), 5.0)
    with pytest.raises(ConnectionRefusedError):
        finish(connect(("127.0.0.1", port)), 5.0)
