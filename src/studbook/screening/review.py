"""Which records' verdicts would narrow the interval most, and what their answers make of the detector's calibration."""

from __future__ import annotations

import datetime as dt
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from studbook import __version__
from studbook.arrays import Floats
from studbook.errors import CalibrationError, ConfigError
from studbook.files import storage
from studbook.records import DetectorCalibration, Rate, digest_of
from studbook.screening.combining import DETECTORS, NOBODY, Draws, draw_groups
from studbook.screening.scores import Located, Strata, count_strata, sample_strata
from studbook.screening.strata import CorpusCounts, count_corpus, read_calibrations
from studbook.screening.weighing import REVIEW, Answer, Answers, StratumAnswers, Weighed, latest_answers, read_answers, weigh
from studbook.theory import clopper_pearson

MOST = 10_000
"""Longest queue."""


@dataclass(frozen=True, slots=True)
class StratumPlan:
    """What is asked of a stratum.

    Attributes:
        group: The evidence that decided its records.
        stratum: Their scores.
        records: How many there are.
        answered: Answers so far.
        asked: Answers that the queue asks for.
        shrinkage: By what share one more answer is expected to narrow the interval.
    """

    group: str
    stratum: str
    records: int
    answered: int
    asked: int
    shrinkage: float


@dataclass(frozen=True, slots=True)
class Queue:
    """Records to be looked at, and what that is expected to bring.

    Attributes:
        plan: By stratum.
        items: The records.
        half_width: Of the interval now, by the normal law, as a share of the corpus.
        expected: Of the interval once the queue is answered.
    """

    plan: tuple[StratumPlan, ...]
    items: tuple[tuple[str, Located], ...]
    half_width: float
    expected: float


def review_queue(folder: Path | str, n: int, *, calibrations: Sequence[Path] = (), confidence: float = 0.95, seed: int = 0) -> Queue:
    """The ``n`` records whose verdicts would narrow the interval most.

    One after the other, an answer goes to the stratum where it lowers the expected variance of the generated records most, given what
    calibrations and answers say already; the record is drawn at random from the stratum, so that the estimate may weigh it.

    Args:
        folder: A screened corpus.
        n: How many, 1 to 10,000.
        calibrations: See ``estimate_corpus``.
        confidence: Of the interval.
        seed: Of the sample.

    Raises:
        ConfigError: ``n`` out of its range.
        CalibrationError: See ``estimate_corpus``.
    """
    if not 1 <= n <= MOST:
        raise ConfigError(f"n is {n}, expected 1 to {MOST:,} records")
    from scipy.special import ndtri

    path = Path(folder)
    counts, strata = count_corpus(path, read_calibrations(path, calibrations)), count_strata(path)
    answers = read_answers(path) or without_answers(strata)
    draws = draw_groups(counts)
    allocation = allocate(draws, answers, n)
    given = latest_answers(path)
    items = sample_strata(path, strata, allocation.asked, given.keys(), seed)
    located = tuple((strata.stratum(each.group, each.bin), each) for each in items)
    scale = float(ndtri(0.5 + confidence / 2.0)) / counts.records
    plan = tuple(
        StratumPlan(group, name, each.records, each.n, allocation.asked.get((group, name), 0), allocation.shrinkage[group, name])
        for group, by_name in answers.strata.items()
        for name, each in by_name.items()
    )
    return Queue(plan, located, scale * allocation.before, scale * allocation.after)


def without_answers(strata: Strata) -> Answers:
    """The strata, none of whose records was answered."""
    return Answers({group: {name: StratumAnswers(n) for name, n in sizes.items()} for group, sizes in strata.sizes.items()})


@dataclass(frozen=True, slots=True)
class Allocation:
    """How answers are spread over strata.

    Attributes:
        asked: Answers by group and stratum.
        shrinkage: Share of the standard deviation that the first further answer is expected to take off, by group and stratum.
        before: Standard deviation of the number of generated records now.
        after: Once all are answered.
    """

    asked: Mapping[tuple[str, str], int]
    shrinkage: Mapping[tuple[str, str], float]
    before: float
    after: float


def allocate(draws: Draws, answers: Answers, n: int) -> Allocation:
    """Spread ``n`` answers, each to where the expected variance of the generated records falls most.

    The groups' shares have the draws' means and covariances; answers observe a group's share with the variance of a stratified sample, and
    together they leave C − C(C + V)⁻¹C (a linear Bayes estimate). Within a group this is Neyman's allocation.

    References:
        J. Neyman, "On the two different aspects of the representative method", Journal of the Royal Statistical Society 97 (1934).
    """
    state = _State(draws, answers)
    before = now = state.deviation({})
    asked: dict[tuple[str, str], int] = {}
    gains = {key: gain / before for move in state.moves({}, n) for gain in [state.gain(move, {}, before)] for key in move if before}
    while (left := n - sum(asked.values())) and (moves := state.moves(asked, left)):
        best = max(moves, key=lambda move: state.gain(move, asked, now))
        asked = _plus(asked, best)
        now = state.deviation(asked)
    return Allocation(asked, {key: max(0.0, gains.get(key, 0.0)) for key in state.keys}, before, now)


def _plus(asked: Mapping[tuple[str, str], int], move: Move) -> dict[tuple[str, str], int]:
    return {**asked, **{key: asked.get(key, 0) + 1 for key in move}}


Move: TypeAlias = tuple[tuple[str, str], ...]


class _State:
    """Means, covariances and strata that the search for the next answer goes by."""

    def __init__(self, draws: Draws, answers: Answers) -> None:
        self.groups = [name for name, size in draws.sizes.items() if size and name in answers.strata]
        self.sizes = np.array([draws.sizes[name] for name in self.groups], dtype=np.float64)
        self.means = {name: _mean(draws, name) for name in self.groups}
        self.covariance = _covariance(draws, self.groups)
        self.strata = {(group, name): each for group in self.groups for name, each in answers.strata[group].items() if each.records}
        self.keys = list(self.strata)

    def moves(self, asked: Mapping[tuple[str, str], int], left: int) -> list[Move]:
        """What may be asked next: one record, or one of each stratum of a group whose strata haven't all an answer yet."""
        found: list[Move] = []
        for group in self.groups:
            keys = [key for key in self.keys if key[0] == group]
            missing = tuple(key for key in keys if not self.strata[key].n + asked.get(key, 0))
            if missing:
                found.append(missing[:left])
            else:
                found += [(key,) for key in keys if self.strata[key].n + asked.get(key, 0) < self.strata[key].records]
        return found

    def gain(self, move: Move, asked: Mapping[tuple[str, str], int], now: float) -> float:
        """By how much the standard deviation falls, an answer."""
        return (now - self.deviation(_plus(asked, move))) / len(move)

    def deviation(self, asked: Mapping[tuple[str, str], int]) -> float:
        """Expected standard deviation of the number of generated records."""
        noise = np.array([self._noise(group, asked) for group in self.groups])
        seen = np.isfinite(noise)
        c = self.covariance
        if seen.any():
            held = c[seen][:, seen] + np.diag(noise[seen])
            c = c - c[:, seen] @ np.linalg.pinv(held) @ c[seen]
        return math.sqrt(max(0.0, float(self.sizes @ c @ self.sizes)))

    def _noise(self, group: str, asked: Mapping[tuple[str, str], int]) -> float:
        """Variance of the group's share from its answers; infinite as long as a stratum has none."""
        keys = [key for key in self.keys if key[0] == group]
        if not all(self.strata[key].n + asked.get(key, 0) for key in keys):
            return float("inf")
        total = sum(self.strata[key].records for key in keys)
        return sum((self.strata[key].records / total) ** 2 * self._variance(key, asked.get(key, 0)) for key in keys)

    def _variance(self, key: tuple[str, str], more: int) -> float:
        each = self.strata[key]
        mean = min(max(self.means[key[0]], 0.5 / (each.records + 1.0)), 1.0 - 0.5 / (each.records + 1.0))
        share = (each.generated + mean) / (each.n + 1.0)
        n = each.n + more
        return share * (1.0 - share) / n * max(0.0, 1.0 - n / each.records)


def _mean(draws: Draws, name: str) -> float:
    low, high = draws.shares(name)
    return float(np.mean(low) + np.mean(high)) / 2.0


def _covariance(draws: Draws, groups: Sequence[str]) -> Floats:
    """Of the groups' shares; a part that is open is uniform and independent."""
    if not groups:
        return np.zeros((0, 0))
    low, high = (np.array([draws.shares(name)[end] for name in groups]) for end in (0, 1))
    covariance: Floats = np.atleast_2d(np.cov((low + high) / 2.0))
    return covariance + np.diag(np.mean((high - low) ** 2, axis=1) / 12.0)


def save_answer(folder: Path, item: Located, stratum: str, choice: str) -> Answer:
    """Add one answer to the folder's, flushed to the disk before this returns.

    Raises:
        StorageError: The disk refused.
        ConfigError: No such choice.
    """
    if choice not in ("generated", "human", "skip"):
        raise ConfigError(f"the choice is {choice[:80]!r}, expected generated, human or skip")
    now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    answer = Answer(item.record, item.content, item.group, stratum, choice, now)  # type: ignore[arg-type]
    path = folder / REVIEW
    with storage(path), path.open("ab+") as file:
        _end_line(file.fileno(), path)
        file.write(json.dumps(asdict(answer), ensure_ascii=True).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return answer


def _end_line(handle: int, path: Path) -> None:
    """Cut off what a crash left of a last line."""
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        os.ftruncate(handle, data.rfind(b"\n") + 1)


def renewed_calibration(folder: Path | str, *, calibrations: Sequence[Path] = ()) -> DetectorCalibration:
    """The detector's calibration after a review: as many units as tell as much as the old calibration and the answers together.

    Answers aren't a sample of generated or of human records but of strata, so that they aren't simply added; the rates' distribution given
    the answers is a beta distribution as nearly as makes no difference, and its counts are the new units. Where answers contradict the
    calibration, they alone count. It is meant for other corpora: this one's estimate has the answers already.

    Raises:
        CalibrationError: No answers, not exactly one detector, or answers too few to tell both rates.
    """
    path = Path(folder)
    known = read_calibrations(path, calibrations)
    counts, answers = count_corpus(path, known), read_answers(path)
    detectors = [each for each in counts.hits if each.evidence == "detector"]
    if answers is None or len(detectors) != 1:
        raise CalibrationError(
            f"there are {0 if answers is None else answers.n} answers and {len(detectors)} detectors, expected some and one",
            hint="answer a review first: studbook corpus review DIR",
        )
    old = known[detectors[0].witness]
    weighed = weigh(draw_groups(counts), answers)
    if weighed.conflicts and set(weighed.direct) < {DETECTORS, NOBODY}:
        raise CalibrationError("the answers contradict the calibration and don't reach every stratum", hint="answer more of the queue")
    tpr, fpr = _rates_after(counts, weighed)
    return replace(
        old,
        hits=_counted(old.hits.name, tpr, weighed.weights[0], old.confidence),
        false_hits=_counted(old.false_hits.name, fpr, weighed.weights[0], old.confidence),
        generated=_provenance(old.generated, path, "generated"),
        human=_provenance(old.human, path, "human"),
        code=f"studbook {__version__}, corpus review: {answers.n} answers to {old.id}" + (" replace it" if weighed.conflicts else ""),
        made=dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


def _rates_after(counts: CorpusCounts, weighed: Weighed) -> tuple[Floats, Floats]:
    if weighed.draws.rates is not None:
        return weighed.draws.rates
    sizes, (hit, passed) = weighed.draws.sizes, (weighed.draws.low[name] for name in (DETECTORS, NOBODY))
    false, right = sizes[DETECTORS] - hit, sizes[NOBODY] - passed
    return hit / np.maximum(hit + passed, 1e-9), false / np.maximum(false + right, 1e-9)


def _counted(name: str, rate: Floats, weights: Floats | None, confidence: float) -> Rate:
    """The binomial counts whose distribution has this mean and variance."""
    mean = float(np.average(rate, weights=weights))
    variance = float(np.average((rate - mean) ** 2, weights=weights))
    units = max(1, int(mean * (1.0 - mean) / variance - 1.0)) if variance > 0.0 and 0.0 < mean < 1.0 else 1
    events = min(units, max(0, round(mean * units)))
    return Rate(name, events, units, *clopper_pearson(events, units, confidence))


def _provenance(before: str, folder: Path, choice: str) -> str:
    """Digest of the records that a class's rate now rests on: the old ones', and those answered."""
    contents = sorted(each.content for each in latest_answers(folder).values() if each.choice == choice)
    return digest_of({"calibration": before, "answered": [digest_of({"contents": contents})]}) if contents else before
