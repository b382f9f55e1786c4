"""How often a text mark is found, as it was made and after changes, and how often where there is none: on held-out text."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np

from studbook import __version__
from studbook.arrays import AnyArray, Floats
from studbook.errors import CalibrationError, ConfigError
from studbook.marks.kgw import SettingsCheck
from studbook.marks.scanning import Texts
from studbook.marks.text_changes import TEXT_CHANGES, TextChange
from studbook.marks.text_marks import TextMarkDetector
from studbook.records import DetectorCalibration, Rate, digest_of
from studbook.records.digest import Setting
from studbook.rng import stream
from studbook.theory.error_rates import clopper_pearson
from studbook.theory.thresholds import choose_threshold, require_promise, require_records

_LEAST = 5e-324
_ODD = 1e-6
_SEEN = 1e-3


def calibrate_mark(
    detector: TextMarkDetector,
    human: Texts,
    generated: Texts,
    *,
    false_alarm: float,
    confidence: float,
    seed: int,
    changes: Sequence[TextChange] = TEXT_CHANGES,
) -> DetectorCalibration:
    """A threshold, and the rates that it has.

    The score is -log10 of the corrected p-value. The human texts are split by chance: on one half the threshold is chosen, never below
    -log10 of ``false_alarm``; on the other, which had no part in it, false hits are counted. Before that the settings are checked: human
    text must be as green as chance makes it, generated text greener, up to the settings' gamma.

    Args:
        detector: What is calibrated. With several marks all are looked for, and the first is the one that must be found.
        human: Token ids of texts without the mark, as long as those to be screened, independent of each other.
        generated: Of marked texts, without prompts.
        false_alarm: Largest rate of hits among human texts, above 0 and below 1; the measured rate's upper end is no higher.
        confidence: Of every interval, above 0 and below 1.
        seed: Of the split and the changes.
        changes: What is done to marked texts.

    Returns:
        The calibration, ``made`` at the start of 1970: who stores it says when. The keys aren't in it.

    Raises:
        CalibrationError: Too few texts, one of them twice, settings that don't fit, or a promise that the untouched half doesn't bear out.
        DataError: Token ids outside the vocabulary.
    """
    require_records(len(human), false_alarm, confidence, "texts")
    if not len(generated):
        raise CalibrationError("there are no generated texts", hint="write some with the mark")
    contents = [content_of(text) for text in human]
    if len(set(contents)) != len(contents):
        raise CalibrationError("a text is there more than once, and would be in both halves", hint="leave out the copies")
    _require_fit(detector.check_settings(human), detector.check_settings(generated))
    order = stream(seed, "calibration", "split").permutation(len(human)).tolist()
    chosen, untouched = order[: len(order) // 2], order[len(order) // 2 :]
    lowest = -math.log10(false_alarm)
    picked = choose_threshold(scores(detector, [human[i] for i in chosen]), len(untouched), false_alarm, confidence)
    threshold = max(lowest, picked)
    false_hits = _rate("human", scores(detector, [human[i] for i in untouched]), threshold, confidence)
    require_promise(false_hits.events, false_hits.units, false_alarm, confidence, "texts")
    pool = np.concatenate([np.asarray(human[i], np.int64) for i in chosen])
    made = [np.asarray(text, np.int64) for text in generated]
    return DetectorCalibration(
        detector=detector.name,
        kind="text",
        parameters=_parameters(detector),
        threshold=threshold,
        false_alarm=false_alarm,
        confidence=confidence,
        hits=_rate("as made", scores(detector, made), threshold, confidence),
        false_hits=false_hits,
        attacked=tuple(
            _rate(change.name, scores(detector, _changed(made, pool, change, seed)), threshold, confidence) for change in changes
        ),
        generated=digest_of([content_of(text) for text in made]),
        human=digest_of([contents[i] for i in order]),
        seed=seed,
        code=f"studbook {__version__}",
        made="1970-01-01T00:00:00Z",
    )


def scores(detector: TextMarkDetector, texts: Texts) -> Floats:
    """-log10 of each text's corrected p-value: ``(n,)``, 0 for one that nothing can be told of."""
    chances = np.array([result.p_value_corrected for result in detector.detect_many(texts)])
    return np.asarray(np.maximum(0.0, -np.log10(np.maximum(chances, _LEAST))))


def require_calibrated(calibration: DetectorCalibration, detector: TextMarkDetector) -> None:
    """Refuse a calibration of other marks, keys, settings or windows than the detector's.

    Raises:
        ConfigError: They differ.
    """
    got, expected = dict(calibration.parameters), dict(_parameters(detector))
    if calibration.detector != detector.name or got != expected:
        differing = [what for name, what in _WHAT.items() if got.get(name) != expected.get(name)] or ["its parameters"]
        named = [] if calibration.detector == detector.name else [f"the scheme, {calibration.detector[:80]} and {detector.name}"]
        raise ConfigError(
            f"the calibration is of another mark than the detector's: they differ in {', '.join(named + differing)}",
            hint="use the marks and windows that were calibrated, or calibrate these: studbook mark calibrate",
        )


_WHAT = {"marks": "the number of marks", "settings": "the key, the vocabulary or another setting", "windows": "the windows"}


def content_of(text: AnyArray | Sequence[int]) -> str:
    """Digest of a text's token ids, ``sha256:…``."""
    return "sha256:" + hashlib.sha256(np.asarray(text, "<i8").tobytes()).hexdigest()


def _parameters(detector: TextMarkDetector) -> tuple[tuple[str, Setting], ...]:
    windows = detector.windows
    return (
        ("marks", len(detector.marks)),
        ("settings", detector.digest),
        ("windows", "" if windows is None else " ".join(map(str, windows.sizes))),
    )


def _require_fit(human: SettingsCheck, generated: SettingsCheck) -> None:
    if min(human.p_low, human.p_high) < _ODD:
        message = f"{human.green_rate:.3f} of the human n-grams are green, {human.expected:.3f} expected"
        raise CalibrationError(message, hint="check the vocabulary and the tokenizer, and whether these texts are human")
    if "gamma near" in generated.note:
        raise CalibrationError(f"the generated texts don't fit the settings: {generated.note}", hint="set gamma as it was")
    if generated.p_high > _SEEN:
        message = f"the generated texts carry no such mark: {generated.green_rate:.3f} green, {generated.expected:.3f} expected"
        raise CalibrationError(message, hint="check the key, the vocabulary and the tokenizer, and that prompts were left out")


def _changed(texts: list[AnyArray], pool: AnyArray, change: TextChange, seed: int) -> list[AnyArray]:
    return [change.apply(text, pool, rng=stream(seed, "calibration", change.name, i)) for i, text in enumerate(texts)]


def _rate(name: str, found: Floats, threshold: float, confidence: float) -> Rate:
    hits = int((found >= threshold).sum())
    return Rate(name, hits, len(found), *clopper_pearson(hits, len(found), confidence))
