"""Reproducible streams of random numbers.

A stream is named by a path, not by a position in somebody's loop: the study's seed, then what the numbers are for. Equal paths
give equal numbers, whatever the executor, the number of workers or the order in which units run; different paths give independent
streams (NumPy's ``SeedSequence`` with a spawn key, and SFC64, the fastest of its generators).
"""

from __future__ import annotations

import functools
import hashlib

import numpy as np


def stream(seed: int, *path: str | int) -> np.random.Generator:
    """The generator for ``path`` under the root ``seed``.

    Args:
        seed: Root seed of the study, 0 or more.
        *path: Names or non-negative integers, for example ``("replicate", 3, "generation", 7, "sample")``.

    Examples:
        >>> from studbook.rng import stream
        >>> a, b = stream(0, "replicate", 1, "sample"), stream(0, "replicate", 1, "sample")
        >>> bool(a.random() == b.random())
        True
    """
    key = tuple(part if isinstance(part, int) else _word(part) for part in path)
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=key)))


@functools.lru_cache(maxsize=256)
def _word(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
