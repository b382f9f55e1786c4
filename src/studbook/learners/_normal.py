"""Normal densities and roots of covariances, singular ones included."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from studbook.arrays import Floats
from studbook.theory.laws import matrix_root

_RELATIVE_RANK = 1e-12
_OFF_SUPPORT = 1e-6


def covariance_root(covariance: Floats) -> Floats:
    """A matrix ``A`` with ``A @ A.T == covariance`` for each of ``(R, d, d)``.

    Cholesky factors where all are positive definite, which is ten times faster; else eigenvectors, which take singular ones too.
    """
    if covariance.shape[-1] > 1:
        try:
            return np.linalg.cholesky(covariance)  # type: ignore[return-value]
        except np.linalg.LinAlgError:
            pass
    return matrix_root(covariance)


@dataclass(frozen=True, slots=True, eq=False)
class Whitener:
    """Coordinates in which a normal law is standard.

    A singular law lives on a subspace. Its density is meant with respect to that subspace (the pseudo-determinant), and is 0 off it;
    a law on one point has the density 1 there.

    Attributes:
        axes: ``(d, rank)``; ``x @ axes`` has unit variance.
        off: ``(d, d - rank)`` orthonormal directions without variance.
        log_volume: Half the log of the pseudo-determinant.
    """

    axes: Floats
    off: Floats
    log_volume: float

    @classmethod
    def of(cls, covariance: Floats) -> Whitener:
        """From one covariance ``(d, d)``."""
        if covariance.shape == (1, 1):
            eigenvalues, vectors = covariance[0], np.ones((1, 1))
        else:
            eigenvalues, vectors = np.linalg.eigh(covariance)
        alive = eigenvalues > max(eigenvalues[-1], 0.0) * _RELATIVE_RANK
        deviations = np.sqrt(eigenvalues[alive])
        return cls(vectors[:, alive] / deviations, vectors[:, ~alive], float(np.log(deviations).sum()))

    def log_density(self, deviations: Floats) -> Floats:
        """Log density at ``(n, d)`` deviations from the mean: ``(n,)``."""
        white = deviations @ self.axes
        log_density: Floats = -0.5 * np.einsum("nd,nd->n", white, white) - self.log_volume - 0.5 * white.shape[1] * np.log(2 * np.pi)
        log_density[self.is_off(deviations)] = -np.inf
        return log_density

    def is_off(self, deviations: Floats) -> NDArray[np.bool_]:
        """Whether each of ``(n, d)`` deviations leaves the subspace, rounding apart: ``(n,)`` bool."""
        if self.off.shape[1] == 0:
            return np.zeros(len(deviations), bool)
        size = np.abs(deviations).max(axis=1, initial=0.0)
        if self.axes.shape[1] == 0:
            off: NDArray[np.bool_] = size > 0
        else:
            off = np.abs(deviations @ self.off).max(axis=1) > _OFF_SUPPORT * size
        return off
