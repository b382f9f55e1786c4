"""How often a detector of generated texts is right and wrong, on texts that it has never seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from studbook import __version__
from studbook.arrays import Floats
from studbook.errors import CalibrationError
from studbook.records import DetectorCalibration, Rate, digest_of
from studbook.records.content import text_content
from studbook.records.digest import Setting
from studbook.rng import stream
from studbook.screening.protocols import Detector
from studbook.screening.text_changes import TextChange
from studbook.theory.error_rates import clopper_pearson
from studbook.theory.thresholds import choose_threshold, require_promise, require_records

HUMAN_SCORES = "human scores"
"""Parameter of a calibration that holds the highest scores of the untouched human texts, for p-values by rank."""
MOST_SCORES = 2048


def calibrate_detector(
    detector: Detector,
    human_texts: Sequence[str],
    generated_texts: Sequence[str],
    *,
    false_alarm: float,
    confidence: float,
    attacks: Sequence[TextChange],
    seed: int,
) -> DetectorCalibration:
    """A threshold, and the rates that it has.

    Human texts are split by chance. On one half the threshold is chosen, on the other false hits are counted; generated texts have no part
    in the choice. Human texts of which the detector can't tell anything are left out, generated ones count as missed: both make the rates
    worse than they might be called. The rates hold for texts like these, of these domains and this generator, and for no others.

    Args:
        detector: What scores texts; it must not have been fitted to any of these.
        human_texts: Texts by people.
        generated_texts: Texts by the generator.
        false_alarm: Largest rate of hits among human texts, above 0 and below 1; the measured rate's upper end is no higher.
        confidence: Of every interval, above 0 and below 1.
        attacks: What is done to generated texts, each a rate of its own; ``usual_changes`` gives some.
        seed: Of the split and of the attacks.

    Returns:
        The calibration, ``made`` at the start of 1970: who stores it says when. Among its parameters are the highest scores of the
        untouched human texts, rounded up; ``p_value_of`` ranks others among them.

    Raises:
        CalibrationError: Too few texts for the promise (it says how many are needed), a text twice, or a promise that the untouched half
            doesn't bear out.

    Examples:
        >>> from studbook.screening.calibrate import calibrate_detector, p_value_of
        >>> from studbook.screening.text_changes import Excerpt
        >>> class Long:
        ...     name, parameters = "long", ()
        ...     def scores(self, texts): return [float(len(text)) for text in texts]
        >>> human, robots = ["h" * n for n in range(1, 101)], ["r" * n for n in range(200, 300)]
        >>> half = (Excerpt(0.5),)
        >>> found = calibrate_detector(Long(), human, robots, false_alarm=0.2, confidence=0.95, attacks=half, seed=1)
        >>> found.hits.rate, found.false_hits.upper <= 0.2, p_value_of(found, 150.0) == 1 / 51
        (1.0, True, True)
    """
    human = np.array([text_content(text) for text in human_texts])
    generated = [text_content(text) for text in generated_texts]
    _require_different(human.tolist(), generated)
    scores = _scores(detector, human_texts)
    order = stream(seed, "calibration", "split").permutation(np.flatnonzero(~np.isnan(scores)))
    given = "texts" if len(order) == len(scores) else f"texts that can be scored, of {len(scores):,} given,"
    require_records(len(order), false_alarm, confidence, given)
    if not generated_texts:
        raise CalibrationError("there are no generated texts to find", hint="give some of the generator that is meant")
    chosen, untouched = order[: len(order) // 2], order[len(order) // 2 :]
    threshold = choose_threshold(scores[chosen], len(untouched), false_alarm, confidence)
    false_hits = _rate("human", scores[untouched], threshold, confidence)
    require_promise(false_hits.events, false_hits.units, false_alarm, confidence, "texts")
    rates = [_rate("as made", _scores(detector, generated_texts), threshold, confidence)]
    for attack in attacks:
        changed = [attack.apply(text, rng=stream(seed, "calibration", attack.name, i)) for i, text in enumerate(generated_texts)]
        rates.append(_rate(attack.name, _scores(detector, changed), threshold, confidence))
    kept: tuple[str, Setting] = (HUMAN_SCORES, _kept(scores[untouched]))
    return DetectorCalibration(
        detector=detector.name,
        kind="text",
        parameters=tuple(sorted((*detector.parameters, kept))),
        threshold=threshold,
        false_alarm=false_alarm,
        confidence=confidence,
        hits=rates[0],
        false_hits=false_hits,
        attacked=tuple(rates[1:]),
        generated=digest_of(generated),
        human=digest_of(human[order].tolist()),
        seed=seed,
        code=f"studbook {__version__}",
        made="1970-01-01T00:00:00Z",
    )


def p_value_of(calibration: DetectorCalibration, score: float) -> float:
    """How often a human text of the calibration's kind scores as high: by rank, and never too small.

    (Human texts with as high a score + 1) / (human texts + 1) holds whatever the scores' distribution, for one text drawn like the
    calibration's human ones. Below the stored scores it is 1; so it is for not-a-number.

    Args:
        calibration: From ``calibrate_detector``.
        score: The detector's.
    """
    kept = [float(each) for each in str(dict(calibration.parameters).get(HUMAN_SCORES, "")).split()]
    higher = sum(each >= score for each in kept)
    units = calibration.false_hits.units
    if np.isnan(score) or (higher == len(kept) and higher < units):
        return 1.0
    return (higher + 1) / (units + 1)


def detector_parameters(calibration: DetectorCalibration) -> tuple[tuple[str, Setting], ...]:
    """The detector's own parameters in a calibration."""
    return tuple(each for each in calibration.parameters if each[0] != HUMAN_SCORES)


def _kept(scores: Floats) -> str:
    """The highest scores, rounded up to six digits: ranks among them are never too good."""
    highest = np.sort(scores)[::-1][:MOST_SCORES]
    return " ".join(_rounded_up(float(score)) for score in highest)


def _rounded_up(score: float) -> str:
    text = f"{score:.6g}"
    return text if float(text) >= score else f"{np.nextafter(score + abs(score) * 1e-6, np.inf):.7g}"


def _require_different(human: Sequence[str], generated: Sequence[str]) -> None:
    for name, contents in (("human", human), ("generated", generated)):
        if len(set(contents)) < len(contents):
            raise CalibrationError(f"a {name} text is there more than once", hint="leave out the copies: they'd count as independent")
    if both := set(human) & set(generated):
        raise CalibrationError(f"{len(both):,} texts are both human and generated", hint="leave them out")


def _scores(detector: Detector, texts: Sequence[str]) -> Floats:
    found = np.asarray(detector.scores(texts), dtype=np.float64)
    if found.shape != (len(texts),):
        raise CalibrationError(f"{detector.name} gave scores of shape {found.shape} for {len(texts):,} texts", hint="one score a text")
    return found


def _rate(name: str, scores: Floats, threshold: float, confidence: float) -> Rate:
    # Not-a-number is no hit.
    hits = int((scores >= threshold).sum())
    return Rate(name, hits, len(scores), *clopper_pearson(hits, len(scores), confidence))
