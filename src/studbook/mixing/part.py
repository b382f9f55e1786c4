"""What a training set is made of: parts by origin. A mix is a pure description, carried out on records or on their statistics."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Origin(StrEnum):
    """Where a part of a training set comes from."""

    GENERATED = "generated"
    """New records, drawn from the newest model."""
    ORIGINAL = "original"
    """Records drawn without replacement from the original data."""
    FRESH = "fresh"
    """Real records that no generation has seen."""
    PREVIOUS = "previous"
    """Records drawn without replacement from the previous generation's training set."""
    POOL = "pool"
    """Records drawn without replacement from everything so far: the original data and all that was generated, the newest included."""
    OUTSIDE = "outside"
    """Somebody else's records, neither real nor the model's own; the mix makes them, by ``outside(original, n, *, rng)``."""


@dataclass(frozen=True, slots=True)
class Part:
    """``n`` records of one origin, each with one weight in the fit.

    Attributes:
        origin: Where they come from.
        n: How many; ``None`` takes all there are (``ORIGINAL`` and ``POOL`` only).
        weight: Weight of each record in the fit, above 0.
    """

    origin: Origin
    n: int | None
    weight: float = 1.0


class Mix(Protocol):
    """What the next generation trains on.

    A mix is a frozen value; it holds shares and counts, never records. One that changes on the way also has
    ``at(generation) -> Mix``, the mix of that generation (1 or more); its own ``parts`` are those of its first phase then.
    """

    def parts(self, n: int, n_original: int) -> tuple[Part, ...]:
        """The parts of one generation's training set.

        Args:
            n: Records a generation.
            n_original: Size of the original data.

        Raises:
            ConfigError: The mix asks for more than there is, for instance more fresh records than ``n``.
        """
        ...
