"""Files that are written whole or not at all, and the operating system's refusals in one clear line."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from studbook.errors import FolderBusyError, StorageError

_UMASK = os.umask(0)
os.umask(_UMASK)


def write_file(path: Path, data: bytes, *, flush: bool = True) -> None:
    """Write a file under a temporary name, flush it to the disk, then rename it; what isn't a plain file is written in place.

    Args:
        path: Which.
        data: Its bytes.
        flush: Whether it is to outlive a power cut, too. Without, many times faster, it outlives whatever kills the process.

    Raises:
        StorageError: The disk is full, read-only, or not ours; nothing is half-written.
    """
    with storage(path):
        path = path.resolve() if path.is_symlink() else path
        if path.exists() and not path.is_file():
            path.write_bytes(data)  # a pipe, a terminal
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                if flush:
                    file.flush()
                    os.fsync(file.fileno())
            Path(temporary).chmod(0o666 & ~_UMASK)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """A new folder to fill; once the block ends well it takes the place of ``path``, else nothing is left of it.

    Raises:
        StorageError: The disk is full, read-only, or not ours.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from studbook.files import replacing_folder
        >>> target = Path(tempfile.mkdtemp(), "model")
        >>> with replacing_folder(target) as folder:
        ...     _ = (folder / "config.json").write_text("{}")
        >>> [file.name for file in target.iterdir()]
        ['config.json']
    """
    with storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=".writing-"))
        try:
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    _flush(file)
            temporary.chmod(0o777 & ~_UMASK)
            remove(path)
            temporary.replace(path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


@contextmanager
def locked_folder(path: Path) -> Iterator[None]:
    """Create a folder if need be and hold it alone; the lock (``.lock``) goes with the process, however that ends.

    Raises:
        FolderBusyError: Another process holds it.
        StorageError: It can't be created or written.
    """
    with storage(path):
        path.mkdir(parents=True, exist_ok=True)
        handle = os.open(path / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FolderBusyError(
                f"another process is running in {path}", hint="wait for it, or choose another folder with --out"
            ) from error
        yield
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """Delete a file or a folder with all that is in it; what isn't there is no error."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _flush(file: Path) -> None:
    handle = os.open(file, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def storage(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals into one clear line."""
    try:
        yield
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        reasons = {
            errno.ENOSPC: ("the disk is full", "free some space, then go on: the same command, or studbook study resume"),
            errno.EDQUOT: ("the disk quota is used up", "free some space, then go on: the same command, or studbook study resume"),
            errno.EROFS: ("the file system is read-only", "choose another place"),
            errno.EACCES: ("permission denied", "choose another place"),
            errno.ENOTDIR: ("a part of the path is a file", "choose another place"),
            errno.EEXIST: ("a file of that name is in the way", "choose another place"),
        }
        reason, hint = reasons.get(error.errno or 0, (error.strerror or str(error), "choose another place"))
        raise StorageError(f"can't write {path}: {reason}", hint=hint) from error
