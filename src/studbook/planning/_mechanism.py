"""What is known about the pipeline behind measurements: from the caller, or from a run folder's manifest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studbook.planning._tables import Table

_REAL = {"fresh": "fresh", "keep": "share", "blend": "gamma"}
"""Mixes that hold a level, with the key that says how much real data they use."""


@dataclass(frozen=True, slots=True)
class Mechanism:
    """What is known of one cell; ``None`` where nothing is.

    Attributes:
        learner: Its kind.
        mix: Its kind.
        settles: Whether the mix holds an equilibrium.
        one_dimension: Whether a record is a single number.
    """

    learner: str | None = None
    mix: str | None = None
    settles: bool = False
    one_dimension: bool | None = None

    @property
    def gaussian(self) -> bool:
        """Whether the walk of a log χ² is the truth."""
        return self.learner == "gaussian" and self.mix == "replace" and self.one_dimension is True

    @property
    def drifts(self) -> bool:
        """Whether Wright-Fisher drift of the states may be the truth."""
        return self.learner in (None, "categorical", "bernoulli") and self.mix in (None, "replace")


GAUSSIAN = Mechanism("gaussian", "replace", settles=False, one_dimension=True)
REAL_DATA = Mechanism(mix="real data", settles=True)


def read_mechanisms(table: Table) -> dict[str, Mechanism]:
    """By cell; empty where the table is no run folder with a manifest that can be read."""
    if not isinstance(table, str | Path) or not Path(table).is_dir():
        return {}
    try:
        manifest = json.loads((Path(table) / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    cells = manifest.get("cells") if isinstance(manifest, dict) else None
    return {str(cell.get("index")): _mechanism(cell) for cell in cells or () if isinstance(cell, dict)}


def _mechanism(cell: Mapping[str, Any]) -> Mechanism:
    learner, mix, data = ({} if not isinstance(cell.get(key), dict) else cell[key] for key in ("learner", "mix", "data"))
    kind = mix.get("kind")
    real = mix.get(_REAL[kind]) if kind in _REAL else None
    size = 1
    for length in data.get("shape") or ():
        size *= int(length)
    return Mechanism(learner.get("kind"), kind, isinstance(real, int | float) and real > 0, size == 1)
