"""What an operator hands to a node, and running it until it is told to stop."""

from __future__ import annotations

import importlib.util
import signal
import socket
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn, Protocol

from studbook.errors import CalibrationError, ConfigError, KeyFileError, MissingExtraError, StudbookError
from studbook.provenance import PublicKey, read_signed
from studbook.records import Calibration
from studbook.web.examiner import Setup
from studbook.web.guard import Tokens, is_loopback

_MAX_FILE = 1 << 20
_MOST_CONNECTIONS = 1000


class Service(Protocol):
    """What stands behind an application."""

    def start(self) -> None:
        """Get ready to answer."""
        ...

    def close(self, drain_s: float) -> None:
        """Take no more, finish what was taken for so long at most, and end; closing it again does nothing."""
        ...


def require_service() -> None:
    """Refuse to go on without what serves HTTP.

    Raises:
        MissingExtraError: It isn't installed.
    """
    missing = [name for name in ("fastapi", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(f"a service needs {' and '.join(missing)}, not installed", hint="pip install 'studbook[serve]'")


def read_keys(names: Iterable[str]) -> frozenset[PublicKey]:
    """Public keys, each given as ``ed25519:…`` or as a file with one a line.

    Raises:
        KeyFileError: A file that can't be read, or has none.
        SignatureError: Not a key.
    """
    found: set[PublicKey] = set()
    for name in names:
        if name.startswith("ed25519:"):
            found.add(PublicKey(name))
            continue
        try:
            with Path(name).open("rb") as file:
                keys = _lines(file.read(_MAX_FILE).decode("ascii"))
        except (OSError, UnicodeDecodeError) as error:
            raise KeyFileError(f"the keys {name} can't be read", hint="one public key a line: ed25519:…") from error
        if not keys:
            raise KeyFileError(f"{name} has no key", hint="one public key a line: ed25519:…")
        found.update(map(PublicKey, keys))
    return frozenset(found)


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


def read_setup(
    models: Sequence[Path], calibrations: Sequence[Path], trusted: Collection[PublicKey], *, whole: bool, offline: bool
) -> Setup:
    """Models and signed calibrations.

    Raises:
        ConfigError: No model, nobody whose calibrations are trusted, or a calibration that isn't there.
        RecordError: A file that is no calibration.
        SignatureError: It was changed, or isn't signed by one that is trusted.
        CalibrationError: None was given.
    """
    if not models:
        raise ConfigError("no model is registered", hint="--model FOLDER")
    if not calibrations:
        raise CalibrationError("no calibration is registered: no claim could be judged", hint="--calibration FILE")
    if not trusted:
        raise ConfigError("nobody's calibrations are trusted", hint="--trust-calibrations ed25519:…, whoever signed them")
    return Setup(tuple(models), tuple(read_signed(path, Calibration, keys=trusted).record for path in calibrations), whole, offline)


def check_binding(host: str, tokens: Tokens | None) -> None:
    """Without tokens, only this machine itself may ask.

    Raises:
        ConfigError: It would be others, too.
    """
    if tokens is None and not is_loopback(host):
        message = f"--host is {host}, and there are no tokens: anybody could use this node"
        raise ConfigError(message, hint="give callers' tokens with --token-file, or bind 127.0.0.1")


def serve_until_stopped(app: Any, node: Service, address: tuple[str, int], *, drain_s: float, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C; then finish what was accepted, for ``drain_s`` at most. A second one ends it at once.

    Args:
        app: The service.
        node: What stands behind it; is started here, and closed.
        address: Host and port; port 0 takes a free one.
        drain_s: Patience.
        ready: Is told the URL once requests are served.

    Raises:
        ConfigError: The address can't be bound.
        StudbookError: The node can't start, or the server ended by itself.
    """
    import uvicorn

    listener = _bind(address)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, proxy_headers=False, ws="none", timeout_keep_alive=15,
        timeout_graceful_shutdown=5, backlog=256, limit_concurrency=_MOST_CONNECTIONS,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        node.start()
        thread.start()
        ready(_url(listener))
        while thread.is_alive():
            thread.join(0.5)
        raise StudbookError("the server ended by itself", hint="its log says why")
    except KeyboardInterrupt:
        node.close(drain_s)
    finally:
        server.should_exit = True
        node.close(0.0)
        if thread.is_alive():
            thread.join(10.0)
        listener.close()
        signal.signal(signal.SIGTERM, before)


def _bind(address: tuple[str, int]) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        plain = socket.create_server(address, family=family, backlog=256)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"{address[0]} port {address[1]} can't be bound: {error}", hint="choose another --host or --port") from error
    # asyncio sends small answers at once (TCP_NODELAY) only where a socket says that it is TCP; else each waits for 40 ms.
    return socket.socket(plain.family, plain.type, socket.IPPROTO_TCP, fileno=plain.detach())


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt
