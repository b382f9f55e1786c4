"""Records from outside join every generation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from studbook.arrays import Batch, Floats, Ints, Kind
from studbook.errors import ConfigError
from studbook.mixing.checks import check_fresh, check_original, check_share
from studbook.mixing.part import Origin, Part

_MOVABLE = (Kind.NUMBERS, Kind.IMAGES)


@dataclass(frozen=True, slots=True)
class Poison:
    """A share of every training set comes from outside: an adversary's records, not the model's own output.

    The rest is original (``keep``), new real (``fresh``) and otherwise generated. Outside records are made from original ones,
    with distances in units of each column's standard deviation in the original data; a column that is constant there stays as it is.
    Those of ``shift`` and ``far`` are different in every generation, that of ``copy`` is always the same.

    Attributes:
        share: Share of the training set that comes from outside, 0 to 1.
        keep: Share of the training set drawn without replacement from the original data, 0 to 1.
        fresh: New real records a generation, 0 or more.
        attack: ``"shift"``: original records, all moved by the same vector; ``"far"``: the original's mean, moved in a random
            direction of its own for each record; ``"copy"``: the first original record, moved by the same vector, over and over.
        distance: How far they are moved (Euclidean, 0 or more), with the columns in units of their standard deviations.
        column: The column, or pixel, that ``shift`` and ``copy`` move, counted from 0; -1 moves all columns equally, by distance/√d each.

    Examples:
        >>> from studbook.mixing import Poison
        >>> [(part.origin.value, part.n) for part in Poison(share=0.1, keep=0.5).parts(200, 200)]
        [('original', 100), ('generated', 80), ('outside', 20)]
        >>> import numpy as np
        >>> from studbook.arrays import numbers
        >>> real = numbers(np.array([0.0, 2.0]))
        >>> Poison(share=0.1, attack="copy", distance=10.0).outside(real, 3, rng=np.random.default_rng(0)).values[:, 0].tolist()
        [10.0, 10.0, 10.0]
    """

    share: float
    keep: float = 0.0
    fresh: int = 0
    attack: Literal["shift", "far", "copy"] = "shift"
    distance: float = 10.0
    column: int = -1

    def __post_init__(self) -> None:
        check_share("share", self.share)
        check_share("keep", self.keep)
        check_fresh(self.fresh)
        if self.share + self.keep > 1.0 + 1e-9:
            raise ConfigError(
                f"mix.share + mix.keep is {self.share + self.keep:g}, expected at most 1", hint="what is left over is generated"
            )
        if self.attack not in get_args(Literal["shift", "far", "copy"]):
            raise ConfigError(f"mix.attack is {self.attack!r}, expected shift, far or copy", hint="set mix.attack")
        if not (math.isfinite(self.distance) and self.distance >= 0.0):
            raise ConfigError(f"mix.distance is {self.distance}, expected 0 or more standard deviations")
        if self.column < -1:
            raise ConfigError(f"mix.column is {self.column}, expected a column counted from 0, or -1 for all")

    def parts(self, n: int, n_original: int) -> tuple[Part, ...]:
        """See ``studbook.mixing.Mix``."""
        outside, original = round(self.share * n), round(self.keep * n)
        if self.share and not outside:
            raise ConfigError(
                f"poison with share {self.share} of {n} records a generation is no record", hint="raise mix.share or study.samples"
            )
        generated = n - outside - original - self.fresh
        if generated < 0:
            raise ConfigError(
                f"poison asks for {outside} outside, {original} original and {self.fresh} fresh records, but a generation has {n}",
                hint="lower mix.share, mix.keep or mix.fresh",
            )
        check_original(original, n_original, f"poison with keep {self.keep}")
        wanted = (
            Part(Origin.ORIGINAL, original),
            Part(Origin.FRESH, self.fresh),
            Part(Origin.GENERATED, generated),
            Part(Origin.OUTSIDE, outside),
        )
        return tuple(part for part in wanted if part.n)

    def check_original(self, original: Batch) -> None:
        """Refuse data that can't be moved, and a column that isn't there.

        Raises:
            ConfigError: Text, states or counts with a distance above 0 or another attack than ``copy``; or no such column.
        """
        space = original.space
        if space.kind in _MOVABLE:
            if self.column >= space.dimension:
                raise ConfigError(
                    f"mix.column is {self.column}, the records have {space.dimension} columns", hint="columns are counted from 0"
                )
        elif self.attack != "copy" or self.distance:
            raise ConfigError(
                f"poison with attack {self.attack!r} and distance {self.distance:g} moves records, the data hold {space.kind.value}",
                hint='for such data use mix.attack = "copy" with mix.distance = 0',
            )

    def outside(self, original: Batch, n: int, *, rng: np.random.Generator) -> Batch:
        """``n`` outside records, without labels.

        Args:
            original: The original data.
            n: How many.
            rng: Stream.

        Raises:
            ConfigError: As ``check_original``.
        """
        self.check_original(original)
        if self.attack == "copy":
            rows: Ints = np.zeros(n, np.int64)
        else:
            rows = rng.integers(len(original), size=n)
        if original.space.kind not in _MOVABLE:
            return Batch(original.values[rows], original.space)
        values = original.flat
        start = np.broadcast_to(values.mean(axis=0), (n, values.shape[1])) if self.attack == "far" else values[rows]
        moved = start + self.distance * self._directions(n, values.shape[1], rng) * values.std(axis=0)
        return Batch(np.ascontiguousarray(moved.reshape(n, *original.space.shape)), original.space)

    def _directions(self, n: int, dimension: int, rng: np.random.Generator) -> Floats:
        """Unit vectors, one for all records ``(d,)`` or one for each ``(n, d)``."""
        if self.attack == "far":
            noise: Floats = rng.standard_normal((n, dimension))
            noise /= np.linalg.norm(noise, axis=1, keepdims=True)
            return noise
        if self.column < 0:
            return np.full(dimension, 1.0 / math.sqrt(dimension))
        direction = np.zeros(dimension)
        direction[self.column] = 1.0
        return direction
