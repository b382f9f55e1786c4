"""Kernel density estimates with a Gaussian kernel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from studbook.arrays import Batch, Floats, Kind, Space
from studbook.errors import ConfigError, FitError
from studbook.learners._normal import Whitener
from studbook.learners.checks import record_weights, require_fittable, require_size, require_varied
from studbook.theory.laws import matrix_root

_KINDS = (Kind.NUMBERS, Kind.IMAGES)
_BLOCK_CELLS = 1 << 20  # pairs of records held at once: 8 MB


@dataclass(frozen=True, slots=True, eq=False)
class KernelDensityModel:
    """A normal kernel on every record.

    Attributes:
        centres: ``(m, d)`` the training records.
        shares: ``(m,)`` their probabilities, which sum to 1.
        kernel: ``(d, d)`` covariance of the kernel; 0 is a collapsed model that repeats its records.
        space: What a record is.
    """

    centres: Floats
    shares: Floats
    kernel: Floats
    space: Space

    def sample(self, n: int, *, rng: np.random.Generator) -> Batch:
        """``n`` independent records: a training record, picked by weight, plus kernel noise."""
        require_size(n, "n")
        cumulative = np.cumsum(self.shares)
        rows = np.searchsorted(cumulative[:-1] / cumulative[-1], rng.random(n), side="right")
        noise = rng.standard_normal((n, self.centres.shape[1])) @ matrix_root(self.kernel[None])[0].T
        return Batch((self.centres[rows] + noise).reshape(n, *self.space.shape), self.space)

    def log_prob(self, batch: Batch) -> Floats:
        """Natural log of the density ``(n,)``, in bounded memory.

        Where the kernel is singular, the density on the subspace where it lives, 0 off it.
        """
        white = Whitener.of(self.kernel)
        middle = self.shares @ self.centres
        centres, points = self.centres - middle, batch.flat - middle
        constant = -white.log_volume - 0.5 * white.axes.shape[1] * math.log(2 * math.pi)
        log_shares = np.log(self.shares)
        block = max(1, _BLOCK_CELLS // len(centres))
        sums = [_log_kernel_sum(points[i : i + block], centres, log_shares, white) for i in range(0, len(points), block)]
        return np.concatenate(sums) + constant if sums else np.zeros(0)

    def moments(self) -> tuple[Floats, Floats]:
        """Exact mean ``(1, d)`` and covariance ``(1, d, d)``: those of the records, plus the kernel's covariance."""
        mean = self.shares @ self.centres
        deviations = self.centres - mean
        return mean[None], ((deviations * self.shares[:, None]).T @ deviations + self.kernel)[None]


def _log_kernel_sum(points: Floats, centres: Floats, log_shares: Floats, white: Whitener) -> Floats:
    """Log of the sum over the centres of share × exp(−½ distance²), for each point."""
    if points.shape[1] == 1 and white.axes.shape[1] == 1:
        exponents = np.subtract.outer(points[:, 0], centres[:, 0])
        exponents *= white.axes[0, 0]
        np.square(exponents, out=exponents)
    else:
        x, y = points @ white.axes, centres @ white.axes
        exponents = x @ (-2.0 * y.T)
        exponents += np.einsum("nd,nd->n", x, x)[:, None] + np.einsum("nd,nd->n", y, y)
        np.maximum(exponents, 0.0, out=exponents)
    exponents *= -0.5
    exponents += log_shares
    if white.off.shape[1]:
        exponents[_leave_subspace(points, centres, white)] = -np.inf
    top = exponents.max(axis=1)
    exponents -= np.where(np.isfinite(top), top, 0.0)[:, None]
    with np.errstate(divide="ignore"):
        return np.log(np.exp(exponents, out=exponents).sum(axis=1)) + np.where(np.isfinite(top), top, 0.0)  # type: ignore[no-any-return]


def _leave_subspace(points: Floats, centres: Floats, white: Whitener) -> NDArray[np.bool_]:
    """Whether each pair of point and centre differs in a direction that the kernel doesn't have: ``(n, m)`` bool."""
    x, y = points @ white.off, centres @ white.off
    size = max(float(np.abs(points).max(initial=0.0)), float(np.abs(centres).max()))
    gap = np.zeros((len(x), len(y)))
    for column in range(x.shape[1]):
        np.maximum(gap, np.abs(np.subtract.outer(x[:, column], y[:, column])), out=gap)
    return gap > 1e-9 * size


@dataclass(frozen=True, slots=True)
class KernelDensity:
    """A normal kernel on every record.

    With a fixed bandwidth h the variance *grows*: ``v ← (1 − 1/N)(v + h²)`` in expectation, to ``(N − 1) h²``.

    Attributes:
        bandwidth: Standard deviation of the kernel in units of the data, the same in every direction; or ``"scott"``
            (Scott 1992: factor ``n^(−1/(d+4))``) or ``"silverman"`` (Silverman 1986: ``(n (d+2)/4)^(−1/(d+4))``), which multiply
            the unbiased sample covariance by the square of their factor. With weights, n is the effective number of records.

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import numbers
        >>> from studbook.learners.kde import KernelDensity
        >>> model = KernelDensity(bandwidth=0.5).fit(numbers(np.array([0.0, 2.0])), rng=np.random.default_rng(0))
        >>> mean, covariance = model.moments()
        >>> mean.item(), covariance.item()
        (1.0, 1.25)
    """

    bandwidth: float | Literal["scott", "silverman"] = "scott"

    def __post_init__(self) -> None:
        width: object = self.bandwidth  # it may come from a file
        if width not in ("scott", "silverman") and not (isinstance(width, int | float) and math.isfinite(width) and width > 0):
            raise ConfigError(
                f"bandwidth is {self.bandwidth!r}, expected a number above 0, 'scott' or 'silverman'", hint="set learner.bandwidth"
            )

    def check_original(self, data: Batch) -> None:
        """Refuse original data without variance.

        Raises:
            FitError: One record, or a constant column; the message names it.
        """
        require_fittable(data, _KINDS, "kde")
        require_varied(data, "kde")

    def fit(self, data: Batch, *, rng: np.random.Generator) -> KernelDensityModel:
        """The estimate on the data. Equal records give a collapsed model under ``scott`` and ``silverman``.

        Raises:
            FitError: Wrong kind, no records, NaN or infinity, or a single record where the bandwidth needs a variance.
        """
        require_fittable(data, _KINDS, "kde")
        weights = record_weights(data)
        shares = weights / weights.sum()
        dimension = data.space.dimension
        named = isinstance(self.bandwidth, str)
        kernel = self._scaled_covariance(data.flat, shares) if named else np.eye(dimension) * float(self.bandwidth) ** 2
        return KernelDensityModel(data.flat, shares, kernel, data.space)

    def _scaled_covariance(self, values: Floats, shares: Floats) -> Floats:
        if len(values) < 2:
            raise FitError(f"kde with bandwidth {self.bandwidth!r} got 1 record, expected 2 or more", hint="set a fixed bandwidth")
        n_effective = 1.0 / float(shares @ shares)
        dimension = values.shape[1]
        factor = n_effective ** (-1.0 / (dimension + 4))
        if self.bandwidth == "silverman":
            factor *= ((dimension + 2) / 4.0) ** (-1.0 / (dimension + 4))
        deviations = values - values[0]  # equal records have a covariance of exactly 0
        deviations -= shares @ deviations
        covariance: Floats = (deviations * shares[:, None]).T @ deviations
        covariance *= factor**2 / (1.0 - float(shares @ shares))
        return 0.5 * (covariance + covariance.T)
