"""Before a request reaches the service: who asks, how much, and how many at once. Plain ASGI."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from studbook.web.limits import Problem, RefusedError, RequestLimits
from studbook.web.rates import Rates

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_PATHS = frozenset({"/health", "/openapi.json"})
"""What anybody may ask."""
ANYBODY = "anybody"
Headers: TypeAlias = Mapping[str, str]
Gate: TypeAlias = Callable[[Scope, Headers], str]
"""Who asks, by a request's scope and headers; raises ``RefusedError`` for whoever may not."""
_DRAINED = 8


@dataclass(frozen=True, slots=True)
class Tokens:
    """Bearer tokens, of which only the digests are kept.

    Attributes:
        digests: SHA-256 of each.

    Examples:
        >>> from studbook.web.guard import Tokens
        >>> tokens = Tokens.of(["a token of sixteen letters"])
        >>> tokens.caller("another token") is None
        True
    """

    digests: tuple[bytes, ...] = field(repr=False)

    @classmethod
    def of(cls, tokens: Sequence[str]) -> Tokens:
        """From the tokens themselves."""
        return cls(tuple(hashlib.sha256(token.encode()).digest() for token in tokens))

    def caller(self, token: str) -> str | None:
        """Who sends a token, ``None`` for a stranger; takes as long whichever it is."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        found = [hmac.compare_digest(digest, known) for known in self.digests]
        return digest.hex()[:16] if any(found) else None


def is_loopback(host: str) -> bool:
    """Whether a name or address is this machine's own, which nobody else reaches.

    Examples:
        >>> from studbook.web.guard import is_loopback
        >>> is_loopback("127.0.0.1"), is_loopback("0.0.0.0")
        (True, False)
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def gate_of(tokens: Tokens | None) -> Gate:
    """The gate that lets through whoever has a token; ``None`` takes anybody who asks for a loopback address."""

    def gate(_scope: Scope, headers: Headers) -> str:
        if tokens is None:
            check_loopback_name(headers)
            return ANYBODY
        return known_caller(headers, tokens)

    return gate


def check_loopback_name(headers: Headers) -> None:
    """Return nothing where a request is for a loopback address, as no web page's script's is.

    Raises:
        RefusedError: For another name.
    """
    name = headers.get("host", "").rsplit(":", 1)[0].strip("[]")
    if not is_loopback(name):
        raise RefusedError(403, Problem("forbidden", f"the request is for the host {name[:80]!r}", "ask 127.0.0.1 or localhost"))


def known_caller(headers: Headers, *several: Tokens) -> str:
    """Who sends one of these tokens.

    Raises:
        RefusedError: A stranger does, or nobody.
    """
    kind, _, token = headers.get("authorization", "").partition(" ")
    found = [tokens.caller(token.strip()) for tokens in several] if kind.lower() == "bearer" else []
    caller = next((each for each in found if each is not None), None)
    if caller is None:
        problem = Problem("unauthorized", "no token, or one that isn't known here", "send Authorization: Bearer TOKEN")
        raise RefusedError(401, problem, {"WWW-Authenticate": "Bearer"})
    return caller


class Guard:
    """Wraps a service.

    Args:
        app: The service; finds the caller under ``state.caller`` of its scope.
        limits: Of bodies and open requests.
        gate: Who may ask.
        rates: How often a caller may ask; ``None`` is no limit.
    """

    def __init__(self, app: App, limits: RequestLimits, gate: Gate, rates: Rates | None = None) -> None:
        self._app, self._limits, self._gate, self._rates = app, limits, gate, rates
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self._open += 1
        try:
            await self._serve(scope, receive, send)
        except RefusedError as refused:
            await _answer(refused, send)
        finally:
            self._open -= 1

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._open > self._limits.open_requests:
            raise RefusedError(503, Problem("busy", "too many requests are open", "ask again in a second"), {"Retry-After": "1"})
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        try:
            caller = self._gate(scope, headers)
            if self._rates is not None:
                self._rates.spend(caller)
        except RefusedError:
            await self._discard(receive, self._limits.body_bytes)
            raise
        body = await self._read(headers, receive)
        scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, _replayed(body, receive), send)

    async def _read(self, headers: dict[str, str], receive: Receive) -> bytes:
        """The body; however long it is, no more than the limit is ever held."""
        most = self._limits.body_bytes
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.body_timeout_s):
                while True:
                    message = await receive()
                    body += message.get("body", b"")
                    if len(body) > most:
                        break
                    if message["type"] == "http.disconnect" or not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError as error:
            problem = Problem("timeout", f"the body hadn't come within {self._limits.body_timeout_s:g} s", "send it at once")
            raise RefusedError(408, problem, {"Connection": "close"}) from error
        body.clear()
        await self._discard(receive, _DRAINED * most)
        raise RefusedError(413, Problem("too-large", f"the body is longer than {most:,} bytes", "send less at once"))

    async def _discard(self, receive: Receive, most: int) -> None:
        """Let the rest of a body pass, so that a client still sending it gets to read the answer; no byte is kept."""
        passed = 0
        try:
            async with asyncio.timeout(min(5.0, self._limits.body_timeout_s)):
                while passed <= most:
                    message = await receive()
                    passed += len(message.get("body", b""))
                    if message["type"] == "http.disconnect" or not message.get("more_body", False):
                        return
        except TimeoutError:
            return


def _replayed(body: bytes, receive: Receive) -> Receive:
    parts: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return parts.pop() if parts else await receive()

    return again


async def _answer(refused: RefusedError, send: Send) -> None:
    body = refused.problem.body()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **refused.headers}
    pairs = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refused.status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})
