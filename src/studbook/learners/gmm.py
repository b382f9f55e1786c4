"""Gaussian mixtures, fitted by expectation maximisation."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from studbook.arrays import Batch, Floats, Kind, Space
from studbook.errors import ConfigError, FitError
from studbook.learners._normal import Whitener, covariance_root
from studbook.learners.checks import require_fittable, require_size, require_varied

if TYPE_CHECKING:
    from studbook.arrays import Ints

_KINDS = (Kind.NUMBERS, Kind.IMAGES)


@dataclass(frozen=True, slots=True, eq=False)
class GaussianMixtureModel:
    """A fitted mixture.

    Attributes:
        shares: ``(C,)`` probabilities of the components, which sum to 1.
        means: ``(C, d)``.
        covariances: ``(C, d, d)``, or ``(C, d)`` variances where the components have no correlations.
        space: What a record is.
        converged: Whether EM stopped by itself.
        n_iterations: Steps of EM in the best restart.
    """

    shares: Floats
    means: Floats
    covariances: Floats
    space: Space
    converged: bool
    n_iterations: int

    def sample(self, n: int, *, rng: np.random.Generator) -> Batch:
        """``n`` independent records, in random order."""
        require_size(n, "n")
        cumulative = np.cumsum(self.shares)
        components = np.searchsorted(cumulative[:-1] / cumulative[-1], rng.random(n), side="right")
        noise = rng.standard_normal((n, self.means.shape[1]))
        values = self._spread(components, noise) + self.means[components]
        return Batch(values.reshape(n, *self.space.shape), self.space)

    def _spread(self, components: Ints, noise: Floats) -> Floats:
        if self.covariances.ndim == 2:
            return noise * np.sqrt(self.covariances)[components]
        roots = covariance_root(self.covariances)
        for component in np.unique(components):
            rows = components == component
            noise[rows] = noise[rows] @ roots[component].T
        return noise

    def log_prob(self, batch: Batch) -> Floats:
        """Natural log of the density: ``(n,)``."""
        from scipy.special import logsumexp

        alive = np.flatnonzero(self.shares > 0).tolist()
        columns = [self._log_component(batch.flat - self.means[c], c) + math.log(self.shares[c]) for c in alive]
        return logsumexp(columns, axis=0)  # type: ignore[no-any-return]

    def _log_component(self, deviations: Floats, component: int) -> Floats:
        if self.covariances.ndim == 3:
            return Whitener.of(self.covariances[component]).log_density(deviations)
        variances = self.covariances[component]
        constant = -0.5 * float(np.log(2 * math.pi * variances).sum())
        log_density: Floats = constant - 0.5 * (deviations**2 @ (1.0 / variances))
        return log_density

    def moments(self) -> tuple[Floats, Floats]:
        """Exact mean ``(1, d)`` and covariance ``(1, d, d)`` of the mixture: within the components and between them."""
        mean = self.shares @ self.means
        deviations = self.means - mean
        between = (deviations * self.shares[:, None]).T @ deviations
        within = np.tensordot(self.shares, self.covariances, axes=1)
        return mean[None], (between + (np.diag(within) if within.ndim == 1 else within))[None]


@dataclass(frozen=True, slots=True)
class GaussianMixture:
    """A mixture of normal distributions, fitted by scikit-learn's EM and sampled here.

    Attributes:
        components: Number of components C.
        covariance: ``full``: each component its own; ``tied``: one for all; ``diag``: no correlations; ``spherical``: one variance
            a component.
        regularisation: Added to every variance, in squared units of the data; it keeps a component on equal records alive.
        restarts: Runs of EM from different starts; the likeliest is kept.
        max_iterations: Steps of EM a run. A run that hits it gives a model with ``converged`` false.

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import numbers
        >>> from studbook.learners.gmm import GaussianMixture
        >>> data = numbers(np.array([-5.1, -4.9, 4.9, 5.1]))
        >>> model = GaussianMixture(components=2).fit(data, rng=np.random.default_rng(0))
        >>> sorted(model.means[:, 0].round(2).tolist()), model.converged
        ([-5.0, 5.0], True)
    """

    components: int = 2
    covariance: Literal["full", "tied", "diag", "spherical"] = "full"
    regularisation: float = 1e-6
    restarts: int = 1
    max_iterations: int = 100

    def __post_init__(self) -> None:
        for name in ("components", "restarts", "max_iterations"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, expected 1 or more", hint=f"set learner.{name}")
        if self.covariance not in ("full", "tied", "diag", "spherical"):
            raise ConfigError(f"covariance is {self.covariance!r}, expected full, tied, diag or spherical", hint="set learner.covariance")
        if not (math.isfinite(self.regularisation) and self.regularisation >= 0):
            raise ConfigError(f"regularisation is {self.regularisation}, expected 0 or more", hint="1e-6 suits data of unit scale")

    def check_original(self, data: Batch) -> None:
        """Refuse original data without variance.

        Raises:
            FitError: One record, or a constant column; the message names it.
        """
        self._require(data)
        require_varied(data, "gmm")

    def fit(self, data: Batch, *, rng: np.random.Generator) -> GaussianMixtureModel:
        """The likeliest mixture that EM finds.

        Raises:
            FitError: Wrong kind, NaN or infinity, fewer records than components, weights that differ, or a component that lost all
                variance with ``regularisation`` 0.
        """
        self._require(data)
        fitted = self._run_em(data.flat, int(rng.integers(2**31 - 1)))
        return GaussianMixtureModel(
            fitted.weights_ / fitted.weights_.sum(),
            fitted.means_,
            _component_covariances(fitted.covariances_, self.covariance, *fitted.means_.shape),
            data.space,
            bool(fitted.converged_),
            int(fitted.n_iter_),
        )

    def _require(self, data: Batch) -> None:
        require_fittable(data, _KINDS, "gmm")
        if len(data) < self.components:
            raise FitError(f"gmm got {len(data)} records for {self.components} components", hint="give it more records or fewer components")
        if data.weights is not None and data.weights.min() != data.weights.max():
            raise FitError("gmm can't weight records, these have different weights", hint="choose another mix or the learner 'kde'")

    def _run_em(self, values: Floats, seed: int) -> Any:
        from sklearn import mixture
        from sklearn.exceptions import ConvergenceWarning

        em = mixture.GaussianMixture(
            self.components,
            covariance_type=self.covariance,
            reg_covar=self.regularisation,
            n_init=self.restarts,
            max_iter=self.max_iterations,
            random_state=seed,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # it is a field of the model
            try:
                return em.fit(values)
            except ValueError as error:
                raise FitError(
                    f"a component of the mixture lost all its variance with regularisation {self.regularisation:g}",
                    hint="raise regularisation or ask for fewer components",
                ) from error


def _component_covariances(fitted: Floats, kind: str, n_components: int, dimension: int) -> Floats:
    """scikit-learn's four layouts as ``(C, d, d)`` or, without correlations, ``(C, d)``."""
    if kind == "tied":
        return np.repeat(fitted[None], n_components, axis=0)
    if kind == "spherical":
        return np.repeat(fitted[:, None], dimension, axis=1)
    return fitted
