"""The marginal Wright–Fisher chain on a grid of counts, for the categorical theory.

Functions of the count 0..N are held by their values at some counts: every one up to ``_DENSE``, then at geometric distances, and between
them by local polynomials. What survives after h generations varies on the scale of the count itself, so that a few hundred nodes hold it to
about 1e-8 whatever N. Binomial rows are cut where less than 1e-16 of them lies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from studbook.arrays import Floats, Ints

if TYPE_CHECKING:
    from collections.abc import Sequence

_DENSE = 64
_PER_E_FOLD = 32
_STENCIL = 8
_NEGLIGIBLE = 1e-18
FULL_GRID = 300
"""Up to this N every count is a node."""


def count_nodes(n: int) -> Ints:
    """The counts of 0..n that carry values: ascending, both ends included."""
    if n <= FULL_GRID:
        return np.arange(n + 1)
    steps = int(np.ceil(np.log(n / _DENSE) * _PER_E_FOLD)) + 1
    spaced = np.rint(np.geomspace(_DENSE, n, steps)).astype(np.int64)
    return np.unique(np.concatenate((np.arange(_DENSE + 1), spaced)))


def interpolation(nodes: Ints, points: Ints) -> tuple[Ints, Floats]:
    """Local Lagrange interpolation from values at ``nodes`` to ``points``.

    Returns:
        Columns ``(len(points), m)`` into the nodes and their weights, of the same shape.
    """
    width = min(_STENCIL, len(nodes))
    first = np.clip(np.searchsorted(nodes, points) - width // 2, 0, len(nodes) - width)
    columns = first[:, None] + np.arange(width)
    stencils = nodes[np.arange(len(nodes) - width + 1)[:, None] + np.arange(width)].astype(np.float64)
    gaps = stencils[:, :, None] - stencils[:, None, :] + np.eye(width)
    distances = points[:, None] - nodes[columns].astype(np.float64)
    # Products of all distances but one: what lies before it times what lies behind it.
    weights = 1.0 / gaps.prod(axis=2)[first]
    for j in range(1, width):
        weights[:, j:] *= distances[:, j - 1 : j]
        weights[:, :-j] *= distances[:, width - j : width - j + 1]
    return columns, weights


def binomial_row(trials: int, chance: float) -> tuple[int, Floats]:
    """Bin(trials, chance) as (first count, probabilities)."""
    from scipy.special import gammaln, xlog1py, xlogy

    reach = 9.0 * np.sqrt(trials * chance * (1.0 - chance)) + 40.0
    low = max(int(trials * chance - reach), 0)
    counts = np.arange(low, min(int(np.ceil(trials * chance + reach)), trials) + 1)
    logs = xlogy(counts, chance) + xlog1py(trials - counts, -chance) - gammaln(counts + 1) - gammaln(trials - counts + 1)
    return _trim(low, logs)


def hypergeometric_row(population: int, hits: int, draws: int) -> tuple[int, Floats]:
    """Hits in ``draws`` records taken without replacement from ``population`` with ``hits`` hits, as (first count, probabilities)."""
    from scipy.special import gammaln

    low, high = max(0, draws - (population - hits)), min(draws, hits)
    counts = np.arange(low, high + 1)
    logs = -gammaln(counts + 1) - gammaln(hits - counts + 1) - gammaln(draws - counts + 1)
    logs -= gammaln(population - hits - draws + counts + 1)
    return _trim(low, logs)


def _trim(low: int, logs: Floats) -> tuple[int, Floats]:
    """A row from unnormalised log probabilities of the counts from ``low`` on, without what is negligible at its ends."""
    row = np.exp(logs - logs.max())
    kept = np.flatnonzero(row > _NEGLIGIBLE)
    row = row[kept[0] : kept[-1] + 1]
    return low + int(kept[0]), row / row.sum()


def expectation(rows: Sequence[tuple[int, Floats]], nodes: Ints) -> Floats:
    """The operator from node values to expectations under each row: ``(len(rows), len(nodes))``."""
    operator = np.zeros((len(rows), len(nodes)))
    for line, (low, row) in enumerate(rows):
        columns, weights = interpolation(nodes, np.arange(low, low + len(row)))
        operator[line] = np.bincount(columns.ravel(), (weights * row[:, None]).ravel(), minlength=len(nodes))
    return operator


def transition(nodes: Ints, size: int, trials: int, targets: Ints) -> Floats:
    """E f(Bin(trials, k/size)) for each node k, from the values of f at ``targets``."""
    return expectation([binomial_row(trials, k / size) for k in nodes.tolist()], targets)


def shift(row: tuple[int, Floats], nodes: Ints, targets: Ints) -> Any:
    """E f(k + X) for each node k and X distributed as ``row``, from the values of f at ``targets``: a sparse matrix."""
    from scipy.sparse import csr_array

    low, chances = row
    points = (nodes[:, None] + low + np.arange(len(chances))).ravel()
    columns, weights = interpolation(targets, points)
    weights *= np.tile(chances, len(nodes))[:, None]
    lines = np.repeat(np.arange(len(nodes)) * len(targets), len(chances))[:, None]
    cells = np.bincount((lines + columns).ravel(), weights.ravel(), minlength=len(nodes) * len(targets))
    return csr_array(cells.reshape(len(nodes), len(targets)))
