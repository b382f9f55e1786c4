"""Training sets behind a curator: candidates are judged, rejects are counted by origin and reason, and what is missing is drawn again."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from studbook.arrays import AnyArray, Batch, Floats, Ints
from studbook.curation import Judged
from studbook.errors import ConfigError, FitError
from studbook.mixing import Mix, Origin, Part
from studbook.recursion.protocols import Curator, LawCurator, LawLearner, LawModel, SizedDraws, Statistics

KEPT = "kept"
"""The reason of those that aren't rejected."""
_MOST_AT_ONCE = 16
N_SHOWN = 3
"""Rejects that are kept whole, for each origin and reason of a generation."""

Fetch: TypeAlias = Callable[[Part, int], tuple[Batch, ...]]
"""From a part, and the number of records of its origin that came before, to its candidates; fewer where there are no more."""


@dataclass(frozen=True, slots=True, eq=False)
class Reject:
    """One record that a curator rejected.

    Attributes:
        origin: Where it came from.
        reason: Which of the curator's reasons.
        detail: Why, in one sentence; empty where the reason says it all.
        record: The record, as the curator found it: a batch of one.
    """

    origin: str
    reason: str
    detail: str
    record: Batch


@dataclass(frozen=True, slots=True, eq=False)
class Sifting:
    """What curation did to one generation's candidates, for R replicates.

    Attributes:
        counts: ``(R,)`` candidates by origin and reason, ``"kept"`` for those that weren't rejected.
        rejects: A few of the rejects, whole.
    """

    counts: Mapping[tuple[str, str], Ints]
    rejects: tuple[Reject, ...] = ()

    @property
    def generated_share(self) -> Floats:
        """``(R,)`` share of generated records in the training set: the residual contamination."""
        kept = {origin: n for (origin, reason), n in self.counts.items() if reason == KEPT}
        share: Floats = np.asarray(kept.get(Origin.GENERATED.value, 0) / np.maximum(sum(kept.values()), 1))
        return share


def check_curation(mix_parts: Sequence[Part]) -> None:
    """Refuse a mix whose parts a curator can't tell apart.

    Raises:
        ConfigError: A part is drawn from a pool of real and generated records.
    """
    if any(part.origin is Origin.POOL for part in mix_parts):
        raise ConfigError(
            "curation judges records by where they come from, and this mix draws from a pool of real and generated ones",
            hint='take the mix "contaminated", "fresh", "keep", "replace", "blend" or "weighted", or leave [curation] out',
        )


def candidates_of_fresh(curator: Curator | LawCurator, n_fresh: int) -> int:
    """Fresh real records that have to be set aside where ``n_fresh`` are wanted."""
    return n_fresh * (curator.candidates if curator.refill else 1)


@dataclass(slots=True, eq=False)
class _Tally:
    """Counts while a training set fills up."""

    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    rejects: list[Reject] = field(default_factory=list)

    def add(self, judged: Judged, origin: Origin, looked: AnyArray) -> None:
        self._count(origin, KEPT, int((looked & (judged.verdicts < 0)).sum()))
        for index, reason in enumerate(judged.reasons):
            rows = np.flatnonzero(looked & (judged.verdicts == index))
            room = N_SHOWN - min(N_SHOWN, self.counts.get((origin.value, reason), 0))
            for row in rows[:room]:
                record = judged.records.take(np.array([row]))
                self.rejects.append(Reject(origin.value, reason, judged.details.get(int(row), ""), record))
            self._count(origin, reason, len(rows))

    def _count(self, origin: Origin, reason: str, n: int) -> None:
        key = (origin.value, reason)
        self.counts[key] = self.counts.get(key, 0) + n

    def result(self) -> Sifting:
        return Sifting({key: np.array([n]) for key, n in self.counts.items()}, tuple(self.rejects))


def sift(
    curator: Curator, parts: Sequence[Part], fetch: Fetch, *, generation: int, rng: np.random.Generator
) -> tuple[list[Batch], Sifting]:
    """A generation's training set out of judged candidates.

    The first candidates are the mix's parts. With ``refill`` further ones follow, each from a part chosen with its share's probability,
    until the set has its size or ``curator.candidates`` candidates were seen for each record of it.

    Args:
        curator: Judges.
        parts: What the mix asks for.
        fetch: Gives candidates.
        generation: For the message.
        rng: For verdicts and for the choice of parts.

    Returns:
        The batches that make up the training set, and what was done.

    Raises:
        FitError: Nothing was kept.
    """
    filling = _Filling(curator, parts, fetch, rng)
    filling.take([part.n for part in parts])
    wanted, shares = filling.seen, np.array(filling.came) / max(filling.seen, 1)
    while curator.refill:
        missing = wanted - filling.n_kept
        # As many as fill it, if candidates pass as they did so far; those that come after it is full aren't looked at.
        likely = math.ceil(missing * filling.seen / max(filling.n_kept, 1))
        asked = min(likely, _MOST_AT_ONCE * wanted, wanted * curator.candidates - filling.seen)
        if missing <= 0 or asked <= 0 or not filling.take(rng.multinomial(asked, shares).tolist(), missing):
            break
    if not filling.n_kept:
        raise nothing_kept(generation, filling.seen)
    return filling.kept, filling.tally.result()


@dataclass(slots=True, eq=False)
class _Filling:
    """A training set that fills up.

    Attributes:
        came: Candidates of each part so far, looked at or not.
        seen: Candidates that were looked at.
        n_kept: Candidates that were kept.
        kept: They themselves.
    """

    curator: Curator
    parts: Sequence[Part]
    fetch: Fetch
    rng: np.random.Generator
    tally: _Tally = field(default_factory=_Tally)
    came: list[int] = field(default_factory=list)
    seen: int = 0
    n_kept: int = 0
    kept: list[Batch] = field(default_factory=list)

    def take(self, asked: Sequence[int | None], room: int | None = None) -> int:
        """Judge further candidates, and keep ``room`` of them at most; gives how many came."""
        self.came = self.came or [0] * len(self.parts)
        judged: list[tuple[Part, Judged]] = []
        for index, (part, n) in enumerate(zip(self.parts, asked, strict=True)):
            for batch in self.fetch(replace(part, n=n), self.came[index]) if n != 0 else ():
                self.came[index] += len(batch)
                judged.append((part, self._judge(part, batch)))
        verdicts = np.concatenate([np.empty(0, np.int64), *(each.verdicts for _, each in judged)])
        looked = _looked_at(verdicts < 0, room, rng=self.rng)
        ends = np.cumsum([len(each.verdicts) for _, each in judged])
        for (part, each), rows in zip(judged, np.split(looked, ends[:-1]), strict=True):
            self.tally.add(each, part.origin, rows)
            passed = each.records.take(np.flatnonzero(rows & (each.verdicts < 0)))
            if len(passed):
                self.kept.append(passed if part.weight == 1.0 else passed.with_weight(part.weight))
                self.n_kept += len(passed)
        self.seen += int(looked.sum())
        return len(verdicts)

    def _judge(self, part: Part, batch: Batch) -> Judged:
        """Verdicts; records of the last training set were judged when they came."""
        whole = Judged(batch, np.full(len(batch), -1), ())
        return whole if part.origin is Origin.PREVIOUS else self.curator.judge(batch, part.origin, rng=self.rng)


def _looked_at(passing: AnyArray, room: int | None, *, rng: np.random.Generator) -> AnyArray:
    """Which candidates are looked at where they come in random order, and nobody looks on once ``room`` were kept."""
    if room is None or np.count_nonzero(passing) <= room:
        return np.ones(len(passing), bool)
    order = rng.permutation(len(passing))
    last = np.flatnonzero(passing[order])[room - 1]
    looked = np.zeros(len(passing), bool)
    looked[order[: last + 1]] = True
    return looked


def nothing_kept(generation: int, seen: int) -> FitError:
    """What to raise where a curator leaves nothing to train on."""
    return FitError(
        f"the curator rejected all {seen:,} candidates of generation {generation}: nothing is left to train on",
        hint="give it real records (mix contaminated with a share below 1), or raise curation.candidates",
    )


def can_curate_in_law(learner: object, curator: object, mix: Mix, *, n: int, n_original: int) -> bool:
    """Whether curated training sets can be drawn as statistics: fresh and generated records, kept or not whatever they are."""
    drawn = all(part.origin in {Origin.GENERATED, Origin.FRESH} for part in mix.parts(n, n_original))
    return isinstance(learner, SizedDraws) and isinstance(curator, LawCurator) and drawn


@dataclass(frozen=True, slots=True, eq=False)
class LawSieve:
    """Curation in law: which records are rejected doesn't depend on what they are, so that only numbers have to be drawn.

    Attributes:
        curator: Its rates.
        parts: What the mix asks for, fresh and generated records.
        n_replicates: R.
    """

    curator: LawCurator
    parts: Sequence[Part]
    n_replicates: int

    def sift(self, *, generation: int, rng: np.random.Generator) -> tuple[Ints, Sifting]:
        """Numbers of kept candidates ``(parts, R)``, exactly in law of ``studbook.recursion.curated.sift``, and what was done."""
        first = np.array([part.n or 0 for part in self.parts])
        stay = np.array([1.0 - self.curator.rejection(part.origin) for part in self.parts])[:, None]
        wanted, shares = int(first.sum()), first / max(int(first.sum()), 1)
        asked = np.repeat(first[:, None], self.n_replicates, axis=1)
        seen, kept = np.zeros_like(asked), np.zeros_like(asked)
        while True:
            seen += asked
            kept += rng.binomial(asked, stay)
            missing = np.minimum(wanted - kept.sum(axis=0), wanted * self.curator.candidates - seen.sum(axis=0))
            if not self.curator.refill or missing.max() <= 0:
                break
            asked = rng.multinomial(np.maximum(missing, 0), shares).T
        if kept.sum(axis=0).min() == 0:
            raise nothing_kept(generation, int(seen[:, kept.sum(axis=0).argmin()].sum()))
        counts: dict[tuple[str, str], Ints] = {}
        for part, all_, stayed in zip(self.parts, seen, kept, strict=True):
            counts[part.origin.value, KEPT] = stayed
            counts[part.origin.value, self.curator.reason] = all_ - stayed
        return kept, Sifting(counts)

    def draw(self, learner: LawLearner, model: LawModel, real: LawModel | None, kept: Ints, *, rng: np.random.Generator) -> Statistics:
        """The training sets' statistics, with as many records of each part as were kept."""
        total: Statistics | None = None
        for part, sizes in zip(self.parts, kept, strict=True):
            source = model if part.origin is Origin.GENERATED else real
            if source is None or not isinstance(learner, SizedDraws):
                raise ConfigError("curation in law needs a source whose law is known", hint='use study.method = "samples"')
            drawn: Statistics = learner.draw_each(source, sizes, rng=rng)
            drawn = drawn if part.weight == 1.0 else drawn.scaled(part.weight)
            total = drawn if total is None else total.merge(drawn)
        if total is None:
            raise ConfigError("the mix has no parts", hint="ask for at least one record a generation")
        return total
