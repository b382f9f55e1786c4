"""The table of attacks and defences on handwritten digits: a classifier trained by ten nodes, some of whom are dishonest."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from studbook.errors import ConfigError
from studbook.parameters import nearest
from studbook.protocols.aggregation import CoordinateMedian, GeometricMedian, LeastContributors, Mean, TrimmedMean
from studbook.protocols.attacks import Attack, Backdoor, CopyNeighbour, Scaling, SignFlip, SkipSteps, StaleWeights
from studbook.protocols.contest import Audit, Cast, Defence, Outcome, play
from studbook.protocols.objectives.softmax import Softmax, SoftmaxObjective
from studbook.protocols.values import Parameters
from studbook.theory import clopper_pearson

HONEST, DISHONEST, SYBILS = 7, 3, 9
TARGET = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is played.

    Attributes:
        attacks: Names out of ``ATTACKS``; empty: all.
        defences: Names out of ``DEFENCES``; empty: all.
        seeds: Runs of each pair, 2 or more.
        steps: Of a run.
        drawn: Steps of each node that are replayed after every 25.
        confidence: Of the intervals.

    Raises:
        ConfigError: Out of range, or a name that isn't there.
    """

    attacks: tuple[str, ...] = ()
    defences: tuple[str, ...] = ()
    seeds: int = 4
    steps: int = 100
    drawn: int = 5
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if self.seeds < 2 or self.steps < 1 or not 0.0 < self.confidence < 1.0:
            message = f"{self.seeds} seeds of {self.steps} steps at a confidence of {self.confidence}"
            raise ConfigError(message, hint="2 or more seeds, 1 or more steps, a confidence such as 0.95")
        for noun, names, known in (("attack", self.attacks, ATTACKS), ("defence", self.defences, DEFENCES)):
            for name in names:
                if name not in known:
                    raise ConfigError(f"there is no {noun} {name!r}", hint=nearest(name, known, noun=noun))
        Audit(min(25, self.steps), self.drawn)


def _same(attack: Attack) -> Callable[[SoftmaxObjective], list[Attack]]:
    return lambda _: [attack] * DISHONEST


def _backdoors(objective: SoftmaxObjective) -> list[Attack]:
    """Pictures that are bright where none ever is are of the target class; only the weights of those pixels are moved."""
    dark = _dark(objective)
    within = {"weights": np.zeros((dark.size, objective.pictures.n_classes), np.float32), "bias": np.zeros(10, np.float32)}
    within["weights"][dark.ravel()] = 1.0
    pictures = objective.pictures
    marked = replace(pictures, pixels=_marked(pictures.pixels, dark), labels=np.full_like(pictures.labels, TARGET))
    return [Backdoor(replace(objective, pictures=marked), within, factor=3.0)] * DISHONEST


def _sybils(_: SoftmaxObjective) -> list[Attack]:
    return [SignFlip()] * SYBILS


ATTACKS: Mapping[str, Callable[[SoftmaxObjective], list[Attack]]] = {
    "none": lambda _: [],
    "sign flip": _same(SignFlip(3.0)),
    "scaling": _same(Scaling(30.0)),
    "backdoor": _backdoors,
    "copy": _same(CopyNeighbour()),
    "skip": _same(SkipSteps(0.5)),
    "stale": _same(StaleWeights(30)),
    "sybil": _sybils,
}
"""By name: what the dishonest nodes do, three beside seven honest ones; of Sybils nine names of one client."""

DEFENCES: Mapping[str, Callable[[int], Defence]] = {
    "mean": lambda _: Defence(Mean()),
    "trimmed mean": lambda _: Defence(TrimmedMean(0.3)),
    "coordinate median": lambda _: Defence(CoordinateMedian()),
    "geometric median": lambda _: Defence(GeometricMedian()),
    "least 4 a row": lambda _: Defence(LeastContributors(DISHONEST + 1)),
    "replay": lambda drawn: Defence(Mean(), Audit(25, drawn)),
    "replay + median": lambda drawn: Defence(CoordinateMedian(), Audit(25, drawn)),
}
"""By name: how updates are combined, and whether steps are replayed."""


def contest_rows(plan: Plan, progress: Callable[[str], None] = lambda _: None) -> list[dict[str, Any]]:
    """The table: for each pair final accuracy, success of the backdoor's mark, and who was caught, with intervals over seeds.

    Args:
        plan: What is played.
        progress: Is told what is being done.
    """
    objective = Softmax("digits").load()
    rows = []
    for attack in plan.attacks or tuple(ATTACKS):
        attacks = ATTACKS[attack](objective)
        cast = Cast(objective, HONEST, attacks, sybils=SYBILS if attack == "sybil" else 0, steps=plan.steps, judge=_judge(objective))
        for name in plan.defences or tuple(DEFENCES):
            progress(f"{attack} against {name}")
            defence = DEFENCES[name](plan.drawn)
            outcomes = [play(cast, defence, seed) for seed in range(plan.seeds)]
            rows.append({"attack": attack, "defence": name, **_summary(outcomes, plan.confidence, defence.audit is not None)})
    return rows


def _summary(outcomes: Sequence[Outcome], confidence: float, audited: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in ("accuracy", "marked"):
        mean, half = mean_interval([each.measures[name] for each in outcomes], confidence)
        found |= {name: mean, f"{name} ±": half}
    caught, dishonest = sum(each.caught for each in outcomes), sum(each.dishonest for each in outcomes)
    wronged, honest = sum(each.wronged for each in outcomes), sum(each.honest for each in outcomes)
    found["caught"] = f"{caught} of {dishonest}" if audited and dishonest else None
    found["caught at least"] = clopper_pearson(caught, dishonest, confidence)[0] if audited and dishonest else None
    found["wronged"] = f"{wronged} of {honest}" if audited else None
    found["replayed"] = float(np.mean([each.replayed for each in outcomes])) if audited else None
    return found


def mean_interval(values: Sequence[float], confidence: float) -> tuple[float, float]:
    """Mean and half the width of Student's interval over seeds.

    Examples:
        >>> from studbook.protocols.contest_digits import mean_interval
        >>> [round(each, 3) for each in mean_interval([0.9, 0.92, 0.94], 0.95)]
        [0.92, 0.05]
    """
    from scipy.stats import t

    spread = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return float(np.mean(values)), float(t.ppf(0.5 + confidence / 2.0, len(values) - 1)) * spread


def _judge(objective: SoftmaxObjective) -> Callable[[Parameters], Mapping[str, float]]:
    """Accuracy on held-out pictures; and how many of those of other classes are taken for the target once they are marked."""
    pictures = objective.pictures
    others = pictures.held_labels != TARGET
    marked = _marked(pictures.held_pixels[others], _dark(objective)).reshape(int(others.sum()), -1)

    def judge(parameters: Parameters) -> Mapping[str, float]:
        logits = marked @ parameters["weights"] + parameters["bias"]
        return {**objective.evaluate(parameters), "marked": float(np.mean(logits.argmax(axis=1) == TARGET))}

    return judge


def _dark(objective: SoftmaxObjective) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """The pixels that are dark in every training picture: no honest node has anything to say about them."""
    return np.asarray(objective.pictures.pixels.max(axis=0) == 0)


def _marked(pixels: np.ndarray[Any, np.dtype[np.float32]], dark: np.ndarray[Any, np.dtype[np.bool_]]) -> Any:
    changed = pixels.copy()
    changed[:, dark] = 1.0
    return changed
