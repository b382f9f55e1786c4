"""What a training protocol has to offer: whether it can run, one step of it, and how it mixes."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from studbook.arrays import Floats
from studbook.protocols.team import Team


class Protocol(typing.Protocol):
    """How nodes train together. A step leaves every live node one step further.

    Attributes:
        recovers: Where a node that comes back gets its state: from a ``peer``, or ``alone`` from the start, by doing its steps again.
    """

    @property
    def recovers(self) -> Literal["peer", "alone"]: ...

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
