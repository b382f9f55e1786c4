"""How many states stay alive: the expected support over generations, with and without real records that join.

Each state's count is a chain of its own: the next one is Bin(s, k/N) of the generated records plus the state's count among the real ones.
Followed backwards, one function of the count serves all states; ``studbook.theory._chain`` holds it on a grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from studbook.arrays import Floats, Ints
from studbook.errors import ConfigError
from studbook.theory._chain import binomial_row, count_nodes, expectation, hypergeometric_row, shift, transition

if TYPE_CHECKING:
    from collections.abc import Sequence

_CHEBYSHEV = 64
"""Probabilities at which survival is solved when there are more distinct ones; it is an entire function of the rate between them."""
_SETTLED = 1e-14


@dataclass(frozen=True, slots=True)
class Renewal:
    """What each generation after generation 0 is trained on.

    Attributes:
        generated: Records that the last model generated, 0 or more.
        fresh: New real records drawn from the law.
        original: Records drawn without replacement from the original ones; not together with ``fresh``.

    Examples:
        >>> from studbook.theory import Renewal
        >>> Renewal(95, fresh=5).size
        100
    """

    generated: int
    fresh: int = 0
    original: int = 0

    def __post_init__(self) -> None:
        if min(self.generated, self.fresh, self.original) < 0 or self.size < 1 or (self.fresh and self.original):
            raise ConfigError(f"{self} was asked for, expected counts of 0 or more, fresh or original records but not both")

    @property
    def size(self) -> int:
        """Records in the training set."""
        return self.generated + self.fresh + self.original


def expected_support(probabilities: Floats, renewal: Renewal, n_original: int, generations: Ints, *, sampled: bool = True) -> Floats:
    """Expected number of states alive in the model of each generation.

    Args:
        probabilities: ``(K,)`` of the law (``sampled``), or of the original records: counts over ``n_original``.
        renewal: What each generation after generation 0 is trained on.
        n_original: Size of the original data.
        generations: ``(G,)`` generations, 0 or more.
        sampled: The original is ``n_original`` draws of the law, new for each replicate; else one finite set of records.

    Returns:
        ``(G,)`` expected numbers, to a relative error below 1e-6 (exact to rounding up to 300 records a generation).

    References:
        S. Wright, Genetics 16 (1931); W. Ewens, "Mathematical Population Genetics" (2004), chapter 3; for models: I. Shumailov et al.,
        Nature 631 (2024).

    Examples:
        >>> import numpy as np
        >>> from studbook.theory import Renewal, expected_support
        >>> zipf = 1 / np.arange(1, 51)
        >>> expected_support(zipf / zipf.sum(), Renewal(100), 100, np.array([0, 99])).round(2).tolist()
        [31.77, 2.18]
    """
    values, multiplicity = np.unique(probabilities[probabilities > 0.0], return_counts=True)
    solved, spread = _survival(values, renewal, n_original, np.asarray(generations, dtype=np.int64), sampled=sampled)
    total: Floats = solved @ (spread.T @ multiplicity)
    return total


def survival_probability(probabilities: Floats, renewal: Renewal, n_original: int, generations: Ints, *, sampled: bool = True) -> Floats:
    """Probability that a state of each initial probability is alive in the model of each generation.

    Arguments, assumptions and references as in ``expected_support``.

    Returns:
        ``(G, K)``.

    Examples:
        >>> import numpy as np
        >>> from studbook.theory import Renewal, survival_probability
        >>> survival_probability(np.array([0.5]), Renewal(2), 2, np.array([0, 1])).round(4).tolist()
        [[0.75], [0.625]]
    """
    solved, spread = _survival(probabilities, renewal, n_original, np.asarray(generations, dtype=np.int64), sampled=sampled)
    return np.clip(solved @ spread.T, 0.0, 1.0)


def support_cost(n_states: int, renewal: Renewal, n_original: int, last: int, *, sampled: bool = True) -> float:
    """Elementary steps (about a nanosecond each) behind ``expected_support``.

    Examples:
        >>> from studbook.theory import Renewal, support_cost
        >>> support_cost(5000, Renewal(20_000), 20_000, 100) < 2e8
        True
    """
    grid, joining = float(len(count_nodes(renewal.size))), renewal.fresh + renewal.original
    columns = float(min(n_states, _CHEBYSHEV))
    rows = 300.0 * grid * (9.0 * np.sqrt(renewal.size) + 40.0)
    if renewal.original:
        columns = float(len(count_nodes(n_original)) if sampled else min(n_states, n_original))
    if not joining:
        return float(rows + last * grid * grid)
    # What real records bring in settles: a lineage stays clear of them with probability 1 - joining/size.
    marched = min(float(last), -np.log(_SETTLED) * renewal.size / joining)
    band = 40.0 + min(joining, 18.0 * np.sqrt(joining))
    return float(rows + columns * grid * (60.0 * band + marched * (min(grid, band) + grid) / 4.0))


def _survival(probabilities: Floats, renewal: Renewal, n_original: int, generations: Ints, *, sampled: bool) -> tuple[Floats, Floats]:
    """P(alive) in two factors: solved at m points ``(G, m)``, and what each state takes of these ``(K, m)``."""
    if renewal.original:
        return _survival_beside_original(probabilities, renewal, n_original, generations, sampled=sampled)
    points, spread = _thin_out(probabilities)
    return _solve(points, renewal, n_original, generations, sampled=sampled), spread


def _thin_out(probabilities: Floats) -> tuple[Floats, Floats]:
    """Chebyshev points for many probabilities, on the scale of log(−log(1 − p)), and the matrix that interpolates between them."""
    inside = (probabilities > 0.0) & (probabilities < 1.0)
    distinct, where = np.unique(probabilities, return_inverse=True)
    if len(distinct) <= _CHEBYSHEV + 2:
        return distinct, np.eye(len(distinct))[where]
    logs = np.log(-np.log1p(-probabilities[inside]))
    middle, half = (logs.max() + logs.min()) / 2.0, (logs.max() - logs.min()) / 2.0
    angles = np.pi * (np.arange(_CHEBYSHEV) + 0.5) / _CHEBYSHEV
    points = -np.expm1(-np.exp(middle + half * np.cos(angles)))
    # Discrete orthogonality of the Chebyshev polynomials at their points: values to coefficients.
    coefficients = np.cos(np.outer(np.arange(_CHEBYSHEV), angles)) * (2.0 / _CHEBYSHEV)
    coefficients[0] /= 2.0
    spread = np.zeros((len(probabilities), _CHEBYSHEV + 1))
    spread[inside, :-1] = np.polynomial.chebyshev.chebvander((logs - middle) / half, _CHEBYSHEV - 1) @ coefficients
    spread[probabilities >= 1.0, -1] = 1.0
    return np.append(points, 1.0), spread


def _solve(probabilities: Floats, renewal: Renewal, n_original: int, generations: Ints, *, sampled: bool) -> Floats:
    """Replacement, or fresh records from the law: ``(G, K)``."""
    inner = count_nodes(renewal.generated)
    if sampled:
        origin = count_nodes(n_original)
        first = expectation([binomial_row(n_original, p) for p in probabilities.tolist()], origin)
        first = first @ transition(origin, n_original, renewal.generated, inner)
        start = 1.0 - np.exp(n_original * np.log1p(-np.minimum(probabilities, 1.0 - 1e-16)))
    else:
        first = expectation([binomial_row(renewal.generated, p) for p in probabilities.tolist()], inner)
        start = (probabilities > 0.0).astype(np.float64)
    arrivals = [binomial_row(renewal.fresh, p) for p in probabilities.tolist()] if renewal.fresh else None
    return _march(first, arrivals, start, renewal, generations)


def _survival_beside_original(
    probabilities: Floats, renewal: Renewal, n_original: int, generations: Ints, *, sampled: bool
) -> tuple[Floats, Floats]:
    """With draws from the original: solved given the state's count in it, then averaged over that count if it is random."""
    if sampled:
        rows = [binomial_row(n_original, p) for p in probabilities.tolist()]
        nodes = count_nodes(n_original)
        reach = max(low + len(row) for low, row in rows)
        hits = nodes[: np.searchsorted(nodes, reach) + 1]
        spread = expectation(rows, hits)
    else:
        hits, where = np.unique(np.rint(probabilities * n_original).astype(np.int64), return_inverse=True)
        spread = np.eye(len(hits))[where]
    first = transition(hits, n_original, renewal.generated, count_nodes(renewal.generated))
    arrivals = [hypergeometric_row(n_original, int(k), renewal.original) for k in hits]
    return _march(first, arrivals, (hits > 0).astype(np.float64), renewal, generations), spread


def _march(first: Floats, arrivals: Sequence[tuple[int, Floats]] | None, start: Floats, renewal: Renewal, generations: Ints) -> Floats:
    """P(alive) by generation.

    Args:
        first: ``(K, inner)`` law of each state's count among generation 1's generated records.
        arrivals: Law of its count among each generation's real records; ``None``: there are none.
        start: ``(K,)`` P(alive in generation 0).
        renewal: What each generation is trained on.
        generations: ``(G,)``.
    """
    nodes, inner = count_nodes(renewal.size), count_nodes(renewal.generated)
    last = int(generations.max(initial=0))
    own = transition(nodes, renewal.size, renewal.generated, inner)
    alive = np.empty((last + 1, len(start)))
    alive[0] = start
    if arrivals is None:
        current = (nodes > 0).astype(np.float64)
        for index in range(1, last + 1):
            alive[index] = first @ current
            current = own @ current
        return alive[generations]
    moves = _block_diagonal([shift(row, inner, nodes) for row in arrivals])
    current = np.tile((nodes > 0).astype(np.float64), (len(start), 1))
    for index in range(1, last + 1):
        joined = (moves @ current.ravel()).reshape(len(start), len(inner))
        alive[index] = np.einsum("ki,ki->k", first, joined)
        following = joined @ own.T
        if np.abs(following - current).max() < _SETTLED:
            alive[index + 1 :] = alive[index]
            break
        current = following
    return alive[generations]


def _block_diagonal(blocks: list[Any]) -> Any:
    from scipy.sparse import block_diag

    return block_diag(blocks, format="csr")
