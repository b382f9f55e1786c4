"""Metrics on features: closed forms, small networks trained once, and what is refused."""

from __future__ import annotations

import os

import numpy as np
import pytest

from studbook.arrays import Kind, images, numbers
from studbook.data import ArrayFile, Digits
from studbook.errors import CheckpointError, ConfigError, MetricError
from studbook.metrics import features
from studbook.metrics.classifier import ClassShares
from studbook.metrics.frechet import FrechetDistance, KernelDistance, distance_of_moments, root_of
from studbook.metrics.images import PrecisionRecall
from studbook.metrics.memorisation import Memorisation
from studbook.metrics.protocols import Observation, Reference
from studbook.metrics.recognised import Recognised
from studbook.metrics.vendi import VendiScore, vendi
from studbook.rng import stream
from studbook.testing.metrics import check_metric, standard_case

torch = pytest.importorskip("torch")
classifier = pytest.importorskip("studbook.neural.classifier")
inception = pytest.importorskip("studbook.neural.inception")

ON_POINTS = (FrechetDistance(), KernelDistance(), VendiScore(), Memorisation())


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    """A cache of this file's own, and short trainings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDBOOK_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(classifier, "N_STEPS", 60)
        yield


def measure(metric, reference, sample, training=None):
    observation = Observation(sample, sample if training is None else training, model=None, base=None)
    return {m.metric: m for m in metric.measure(reference, observation, rng=np.random.default_rng(0))}


def shapes(n, rng, *, spread=0.1, labels=None):
    """Pictures of three kinds: a bar across, a bar down, a square."""
    kinds = np.arange(n) % 3 if labels is None else np.asarray(labels)
    pixels = spread * rng.random((n, 8, 8))
    pixels[kinds == 0, 3:5, :] += 0.8
    pixels[kinds == 1, :, 3:5] += 0.8
    pixels[kinds == 2, 2:6, 2:6] += 0.8
    return images(pixels, (0.0, 1.0), kinds.astype(np.int64))


@pytest.fixture(scope="module")
def real():
    return shapes(120, np.random.default_rng(0))


# --- Closed forms ---------------------------------------------------------------------------------------------------------------


def test_frechet_distance_of_two_gaussians() -> None:
    """‖μ‖² + tr(A + B − 2 (A½ B A½)½) with commuting covariances is Σ (√a − √b)²."""
    rng = np.random.default_rng(1)
    basis = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    a, b, shift = rng.uniform(0.1, 3, 5), rng.uniform(0.1, 3, 5), rng.normal(size=5)
    first, second = (basis * a) @ basis.T, (basis * b) @ basis.T
    expected = shift @ shift + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    assert distance_of_moments(np.zeros(5), root_of(first), shift, second) == pytest.approx(expected, rel=1e-12)
    assert distance_of_moments(shift, root_of(second), np.zeros(5), first) == pytest.approx(expected, rel=1e-12)


def test_frechet_distance_equals_scipys_matrix_root() -> None:
    from scipy.linalg import sqrtm

    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(300, 7)) @ rng.normal(size=(7, 7)), 1 + rng.normal(size=(200, 7)) @ rng.normal(size=(7, 7))
    s, t = np.cov(x.T), np.cov(y.T)
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s + t - 2 * np.real(sqrtm(s @ t)))
    assert measure(FrechetDistance(), Reference(numbers(x), None), numbers(y))["fid"].value == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_with_fewer_records_than_features() -> None:
    rng = np.random.default_rng(3)
    few = numbers(rng.normal(size=(20, 50)))
    same = measure(FrechetDistance(), Reference(few, None), few)
    assert same["fid"].value == pytest.approx(0.0, abs=1e-5)
    moved = measure(FrechetDistance(), Reference(few, None), numbers(few.values + 0.1))
    assert moved["fid"].value == pytest.approx(0.5, abs=1e-5)


def test_the_corrected_distance_has_no_bias_of_first_order() -> None:
    """Two samples of one law: fid is biased by some d(d + 1)/4 (1/n + 1/m) or more, the corrected one by a tenth of that at most."""
    rng = np.random.default_rng(4)
    found = []
    for _ in range(60):
        first, second = (numbers(rng.normal(size=(300, 8))) for _ in range(2))
        found.append([m.value for m in measure(FrechetDistance(), Reference(first, None), second).values()])
    plain, corrected = np.mean(found, axis=0)
    assert plain > 0.15
    assert abs(corrected) < 0.1 * plain


def test_kernel_distance_by_definition() -> None:
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(70, 3)), 0.5 + rng.normal(size=(45, 3))

    def kernel(a, b):
        return (a @ b.T / 3 + 1) ** 3

    def off_diagonal(k):
        return (k.sum() - np.trace(k)) / (len(k) * (len(k) - 1))

    order = features.chosen_rows(70, 70), features.chosen_rows(45, 45)
    x, y = x[np.argsort(order[0])], y[np.argsort(order[1])]
    expected = off_diagonal(kernel(x, x)) + off_diagonal(kernel(y, y)) - 2 * kernel(x, y).mean()
    found = measure(KernelDistance(), Reference(numbers(x), None), numbers(y))["kid"]
    assert found.value == pytest.approx(expected, rel=1e-9)


def test_kernel_distance_is_unbiased() -> None:
    """Zero on average for equal laws, |z| < 5 over 200 pairs: false alarm 6e-7."""
    rng = np.random.default_rng(6)
    found = [
        measure(KernelDistance(), Reference(numbers(rng.normal(size=(60, 4))), None), numbers(rng.normal(size=(40, 4))))["kid"].value
        for _ in range(200)
    ]
    assert abs(np.mean(found)) < 5 * np.std(found, ddof=1) / np.sqrt(len(found))
    assert 0.2 < np.mean(np.array(found) < 0) < 0.8


def test_vendi_counts_what_differs() -> None:
    assert vendi(np.repeat(np.eye(4), 5, axis=0))[0] == pytest.approx(4.0)
    assert vendi(np.ones((10, 3)))[0] == pytest.approx(1.0)
    assert vendi(np.zeros((10, 3)))[0] == pytest.approx(1.0)
    assert vendi(np.eye(30)[:20])[0] == pytest.approx(20.0)  # fewer records than numbers


@pytest.mark.peers
@pytest.mark.parametrize("shape", [(60, 8), (20, 40)])
def test_vendi_equals_the_reference_package(shape) -> None:
    vendi_score = pytest.importorskip("vendi_score.vendi")
    table = np.random.default_rng(7).normal(size=shape)
    assert vendi(table)[0] == pytest.approx(vendi_score.score_X(table), rel=1e-9)


@pytest.mark.peers
def test_precision_and_recall_on_features_equal_the_reference_package(real) -> None:
    prdc = pytest.importorskip("prdc")
    fake = shapes(90, np.random.default_rng(8), spread=0.4)
    reference = Reference(real, None)
    found = measure(PrecisionRecall(space="features"), reference, fake)
    ours = features.real_features("prdc", reference, "", 2000, "original"), features.sample_features("prdc", reference, fake, "", 2000)
    expected = prdc.compute_prdc(*ours, nearest_k=5)
    assert {name: m.value for name, m in found.items()} == pytest.approx(expected, abs=1e-9)


# --- The contract ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ON_POINTS, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("kind", [Kind.NUMBERS, Kind.IMAGES])
def test_contract(metric, kind: Kind) -> None:
    check_metric(metric, standard_case(kind))


def test_contract_of_metrics_that_need_a_class() -> None:
    check_metric(Recognised(), standard_case(Kind.IMAGES))
    check_metric(ClassShares(by="network"), standard_case(Kind.IMAGES))
    check_metric(PrecisionRecall(space="features"), standard_case(Kind.IMAGES))


# --- The network ----------------------------------------------------------------------------------------------------------------


def test_a_classifier_is_trained_once_and_read_back_bit_by_bit(real, tmp_path) -> None:
    first = classifier.trained_once(real)
    assert first.classes == (0, 1, 2)
    again = classifier.trained_once(real)
    np.testing.assert_array_equal(first.features(real), again.features(real))
    assert len(list((tmp_path.parent / os.environ["STUDBOOK_CACHE"] / "classifier").iterdir())) >= 1
    trained = classifier.train(real, rng=stream(0, "metrics", "classifier"))
    np.testing.assert_array_equal(trained.features(real), first.features(real))
    classifier.save(trained, tmp_path / "mine")
    loaded = classifier.load(tmp_path / "mine")
    np.testing.assert_array_equal(loaded.probabilities(real), trained.probabilities(real))
    assert loaded.accuracy == trained.accuracy


def test_training_leaves_pytorch_as_it_was(real) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    threads = torch.get_num_threads()
    classifier.train(real, rng=np.random.default_rng(0)).features(real)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (9, 9, 3), (48, 40), (64, 64, 3)])
def test_networks_for_pictures_of_any_size(shape) -> None:
    batch = images(np.random.default_rng(0).random((6, *shape)), (0.0, 1.0), np.arange(6) % 2)
    trained = classifier.train(batch, classifier.Training(epochs=1, batch=5), rng=np.random.default_rng(0))
    assert trained.features(batch).shape == (6, classifier.N_FEATURES)
    np.testing.assert_allclose(trained.probabilities(batch).sum(axis=1), 1.0)


def test_unlabelled_pictures_get_a_network_that_tells_orientations(real) -> None:
    plain = images(real.values, (0.0, 1.0))
    reference = Reference(plain, None)
    found = measure(FrechetDistance(), reference, plain)
    assert found["fid"].value == pytest.approx(0.0, abs=1e-6)
    assert features.network_of("fid", reference, "").classes == ()
    with pytest.raises(MetricError, match="knows none"):
        measure(Recognised(), reference, real)


def test_collapse_shows_in_every_metric(real) -> None:
    reference = Reference(real, None, shapes(90, np.random.default_rng(9)))
    rng = np.random.default_rng(10)
    good, one_class = shapes(120, rng), shapes(120, rng, labels=np.zeros(120))
    for metric, name in ((FrechetDistance(), "fid"), (KernelDistance(), "kid")):
        assert measure(metric, reference, one_class, real)[name].value > 3 * abs(measure(metric, reference, good, real)[name].value)
    assert measure(VendiScore(), reference, one_class)["vendi"].value < measure(VendiScore(), reference, good)["vendi"].value


def test_copies_are_recognised_as_copies(real) -> None:
    reference = Reference(real, None, shapes(90, np.random.default_rng(11)))
    copied = measure(Memorisation(), reference, real, real)
    honest = measure(Memorisation(), reference, shapes(100, np.random.default_rng(12)), real)
    assert copied["memorisation"].value == pytest.approx(0.0, abs=1e-5)
    assert copied["memorisation.share"].value == 1.0
    assert abs(honest["memorisation"].value - 1.0) < 0.2
    assert honest["memorisation.share"].value < 0.1


def test_recognised_falls_as_pictures_dissolve(real) -> None:
    only = real.take(np.flatnonzero(real.labels == 2))
    reference = Reference(only, None, background=real)
    clean = images(only.values, (0.0, 1.0))
    noise = images(np.random.default_rng(13).random(clean.values.shape), (0.0, 1.0))
    seen, lost = measure(Recognised(), reference, clean), measure(Recognised(), reference, noise)
    assert seen["recognised"].value > 0.9
    assert lost["recognised.confidence"].value < seen["recognised.confidence"].value
    # A conditional model's own labels count before the original's.
    wrong = images(only.values, (0.0, 1.0), np.zeros(len(only), dtype=np.int64))
    assert measure(Recognised(), reference, wrong)["recognised"].value < 0.1
    with pytest.raises(MetricError, match="doesn't know class 7"):
        measure(Recognised(), reference, images(only.values, (0.0, 1.0), np.full(len(only), 7)))
    with pytest.raises(MetricError, match="3 classes and the pictures no labels"):
        measure(Recognised(), Reference(real, None), images(real.values, (0.0, 1.0)))


def test_features_are_worked_out_once_a_generation(real, monkeypatch) -> None:
    reference, calls = Reference(real, None), []
    network = features.network_of("fid", reference, "")
    monkeypatch.setitem(reference._memory, "network:", Counting(network, calls))
    sample = shapes(60, np.random.default_rng(14))
    for metric in (FrechetDistance(), KernelDistance(), VendiScore(), PrecisionRecall(space="features")):
        measure(metric, reference, sample)
    assert sorted(calls) == [60, 120]


class Counting:
    def __init__(self, network, calls) -> None:
        self.network, self.calls = network, calls

    def features(self, batch):
        self.calls.append(len(batch))
        return self.network.features(batch)


# --- What is refused ------------------------------------------------------------------------------------------------------------


def test_parameters_are_checked_before_any_work() -> None:
    with pytest.raises(ConfigError, match=r"metrics\.fid\.limit is 1"):
        FrechetDistance(limit=1)
    with pytest.raises(ConfigError, match="prdc compares pixels"):
        PrecisionRecall(network="somewhere")
    with pytest.raises(ConfigError, match='classifier is "svm"'):
        ClassShares(network="somewhere")


def test_missing_and_foreign_networks_are_refused(real, tmp_path) -> None:
    reference = Reference(real, None)
    with pytest.raises(CheckpointError, match="nothing at"):
        measure(FrechetDistance(network=str(tmp_path / "nowhere")), reference, real)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"no model\.safetensors"):
        measure(FrechetDistance(network=str(tmp_path / "empty")), reference, real)
    other = images(np.random.default_rng(0).random((30, 5, 5)), (0.0, 1.0), np.arange(30) % 2)
    classifier.save(classifier.train(other, classifier.Training(epochs=1), rng=np.random.default_rng(0)), tmp_path / "other")
    with pytest.raises(MetricError, match="trained on pictures of 5 x 5, got 8 x 8"):
        measure(FrechetDistance(network=str(tmp_path / "other")), reference, real)


def test_held_out_records_that_are_not_there(real) -> None:
    with pytest.raises(MetricError, match="there are none"):
        measure(FrechetDistance(against="heldout"), Reference(real, None), real)
    with pytest.raises(MetricError, match="two records or more"):
        measure(FrechetDistance(), Reference(real, None), real.take(np.array([0])))


# --- Inception ------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights():
    torch.manual_seed(0)
    return inception.Inception().state_dict()


def test_inception_has_the_published_size_and_names(weights) -> None:
    """Without its classifier Inception v3 has 21,785,568 weights; the standard file's names."""
    network = inception.Inception()
    assert sum(p.numel() for p in network.parameters()) == 21_785_568
    for name, shape in {
        "Conv2d_4a_3x3.conv.weight": (192, 80, 3, 3),
        "Mixed_5b.branch5x5_2.conv.weight": (64, 48, 5, 5),
        "Mixed_5d.branch_pool.bn.running_var": (64,),
        "Mixed_6a.branch3x3dbl_3.conv.weight": (96, 96, 3, 3),
        "Mixed_6c.branch7x7dbl_5.conv.weight": (192, 160, 1, 7),
        "Mixed_7a.branch7x7x3_4.conv.weight": (192, 192, 3, 3),
        "Mixed_7c.branch3x3dbl_3b.conv.weight": (384, 384, 3, 1),
        "Mixed_7c.branch_pool.conv.weight": (192, 2048, 1, 1),
    }.items():
        assert tuple(weights[name].shape) == shape


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_inception_weights_are_read_back(weights, tmp_path, suffix: str) -> None:
    file = tmp_path / f"inception{suffix}"
    # The standard file has the classifier's weights and lacks the counters.
    stored = {name: value for name, value in weights.items() if not name.endswith("num_batches_tracked")}
    stored |= {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    write(stored, file)
    grey = images(np.random.default_rng(0).random((2, 6, 6)), (0.0, 1.0))
    network = inception.load(file)
    found = network.features(grey)
    assert found.shape == (2, 2048)
    colour = images(np.repeat(grey.values[..., None], 3, axis=3), (0.0, 1.0))
    np.testing.assert_allclose(network.features(colour), found, rtol=1e-4, atol=1e-5)


def write(tensors, file) -> None:
    if file.suffix == ".pth":
        torch.save(tensors, file)
    else:
        from safetensors.torch import save_file

        save_file(tensors, str(file))


def test_poolings_of_the_variant() -> None:
    """Averages leave the padding's zeros out: a picture of ones stays one of ones up to its edge."""
    block = inception.Mixed(((("a", 1, 1, (1, 1), 1),),), "average", (1, 1))
    seen = []
    block.branch_pool.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    block(torch.ones(1, 1, 4, 4))
    assert torch.allclose(seen[0], torch.ones(1, 1, 4, 4))


def test_wrong_inception_files_are_refused(weights, tmp_path) -> None:
    file = tmp_path / "inception.pth"
    torch.save({name: value for name, value in weights.items() if name != "Mixed_6a.branch3x3.bn.bias"}, file)
    with pytest.raises(CheckpointError, match="lacks 'Mixed_6a"):
        inception.load(file)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="can't be read"):
        inception.load(file)
    torch.save([1, 2], file)
    with pytest.raises(CheckpointError, match="expected a state dict"):
        inception.load(file)
    torch.save({"a": 3}, file)
    with pytest.raises(CheckpointError, match="more than tensors"):
        inception.load(file)
    with pytest.raises(CheckpointError, match="there is no file"):
        inception.load(tmp_path / "nowhere.pth")


class Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/never",)


def test_objects_in_a_weights_file_are_never_run(tmp_path) -> None:
    torch.save({"a": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match="can't be read"):
        inception.load(tmp_path / "evil.pth")


# --- The background -------------------------------------------------------------------------------------------------------------


def test_one_class_of_the_digits_has_all_of_them_as_background() -> None:
    whole, one = Digits().load(), Digits(classes=(3,), limit=50).load()
    assert whole.background is None
    assert Digits(classes=tuple(range(10))).load().background is None
    assert len(one.records) == 50
    np.testing.assert_array_equal(one.background.values, whole.records.values)
    np.testing.assert_array_equal(one.background.labels, whole.records.labels)
    assert one.background.space == one.space


def test_the_digest_covers_the_background(tmp_path) -> None:
    digests = set()
    for other in (1, 2):
        np.savez(tmp_path / "a.npz", images=np.stack([np.zeros((2, 2)), np.ones((2, 2)), other * np.ones((2, 2))]), labels=[0, 0, 1])
        dataset = ArrayFile(str(tmp_path / "a.npz"), classes=(0,)).load()
        assert dataset.background.values.shape == (3, 2, 2)
        digests.add(dataset.digest)
    assert len(digests) == 2


def test_a_large_background_is_spread_over_the_source(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("studbook.data._records.MAX_BACKGROUND", 10)
    np.savez(tmp_path / "a.npz", x=np.arange(100.0)[:, None], y=np.repeat(np.arange(10), 10))
    background = ArrayFile(str(tmp_path / "a.npz"), classes=(4,)).load().background
    assert background.labels.tolist() == list(range(10))
