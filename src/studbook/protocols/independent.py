"""No contact: the control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from studbook.arrays import Floats
from studbook.errors import ConfigError
from studbook.protocols.team import Team


@dataclass(frozen=True, slots=True)
class Independent:
    """Every node trains alone, from the same start.

    Examples:
        >>> from studbook.protocols import Independent
        >>> Independent().describe()
        {'protocol': 'independent'}
    """

    @property
    def recovers(self) -> Literal["peer", "alone"]:
        """A lost node's steps can all be done again."""
        return "alone"

    def check(self, n: int) -> None:
        """See ``Protocol``; one node will do."""
        if n < 1:
            raise ConfigError(f"{n} nodes train, expected 1 or more")

    def step(self, team: Team) -> Mapping[int, float]:
        """See ``Protocol``."""
        return team.advance()

    def mixing(self, n: int) -> Sequence[Floats]:
        """Nothing mixes."""
        return [np.eye(n)]

    def describe(self) -> Mapping[str, Any]:
        """See ``Protocol``."""
        return {"protocol": "independent"}
