"""The run folder: one writer at a time, nothing half-written, damaged units found out."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studbook.errors import RunFolderError, SchemaVersionError, StorageError
from studbook.files import locked_folder, remove, storage, write_file
from studbook.study.results import UnitResult, decode

SCHEMA_VERSION = 1
KIND = "studbook.study"
MAX_MANIFEST_BYTES = 64 << 20
NEEDED_TO_GO_ON = {
    "started": str,
    "seconds": int | float,
    "cpu_seconds": int | float,
    "units.total": int,
    "units.done": int,
    "config.passed": dict,
    "config.resolved": list | dict,
}


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A folder that holds one study's run.

    Attributes:
        path: The folder.
    """

    path: Path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Create the folder if need be and hold it alone; the lock goes with the process, however that ends.

        Raises:
            FolderBusyError: Another process holds it.
            RunFolderError: It holds something that isn't a run.
            StorageError: It can't be created or written.
        """
        with storage(self.path):
            if self.path.is_dir() and not self.has_manifest() and not all(_is_leftover(p) for p in self.path.iterdir()):
                raise RunFolderError(f"{self.path} isn't empty and holds no run", hint="choose an empty or a new folder with --out")
            (self.path / "units").mkdir(parents=True, exist_ok=True)
        with locked_folder(self.path):
            yield

    def read_manifest(self, *, whole: bool = False) -> dict[str, Any]:
        """The manifest.

        Args:
            whole: Insist on everything that going on with the run needs; without it, on what a reader needs.

        Raises:
            RunFolderError: There is none, or it is damaged.
            SchemaVersionError: It was written by a newer studbook.
        """
        path = self.path / "manifest.json"
        try:
            if path.stat().st_size > MAX_MANIFEST_BYTES:
                raise RunFolderError(f"{path} is larger than a manifest can be", hint="studbook study list shows the runs")
            manifest = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise RunFolderError(
                f"{self.path} is not a run folder: it has no manifest.json", hint="studbook study list shows the runs"
            ) from error
        except (ValueError, RecursionError) as error:
            raise RunFolderError(f"{path} is damaged: {error}", hint="run the study again in a new folder") from error
        except OSError as error:
            raise StorageError(f"{path} can't be read: {error.strerror}") from error
        checked = check_manifest(manifest, path)
        if whole:
            _require(checked, NEEDED_TO_GO_ON, path)
        return checked

    def has_manifest(self) -> bool:
        """Whether a run was started here."""
        return (self.path / "manifest.json").is_file()

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Replace the manifest in one step."""
        self.write("manifest.json", (json.dumps(manifest, indent=2, default=str) + "\n").encode())

    def read_unit(self, key: str) -> UnitResult | None:
        """A finished unit's result, or ``None`` where there is none or it is damaged."""
        try:
            return decode((self.path / "units" / f"{key}.unit").read_bytes(), key)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"{self.path}/units/{key}.unit can't be read: {error.strerror}") from error

    def write_unit(self, key: str, data: bytes) -> None:
        """Store a finished unit."""
        self.write(f"units/{key}.unit", data)

    def work(self, key: str) -> Path:
        """Where a unit that is under way keeps its journal and, until it is finished, its models."""
        return self.path / "work" / key

    def base(self, key: str) -> Path:
        """Where a pretrained base model lies."""
        return self.path / "base" / key

    def models(self, cell: int, replicate: int) -> Path:
        """Where the models of one replicate are kept, in one folder for each generation."""
        return self.path / "models" / f"cell-{cell:03d}" / f"replicate-{replicate:03d}"

    def write(self, name: str, data: bytes) -> None:
        """Write a file of the folder under a temporary name, flush it to the disk, then rename it.

        Raises:
            StorageError: The disk is full, read-only, or not ours; nothing is half-written.
        """
        write_file(self.path / name, data)

    def is_locked(self) -> bool:
        """Whether a process is running in the folder now."""
        try:
            handle = os.open(self.path / ".lock", os.O_RDWR)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
        return False

    def remove_leftovers(self) -> None:
        """Delete files that a killed process was writing."""
        with storage(self.path):
            # A worker that ends a moment after its parent may still delete files: what vanishes meanwhile is passed over.
            for parent, folders, files in os.walk(self.path):
                for name in [name for name in (*folders, *files) if name.startswith(".writing-")]:
                    remove(Path(parent, name))
                folders[:] = [name for name in folders if not name.startswith(".writing-")]


def _is_leftover(path: Path) -> bool:
    """Whether something is there from a run that was killed while it wrote its first manifest."""
    return path.name in {".lock", "units"} or path.name.startswith(".writing-")


def check_manifest(manifest: Any, path: Path) -> dict[str, Any]:
    """The manifest, if it is one that this version reads."""
    if not isinstance(manifest, dict) or manifest.get("kind") != KIND:
        raise RunFolderError(f"{path} isn't the manifest of a study", hint="studbook study list shows the runs")
    version = manifest.get("schema_version")
    if not isinstance(version, int) or version < 1:
        raise RunFolderError(f"{path} has schema version {version!r}, expected a whole number", hint="run the study again in a new folder")
    if version > SCHEMA_VERSION:
        raise SchemaVersionError(
            f"{path} has schema version {version}; this studbook reads up to {SCHEMA_VERSION}", hint="pip install --upgrade studbook"
        )
    cells = manifest.get("cells")
    if not isinstance(cells, list) or not all(isinstance(c, dict) and isinstance(c.get("index"), int) and "label" in c for c in cells):
        raise RunFolderError(f"{path} lists no cells with index and label", hint="the folder is damaged; run the study again in a new one")
    _require(manifest, {"name": str, "status": str}, path)
    return manifest


def _require(manifest: Mapping[str, Any], expected: Mapping[str, Any], path: Path) -> None:
    """Refuse a manifest in which a key is missing or of another type."""
    for key, kind in expected.items():
        value: Any = manifest
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if not isinstance(value, kind):
            raise RunFolderError(f"{path} lacks a sound {key}", hint="the folder is damaged; run the study again in a new one")
