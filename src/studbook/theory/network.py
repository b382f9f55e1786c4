"""Several models that train on each other's records: drift in a subdivided population, or the structured coalescent.

A node of the network is a deme, a record that one node's model generates for another node's training set is a migrant. Two quantities
are followed from generation to generation: the expected variance within each node's model, and the expected squared distance between the
means of every two models. Both follow exactly from the ones before, whatever the law, for every model that samples independently, whose
mean is its training set's (weighted) mean and whose variance is an affine function of the pooled variance. The indicator of each state is
a coordinate with variance p(1 − p), so that heterozygosity is a variance too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from studbook.arrays import Floats, Ints
from studbook.errors import ConfigError
from studbook.theory.averaging import Averaging
from studbook.theory.coalescence import Fit, match_moments

_DENSE = 400
"""Pairs of nodes up to which the slowest mode is found by a dense eigenvalue solver."""
_ROUNDING = 1e-12
"""An eigenvalue nearer to 1 than this can't be told from 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Exchange:
    """What each node's training set is made of, generation after generation.

    Attributes:
        generated: ``(n, n)`` new records of node j's model in node i's training set; every record goes to one node. Rows sum to the same.
            Of a published pool the counts are what is expected.
        fresh: New real records in each node's training set.
        original: Records of each node's that are drawn without replacement from its own original data.
        real_share: Share of the weight on fresh and original records; ``None`` weighs all records equally.
        published: Every node's g generated records are drawn without replacement from all n·g that the nodes published, g each, so that
            one record may train several nodes.

    Raises:
        ConfigError: Counts that can't be.

    Examples:
        >>> import numpy as np
        >>> Exchange(np.full((2, 2), 50)).size
        100
    """

    generated: Ints
    fresh: int = 0
    original: int = 0
    real_share: float | None = None
    published: bool = False

    def __post_init__(self) -> None:
        sound = self.generated.ndim == 2 and self.generated.shape[0] == self.generated.shape[1] > 0
        if not sound or self.generated.min() < 0 or np.ptp(self.generated.sum(axis=1)) or min(self.fresh, self.original) < 0:
            raise ConfigError("an exchange needs a square table of counts, 0 or more, whose rows sum to the same")
        if not self.size:
            raise ConfigError("the nodes' training sets are empty", hint="ask for at least one record a generation")
        real = self.fresh + self.original
        if self.real_share is not None and not (0.0 < self.real_share < 1.0 and real and self.per_node):
            raise ConfigError(f"real_share is {self.real_share}, expected a share between 0 and 1, beside generated and real records")

    @property
    def n_nodes(self) -> int:
        """Nodes."""
        return len(self.generated)

    @property
    def per_node(self) -> int:
        """Generated records in a node's training set."""
        return int(self.generated[0].sum())

    @property
    def size(self) -> int:
        """Records in a node's training set."""
        return self.per_node + self.fresh + self.original

    @property
    def shares(self) -> tuple[Floats, float, float]:
        """Shares of the weight: ``(n, n)`` of each node's generated records, of fresh and of original ones."""
        real = self.fresh + self.original
        weight = real / self.size if self.real_share is None else self.real_share
        counts = np.full_like(self.generated, self.per_node) if self.published else self.generated
        own = (1.0 - weight) * counts.astype(np.float64) / max(int(counts[0].sum()), 1)
        fresh, original = (weight * part / real if real else 0.0 for part in (self.fresh, self.original))
        return own, fresh, original


@dataclass(frozen=True, slots=True, eq=False)
class NetworkPath:
    """Expected squares over generations 0 to G, in units of the data squared.

    Attributes:
        within: ``(G + 1, n)`` variance of each node's model.
        between: ``(G + 1,)`` variance of the nodes' means, ``Σ (μ_i − μ̄)²/n``.
        drift: ``(G + 1, n)`` squared distance of each node's mean from the truth.
    """

    within: Floats
    between: Floats
    drift: Floats

    @property
    def node(self) -> Floats:
        """``(G + 1,)`` variance within a node, the mean over nodes."""
        return self.within.mean(axis=1)  # type: ignore[no-any-return]

    @property
    def pool(self) -> Floats:
        """``(G + 1,)`` variance of the pooled network: all nodes' models mixed in equal shares."""
        return self.node + self.between

    @property
    def pool_drift(self) -> Floats:
        """``(G + 1,)`` squared distance of the pooled mean from the truth."""
        return self.drift.mean(axis=1) - self.between  # type: ignore[no-any-return]

    @property
    def fixation(self) -> Floats:
        """``(G + 1,)`` Wright's F_ST: the share of the pooled variance that lies between nodes (a ratio of expectations)."""
        return np.divide(self.between, self.pool, out=np.zeros_like(self.between), where=self.pool > 0.0)


def network_moments(
    exchange: Exchange,
    n_original: int,
    last: int,
    *,
    population: int | None = None,
    variance: float = 1.0,
    fit: Fit = match_moments,
    averaging: Averaging | None = None,
) -> NetworkPath:
    """Expected variance within and between the nodes of a network, over generations 0 to ``last``.

    Args:
        exchange: What each node trains on from generation 1 on.
        n_original: Size of each node's own original data, which its generation 0 is fitted to.
        last: Last generation, 0 or more.
        population: The nodes' original data are disjoint random parts of so many records, a finite set that is taken as the truth;
            ``None``: they are draws of a law.
        variance: Variance of the law, or of the finite set (divisor: its size).
        fit: How a model's variance follows from the pooled variance of its training set.
        averaging: How the nodes average their models' parameters once they are fitted, where they do.

    Returns:
        The path.

    References:
        S. Wright, Genetics 16 (1931), the island model; G. Malécot, "Les mathématiques de l'hérédité" (1948); T. Maruyama, "Effective
        number of alleles in a subdivided population", Theoretical Population Biology 1 (1970); T. Nagylaki, "The strong-migration limit
        in geographically structured populations", Journal of Mathematical Biology 9 (1980).

    Examples:
        >>> import numpy as np
        >>> from studbook.theory import Exchange, network_moments
        >>> islands = network_moments(Exchange(np.diag([100, 100])), 100, 1000)
        >>> islands.node[-1].round(4).item(), islands.pool[-1].round(4).item()  # each collapses; what lies between them stays
        (0.0, 0.5)
        >>> mixed = network_moments(Exchange(np.full((2, 2), 50)), 100, 100)
        >>> mixed.pool[-1].round(3).item()  # nearly as one model of 200 records: (1 − 1/200)^101 = .603
        0.604
    """
    walk = _Walk.of(exchange, n_original, population, variance)
    slopes, offsets = fit(np.array([n_original] + [exchange.size] * last, dtype=np.float64))
    n = exchange.n_nodes
    distances, pooled = walk.start(), np.full(n, walk.spread * (n_original - 1) / n_original)
    path: list[tuple[Floats, Floats]] = []
    for index in range(last + 1):
        if path:
            distances, pooled = walk.advance(distances, path[-1][0])
        within = slopes[index] * pooled + offsets[index]
        if averaging is not None:
            distances, within = averaging.advance(distances, within)
        path.append((within, distances))
    between = np.array([0.5 * d[:n, :n].mean() for _, d in path])
    return NetworkPath(np.array([w for w, _ in path]), between, np.array([d[:n, -1] for _, d in path]))


def effective_size(exchange: Exchange, averaging: Averaging | None = None) -> float:
    """The size of a single model whose diversity falls as fast as the network's in the long run, without real data.

    Args:
        exchange: What each node trains on.
        averaging: How the nodes average their models' parameters (shares of states) once they are fitted, where they do.

    Returns:
        1/(1 − λ), λ the largest eigenvalue of the recursion of heterozygosities; infinity where the network falls into parts that
        never meet, or nodes only swap their models: what lies between those is never lost.

    References:
        T. Maruyama (1970); W. Ewens, "Mathematical Population Genetics" (2004), section 3.7 (eigenvalue effective size).

    Examples:
        >>> import numpy as np
        >>> from studbook.theory import Exchange, effective_size
        >>> round(effective_size(Exchange(np.full((4, 4), 25)))), effective_size(Exchange(np.diag([100, 100])))
        (403, inf)
    """
    n, each = exchange.n_nodes, exchange.per_node
    if exchange.published:  # two records of the pool are of one node with probability a; of two nodes' training sets they may be the same
        together = (each - 1) / max(n * each - 1, 1)
        return 1.0 / (together / each + (1.0 - together) / (n * each))
    shares, weights = exchange.generated / each, np.eye(n) if averaging is None else averaging.weights
    if not _connected(exchange.generated + weights):
        return float("inf")
    alone = np.divide(shares**2, exchange.generated, out=np.zeros(shares.shape), where=exchange.generated > 0)

    def advance(vector: Floats) -> Floats:
        table = vector.reshape(n, n)
        after = shares @ table @ shares.T
        after[np.diag_indices(n)] -= alone @ np.diagonal(table)
        return (weights @ after @ weights.T).ravel()

    if n * n <= _DENSE:
        columns = np.array([advance(unit) for unit in np.eye(n * n)])
        largest = float(np.abs(np.linalg.eigvals(columns)).max())
    else:
        from scipy.sparse.linalg import LinearOperator, eigs

        operator = LinearOperator((n * n, n * n), matvec=advance, dtype=np.float64)
        largest = float(np.abs(eigs(operator, k=1, v0=np.ones(n * n), return_eigenvectors=False)).max())
    return 1.0 / (1.0 - largest) if largest < 1.0 - _ROUNDING else float("inf")


def _connected(counts: Floats) -> bool:
    """Whether every node reaches every other one, whichever way records or parameters go."""
    links = (counts + counts.T) > 0
    reached = np.zeros(len(counts), dtype=bool)
    reached[0] = True
    for _ in range(len(counts)):
        reached = reached | links[reached].any(axis=0)
    return bool(reached.all())


@dataclass(frozen=True, slots=True, eq=False)
class _Walk:
    """One generation's step, with everything that doesn't change.

    A training set's mean is a mixture of bases (the nodes' models, their original data where these are drawn from, and the truth, the
    mean of fresh records) plus noise of its own. Distances between bases are followed, not their covariances: what is nearly fixed keeps
    its digits.

    Attributes:
        exchange: What each node trains on.
        bases: ``(n, m)`` shares of the bases in each node's training set: models, originals, truth.
        n_original: Size of each node's original data.
        spread: Variance of the law, or of the finite set (divisor: its size less one).
        apart: Squared distance of an original's mean from the truth.
    """

    exchange: Exchange
    bases: Floats
    n_original: int
    spread: float
    apart: float

    @classmethod
    def of(cls, exchange: Exchange, n_original: int, population: int | None, variance: float) -> _Walk:
        n = exchange.n_nodes
        if population is not None and population < max(n * n_original, 2):
            raise ConfigError(f"{n} nodes with {n_original} records each need more than the {population} that there are")
        generated, fresh, original = exchange.shares
        kept = [original * np.eye(n)] if exchange.original else []
        bases = np.hstack([generated, *kept, np.full((n, 1), fresh)])
        spread = variance if population is None else variance * population / (population - 1)
        apart = spread * (1.0 / n_original - (0.0 if population is None else 1.0 / population))
        return cls(exchange, bases, n_original, spread, apart)

    def start(self) -> Floats:
        """Squared distances between the bases in generation 0: ``(m, m)``."""
        n, m = self.bases.shape
        kinds = np.concatenate([np.arange(m - 1) % n, [-1]])
        distances = np.where(kinds[:, None] == kinds, 0.0, 2.0 * self.spread / self.n_original)
        distances[-1, :-1] = distances[:-1, -1] = self.apart
        return distances

    def advance(self, distances: Floats, within: Floats) -> tuple[Floats, Floats]:
        """From one generation to the next.

        Args:
            distances: ``(m, m)`` expected squared distances between the bases.
            within: ``(n,)`` expected variance of each model.

        Returns:
            The distances afterwards, and the expected pooled variance ``(n,)`` of each node's training set.
        """
        n = len(within)
        noise, inside, shared = self._parts(within, distances[:n, :n])
        to_bases = self.bases @ distances
        mixed = to_bases @ self.bases.T
        spread = 0.5 * np.diagonal(mixed)
        after = distances.copy()
        after[:n, n:] = to_bases[:, n:] - spread[:, None] + noise[:, None] + shared
        after[n:, :n] = after[:n, n:].T
        after[:n, :n] = mixed - spread[:, None] - spread + noise[:, None] + noise
        after[np.arange(n), np.arange(n)] = 0.0
        return after, inside + spread

    def _parts(self, within: Floats, distances: Floats) -> tuple[Floats, Floats, float]:
        """Variance of each training set's mean around its bases, the pooled variance that doesn't come from the bases' distances, and
        the variance that all means have in common.
        """
        exchange = self.exchange
        generated, fresh, original = exchange.shares
        sizes, shared = exchange.generated, 0.0
        if exchange.published and exchange.per_node:
            noise, inside, shared = self._published(within, distances, float(generated[0].sum()))
        else:
            scatter = np.divide(within, sizes, out=np.zeros(generated.shape), where=sizes > 0)
            noise = (generated**2 * scatter).sum(axis=1)
            # Within a part lies v − v/n, between it and the others its noise times s(1 − s): together s·v − s²·v/n.
            inside = generated @ within - noise
        for size, share, finite in ((exchange.fresh, fresh, False), (exchange.original, original, True)):
            if size:
                subset = self.spread * (1.0 / size - (1.0 / self.n_original if finite else 0.0))
                noise = noise + share**2 * subset
                whole = self.spread * ((self.n_original - 1) / self.n_original if finite else 1.0)
                inside = inside + share * whole - share**2 * subset
        return noise, inside, shared

    def _published(self, within: Floats, distances: Floats, share: float) -> tuple[Floats, Floats, float]:
        """The same of generated records that every node draws from one pool, for the weight ``share`` that they have."""
        n, each = len(within), self.exchange.per_node
        total, apart = n * each, 0.5 * distances.mean()
        common = within.mean() / total
        pooled = within.mean() + apart - common
        own = pooled * (total - each) / (each * (total - 1)) if total > 1 else 0.0
        part = pooled - own  # E of the variance (divisor g) within a node's draw
        inside = share * part + share * (1.0 - share) * (own + common) - share * apart
        return np.full(n, share**2 * own), np.full(n, inside), share**2 * common
