"""What nodes of a run gave each other in a step: by the coordinator's word, and what the protocol needs to say what it has to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from studbook.protocols.node import Node
from studbook.records import Contact

Kind: TypeAlias = Literal["gradient", "parameters"]
Shares: TypeAlias = Mapping[int, float]
"""By node, in the order of summation: how much of its value goes into a mean."""


@dataclass(frozen=True, slots=True)
class Exchanged:
    """What the coordinator noted in a step.

    Attributes:
        taken: By node: what it took over.
        sent: By node: digest of what the coordinator had from it, whether or not somebody took it over.
    """

    taken: dict[int, Contact] = field(default_factory=dict)
    sent: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Exchange:
    """A step's exchange, as a verifier has to take it again.

    Attributes:
        step: Which step, from 0.
        seed: The run's root seed.
        nodes: All nodes, by what they were built from.
        present: Whose values were there, sorted.
        whole: Whether all nodes were there throughout, so that what was drawn among them can be drawn again.
        named: Peers that went into one mean, by the coordinator's word; what there is to go by where it isn't known who was there.
    """

    step: int
    seed: int
    nodes: Sequence[Node]
    present: Sequence[int]
    whole: bool
    named: Sequence[tuple[int, ...]]
