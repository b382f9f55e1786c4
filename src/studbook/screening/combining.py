"""One distribution of the generated share from evidence of several kinds, each with the errors of its own calibration.

Certain records are counted. Of what remains, what is near a registered output and a watermark's hits are taken off first, less the false
ones; among the others a detector's hits are corrected as Rogan and Gladen do. A record is certain, or the look-up's, a watermark's, the
detectors', or nobody's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from studbook.arrays import Floats
from studbook.screening.strata import CorpusCounts, Hits
from studbook.theory import HitRates, rogan_gladen
from studbook.theory.melding import CorpusDraws, corpus_draws, ends, lattice, miss_draws, rate_draws

DETECTORS = "detector"
"""Group of the records that a detector decided."""
NOBODY = "none"
"""Group of the records that nothing decided."""


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """Draws of how many of a group are generated, for the interval's lower end and for its upper one.

    They differ where evidence leaves something open: without a detector, or with none that can tell, nobody's records and its hits may be
    all human or all generated.

    Attributes:
        sizes: Records of each group.
        low: Generated records in each ``(k,)``, for the lower end; uncut, so that too many false hits of one group lower the sum of all.
            What is near the register's has as many false hits as the highest rate gives that it can have.
        high: The same for the upper end, with as few as the lowest rate gives.
        rates: Draws of the detector's rates, TPR and FPR, where there is exactly one.
    """

    sizes: Mapping[str, int]
    low: Mapping[str, Floats]
    high: Mapping[str, Floats]
    rates: tuple[Floats, Floats] | None

    def totals(self) -> tuple[Floats, Floats]:
        """Generated records in all groups, for either end."""
        low, high = (np.sum([side[name] for name in self.sizes], axis=0) for side in (self.low, self.high))
        return low, high

    def shares(self, name: str) -> tuple[Floats, Floats]:
        """Shares of generated records in a group, 0 … 1, for either end."""
        low, high = (np.clip(side[name] / max(self.sizes[name], 1), 0.0, 1.0) for side in (self.low, self.high))
        return low, high


def draw_groups(counts: CorpusCounts, points: int = 1 << 14) -> Draws:
    """Distribution of the generated records in each group that isn't certain."""
    marks, detectors = _tests(counts)
    told = any(each.rates.is_informative() for each in detectors)
    cube = lattice(max(1, 2 * len(detectors) + 2 + 2 * len(marks) + 2 * len(counts.near_human)), points)
    n_hits = sum(each.hits for each in detectors)
    remaining = counts.undecided + n_hits
    sizes = {each.witness: each.hits for each in marks} | ({DETECTORS: n_hits} if detectors else {}) | {NOBODY: counts.undecided}
    low, high, rates = _open(points, {name: sizes[name] for name in (DETECTORS, NOBODY) if name in sizes})
    if told:
        sides, rates = _detected(detectors, n_hits, remaining, cube)
        low, high = (_counts(side, n_hits, counts.undecided, end) for side, end in zip(sides, (0.0, 1.0), strict=True))
    for i, mark in enumerate(marks):
        place = 2 * len(detectors) + 2 + 2 * i
        for side, most, rate in ((low, 1.0, mark.rates), (high, 1.0 if told else 0.0, mark.lowest or mark.rates)):
            # Without a detector all that remains may be human, or none of it.
            human = most * np.clip(remaining - side[NOBODY] - side.get(DETECTORS, 0.0), 0.0, remaining)
            side[mark.witness] = mark.hits - _false_hits(rate, human, cube[:, place : place + 2])
    most_generated = np.clip(np.sum([high[name] for name in sizes], axis=0), 0.0, None)
    for i, near in enumerate(counts.near_human, len(marks)):
        place, name = 2 * len(detectors) + 2 + 2 * i, human_group(near)
        # All of them may be people's, or as many generated as come near a person's by accident.
        low[name] = np.zeros(points)
        high[name] = np.minimum(_false_hits(near.rates, most_generated, cube[:, place : place + 2]), near.hits)
        sizes[name] = near.hits
    return Draws(sizes, low, high, rates)


def human_group(near: Hits) -> str:
    """The group of records near what people made."""
    return f"{near.witness}, human"


def _tests(counts: CorpusCounts) -> tuple[list[Hits], list[Hits]]:
    """Tests that say nothing of what they don't hit, and detectors."""
    return [each for each in counts.hits if each.evidence != "detector"], [each for each in counts.hits if each.evidence == "detector"]


def _open(points: int, sizes: Mapping[str, int]) -> tuple[dict[str, Floats], dict[str, Floats], tuple[Floats, Floats] | None]:
    return {name: np.zeros(points) for name in sizes}, {name: np.full(points, float(n)) for name, n in sizes.items()}, None


def _detected(
    detectors: Sequence[Hits], hits: int, remaining: int, cube: Floats
) -> tuple[tuple[CorpusDraws, CorpusDraws], tuple[Floats, Floats] | None]:
    """Draws for either end. Of several detectors one knows only that any one's rates lie between the largest and the sum of theirs."""
    tprs = [rate_draws(each.rates.hits, each.rates.generated, cube[:, 2 * i]) for i, each in enumerate(detectors)]
    fprs = [rate_draws(each.rates.false_hits, each.rates.human, cube[:, 2 * i + 1]) for i, each in enumerate(detectors)]
    noise = cube[:, 2 * len(detectors) : 2 * len(detectors) + 2]
    if len(detectors) == 1:
        drawn = corpus_draws(hits, remaining, tprs[0], fprs[0], noise)
        return (drawn, drawn), (tprs[0], fprs[0])
    most = [np.minimum(np.sum(rates, axis=0), 1.0) for rates in (tprs, fprs)]
    least = [np.max(rates, axis=0) for rates in (tprs, fprs)]
    return (corpus_draws(hits, remaining, most[0], most[1], noise), corpus_draws(hits, remaining, least[0], least[1], noise)), None


def _counts(drawn: CorpusDraws, hits: int, others: int, end: float) -> dict[str, Floats]:
    true = np.where(drawn.told, hits - drawn.false_hits, end * hits)
    missed = np.where(drawn.told, drawn.misses, end * others)
    return {DETECTORS: true, NOBODY: missed}


def _false_hits(rate: HitRates, human: Floats, uniform: Floats) -> Floats:
    """False ones among a test's hits, from those that it let pass."""
    fpr = rate_draws(rate.false_hits, rate.human, uniform[:, 0])
    return miss_draws(human, 1.0 - np.minimum(fpr, 1.0 - 1e-9), uniform[:, 1])


def expected_groups(counts: CorpusCounts) -> dict[str, float]:
    """Generated records of each group at the calibrations' own rates: the point estimate. Nobody's is 0 where there is no detector.

    Where a rate is known between two bounds only, it is the higher one.
    """
    marks, detectors = _tests(counts)
    n_hits = sum(each.hits for each in detectors)
    remaining = counts.undecided + n_hits
    found: dict[str, float] = ({DETECTORS: 0.0} if detectors else {}) | {NOBODY: 0.0}
    human = float(remaining)
    if remaining and any(each.rates.is_informative() for each in detectors):
        tpr, fpr = _pooled([each.rates.tpr for each in detectors]), _pooled([each.rates.fpr for each in detectors])
        generated = remaining * rogan_gladen(n_hits / remaining, tpr, fpr)
        true_hits = min(float(n_hits), generated * tpr)
        found = {DETECTORS: true_hits, NOBODY: min(generated - true_hits, float(counts.undecided))}
        human = remaining - generated
    for mark in marks:
        found[mark.witness] = max(0.0, mark.hits - _expected_false(mark, human))
    generated = sum(found.values())
    return found | {human_group(near): min(float(near.hits), _expected_false(near, generated)) for near in counts.near_human}


def _expected_false(test: Hits, others: float) -> float:
    """False hits, from how many it let pass."""
    return others * test.rates.fpr / max(1.0 - test.rates.fpr, 1e-9)


def _pooled(rates: Sequence[float]) -> float:
    """Rate of a hit by any of several: the middle of what is possible."""
    return (max(rates) + min(sum(rates), 1.0)) / 2.0


def interval_of(
    draws: Draws, certain: int, confidence: float, weights: tuple[Floats | None, Floats | None] = (None, None)
) -> tuple[float, float]:
    """Ends of the central interval of generated records in the corpus."""
    low, high = draws.totals()
    lower = ends(low, low, confidence, weights[0])[0]
    upper = ends(high, high, confidence, weights[1])[1]
    return certain + lower, certain + upper
