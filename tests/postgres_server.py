"""A PostgreSQL server of its own for tests, from Debian's packages; as an unprivileged user, on a free port, with fsync on."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

BINARIES = Path("/usr/lib/postgresql")


def find_binaries() -> Path | None:
    """The folder of the newest server that is installed, or ``None``."""
    found = [path.parent for path in BINARIES.glob("*/bin/initdb") if path.parent.parent.name.isdigit()]
    return max(found, key=lambda path: int(path.parent.name), default=None)


def why_not() -> str | None:
    """Why no server can be started here, or ``None``."""
    if find_binaries() is None:
        return "PostgreSQL isn't installed: apt-get install postgresql"
    if os.geteuid() == 0 and (shutil.which("setpriv") is None or shutil.which("chown") is None):
        return "PostgreSQL doesn't run as root, and setpriv isn't there"
    return None


class PostgresServer:
    """A server in a temporary folder; ``start``, ``stop``, new databases."""

    def __init__(self) -> None:
        self._bin = find_binaries()
        self.folder = Path(tempfile.mkdtemp(prefix="studbook-pg-"))
        self.password = secrets.token_hex(16)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._n_databases = 0
        secret = self.folder / "password"
        secret.write_text(self.password)
        if os.geteuid() == 0:
            subprocess.run(["chown", "-R", "postgres:postgres", str(self.folder)], check=True)
        self._run("initdb", "-D", self._data, "-U", "studbook", "-A", "scram-sha-256", f"--pwfile={secret}", "--locale=C", "-E", "UTF8")

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    def _run(self, name: str, *arguments: str) -> None:
        user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] if os.geteuid() == 0 else []
        command = [*user, str(self._bin / name), *arguments]
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
        done = subprocess.run(command, cwd=self.folder, check=False, **output)
        if done.returncode:
            log = self.folder / "log"
            raise RuntimeError(f"{name}: {done.stdout.decode()} {log.read_text()[-2000:] if log.exists() else ''}")

    def start(self) -> None:
        options = f"-c listen_addresses=127.0.0.1 -c port={self.port} -c unix_socket_directories='' -c fsync=on -c max_connections=40"
        self._run("pg_ctl", "start", "-w", "-D", self._data, "-l", str(self.folder / "log"), "-o", options)

    def stop(self, mode: str = "immediate") -> None:
        """``immediate`` is a crash: nothing is flushed, connections end."""
        self._run("pg_ctl", "stop", "-w", "-m", mode, "-D", self._data)

    def close(self) -> None:
        with suppress(RuntimeError):  # the test stopped it
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str, *, password: bool = True) -> str:
        secret = f":{self.password}" if password else ""
        return f"postgresql://studbook{secret}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """The address of a database without tables."""
        import psycopg

        self._n_databases += 1
        name = f"register_{self._n_databases}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)
