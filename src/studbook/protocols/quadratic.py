"""The plainest objective: the mean of rows by squares. Every quantity of training on it is known exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studbook.arrays import Ints
from studbook.errors import ConfigError
from studbook.protocols.objective import Gradient
from studbook.protocols.values import Parameters
from studbook.rng import stream


@dataclass(frozen=True, slots=True)
class Quadratic:
    """The loss ½·h·|w − x|² over rows x, drawn once from a standard normal law.

    The curvature is h in every direction, and the gradient's noise doesn't depend on w: what theory says of the spread between nodes
    holds exactly. See ``studbook.theory.predict_spread``.

    Attributes:
        dimension: Of w and of each row, 1 to 10⁷.
        rows: How many rows, 1 to 10⁷.
        curvature: h, above 0.
        seed: Of the rows.

    Raises:
        ConfigError: Out of range.

    Examples:
        >>> import numpy as np
        >>> from studbook.protocols import Quadratic
        >>> objective = Quadratic(dimension=3, rows=100)
        >>> start = objective.initial(rng=np.random.default_rng(0))
        >>> objective.gradient(start, np.arange(10), rng=np.random.default_rng(0)).parameters["w"].shape
        (3,)
    """

    dimension: int = 10
    rows: int = 1000
    curvature: float = 1.0
    seed: int = 0
    _rows: NDArray[np.float32] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        sizes = (self.dimension, self.rows)
        if not all(type(each) is int and 1 <= each <= 10_000_000 for each in sizes) or self.dimension * self.rows > 100_000_000:
            raise ConfigError(f"quadratic has {self.rows} rows of {self.dimension} numbers, expected 1 or more, 10⁸ numbers at most")
        if not 0.0 < self.curvature < 1e6 or self.seed < 0:
            raise ConfigError(f"quadratic has a curvature of {self.curvature} and the seed {self.seed}, expected above 0, and 0 or more")
        drawn = stream(self.seed, "quadratic").standard_normal((self.rows, self.dimension), np.float32)
        object.__setattr__(self, "_rows", drawn)

    @property
    def n_rows(self) -> int:
        """See ``Objective``."""
        return self.rows

    def initial(self, *, rng: np.random.Generator) -> Parameters:
        """See ``Objective``."""
        return {"w": rng.standard_normal(self.dimension, np.float32)}

    def gradient(self, parameters: Parameters, rows: Ints, *, rng: np.random.Generator) -> Gradient:
        """See ``Objective``."""
        apart = parameters["w"].astype(np.float64) - self._rows[rows]
        loss = 0.5 * self.curvature * float(np.square(apart).sum(axis=1).mean())
        return Gradient({"w": (self.curvature * apart.mean(axis=0)).astype(np.float32)}, loss, len(rows))

    def evaluate(self, parameters: Parameters) -> Mapping[str, float]:
        """The loss over all rows."""
        apart = parameters["w"].astype(np.float64) - self._rows
        return {"loss": 0.5 * self.curvature * float(np.square(apart).sum(axis=1).mean())}

    def describe(self) -> Mapping[str, Any]:
        """See ``Objective``."""
        settings = {"dimension": self.dimension, "rows": self.rows, "curvature": self.curvature, "seed": self.seed}
        return {"kind": "quadratic", **settings}
