"""A corpus as a stream of records: files are found first, then read piece by piece, and what can't be read is told with its reason."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias

from studbook.errors import ConfigError, DataError
from studbook.screening.protocols import Record

Form: TypeAlias = Literal["parquet", "jsonl", "tar", "files"]

TEXTS = (".txt", ".md", ".rst", ".text")
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm")
SIDECAR = ".c2pa"
_FORMS: Mapping[str, Form] = {
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
    **dict.fromkeys((".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz", ".jsonl.bz2", ".jsonl.xz", ".jsonl.zst"), "jsonl"),
    **dict.fromkeys((".ndjson.bz2", ".ndjson.xz", ".ndjson.zst"), "jsonl"),
    **dict.fromkeys((".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"), "tar"),
}
FILES_A_GROUP = 1000


@dataclass(frozen=True, slots=True)
class Limits:
    """What a record may be at most; what is more is skipped, with its reason.

    Attributes:
        text_bytes: Bytes of a text's UTF-8, of a line of JSON, or of a value in a table.
        picture_bytes: Bytes of a picture's file.
        records: Records of one piece of output.
        piece_bytes: Bytes of the records of one piece of output, about.
    """

    text_bytes: int = 1 << 24
    picture_bytes: int = 1 << 26
    records: int = 10_000
    piece_bytes: int = 1 << 26


@dataclass(frozen=True, slots=True)
class Skip:
    """What wasn't read, and why.

    Attributes:
        record: Where it stands.
        reason: Why, for people.
    """

    record: str
    reason: str


@dataclass(frozen=True, slots=True)
class Input:
    """One source of records: a file that holds several, or a group of files that hold one each.

    Attributes:
        name: How it is called in record ids: the path within the corpus.
        form: How it is read.
        paths: The file, or the group's.
        names: Each file's name within the corpus.
        size: Bytes in all.
    """

    name: str
    form: Form
    paths: tuple[Path, ...]
    names: tuple[str, ...]
    size: int


@dataclass(frozen=True, slots=True)
class Piece:
    """Records read in one go, and where to go on.

    Attributes:
        records: The records.
        columns: Their own columns, each as long as ``records``: an Arrow table, or ``None`` where they have none.
        skipped: What wasn't read on the way.
        position: Where the next piece begins; its meaning is the reader's.
    """

    records: Sequence[Record]
    columns: Any
    skipped: Sequence[Skip]
    position: int


def find_inputs(paths: Sequence[Path | str], *, leave_out: Path | None = None) -> tuple[list[Input], list[Skip]]:
    """The sources of records below some paths, in the order of their names, and what was passed over.

    Hidden files and folders are left out in silence; symbolic links inside a folder, other kinds of files and special files with a
    reason. Texts and pictures are grouped, 1,000 files a group.

    Args:
        paths: Files and folders. A link that is named itself is followed.
        leave_out: A folder that isn't read though it lies in one of them: where the output goes.

    Raises:
        DataError: A path that isn't there, or is neither a file nor a folder.
        ConfigError: No path at all, or two that have one name.
    """
    if not paths:
        raise ConfigError("a corpus has no path, expected a file or a folder at least")
    inputs: list[Input] = []
    skipped: list[Skip] = []
    names: set[str] = set()
    for given in paths:
        root = _place(Path(given))
        name = Path(given).name if Path(given).name not in ("", "..") else root.name
        if name in names:
            raise ConfigError(f"two of the corpus's paths are called {name!r}", hint="screen the folder that holds both")
        names.add(name)
        found = _walk(root, name, skipped, leave_out and leave_out.resolve()) if root.is_dir() else iter([(root, name)])
        inputs += _sorted_into_forms(found, skipped)
    return inputs, skipped


def _place(given: Path) -> Path:
    """Where a path leads that was named: a folder, or a plain file."""
    try:
        root = given.resolve(strict=True)
        if root.is_file() or root.is_dir():
            return root
    except (OSError, ValueError, RuntimeError) as error:
        reason = "" if isinstance(error, FileNotFoundError) else f": {getattr(error, 'strerror', None) or error}"
        raise DataError(f"there is no {str(given)[:300]}{reason}", hint="name files, or folders of files") from error
    raise DataError(f"{given} is neither a plain file nor a folder", hint="name files, or folders of files")


def _walk(root: Path, name: str, skipped: list[Skip], leave_out: Path | None) -> Iterator[tuple[Path, str]]:
    """Files below a folder, by name; nothing outside it is followed."""
    unread: list[OSError] = []
    for parent, folders, files in os.walk(root, onerror=unread.append):
        folders[:] = [each for each in folders if Path(parent, each) != leave_out]
        here = f"{name}/{Path(parent).relative_to(root).as_posix()}".removesuffix("/.")
        skipped += [Skip(f"{here}/{each}", "a symbolic link isn't followed") for each in folders if Path(parent, each).is_symlink()]
        folders[:] = sorted(each for each in folders if not each.startswith(".") and not Path(parent, each).is_symlink())
        for each in sorted(files):
            path = Path(parent, each)
            if each.startswith("."):
                continue
            if path.is_symlink() or not path.is_file():
                skipped.append(Skip(f"{here}/{each}", "not a plain file: links and devices aren't followed"))
            else:
                yield path, f"{here}/{each}"
    skipped += [_unread(each, root, name) for each in unread]


def _unread(error: OSError, root: Path, name: str) -> Skip:
    """A folder that can't be listed."""
    return Skip(_printable(f"{name}/{os.path.relpath(error.filename, root)}"), f"can't be read: {error.strerror}")


def _sorted_into_forms(found: Iterator[tuple[Path, str]], skipped: list[Skip]) -> Iterator[Input]:
    group: list[tuple[Path, str]] = []
    for path, name in found:
        form = form_of(name)
        if form is None:
            if not name.endswith(SIDECAR):
                skipped.append(Skip(_printable(name), "not a kind of file that is read: " + (Path(name).suffix or "no suffix")))
        elif form == "files":
            group.append((path, name))
            if len(group) == FILES_A_GROUP:
                yield _input("files", group)
                group = []
        else:
            yield _input(form, [(path, name)])
    if group:
        yield _input("files", group)


def _input(form: Form, files: Sequence[tuple[Path, str]]) -> Input:
    size = sum(stamp_of(path)[0] for path, _ in files)
    names = tuple(_printable(name) for _, name in files)
    return Input(names[0], form, tuple(path for path, _ in files), names, size)


def stamp_of(path: Path) -> tuple[int, int]:
    """Size and time of a file's last change, in bytes and nanoseconds.

    Raises:
        DataError: It has gone.
    """
    try:
        found = path.stat(follow_symlinks=False)
    except OSError as error:
        raise DataError(f"{path} can't be read any more: {error.strerror}", hint="screen when nobody changes the corpus") from error
    return found.st_size, found.st_mtime_ns


def open_plain(path: Path) -> BinaryIO:
    """A file of the corpus, opened for reading, if it still is one: no link, no pipe and no device that took its place.

    Raises:
        OSError: It isn't, or can't be read.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a plain file", str(path))
    return os.fdopen(handle, "rb")


def form_of(name: str) -> Form | None:
    """How a file of that name is read; ``None`` where it isn't."""
    lower = name.lower()
    for suffix, form in _FORMS.items():
        if lower.endswith(suffix):
            return form
    return "files" if lower.endswith(TEXTS + PICTURES) else None


def _printable(name: str) -> str:
    """A file's name as text: bytes that aren't UTF-8 are shown as escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def read_pieces(source: Input, position: int, *, column: str, limits: Limits) -> Iterator[Piece]:
    """The records of one source from a position on, piece by piece; the pieces are the same wherever one goes on.

    Args:
        source: From ``find_inputs``.
        position: 0, or where an earlier piece says the next one begins.
        column: The column or key that holds the text, or the picture's file.
        limits: What is read at most.

    A table without the column, like all else that can't be read, is skipped with its reason.
    """
    return _readers()[source.form](source, position, column, limits)


def _readers() -> dict[Form, Callable[[Input, int, str, Limits], Iterator[Piece]]]:
    from studbook.screening import _read_files, _read_jsonl, _read_parquet, _read_tar

    return {
        "parquet": _read_parquet.read_pieces,
        "jsonl": _read_jsonl.read_pieces,
        "tar": _read_tar.read_pieces,
        "files": _read_files.read_pieces,
    }


def require_column(inputs: Sequence[Input], column: str) -> None:
    """Refuse a corpus none of whose tables has the column; without a table there is nothing to refuse.

    Raises:
        ConfigError: It names the columns of one.
    """
    from studbook.screening import _read_parquet

    first: tuple[str, list[str]] | None = None
    for source in inputs:
        names = _read_parquet.column_names(source.paths[0]) if source.form == "parquet" else None
        if names is not None and column in names:
            return
        first = first or (None if names is None else (source.name, names))
    if first is not None:
        raise ConfigError(f"{first[0]} has {without(column, first[1])}", hint="name it with --column")


def without(column: str, names: Sequence[str]) -> str:
    """What a table has instead of a column."""
    return f"no column {column!r}" + (f", but {', '.join(names[:12])}{', …' if len(names) > 12 else ''}" if names else " and no other")
