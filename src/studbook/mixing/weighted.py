"""Real and generated records with different weights in the fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from studbook.errors import ConfigError
from studbook.mixing.checks import check_fresh
from studbook.mixing.part import Origin, Part
from studbook.theory.golden_ratio import golden_weight


@dataclass(frozen=True, slots=True)
class Weighted:
    """Real records carry the share ``weight`` of the total weight, ``n`` new generated ones the rest.

    The total weight is the number of records, so that a weight equal to the share of real records is plain pooling. ``"golden"`` takes the
    weight that minimises the variance in the long run, (√(k² + 4k) − k)/2 with k real records for each generated one: .618 for k = 1
    (He, Xu and Cheng, golden-ratio weighting).

    Attributes:
        weight: Share of the total weight on the real records, strictly between 0 and 1, or ``"golden"``.
        fresh: New real records a generation; 0 takes the whole original data set every time.

    Examples:
        >>> from studbook.mixing import Weighted
        >>> real, generated = Weighted(weight="golden", fresh=100).parts(100, 100)
        >>> round(real.n * real.weight / 200, 3)
        0.618
    """

    weight: float | Literal["golden"]
    fresh: int = 0

    def __post_init__(self) -> None:
        check_fresh(self.fresh)
        if self.weight != "golden" and not 0.0 < self.weight < 1.0:
            raise ConfigError(f'mix.weight is {self.weight}, expected "golden" or a number between 0 and 1, both excluded')

    def parts(self, n: int, n_original: int) -> tuple[Part, ...]:
        """See ``studbook.mixing.Mix``."""
        n_real = self.fresh or n_original
        if self.weight == "golden":
            weight = golden_weight(n_real / n)
            rest = weight**2 * n / n_real  # 1 - weight, without losing digits where nearly all records are real
        else:
            weight, rest = self.weight, 1 - self.weight
        total = n_real + n
        real = (
            Part(Origin.FRESH, self.fresh, weight * total / n_real) if self.fresh else Part(Origin.ORIGINAL, None, weight * total / n_real)
        )
        return (real, Part(Origin.GENERATED, n, rest * total / n))
