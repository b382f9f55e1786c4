"""The shipped contracts, kept by the autoencoder, the adversarial network and the metric of the latents."""

from __future__ import annotations

import dataclasses
import hashlib
import pickle
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra 'neural'")

from studbook.arrays import Batch, Kind, images
from studbook.learners import Gan, Vae
from studbook.metrics import LatentStd
from studbook.mixing import Accumulate, Keep
from studbook.neural.options import Training
from studbook.recursion import run_generations
from studbook.rng import stream
from studbook.study.catalog import choose_metric, create_learner, describe
from studbook.testing.learners import Check, learner_checks
from studbook.testing.metrics import check_metric, standard_case

RNG = np.random.default_rng(20)
GREY = images(RNG.uniform(size=(120, 3, 2)), (0.0, 1.0), RNG.integers(0, 2, 120))
COLOUR = images(RNG.uniform(0.0, 255.0, size=(120, 9, 8, 3)), (0.0, 255.0), RNG.integers(0, 2, 120))
ONCE = Training(epochs=1, batch=60)
GAN_ONCE = replace(Gan().training, epochs=1, batch=60)

CASES = [
    (Vae(latents=2, hidden=8, training=ONCE), GREY),
    (Vae(latents=2, hidden=8, likelihood="gaussian", sample="draw", training=ONCE), GREY),
    (Vae(latents=2, width=2, network="conv", sample="draw", training=ONCE), COLOUR),
    (Gan(latents=2, width=2, training=GAN_ONCE), GREY),
    (Gan(latents=2, width=2, conditional=True, training=GAN_ONCE), COLOUR),
]


@pytest.mark.parametrize(
    ("learner", "batch", "check"),
    [
        pytest.param(learner, batch, check, id=f"{type(learner).__name__}{index}-{check.__name__}")
        for index, (learner, batch) in enumerate(CASES)
        for check in learner_checks(learner)
    ],
)
def test_they_keep_the_contract(learner: Any, batch: Batch, check: Check) -> None:
    check(learner, batch)


@pytest.mark.parametrize("learner", [CASES[0][0], CASES[4][0]], ids=["vae", "gan"])
def test_weights_pickles_and_warm_starts(learner: Any) -> None:
    learner = learner.condition_on(GREY) if hasattr(learner, "condition_on") else learner
    weighted = replace(GREY, weights=np.where(np.arange(120) < 60, 1.0, 3.0))
    plain, other = (learner.fit(batch, rng=stream(0, "fit")) for batch in (GREY, weighted))
    first, second = (m.sample(9, rng=stream(0, "s")).values for m in (plain, other))
    assert not np.array_equal(first, second)
    copy = pickle.loads(pickle.dumps(plain))
    one, two = (learner.fit_from(m, GREY, rng=stream(0, "f")).sample(9, rng=stream(0, "s")).values for m in (plain, copy))
    assert np.array_equal(one, two)


@pytest.mark.parametrize("mix", [Keep(share=0.2), Accumulate()])
@pytest.mark.parametrize("learner", [CASES[0][0], CASES[3][0], CASES[4][0]], ids=["vae", "gan", "conditional"])
def test_they_run_in_a_loop(learner: Any, mix: Any) -> None:
    learner = learner.condition_on(GREY) if hasattr(learner, "condition_on") else learner
    chain = list(run_generations(learner, mix, GREY, n=40, last=2, fresh=None, streams=lambda g, use: stream(0, g, use)))
    assert [len(generation.sample) for generation in chain] == [40, 40, 40]
    assert all(generation.model.fit_report.failure is None for generation in chain if isinstance(learner, Vae))


def _digests() -> list[str]:
    data = images(np.random.default_rng(0).random((64, 9, 9)), (0.0, 1.0))
    training = Training(epochs=2)
    learners = (Vae(latents=2, width=4, network="conv", training=training), Gan(latents=2, width=4, training=training))
    samples = [learner.fit(data, rng=stream(0, "fit")).sample(50, rng=stream(0, "s")) for learner in learners]
    return [hashlib.sha256(sample.values.tobytes()).hexdigest() for sample in samples]


def test_another_process_gives_the_same_bits() -> None:
    script = f"import runpy; print(*runpy.run_path({__file__!r})['_digests']())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == _digests()


def test_the_catalog_makes_and_describes_them() -> None:
    vae = create_learner({"kind": "vae", "latents": 5, "training": {"epochs": 3}})
    assert vae == Vae(latents=5, training=replace(Vae().training, epochs=3))  # the rest as in the family's own default
    gan = create_learner({"kind": "gan", "conditional": True, "training": {"device": "cpu"}})
    assert gan == Gan(conditional=True, training=replace(Gan().training, device="cpu"))
    for learner in (vae, gan):
        assert create_learner(describe(learner)) == learner
    assert choose_metric("latent_std", {"limit": 100}).metric == LatentStd(limit=100)


def test_latent_std_keeps_the_contract() -> None:
    case = standard_case(Kind.IMAGES)
    base = SimpleNamespace(encode=lambda batch: batch.flat[:, :3])
    check_metric(LatentStd(), dataclasses.replace(case, observation=dataclasses.replace(case.observation, base=base)))
