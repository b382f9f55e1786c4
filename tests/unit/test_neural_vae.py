"""Autoencoders learn, start where they are told to, are stored whole, and report what went wrong."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra 'neural'")

from studbook.arrays import Batch, images, text
from studbook.data import Digits
from studbook.errors import CheckpointError, ConfigError, DataError, FitError, MetricError
from studbook.learners import Vae, VaeModel
from studbook.metrics import LatentStd, Observation, Reference
from studbook.metrics.stderr import mean_stderr
from studbook.neural.options import Training
from studbook.rng import stream

QUICK = replace(Vae().training, epochs=2, batch=32)
SMALL = Vae(latents=3, hidden=16, width=4, training=QUICK)
NOISE = np.random.default_rng(0)


def digits() -> tuple[Batch, Batch]:
    records = Digits().load().records
    assert records is not None
    order = stream(0, "order").permutation(len(records))
    return records.take(order[:1400]), records.take(order[1400:])


def pictures(*shape: int, n: int = 40) -> Batch:
    return images(NOISE.uniform(0.0, 255.0, (n, *shape)), (0.0, 255.0))


@cache
def trained() -> VaeModel:
    learner = Vae(latents=8, hidden=128, training=replace(Vae().training, epochs=25, rate=5e-3))
    return learner.fit(digits()[0], rng=stream(0, "fit"))


def independent_pixels(train: Batch, test: Batch) -> float:
    """Mean log likelihood of the test pictures where each pixel has the training set's mean, in nats."""
    p = np.clip(train.flat.mean(axis=0) / 16.0, 1e-4, 1 - 1e-4)
    x = test.flat / 16.0
    return float((x * np.log(p) + (1 - x) * np.log(1 - p)).sum(axis=1).mean())


def test_it_learns_more_than_independent_pixels() -> None:
    train, test = digits()
    bounds = trained().elbo(test, rng=stream(0, "elbo"), draws=4)
    assert bounds.shape == (len(test),)
    assert bounds.mean() > independent_pixels(train, test) + 1.0


def test_what_it_learns_are_the_pixels_of_one_picture_together() -> None:
    _, test = digits()
    shuffled = replace(test, values=stream(0, "shuffle").permuted(test.values, axis=0))
    real, mixed = (trained().elbo(batch, rng=stream(0, "elbo")).mean() for batch in (test, shuffled))
    assert real > mixed + 3.0


def test_the_bound_is_one() -> None:
    """With one latent the likelihood is an integral that can be done: it is above the bound, and not far."""
    import torch

    train, test = digits()
    model = Vae(latents=1, hidden=32, training=replace(QUICK, epochs=5, rate=1e-2)).fit(train, rng=stream(0, "fit"))
    batch = test.take(np.arange(20))
    grid = torch.linspace(-20, 20, 4001)
    pixels = torch.from_numpy(batch.values / 8.0 - 1.0).float()[:, None]
    with torch.no_grad():
        log_p = torch.stack([-model.network.surprise(p.expand(len(grid), -1, -1, -1), grid[:, None]) for p in pixels])
        mean, log_variance = model.network.encode(pixels)
    log_joint = log_p - 0.5 * grid**2 - 0.5 * np.log(2 * np.pi)
    log_q = -0.5 * (grid - mean) ** 2 / log_variance.exp() - 0.5 * log_variance - 0.5 * np.log(2 * np.pi)
    exact = torch.logsumexp(log_joint, dim=1).numpy() + np.log(40 / 4000)
    bound = (log_q.exp() * (log_joint - log_q)).sum(dim=1).numpy() * (40 / 4000)
    assert (bound < exact).all() and (bound > exact - 5.0).all()
    drawn = np.array([model.elbo(batch, rng=stream(0, "draw", i)).mean() for i in range(200)])
    assert abs(drawn.mean() - bound.mean()) < 5 * mean_stderr(drawn)


@pytest.mark.parametrize("network", ["mlp", "conv"])
@pytest.mark.parametrize("shape", [(8, 8), (28, 28), (64, 64), (8, 8, 3), (11, 5), (1, 2), (9, 33, 3)])
def test_any_size_of_picture(network: str, shape: tuple[int, ...]) -> None:
    batch = pictures(*shape)
    model = replace(SMALL, network=network, training=replace(QUICK, epochs=1)).fit(batch, rng=stream(0, "fit"))
    sample = model.sample(3, rng=stream(0, "sample"))
    assert sample.values.shape == (3, *shape)
    assert sample.values.min() >= 0.0 and sample.values.max() <= 255.0
    assert model.encode(batch).shape == (40, 3)
    assert model.encode(batch.take(np.zeros(0, np.int64))).shape == (0, 3)


def test_drawn_pixels_are_those_of_the_likelihood() -> None:
    train = digits()[0]
    drawn = replace(trained().learner, sample="draw")
    model = VaeModel(drawn, train.space, trained().fit_report, trained().network)
    sample, means = model.sample(2000, rng=stream(0, "s")), trained().sample(2000, rng=stream(0, "s"))
    assert set(np.unique(sample.values)) == {0.0, 16.0}
    assert np.abs(sample.values.mean(axis=0) - means.values.mean(axis=0)).max() < 6 * 8 / np.sqrt(2000) * np.sqrt(2)


def test_a_normal_likelihood_finds_the_noise() -> None:
    pixels = np.clip(0.5 + 0.05 * NOISE.standard_normal((300, 4, 4)), 0, 1)
    learner = replace(SMALL, likelihood="gaussian", training=replace(QUICK, epochs=25, rate=2e-2))
    model = learner.fit(images(pixels, (0.0, 1.0)), rng=stream(0, "fit"))
    scale = float(model.network.bounded_log_scale().exp().detach()) / 2.0  # of pixels from -1 to 1
    assert scale == pytest.approx(0.05, rel=0.2)
    drawn = replace(learner, sample="draw")
    sample = VaeModel(drawn, model.space, model.fit_report, model.network).sample(500, rng=stream(0, "s"))
    assert sample.values.std(axis=0).mean() == pytest.approx(0.05, rel=0.3)


def test_a_large_beta_empties_the_latents() -> None:
    train = digits()[0]
    free, bound = (
        replace(SMALL, beta=beta, training=replace(QUICK, epochs=6, rate=1e-2)).fit(train, rng=stream(0, "fit")).encode(train).std(axis=0)
        for beta in (1.0, 100.0)
    )
    assert free.max() > 0.5
    assert bound.max() < 0.1


def test_weights_count() -> None:
    values = np.concatenate([np.full((100, 3, 3), 0.1), np.full((100, 3, 3), 0.9)])
    learner = replace(SMALL, training=replace(QUICK, epochs=20, rate=2e-2))
    means = []
    for heavy in (0, 1):
        weights = np.where(np.arange(200) // 100 == heavy, 1.0, 0.01)
        batch = replace(images(values, (0.0, 1.0)), weights=weights)
        means.append(learner.fit(batch, rng=stream(0, "fit")).sample(300, rng=stream(0, "s")).values.mean())
    assert means[0] < 0.2 and means[1] > 0.8


def test_a_warm_start_starts_from_the_given_weights() -> None:
    train = digits()[0]
    start = SMALL.fit(train, rng=stream(0, "fit"))
    before = {name: value.clone() for name, value in start.network.state_dict().items()}
    still = replace(SMALL, training=replace(QUICK, epochs=1, rate=1e-12)).fit_from(start, train, rng=stream(0, "other"))
    for name, value in still.network.state_dict().items():
        assert float((value - before[name]).abs().max()) < 1e-6
    onward = SMALL.fit_from(start, train, rng=stream(0, "other"))
    assert onward.fit_report.loss < start.fit_report.loss
    assert all(bool((value == before[name]).all()) for name, value in start.network.state_dict().items())


def test_a_warm_start_needs_a_model_of_the_same_kind() -> None:
    train = digits()[0]
    start = SMALL.fit(train, rng=stream(0, "fit"))
    with pytest.raises(CheckpointError, match=r"the model to start from is of another architecture: .* has shape \(16, 64\), expected"):
        replace(SMALL, hidden=17).fit_from(start, train, rng=stream(0, "f"))
    with pytest.raises(FitError, match=r"makes pictures of \(8, 8\), the data hold \(3, 3\)"):
        SMALL.fit_from(start, pictures(3, 3), rng=stream(0, "f"))


@pytest.mark.parametrize("learner", [SMALL, replace(SMALL, network="conv", likelihood="gaussian", sample="draw")])
def test_stored_models_sample_the_same_bits(learner: Vae, tmp_path: Path) -> None:
    train = digits()[0].take(np.arange(200))
    model = learner.fit(train, rng=stream(0, "fit"))
    model.save(tmp_path / "model")
    again = learner.load(tmp_path / "model", train.space)
    first, second = (m.sample(50, rng=stream(0, "s")).values for m in (model, again))
    assert np.array_equal(first, second)
    assert again.fit_report == model.fit_report
    assert np.array_equal(again.encode(train), model.encode(train))
    based = replace(learner, training=replace(learner.training, base=str(tmp_path / "model")))
    base = based.own_base(train.space)
    assert base is not None and np.array_equal(base.sample(50, rng=stream(0, "s")).values, first)
    assert learner.own_base(train.space) is None


def test_checkpoints_that_do_not_fit(tmp_path: Path) -> None:
    train = digits()[0].take(np.arange(100))
    folder = tmp_path / "model"
    SMALL.fit(train, rng=stream(0, "fit")).save(folder)
    for other in (replace(SMALL, latents=4), replace(SMALL, network="conv"), replace(SMALL, likelihood="gaussian")):
        with pytest.raises(CheckpointError, match=r"another architecture: its (latents|network|hidden|likelihood) is"):
            other.load(folder, train.space)
    with pytest.raises(CheckpointError, match="its height is 8, expected 3"):
        SMALL.load(folder, pictures(3, 3).space)
    with pytest.raises(CheckpointError, match="there is no"):
        SMALL.load(tmp_path / "nowhere", train.space)


@pytest.mark.parametrize("harm", ["tampered", "truncated", "pickle"])
def test_damaged_checkpoints(harm: str, tmp_path: Path) -> None:
    train = digits()[0].take(np.arange(100))
    SMALL.fit(train, rng=stream(0, "fit")).save(tmp_path)
    file = tmp_path / "model.safetensors"
    data = bytearray(file.read_bytes())
    if harm == "tampered":
        data[-3] ^= 1
    file.write_bytes(data[:-100] if harm == "truncated" else b"\x80\x04N." if harm == "pickle" else bytes(data))
    with pytest.raises(CheckpointError):
        SMALL.load(tmp_path, train.space)


@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_a_diverged_training_is_reported_and_still_samples(network: str, tmp_path: Path) -> None:
    train = digits()[0].take(np.arange(300))
    wild = Vae(latents=3, hidden=16, width=4, network=network, training=Training(epochs=3, rate=1e30, warmup=0.0, clip=0.0))
    model = wild.fit(train, rng=stream(0, "fit"))
    assert model.fit_report.failure is not None and "the loss was" in model.fit_report.failure
    sample = model.sample(20, rng=stream(0, "s"))
    assert np.isfinite(sample.values).all()
    model.save(tmp_path / "failed")
    assert wild.load(tmp_path / "failed", train.space).fit_report.failure == model.fit_report.failure
    wild.fit(sample, rng=stream(0, "next"))


def test_what_it_refuses() -> None:
    good = pictures(3, 3)
    words = text(np.zeros((4, 2)), ("a", "b"))
    broken = replace(good, values=np.where(np.arange(40)[:, None, None] == 7, np.nan, good.values))
    bright = replace(good, values=good.values + 50.0)
    for batch, message in (
        (words, "models images, the data hold text"),
        (broken, "record 7 holds NaN"),
        (bright, "a pixel outside 0 … 255"),
    ):
        with pytest.raises(FitError, match=message):
            SMALL.check_original(batch)
        with pytest.raises(FitError, match=message):
            SMALL.fit(batch, rng=stream(0, "fit"))
    with pytest.raises(FitError, match="1 original record, expected 2 or more"):
        SMALL.check_original(good.take(np.array([0])))
    with pytest.raises(FitError, match="every pixel is constant"):
        SMALL.check_original(good.take(np.zeros(9, np.int64)))
    with pytest.raises(DataError, match=r"shape \(2, 2\), the model was fitted to \(3, 3\)"):
        SMALL.fit(good, rng=stream(0, "fit")).encode(pictures(2, 2))
    with pytest.raises(ConfigError, match="n is -1"):
        SMALL.fit(good, rng=stream(0, "fit")).sample(-1, rng=stream(0, "s"))


@pytest.mark.parametrize(
    "change", [{"latents": 0}, {"hidden": 0}, {"width": 10**6}, {"beta": float("nan")}, {"network": "unet"}, {"sample": "mode"}]
)
def test_parameters_out_of_range(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"learner.{next(iter(change))} is"):
        Vae(**change)  # type: ignore[arg-type]


def test_one_record_and_mixed_precision_train() -> None:
    alone = pictures(3, 3, n=1)
    assert SMALL.fit(alone, rng=stream(0, "fit")).fit_report.failure is None
    half = replace(SMALL, network="conv", training=replace(QUICK, dtype="bf16"))
    model = half.fit(pictures(9, 9), rng=stream(0, "fit"))
    assert np.isfinite(model.sample(5, rng=stream(0, "s")).values).all() and np.isfinite(model.fit_report.loss)


def test_early_stop_takes_the_best_weights() -> None:
    train = digits()[0].take(np.arange(200))
    options = replace(QUICK, epochs=200, rate=2e-2, validation=0.3, patience=3, schedule="constant")
    report = replace(SMALL, hidden=64, training=options).fit(train, rng=stream(0, "fit")).fit_report
    assert report.stopped_early and report.epochs < 200 and report.validation is not None


def measure(sample: Batch, base: object) -> tuple[float, float]:
    found = LatentStd().measure(Reference(sample, None), Observation(sample, sample, base, base), rng=stream(0, "m"))[0]
    return found.value, float(found.stderr or 0.0)


def test_latent_std_is_that_of_the_encoder() -> None:
    _, test = digits()
    value, stderr = measure(test, trained())
    latents = trained().encode(test)
    assert value == pytest.approx(np.sqrt(latents.var(axis=0, ddof=1).mean()))
    assert 0.3 < value < 1.3 and 0.0 < stderr < 0.05
    half, _ = measure(test, SimpleNamespace(encode=lambda batch: 0.5 * trained().encode(batch) + 7.0))
    assert half == pytest.approx(0.5 * value)


def test_latent_std_has_an_honest_error() -> None:
    rng = stream(0, "many")
    base = SimpleNamespace(encode=lambda batch: batch.flat)
    found = np.array([measure(images(rng.standard_normal((200, 2, 2)) * [[1.0, 3.0], [2.0, 0.0]], (-9.0, 9.0)), base) for _ in range(300)])
    spread = found[:, 0].std(ddof=1)
    assert found[:, 1].mean() == pytest.approx(spread, rel=0.15)
    assert abs(found[:, 0].mean() - np.sqrt(14 / 4)) < 5 * mean_stderr(found[:, 0]) + 0.01


def test_latent_std_of_little_and_of_no_encoder() -> None:
    base = SimpleNamespace(encode=lambda batch: batch.flat)
    one = pictures(2, 2, n=1)
    assert measure(one, base) == (0.0, float("inf"))
    assert measure(one.take(np.zeros(5, np.int64)), base) == (0.0, 0.0)
    with pytest.raises(MetricError, match="generation 0's object has none"):
        measure(one, object())
    with pytest.raises(MetricError, match="NaN"):
        measure(one, SimpleNamespace(encode=lambda batch: batch.flat * np.nan))
    with pytest.raises(MetricError, match="record 0"):
        measure(replace(one, values=one.values * np.inf), base)
