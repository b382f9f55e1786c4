"""Diagnoses: a baseline is the learner's own training, changes are what they say, growth is fitted, bad input is refused."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import numpy as np
import pytest

from studbook.data import open_source
from studbook.errors import ConfigError, FitError, MissingExtraError, RecordError
from studbook.execution import LocalExecutor
from studbook.learners import CausalLM, Diffusion, Gan, Gaussian, Gpt, Vae
from studbook.neural.options import Training
from studbook.protocols.diagnose import diagnose, looks_of, prepare_diagnosis
from studbook.protocols.diagnose_growth import Mean, fastest, geometric_mean, growth_of, kind_of, pace_of
from studbook.protocols.diagnose_networks import distance
from studbook.protocols.diagnose_records import Diagnosis, Examined, Subject
from studbook.protocols.diagnose_sources import SOURCES, Setting, changes_of, check_learner
from studbook.protocols.diagnose_training import Task, count_steps, train_task
from studbook.records.codec import from_plain, to_plain
from studbook.rng import stream

pytest.importorskip("torch")

SHORT = Training(epochs=2, batch=32, rate=2e-3, validation=0.1)
LOOKS = (0, 1, 2, 4, 5, 6, 8)


@pytest.fixture(scope="module")
def digits():
    return open_source("digits").load().records.take(np.arange(160))


@pytest.fixture(scope="module")
def prose():
    return open_source("python-docs", vocabulary=200).load().records.take(np.arange(60))


def learners():
    text = replace(SHORT, batch=8)
    return {
        "diffusion": Diffusion(width=16, depth=1, sampling_steps=5, training=SHORT),
        "conditional": Diffusion(width=16, depth=1, sampling_steps=5, conditional=True, training=SHORT),
        "unet": Diffusion(network="unet", width=8, depth=1, sampling_steps=5, training=SHORT),
        "vae": Vae(latents=4, hidden=16, training=SHORT),
        "conv": Vae(latents=4, network="conv", width=4, training=SHORT),
        "gpt": Gpt(layers=1, width=16, heads=2, training=text),
        "causal_lm": CausalLM("llama-tiny", layers=1, width=16, heads=2, training=text),
    }


@pytest.fixture(params=sorted(learners()))
def subject(request, digits, prose):
    learner = learners()[request.param]
    return learner, prose if isinstance(learner, Gpt | CausalLM) else digits


def trained(learner, data, setting=None, looks=LOOKS, reload_at=4):
    return train_task(Task(learner, data, setting or Setting(), 7, 0, looks, reload_at))


def test_the_baseline_is_the_learners_own_training(subject):
    learner, data = subject
    if isinstance(learner, Diffusion):  # what it keeps is the average of the weights: without one, the weights themselves
        learner = replace(learner, average=0.0)
    if isinstance(learner, Vae):  # measuring its validation loss draws noise, which a diagnosis doesn't
        learner = replace(learner, training=replace(SHORT, validation=0.0))
    n = count_steps(learner, len(data))
    trace = trained(learner, data, looks=(0, n))
    model = learner.fit(data, rng=stream(7, "diagnose", 0))
    state = (model.network.module if isinstance(learner, CausalLM) else model.network).state_dict()
    flat = np.concatenate([state[name].numpy().ravel() for name in sorted(state)])
    assert model.fit_report.steps == n
    assert (trace.weights[-1] == flat).all()


def test_looking_changes_nothing(subject):
    learner, data = subject
    few, many = trained(learner, data, looks=(0, 8)), trained(learner, data, looks=tuple(range(9)))
    assert few.digests == many.digests
    assert (few.outputs[-1] == many.outputs[-1]).all()
    assert few.losses[-1] == many.losses[-1]


@pytest.mark.parametrize("name", ["diffusion", "unet", "vae", "conv", "gpt", pytest.param("causal_lm", marks=pytest.mark.slow)])
def test_every_change_differs_where_it_should(name, digits, prose):
    learner, data = learners()[name], prose if name in ("gpt", "causal_lm") else digits
    sources = SOURCES if name == "vae" else tuple(source for source in SOURCES if source != "threads")
    base = trained(learner, data)
    convolutional = name in ("unet", "conv")
    for change in changes_of(learner, sources):
        trace = trained(learner, data, replace(change.setting, workers=0))
        first = next((i for i, pair in enumerate(zip(trace.digests, base.digests, strict=True)) if pair[0] != pair[1]), None)
        drift = np.linalg.norm(trace.weights[-1] - base.weights[-1]) / np.linalg.norm(base.weights[-1])
        expected = {"again": None, "seed": 0, "noise": 1, "order": 1, "workers": None}
        if change.source in expected:
            assert first == expected[change.source], change
        if change.source == "reload":
            assert first == (None if change.setting.reload == "whole" else 5), change
        if change.source in ("threads", "split", "engine") and not change.setting.own_noise:
            assert drift < 1e-4, change
        if change.setting.engine == "no-onednn":  # which computes convolutions, and nothing else here
            assert (first is not None) == convolutional, change
        if change.setting.own_noise:  # a vae's parts draw one after the other what the whole would have drawn
            assert drift > 1e-3 or isinstance(learner, Vae), change
        if change.source == "dtype":
            assert first == 1 and drift < 0.05, change


def test_a_checkpoint_without_the_optimiser_moves_outputs_and_a_whole_one_does_not(digits):
    learner = learners()["diffusion"]
    base, whole = trained(learner, digits), trained(learner, digits, Setting(reload="whole"))
    assert (base.outputs == whole.outputs).all()
    assert (base.losses == whole.losses).all()
    assert (base.training_losses == trained(learner, digits, Setting(reload="whole")).training_losses).all()


def test_the_parts_of_a_batch_have_the_gradient_of_the_whole(subject):
    """Dropout apart, the sum over two parts differs from the whole batch's by rounding: the last windows are shorter, too."""
    learner, data = subject
    one, other = trained(learner, data, looks=(0, 1)), trained(learner, data, Setting(parts=3), looks=(0, 1))
    moved = np.linalg.norm(one.weights[1] - one.weights[0])
    assert moved > 0
    assert np.linalg.norm(one.weights[1] - other.weights[1]) < 1e-3 * moved


def test_changes_follow_the_learner():
    noisy = {change.changed for change in changes_of(Gpt(dropout=0.1), SOURCES)}
    assert "other noise in the loss" in noisy
    assert "2 micro-batches" not in noisy
    assert "transformers' implementation" not in noisy
    bf16 = changes_of(Gpt(training=Training(dtype="bf16", threads=3)), ("dtype", "threads", "engine"))
    assert [(change.baseline, change.changed) for change in bf16[:2]] == [("3 threads", "1 thread"), ("bf16", "fp32")]
    assert bf16[0].remedy == "learner.training.threads = 3"
    assert all(change.setting.engine != "torch-attention" for change in bf16)
    assert not any(change.setting.engine == "loop-adam" for change in changes_of(Vae(training=Training(optimizer="sgd")), ("engine",)))


def test_a_diagnosis_names_kinds_and_goes_through_its_codec(digits):
    learner = learners()["vae"]
    asked = Examined(sources=("again", "seed", "order", "split", "reload"), steps=8, repeats=2)
    prepared = prepare_diagnosis(Subject("vae", learner, digits, "digits"), asked)
    found = diagnose(prepared, LocalExecutor())
    kinds = {drift.changed: drift.kind for drift in found.drifts}
    assert kinds["the same training again"] == kinds["checkpoint of everything"] == "bit-exact"
    assert kinds["other initial weights"] == kinds["other order of the records"] == "different run"
    assert kinds["checkpoint without the optimiser"] == kinds["checkpoint without the random state"] == "different run"
    assert kinds["2 micro-batches"] in ("rounding", "bit-exact")
    order = next(drift for drift in found.drifts if drift.source == "order")
    assert order.pace == Mean(1.0, 1.0, 1.0)
    assert order.remedy == "study.seed"
    assert order.growth is not None and order.growth.rate.value > 0.0
    assert from_plain(Diagnosis, to_plain(found), "a diagnosis") == found
    with pytest.raises(RecordError):
        from_plain(Diagnosis, {**to_plain(found), "looks": "no"}, "a diagnosis")
    again = diagnose(prepared, LocalExecutor())
    assert replace(again, cpu_s=0.0) == replace(found, cpu_s=0.0)


def test_steps_end_with_the_training(prose):
    learner = Gpt(layers=1, width=16, heads=2, training=Training(epochs=1, batch=8))
    prepared = prepare_diagnosis(Subject("gpt", learner, prose), Examined(steps=1000, sources=("again",)))
    assert (prepared.examined.steps, prepared.looks[-1]) == (8, 8)


@pytest.mark.parametrize("steps", [4, 5, 7, 64, 100, 1023])
def test_looks_hold_the_ends_and_both_sides_of_the_checkpoint(steps):
    looks, half = looks_of(steps)
    assert looks == tuple(sorted(set(looks)))
    assert {0, 1, 2, 4, half, half + 1, steps} <= set(looks)
    assert looks[-1] == steps
    assert len(looks) < 2 * steps.bit_length() + 3


def test_growth_tells_a_power_from_an_exponential():
    steps = (0, 1, 2, 4, 8, 16, 32)
    power = np.array([[0.0, *(c * s**1.5 for s in steps[1:])] for c in (1e-8, 3e-8)])
    found = growth_of(steps, power, (1, 1), 0.95)
    assert (found.shape, round(found.rate.value, 6), found.repeats) == ("power", 1.5, 2)
    explosive = np.array([[0.0, *(c * 2.0 ** (s / 4) for s in steps[1:])] for c in (1e-8, 3e-8)])
    found = growth_of(steps, explosive, (1, 1), 0.95)
    assert (found.shape, round(found.doubles_after, 6)) == ("exponential", 4.0)
    flat = np.array([[0.0, 1.0, 1.1, 0.9, 1.0, 1.1, 0.9], [0.0, 1.0, 0.9, 1.1, 1.0, 0.9, 1.1]])
    assert growth_of(steps, flat, (1, 1), 0.95).doubles_after is None
    assert growth_of(steps, power, (1, None), 0.95) is None
    assert growth_of(steps, power * 0.0, (None, None), 0.95) is None
    late = np.array([[0, 0, 0, 0, 0, 1e-3, 2e-3]] * 3)
    assert growth_of(steps, late, (16, 16, 16), 0.95) is None


def test_kinds():
    assert kind_of((None, None), Mean(0.0, 0.0, 0.0)) == "bit-exact"
    assert kind_of((None, 3), Mean(1e-6, 0.0, 1.0)) == "rounding"
    assert kind_of((1, 1), Mean(0.6, 0.1, 3.0)) == "different run"
    assert kind_of((0, 0), Mean(0.0, 0.0, 0.0)) == "different run"
    assert geometric_mean([0.0, 0.0], 0.95) == Mean(0.0, 0.0, 0.0)
    assert geometric_mean([1e-300, 1e300], 0.95).high < float("inf")
    assert fastest(pace_of(np.array([0.0, 1.0, 3.0]), np.array([2.0, 2.0])), np.array([1.0, 0.5])) == 2.0


def test_distances_of_outputs():
    assert distance(np.array([[0, 255]], np.uint8), np.array([[0, 15]], np.uint8)) == 0.25
    assert distance(np.array([[1, 2, 3, 4]], np.int32), np.array([[1, 2, 9, 4]], np.int32)) == 0.25


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Examined(repeats=1), "1 repeats, expected 2 to"),
        (lambda: Examined(steps=3), "3 steps, expected 4 to"),
        (lambda: Examined(confidence=1.0), "confidence is 1.0"),
        (lambda: Examined(seed=-1), "seed is -1"),
        (lambda: Examined(sources=("thread",)), "no source 'thread'.*did you mean threads"),
        (lambda: Examined(sources=("moon",)), "no source 'moon'.*known are again, seed"),
        (lambda: check_learner(Gaussian()), "Gaussian takes no gradient steps"),
        (lambda: check_learner(Gan()), "Gan trains two networks"),
    ],
)
def test_bad_requests_are_refused(make, said):
    with pytest.raises(ConfigError, match=said):
        make()


def test_bad_subjects_are_refused_before_any_step(digits, prose):
    vae = Vae(latents=2, hidden=8, training=Training(epochs=1, batch=64))
    with pytest.raises(ConfigError, match="has 3 steps, expected 4"):
        prepare_diagnosis(Subject("vae", vae, digits), Examined())
    with pytest.raises(FitError, match="vae models images, the data hold text"):
        prepare_diagnosis(Subject("vae", Vae(), prose), Examined())
    with pytest.raises(ConfigError, match=r"would take .* GiB"):
        prepare_diagnosis(Subject("vae", Vae(hidden=2000, training=Training(epochs=50, batch=8)), digits), Examined(repeats=500))
    with pytest.raises(ConfigError, match="none of the sources noise"):
        prepare_diagnosis(Subject("gpt", Gpt(layers=1, width=8, heads=1), prose), Examined(sources=("noise",)))
    with pytest.raises(ConfigError, match="trains from random weights"):
        prepare_diagnosis(Subject("vae", Vae(training=Training(base="somewhere")), digits), Examined())


def test_a_loss_that_is_not_finite_ends_it(digits):
    wild = Vae(latents=2, hidden=8, likelihood="gaussian", training=Training(epochs=5, batch=32, rate=1e38, clip=0.0, optimizer="sgd"))
    with pytest.raises(FitError, match=r"the loss was (nan|inf|-inf) in step"):
        trained(wild, digits, looks=(0, 8))


def test_without_torch_the_extra_is_named(digits, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "torch" else real(name, *rest))
    with pytest.raises(MissingExtraError, match=r"studbook\[neural\]"):
        prepare_diagnosis(Subject("vae", Vae(), digits), Examined())
