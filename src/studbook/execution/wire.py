"""HTTP/1.1 as a coordinator and its nodes speak it: short heads, bodies of a stated length, and no copies of what is long.

What an end of a line does are generators, which yield whenever they would have to wait. ``side_by_side`` runs several on one thread.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias, TypeVar

import numpy as np

Buffer: TypeAlias = bytes | memoryview
"""Memoryviews are of single bytes."""
Address: TypeAlias = tuple[str, int] | str
"""A host and a port, or the path of a socket on this machine, over which long bodies are less work."""
T = TypeVar("T")
Steps: TypeAlias = Generator[tuple[socket.socket, int], None, T]
"""Yields a socket and what it waits for there (``select.POLLIN``, …), and returns what it was for."""

MAX_HEAD = 1 << 14
_UNDER_WAY = 1 << 22  # a long body is handed over in few pieces; by default a path's socket takes 200 KB, and a system may grant no more
_PIECE = 1 << 16
_AT_ONCE = 512  # a system takes 1,024 buffers in one call


class WireError(ValueError):
    """What came is no HTTP, or not the little of it that is spoken here."""


@dataclass(frozen=True, slots=True)
class Head:
    """What comes before a body.

    Attributes:
        start: The three words of the first line: method, path and version, or version, status and reason.
        fields: By name in small letters.
        length: Bytes of the body.
    """

    start: tuple[str, str, str]
    fields: Mapping[str, str]
    length: int

    @property
    def closes(self) -> bool:
        """Whether whoever sent it hangs up afterwards."""
        return self.fields.get("connection", "").lower() == "close"


def read_head(data: bytes) -> Head:
    r"""The head in bytes from outside.

    Raises:
        WireError: It is none; it names a field twice; or its body has no plain length.

    Examples:
        >>> from studbook.execution.wire import read_head
        >>> head = read_head(b"POST /ask HTTP/1.1\r\nContent-Length: 7")
        >>> head.start[1], head.length
        ('/ask', 7)
    """
    first, *lines = data.decode("latin-1").split("\r\n")
    words = first.split(" ", 2)
    if len(words) != 3 or not words[0 if words[0].startswith("HTTP/") else 2].startswith("HTTP/1."):
        raise WireError(f"a head begins with {first[:80]!r}, expected HTTP/1.1")
    fields: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip() or name.lower() in fields:
            raise WireError(f"a head has the line {line[:80]!r}, expected a name, a colon and a value, each name once")
        fields[name.lower()] = value.strip()
    length = fields.get("content-length", "0")
    if "transfer-encoding" in fields or not (length.isascii() and length.isdigit() and len(length) <= 18):
        raise WireError(f"a body has the length {length[:40]!r}, expected a number of bytes, and no transfer encoding")
    return Head((words[0], words[1], words[2]), fields, int(length))


def head_of(start: str, fields: Mapping[str, str]) -> bytes:
    """The bytes of a head, of a request or an answer."""
    return "\r\n".join([start, *(f"{name}: {value}" for name, value in fields.items()), "", ""]).encode("latin-1")


def size_of(buffers: Sequence[Buffer]) -> int:
    """Bytes of buffers together."""
    return sum(len(buffer) for buffer in buffers)


class Wire:
    """One end of a line. One thing at a time is sent or received.

    Args:
        line: A connected socket; belongs to this from now on.
    """

    def __init__(self, line: socket.socket) -> None:
        line.settimeout(0.0)
        if line.family == socket.AF_UNIX:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _UNDER_WAY)
        else:
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._line = line
        self._held = bytearray()

    def close(self) -> None:
        """Hang up."""
        self._line.close()

    def send(self, buffers: Sequence[Buffer]) -> Steps[None]:
        """Send buffers one after the other.

        Raises:
            OSError: The other end is gone.
        """
        waiting = deque(memoryview(buffer) for buffer in buffers if len(buffer))
        while waiting:
            try:
                sent = self._line.sendmsg(islice(waiting, _AT_ONCE))
            except BlockingIOError:
                yield self._line, select.POLLOUT
                continue
            while sent and sent >= len(waiting[0]):
                sent -= len(waiting.popleft())
            if sent:
                waiting[0] = waiting[0][sent:]

    def head(self) -> Steps[Head]:
        """The next head.

        Raises:
            OSError: The other end is gone.
            WireError: Not a head, or one that is too long.
        """
        while (end := self._held.find(b"\r\n\r\n", 0, MAX_HEAD)) < 0:
            if len(self._held) >= MAX_HEAD:
                raise WireError(f"a head is longer than {MAX_HEAD:,} bytes")
            self._held += yield from self._some(_PIECE)
        head = read_head(bytes(self._held[:end]))
        del self._held[: end + 4]
        return head

    def body(self, length: int) -> Steps[memoryview]:
        """So many bytes, in memory of their own; none of it is touched before it is filled.

        Raises:
            OSError: The other end is gone.
        """
        memory = np.empty(length, np.uint8).data
        done = min(length, len(self._held))
        memory[:done] = self._held[:done]
        del self._held[:done]
        while done < length:
            try:
                n = self._line.recv_into(memory[done:])
            except BlockingIOError:
                yield self._line, select.POLLIN
                continue
            done += _open(n)
        return memory

    def skip(self, length: int) -> Steps[None]:
        """Let so many bytes pass.

        Raises:
            OSError: The other end is gone.
        """
        length -= len(self._held)
        self._held.clear()
        while length > 0:
            length -= len((yield from self._some(_PIECE)))

    def _some(self, most: int) -> Steps[bytes]:
        while True:
            try:
                data = self._line.recv(most)
            except BlockingIOError:
                yield self._line, select.POLLIN
                continue
            _open(len(data))
            return data


def _open(n: int) -> int:
    """As many bytes as came; none is the end."""
    if not n:
        raise ConnectionResetError("the line was closed at the other end")
    return n


def connect(address: Address) -> Steps[Wire]:
    """A line to an address; what a host's name stands for is tried in order.

    Raises:
        OSError: Nobody answers at any.
    """
    problem = OSError(f"{address} stands for nothing")
    for family, where in _found(address):
        line = socket.socket(family, socket.SOCK_STREAM)
        try:
            line.settimeout(0.0)
            code = line.connect_ex(where)
            if code == errno.EINPROGRESS:
                yield line, select.POLLOUT
                code = line.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if not code:
                return Wire(line)
            problem = OSError(code, os.strerror(code))
        except BaseException:
            line.close()
            raise
        line.close()
    raise problem


def _found(address: Address) -> list[tuple[int, Any]]:
    if isinstance(address, str):
        return [(socket.AF_UNIX, address)]
    return [(family, where) for family, _, _, _, where in socket.getaddrinfo(*address, type=socket.SOCK_STREAM)]


def side_by_side(tasks: Mapping[int, Steps[T]], deadline: float) -> dict[int, T | Exception]:
    """Run several to their ends on this thread; for each what it returned or raised, or a TimeoutError.

    Args:
        tasks: By number.
        deadline: By ``time.monotonic``, until when they may wait.
    """
    found: dict[int, T | Exception] = {}
    waiting: dict[int, int] = {}
    poll = select.poll()

    def go_on(key: int) -> None:
        try:
            line, event = next(tasks[key])
        except StopIteration as end:
            found[key] = end.value
        except (OSError, WireError) as error:
            found[key] = error
        else:
            poll.register(line, event)
            waiting[line.fileno()] = key

    for key in tasks:
        go_on(key)
    while waiting and (left := deadline - time.monotonic()) > 0.0:
        for file, _ in poll.poll(1e3 * left):
            poll.unregister(file)
            go_on(waiting.pop(file))
    for key in waiting.values():
        tasks[key].close()
        found[key] = TimeoutError("not done in time")
    return found


def finish(task: Steps[T], timeout_s: float) -> T:
    """Run one to its end.

    Raises:
        TimeoutError: That takes longer.
        OSError: The other end is gone.
        WireError: What came is no HTTP.
    """
    found = side_by_side({0: task}, time.monotonic() + timeout_s)[0]
    if isinstance(found, Exception):
        raise found
    return found
