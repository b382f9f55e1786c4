"""The three ways to go on: a walk or an equilibrium of the log, drift of the heterozygosity, and a bare extrapolation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from studbook.arrays import Floats
from studbook.planning._decay import Posterior, fit_walk
from studbook.planning._diversity import fit_diversity
from studbook.planning._drift import first_passage, split_drift
from studbook.planning._equilibrium import fit_equilibrium
from studbook.planning._mechanism import Mechanism
from studbook.planning._tables import Run
from studbook.rng import stream

SCALES = {"variance": 1.0, "std": 2.0}
"""Metrics whose noise is itself drift, and the factor that turns their logs into those of a variance."""

_DRAWS = 10_000
_PATHS = 2_000
_STEPS_FOR_THREE = 6
"""Steps below which no equilibrium is looked for: it has three parameters."""
_SURE = 0.99


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """What is asked of one series.

    Attributes:
        runs: With two measurements or more each.
        start: What shares are relative to.
        levels: Shares of ``start`` whose times are asked.
        offsets: ``(H,)`` generations from now to predict.
        reach: Generations from now within which levels are looked for where that takes simulated paths.
        probabilities: Median and the tails of the intervals.
        seed: Of all draws.
        name: Metric and cell, for the streams.
    """

    runs: tuple[Run, ...]
    start: float
    levels: tuple[float, ...]
    offsets: Floats
    reach: int
    probabilities: Floats
    seed: int
    name: tuple[str, str]

    def rng(self, what: str) -> np.random.Generator:
        """The stream of one purpose."""
        return stream(self.seed, what, *self.name)


@dataclass(frozen=True, slots=True, eq=False)
class Outlook:
    """Draws of what is asked.

    Attributes:
        loss: Share lost in the next generation.
        half_life: Generations.
        times: Generations from now until each level.
        curve: ``(3, H)`` median and tails of the measured value.
        size: Effective sample size, or ``None``.
        bias: Share lost beyond drift, or ``None``.
        probability: Of an equilibrium.
        caveat: What it rests on.
        calibrated: Whether tails mean anything.
    """

    loss: Floats
    half_life: Floats
    times: tuple[Floats, ...]
    curve: Floats
    size: Floats | None
    bias: Floats | None
    probability: float
    caveat: str
    calibrated: bool = True

    @property
    def model(self) -> Literal["drift", "equilibrium"]:
        """The likelier."""
        return "equilibrium" if self.probability > 0.5 else "drift"


def look_ahead(question: Question, metric: str, mechanism: Mechanism) -> Outlook:
    """The outlook that suits the metric and what is known of its pipeline."""
    if metric in SCALES:
        return _spread(question, SCALES[metric], mechanism)
    drifting = _diversity(question) if metric == "heterozygosity" and mechanism.drifts else None
    return drifting or _bare(question)


def _spread(question: Question, scale: float, mechanism: Mechanism) -> Outlook:
    posterior = fit_walk(question.runs, scale)
    steps = sum(len(run.values) - 1 for run in question.runs)
    if mechanism.gaussian or steps < _STEPS_FOR_THREE:
        return _drift(question, scale, posterior, mechanism)
    fitted = fit_equilibrium(question.runs, scale, posterior)
    chance = 1.0 if mechanism.settles else fitted.probability
    settling = round(2 * _PATHS * chance) if 1.0 - _SURE < chance < _SURE else 2 * _PATHS * round(chance)
    if settling == 0:
        return _drift(question, scale, posterior, mechanism)
    draws = fitted.draw(settling, rng=question.rng("equilibrium"))
    paths = draws.paths(question.reach, rng=question.rng("paths"))
    walk, drift, level = posterior.draw(2 * _PATHS - settling, rng=question.rng("forecast"))
    rng = question.rng("passage")
    times = tuple(
        np.concatenate([first_passage(level - scale * np.log(share), drift, walk, rng=rng), _reached(paths, scale * np.log(share))])
        for share in question.levels
    )
    spread = np.sqrt(walk * question.offsets[:, None])
    walks = level + question.offsets[:, None] * drift + spread * rng.standard_normal(spread.shape)
    ahead = np.concatenate([walks, _at(paths, question.offsets)], axis=1)
    ahead += np.sqrt(fitted.noise[1]) * rng.standard_normal(ahead.shape)
    with np.errstate(over="ignore"):
        curve = question.start * np.exp(np.quantile(ahead, question.probabilities, axis=1) / scale)
    size, bias = split_drift(np.concatenate([walk, draws.walk]), np.concatenate([drift, draws.step()]), _grid(posterior, draws.walk))
    return Outlook(
        loss=_lost(np.concatenate([drift, draws.step()]) / scale),
        half_life=np.concatenate([_halving(drift, scale), draws.half_life(scale)]),
        times=times,
        curve=curve,
        size=None if mechanism.one_dimension is False else size,
        bias=None if mechanism.one_dimension is False or chance > 0.5 else _lost(-bias / scale),
        probability=chance,
        caveat=_caveat(mechanism),
    )


def _drift(question: Question, scale: float, posterior: Posterior, mechanism: Mechanism) -> Outlook:
    walk, drift, level = posterior.draw(_DRAWS, rng=question.rng("forecast"))
    size, bias = split_drift(walk, drift, posterior.walk)
    rng = question.rng("passage")
    logs = posterior.quantiles(question.offsets, question.probabilities)
    with np.errstate(over="ignore"):
        curve = question.start * np.exp(logs / scale)
    return Outlook(
        loss=_lost(drift / scale),
        half_life=_halving(drift, scale),
        times=tuple(first_passage(level - scale * np.log(share), drift, walk, rng=rng) for share in question.levels),
        curve=curve,
        size=None if mechanism.one_dimension is False else size,
        bias=None if mechanism.one_dimension is False else _lost(-bias / scale),
        probability=0.0,
        caveat=_caveat(mechanism),
    )


def _diversity(question: Question) -> Outlook | None:
    draws = fit_diversity(question.runs, _PATHS, rng=question.rng("drift"))
    if draws is None or not draws.fits:
        return None
    rng = question.rng("paths")
    paths = draws.paths(question.reach, rng=rng)
    ahead = _at(paths, question.offsets)
    error = float(np.sqrt(np.mean([run.stderr[-1] ** 2 for run in question.runs])))
    ahead = ahead + error * rng.standard_normal(ahead.shape)
    return Outlook(
        loss=1.0 / draws.size,
        half_life=np.log(2.0) / -np.log1p(-1.0 / draws.size),
        times=tuple(_reached(paths, share * question.start) for share in question.levels),
        curve=np.quantile(ahead, question.probabilities, axis=1),
        size=draws.size,
        bias=None,
        probability=0.0,
        caveat="holds for states that drift by sampling alone; all loss counts as drift",
    )


def _bare(question: Question) -> Outlook:
    """The median of a walk of the log, and nothing that would claim how far off it may be."""
    posterior = fit_walk(question.runs, 1.0)
    _, drift, level = posterior.draw(_DRAWS, rng=question.rng("forecast"))
    middle, now = float(np.median(drift)), float(np.median(level))
    ahead = np.minimum(now + question.offsets * middle, 700.0)
    gaps = np.maximum(now - np.log(question.levels), 0.0)
    times = np.where(gaps <= 0.0, 0.0, np.ceil(gaps / -middle) if middle < 0.0 else np.inf)
    rate = np.array([middle])
    return Outlook(
        loss=_lost(rate),
        half_life=_halving(rate, 1.0),
        times=tuple(np.array([time]) for time in times),
        curve=question.start * np.exp(np.tile(ahead, (3, 1))),
        size=None,
        bias=None,
        probability=0.0,
        caveat="no calibrated interval for this quantity; its log is continued as a straight line",
        calibrated=False,
    )


def _caveat(mechanism: Mechanism) -> str:
    if mechanism.gaussian:
        return ""
    known = "the pipeline isn't" if mechanism.learner is not None else "nothing says that the pipeline is"
    return f"{known} a Gaussian in one dimension that trains on its own output alone: size and bias are those of one that behaves alike"


def _at(paths: tuple[Floats, Floats], offsets: Floats) -> Floats:
    times, values = paths
    return np.asarray(values[np.minimum(np.rint(offsets / times[1]).astype(np.int64), len(times) - 1)])


def _reached(paths: tuple[Floats, Floats], threshold: float) -> Floats:
    """When each path is first at the threshold or below; ``inf`` where it isn't within the simulated time."""
    times, values = paths
    below = values <= threshold
    return np.where(below.any(axis=0), times[below.argmax(axis=0)], np.inf)


def _grid(posterior: Posterior, walk: Floats) -> Floats:
    return np.geomspace(min(posterior.walk[0], walk.min()), max(posterior.walk[-1], walk.max()), 400)


def _halving(drift: Floats, scale: float) -> Floats:
    with np.errstate(divide="ignore"):
        return np.where(drift < 0.0, scale * np.log(2.0) / -drift, np.inf)


def _lost(log_step: Floats) -> Floats:
    """The share lost in a step of the log; no more than the largest float is gained."""
    return -np.expm1(np.minimum(log_step, 700.0))
