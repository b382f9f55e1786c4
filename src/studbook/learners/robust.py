"""Normal distributions fitted so that a share of outside records can't pull them far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np

from studbook.arrays import Batch, Floats, Kind
from studbook.errors import ConfigError
from studbook.learners._robust_kernels import Kept, column_scales, geometric_median, keep_records, weighted_median
from studbook.learners.checks import record_weights, require_fittable, require_varied
from studbook.learners.gaussian import GaussianModel
from studbook.theory.laws import GaussianLaw

Location: TypeAlias = Literal["median", "geometric_median", "spectral"]

_KINDS = (Kind.NUMBERS, Kind.IMAGES)


@dataclass(frozen=True, slots=True)
class RobustGaussian:
    """Normal distributions by robust location and scatter; any dimension, pictures as vectors of pixels.

    Against records that others put into the training set. It does nothing against a model's own output: that is no minority far away
    but all of the data, a little too narrow, and each fit narrows it further just as the plain one does.

    The covariance is that of the records that a filter keeps, corrected so that it is right at the normal law: no record far away by its
    distance, and no direction wider than noise allows (see ``studbook.learners._robust_kernels.keep_records``). It is divided by the
    total weight, like ``gaussian`` with ``ddof = 0``. A record that is rare in the real data is far away too: a robust fit can't tell, and
    cuts real tails.

    Attributes:
        location: ``"median"``, of each coordinate: error up to about 1.25 times the share of outside records a coordinate, so it grows
            with √d; ``"geometric_median"``, the point nearest to all records (Vardi and Zhang 2000) with every column in units of its
            own spread, likewise; or ``"spectral"``, the mean of the records that the filter keeps (Diakonikolas et al. 2017, 2019),
            whose error hardly depends on the dimension.
        contamination: Largest share of outside records to guard against, 0 up to (not including) 0.5. The filter leaves out at
            most this share and one per cent; with more outside records than that it fails.

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import numbers
        >>> from studbook.learners.robust import RobustGaussian
        >>> rng = np.random.default_rng(0)
        >>> real, outside = rng.normal(size=(900, 3)), rng.normal(loc=20.0, size=(100, 3))
        >>> model = RobustGaussian(location="spectral").fit(numbers(np.concatenate([real, outside])), rng=rng)
        >>> bool(np.abs(model.law.mean).max() < 0.15), bool(np.abs(model.law.covariance[0] - np.eye(3)).max() < 0.2)
        (True, True)
    """

    location: Location = "spectral"
    contamination: float = 0.25

    def __post_init__(self) -> None:
        if self.location not in get_args(Location):
            raise ConfigError(f"location is {self.location!r}, expected {', '.join(get_args(Location))}", hint="set learner.location")
        if not 0.0 <= self.contamination < 0.5:
            raise ConfigError(
                f"contamination is {self.contamination}, expected a share from 0 up to (not including) 0.5",
                hint="where half of the records come from outside, nothing tells which half",
            )

    def check_original(self, data: Batch) -> None:
        """Refuse original data without variance.

        Raises:
            FitError: One record, or a constant column; the message names it.
        """
        require_fittable(data, _KINDS, "robust_gaussian")
        require_varied(data, "robust_gaussian")

    def fit(self, data: Batch, *, rng: np.random.Generator) -> GaussianModel:
        """The normal distribution with the data's robust location and scatter.

        Raises:
            FitError: Wrong kind, no records, NaN or infinity.
        """
        require_fittable(data, _KINDS, "robust_gaussian")
        values, weights = data.flat, record_weights(data)
        kept = keep_records(values, weights, self.contamination)
        mean, covariance = _moments(values, weights, kept)
        if self.location != "spectral":
            mean = locate(values, weights, self.location)
        return GaussianModel(GaussianLaw(mean[None], covariance[None]), data.space)


def locate(values: Floats, weights: Floats, location: Literal["median", "geometric_median"]) -> Floats:
    """The coordinate-wise or the geometric median of ``(n, d)`` records with weights ``(n,)``: ``(d,)``."""
    middle = weighted_median(values, weights)
    if location == "median":
        return middle
    scales = column_scales(values, middle, weights)
    return middle + scales * geometric_median((values - middle) / scales, weights)


def _moments(values: Floats, weights: Floats, kept: Kept) -> tuple[Floats, Floats]:
    """Mean ``(d,)`` and corrected covariance ``(d, d)`` of the kept records."""
    rows = values[kept.rows]
    shares = weights[kept.rows] / weights[kept.rows].sum()
    # From a record: equal records have a covariance of exactly 0.
    deviations = rows - rows[0]
    shift = shares @ deviations
    deviations -= shift
    covariance = kept.correction * ((deviations * shares[:, None]).T @ deviations)
    return rows[0] + shift, 0.5 * (covariance + covariance.T)
