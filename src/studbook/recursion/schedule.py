"""Mixes that change on the way: one mix for the first generations, another one afterwards."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np

from studbook.arrays import Batch
from studbook.mixing import Mix, Origin, Part


@runtime_checkable
class Phased(Protocol):
    """A mix whose parts depend on the generation."""

    def at(self, generation: int) -> Mix:
        """The mix of that generation, 1 or more."""
        ...


@runtime_checkable
class Poisoned(Protocol):
    """A mix with a part from outside, which it makes itself."""

    def outside(self, original: Batch, n: int, *, rng: np.random.Generator) -> Batch:
        """``n`` records of the space of ``original``, the original data."""
        ...


def mix_at(mix: Mix, generation: int) -> Mix:
    """The mix of one generation."""
    return mix.at(generation) if isinstance(mix, Phased) else mix


def phases(mix: Mix, last: int) -> tuple[Mix, ...]:
    """Every different mix that generations 1 to ``last`` are trained on, in order; at least one.

    Examples:
        >>> from studbook.mixing import Keep
        >>> from studbook.recursion.schedule import phases
        >>> phases(Keep(share=0.1), last=100)
        (Keep(share=0.1),)
    """
    if not isinstance(mix, Phased):
        return (mix,)
    found = [mix.at(1)]
    for generation in range(2, last + 1):
        now = mix.at(generation)
        if now not in found:
            found.append(now)
    return tuple(found)


def all_parts(mix: Mix, last: int, n: int, n_original: int) -> tuple[Part, ...]:
    """The parts of every phase.

    Raises:
        ConfigError: A phase asks for more than there is.
    """
    return tuple(part for phase in phases(mix, last) for part in phase.parts(n, n_original))


def fresh_by_generation(mix: Mix, last: int, n: int, n_original: int) -> list[int]:
    """Fresh records that each generation takes: entry g for generation g, 0 for generation 0."""
    return [0, *(_fresh(mix_at(mix, generation).parts(n, n_original)) for generation in range(1, last + 1))]


def n_fresh(mix: Mix, last: int, n: int, n_original: int) -> int:
    """Fresh records that all generations take together."""
    if isinstance(mix, Phased):
        return sum(fresh_by_generation(mix, last, n, n_original))
    return _fresh(mix.parts(n, n_original)) * last


def _fresh(parts: tuple[Part, ...]) -> int:
    return sum(part.n or 0 for part in parts if part.origin is Origin.FRESH)
