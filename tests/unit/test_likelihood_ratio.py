"""The likelihood-ratio detector, its calibration and its witness."""

from __future__ import annotations

import json

import numpy as np
import pytest

from studbook.errors import CalibrationError, CheckpointError, ConfigError, DataError
from studbook.learners.ngram import NGram
from studbook.records import DetectorCalibration, from_bytes, to_bytes
from studbook.records.content import text_content
from studbook.screening.calibrate import HUMAN_SCORES, calibrate_detector, p_value_of
from studbook.screening.detector_witness import DetectorWitness
from studbook.screening.judging import Screen
from studbook.screening.language import Language, TextCoding
from studbook.screening.likelihood_ratio import LikelihoodRatio, load_likelihood_ratio
from studbook.screening.protocols import Record
from studbook.screening.text_changes import Excerpt, ReplaceWords, usual_changes

WORDS = np.array([f"w{i}" for i in range(60)])


def texts(n: int, seed: int, slope: float, length: int = 40) -> list[str]:
    """Texts of independent words from a geometric law."""
    rng = np.random.default_rng(seed)
    law = np.exp(-slope * np.arange(len(WORDS)))
    return [" ".join(row) for row in rng.choice(WORDS, size=(n, length), p=law / law.sum())]


CODING = TextCoding.of(texts(50, 0, 0.05), size=61)


def language(slope: float, seed: int = 0, n: int = 100) -> Language:
    return Language.fit(NGram(order=1), texts(n, seed, slope), CODING, block=40, rng=np.random.default_rng(0))


@pytest.fixture(scope="module")
def detector() -> LikelihoodRatio:
    return LikelihoodRatio(language(0.05), language(0.12, 1), tokens=32)


def calibration(detector, **changes):
    given = {"false_alarm": 0.1, "confidence": 0.95, "attacks": (), "seed": 1} | changes
    return calibrate_detector(detector, texts(250, 2, 0.05), texts(60, 3, 0.12), **given)


def record(text: str) -> Record:
    return Record("x", "text", text_content(text), text=text)


def test_the_score_is_the_mean_log_ratio_of_the_first_tokens(detector):
    text = texts(1, 9, 0.05)[0]
    ids = CODING.encode(text)[None, :32]
    expected = (detector.generated.token_log_prob(ids) - detector.human.token_log_prob(ids)).mean()
    assert detector.scores([text])[0] == pytest.approx(expected, rel=1e-12)
    assert detector.scores([text + " w0 w0 w0"])[0] == pytest.approx(expected, rel=1e-12)


def test_what_is_too_short_or_unknown_has_no_score(detector):
    short, foreign, empty = " ".join(WORDS[:31]), " ".join(["zzz"] * 40), ""
    mixed = " ".join(["zzz", "w1"] * 20)
    scores = detector.scores([short, foreign, empty, mixed])
    assert np.isnan(scores[:3]).all() and np.isfinite(scores[3])
    assert detector.scores([]).shape == (0,)


def test_what_is_no_running_text_stops_nothing(detector):
    endless, padded = "x" * (1 << 23), texts(1, 9, 0.05)[0] + " " + "y" * (1 << 23)
    scores = detector.scores([endless, padded, "\ud800 " * 40, "\0" * 100])
    assert np.isnan(scores[[0, 2, 3]]).all()
    assert scores[1] == detector.scores([texts(1, 9, 0.05)[0]])[0]


def test_scores_do_not_depend_on_the_company(detector):
    many = [*texts(20, 4, 0.05), "too short", *texts(20, 5, 0.12)]
    together = detector.scores(many)
    alone = np.array([detector.scores([text])[0] for text in many])
    assert np.array_equal(together, alone, equal_nan=True)


def test_longer_texts_than_a_block_are_read_block_by_block():
    both = LikelihoodRatio(language(0.05), language(0.12, 1), tokens=100)
    long = " ".join(texts(3, 6, 0.05))
    ids = CODING.encode(long)[:100]
    parts = [ids[i : i + 40][None] for i in (0, 40, 80)]
    sums = [(both.generated.token_log_prob(part) - both.human.token_log_prob(part)).sum() for part in parts]
    assert both.scores([long])[0] == pytest.approx(sum(sums) / 100, rel=1e-12)


def test_two_codings_are_refused():
    other = TextCoding.of(texts(5, 1, 0.3), size=20)
    stranger = Language.fit(NGram(), texts(20, 1, 0.3), other, block=8, rng=np.random.default_rng(0))
    with pytest.raises(ConfigError, match="different ways"):
        LikelihoodRatio(language(0.05), stranger)
    with pytest.raises(ConfigError, match="tokens is 3"):
        LikelihoodRatio(language(0.05), language(0.1), tokens=3)


@pytest.mark.parametrize("tokens", ["words", "whitespace", "characters", "bytes"])
def test_codings_read_what_they_wrote(tokens):
    coding = TextCoding.of(["The cat sat. Größe!"], size=40, tokens=tokens, lowercase=True)
    ids = coding.encode("the cat, größe")
    assert ids.dtype == np.int64 and ids.max() < len(coding.vocabulary)
    assert (ids == coding.unknown).sum() == (tokens != "whitespace") * 1 + (tokens == "whitespace") * 2


def test_words_outside_a_vocabulary_without_unknown_are_left_out():
    assert TextCoding(("a", "b")).encode("a c b").tolist() == [0, 1]
    with pytest.raises(ConfigError, match="vocabulary"):
        TextCoding(("a", "a"))
    with pytest.raises(DataError, match="fewer than one block"):
        TextCoding(("a", "b")).blocks(["a b"], 3)


def test_a_stored_model_gives_the_same_scores(tmp_path, detector):
    detector.human.save(tmp_path / "human")
    detector.generated.save(tmp_path / "generated")
    loaded = load_likelihood_ratio(tmp_path / "human", tmp_path / "generated", tokens=32)
    assert loaded.parameters == detector.parameters
    some = texts(10, 7, 0.1)
    assert np.array_equal(loaded.scores(some), detector.scores(some))
    DetectorWitness(loaded, calibration(detector))


def test_a_stored_gpt_gives_the_same_scores(tmp_path):
    pytest.importorskip("torch")
    from studbook.learners.gpt import Gpt
    from studbook.neural.options import Training

    learner = Gpt(layers=1, width=16, heads=2, training=Training(epochs=1, batch=16))
    model = Language.fit(learner, texts(60, 0, 0.05), CODING, block=40, rng=np.random.default_rng(0))
    model.save(tmp_path / "gpt")
    loaded = Language.load(tmp_path / "gpt")
    ids = np.stack([CODING.encode(text) for text in texts(4, 1, 0.1)])
    assert loaded.digest == model.digest
    assert np.allclose(loaded.token_log_prob(ids), model.token_log_prob(ids))
    assert np.isfinite(LikelihoodRatio(model, language(0.1), tokens=50).scores([" ".join(texts(2, 1, 0.1))])).all()


def test_changed_or_foreign_folders_are_refused(tmp_path, detector):
    with pytest.raises(CheckpointError, match="can't be read"):
        Language.load(tmp_path / "nothing")
    folder = tmp_path / "model"
    for name, change in (
        ("language.json", lambda data: data.replace(b'"w7"', b'"w7x"')),
        ("language.json", lambda data: data[:-10]),
        ("language.json", lambda _: b"[]"),
        ("language.json", lambda _: json.dumps({"schema": "studbook.language/1", "vocabulary": ["a", "b"]}).encode()),
        ("blocks.npy", lambda data: data[:-4] + bytes([data[-4] ^ 1]) + data[-3:]),
        ("blocks.npy", lambda data: data[:50]),
        ("blocks.npy", lambda _: b"\x80\x04K\x01."),
    ):
        detector.human.save(folder)
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(change(data))
        with pytest.raises(CheckpointError):
            Language.load(folder)


def test_another_model_has_another_digest_so_that_no_calibration_fits_it(tmp_path, detector):
    detector.human.save(tmp_path / "model")
    about = tmp_path / "model" / "language.json"
    about.write_bytes(about.read_bytes().replace(b'"discount":0.75', b'"discount":0.5'))
    other = LikelihoodRatio(Language.load(tmp_path / "model"), detector.generated, tokens=32)
    with pytest.raises(ConfigError, match="other settings"):
        DetectorWitness(other, calibration(detector))


def test_a_calibration_is_repeatable_stored_and_keeps_its_promise(detector):
    words = tuple(WORDS)
    found = calibration(detector, attacks=(ReplaceWords(0.5, words), Excerpt(0.5)))
    assert found == calibration(detector, attacks=(ReplaceWords(0.5, words), Excerpt(0.5)))
    assert from_bytes(DetectorCalibration, to_bytes(found), "calibration") == found
    assert found.false_hits.upper <= 0.1 and found.false_hits.units == 125
    replaced, excerpt = found.attacked
    assert found.hits.rate > 0.9 > replaced.rate and excerpt.rate == 0.0  # half of 40 tokens are too few
    assert [each.name for each in found.attacked] == ["50 % of words", "excerpt of 50 %"]


def test_too_few_texts_are_told_how_many(detector):
    some = texts(50, 2, 0.05)
    with pytest.raises(CalibrationError, match=r"\(202 in all\)|in all"):
        calibrate_detector(detector, some, some[:0] + texts(5, 3, 0.1), false_alarm=0.1, confidence=0.95, attacks=(), seed=1)
    with pytest.raises(CalibrationError, match="more than once"):
        calibrate_detector(detector, [*some, some[0]], [], false_alarm=0.1, confidence=0.95, attacks=(), seed=1)
    with pytest.raises(CalibrationError, match="both human and generated"):
        calibrate_detector(detector, some, some[:2], false_alarm=0.1, confidence=0.95, attacks=(), seed=1)
    with pytest.raises(CalibrationError, match="no generated texts"):
        calibrate_detector(detector, texts(250, 2, 0.05), [], false_alarm=0.1, confidence=0.95, attacks=(), seed=1)
    with pytest.raises(CalibrationError, match="that can be scored"):
        calibrate_detector(detector, ["short " * i for i in range(1, 250)], some, false_alarm=0.1, confidence=0.95, attacks=(), seed=1)


def test_p_values_are_ranks_and_never_too_small(detector):
    found = calibration(detector)
    scores = np.sort([float(each) for each in dict(found.parameters)[HUMAN_SCORES].split()])[::-1]
    assert p_value_of(found, scores[0] + 1.0) == 1 / 126
    assert p_value_of(found, scores[0]) == 2 / 126
    assert p_value_of(found, scores[9]) == 11 / 126
    assert p_value_of(found, -99.0) == p_value_of(found, float("nan")) == 1.0
    # Stored scores are rounded up: what was measured never ranks better than it is.
    human = detector.scores(texts(250, 2, 0.05))
    exact = np.sort(human)[::-1]
    assert all((each >= human - 1e-12).any() for each in scores) and scores[0] >= exact[exact <= scores[0]][0]


def test_the_witness_finds_and_is_silent(detector):
    found = calibration(detector)
    witness = DetectorWitness(detector, found)
    robot, human, short = (record(each) for each in (texts(1, 20, 0.3)[0], texts(1, 21, 0.02)[0], "short"))
    findings = witness.examine([robot, human, short])
    assert findings[0].origin == "generated" and findings[0].p_value == 1 / 126 and findings[0].reference == found.id
    assert findings[1].origin == "unknown" and findings[1].p_value > 0.1
    assert findings[2] is None
    judged = Screen((witness,)).judge([robot, human, short])
    assert [each.origin for each in judged] == ["generated", "unknown", "unknown"]
    assert json.loads(json.dumps(witness.describe()))["calibration"] == found.id


def test_a_calibration_of_another_detector_is_refused(detector):
    other = LikelihoodRatio(detector.human, detector.generated, tokens=16)
    with pytest.raises(ConfigError, match="other settings"):
        DetectorWitness(other, calibration(detector))


def test_changes_of_texts():
    rng = np.random.default_rng(0)
    text = "one two  three\nfour five six seven eight"
    changed = ReplaceWords(0.25, ("X",)).apply(text, rng=rng)
    assert changed.count("X") == 2 and len(changed.split()) == 8 and "\n" in changed
    assert ReplaceWords(1.0, ("X",)).apply("", rng=rng) == Excerpt(0.5).apply("", rng=rng) == ""
    assert len(Excerpt(0.5).apply(text, rng=rng).split()) == 4 and Excerpt(0.5).apply(text, rng=rng) in text
    assert [each.name for each in usual_changes([text])] == ["10 % of words", "20 % of words", "50 % of words", "excerpt of 50 %"]
    for wrong in (lambda: ReplaceWords(0.0, ("X",)), lambda: Excerpt(1.5), lambda: ReplaceWords(0.5, ())):
        with pytest.raises(ConfigError):
            wrong()
