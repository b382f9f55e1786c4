"""From a folder of texts to a mix: the real screen, then estimate and mix on what it wrote."""

from __future__ import annotations

import json

import numpy as np
import pytest

from studbook.mixing import Quotas
from studbook.provenance import SigningKey, sign
from studbook.records import DetectorCalibration, Finding, Rate
from studbook.screening import Screen, screen_corpus
from studbook.screening.estimate import estimate_corpus
from studbook.screening.mix import mix_corpora
from studbook.screening.review import review_queue, save_answer
from studbook.theory import clopper_pearson

SHA = "sha256:" + 64 * "0"


class Archive:
    """Knows what was archived before there were models."""

    name, evidence, kinds = "archive", "register", frozenset({"text"})

    def describe(self):
        return {}

    def examine(self, records):
        return [Finding("register", "archive", "human", "archived in 1990") if "archived" in each.text else None for each in records]


class Detector:
    """Says 'model' where a text has that word, with a p-value for any."""

    name, evidence, kinds = "words", "detector", frozenset({"text"})

    def __init__(self, signed):
        self.signed_calibration = signed

    def describe(self):
        return {"calibration": "a"}

    def examine(self, records):
        return [
            Finding("detector", "words", "generated", "the word", 0.01, "model-x")
            if "model" in each.text
            else Finding("detector", "words", "unknown", "not the word", 0.4)
            for each in records
        ]


def test_a_screened_corpus_is_estimated_reviewed_and_mixed(tmp_path):
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(3000)]
    lines = [
        json.dumps({"text": " ".join([*rng.choice(words, 40), "archived" if i < 200 else "model" if i < 300 else "other"])})
        for i in range(1000)
    ]
    (tmp_path / "corpus.jsonl").write_text("\n".join(lines))
    calibration = DetectorCalibration(
        detector="words", kind="text", parameters=(), threshold=0.0, false_alarm=0.05, confidence=0.95,
        hits=Rate("generated", 450, 500, *clopper_pearson(450, 500, 0.95)),
        false_hits=Rate("human", 10, 500, *clopper_pearson(10, 500, 0.95)),
        attacked=(), generated=SHA, human=SHA, seed=0, code="test", made="2026-01-01T00:00:00Z",
    )  # fmt: skip
    screen = Screen((Archive(), Detector(sign(calibration, SigningKey.generate()))))
    screen_corpus([tmp_path / "corpus.jsonl"], tmp_path / "out", screen)
    found = estimate_corpus(tmp_path / "out")
    assert found.share == pytest.approx(0.8 * (100 / 800 - 0.02) / 0.88)
    assert found.complete
    queue = review_queue(tmp_path / "out", 30)
    assert {item.group for _, item in queue.items} <= {"detector", "none"}
    assert all(item.text for _, item in queue.items)
    for stratum, item in queue.items:
        save_answer(tmp_path / "out", item, stratum, "generated" if item.group == "detector" else "human")
    after = estimate_corpus(tmp_path / "out")
    assert after.answers == 30
    assert after.interval.half_width < found.interval.half_width
    manifest = mix_corpora([tmp_path / "out"], tmp_path / "mix", Quotas(0.4, 0.1))
    assert (manifest.size, manifest.human) == (500, 200)
    assert manifest.per_model["model-x"] <= 50
