"""Who may read a register over HTTP, and who may write to it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from studbook.errors import ConfigError
from studbook.web.guard import Headers, Scope, Tokens, check_loopback_name, is_loopback, known_caller
from studbook.web.limits import Problem, RefusedError

ALGORITHMS = "/services/supportedAlgorithms"
"""What anybody may ask whom the service lets ask at all."""
_NETWORK_BITS = 64
"""Of an IPv6 address: whoever has one has all that begin with these."""


@dataclass(frozen=True, slots=True)
class Access:
    """Whoever may write may read, too. Without any token, this machine alone may read, and nobody writes.

    Attributes:
        writers: Tokens of those who may write; ``None`` for nobody.
        readers: Tokens of those who may read.
        open_reads: Anybody may read.

    Raises:
        ConfigError: Reads are to be open, and to need a token.

    Examples:
        >>> from studbook.web.register_access import Access
        >>> Access().check_host("127.0.0.1")
    """

    writers: Tokens | None = None
    readers: Tokens | None = None
    open_reads: bool = False

    def __post_init__(self) -> None:
        if self.open_reads and self.readers is not None:
            raise ConfigError("reads are to be open, and there are tokens for them", hint="leave out --open-reads or --read-token-file")

    @property
    def anonymous(self) -> bool:
        """Whether reading needs no token."""
        return self.open_reads or not self._known

    @property
    def _known(self) -> tuple[Tokens, ...]:
        return tuple(tokens for tokens in (self.readers, self.writers) if tokens is not None)

    def check_host(self, host: str) -> None:
        """Return nothing where an address may be bound.

        Raises:
            ConfigError: Others than this machine could read, and nobody said that they may.
        """
        if not self._known and not self.open_reads and not is_loopback(host):
            message = f"--host is {host}, and there are no tokens: anybody could read this register"
            raise ConfigError(message, hint="give --read-token-file or --open-reads, or bind 127.0.0.1")

    def __call__(self, scope: Scope, headers: Headers) -> str:
        """Who asks, by token or address: see ``studbook.web.guard.Gate``.

        Raises:
            RefusedError: Somebody who may not.
        """
        if _is_write(scope):
            return self._writer(headers)
        if self.anonymous or scope["path"] == ALGORITHMS:
            if not self._known and not self.open_reads:
                check_loopback_name(headers)
            return address_of(scope)
        return known_caller(headers, *self._known)

    def _writer(self, headers: Headers) -> str:
        if self.writers is None:
            raise RefusedError(403, Problem("read-only", "this service doesn't write", "its operator can start it with --write-token-file"))
        known_caller(headers, *self._known)
        try:
            return known_caller(headers, self.writers)
        except RefusedError as error:
            raise RefusedError(403, Problem("forbidden", "this token may read, and not write", "send a writer's")) from error


def _is_write(scope: Scope) -> bool:
    """Whatever isn't known to read."""
    return scope["method"] not in {"GET", "HEAD", "OPTIONS", "TRACE"} and not scope["path"].startswith("/matches/")


def address_of(scope: Scope) -> str:
    """Who asks without a token: an IPv4 address, or the network of an IPv6 address."""
    client = scope.get("client")
    try:
        address = ipaddress.ip_address(client[0] if client else "")
    except ValueError:
        return "address:unknown"
    mapped = getattr(address, "ipv4_mapped", None) or address
    if mapped.version == 4:
        return f"address:{mapped}"
    return f"address:{ipaddress.ip_network((mapped, _NETWORK_BITS), strict=False)}"
