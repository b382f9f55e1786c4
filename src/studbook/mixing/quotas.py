"""Which records to train on so that quotas hold: enough verified human ones, not too many of any model, near duplicates once."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studbook.arrays import Floats, Ints
from studbook.errors import ConfigError, QuotaError

NO_MODEL = -1
"""Model of a record that isn't known to be generated."""
_SLACK = 1e-9


@dataclass(frozen=True, slots=True)
class Quotas:
    """What a training mix must keep to.

    Attributes:
        human: Least share of verified human records, 0 … 1.
        most_per_model: Largest share of any one model's records, 0 … 1.

    Raises:
        ConfigError: A share out of its range.
    """

    human: float
    most_per_model: float

    def __post_init__(self) -> None:
        for name, value in (("human", self.human), ("most_per_model", self.most_per_model)):
            if not 0.0 <= value <= 1.0:
                raise ConfigError(f"{name} is {value}, expected a share from 0 to 1", hint="0.5 for half of the records")

    def least_human(self, size: int) -> int:
        """Human records that a mix of this size needs."""
        return math.ceil(self.human * size - _SLACK)

    def most_of_model(self, size: int) -> int:
        """Records of one model that it may have."""
        return math.floor(self.most_per_model * size + _SLACK)


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """A mix.

    Attributes:
        rows: Chosen records, rising ``(size,)``.
        weights: Importance weights ``(size,)``, mean 1: with them the mix has the shares of human, of unknown and of each model's records
            that all clusters have, one record a cluster.
        largest: Largest size at which the quotas can be kept.
        human: Chosen human records.
        unknown: Chosen records of unknown origin.
        per_model: Chosen records of each model, by its number.
        clusters: Clusters that there were.
    """

    rows: Ints
    weights: Floats
    largest: int
    human: int
    unknown: int
    per_model: dict[int, int]
    clusters: int


def choose_mix(
    human: NDArray[np.bool_], models: Ints, clusters: Ints, quotas: Quotas, *, rng: np.random.Generator, size: int | None = None
) -> Chosen:
    """Choose one record of a cluster at most, so that the quotas hold; without a size as many records as possible, exactly.

    A cluster with a human record is human, one with a record of unknown origin unknown, any other belongs to one of its records' models.
    Which one, a maximum flow decides. Beyond the quotas the mix has human and unknown records in the clusters' own proportion.

    Args:
        human: Which records are verified to be human ``(n,)``.
        models: Number of the model of each generated record, ``NO_MODEL`` for any other ``(n,)``.
        clusters: Number of the near-duplicate cluster of each record ``(n,)``.
        quotas: The quotas.
        rng: Chooses clusters; the first fitting record stands for each.
        size: How many records; ``None`` for as many as the quotas allow.

    Raises:
        QuotaError: They can't be kept; the message says with how many records they could.
        ConfigError: Arrays of different lengths, or a size below 1.

    Examples:
        >>> import numpy as np
        >>> from studbook.mixing import Quotas, choose_mix
        >>> human, models = np.arange(10) < 3, np.where(np.arange(10) < 3, -1, np.arange(10) % 2)
        >>> chosen = choose_mix(human, models, np.arange(10), Quotas(0.5, 0.5), rng=np.random.default_rng(0))
        >>> chosen.rows.size, chosen.human, chosen.largest
        (6, 3, 6)
    """
    if not human.shape == models.shape == clusters.shape or human.ndim != 1:
        raise ConfigError(
            f"human, models and clusters have the shapes {human.shape}, {models.shape}, {clusters.shape}, expected one length"
        )
    if size is not None and size < 1:
        raise ConfigError(f"size is {size}, expected 1 or more")
    pool = _Pool.of(human, models, clusters)
    largest = _largest(pool, quotas)
    wanted = largest if size is None else size
    if wanted < 1 or not _feasible(pool, quotas, wanted):
        raise QuotaError(_refusal(pool, quotas, wanted, largest), hint=_advice(pool, largest))
    return _choose(pool, quotas, wanted, largest, rng)


@dataclass(frozen=True, slots=True, eq=False)
class _Pool:
    """Clusters by what they can stand for.

    Attributes:
        human: First human record of each cluster that has one.
        unknown: First unknown one of each other that has one.
        generated: Each other's records' models, and the clusters of that kind: their first record of each model.
    """

    human: Ints
    unknown: Ints
    generated: dict[tuple[int, ...], list[tuple[int, ...]]]

    @classmethod
    def of(cls, human: NDArray[np.bool_], models: Ints, clusters: Ints) -> _Pool:
        unknown = ~human & (models < 0)
        firsts = _first_rows(clusters, human)
        taken = np.isin(clusters, clusters[firsts])
        seconds = _first_rows(clusters, unknown & ~taken)
        taken |= np.isin(clusters, clusters[seconds])
        members: dict[int, dict[int, int]] = defaultdict(dict)
        for row in np.flatnonzero(~taken).tolist():
            members[int(clusters[row])].setdefault(int(models[row]), row)
        kinds: dict[tuple[int, ...], list[tuple[int, ...]]] = defaultdict(list)
        for rows in members.values():
            kind = tuple(sorted(rows))
            kinds[kind].append(tuple(rows[model] for model in kind))
        return cls(firsts, seconds, dict(kinds))

    @property
    def total(self) -> int:
        """Clusters."""
        return self.human.size + self.unknown.size + sum(map(len, self.generated.values()))

    def flow(self, cap: int) -> tuple[int, dict[tuple[int, ...], tuple[int, ...]]]:
        """Most generated clusters with at most ``cap`` a model; and how many of each kind go to each of its models."""
        spread: dict[tuple[int, ...], tuple[int, ...]] = {
            kind: (min(len(rows), cap),) for kind, rows in self.generated.items() if len(kind) == 1
        }
        if len(spread) == len(self.generated):
            return sum(counts[0] for counts in spread.values()), spread
        return _maximum_flow({kind: len(rows) for kind, rows in self.generated.items()}, cap)


def _first_rows(clusters: Ints, mask: NDArray[np.bool_]) -> Ints:
    rows = np.flatnonzero(mask)
    found: Ints = rows[np.unique(clusters[rows], return_index=True)[1]]
    return found


def _maximum_flow(kinds: dict[tuple[int, ...], int], cap: int) -> tuple[int, dict[tuple[int, ...], tuple[int, ...]]]:
    """Source → kinds of clusters → models → sink."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_flow

    models = sorted({model for kind in kinds for model in kind})
    place = {model: 1 + len(kinds) + i for i, model in enumerate(models)}
    sink = 1 + len(kinds) + len(models)
    edges = [(0, 1 + i, n) for i, n in enumerate(kinds.values())]
    edges += [(1 + i, place[model], n) for i, (kind, n) in enumerate(kinds.items()) for model in kind]
    edges += [(place[model], sink, cap) for model in models]
    start, end, most = (np.array(column, dtype=np.int32) for column in zip(*edges, strict=True))
    result: Any = maximum_flow(csr_array((most, (start, end)), shape=(sink + 1, sink + 1)), 0, sink)
    flow = result.flow.tocsr()
    spread = {kind: tuple(int(flow[1 + i, place[model]]) for model in kind) for i, kind in enumerate(kinds)}
    return int(result.flow_value), spread


def _feasible(pool: _Pool, quotas: Quotas, size: int) -> bool:
    enough = pool.human.size >= quotas.least_human(size)
    return enough and pool.human.size + pool.unknown.size + pool.flow(quotas.most_of_model(size))[0] >= size


def _largest(pool: _Pool, quotas: Quotas) -> int:
    """The largest feasible size.

    With c records a model a size of c / share at least is wanted, and as many as there are with that cap are to be had. The latter is
    concave in c, so that the caps that give enough are all those up to a largest, which is found by halving.
    """
    bound = pool.total
    if quotas.human > 0.0:
        bound = min(bound, math.floor(pool.human.size / quotas.human + _SLACK))
    free, share = pool.human.size + pool.unknown.size, quotas.most_per_model
    low, high = 0, quotas.most_of_model(bound) + 1
    while high - low > 1:
        cap = (low + high) // 2
        low, high = (cap, high) if cap <= (free + pool.flow(cap)[0]) * share + _SLACK else (low, cap)
    most = min(bound, free + pool.flow(low)[0])
    while most > 0 and not _feasible(pool, quotas, most):  # the cap of a smaller size may be smaller by one
        most = min(most - 1, free + pool.flow(quotas.most_of_model(most))[0])
    return most


def _refusal(pool: _Pool, quotas: Quotas, wanted: int, largest: int) -> str:
    humans, unknown = pool.human.size, pool.unknown.size
    generated = pool.total - humans - unknown
    asked = f"asked at least {quotas.human:.4g} of verified human records"
    if humans < quotas.least_human(max(wanted, 1)):
        return f"{asked} among {max(wanted, 1):,} records, there are {humans:,} human ones: at most {largest:,} records meet it"
    return (
        f"{asked} and at most {quotas.most_per_model:.4g} of any one model among {wanted:,} records; near duplicates counted once, "
        f"there are {humans:,} human ones, {unknown:,} of unknown origin and {generated:,} by known models: at most {largest:,} meet it"
    )


def _advice(pool: _Pool, largest: int) -> str:
    if largest:
        return f"lower the size to {largest:,} or less, or the quota, or add records"
    return "add verified human records, or ask for fewer" if pool.total else "the corpus has no record that could be chosen"


def _choose(pool: _Pool, quotas: Quotas, size: int, largest: int, rng: np.random.Generator) -> Chosen:
    most, spread = pool.flow(quotas.most_of_model(size))
    humans, unknown = pool.human.size, pool.unknown.size
    least = max(quotas.least_human(size), size - unknown - most)
    n_human = min(max(round(size * humans / pool.total), least), humans, size)
    rest = size - n_human
    others = pool.total - humans
    n_unknown = min(max(round(rest * unknown / others) if others else 0, rest - most), unknown, rest)
    generated = [
        (row[i], model)
        for kind, counts in spread.items()
        for rows, i, model in _parts(rng.permutation(np.array(pool.generated[kind], dtype=np.int64)), kind, counts)
        for row in rows
    ]
    picked = rng.permutation(len(generated))[: rest - n_unknown]
    groups = [rng.permutation(pool.human)[:n_human], rng.permutation(pool.unknown)[:n_unknown]]
    rows = np.concatenate([*groups, np.array([int(generated[i][0]) for i in picked], dtype=np.int64)])
    labels = np.concatenate([np.full(n_human, -2), np.full(n_unknown, -1), np.array([generated[i][1] for i in picked], dtype=np.int64)])
    order = np.argsort(rows, kind="stable")
    per_model = dict(sorted(Counter(labels[labels >= 0].tolist()).items()))
    weights = _importance(pool, spread, labels, size)[order]
    return Chosen(rows[order], weights, largest, n_human, n_unknown, per_model, pool.total)


def _parts(rows: Ints, kind: tuple[int, ...], counts: tuple[int, ...]) -> list[tuple[Ints, int, int]]:
    """Cut a kind's clusters into those that go to its first model, to its second, …"""
    ends = np.cumsum(counts)
    return [(rows[end - n : end], i, model) for i, (model, n, end) in enumerate(zip(kind, counts, ends.tolist(), strict=True))]


def _importance(pool: _Pool, spread: dict[tuple[int, ...], tuple[int, ...]], labels: Ints, size: int) -> Floats:
    """Share of a class among all clusters over its share in the mix; a cluster of several models counts for each as the flow divides it."""
    there: dict[int, float] = defaultdict(float, {-2: float(pool.human.size), -1: float(pool.unknown.size)})
    for kind, rows in pool.generated.items():
        counts = spread[kind]
        given = sum(counts)
        for model, n in zip(kind, counts, strict=True):
            there[model] += len(rows) * n / given if given else len(rows) / len(kind)
    classes, chosen = np.unique(labels, return_counts=True)
    ratio = {int(label): there[int(label)] / n for label, n in zip(classes, chosen, strict=True)}
    weights: Floats = np.array([ratio[int(label)] for label in labels], dtype=np.float64)
    weights *= size / weights.sum()
    return weights
