"""Separate clusters of points, as a finite data set."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from studbook.arrays import numbers
from studbook.data.dataset import Dataset
from studbook.data.memory import InMemory
from studbook.errors import ConfigError
from studbook.rng import stream


@dataclass(frozen=True, slots=True)
class Clusters:
    """Records of equally likely round clusters of unit variance, evenly placed on a circle in the plane.

    The setting of the mixture experiment of Shumailov et al. (Nature 2024). The records are made once, from a fixed seed.

    Attributes:
        records: How many, 2 to 10⁷.
        clusters: Number of clusters, 1 to 1,000.
        separation: Distance between neighbouring centres, in standard deviations.

    Examples:
        >>> from studbook.data import Clusters
        >>> Clusters(records=100).load().records.values.shape
        (100, 2)
    """

    record_kind: ClassVar[str] = "numbers"
    origin: ClassVar[str] = "Made by studbook from a fixed seed; no licence."

    records: int = 1_000
    clusters: int = 2
    separation: float = 5.0

    def __post_init__(self) -> None:
        for name, low, high in (("records", 2, 10**7), ("clusters", 1, 1_000)):
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"data.{name} is {getattr(self, name)}, expected {low} to {high:,}")
        if not 0.0 <= self.separation < 1e6:
            raise ConfigError(f"data.separation is {self.separation}, expected a distance of 0 or more standard deviations")

    def load(self) -> Dataset:
        """See ``studbook.data.dataset.Source``."""
        rng = stream(0, "clusters")
        angles = 2 * math.pi * np.arange(self.clusters) / self.clusters
        radius = self.separation / (2 * math.sin(math.pi / self.clusters)) if self.clusters > 1 else 0.0
        centres = radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        which = rng.integers(self.clusters, size=self.records)
        points = centres[which] + rng.standard_normal((self.records, 2))
        return replace(InMemory(numbers(points), name="clusters").load(), origin=self.origin)
