"""What a forecast answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Estimate:
    """A median with an interval; ``inf`` where it may never happen.

    Attributes:
        median: Middle of the distribution.
        low: Lower end of the central interval; ``None`` for quantities that have no calibrated one.
        high: Upper end, or ``None``.
    """

    median: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Remaining:
    """When no more than a share of the first measured value remains.

    Attributes:
        level: The share.
        generation: First generation with that share or less.
        reached: Whether a measured value is there beyond doubt, errors included; without errors ``generation`` is then certain.
    """

    level: float
    generation: Estimate
    reached: bool


@dataclass(frozen=True, slots=True)
class Point:
    """The predicted value at one generation.

    Attributes:
        generation: The generation.
        value: The value that is expected to be measured there.
    """

    generation: int
    value: Estimate


@dataclass(frozen=True, slots=True)
class SeriesForecast:
    """What one metric of one pipeline will do.

    Attributes:
        metric: Name of the quantity.
        cell: Cell of the run folder, ``"0"`` where there is none.
        n_runs: Replicates measured. Of one, the forecast goes on from its last value; of several, it is for a further run like them.
        first_generation: First measured generation; shares are relative to its value.
        last_generation: Last measured generation.
        first_value: The value there (geometric mean over replicates).
        last_value: The last value (geometric mean).
        loss: Share that a typical generation loses.
        model: ``"drift"``, a loss that goes on, or ``"equilibrium"``, a level that real records in the mix hold it at; the likelier.
        probability: Of the equilibrium, given the measured values; the intervals weigh both.
        effective_sample_size: Records that a training set is worth: the size whose drift would explain the noise (variance, std) or
            the loss (heterozygosity). ``None`` for other metrics, and in more than one dimension.
        bias: Share that a generation loses beyond drift, as truncated decoding does; negative where it gains. ``None`` where the
            noise doesn't tell drift from bias, and at an equilibrium.
        half_life: Generations in which the typical value halves; ``inf`` where the equilibrium is higher.
        remaining: When each asked level is reached.
        curve: Predictions up to the horizon, at most 60.
        exact: Whether the model is known to be that of the pipeline: variance or std of a Gaussian in one dimension that trains on its
            own output alone. Else size and bias are those of the Gaussian that would behave alike.
        caveat: What the answer rests on, or why it has no interval; empty where it is exact.
    """

    metric: str
    cell: str
    n_runs: int
    first_generation: int
    last_generation: int
    first_value: float
    last_value: float
    model: Literal["drift", "equilibrium"]
    probability: float
    loss: Estimate
    effective_sample_size: Estimate | None
    bias: Estimate | None
    half_life: Estimate
    remaining: tuple[Remaining, ...]
    curve: tuple[Point, ...]
    exact: bool
    caveat: str


@dataclass(frozen=True, slots=True)
class Forecast:
    """Forecasts of every metric and cell of a table.

    Attributes:
        series: In the order of the table.
        skipped: Metric, cell and reason of those that no decay can be fitted to.
        confidence: Of every interval.
        seed: Root seed of the draws behind the intervals of times.
    """

    series: tuple[SeriesForecast, ...]
    skipped: tuple[tuple[str, str, str], ...]
    confidence: float
    seed: int

    def __getitem__(self, metric: str) -> SeriesForecast:
        """The first forecast of that metric."""
        for series in self.series:
            if series.metric == metric:
                return series
        raise KeyError(metric)
