"""Schedules, sampler, guidance and networks of the diffusion family, and the learner around them."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from studbook.arrays import Batch, images, numbers
from studbook.data import open_source
from studbook.errors import CheckpointError, ConfigError, FitError
from studbook.learners.diffusion import Diffusion
from studbook.neural.denoisers import Blueprint
from studbook.neural.diffusion import (
    Noising,
    Objective,
    Sampling,
    denoising_loss,
    draw_levels,
    guided,
    sample_ddim,
    sampling_levels,
    split_noisy,
    target_of,
)
from studbook.neural.images import Pictures
from studbook.neural.options import Training

CPU = torch.device("cpu")
TINY = Diffusion(width=16, depth=1, steps=50, sampling_steps=5, training=Training(epochs=2, batch=32, rate=3e-3))
SMALL_UNET = dataclasses.replace(TINY, network="unet", width=8)
LABELLED = dataclasses.replace(TINY, conditional=True)


@pytest.fixture(scope="module")
def threes() -> Batch:
    records = open_source("digits", classes=(3,)).load().records
    assert records is not None
    return records


@pytest.fixture(scope="module")
def squares() -> Batch:
    rng = np.random.default_rng(1)
    labels = np.arange(80) % 2
    return images(np.clip(rng.normal(0.2 + 0.6 * labels[:, None, None], 0.1, (80, 4, 4)), 0, 1), (0.0, 1.0), labels * 5 + 2)


def gaussian_denoiser(noising: Noising, mean: float, std: float, target: str):
    """The best possible prediction for pixels drawn from N(mean, std²)."""

    def predict(noisy: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
        kept = noising.kept[(share * len(noising)).round().long()][:, None, None, None]
        noise = (1 - kept).sqrt() * (noisy - kept.sqrt() * mean) / (kept * std**2 + 1 - kept)
        if target == "noise":
            return noise
        clean = (noisy - (1 - kept).sqrt() * noise) / kept.sqrt()
        return kept.sqrt() * noise - (1 - kept).sqrt() * clean

    return predict


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("steps", [1, 10, 1000])
def test_schedules_fall_from_picture_to_noise(schedule, steps):
    kept = Noising.of(schedule, steps, CPU).kept
    assert kept.shape == (steps,)
    assert bool((kept > 0).all() and (kept < 1).all() and (kept.diff() < 0).all())
    if steps == 1000:
        assert float(kept[0]) > 0.999 and float(kept[-1]) < 1e-4


def test_linear_schedule_is_the_published_one():
    betas = np.linspace(1e-4, 0.02, 1000)
    np.testing.assert_allclose(Noising.of("linear", 1000, CPU).kept.numpy(), np.cumprod(1 - betas), rtol=1e-5)


def test_cosine_schedule_is_the_published_one():
    def curve(t):
        return np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2

    kept = Noising.of("cosine", 1000, CPU).kept.numpy()
    np.testing.assert_allclose(kept[:900], curve(np.arange(1, 901) / 1000) / curve(0.0), rtol=1e-4)


@pytest.mark.parametrize("target", ["noise", "v"])
def test_targets_say_what_a_picture_is_made_of(target):
    noising, clean, noise = Noising.of("cosine", 100, CPU), torch.rand(7, 1, 3, 3), torch.randn(7, 1, 3, 3)
    scales = noising.scales(torch.arange(7) * 14)
    noisy = scales[0] * clean + scales[1] * noise
    for found, expected in zip(split_noisy(noisy, target_of(clean, noise, scales, target), scales, target), (clean, noise), strict=True):
        assert torch.allclose(found, expected, atol=1e-4)


def test_levels_are_spread_evenly():
    torch.manual_seed(0)
    levels = torch.cat([draw_levels(50, 10, CPU) for _ in range(200)])
    assert torch.bincount(levels, minlength=10).tolist() == [1000] * 10
    assert sorted(set(draw_levels(10, 10, CPU).tolist())) == list(range(10))


def test_sampler_visits_first_and_last_level():
    assert sampling_levels(1000, 1) == [999]
    for steps, visited in ((1000, 50), (10, 10), (1, 1)):
        levels = sampling_levels(steps, visited)
        assert levels[0] == steps - 1 and levels == sorted(set(levels), reverse=True) and (visited == 1 or levels[-1] == 0)


@pytest.mark.parametrize("target", ["noise", "v"])
@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_deterministic_sampler_is_the_linear_map_of_theory(target, schedule):
    """For a normal law every step of DDIM multiplies the deviation from the mean by a known factor."""
    mean, std, noising = 0.2, 0.3, Noising.of(schedule, 1000, CPU)
    start = torch.linspace(-3, 3, 7)[:, None, None, None]
    found = sample_ddim(gaussian_denoiser(noising, mean, std, target), start, noising, Sampling(target, 20, clip=False))
    levels = sampling_levels(1000, 20)
    kept = noising.kept.double().numpy()[levels]
    total = kept * std**2 + 1 - kept
    deviation = np.linspace(-3, 3, 7) - np.sqrt(kept[0]) * mean
    for now, after, spread in zip(kept[:-1], kept[1:], total[:-1], strict=True):
        deviation = deviation * (np.sqrt(after * now) * std**2 + np.sqrt((1 - after) * (1 - now))) / spread
    expected = mean + deviation * np.sqrt(kept[-1]) * std**2 / total[-1]
    np.testing.assert_allclose(found.flatten().numpy(), expected, atol=2e-4)


@pytest.mark.parametrize(
    ("steps", "eta", "order", "share"), [(20, 0.0, 1, 0.862), (50, 0.0, 1, 0.944), (20, 0.0, 2, 1.01), (900, 1.0, 1, 0.98)]
)
def test_best_denoiser_gives_back_mean_and_variance(steps, eta, order, share):
    torch.manual_seed(0)
    noising = Noising.of("cosine", 1000, CPU)
    drawn = sample_ddim(
        gaussian_denoiser(noising, 0.2, 0.3, "noise"), torch.randn(5000, 1, 2, 2), noising, Sampling("noise", steps, eta, order)
    )
    assert float(drawn.mean()) == pytest.approx(0.2, abs=0.01)  # 5 standard errors: false alarms 6e-7
    assert float(drawn.var()) / 0.09 == pytest.approx(share, abs=0.05)


def test_what_is_no_number_becomes_grey():
    noising = Noising.of("cosine", 10, CPU)
    drawn = sample_ddim(lambda noisy, share: noisy * torch.nan, torch.randn(3, 1, 2, 2), noising, Sampling("v", 5))
    assert torch.equal(drawn, torch.zeros(3, 1, 2, 2))


class TwoClasses(torch.nn.Module):
    """The best possible denoiser of pixels drawn from N(±.3, .3²), by class; class 2 is "none": the mixture of both."""

    noising = Noising.of("cosine", 1000, CPU)

    def forward(self, noisy, share, classes=None):
        kept = self.noising.kept[(share * 1000).round().long()][:, None, None, None]
        middles = torch.stack([-0.3 * kept.sqrt(), 0.3 * kept.sqrt()])
        away = noisy - middles
        spread = kept * 0.09 + 1 - kept
        pulls = (1 - kept).sqrt() * away / spread
        likely = torch.softmax(-(away**2) / (2 * spread), dim=0)
        if classes is None:
            classes = torch.full((len(noisy),), 2)
        mixed = (likely * pulls).sum(dim=0)
        return torch.where((classes == 2)[:, None, None, None], mixed, pulls[classes.clamp(max=1), torch.arange(len(noisy))])


def test_no_guidance_is_the_conditional_model():
    network, noisy, share, classes = TwoClasses(), torch.randn(6, 1, 1, 1), torch.full((6,), 0.5), torch.tensor([0, 1, 0, 1, 0, 1])
    assert torch.equal(guided(network, classes, 0.0, 2)(noisy, share), network(noisy, share, classes))
    alone, none = network(noisy, share, classes), network(noisy, share, torch.full((6,), 2))
    assert torch.allclose(guided(network, classes, 1.5, 2)(noisy, share), 2.5 * alone - 1.5 * none)


def test_guidance_makes_samples_typical_and_alike():
    torch.manual_seed(0)
    start, classes = torch.randn(2000, 1, 1, 1), torch.arange(2000) % 2
    agreement, spread = [], []
    for weight in (0.0, 2.0):
        predict = guided(TwoClasses(), classes, weight, 2)
        drawn = sample_ddim(predict, start, TwoClasses.noising, Sampling("noise", 50, clip=False)).flatten()
        agreement.append(float(((drawn > 0) == (classes == 1)).float().mean()))
        spread.append(float(drawn[classes == 1].std()))
    assert agreement[0] == pytest.approx(0.84, abs=0.03)  # Φ(1)
    assert agreement[1] > 0.95
    assert spread[1] < 0.85 * spread[0]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [1, 8, 28, 33, 64])
@pytest.mark.parametrize("n_classes", [0, 3])
def test_unet_takes_any_side(channels, side, n_classes):
    plan = Blueprint.for_pictures("unet", (channels, side, side), width=8, depth=0, patch=0, n_classes=n_classes)
    noisy = torch.randn(2, channels, side, side)
    out = plan.build()(noisy, torch.rand(2), torch.tensor([0, 3]) if n_classes else None)
    assert out.shape == noisy.shape
    assert bool((out == 0).all())  # it starts from nothing


@pytest.mark.parametrize(("side", "depth", "patch"), [(8, 2, 1), (28, 3, 1), (33, 2, 3), (5, 1, 4)])
def test_unet_takes_any_depth_and_patch(side, depth, patch):
    plan = Blueprint.for_pictures("unet", (1, side, side + 2), width=6, depth=depth, patch=patch, n_classes=0)
    assert plan.build()(torch.randn(2, 1, side, side + 2), torch.rand(2)).shape == (2, 1, side, side + 2)


def test_small_pictures_get_an_mlp():
    assert Blueprint.for_pictures("auto", (1, 8, 8), width=0, depth=0, patch=0, n_classes=0).architecture == "mlp"
    assert Blueprint.for_pictures("auto", (1, 13, 8), width=0, depth=0, patch=0, n_classes=0).architecture == "unet"


def test_record_weights_weigh_the_loss():
    pixels, objective, noising = torch.randn(2, 1, 4, 4), Objective("noise", 0.9, 0.0, 0), Noising.of("cosine", 10, CPU)
    network = Blueprint.for_pictures("mlp", (1, 4, 4), width=8, depth=1, patch=0, n_classes=0).build()

    def loss(weights):
        torch.manual_seed(0)
        return denoising_loss(network, Pictures(pixels, None, torch.tensor(weights)), torch.arange(2), noising, objective)

    first, second, both = loss([2.0, 0.0]), loss([0.0, 2.0]), loss([1.0, 1.0])
    assert torch.allclose(both, (first + second) / 2)
    assert not torch.allclose(first, second)


def test_loss_falls_on_digits(threes):
    learner = dataclasses.replace(TINY, width=48, sampling_steps=20, training=Training(epochs=10, batch=16, rate=5e-3))
    short = dataclasses.replace(learner, training=Training(epochs=1, batch=16)).fit(threes, rng=np.random.default_rng(0))
    long = learner.fit(threes, rng=np.random.default_rng(0))
    assert long.fit_report.loss < 0.75 * short.fit_report.loss
    assert long.fit_report.failure is None
    drawn = long.sample(100, rng=np.random.default_rng(1)).values
    assert np.corrcoef(drawn.mean(axis=0).ravel(), threes.values.mean(axis=0).ravel())[0, 1] > 0.9
    assert drawn.min() >= 0
    assert drawn.max() <= 16


@pytest.mark.parametrize("predict", ["noise", "v"])
@pytest.mark.parametrize("learner", [TINY, SMALL_UNET, LABELLED], ids=["mlp", "unet", "labelled"])
def test_saved_models_draw_the_same_pictures(learner, predict, squares, tmp_path):
    learner = dataclasses.replace(learner, predict=predict)
    model = learner.fit(squares, rng=np.random.default_rng(0))
    model.save(tmp_path / "model")
    again = learner.load(tmp_path / "model", squares.space)
    first, second = (m.sample(9, rng=np.random.default_rng(1)) for m in (model, again))
    assert np.array_equal(first.values, second.values)
    assert again.fit_report == model.fit_report
    assert again.classes == model.classes
    if learner.conditional:
        assert np.array_equal(first.labels, second.labels)


def test_a_fit_goes_on_from_a_model(squares):
    still = dataclasses.replace(TINY, training=Training(epochs=1, batch=80, rate=1e-12, weight_decay=0.0))
    start = TINY.fit(squares, rng=np.random.default_rng(0))
    before = {name: value.clone() for name, value in start.network.state_dict().items()}
    on = still.fit_from(start, squares, rng=np.random.default_rng(1))
    for name, value in on.network.state_dict().items():
        assert torch.allclose(value, before[name], atol=1e-6), name
    TINY.fit_from(start, squares, rng=np.random.default_rng(1))
    assert all(torch.equal(value, before[name]) for name, value in start.network.state_dict().items())


def test_a_fit_cannot_go_on_from_another_network(squares, threes):
    start = TINY.fit(squares, rng=np.random.default_rng(0))
    with pytest.raises(CheckpointError, match="another architecture"):
        dataclasses.replace(TINY, width=24).fit_from(start, squares, rng=np.random.default_rng(0))
    with pytest.raises(FitError, match="the model to start from makes pictures"):
        TINY.fit_from(start, threes, rng=np.random.default_rng(0))
    other = dataclasses.replace(LABELLED, classes=(2, 7)).fit(squares, rng=np.random.default_rng(0))
    with pytest.raises(CheckpointError, match=r"knows the classes \[2, 7\], expected \[2, 7, 9\]"):
        dataclasses.replace(LABELLED, classes=(2, 7, 9)).fit_from(other, squares, rng=np.random.default_rng(0))


def test_the_average_is_what_is_kept(squares):
    options = Training(epochs=3, batch=16, rate=0.05)
    slow, fast = (
        dataclasses.replace(TINY, average=average, training=options).fit(squares, rng=np.random.default_rng(0)) for average in (0.999, 0.0)
    )
    gap = max(float((a - b).abs().max()) for a, b in zip(slow.network.parameters(), fast.network.parameters(), strict=True))
    assert gap > 1e-3


def test_early_stop_keeps_the_best_average(squares):
    options = Training(epochs=40, batch=16, rate=0.02, validation=0.2, patience=2)
    report = dataclasses.replace(TINY, training=options).fit(squares, rng=np.random.default_rng(0)).fit_report
    assert report.validation is not None and report.stopped_early == (report.epochs < 40)


@pytest.mark.parametrize("learner", [TINY, SMALL_UNET], ids=["mlp", "unet"])
def test_a_fit_that_fails_is_reported(learner, squares):
    broken = dataclasses.replace(learner, training=Training(epochs=3, batch=16, rate=1e30, clip=0.0, warmup=0.0))
    model = broken.fit(squares, rng=np.random.default_rng(0))
    assert model.fit_report.failure is not None and "the loss was" in model.fit_report.failure
    assert np.isfinite(model.sample(3, rng=np.random.default_rng(0)).values).all()


@pytest.mark.parametrize("learner", [TINY, SMALL_UNET, dataclasses.replace(LABELLED, guidance=1.0)], ids=["mlp", "unet", "guided"])
def test_mixed_precision_runs(learner, squares):
    model = dataclasses.replace(learner, training=Training(epochs=1, dtype="bf16")).fit(squares, rng=np.random.default_rng(0))
    assert model.fit_report.failure is None
    assert np.isfinite(model.sample(3, rng=np.random.default_rng(0)).values).all()


def test_generated_records_carry_labels_by_their_shares(squares):
    kept = squares.take(np.flatnonzero(np.arange(80) % 8 < 3))  # twice as many 2s as 7s
    model = LABELLED.condition_on(squares).fit(kept, rng=np.random.default_rng(0))
    assert model.classes == (2, 7)
    np.testing.assert_allclose(model.shares, [2 / 3, 1 / 3])
    labels = model.sample(3000, rng=np.random.default_rng(1)).labels
    assert np.mean(labels == 2) == pytest.approx(2 / 3, abs=0.045)  # 5 standard errors
    heavy = dataclasses.replace(kept, weights=np.where(kept.labels == 7, 4.0, 1.0))
    np.testing.assert_allclose(LABELLED.fit(heavy, rng=np.random.default_rng(0)).shares, [1 / 3, 2 / 3])


def test_a_class_that_died_out_keeps_its_place(squares):
    learner = LABELLED.condition_on(squares)
    model = learner.fit(squares.take(np.flatnonzero(squares.labels == 7)), rng=np.random.default_rng(0))
    assert model.shares.tolist() == [0.0, 1.0]
    assert set(model.sample(20, rng=np.random.default_rng(0)).labels.tolist()) == {7}


def test_labels_that_are_missing_or_unknown_are_refused(squares):
    bare = dataclasses.replace(squares, labels=None)
    for call in (LABELLED.check_original, LABELLED.condition_on, lambda data: LABELLED.fit(data, rng=np.random.default_rng(0))):
        with pytest.raises(FitError, match="needs labels"):
            call(bare)
    with pytest.raises(FitError, match="records 1, 3, 5, 7, 9 and 35 more hold a label that isn't one of 2"):
        dataclasses.replace(LABELLED, classes=(2,)).fit(squares, rng=np.random.default_rng(0))
    assert TINY.condition_on(bare) == TINY


def test_what_are_no_pictures_is_refused():
    with pytest.raises(FitError, match="models images"):
        TINY.check_original(numbers(np.zeros((5, 2))))
    with pytest.raises(FitError, match="every pixel"):
        TINY.check_original(images(np.zeros((5, 2, 2)), (0.0, 1.0)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": -1}, "learner.width is -1"),
        ({"patch": 65}, "learner.patch is 65"),
        ({"steps": 0}, "learner.steps is 0"),
        ({"steps": 10, "sampling_steps": 11}, "learner.sampling_steps is 11"),
        ({"eta": 1.5}, "learner.eta is 1.5"),
        ({"order": 3}, "learner.order is 3"),
        ({"order": 2, "eta": 0.5}, "learner.order is 2"),
        ({"average": 1.0}, "learner.average is 1.0"),
        ({"guidance": -0.5, "conditional": True}, "learner.guidance is -0.5"),
        ({"guidance": float("nan")}, "learner.guidance is nan"),
        ({"guidance": 1.0}, "isn't conditional"),
        ({"guidance": 1.0, "conditional": True, "label_dropout": 0.0}, "label_dropout is 0"),
        ({"classes": (3, 1)}, "ascending"),
        ({"batch": 0}, "learner.batch is 0"),
    ],
)
def test_values_out_of_range_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        Diffusion(**values)


@pytest.fixture
def saved(squares, tmp_path):
    LABELLED.fit(squares, rng=np.random.default_rng(0)).save(tmp_path / "model")
    return tmp_path / "model"


def test_a_checkpoint_of_another_learner_is_refused(saved, squares, threes):
    for change, message in (
        ({"steps": 60}, "its steps is 50, expected 60"),
        ({"predict": "noise"}, "its predict is 'v', expected 'noise'"),
        ({"schedule": "linear"}, "its schedule"),
        ({"width": 24}, "its width is 16, expected 24"),
        ({"classes": (1, 2)}, r"trained on the classes \[2, 7\], expected \[1, 2\]"),
        ({"conditional": False}, "expected none"),
    ):
        with pytest.raises(CheckpointError, match=message):
            dataclasses.replace(LABELLED, **change).load(saved, squares.space)
    with pytest.raises(CheckpointError, match="its shape"):
        LABELLED.load(saved, threes.space)


def _rewrite(folder, change):
    """Change what a checkpoint says about itself; its digest covers the weights alone."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        note = json.loads(opened.metadata()["studbook"])
    change(note["about"])
    save_file(tensors, file, metadata={"studbook": json.dumps(note)})


@pytest.mark.parametrize(
    "change",
    [
        lambda about: about.update(classes=[7, 2]),
        lambda about: about.update(classes=[2, "7"]),
        lambda about: about.update(classes=[2, 2**70]),
        lambda about: about.update(classes={"2": 1}),
        lambda about: about.update(shares=[0.5, 0.6]),
        lambda about: about.update(shares=[-1.0, 2.0]),
        lambda about: about.update(shares=[float("nan"), 0.5]),
        lambda about: about.update(shares=[1.0]),
        lambda about: about.update(fit={"steps": 3}),
        lambda about: about.pop("fit"),
        lambda about: about.pop("design"),
        lambda about: about["design"].update(width=10**9),
    ],
)
def test_checkpoints_that_lie_are_refused(saved, squares, change):
    _rewrite(saved, change)
    with pytest.raises(CheckpointError):
        LABELLED.load(saved, squares.space)


def test_damaged_checkpoints_are_refused(saved, squares):
    file = saved / "model.safetensors"
    whole = file.read_bytes()
    for damaged in (whole[:-10], whole[: len(whole) // 2], b"", whole[:-4] + b"\x00\x01\x02\x03"):
        file.write_bytes(damaged)
        with pytest.raises(CheckpointError):
            LABELLED.load(saved, squares.space)
    with pytest.raises(CheckpointError, match="there is no"):
        LABELLED.load(saved.parent / "nowhere", squares.space)


def test_the_base_that_the_learner_names(squares, tmp_path):
    assert TINY.own_base(squares.space) is None
    model = TINY.fit(squares, rng=np.random.default_rng(0))
    model.save(tmp_path / "base")
    base = dataclasses.replace(TINY, training=Training(base=str(tmp_path / "base"))).own_base(squares.space)
    assert base is not None
    assert all(torch.equal(a, b) for a, b in zip(base.network.parameters(), model.network.parameters(), strict=True))


def test_batches_are_put_together(squares):
    """Pictures of several batches are different ones, whatever their number."""
    model = TINY.fit(squares, rng=np.random.default_rng(0))
    small = dataclasses.replace(model, learner=dataclasses.replace(TINY, batch=7))
    drawn = small.sample(20, rng=np.random.default_rng(0)).flat
    assert len(np.unique(drawn, axis=0)) == 20


def test_colours_come_back_as_colours():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 6, 5, 3)).astype(float)
    data = images(pixels, (0.0, 255.0))
    sample = SMALL_UNET.fit(data, rng=np.random.default_rng(0)).sample(4, rng=np.random.default_rng(0))
    assert sample.space == data.space and sample.values.shape == (4, 6, 5, 3)
