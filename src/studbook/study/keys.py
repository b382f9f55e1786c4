"""What tells one unit from another: digests of configs, of code, and of weights that a learner starts from."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
from collections.abc import Iterable, Set
from dataclasses import is_dataclass
from pathlib import Path

import numpy as np

import studbook
from studbook.errors import ConfigError
from studbook.learners.causal_lm import RANDOM_NAMES
from studbook.study.catalog import describe

RESULT_CODE = ("arrays.py", "rng.py", "records", "theory", "neural", "learners", "metrics", "data", "mixing", "recursion", "study")
"""What results depend on; a change in any of it makes finished units out of date."""
CURATION_CODE = ("curation", "screening", "registry", "marks", "fingerprints")
"""What results depend on beside it, where candidates are judged."""
PROTOCOL_CODE = ("protocols",)
"""What results depend on beside it, where nodes train together."""
_NO_PATHS = frozenset({"smollm2", *RANDOM_NAMES})  # models that are no files of anybody's, whatever lies in the folder


def digest_of(value: object) -> str:
    """SHA-256 (hex) of a value's canonical JSON; arrays count with all their elements, objects with all their fields."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=_identity, separators=(",", ":")).encode()).hexdigest()


def _identity(value: object) -> object:
    """A value that JSON doesn't know, as one that it knows."""
    if isinstance(value, np.ndarray):
        return [value.dtype.str, value.shape, hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Set):
        return sorted(value, key=str)
    if is_dataclass(value):
        return describe(value)
    raise ConfigError(
        f"a {type(value).__qualname__} can't be told from another one",
        hint="give learners, mixes and metrics fields of numbers, texts, arrays or dataclasses",
    )


@functools.cache
def code_digest() -> str:
    """SHA-256 (hex) of the source code that results depend on."""
    return _digest_of_code(RESULT_CODE)


@functools.cache
def curation_digest() -> str:
    """SHA-256 (hex) of the source code that verdicts on candidates depend on."""
    return _digest_of_code(CURATION_CODE)


@functools.cache
def protocols_digest() -> str:
    """SHA-256 (hex) of the source code by which nodes train together."""
    return _digest_of_code(PROTOCOL_CODE)


def _digest_of_code(parts: tuple[str, ...]) -> str:
    root = Path(studbook.__file__).parent
    digest = hashlib.sha256(studbook.__version__.encode())
    for part in parts:
        for path in sorted([root / part] if part.endswith(".py") else (root / part).rglob("*.py")):
            digest.update(str(path.relative_to(root)).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def foreign_code(thing: object) -> str:
    """Digest of the file that a class outside studbook is defined in, so that editing it makes its units out of date."""
    if type(thing).__module__.startswith("studbook."):
        return ""
    try:
        return hashlib.sha256(Path(inspect.getfile(type(thing))).read_bytes()).hexdigest()
    except (OSError, TypeError):
        return type(thing).__qualname__  # defined at a prompt: its fields still count


def weights_digest(learner: object, metrics: Iterable[object] = ()) -> list[str]:
    """Digests of the saved weights that a learner and metrics name; see ``weights_of``."""
    return [digest for _, digest in weights_of(learner, metrics)]


def weights_of(learner: object, metrics: Iterable[object] = ()) -> list[tuple[str, str]]:
    """Names and digests of saved weights: a learner's ``training.base`` and ``model``, metrics' ``network``, where these exist.

    What the hub has under a name may change: its present files count. They are downloaded, if they aren't kept.

    Raises:
        CheckpointError: The hub has no such model, or can't be reached.
    """
    models = (getattr(getattr(learner, "training", None), "base", ""), getattr(learner, "model", ""))
    named = [(name, _model_at) for name in models if name not in _NO_PATHS]
    named += [(getattr(metric, "network", ""), _path) for metric in metrics]
    paths = [(name, where(name)) for name, where in named if isinstance(name, str) and name and "\0" not in name]
    return [(name, _digest_at(path, _stamp(path))) for name, path in paths if path.exists()]


def _path(name: str) -> Path:
    return Path(name).expanduser()


def _model_at(name: str) -> Path:
    """A model's path, or where one of the hub is kept."""
    path = _path(name)
    if path.exists():
        return path
    from studbook.neural.pretrained import find_folder, may_be_on_hub

    return find_folder(name) if may_be_on_hub(name) else path


def _stamp(path: Path) -> tuple[tuple[str, int, int], ...]:
    """What changes when a file does."""
    files = [path] if path.is_file() else sorted(file for file in path.iterdir() if file.is_file())
    return tuple((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files)


@functools.lru_cache(maxsize=16)
def _digest_at(path: Path, stamp: tuple[tuple[str, int, int], ...]) -> str:
    """SHA-256 (hex) of a file, or of the files in a folder; ``stamp`` makes the cache forget what was changed."""
    digest = hashlib.sha256()
    for name, size, _ in stamp:
        digest.update(f"{name}\0{size}\0".encode())
        with (path if path.is_file() else path / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
