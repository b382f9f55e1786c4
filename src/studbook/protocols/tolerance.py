"""Replays in other numerics: what they are, and how far an honest step may be from its replay in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from studbook.arrays import Ints
from studbook.errors import CalibrationError, ConfigError
from studbook.protocols.node import Node
from studbook.protocols.objective import Gradient, Objective
from studbook.protocols.replay import relative_distance
from studbook.protocols.values import Parameters
from studbook.records import Environment, ReplayCalibration, digest_of
from studbook.rng import stream
from studbook.verification.calibration import now

if TYPE_CHECKING:
    from studbook.verification.calibration import Target


@dataclass(frozen=True, slots=True, eq=False)
class Bf16:
    """An objective whose parameters and gradients are rounded to bfloat16, the rest in single precision: what a bf16 engine keeps.

    Attributes:
        objective: The objective.
    """

    objective: Objective

    @property
    def n_rows(self) -> int:
        """See ``Objective``."""
        return self.objective.n_rows

    def initial(self, *, rng: np.random.Generator) -> Parameters:
        """Those of the objective, not rounded: all nodes begin with the same."""
        return self.objective.initial(rng=rng)

    def gradient(self, parameters: Parameters, rows: Ints, *, rng: np.random.Generator) -> Gradient:
        """The rounded gradient at the rounded parameters."""
        found = self.objective.gradient(_rounded(parameters), rows, rng=rng)
        return Gradient(_rounded(found.parameters), found.loss, found.n)

    def evaluate(self, parameters: Parameters) -> Mapping[str, float]:
        """See ``Objective``."""
        return self.objective.evaluate(parameters)

    def describe(self) -> Mapping[str, Any]:
        """The same as the objective's: it is the same task, in other numerics."""
        return self.objective.describe()


def round_bf16(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """To the nearest bfloat16, ties to even; what isn't finite stays.

    Examples:
        >>> import numpy as np
        >>> from studbook.protocols.tolerance import round_bf16
        >>> round_bf16(np.array([1.0, 1.001, 1.005, -3.1415927], np.float32)).tolist()
        [1.0, 1.0, 1.0078125, -3.140625]
    """
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
    return np.where(np.isfinite(values), rounded.view(np.float32), values)


def _rounded(parameters: Parameters) -> dict[str, NDArray[np.float32]]:
    return {name: round_bf16(value) for name, value in parameters.items()}


def calibrate_replay(
    nodes: Sequence[Node], replayer: Callable[[Node], Node], *, steps: int, drawn: int, target: Target,
    environments: tuple[Environment, Environment],
) -> ReplayCalibration:  # fmt: skip
    """How far honest steps are from their replay, with a bound that holds for nodes not seen.

    Each node trains honestly; at drawn steps the update is computed in both numerics from the same state. A node's score is the largest
    relative distance among its drawn steps, as in an examination; the limit is the distribution-free tolerance limit of those scores.

    Args:
        nodes: Honest nodes, each with its own seed: what is independent.
        replayer: The same node in the verifier's numerics.
        steps: Steps of a run.
        drawn: Steps that an examination will replay.
        target: Largest probability that an honest node is beyond the limit, and the confidence that it is no larger.
        environments: The names of the two numerics: of the node, of the verifier.

    Raises:
        ConfigError: No steps to draw, or numerics of one name.
        CalibrationError: Too few nodes for the target, nodes of different objectives, or replays that agree to the bit: then no
            tolerance is needed.
    """
    if not 1 <= drawn <= steps or environments[0] == environments[1]:
        raise ConfigError(f"{drawn} of {steps} steps in {environments[0]} and {environments[1]}, expected some steps and two numerics")
    about = {digest_of(dict(node.objective.describe())) for node in nodes}
    if len(about) != 1:
        raise CalibrationError(f"the nodes train {len(about)} objectives, expected one", hint="calibrate each by itself")
    scores = np.array([_score(node, replayer(node), steps, drawn) for node in nodes])
    limit = target.limit(scores)
    if not 0.0 < limit < 1.0:
        raise CalibrationError(
            f"honest replays are {limit:.3g} of an update apart, expected above 0 and below 1", hint="at 0 replay bit for bit: bit_for_bit"
        )
    return ReplayCalibration(
        objective=about.pop(), committed=environments[0], replayed=environments[1], steps=drawn, limit=limit,
        false_alarm=target.false_alarm, confidence=target.confidence, units=len(scores), made=now(),
    )  # fmt: skip


def _score(node: Node, other: Node, steps: int, drawn: int) -> float:
    chosen = set(stream(node.seed, "calibration", node.index).choice(steps, size=drawn, replace=False).tolist())
    state, farthest = node.begin(), 0.0
    for step in range(max(chosen) + 1):
        update = node.gradient_at(state).parameters
        if step in chosen:
            farthest = max(farthest, relative_distance(update, other.gradient_at(state).parameters))
        state = node.apply(state, update)
    return farthest
