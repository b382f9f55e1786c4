"""Local steps, and the mean of all weights every k of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from studbook.arrays import Floats
from studbook.errors import ConfigError
from studbook.protocols.checks import require_several
from studbook.protocols.exchange import Exchange, Kind, Shares
from studbook.protocols.team import Team, spread_of
from studbook.protocols.values import mean

_MOST = 1_000_000


@dataclass(frozen=True, slots=True)
class Local:
    """Every node trains alone; after every ``every`` steps all take the mean of their parameters. Optimisers keep their own state.

    Attributes:
        every: k, 1 to 10⁶.

    Raises:
        ConfigError: An impossible k.

    References:
        S. U. Stich, "Local SGD converges fast and communicates little", ICLR 2019, algorithm 1; B. McMahan et al., AISTATS 2017.

    Examples:
        >>> from studbook.protocols import Local
        >>> Local(every=10).describe()
        {'protocol': 'local', 'every': 10}
    """

    every: int

    def __post_init__(self) -> None:
        if type(self.every) is not int or not 1 <= self.every <= _MOST:
            raise ConfigError(f"every is {self.every!r}, expected 1 to {_MOST:,} steps between averages")

    @property
    def recovers(self) -> Literal["peer", "alone"]:
        """A node that comes back goes on from a peer's state."""
        return "peer"

    def check(self, n: int) -> None:
        """See ``Protocol``."""
        require_several("local", n)

    def step(self, team: Team) -> Mapping[int, float]:
        """See ``Protocol``."""
        exchange = self._exchanges(team.step)
        losses = team.advance(sharing=team.live if exchange else ())
        if exchange:
            found = team.parameters()
            team.before = spread_of(found.values())
            together = mean(list(found.values()))
            team.adopt(dict.fromkeys(found, together), dict.fromkeys(found, tuple(found)))
        return losses

    @property
    def takes(self) -> Kind:
        """Nodes adopt parameters."""
        return "parameters"

    def shares(self, exchange: Exchange) -> Mapping[int, Shares]:
        """See ``Exchanging``; all alike."""
        present = exchange.present if self._exchanges(exchange.step) else ()
        return dict.fromkeys(present, dict.fromkeys(present, 1.0))

    def mixing(self, n: int) -> Sequence[Floats]:
        """Nothing for k − 1 steps, then everything."""
        return [*([np.eye(n)] * (self.every - 1)), np.full((n, n), 1.0 / n)]

    def describe(self) -> Mapping[str, Any]:
        """See ``Protocol``."""
        return {"protocol": "local", "every": self.every}

    def _exchanges(self, step: int) -> bool:
        return (step + 1) % self.every == 0
