"""Pictures of the same recipes in several environments: drawn, hashed and dropped. Only the hashes are kept, as files."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from studbook import __version__
from studbook.arrays import AnyArray, Ints
from studbook.errors import ConfigError
from studbook.files import write_file
from studbook.fingerprints import FixedWidth, create
from studbook.parameters import nearest
from studbook.records import Environment, ImageSampling, digest_of
from studbook.records.codec import to_plain
from studbook.verification.calibrate import seeds_of
from studbook.verification.models import RegisteredModel
from studbook.verification.pictures import ImageEngine
from studbook.verification.settings import Setting

Progress = Callable[[str], None]

SCHEMES: Mapping[str, tuple[str, Mapping[str, object]]] = MappingProxyType(
    {
        "ahash": ("ahash", {}),
        "dhash": ("dhash", {}),
        "phash": ("phash", {}),
        "phash-256": ("phash", {"size": 16}),
        "whash": ("whash", {}),
        "pdq": ("pdq", {}),
        "colorhash": ("colorhash", {}),
    }
)
"""The fingerprints of pictures that can be compared: name in the catalog and parameters."""

_PLACE = Environment(batch=256)
REFERENCE = Setting("fp32, 256 side by side", _PLACE)
"""Where the verifier draws."""
HONEST = (
    Setting("bf16", replace(_PLACE, dtype="bf16")),
    Setting("64 side by side", replace(_PLACE, batch=64)),
    Setting("2 threads", replace(_PLACE, threads=2)),
)
"""Other environments in which a claimant may have drawn."""
CHEATS = (
    Setting("half the steps", _PLACE, trick="steps"),
    Setting("int8 weights", _PLACE, weight_bits=8),
    Setting("int4 weights", _PLACE, weight_bits=4),
)
"""What a claimant may have done instead; another seed and another class are the pairs of different recipes."""


@dataclass(frozen=True, slots=True)
class Recipes:
    """What is drawn in every setting.

    Attributes:
        model: Whose files.
        sampling: How.
        classes: The classes that the model knows.
        requests: The class of each picture, by turns.
        seeds: The seed of each picture.
        seed: What the seeds were drawn from.
    """

    model: RegisteredModel
    sampling: ImageSampling
    classes: tuple[int, ...]
    requests: tuple[str, ...]
    seeds: tuple[int, ...]
    seed: int

    @classmethod
    def of(cls, model: RegisteredModel, sampling: ImageSampling, n: int, seed: int) -> Recipes:
        """``n`` recipes, the model's classes by turns, each with a seed of its own.

        Raises:
            ConfigError: The model knows fewer than two classes.
        """
        classes = ImageEngine(model, REFERENCE.environment).classes
        if len(classes) < 2:
            message = f"{model.folder} knows {len(classes)} classes, expected two or more: pairs are told apart by class"
            raise ConfigError(message, hint="train it with conditional = true on labelled pictures")
        requests = tuple(str(classes[i % len(classes)]) for i in range(n))
        return cls(model, sampling, classes, requests, tuple(seeds_of(seed, n)), seed)

    @property
    def labels(self) -> Ints:
        """``(n,)`` place of each picture's class."""
        return np.arange(len(self.seeds)) % len(self.classes)


def check_schemes(names: Sequence[str]) -> None:
    """Return nothing where all are names of ``SCHEMES``, each once.

    Raises:
        ConfigError: An unknown name, one that occurs twice, or none.
    """
    for name in names:
        if name not in SCHEMES:
            raise ConfigError(f"there is no scheme {name[:80]!r} for pictures", hint=nearest(name, SCHEMES, noun="scheme"))
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"the schemes are {', '.join(names) or 'none'}, expected one or more, each once")


def hash_setting(folder: Path, recipes: Recipes, setting: Setting, schemes: Sequence[str], *, progress: Progress) -> dict[str, AnyArray]:
    """The hashes of all pictures in one setting, by scheme: read where they are stored, else drawn, hashed and stored.

    Args:
        folder: Where hashes are kept.
        recipes: What is drawn.
        setting: Where, or how falsely.
        schemes: Names of ``SCHEMES``.
        progress: Is told how far it is.

    Returns:
        ``(n, n_bytes)`` uint8 each, memory-mapped.

    Raises:
        StorageError: The disk refused.
    """
    fingerprints = {name: _fingerprint(name) for name in schemes}
    files = {name: folder / f"{name}-{_key(recipes, setting, made)}.npy" for name, made in fingerprints.items()}
    missing = [name for name, file in files.items() if read_array(file, len(recipes.seeds)) is None]
    if missing:
        found = _draw(recipes, setting, {name: fingerprints[name] for name in missing}, progress)
        for name in missing:
            write_array(files[name], found[name])
    stored = {name: read_array(file, len(recipes.seeds)) for name, file in files.items()}
    return {name: array for name, array in stored.items() if array is not None}


def draw_again(folder: Path, recipes: Recipes, places: Sequence[int]) -> AnyArray:
    """A few of the pictures as the reference environment draws them, ``(m, h, w)`` or ``(m, h, w, 3)`` uint8; kept once they are drawn."""
    about = {"pictures": [int(place) for place in places], **_about(recipes, REFERENCE)}
    file = folder / f"pictures-{_short(about)}.npy"
    pixels = read_array(file, len(places))
    if pixels is None:
        engine = ImageEngine(recipes.model, REFERENCE.environment)
        requests, seeds = [recipes.requests[place] for place in places], [recipes.seeds[place] for place in places]
        pixels = engine.write(requests, recipes.sampling, seeds, keep_states=False).pixels
        write_array(file, pixels)
    return pixels


def _draw(recipes: Recipes, setting: Setting, fingerprints: Mapping[str, FixedWidth], progress: Progress) -> dict[str, AnyArray]:
    engine = ImageEngine(recipes.model, setting.environment, weight_bits=setting.weight_bits)
    steps = recipes.sampling.steps
    how = replace(recipes.sampling, steps=max(1, steps // 2)) if setting.trick == "steps" else recipes.sampling
    packed: dict[str, list[AnyArray]] = {name: [] for name in fingerprints}
    n, size = len(recipes.seeds), setting.environment.batch
    for start in range(0, n, size):
        progress(f"{setting.name}: {start:,} of {n:,} pictures")
        part = slice(start, start + size)
        pixels = engine.write(recipes.requests[part], how, recipes.seeds[part], keep_states=False).pixels
        for name, fingerprint in fingerprints.items():
            packed[name].append(fingerprint.pack(pixels))
    return {name: np.concatenate(parts) for name, parts in packed.items()}


def _fingerprint(name: str) -> FixedWidth:
    made = create(*SCHEMES[name])
    assert isinstance(made, FixedWidth)
    return made


def _key(recipes: Recipes, setting: Setting, fingerprint: FixedWidth) -> str:
    scheme = {"scheme": fingerprint.scheme, "version": fingerprint.version, "parameters": [list(each) for each in fingerprint.parameters]}
    return _short({**scheme, **_about(recipes, setting)})


def _about(recipes: Recipes, setting: Setting) -> dict[str, object]:
    """Everything that determines the pictures of a setting."""
    import torch

    return {
        "model": recipes.model.digest,
        "sampling": to_plain(recipes.sampling),
        "recipes": {"n": len(recipes.seeds), "seed": recipes.seed, "classes": list(recipes.classes)},
        "environment": to_plain(setting.environment),
        "weight_bits": setting.weight_bits,
        "trick": setting.trick,
        "code": [f"studbook {__version__}", f"torch {torch.__version__}", f"numpy {np.__version__}"],
    }


def _short(about: dict[str, object]) -> str:
    return digest_of(about).removeprefix("sha256:")[:24]


def read_array(file: Path, n: int) -> AnyArray | None:
    """``n`` rows of bytes, mapped into memory; ``None`` where there is no such file, or a damaged one."""
    try:
        found: AnyArray = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return found if found.dtype == np.uint8 and found.ndim >= 2 and len(found) == n else None


def write_array(file: Path, array: AnyArray) -> None:
    """Write an array whole or not at all.

    Raises:
        StorageError: The disk refused.
    """
    data = io.BytesIO()
    np.save(data, array, allow_pickle=False)
    write_file(file, data.getvalue())
