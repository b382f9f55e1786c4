"""A review's answers in the estimate: each stratum's answers stand for its records, and each draw counts as much as it explains them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from studbook.arrays import Floats
from studbook.errors import DataError
from studbook.records import read_json
from studbook.screening.combining import Draws
from studbook.theory.melding import lattice, rate_draws

Choice: TypeAlias = Literal["generated", "human", "skip"]

REVIEW = "review.jsonl"
MAX_LINE = 1 << 16
CONFLICT = 0.001
_CHOICES: tuple[Choice, ...] = ("generated", "human", "skip")
_KEYS = {"record", "content", "group", "stratum", "choice", "time"}


@dataclass(frozen=True, slots=True)
class Answer:
    """A person's verdict on one record.

    Attributes:
        record: Its id.
        content: Digest of its content.
        group: The evidence that decided it: a watermark's name, ``"detector"`` or ``"none"``.
        stratum: Which scores it has within the group.
        choice: The verdict.
        time: When, in UTC.
    """

    record: str
    content: str
    group: str
    stratum: str
    choice: Choice
    time: str


@dataclass(frozen=True, slots=True)
class StratumAnswers:
    """A stratum, and what was answered of it.

    Attributes:
        records: Records of the stratum.
        generated: Of the answers generated.
        human: Of the answers human.
    """

    records: int
    generated: int = 0
    human: int = 0

    @property
    def n(self) -> int:
        """Answers that say something."""
        return self.generated + self.human


@dataclass(frozen=True, slots=True)
class Answers:
    """All answers, by group and stratum.

    Attributes:
        strata: ``{group: {stratum: …}}``; each group's strata with all of its records.
    """

    strata: Mapping[str, Mapping[str, StratumAnswers]] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Answers that say something."""
        return sum(each.n for group in self.strata.values() for each in group.values())

    def effective(self, group: str) -> tuple[float, float] | None:
        """Generated answers and answers of a simple sample of the group that would tell as much; ``None`` where a stratum has no answer.

        The group's share is the strata's shares weighted by their records (Horvitz–Thompson); the size follows from its variance.

        References:
            E. L. Korn, B. I. Graubard, "Confidence intervals for proportions with small expected number of positive counts estimated from
            survey data", Survey Methodology 24 (1998).
        """
        strata = [each for each in self.strata.get(group, {}).values() if each.records]
        if not strata or any(each.n == 0 for each in strata):
            return None
        total = sum(each.records for each in strata)
        share = sum(each.records / total * each.generated / each.n for each in strata)
        mean = sum(each.records / total * smoothed(each) for each in strata)
        variance = sum((each.records / total) ** 2 * variance_of(each) for each in strata)
        size = min(mean * (1.0 - mean) / variance, float(total)) if variance > 0.0 else float(total)
        return share * size, size

    def no_surer(self, group: str, generated: float, size: float) -> tuple[float, float]:
        """An effective sample cut down to the answers that there are: what a few of them say of their own variance isn't relied on."""
        part = min(1.0, sum(each.n for each in self.strata[group].values()) / size)
        return generated * part, size * part


def smoothed(stratum: StratumAnswers) -> float:
    """A stratum's share of generated records, pulled towards one half by one answer."""
    return (stratum.generated + 0.5) / (stratum.n + 1.0)


def variance_of(stratum: StratumAnswers, more: int = 0) -> float:
    """Of the stratum's estimated share, with ``more`` answers than there are; none where all records are answered."""
    share, n = smoothed(stratum), stratum.n + more
    left = max(0.0, 1.0 - n / stratum.records)
    return share * (1.0 - share) / max(n, 0.5) * left


@dataclass(frozen=True, slots=True, eq=False)
class Weighed:
    """Draws after a review.

    Attributes:
        draws: Of each group's share; by the answers alone where the calibrations say nothing or the contrary.
        weights: How much each draw counts, for either end; ``None`` for all alike.
        direct: Groups where the answers alone count.
        conflicts: Of these, where they contradict the calibrations.
    """

    draws: Draws
    weights: tuple[Floats | None, Floats | None]
    direct: tuple[str, ...]
    conflicts: tuple[str, ...]

    @property
    def effective(self) -> float:
        """As many draws of one weight tell as much (Kish)."""
        sizes = [float(weights.sum() ** 2 / (weights**2).sum()) for weights in self.weights if weights is not None]
        return min(sizes, default=float("inf"))

    def expected(self, without: Mapping[str, float]) -> dict[str, float]:
        """Generated records of each group: medians of the two ends' mean, or what it was ``without`` answers where nothing is known."""
        found = dict(without)
        for name, size in self.draws.sizes.items():
            low, high = self.draws.shares(name)
            if float(np.mean(high) - np.mean(low)) < 0.999:
                means = [np.average(side, weights=weights) for side, weights in zip((low, high), self.weights, strict=True)]
                found[name] = size * float(np.mean(means))
        return found


def weigh(draws: Draws, answers: Answers | None) -> Weighed:
    """Let answers narrow the draws.

    A draw's weight is the probability of the answers under it, with each group's answers as a simple sample of effective size. Where
    the draws leave a group open, its answers alone count; where they contradict the draws beyond chance (1 in 1,000), too: then the
    corpus isn't like the calibrations, and no group is believed to be.
    """
    if answers is None or not answers.n:
        return Weighed(draws, (None, None), (), ())
    found = {name: effective for name in draws.sizes if (effective := answers.effective(name)) is not None}
    open_ones = [name for name in found if _is_open(draws, name)]
    conflicts = [name for name in found if name not in open_ones and _contradicts(draws, name, *answers.no_surer(name, *found[name]))]
    direct = list(found) if conflicts else open_ones
    low, high = dict(draws.low), dict(draws.high)
    cube = lattice(max(len(found), 1), len(next(iter(low.values())))) if found else np.zeros((0, 1))
    # Another order of the points: those of the draws mustn't go along with these.
    shuffled = np.random.default_rng(0).permutation(cube)
    for i, name in enumerate(direct):
        low[name] = high[name] = draws.sizes[name] * rate_draws(*found[name], shuffled[:, i])
    if conflicts:
        for name in set(draws.sizes) - set(direct):
            low[name], high[name] = np.zeros_like(low[name]), np.full_like(high[name], draws.sizes[name])
        return Weighed(Draws(draws.sizes, low, high, None), (None, None), tuple(direct), tuple(conflicts))
    told = [name for name in found if name not in direct]
    lower, upper = (_weights([(draws.shares(name)[end], *found[name], draws.sizes[name]) for name in told]) for end in (0, 1))
    return Weighed(Draws(draws.sizes, low, high, draws.rates), (lower, upper), tuple(direct), ())


def _is_open(draws: Draws, name: str) -> bool:
    low, high = draws.shares(name)
    return bool((low == 0.0).all() and (high == 1.0).all())


def _contradicts(draws: Draws, name: str, generated: float, n: float) -> bool:
    """Whether so few, or so many, generated answers are out of the question under all that the calibrations allow."""
    from scipy.special import betainc, betaincc

    low, high = draws.shares(name)
    most = float(np.mean(betainc(generated, n - generated + 1.0, high))) if generated > 0.0 else 1.0
    fewest = float(np.mean(betaincc(generated + 1.0, n - generated, low))) if generated < n else 1.0
    return min(most, fewest) < CONFLICT / 2.0


def _weights(groups: list[tuple[Floats, float, float, int]]) -> Floats | None:
    if not groups:
        return None
    logs = np.zeros_like(groups[0][0])
    for share, generated, n, size in groups:
        least = 0.5 / (size + 1.0)
        inside = np.clip(share, least, 1.0 - least)
        logs = logs + generated * np.log(inside) + (n - generated) * np.log1p(-inside)
    found: Floats = np.exp(logs - logs.max())
    return found


def iterate_answers(folder: Path) -> Iterator[Answer]:
    """Saved answers, in the order in which they were given; a last line that was cut off is left out.

    Raises:
        DataError: Another line is no answer.
    """
    path = folder / REVIEW
    if not path.is_file():
        return
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(MAX_LINE), b""), 1):
            if not line.endswith(b"\n"):
                if len(line) < MAX_LINE:
                    return
                raise DataError(f"{path}, line {number} is longer than {MAX_LINE:,} bytes", hint="delete that line")
            yield _answer(read_json(line, f"{path.name}, line {number}", max_bytes=MAX_LINE), f"{path}, line {number}")


def _answer(value: Any, where: str) -> Answer:
    if not isinstance(value, dict) or set(value) != _KEYS or not all(isinstance(each, str) for each in value.values()):
        raise DataError(f"{where} is no answer of a review", hint=f"expected the texts {', '.join(sorted(_KEYS))}; delete that line")
    if value["choice"] not in _CHOICES:
        raise DataError(f"{where} has the choice {value['choice'][:80]!r}, expected generated, human or skip", hint="delete that line")
    return Answer(**value)


def latest_answers(folder: Path) -> dict[str, Answer]:
    """The last answer of each record."""
    return {each.record: each for each in iterate_answers(folder)}


def read_answers(folder: Path) -> Answers | None:
    """Answers by stratum; ``None`` where there are none. The strata are counted again, in a stream.

    Every answered record is looked up in the corpus: it counts in the stratum that it has there.

    Raises:
        DataError: An answer about a record that isn't there, or that has another content there.
    """
    from studbook.screening.scores import iterate_uncertain, strata_of

    given = latest_answers(folder)
    if not any(each.choice != "skip" for each in given.values()):
        return None
    cells: Counter[tuple[str, int]] = Counter()
    places: dict[str, tuple[str, int]] = {}
    for each in iterate_uncertain(folder):
        cells[each.group, each.bin] += 1
        if each.record in given and given[each.record].content == each.content:
            places[each.record] = each.group, each.bin
    lost = next((record for record in given if record not in places), None)
    if lost is not None:
        raise DataError(f"{folder / REVIEW}: the record {lost[:200]!r} isn't open in this corpus", hint="delete that line: it is another's")
    strata = strata_of(cells)
    counted: Counter[tuple[str, str, str]] = Counter()
    for answer in given.values():
        group, bin_ = places[answer.record]
        counted[group, strata.stratum(group, bin_), answer.choice] += 1
    return Answers({
        group: {
            name: StratumAnswers(n, counted[group, name, "generated"], counted[group, name, "human"]) for name, n in sizes.items()
        }
        for group, sizes in strata.sizes.items()
    })  # fmt: skip
