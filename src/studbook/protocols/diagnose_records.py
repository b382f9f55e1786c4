"""What a diagnosis is asked, and what it finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from studbook.arrays import Batch
from studbook.errors import ConfigError
from studbook.protocols.diagnose_growth import Growth, Kind, Mean
from studbook.protocols.diagnose_sources import check_sources
from studbook.records import Rate
from studbook.records.codec import STRICT

MAX_STEPS, MAX_REPEATS = 1 << 20, 1000


@dataclass(frozen=True, slots=True)
class Examined:
    """How a diagnosis is done.

    Attributes:
        sources: Names out of ``SOURCES``; none is all.
        steps: Steps of each run, from the first of the learner's training on; 4 or more, at most as many as it has.
        repeats: Baselines with seeds of their own, each with all changes; 2 or more.
        seed: Root of all streams.
        confidence: Of every interval.

    Raises:
        ConfigError: A value out of range, or a source that isn't known.
    """

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    sources: tuple[str, ...] = ()
    steps: int = 64
    repeats: int = 5
    seed: int = 0
    confidence: float = 0.95

    def __post_init__(self) -> None:
        check_sources(self.sources)
        if not 4 <= self.steps <= MAX_STEPS:
            raise ConfigError(f"a diagnosis has {self.steps} steps, expected 4 to {MAX_STEPS:,}", hint="set --steps, for example to 64")
        if not 2 <= self.repeats <= MAX_REPEATS:
            message = f"a diagnosis has {self.repeats} repeats, expected 2 to {MAX_REPEATS:,}: one alone has no interval"
            raise ConfigError(message, hint="set --repeats, for example to 5")
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"the seed is {self.seed}, expected 0 or more")
        if not 0.0 < self.confidence < 1.0:
            raise ConfigError(f"the confidence is {self.confidence}, expected above 0 and below 1", hint="for example 0.95")


@dataclass(frozen=True, slots=True)
class Drift:
    """What one change did.

    Attributes:
        source: Its name.
        baseline: What was changed, in words.
        changed: To what.
        remedy: The setting that removes the difference.
        kind: ``bit-exact``: no digest of the weights differed at any step of any repeat. ``different run``: it starts elsewhere, or goes
            apart at half the pace of another order of the records or more. ``rounding``: what is between.
        differing: Repeats in which the weights differed at any step.
        first_steps: First step of each repeat after which they did; 0 is before the first one; ``None``: never.
        pace: Share of the baseline's movement that went into drift, at its fastest, over that of another order of the records at the
            same steps (geometric mean); ``None`` for what is bit-exact.
        growth: How the distance of the weights grows.
        weights: Distance from the baseline's over the baseline's norm, L2, by look (geometric mean of the repeats that differ).
        losses: Absolute difference of the loss of fixed records, by look.
        outputs: Share of the outputs' bits or tokens that differ, by look.
    """

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    source: str
    baseline: str
    changed: str
    remedy: str
    kind: Kind
    differing: Rate
    first_steps: tuple[int | None, ...]
    pace: Mean | None
    growth: Growth | None
    weights: tuple[Mean, ...]
    losses: tuple[Mean, ...]
    outputs: tuple[Mean, ...]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found for one model.

    Attributes:
        name: Of the model.
        learner: Its kind.
        data: Of the data set.
        parameters: Weights of the network.
        unit: What outputs are compared by: ``bits`` of perceptual hashes, or ``tokens``.
        looks: Steps that were looked at, from 0.
        reload_at: Step after which checkpoints were written and read.
        examined: How it was done; ``steps`` are those that were taken.
        loss: The baseline's, of fixed records, by look.
        moved: How far the baseline's weights are from its first ones, over their norm, by look.
        drifts: One for each change.
        cpu_s: Seconds of CPU in this process.
    """

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT
    SCHEMA: ClassVar[str] = "studbook.diagnosis/1"

    name: str
    learner: str
    data: str
    parameters: int
    unit: str
    looks: tuple[int, ...]
    reload_at: int
    examined: Examined
    loss: tuple[Mean, ...]
    moved: tuple[Mean, ...]
    drifts: tuple[Drift, ...]
    cpu_s: float


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """A model to examine.

    Attributes:
        name: How it is called.
        learner: A ``Diffusion``, ``Vae``, ``Gpt`` or ``CausalLM``.
        data: What it is trained on.
        data_name: Of the data set.
    """

    name: str
    learner: Any
    data: Batch
    data_name: str = ""
