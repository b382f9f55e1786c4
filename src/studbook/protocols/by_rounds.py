"""Steps of a client that know of rounds: what a learner's own training offers to federated training."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from studbook.protocols.node import Optimiser, Steps


@runtime_checkable
class ByRounds(Steps, Protocol):
    """Steps that depend on the round of federated training that they are taken in, and know how a server takes its own."""

    def in_round(self, number: int) -> Steps:
        """A client's steps in round ``number``, counted from 0."""
        ...

    def at_server(self, server: Optimiser) -> Steps:
        """The steps of a server with such an optimiser."""
        ...
