"""All-reduce: one gradient for all, at every step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from studbook.arrays import Floats
from studbook.protocols.checks import require_several
from studbook.protocols.exchange import Exchange, Kind, Shares
from studbook.protocols.team import Team
from studbook.protocols.values import mean


@dataclass(frozen=True, slots=True)
class Synchronised:
    """Every node steps along the mean gradient of all, weighted by rows: all stay the same to the bit.

    The gradients are summed in the order of the nodes and in double precision, so that the sum doesn't depend on who answers first.

    Examples:
        >>> from studbook.protocols import Synchronised
        >>> Synchronised().describe()
        {'protocol': 'synchronised'}
    """

    @property
    def recovers(self) -> Literal["peer", "alone"]:
        """All have the same state: anybody's will do, and the run's result is what it would have been."""
        return "peer"

    def check(self, n: int) -> None:
        """See ``Protocol``."""
        require_several("synchronised", n)

    def step(self, team: Team) -> Mapping[int, float]:
        """See ``Protocol``."""
        found = team.gradients()
        several = list(found.values())
        team.apply(mean([each.parameters for each in several], [each.n for each in several]), list(found))
        return {i: each.loss for i, each in found.items()}

    @property
    def takes(self) -> Kind:
        """Nodes step along one gradient."""
        return "gradient"

    def shares(self, exchange: Exchange) -> Mapping[int, Shares]:
        """See ``Exchanging``; at every step, by the rows of each."""
        rows = {i: float(exchange.nodes[i].rows_a_step) for i in exchange.present}
        return dict.fromkeys(exchange.present, rows)

    def mixing(self, n: int) -> Sequence[Floats]:
        """Everything mixes at once."""
        return [np.full((n, n), 1.0 / n)]

    def describe(self) -> Mapping[str, Any]:
        """See ``Protocol``."""
        return {"protocol": "synchronised"}
