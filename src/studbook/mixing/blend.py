"""New generated, previous and original records in fixed shares."""

from __future__ import annotations

import math
from dataclasses import dataclass

from studbook.errors import ConfigError
from studbook.mixing.checks import check_original, check_share
from studbook.mixing.part import Origin, Part


@dataclass(frozen=True, slots=True)
class Blend:
    """The general mix of Shumailov et al. (2024): shares of new generated, previous training and original records.

    Attributes:
        alpha: Share of new generated records.
        beta: Share drawn without replacement from the previous generation's training set.
        gamma: Share drawn without replacement from the original data. The three sum to 1.

    Examples:
        >>> from studbook.mixing import Blend
        >>> [(part.origin.value, part.n) for part in Blend(alpha=0.5, beta=0.3, gamma=0.2).parts(100, 100)]
        [('generated', 50), ('previous', 30), ('original', 20)]
    """

    alpha: float
    beta: float
    gamma: float

    def __post_init__(self) -> None:
        for name in ("alpha", "beta", "gamma"):
            check_share(name, getattr(self, name))
        total = self.alpha + self.beta + self.gamma
        if not math.isclose(total, 1.0, abs_tol=1e-9):
            raise ConfigError(
                f"mix.alpha + mix.beta + mix.gamma is {total:g}, expected 1",
                hint=f"the shares are alpha = {self.alpha:g}, beta = {self.beta:g}, gamma = {self.gamma:g}",
            )

    def parts(self, n: int, n_original: int) -> tuple[Part, ...]:
        """See ``studbook.mixing.Mix``."""
        new, previous = round(self.alpha * n), round(self.beta * n)
        previous = min(previous, n - new)
        original = n - new - previous
        check_original(original, n_original, f"blend with gamma {self.gamma:g}")
        check_original(previous, n_original, f"blend with beta {self.beta:g}")
        wanted = (Part(Origin.GENERATED, new), Part(Origin.PREVIOUS, previous), Part(Origin.ORIGINAL, original))
        return tuple(part for part in wanted if part.n)
