"""Asking a verifier's node over HTTP without trusting it: answers are bounded, every wait ends, and every fault has a name."""

from __future__ import annotations

import ipaddress
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from urllib.parse import urlsplit

from studbook.errors import ConfigError, RecordError
from studbook.provenance import PublicKey
from studbook.records import read_json

if TYPE_CHECKING:
    import httpx

FaultKind: TypeAlias = Literal["down", "slow", "refused", "lying"]

_MAX_ANSWER = 4 << 20
_ASK_S = 10.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 4.0
_BUSY = frozenset({429, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Node:
    """A verifier's node.

    Attributes:
        url: ``http://`` or ``https://``, host, port and perhaps a path.
        key: That its ballots have to be signed with.
        token: It knows us by.

    Raises:
        ConfigError: Not such a URL, or a token that others on the way could read.
    """

    url: str
    key: PublicKey
    token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_url(self.url, self.token)


def check_url(url: str, token: str | None) -> None:
    """Refuse what isn't a node's URL.

    Raises:
        ConfigError: It isn't one, or a token would travel unencrypted.
    """
    try:
        parts = urlsplit(url)
        known = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        known = False
    if not known or parts.username is not None or parts.query or parts.fragment:
        raise ConfigError(f"{url[:200]!r} is no node's URL", hint="such as http://127.0.0.1:8471 or https://verifier.example.org")
    if token is not None:
        if not (token.isascii() and token.isprintable() and token.strip() == token and token):
            raise ConfigError("a token has characters that no header may have", hint="give it as it is in the node's token file")
        if parts.scheme == "http" and not _is_loopback(str(parts.hostname)):
            message = f"the token for {url} would travel unencrypted"
            raise ConfigError(message, hint="put TLS before the node and say https://, or a tunnel to a loopback port")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(slots=True)
class NodeFault(Exception):  # noqa: N818 - it becomes a note, and never leaves the coordinator
    """What is wrong with a node.

    Attributes:
        kind: ``down``, ``slow``, ``refused`` or ``lying``.
        text: What was seen.
    """

    kind: FaultKind
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


@dataclass(frozen=True, slots=True)
class Answer:
    """Of a node.

    Attributes:
        status: Of HTTP.
        value: The JSON object.
        retry_after_s: As the node asks; 0 where it doesn't.
    """

    status: int
    value: Mapping[str, Any]
    retry_after_s: float = 0.0

    def require(self, *statuses: int) -> Mapping[str, Any]:
        """The value of an answer that has one of the expected statuses.

        Raises:
            NodeFault: It refused.
        """
        if self.status in statuses:
            return self.value
        raise NodeFault("refused", f"HTTP {self.status}, {problem_text(self.value)}")


@dataclass(frozen=True, slots=True)
class NodeClient:
    """Asks one node until a deadline.

    Attributes:
        node: Which.
        http: Shared by all.
        deadline: In monotonic seconds.
        retries: How often a node that can't be reached is asked again.
    """

    node: Node
    http: httpx.Client
    deadline: float
    retries: int

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        """The answer; a node that can't be reached is asked again ``retries`` times, a busy or slow one until the deadline.

        Raises:
            NodeFault: There is none.
        """
        failures = waits = 0
        while True:
            try:
                answer = self._once(method, path, body)
                if answer.status not in _BUSY:
                    return answer
                waits += 1
                pause = max(answer.retry_after_s, backoff_s(waits))
                fault = NodeFault("refused", f"HTTP {answer.status} until the end, {problem_text(answer.value)}")
            except NodeFault as error:
                if error.kind not in {"down", "slow"}:
                    raise
                failures += error.kind == "down"
                if failures > self.retries:
                    raise
                pause, fault = backoff_s(failures), error
            self.pause(pause, fault)

    def pause(self, seconds: float, fault: NodeFault) -> None:
        """Wait.

        Raises:
            NodeFault: The given one, where the deadline comes first.
        """
        if time.monotonic() + seconds >= self.deadline:
            raise fault
        time.sleep(seconds)

    def _once(self, method: str, path: str, body: Mapping[str, Any] | None) -> Answer:
        import httpx

        left = self.deadline - time.monotonic()
        if left <= 0:
            raise NodeFault("slow", "no answer in time")
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "Content-Type": "application/json"}
        if self.node.token is not None:
            headers["Authorization"] = f"Bearer {self.node.token}"
        content = None if body is None else json.dumps(body).encode()
        url = self.node.url.rstrip("/") + path
        try:
            with self.http.stream(method, url, content=content, headers=headers, timeout=min(_ASK_S, left)) as response:
                return _answer(response, self._body(response))
        except httpx.TimeoutException as error:
            raise NodeFault("slow", "no answer in time") from error
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise NodeFault("down", plain_text(f"{type(error).__name__}: {error}")) from error

    def _body(self, response: httpx.Response) -> bytes:
        """However much a node sends, and however slowly: no more than an answer has, no longer than the deadline, nothing unpacked."""
        data = bytearray()
        for part in response.iter_raw(1 << 16):
            data += part
            if len(data) > _MAX_ANSWER:
                raise NodeFault("lying", f"its answer is longer than {_MAX_ANSWER:,} bytes")
            if time.monotonic() > self.deadline:
                raise NodeFault("slow", "its answer drips")
        return bytes(data)


def _answer(response: httpx.Response, data: bytes) -> Answer:
    after = response.headers.get("retry-after", "")
    seconds = float(after) if after.isascii() and after.isdigit() and len(after) < 6 else 0.0
    try:
        value = read_json(data, "the answer", max_bytes=_MAX_ANSWER)
    except RecordError as error:
        if response.status_code in _BUSY:  # a proxy before the node has its own words
            return Answer(response.status_code, {}, seconds)
        raise NodeFault("lying", f"HTTP {response.status_code}, {plain_text(error.message)}") from error
    if not isinstance(value, dict):
        raise NodeFault("lying", f"HTTP {response.status_code}, its answer is no JSON object")
    return Answer(response.status_code, value, seconds)


def backoff_s(attempt: int) -> float:
    """Seconds before the next attempt: doubled each time, without chance.

    Examples:
        >>> from studbook.verification._node_client import backoff_s
        >>> [backoff_s(attempt) for attempt in (0, 1, 2, 3, 9)]
        [0.2, 0.2, 0.4, 0.8, 4.0]
    """
    return min(_LONGEST_PAUSE_S, math.ldexp(_FIRST_PAUSE_S, max(0, min(attempt, 16) - 1)))


def problem_text(value: object) -> str:
    """A problem's code, message and hint in one line."""
    if not isinstance(value, Mapping):
        return "without saying why"
    code, message, hint = (value.get(name) for name in ("code", "message", "hint"))
    if not isinstance(message, str):
        return "without saying why"
    return plain_text(f"{code}: {message}" + (f" ({hint})" if isinstance(hint, str) else ""))


def plain_text(text: str) -> str:
    """Somebody else's text in one line of bounded length, without control characters."""
    shown = "".join(letter if letter.isprintable() else " " for letter in text[:600])
    return " ".join(shown.split())[:300]
