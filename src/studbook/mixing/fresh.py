"""New real records join every generation."""

from __future__ import annotations

from dataclasses import dataclass

from studbook.errors import ConfigError
from studbook.mixing.checks import check_fresh
from studbook.mixing.part import Origin, Part


@dataclass(frozen=True, slots=True)
class Fresh:
    """``fresh`` new real records and ``n - fresh`` generated ones: migration, in the terms of population genetics.

    From a distribution the new records are drawn; from a data set they come out of a reserve that no generation has seen.

    Attributes:
        fresh: New real records a generation, 0 or more.

    Examples:
        >>> from studbook.mixing import Fresh
        >>> [(part.origin.value, part.n) for part in Fresh(fresh=5).parts(100, 100)]
        [('fresh', 5), ('generated', 95)]
    """

    fresh: int

    def __post_init__(self) -> None:
        check_fresh(self.fresh)

    def parts(self, n: int, n_original: int) -> tuple[Part, ...]:
        """See ``studbook.mixing.Mix``."""
        if self.fresh > n:
            raise ConfigError(f"mix.fresh is {self.fresh}, but a generation has {n} records", hint="lower mix.fresh or raise study.samples")
        return tuple(part for part in (Part(Origin.FRESH, self.fresh), Part(Origin.GENERATED, n - self.fresh)) if part.n)
