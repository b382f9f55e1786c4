"""Generator and critic play, and what goes wrong with the game is said."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'neural'")

from studbook.arrays import Batch, images, text  # noqa: E402
from studbook.errors import CheckpointError, ConfigError, FitError  # noqa: E402
from studbook.learners import Gan, GanModel  # noqa: E402
from studbook.neural.convolutional import SpectralConv  # noqa: E402
from studbook.neural.gan import DEAD_LOSS, MIN_LONG, _Watch  # noqa: E402
from studbook.neural.options import Training  # noqa: E402
from studbook.rng import stream  # noqa: E402

QUICK = replace(Gan().training, epochs=2, batch=32)
SMALL = Gan(latents=4, width=4, training=QUICK)
NOISE = np.random.default_rng(0)


def bars(n: int = 240) -> Batch:
    """Pictures of 8 × 8 pixels with a bright row (class 3), column (class 5) or both (class 7), in random order, a little noisy."""
    labels = np.repeat([3, 5, 7], n // 3)[np.random.default_rng(1).permutation(n)]
    values = 0.1 * np.random.default_rng(2).random((n, 8, 8))
    values[labels != 5, 2:4, :] += 0.8
    values[labels != 3, :, 4:6] = 0.9
    return images(values, (0.0, 1.0), labels)


def pictures(*shape: int, n: int = 40) -> Batch:
    return images(NOISE.uniform(0.0, 255.0, (n, *shape)), (0.0, 255.0), np.arange(n) % 2)


@cache
def trained() -> GanModel:
    learner = Gan(latents=4, width=8, conditional=True, average=0.95, training=replace(QUICK, epochs=30, rate=3e-3))
    return learner.condition_on(bars()).fit(bars(), rng=stream(0, "fit"))


def test_it_learns_each_class() -> None:
    model = trained()
    assert model.fit_report.failure is None and model.fit_report.steps == 30 * 8
    sample = model.sample(300, rng=stream(0, "s"))
    assert sample.labels is not None
    for label, row, column in ((3, True, False), (5, False, True), (7, True, True)):
        mean = sample.values[sample.labels == label].mean(axis=0)
        assert (mean[2:4, :4].mean() > 0.5) == row
        assert (mean[4:, 4:6].mean() > 0.5) == column
        assert mean[0, 0] < 0.3


def test_labels_come_by_their_shares_of_the_weight() -> None:
    batch = bars()
    assert batch.labels is not None
    weighted = replace(batch, weights=np.where(batch.labels == 5, 8.0, 1.0))
    learner = replace(SMALL, conditional=True).condition_on(batch)
    assert learner.classes == (3, 5, 7)
    model = learner.fit(weighted, rng=stream(0, "fit"))
    assert model.shares.tolist() == pytest.approx([0.1, 0.8, 0.1])
    labels = model.sample(2000, rng=stream(0, "s")).labels
    assert labels is not None
    assert abs(np.mean(labels == 5) - 0.8) < 6 * np.sqrt(0.16 / 2000)
    assert np.abs(np.corrcoef(labels[1:], labels[:-1])[0, 1]) < 6 / np.sqrt(2000)


def test_a_lost_class_stays_known() -> None:
    batch = bars()
    assert batch.labels is not None
    learner = replace(SMALL, conditional=True).condition_on(batch)
    rest = batch.take(np.flatnonzero(batch.labels != 7))
    model = learner.fit(rest, rng=stream(0, "fit"))
    assert model.classes == (3, 5, 7) and model.shares.tolist() == [0.5, 0.5, 0.0]
    assert set(np.unique(model.sample(200, rng=stream(0, "s")).labels)) == {3, 5}
    with pytest.raises(FitError, match=r"a label that isn't among the classes \[3, 5\]"):
        replace(SMALL, conditional=True, classes=(3, 5)).fit(batch, rng=stream(0, "f"))


def test_unconditional_samples_have_no_labels() -> None:
    assert SMALL.condition_on(bars()).fit(bars(), rng=stream(0, "f")).sample(5, rng=stream(0, "s")).labels is None


def test_weights_count() -> None:
    values = np.concatenate([np.full((96, 4, 4), 0.1), np.full((96, 4, 4), 0.9)]) + 0.02 * NOISE.random((192, 4, 4))
    learner = Gan(latents=2, width=4, average=0.9, training=replace(QUICK, epochs=12, rate=4e-3))
    means = []
    for heavy in (0, 1):
        weights = np.where(np.arange(192) // 96 == heavy, 1.0, 0.001)
        model = learner.fit(replace(images(values, (0.0, 1.0)), weights=weights), rng=stream(0, "fit"))
        means.append(model.sample(200, rng=stream(0, "s")).values.mean())
    assert means[0] < 0.35 and means[1] > 0.65


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("shape", [(8, 8), (28, 28), (64, 64), (8, 8, 3), (11, 5), (1, 2)])
def test_any_size_of_picture(shape: tuple[int, ...], conditional: bool) -> None:
    learner = replace(SMALL, conditional=conditional, training=replace(QUICK, epochs=1))
    sample = learner.fit(pictures(*shape), rng=stream(0, "fit")).sample(3, rng=stream(0, "s"))
    assert sample.values.shape == (3, *shape)
    assert sample.values.min() >= 0.0 and sample.values.max() <= 255.0


def test_a_spectral_convolution_has_slope_one() -> None:
    torch.manual_seed(0)
    layer = SpectralConv(3, 8)
    x = torch.randn(2, 3, 7, 7)
    for _ in range(30):
        layer(x)
    weight = layer.convolution.weight
    largest = torch.linalg.matrix_norm(weight.flatten(1), 2)
    expected = torch.nn.functional.conv2d(x, weight / largest, layer.convolution.bias, padding=1)
    assert torch.allclose(layer.eval()(x), expected, rtol=1e-3, atol=1e-3)
    with torch.no_grad():
        layer.convolution.weight *= 100.0
    assert torch.allclose(layer(x), expected, rtol=1e-3, atol=1e-3)


def test_a_warm_start_starts_from_the_given_weights() -> None:
    start = trained()
    still = replace(start.learner, average=0.0, training=replace(QUICK, epochs=1, rate=1e-12))
    model = still.fit_from(start, bars(), rng=stream(0, "other"))
    first, second = (m.sample(20, rng=stream(0, "s")).values for m in (start, model))
    assert np.abs(first - second).max() < 1e-4
    critics = (m.critic.score.weight for m in (start, model))
    assert torch.allclose(*critics, atol=1e-6)
    with pytest.raises(FitError, match=r"knows the classes \[3, 5, 7\], the data hold \[0, 1\]"):
        replace(still, classes=()).fit_from(start, pictures(8, 8), rng=stream(0, "f"))
    with pytest.raises(FitError, match=r"makes pictures of \(8, 8\), the data hold \(4, 4\)"):
        replace(still, classes=()).fit_from(start, pictures(4, 4), rng=stream(0, "f"))
    with pytest.raises(CheckpointError, match="the model to start from is of another architecture"):
        replace(still, width=4).fit_from(start, bars(), rng=stream(0, "f"))


def test_stored_models_sample_the_same_bits(tmp_path: Path) -> None:
    model, space = trained(), bars().space
    model.save(tmp_path / "gan")
    for learner in (model.learner, replace(model.learner, classes=())):
        again = learner.load(tmp_path / "gan", space)
        first, second = (m.sample(50, rng=stream(0, "s")) for m in (model, again))
        assert np.array_equal(first.values, second.values) and np.array_equal(first.labels, second.labels)
        assert again.fit_report == model.fit_report and again.classes == (3, 5, 7)
    one, two = (model.learner.fit_from(m, bars(), rng=stream(0, "next")).sample(9, rng=stream(0, "s")).values for m in (model, again))
    assert np.array_equal(one, two)
    based = replace(model.learner, training=replace(model.learner.training, base=str(tmp_path / "gan")))
    assert based.own_base(space) is not None and model.learner.own_base(space) is None


def test_checkpoints_that_do_not_fit(tmp_path: Path) -> None:
    model, space = trained(), bars().space
    model.save(tmp_path)
    for other, message in (
        (replace(model.learner, width=4), "its base is 8, expected 4"),
        (replace(model.learner, latents=5), "its latents is 4, expected 5"),
        (replace(model.learner, classes=(), conditional=False), "but learner.conditional is false"),
        (replace(model.learner, classes=(3, 5)), r"knows the classes \[3, 5, 7\], expected \[3, 5\]"),
    ):
        with pytest.raises(CheckpointError, match=message):
            other.load(tmp_path, space)
    with pytest.raises(CheckpointError, match="its height is 8, expected 4"):
        model.learner.load(tmp_path, pictures(4, 4).space)


@pytest.mark.parametrize("harm", ["tampered", "truncated", "pickle", "shares", "classes", "fit", "design"])
def test_damaged_checkpoints(harm: str, tmp_path: Path) -> None:
    from studbook.neural import checkpoints

    model, space = trained(), bars().space
    model.save(tmp_path)
    file = tmp_path / "model.safetensors"
    if harm in {"tampered", "truncated", "pickle"}:
        data = bytearray(file.read_bytes())
        data[-3] ^= 1
        file.write_bytes(data[:-100] if harm == "truncated" else b"\x80\x04N." if harm == "pickle" else bytes(data))
    else:
        # Forged with a valid digest.
        tensors, about = checkpoints.load_checkpoint(tmp_path, "gan")
        changes = {"shares": {}, "classes": {"classes": [3, "x", 7]}, "fit": {"fit": {"steps": []}}, "design": {"design": [8, 8]}}
        if harm == "shares":
            tensors["shares"] = torch.tensor([0.5, -1.0, float("nan")])
        checkpoints.save_checkpoint(tmp_path, "gan", tensors, {**about, **changes[harm]})
    with pytest.raises(CheckpointError):
        model.learner.load(tmp_path, space)


def test_a_diverged_training_is_reported_and_still_samples(tmp_path: Path) -> None:
    wild = replace(SMALL, training=Training(epochs=3, batch=32, rate=1e30, warmup=0.0, clip=0.0))
    model = wild.fit(bars(), rng=stream(0, "fit"))
    assert model.fit_report.failure is not None and "loss was" in model.fit_report.failure
    sample = model.sample(20, rng=stream(0, "s"))
    assert np.isfinite(sample.values).all()
    model.save(tmp_path / "failed")
    assert wild.load(tmp_path / "failed", sample.space).fit_report.failure == model.fit_report.failure
    wild.fit(sample, rng=stream(0, "next"))
    mended = replace(SMALL, training=replace(QUICK, rate=1e-4)).fit_from(model, bars(), rng=stream(0, "next"))
    assert "loss was" not in (mended.fit_report.failure or "")


def test_a_dead_critic_is_reported() -> None:
    """A generator that can't move against a critic that can: soon the critic has nothing left to learn."""
    values = np.concatenate([np.zeros((48, 6, 6)), np.ones((48, 6, 6))])
    learner = Gan(latents=2, width=8, critic_steps=90, training=replace(QUICK, epochs=40, batch=32, rate=1e-2))
    model = learner.fit(images(values, (0.0, 1.0)), rng=stream(0, "fit"))
    assert model.fit_report.failure is not None
    assert model.fit_report.failure.startswith("the critic is dead: its hinge loss was below 0.01 in its last")
    assert np.isfinite(model.sample(5, rng=stream(0, "s")).values).all()


def test_what_counts_as_dead() -> None:
    def verdict(*runs: tuple[int, float, float]) -> str | None:
        watch = _Watch()
        for n, loss, spread in runs:
            for _ in range(n):
                watch.see(loss, spread)
        return watch.verdict()

    assert verdict((100, 1.3, 0.5)) is None
    assert verdict((MIN_LONG, DEAD_LOSS / 2, 1.0)) == f"the critic is dead: its hinge loss was below 0.01 in its last {MIN_LONG} steps"
    assert verdict((MIN_LONG - 1, 0.0, 1.0)) is None
    assert verdict((300, 0.0, 1.0), (1, 0.5, 1.0)) is None  # it came back
    assert verdict((300, 1.0, 1.0), (50, 0.0, 1.0)) is None  # not for long
    assert verdict((50, 1.0, 1.0), (50, 2.0, 1e-9)) == "the critic is dead: it gave every picture the same score in its last 50 steps"
    assert verdict((100, 2.0, 0.3)) is None  # the even game


def test_a_constant_generator_is_reported() -> None:
    """Its last layer is so far out that every pixel is white; a rate of nearly 0 leaves it there."""
    start = SMALL.fit(bars(), rng=stream(0, "fit"))
    with torch.no_grad():
        start.generator.body.final.bias.fill_(30.0)
    model = replace(SMALL, training=replace(QUICK, rate=1e-9)).fit_from(start, bars(), rng=stream(0, "next"))
    assert model.fit_report.failure is not None
    assert model.fit_report.failure.startswith("the generator collapsed to one picture: a spread of ")


def test_a_generator_without_a_turn_is_reported() -> None:
    model = replace(SMALL, critic_steps=1000).fit(bars(), rng=stream(0, "fit"))
    expected = "the generator took no step: the critic took 16, the generator's turn comes after 1000"
    assert model.fit_report.failure == expected


def test_a_collapsed_training_set_is_no_failure() -> None:
    equal = images(np.full((64, 4, 4), 0.5), (0.0, 1.0))
    assert SMALL.fit(equal, rng=stream(0, "fit")).fit_report.failure is None


def test_what_it_refuses() -> None:
    good = pictures(3, 3)
    words = text(np.zeros((4, 2)), ("a", "b"))
    broken = replace(good, values=np.where(np.arange(40)[:, None, None] == 7, np.nan, good.values))
    for batch, message in ((words, "models images, the data hold text"), (broken, "record 7 holds NaN")):
        with pytest.raises(FitError, match=message):
            SMALL.check_original(batch)
        with pytest.raises(FitError, match=message):
            SMALL.fit(batch, rng=stream(0, "fit"))
    with pytest.raises(FitError, match="1 original record, expected 2 or more"):
        SMALL.check_original(good.take(np.array([0])))
    unlabelled = replace(good, labels=None)
    with pytest.raises(FitError, match="a conditional gan needs labels"):
        replace(SMALL, conditional=True).check_original(unlabelled)
    SMALL.check_original(unlabelled)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latents": 0}, "learner.latents is 0"),
        ({"critic_steps": 0}, "learner.critic_steps is 0"),
        ({"average": 1.0}, "learner.average is 1.0"),
        ({"training": Training(optimizer="sgd")}, "learner.training.optimizer is sgd, expected adam or adamw"),
        ({"training": Training(validation=0.1)}, "don't tell when to stop"),
        ({"classes": (1, 2)}, "learner.conditional is false"),
        ({"conditional": True, "classes": (2, 1)}, "different labels, ascending"),
    ],
)
def test_parameters_out_of_range(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Gan(**change)  # type: ignore[arg-type]


def test_mixed_precision_trains() -> None:
    model = replace(SMALL, conditional=True, training=replace(QUICK, dtype="bf16")).fit(bars(), rng=stream(0, "fit"))
    assert np.isfinite(model.sample(5, rng=stream(0, "s")).values).all() and np.isfinite(model.fit_report.loss)
