"""What a training protocol has to offer: whether it can run, one step of it, and how it mixes."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from typing import Any

from studbook.arrays import Floats
from studbook.protocols.exchange import Exchange, Kind, Shares
from studbook.protocols.host import Host
from studbook.protocols.node import Node
from studbook.protocols.team import Recovers, Team


class Protocol(typing.Protocol):
    """How nodes train together. A step leaves every live node one step further.

    Attributes:
        recovers: See ``Recovers``.
    """

    @property
    def recovers(self) -> Recovers: ...

    def check(self, n: int) -> None:
        """Refuse what can't run, before anything starts.

        Raises:
            ConfigError: With ``n`` nodes it can't.
        """
        ...

    def step(self, team: Team) -> Mapping[int, float]:
        """Take the team's next step; the loss of each node that took it."""
        ...

    def mixing(self, n: int) -> Sequence[Floats]:
        """The matrices by which parameters mix, one entry a step, used again from the first: see ``studbook.theory.predict_spread``."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """What determines it, as JSON's types."""
        ...


@typing.runtime_checkable
class Served(Protocol, typing.Protocol):
    """A protocol with a server: the model lives at the coordinator, nodes are sent what they need of it and keep nothing between steps."""

    def open_server(self, nodes: Sequence[Node]) -> Host:
        """The server before the first step.

        Args:
            nodes: What it trains on, by what they were built from.

        Raises:
            ConfigError: These nodes can't be trained like that.
        """
        ...


@typing.runtime_checkable
class Exchanging(Protocol, typing.Protocol):
    """A protocol whose nodes take over means of each other's values: what a verifier needs to take such a mean again.

    Attributes:
        takes: What nodes take over.
    """

    @property
    def takes(self) -> Kind: ...

    def shares(self, exchange: Exchange) -> Mapping[int, Shares]:
        """By node: how much of each peer's value goes into what it takes over in a step. A node that isn't here takes over nothing."""
        ...
