"""All-reduce: one gradient for all, at every step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from studbook.arrays import Floats
from studbook.errors import EvidenceError
from studbook.protocols.checks import require_several
from studbook.protocols.node import Node
from studbook.protocols.team import Team
from studbook.protocols.values import mean
from studbook.records import Contact


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

    def shares(self, node: int, contact: Contact, present: Sequence[int], nodes: Sequence[Node]) -> Sequence[float]:
        """See ``Exchanging``; by the rows of each."""
        if contact.kind != "gradient" or node not in contact.peers:
            raise EvidenceError(f"node {node} took over {contact.kind} of {contact.peers}, not gradient of all", hint="reject it")
        return [float(nodes[j].rows_a_step) for j in contact.peers]

    def mixing(self, n: int) -> Sequence[Floats]:
        """Everything mixes at once."""
        return [np.full((n, n), 1.0 / n)]

    def describe(self) -> Mapping[str, Any]:
        """See ``Protocol``."""
        return {"protocol": "synchronised"}
