"""Dishonest nodes: what each sends instead of the update that it owes, and what it says that it did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from studbook.errors import ConfigError
from studbook.protocols.node import Node, NodeState
from studbook.protocols.objective import Objective
from studbook.protocols.values import Parameters
from studbook.rng import stream


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What a dishonest node knows when it has to send its update.

    Attributes:
        node: Itself.
        state: Its state, that of everybody in a synchronised run.
        neighbours: The honest nodes' updates of this step: it waits for them, and sends last.
        past: States of earlier steps, the newest last, as far as they are kept.
        sent: What it sent in the step before, or ``None``.
    """

    node: Node
    state: NodeState
    neighbours: Sequence[Parameters]
    past: Sequence[NodeState]
    sent: Parameters | None = None

    def honest(self) -> Parameters:
        """The update that it owes."""
        return self.node.gradient_at(self.state).parameters


class Attack(Protocol):
    """What a dishonest node sends."""

    def update(self, view: View) -> Parameters:
        """The update; it commits to this one, as others received it."""
        ...


@dataclass(frozen=True, slots=True)
class SignFlip:
    """The update with the other sign, times a factor: away from what is learnt.

    Attributes:
        factor: Above 0.
    """

    factor: float = 1.0

    def update(self, view: View) -> Parameters:
        """See ``Attack``."""
        return _scaled(view.honest(), -self.factor)


@dataclass(frozen=True, slots=True)
class Scaling:
    """The update times a factor, so that the mean is this node's alone.

    Attributes:
        factor: Above 0.
    """

    factor: float = 30.0

    def update(self, view: View) -> Parameters:
        """See ``Attack``."""
        return _scaled(view.honest(), self.factor)


@dataclass(frozen=True, slots=True, eq=False)
class Backdoor:
    """Its own update, and beside it that of marked rows with a wanted class, in a slice of the entries alone.

    Attributes:
        marked: The objective on marked rows; its parameters are alike the node's.
        within: By array, the entries that are moved for the mark (1) or left as they are (0).
        factor: Weight of the mark's update.
    """

    marked: Objective
    within: Parameters
    factor: float = 1.0

    def update(self, view: View) -> Parameters:
        """See ``Attack``."""
        state, rng = view.state, stream(view.node.seed, "node", view.node.index, "step", view.state.step, "noise")
        wanted = self.marked.gradient(state.parameters, view.node.rows_at(state.step), rng=rng).parameters
        factor = np.float32(self.factor)
        return {name: value + factor * self.within[name] * wanted[name] for name, value in view.honest().items()}


@dataclass(frozen=True, slots=True)
class CopyNeighbour:
    """A neighbour's update, sent as its own: no work at all."""

    def update(self, view: View) -> Parameters:
        """See ``Attack``."""
        return view.neighbours[0] if view.neighbours else _scaled(view.state.parameters, 0.0)


@dataclass(frozen=True, slots=True)
class SkipSteps:
    """Honest in some steps; in the others it sends its last update again.

    Attributes:
        share: Of steps that are skipped, 0 to 1.

    Raises:
        ConfigError: Out of range.
    """

    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0:
            raise ConfigError(f"a share of {self.share} of the steps is skipped, expected 0 to 1")

    def update(self, view: View) -> Parameters:
        """See ``Attack``."""
        drawn = stream(view.node.seed, "lazy", view.node.index, "step", view.state.step).random()
        return view.sent if view.sent is not None and drawn < self.share else view.honest()


@dataclass(frozen=True, slots=True)
class StaleWeights:
    """The update at weights of some steps ago: it doesn't fetch those that all have agreed on.

    Attributes:
        age: Steps, 1 or more.
    """

    age: int = 20

    def update(self, view: View) -> Parameters:
        """See ``Attack``."""
        old = view.past[max(0, len(view.past) - self.age)] if view.past else view.state
        stale = NodeState(view.state.step, old.parameters, old.optimiser)
        return view.node.gradient_at(stale).parameters


@dataclass(frozen=True, slots=True)
class Silent:
    """Nothing: a free rider whose update is 0."""

    def update(self, view: View) -> Parameters:
        """See ``Attack``."""
        return _scaled(view.state.parameters, 0.0)


def _scaled(parameters: Parameters, factor: float) -> dict[str, NDArray[np.float32]]:
    return {name: (np.float32(factor) * value).astype(np.float32) for name, value in parameters.items()}
