"""Nodes that fit a model each and then average its parameters: between one model of all records and models that never meet.

The means of the parameters p̂_j = p_j + ε_j, whose errors are independent with variance v/N, are p_i = Σ_j W_ij·p̂_j. For families whose
parameters are means of their records (shares of states, the mean of a normal law) this is the structured coalescent with one more event a
generation: a record's model is node j's with probability W_ij.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from studbook.arrays import Floats
from studbook.errors import ConfigError

_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Averaging:
    """A weighted mean of fitted models' parameters.

    Attributes:
        weights: ``(n, n)`` share of node j's parameters in node i's model; rows sum to 1.
        mixture: Whether the model of mean parameters is the mixture of the models, as for shares of states: then what lies between the
            nodes becomes variance within them. Else its variance is the mean of theirs, as for normal models.

    Raises:
        ConfigError: Not such weights.
    """

    weights: Floats
    mixture: bool = True

    def __post_init__(self) -> None:
        weights = self.weights
        sound = weights.ndim == 2 and weights.shape[0] == weights.shape[1] > 0 and weights.min() >= -_TOLERANCE
        if not sound or np.abs(weights.sum(axis=1) - 1.0).max() > _TOLERANCE:
            raise ConfigError("weights of nodes' parameters are a square table of shares, 0 or more, whose rows sum to 1")

    def advance(self, distances: Floats, within: Floats) -> tuple[Floats, Floats]:
        """What averaging does to expected squares.

        Args:
            distances: ``(m, m)`` expected squared distances between means; the first n are the models', the others stay.
            within: ``(n,)`` expected variance of each model.

        Returns:
            The same afterwards.
        """
        n = len(within)
        whole = np.eye(len(distances))
        whole[:n, :n] = self.weights
        mixed = whole @ distances @ whole.T
        spread = 0.5 * np.diagonal(mixed)
        after = mixed - spread[:, None] - spread
        np.fill_diagonal(after, 0.0)
        return after, self.weights @ within + (spread[:n] if self.mixture else 0.0)


def effective_records(weights: Floats, n: int) -> Floats:
    """How many records of its own a lone model would need to know its mean as well as a node does after one fit and averaging.

    Node i's error has the variance v·Σ_j W_ij²/n: as that of n/‖W_i‖² records, from n (no contact) to as many as all nodes have.

    Args:
        weights: ``(m, m)``; see ``Averaging``.
        n: Records in each node's training set.

    Returns:
        ``(m,)``, one a node.

    Raises:
        ConfigError: Not such weights, or no records.

    References:
        The effective number of parents, 1/Σ p²: S. Wright, Genetics 16 (1931); L. Kish, "Survey Sampling" (1965), section 11.7.

    Examples:
        >>> import numpy as np
        >>> from studbook.theory import effective_records, neighbour_weights
        >>> effective_records(np.full((4, 4), 0.25), 100).round(9).tolist()
        [400.0, 400.0, 400.0, 400.0]
        >>> effective_records(neighbour_weights(8, [(i, (i + 1) % 8) for i in range(8)]), 500)[0].round(9).item()
        1500.0
    """
    if n < 1:
        raise ConfigError(f"n is {n}, expected 1 or more records a node")
    Averaging(weights)
    return n / np.square(weights).sum(axis=1)  # type: ignore[no-any-return]


def averaged_size(weights: Floats, n: int) -> float:
    """The size of a single model whose diversity falls as fast as that of m nodes that average, in the long run.

    N_e = m·n + Σ_{k≥2} λ_k²/(1 − λ_k²) over the eigenvalues of the weights, up to terms of 1/n: what is left of earlier errors between
    the nodes is added to what all records give. ``effective_size`` has the exact number.

    Args:
        weights: ``(m, m)``, symmetric, so that columns sum to 1 as well.
        n: Records in each node's training set.

    Returns:
        N_e; infinity where the nodes fall into parts that never meet.

    Raises:
        ConfigError: Not such weights, or no records.

    References:
        T. Maruyama (1970) for migration; here the quasi-equilibrium of F_ST, (1/(m·n))·Σ λ²/(1 − λ²), in N_e = m·n/(1 − F_ST).

    Examples:
        >>> import numpy as np
        >>> from studbook.theory import averaged_size, neighbour_weights
        >>> averaged_size(np.full((8, 8), 1 / 8), 500), averaged_size(np.eye(8), 500)
        (4000.0, inf)
        >>> round(averaged_size(neighbour_weights(8, [(i, (i + 1) % 8) for i in range(8)]), 500), 2)
        4004.09
    """
    Averaging(weights)
    if n < 1 or np.abs(weights - weights.T).max() > _TOLERANCE:
        raise ConfigError(f"a table of weights for {n} records a node isn't symmetric, or there are no records")
    squares = np.square(np.sort(np.linalg.eigvalsh(weights))[:-1])
    if squares.size and squares.max() > 1.0 - _TOLERANCE:
        return float("inf")
    squares[squares < _TOLERANCE**2] = 0.0
    return float(len(weights) * n + (squares / (1.0 - squares)).sum())


def neighbour_weights(n: int, edges: Iterable[tuple[int, int]]) -> Floats:
    """Weights by which each node averages with all its neighbours: W_ij = 1/(1 + max(d_i, d_j)) for an edge, the rest on the diagonal.

    Args:
        n: Nodes.
        edges: Pairs of different nodes from 0 to n − 1, each once.

    Returns:
        ``(n, n)``, symmetric; rows and columns sum to 1, and none of it is below 0.

    References:
        L. Xiao, S. Boyd, S.-J. Kim, "Distributed average consensus with least-mean-square deviation", J. Parallel Distrib. Comput. 67
        (2007), eq. 3, after Metropolis and Hastings.

    Examples:
        >>> from studbook.theory import neighbour_weights
        >>> neighbour_weights(3, [(0, 1), (0, 2)]).round(3).tolist()
        [[0.333, 0.333, 0.333], [0.333, 0.667, 0.0], [0.333, 0.0, 0.667]]
    """
    pairs = list(edges)
    degrees = np.bincount(np.asarray(pairs, np.int64).reshape(-1), minlength=n)
    weights = np.zeros((n, n))
    for i, j in pairs:
        weights[i, j] = weights[j, i] = 1.0 / (1 + max(degrees[i], degrees[j]))
    np.fill_diagonal(weights, 1.0 - weights.sum(axis=1))
    return weights
