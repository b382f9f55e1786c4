"""Which rows of a real data set each client holds: every row exactly once, and not alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from studbook.arrays import AnyArray, Ints
from studbook.errors import ConfigError
from studbook.parameters import conform
from studbook.protocols.objective import Objective
from studbook.rng import stream

By: TypeAlias = Literal["label", "document", "size", "even"]


@dataclass(frozen=True, slots=True)
class Partition:
    """How rows are dealt to clients.

    Attributes:
        by: ``label``: each class in shares from a Dirichlet law, so that clients see some classes more often than others. ``document``:
            whole documents. ``size``: at random, a few clients with many rows and many with few. ``even``: at random, alike.
        alpha: Of ``label``, above 0: 100 is nearly alike, .1 one or two classes a client.
        exponent: Of ``size``: the k-th client has a share in proportion to 1/k to this power, 0 or more.

    Raises:
        ConfigError: A value out of range.

    References:
        Hsu, Qi and Brown 2019, "Measuring the effects of non-identical data distribution for federated visual classification".

    Examples:
        >>> from studbook.protocols.objectives import Softmax
        >>> from studbook.protocols.partition import Partition
        >>> parts = Partition("size", exponent=1.0).split(Softmax().load(), 3, seed=0)
        >>> [len(rows) for rows in parts]
        [784, 392, 262]
    """

    by: By = "even"
    alpha: float = 1.0
    exponent: float = 1.0

    def __post_init__(self) -> None:
        conform(self, "partition")
        if not 0.0 < self.alpha <= 1e6:
            raise ConfigError(f"partition.alpha is {self.alpha}, expected above 0 and at most a million")
        if not 0.0 <= self.exponent <= 100.0:
            raise ConfigError(f"partition.exponent is {self.exponent}, expected 0 to 100")

    def split(self, objective: Objective, n: int, *, seed: int) -> tuple[Ints, ...]:
        """The rows of each of ``n`` clients, sorted; the same for the same seed.

        Raises:
            ConfigError: More clients than rows, or than documents; or an objective whose rows have no labels, or no documents.
        """
        rng = stream(seed, "partition", self.by)
        if self.by == "label":
            return split_by_label(_column(objective, "labels", self.by), n, alpha=self.alpha, rng=rng)
        if self.by == "document":
            return split_by_document(_column(objective, "documents", self.by), n, rng=rng)
        return split_by_size(objective.n_rows, n, exponent=self.exponent if self.by == "size" else 0.0, rng=rng)


def split_by_label(labels: Ints, n: int, *, alpha: float, rng: np.random.Generator) -> tuple[Ints, ...]:
    """Each class dealt in shares from a symmetric Dirichlet law; a client that would have none gets a row of the one with most.

    Raises:
        ConfigError: More clients than rows, or no client.
    """
    _require_rows(len(labels), n, "rows")
    owner = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        ends = np.round(np.cumsum(rng.dirichlet(np.full(n, alpha))) * len(rows)).astype(np.int64)
        owner[rows] = np.minimum(np.searchsorted(ends, np.arange(len(rows)), side="right"), n - 1)
    counts = np.bincount(owner, minlength=n)
    for client in np.flatnonzero(counts == 0):
        richest = int(counts.argmax())
        row = rng.choice(np.flatnonzero(owner == richest))
        owner[row] = client
        counts[richest] -= 1
        counts[client] += 1
    return _parts(owner, n)


def split_by_document(documents: Ints, n: int, *, rng: np.random.Generator) -> tuple[Ints, ...]:
    """Whole documents dealt out at random, as many to each client as they allow.

    Raises:
        ConfigError: More clients than documents, or no client.
    """
    known, number = np.unique(documents, return_inverse=True)
    _require_rows(len(known), n, "documents")
    client_of = np.empty(len(known), np.int64)
    client_of[rng.permutation(len(known))] = np.arange(len(known)) % n
    return _parts(client_of[number], n)


def split_by_size(n_rows: int, n: int, *, exponent: float, rng: np.random.Generator) -> tuple[Ints, ...]:
    """Rows dealt out at random in shares of 1/k to the power ``exponent``, one at least to each client.

    Raises:
        ConfigError: More clients than rows, or no client.
    """
    _require_rows(n_rows, n, "rows")
    shares = np.arange(1, n + 1, dtype=np.float64) ** -exponent
    wanted = shares / shares.sum() * (n_rows - n)
    sizes = 1 + np.floor(wanted).astype(np.int64)
    # What rounding left over goes to the largest remainders, the first by number where they are equal.
    order = np.argsort(-(wanted - np.floor(wanted)), kind="stable")
    sizes[order[: n_rows - sizes.sum()]] += 1
    owner = np.empty(n_rows, np.int64)
    owner[rng.permutation(n_rows)] = np.repeat(np.arange(n), sizes)
    return _parts(owner, n)


def _parts(owner: Ints, n: int) -> tuple[Ints, ...]:
    order = np.argsort(owner, kind="stable")
    return tuple(np.split(order, np.cumsum(np.bincount(owner, minlength=n))[:-1]))


def _require_rows(n_rows: int, n: int, what: str) -> None:
    if not 1 <= n <= n_rows:
        raise ConfigError(f"{n:,} clients share {n_rows:,} {what}, expected 1 to {n_rows:,} clients", hint="fewer clients, or more data")


def _column(objective: Objective, name: str, by: By) -> AnyArray:
    found = getattr(objective, name, None)
    if found is None:
        raise ConfigError(f'partition.by is "{by}", but the rows of this objective have no {name}', hint='set partition.by = "even"')
    return np.asarray(found)
