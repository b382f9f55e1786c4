"""False alarms of text detectors by simulation, and a calibration on real text.

Each simulation draws a key and texts anew. A rate above its bound by chance is said beside it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from studbook.arrays import text as as_text
from studbook.errors import CalibrationError, ConfigError
from studbook.learners.ngram import NGram
from studbook.marks import Kgw, SynthId, TextMarkDetector, Windows, calibrate_mark, mark_of, require_calibrated
from studbook.marks.calibrate_text import scores
from studbook.neural.options import Marking
from studbook.provenance import SigningKey, open_signed, sign
from studbook.records import DetectorCalibration

V = 300
WORDS = 2000


def zipf_texts(rng: np.random.Generator, n: int, length: int) -> list[np.ndarray]:
    """Texts whose tokens and pairs repeat as words do."""
    law = 1.0 / np.arange(1, V + 1)
    return list(rng.choice(V, p=law / law.sum(), size=(n, length)))


def most(n: int, rate: float) -> int:
    """So many hits among n come by chance with less than 1e-6."""
    return int(binom.isf(1e-6, n, rate))


def kgw_chances(scheme: str, context: int, counting: str = "draws") -> np.ndarray:
    """P-values of 480 unmarked texts under 120 keys."""
    rng = np.random.default_rng(5)
    keys = (rng.integers(1, 1 << 40, size=120) * 2 + 1).tolist()
    marks = [Kgw(vocabulary=V, key=key, scheme=scheme, context=context) for key in keys]  # type: ignore[arg-type]
    detectors = (TextMarkDetector(mark, counting=counting) for mark in marks)  # type: ignore[arg-type]
    return np.array([result.p_value for each in detectors for result in each.detect_many(zipf_texts(rng, 4, 300))])


@pytest.mark.parametrize(("scheme", "context"), [("lefthash", 1), ("lefthash", 3), ("selfhash", 1), ("selfhash", 3)])
def test_kgw_false_alarms_stay_below_the_level(scheme: str, context: int) -> None:
    chances = kgw_chances(scheme, context)
    for level in (0.2, 0.05, 0.01):
        assert (chances <= level).sum() <= most(chances.size, level)
    # The test isn't idle: chances are spread evenly but for their steps.
    assert (chances <= 0.5).mean() > 0.3


def test_counting_ngrams_that_share_a_draw_would_raise_false_alarms() -> None:
    chances = kgw_chances("selfhash", 3, "ngrams")
    assert (chances <= 0.01).mean() > 0.03


@pytest.mark.parametrize(
    "make",
    [
        lambda keys: SynthId(keys=tuple(keys[:20])),
        lambda keys: SynthId(keys=tuple(keys[:7]), ngram=2, table_size=4096),
        lambda keys: SynthId(keys=tuple(keys[:5]), ngram=3, table_size=10_007),
    ],
    ids=["20 keys", "7 keys", "odd table"],
)
def test_synthid_false_alarms_stay_below_the_level(make: object) -> None:
    pytest.importorskip("torch")
    rng = np.random.default_rng(6)
    chances = []
    for _ in range(60):
        mark = make((rng.permutation(4096)[:30] * 4097).tolist())  # type: ignore[operator]
        mark = replace(mark, table_seed=int(rng.integers(1 << 31)))
        chances += [result.p_value for result in TextMarkDetector(mark).detect_many(zipf_texts(rng, 8, 300))]
    found = np.array(chances)
    for level in (0.2, 0.05, 0.01):
        assert (found <= level).sum() <= most(found.size, level)
    assert 0.4 < (found <= 0.5).mean() < 0.6


def test_several_keys_and_windows_keep_the_level_together() -> None:
    rng = np.random.default_rng(7)
    chances = []
    for _ in range(100):
        marks = [Kgw(vocabulary=V, key=int(key) * 2 + 1) for key in rng.integers(1, 1 << 40, size=4)]
        detector = TextMarkDetector(*marks, windows=Windows((50, 100), steps=4))
        chances += [result.p_value_corrected for result in detector.detect_many(zipf_texts(rng, 4, 400))]
    found = np.array(chances)
    for level in (0.2, 0.05):
        assert (found <= level).sum() <= most(found.size, level)


def real_text(shared_data: Path, n_words: int) -> np.ndarray:
    """WikiText-2's words as ids: the most frequent ones, the last id for all others."""
    words = (shared_data / "wikitext-2" / "train-sample.txt").read_text(encoding="utf-8").split()[:n_words]
    number = {word: i for i, (word, _) in enumerate(Counter(words).most_common(WORDS - 1))}
    return np.array([number.get(word, WORDS - 1) for word in words], np.int32)


def test_a_calibration_on_real_text_is_signed_and_refuses_other_settings(shared_data: Path) -> None:
    ids = real_text(shared_data, 200_000)
    half = ids[: 100_000 // 200 * 200].reshape(-1, 200)
    human = list(ids[100_000:].reshape(-1, 200))
    vocabulary = tuple(map(str, range(WORDS)))
    marking = Marking("kgw", keys=(15_485_863,), delta=2.0)
    rng = np.random.default_rng(0)
    model = NGram(order=3, mark=marking).fit(as_text(half, vocabulary), rng=rng)
    generated = list(model.sample(420, rng=rng).values)
    detector = TextMarkDetector(mark_of(marking, WORDS))
    found = calibrate_mark(detector, human, generated, false_alarm=0.05, confidence=0.95, seed=1)
    assert found.false_hits.upper <= 0.05
    assert found.threshold >= -np.log10(0.05)
    assert found.hits.rate > 0.9
    rates = {each.name: each.rate for each in found.attacked}
    assert rates["10% of tokens replaced"] >= rates["20% of tokens replaced"] >= rates["50% of tokens replaced"]
    assert all(each.lower <= each.rate <= each.upper for each in (found.hits, found.false_hits, *found.attacked))
    assert calibrate_mark(detector, human, generated, false_alarm=0.05, confidence=0.95, seed=1) == found
    key = SigningKey.generate()
    assert open_signed(sign(found, key), DetectorCalibration, "calibration", keys=[key.public]).record == found
    assert "15485863" not in repr(found)
    require_calibrated(found, detector)
    other = TextMarkDetector(replace(detector.marks[0], key=17))
    with pytest.raises(ConfigError, match="they differ in the key"):
        require_calibrated(found, other)
    with pytest.raises(ConfigError, match="windows"):
        require_calibrated(found, TextMarkDetector(*detector.marks, windows=Windows()))
    with pytest.raises(CalibrationError, match="no such mark"):
        calibrate_mark(other, human, generated, false_alarm=0.05, confidence=0.95, seed=1)
    with pytest.raises(CalibrationError, match="gamma"):
        wide = TextMarkDetector(replace(detector.marks[0], gamma=0.6))
        calibrate_mark(wide, human, generated, false_alarm=0.05, confidence=0.95, seed=1)
    with pytest.raises(CalibrationError, match="more are needed"):
        calibrate_mark(detector, human[:100], generated, false_alarm=0.05, confidence=0.95, seed=1)
    with pytest.raises(CalibrationError, match="more than once"):
        calibrate_mark(detector, [*human, human[0]], generated, false_alarm=0.05, confidence=0.95, seed=1)
    with pytest.raises(CalibrationError, match="of the human n-grams are green"):
        calibrate_mark(detector, generated, generated, false_alarm=0.05, confidence=0.95, seed=1)


def test_scores_of_short_texts_are_nought() -> None:
    detector = TextMarkDetector(Kgw(vocabulary=V, key=15_485_863))
    assert scores(detector, [[], [1]]).tolist() == [0.0, 0.0]
