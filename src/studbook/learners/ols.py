"""Linear regression on regenerated labels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from studbook.arrays import Batch, Floats, Ints, Kind, Space
from studbook.errors import ConfigError, FitError
from studbook.learners.checks import name_columns, record_weights, require_fittable, require_size


@dataclass(frozen=True, slots=True, eq=False)
class LeastSquaresModel:
    """A fitted linear map, and the design whose labels it regenerates.

    Attributes:
        coefficients: ``(d,)``.
        intercept: 0 where none is fitted.
        noise: Standard deviation of the labels around the map.
        design: ``(m, d)`` the distinct feature rows of the training set, in order of appearance.
        multiplicity: ``(m,)`` how often each occurs in the training set.
        space: What a record is: d features, then the label.
    """

    coefficients: Floats
    intercept: float
    noise: float
    design: Floats
    multiplicity: Ints
    space: Space

    @property
    def weights(self) -> Floats:
        """The coefficients ``(d,)``, under the name the literature gives them."""
        return self.coefficients

    def predict(self, features: Floats) -> Floats:
        """Expected labels ``(n,)`` of features ``(n, d)``."""
        return features @ self.coefficients + self.intercept

    def sample(self, n: int, *, rng: np.random.Generator) -> Batch:
        """``n`` records: rows of the design with new labels, ``y = x·ŵ + noise·N(0, 1)``.

        Every row occurs ``n`` times its share of the training set, rounded at random. So as many records as the original data have
        hold the very same features in the same order, also after an accumulated pool in which each row occurs several times; fewer
        hold a random subset of them, without repetition.
        """
        require_size(n, "n")
        features = self.design[_in_turn(self._copies(n, rng))]
        labels = self.predict(features) + self.noise * rng.standard_normal(n)
        return Batch(np.column_stack([features, labels]), self.space)

    def _copies(self, n: int, rng: np.random.Generator) -> Ints:
        """How often each row of the design occurs among ``n`` records: whole shares, and the fractions by systematic sampling."""
        whole, fraction = np.divmod(n * self.multiplicity, self.multiplicity.sum())
        if not fraction.any():
            return whole
        order = rng.permutation(len(whole))
        ticks = np.cumsum(fraction[order])  # in units of 1 / total, so that nothing is rounded
        start = rng.integers(self.multiplicity.sum())
        passed = (ticks + start) // self.multiplicity.sum()
        whole[order] += np.diff(passed, prepend=0)
        return whole


@dataclass(frozen=True, slots=True)
class LeastSquares:
    """Ordinary least squares whose next training labels are its own: the setting of Gerstgrasser et al. (2024).

    Records are d features and, last, the label. The features stay those of the original data; each generation regenerates the labels.
    For T normal rows and constant noise σ the expected squared error of the weights is ``n σ² d / (T − d − 1)`` after n generations
    that replace the labels, and at most π²/6 of one generation's where they accumulate.

    Attributes:
        noise: Standard deviation σ of regenerated labels, in the label's unit; ``"residual"`` estimates it anew in every fit, with
            ``n − d`` degrees of freedom; under weights W its square is ``Σ w r² / (Σ w − tr((X'WX)⁻¹ X'W²X))``, unbiased where the
            labels' noise is the same for all records. The published setting is a constant.
        intercept: Whether to fit a constant beside the features.

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import numbers
        >>> from studbook.learners.ols import LeastSquares
        >>> rng = np.random.default_rng(0)
        >>> model = LeastSquares(noise=0.0).fit(numbers(np.array([[1.0, 2.0], [2.0, 4.0]])), rng=rng)
        >>> model.coefficients.round(6).tolist(), model.sample(2, rng=rng).values.round(6).tolist()
        ([2.0], [[1.0, 2.0], [2.0, 4.0]])
    """

    noise: float | Literal["residual"] = "residual"
    intercept: bool = False

    def __post_init__(self) -> None:
        noise: object = self.noise  # it may come from a file
        if noise != "residual" and not (isinstance(noise, int | float) and math.isfinite(noise) and noise >= 0):
            raise ConfigError(f"noise is {self.noise!r}, expected a number of 0 or more, or 'residual'", hint="set learner.noise")

    def fit(self, data: Batch, *, rng: np.random.Generator) -> LeastSquaresModel:
        """The weighted least-squares fit of the last column on the others.

        Raises:
            FitError: Wrong kind, no feature column, NaN or infinity, linearly dependent columns (named), or too few records to
                estimate the noise.
        """
        require_fittable(data, (Kind.NUMBERS,), "ols")
        if data.space.dimension < 2:
            raise FitError("ols got 1 column, expected features and a label", hint="put the label into the last column")
        features, labels = data.values[:, :-1], data.values[:, -1]
        root_weights = np.sqrt(record_weights(data))
        table = np.column_stack([features, np.ones(len(data))]) if self.intercept else features
        solution = _solve(table * root_weights[:, None], labels * root_weights, data.space)
        noise = self.noise
        if isinstance(noise, str):
            noise = _residual_noise(labels - table @ solution, table, record_weights(data))
        dimension = features.shape[1]
        constant = float(solution[-1]) if self.intercept else 0.0
        return LeastSquaresModel(solution[:dimension], constant, float(noise), *_distinct_rows(features), data.space)


def _solve(table: Floats, labels: Floats, space: Space) -> Floats:
    """Least squares by a pivoted QR decomposition, which names the columns that depend on others."""
    from scipy.linalg import qr, solve_triangular

    lengths = np.linalg.norm(table, axis=0)
    scale = np.where(lengths > 0, lengths, 1.0)
    # An unpivoted QR first makes the system small: pivoting is slow, and only the triangle matters to it.
    system = np.column_stack([table / scale, labels])
    if len(system) > system.shape[1]:
        system = np.asarray(np.linalg.qr(system, mode="r"))
    orthogonal, triangle, order = qr(system[:, :-1], mode="economic", pivoting=True)
    tolerance = max(table.shape) * np.finfo(float).eps * 10
    rank = int((np.abs(np.diag(triangle)) > tolerance).sum())
    if rank < table.shape[1]:
        dependent = np.sort(order[rank:])
        what = (
            name_columns(dependent[dependent < space.dimension - 1], space) if (dependent < space.dimension - 1).any() else "the intercept"
        )
        raise FitError(
            f"{what} can't be told from the other columns in {len(table)} records (rank {rank} of {table.shape[1]})",
            hint="drop it, or give more records than features",
        )
    solution = np.empty(table.shape[1])
    solution[order] = solve_triangular(triangle, orthogonal.T @ system[:, -1])
    return solution / scale


def _residual_noise(residuals: Floats, table: Floats, weights: Floats) -> float:
    n, n_parameters = table.shape
    freedom = _freedom(table, weights)
    # With d records that outweigh all others beyond double precision, what is left of the others' freedom is rounding.
    if n <= n_parameters or freedom <= n * np.finfo(float).eps * float(weights.sum()):
        raise FitError(
            f"ols can't estimate the noise of {n} records with {n_parameters} parameters", hint="give it more records or a constant noise"
        )
    return math.sqrt(float(weights @ residuals**2) / freedom)


def _freedom(table: Floats, weights: Floats) -> float:
    """E Σ w r² over the variance of a label: Σ w (1 − h) with the leverages h; ``n − d`` where all weights are 1."""
    n, n_parameters = table.shape
    if (weights == weights[0]).all():
        return float(weights[0] * (n - n_parameters))
    lengths = np.linalg.norm(table, axis=0)
    basis = np.linalg.qr(table / lengths * np.sqrt(weights)[:, None])[0]
    return float(weights @ (1.0 - np.einsum("ij,ij->i", basis, basis)))


def _in_turn(copies: Ints) -> Ints:
    """The rows, as often as ``copies`` says: every row once, then every row that occurs twice, and so on."""
    rows = np.repeat(np.arange(len(copies)), copies)
    turn = np.arange(len(rows)) - np.repeat(np.cumsum(copies) - copies, copies)
    return rows[np.argsort(turn, kind="stable")]


def _distinct_rows(features: Floats) -> tuple[Floats, Ints]:
    """The distinct rows in order of appearance, and how often each occurs."""
    order = np.argsort(features[:, 0], kind="stable")
    same = features[order[1:]] == features[order[:-1]]
    repeated = same.all(axis=1)
    if (same[:, 0] & ~repeated).any():
        # Equal in the first column only: sort by all of them.
        _, first, multiplicity = np.unique(features, axis=0, return_index=True, return_counts=True)
    else:
        starts = np.flatnonzero(np.concatenate(([True], ~repeated)))
        first, multiplicity = order[starts], np.diff(np.append(starts, len(features)))
    appearance = np.argsort(first)
    return features[first[appearance]], multiplicity[appearance].astype(np.int64)
