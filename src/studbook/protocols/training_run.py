"""What a training run leaves behind: one row a step, what was measured, what happened, and every node's parameters."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from studbook.protocols.team import Event
from studbook.protocols.values import Parameters, digest
from studbook.provenance import Signed
from studbook.records.roster import Roster

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class StepRow:
    """One step.

    Attributes:
        step: Steps taken with it, from 1.
        losses: Each node's loss, before the step; NaN for one that took none.
        before: Mean squared distance of the nodes' parameters to their mean before the exchange; where there is none, after the step.
        spread: The same after the step.
        sent: Bytes of parameters and gradients that nodes sent and were sent for the protocol so far.
        live: Nodes that took part, or could have: a server doesn't draw all.
    """

    step: int
    losses: tuple[float, ...]
    before: float
    spread: float
    sent: int
    live: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured on held-out data.

    Attributes:
        step: After how many steps.
        node: Whose parameters; ``None`` for the mean of all, or for the server's.
        measures: By name.
    """

    step: int
    node: int | None
    measures: Mapping[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class TrainingRun:
    """A run, finished or up to a checkpoint.

    Attributes:
        settings: What determines it: protocol, nodes, steps, seed.
        rows: One a step.
        evaluations: In order.
        events: Losses and returns of nodes.
        parameters: Each live node's, at the end; none where a server holds the model.
        rho: Contraction of the spread that theory gives one exchange; see ``studbook.theory.contraction``. NaN for more nodes and
            matrices than are worth the wait.
        predicted: What theory expects of the spread after each step; see ``predict_spread``. NaN as for ``rho``, and for long runs.
        server: The server's parameters, where there is one.
        roster: What nodes committed to, where they did.
    """

    settings: Mapping[str, Any]
    rows: Sequence[StepRow]
    evaluations: Sequence[Evaluation]
    events: Sequence[Event]
    parameters: Mapping[int, Parameters]
    rho: float
    predicted: Sequence[float]
    server: Parameters | None = None
    roster: Signed[Roster] | None = None

    @property
    def held(self) -> dict[str, Parameters]:
        """Everybody's parameters: the nodes' by their numbers, or the ``server``'s."""
        return {str(i): each for i, each in self.parameters.items()} if self.server is None else {"server": self.server}

    @property
    def measures(self) -> Mapping[str, float]:
        """On held-out data, at the end: of the mean of all, or of the server's."""
        return next((each.measures for each in reversed(self.evaluations) if each.node is None), {})

    @property
    def digests(self) -> dict[str, str]:
        """Of everybody's parameters: equal only where the runs are, to the bit."""
        return {who: digest(each) for who, each in self.held.items()}

    @property
    def shrinkage(self) -> float:
        """By what factor the exchanges shrank the spread in fact: the geometric mean over steps; NaN where there was nothing to shrink."""
        logs = [math.log(row.spread / row.before) for row in self.rows if 0.0 < row.spread < row.before]
        return math.exp(math.fsum(logs) / len(logs)) if logs else math.nan

    def curve(self) -> list[dict[str, Any]]:
        """One flat row a step: what a table or a chart takes."""
        measured = {each.step: each.measures for each in self.evaluations if each.node is None}
        names = sorted({name for measures in measured.values() for name in measures})
        rows = []
        for row, predicted in zip(self.rows, self.predicted, strict=True):
            known = [loss for loss in row.losses if not math.isnan(loss)]
            mean = math.fsum(known) / len(known) if known else math.nan
            flat: dict[str, Any] = {"step": row.step, "loss": mean, "spread_before": row.before, "spread": row.spread}
            flat |= {"spread_predicted": _finite(predicted), "bytes_sent": row.sent, "nodes": row.live}
            flat |= {f"mean_{name}": measured.get(row.step, {}).get(name) for name in names}
            rows.append(flat | {f"loss_{i}": loss for i, loss in enumerate(row.losses)})
        return rows

    def summary(self) -> dict[str, Any]:
        """The whole in a few numbers, as JSON's types."""
        last = self.rows[-1] if self.rows else None
        final = [each for each in self.evaluations if last is not None and each.step == last.step]
        together = "mean" if self.server is None else "server"
        return {
            "schema": SCHEMA,
            "settings": dict(self.settings),
            "steps": len(self.rows),
            "spread": last.spread if last else 0.0,
            "spread_predicted": _finite(self.predicted[-1]) if self.rows else 0.0,
            "contraction": _finite(self.shrinkage),
            "contraction_predicted": _finite(self.rho),
            "bytes_sent": last.sent if last else 0,
            "measures": {together if each.node is None else str(each.node): dict(each.measures) for each in final},
            "events": [dataclasses.asdict(event) for event in self.events],
            "digests": self.digests,
            "commitments": [] if self.roster is None else [dataclasses.asdict(each) for each in self.roster.record.nodes],
        }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
