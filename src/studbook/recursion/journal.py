"""The journal of a chain: what it needs to go on after its last finished generation, on disk, each file with its digest.

A chain writes one folder a generation, ``generation-00003``, with its sample, its model, its training set where a later one draws from it,
and the notes of whoever measures. The mark ``finished.json`` comes last. What no later generation needs is deleted on the way; the newest
two generations can be gone on from, so that one damaged file costs one generation.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studbook.arrays import Batch
from studbook.errors import FolderBusyError
from studbook.files import remove, storage, write_file
from studbook.recursion.array_files import Torn, digest_of_file, map_batch, write_batches
from studbook.recursion.loop import Generation
from studbook.recursion.protocols import Model, Restoring, Storable
from studbook.recursion.stock import Needs, Standing

FORMAT = 1
MARK = "finished.json"
MODEL = "model"
NOTES = "notes"
EXTRA = "extra"
_PREFIX = "generation-"
_MAX_MARK_BYTES = 16 << 20
_PATIENCE_S = 60.0
_LOOK_S = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Resumed:
    """Where a journal lets a chain go on.

    Attributes:
        standing: What the next generation needs.
        first: Generation 0's model.
        notes: The notes after the last finished generation.
    """

    standing: Standing
    first: Model
    notes: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Journal:
    """The journal of one chain; also its ``Stock``, so that its records lie on disk and are mapped into memory.

    Attributes:
        folder: Where it is written; one chain's alone.
        key: What identifies the chain; a journal of another chain isn't gone on from.
        learner: Reads the models.
        original: The original data.
        needs: What generations take from the ones before.
    """

    folder: Path
    key: str
    learner: Restoring
    original: Batch
    needs: Needs
    _written: dict[str, tuple[int, str]] = field(default_factory=dict, repr=False)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder alone. A worker whose parent was killed may still write in it for a moment.

        Raises:
            FolderBusyError: Another process doesn't let go of it.
            StorageError: It can't be written.
        """
        with storage(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(handle, self.folder)
            yield
        finally:
            os.close(handle)

    def resume(self) -> Resumed | None:
        """The newest finished generation whose files are what was written; ``None`` where there is none. Everything after it is deleted."""
        found, last = None, -1
        for index in sorted(self._generations(), reverse=True):
            try:
                found, last = self._read(index), index
                break
            except Torn:
                continue
        with storage(self.folder):
            for index in self._generations():
                if index > last:
                    remove(self._folder(index))
                elif index < last - 1:
                    self._thin(index)
        return found

    def clear(self) -> None:
        """Delete every generation, so that the chain begins anew.

        Raises:
            StorageError: The disk refused.
        """
        with storage(self.folder):
            for index in self._generations():
                remove(self._folder(index))

    def gather(self, generation: int, parts: Sequence[Batch]) -> Batch:
        """See ``studbook.recursion.Stock``: the training set becomes a file where it is more than one batch, or needed later."""
        self._written.clear()
        if len(parts) == 1 and not self.needs.training:
            return parts[0]
        batch, written = write_batches(self._folder(generation), "training", parts)
        if self.needs.training:
            self._written.update(written)
        return batch

    def keep(self, generation: int, sample: Batch) -> Batch:
        """See ``studbook.recursion.Stock``."""
        batch, written = write_batches(self._folder(generation), "sample", [sample])
        self._written.update(written)
        return batch

    def add(self, generation: int, extra: Batch) -> None:
        """See ``studbook.recursion.Stock``."""
        _, written = write_batches(self._folder(generation), EXTRA, [extra])
        self._written.update(written)

    def finish(self, generation: Generation, notes: bytes) -> None:
        """Note that a generation is finished; the chain can go on after it from now on. A model that can't be saved leaves no journal.

        Raises:
            StorageError: The disk refused.
        """
        index, model, folder = generation.index, generation.model, self._folder(generation.index)
        if not isinstance(model, Storable):
            return
        files: dict[str, tuple[int, str]] = dict(self._written)
        with storage(folder):
            for name in files:
                _flush(folder / name)
        if self.needs.model or index == 0:
            model.save(folder / MODEL)
            files |= digests_of(folder, MODEL)
        write_file(folder / NOTES, notes)
        files[NOTES] = digest_of_file(folder / NOTES)
        write_file(folder / MARK, _sealed({"format": FORMAT, "key": self.key, "generation": index, "files": files}))
        self._written.clear()
        with storage(folder):
            if not self.needs.training:
                _remove_array(folder, "training")
            if index >= 2:
                self._thin(index - 2)

    def _folder(self, index: int) -> Path:
        return self.folder / f"{_PREFIX}{index:05d}"

    def _generations(self) -> list[int]:
        numbers = [path.name.removeprefix(_PREFIX) for path in self.folder.glob(f"{_PREFIX}*")]
        return sorted(int(number) for number in numbers if number.isdecimal())

    def _thin(self, index: int) -> None:
        """Delete what of a generation is only needed to go on right after it."""
        folder = self._folder(index)
        if index and not self.needs.samples:
            remove(folder)
            return
        remove(folder / NOTES)
        _remove_array(folder, "training")
        if index:
            remove(folder / MODEL)
        if not self.needs.samples:
            _remove_array(folder, "sample")

    def _read(self, index: int) -> Resumed:
        """Everything that is needed to go on after generation ``index``.

        Raises:
            Torn: It isn't finished, or a file isn't what was written.
            CheckpointError: A model can't be read.
        """
        folder = self._folder(index)
        _require(folder, self._mark(index), {NOTES})
        first = self._model(0)
        previous = (self._model(index) if index else first) if self.needs.model else None
        training = self._batch(index, "training") if self.needs.training and index else self.original
        pool = tuple(self._batch(number, "sample") for number in range(index + 1)) if self.needs.samples else ()
        extras = tuple(self._extra(number) for number in range(index + 1)) if self.needs.history else ()
        sample = pool[-1] if pool else self._batch(index, "sample")
        return Resumed(Standing(index, previous, training, sample, pool, extras), first, (folder / NOTES).read_bytes())

    def _mark(self, index: int) -> Mapping[str, Any]:
        """Sizes and digests of a finished generation's files."""
        path = self._folder(index) / MARK
        try:
            mark = _unsealed(_head(path))
        except (OSError, ValueError, RecursionError) as error:
            raise Torn(f"{path}: {error}") from error
        expected = {"format": FORMAT, "key": self.key, "generation": index}
        if {name: mark.get(name) for name in expected} != expected:
            raise Torn(f"{path} is of another chain")
        files: dict[str, Any] = mark["files"]
        return files

    def _batch(self, index: int, stem: str) -> Batch:
        folder, files = self._folder(index), self._mark(index)
        names = {name for name in files if name in {f"{stem}.npy", f"{stem}-labels.npy", f"{stem}-weights.npy"}}
        _require(folder, files, names | {f"{stem}.npy"})
        return map_batch(folder, stem, self.original.space, names)

    def _extra(self, index: int) -> Batch | None:
        return self._batch(index, EXTRA) if f"{EXTRA}.npy" in self._mark(index) else None

    def _model(self, index: int) -> Model:
        folder, files = self._folder(index), self._mark(index)
        names = {name for name in files if name.startswith(f"{MODEL}/")}
        if set(_names(folder, MODEL)) != names or not names:
            raise Torn(f"{folder / MODEL} has other files than were written")
        _require(folder, files, names)
        return self.learner.load(folder / MODEL, self.original.space)


def last_finished(folder: Path) -> int:
    """The last generation that the journal in a folder calls finished, -1 where there is none: for people, nothing is checked."""
    try:
        marks = [path.parent.name.removeprefix(_PREFIX) for path in folder.glob(f"{_PREFIX}*/{MARK}")]
    except OSError:
        return -1  # the unit has been finished meanwhile
    return max((int(number) for number in marks if number.isdecimal()), default=-1)


def _sealed(mark: Mapping[str, Any]) -> bytes:
    """A mark as JSON under its own SHA-256."""
    text = json.dumps(mark).encode()
    return hashlib.sha256(text).hexdigest().encode() + b"\n" + text


def _unsealed(data: bytes) -> dict[str, Any]:
    digest, _, text = data.partition(b"\n")
    if digest != hashlib.sha256(text).hexdigest().encode():
        raise ValueError("it isn't what was written")
    mark: dict[str, Any] = json.loads(text)
    return mark


def digests_of(folder: Path, name: str) -> dict[str, tuple[int, str]]:
    """Sizes and SHA-256 (hex) of all files under ``folder/name``, by their path in ``folder``."""
    return {path: digest_of_file(folder / path) for path in _names(folder, name)}


def _names(folder: Path, name: str) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in (folder / name).rglob("*") if path.is_file())


def _require(folder: Path, files: Mapping[str, Any], names: set[str]) -> None:
    """Refuse files that aren't what was written."""
    for name in sorted(names):
        if name not in files or list(digest_of_file(folder / name)) != files[name]:
            raise Torn(f"{folder / name} isn't what was written")


def _remove_array(folder: Path, stem: str) -> None:
    for name in (f"{stem}.npy", f"{stem}-labels.npy", f"{stem}-weights.npy"):
        remove(folder / name)


def _flush(file: Path) -> None:
    handle = os.open(file, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _lock(handle: int, folder: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise FolderBusyError(f"another process is writing in {folder}", hint="wait for it, or end it") from error
            time.sleep(_LOOK_S)
        except OSError:
            return  # A file system without locks.


def _head(path: Path) -> bytes:
    """The file's bytes, as many as a mark can have."""
    with path.open("rb") as file:
        return file.read(_MAX_MARK_BYTES)
