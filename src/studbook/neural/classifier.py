"""A small convolutional classifier: what generated pictures are taken for, and features to compare them by."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from studbook.arrays import Batch, Floats, Ints, Kind, Space
from studbook.errors import CheckpointError, FitError, MetricError
from studbook.neural.cache import cached
from studbook.neural.checkpoints import load_checkpoint, load_into, save_checkpoint
from studbook.neural.device import session
from studbook.neural.images import Pictures, channels_of
from studbook.neural.options import Training
from studbook.neural.training import fit_module
from studbook.rng import stream

FAMILY = "classifier"
VERSION = 1
"""Counted up with every change of the network or its training: it is part of the cache's digest."""
N_FEATURES = 64
MAX_CLASSES = 1_000
MAX_SIDE = 1_024
N_STEPS = 600
AT_ONCE = 256
N_FOR_UNIT = 2_000
ORIENTATIONS = 4


class Network(nn.Module):
    """Convolutions that halve the picture to 7 pixels or fewer, their mean over the picture, ``N_FEATURES`` features, and a linear head.

    The first convolution takes every second pixel of pictures larger than 14 pixels, every fourth beyond 40.
    """

    unit: Tensor

    def __init__(self, side: int, channels: int, n_classes: int) -> None:
        super().__init__()
        stride = 1 if side <= 14 else 2 if side <= 40 else 4
        layers: list[nn.Module] = [nn.Conv2d(channels, 16, 5, stride=stride, padding=2), nn.GroupNorm(8, 16), nn.ReLU()]
        width, side = 16, -(-side // stride)
        while side > 7 or width == 16:
            wider = min(2 * width, 64)
            layers += [nn.Conv2d(width, wider, 3, stride=2 if side > 7 else 1, padding=1), nn.GroupNorm(8, wider), nn.ReLU()]
            width, side = wider, (side + 1) // 2 if side > 7 else side
        layers += [nn.Conv2d(width, 64, 3, padding=1), nn.GroupNorm(8, 64), nn.ReLU()]
        self.convolutions = nn.Sequential(*layers)
        self.hidden = nn.Linear(2 * 64, N_FEATURES)
        self.head = nn.Linear(N_FEATURES, n_classes)
        self.register_buffer("unit", torch.ones(()))

    def features(self, pixels: Tensor) -> Tensor:
        """``(n, N_FEATURES)``, in units of their root mean square on the training records."""
        return self._hidden(pixels) / self.unit

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits ``(n, n_classes)``."""
        logits: Tensor = self.head(self._hidden(pixels))
        return logits

    def _hidden(self, pixels: Tensor) -> Tensor:
        """The last rectifier's output, of means and largest values over the picture."""
        maps = self.convolutions(pixels).flatten(2)
        return functional.relu(self.hidden(torch.cat([maps.mean(2), maps.amax(2)], dim=1)))


@dataclass(frozen=True, slots=True, eq=False)
class Classifier:
    """A trained network and what it tells apart.

    Attributes:
        network: On its device, in evaluation mode.
        shape: Shape of a picture, ``(h, w)`` or ``(h, w, c)``.
        classes: The labels that it tells apart, ascending; empty where it was trained to tell orientations and has only features.
        accuracy: Share of the records kept out of its training that it gets right; NaN where there were too few.
    """

    network: Network
    shape: tuple[int, ...]
    classes: tuple[int, ...]
    accuracy: float

    @property
    def n_features(self) -> int:
        """Numbers of one record's features."""
        return N_FEATURES

    def features(self, batch: Batch) -> Floats:
        """The penultimate layer, ``(n, N_FEATURES)`` float64.

        Raises:
            MetricError: Pictures of another shape.
        """
        return self._run(batch, self.network.features, N_FEATURES)

    def probabilities(self, batch: Batch) -> Floats:
        """Probability of each class, ``(n, C)``.

        Raises:
            MetricError: Pictures of another shape, or a network that knows no classes.
        """
        if not self.classes:
            raise MetricError("this feature network was trained without labels and knows no classes", hint="use data with labels")
        return self._run(batch, lambda pixels: functional.softmax(self.network(pixels).double(), dim=1), len(self.classes))

    @torch.no_grad()
    def _run(self, batch: Batch, layer: Callable[[Tensor], Tensor], width: int) -> Floats:
        if batch.space.kind is not Kind.IMAGES or batch.space.shape != self.shape:
            got = " x ".join(map(str, batch.space.shape))
            expected = " x ".join(map(str, self.shape))
            raise MetricError(f"the feature network was trained on pictures of {expected}, got {got}", hint="choose another network")
        device = next(self.network.parameters()).device
        found = np.empty((len(batch), width))
        with one_thread():
            for start in range(0, len(batch), AT_ONCE):
                rows = np.arange(start, min(start + AT_ONCE, len(batch)))
                found[rows] = layer(Pictures.of(batch.take(rows), device).pixels).double().cpu().numpy()
        return found


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for what is inside: sums in another order would make features depend on the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def train(records: Batch, options: Training | None = None, *, rng: np.random.Generator) -> Classifier:
    """The classifier of labelled pictures; of unlabelled ones (or of one class) a network that tells their orientations apart.

    A tenth of the records is kept out of the training to know how often it is right. The rest is turned, scaled and shifted a little
    in each step.

    Args:
        records: Pictures, with labels or without.
        options: How it is trained; by default some 600 steps.
        rng: Where the randomness comes from.

    Raises:
        FitError: Not pictures, none at all, or more classes than it can have; or its training diverged.
    """
    shown, labels, classes = _task(records)
    options = options or _default_training(len(shown))
    n_classes = len(classes) or ORIENTATIONS
    rest, kept_out = _divide(len(shown), rng=rng)
    with session(options, rng=rng, doing="training the feature network", batch=options.batch, lower="metrics.limit") as device:
        network = Network(min(records.space.shape[:2]), channels_of(records.space), n_classes).to(device)
        pixels, targets = Pictures.of(shown, device).pixels, torch.from_numpy(labels).to(device)
        chosen = torch.from_numpy(rest).to(device)

        def loss(rows: Tensor) -> Tensor:
            at = chosen[rows]
            logits: Tensor = network(_moved(pixels[at]))
            return functional.cross_entropy(logits, targets[at], label_smoothing=0.02)

        report = fit_module(network, len(rest), loss, options, device=device, rng=rng)
        if report.failure:
            raise FitError(f"the feature network can't be trained: {report.failure}", hint="check the pictures' value range")
        network.eval()
        network.requires_grad_(requires_grad=False)
        _set_unit(network, pixels[chosen[:N_FOR_UNIT]])
        accuracy = _accuracy(network, pixels, targets, kept_out)
    return Classifier(network, records.space.shape, classes, accuracy)


def trained_once(records: Batch) -> Classifier:
    """``train``, once for these records: kept in the user's cache under a digest of records, settings and versions."""
    folder = cached(FAMILY, _digest(records), lambda target: save(train(records, rng=stream(0, "metrics", FAMILY)), target))
    return load(folder)


def save(classifier: Classifier, folder: Path) -> None:
    """Write it to ``folder``."""
    about = {
        "shape": list(classifier.shape),
        "classes": list(classifier.classes),
        "accuracy": None if math.isnan(classifier.accuracy) else classifier.accuracy,
        "version": VERSION,
    }
    save_checkpoint(folder, FAMILY, classifier.network.state_dict(), about)


def load(folder: Path) -> Classifier:
    """The classifier that ``save`` wrote, on the CPU: it is a measuring rod, and gives the same numbers on every machine.

    Raises:
        CheckpointError: It isn't there, is damaged, or isn't a classifier.
    """
    tensors, about = load_checkpoint(folder, FAMILY)
    shape, classes = _whole(about.get("shape"), 1, MAX_SIDE), _whole(about.get("classes"), -(2**63), 2**63 - 1)
    if shape is None or classes is None or len(shape) not in (2, 3) or len(classes) > MAX_CLASSES:
        raise CheckpointError(f"{folder} doesn't say how its network is built", hint="train or copy it again")
    space, accuracy = Space(Kind.IMAGES, shape), about.get("accuracy")
    network = Network(min(shape[:2]), channels_of(space), len(classes) or ORIENTATIONS)
    load_into(network, tensors, str(folder))
    network.eval()
    network.requires_grad_(requires_grad=False)
    right = float(accuracy) if isinstance(accuracy, float | int) else math.nan
    return Classifier(network, shape, classes, right)


def _whole(values: object, low: int, high: int) -> tuple[int, ...] | None:
    """A list of whole numbers in a range, or ``None`` where it is anything else."""
    sound = isinstance(values, list) and all(isinstance(v, int) and low <= v <= high for v in values)
    return tuple(values) if sound else None  # type: ignore[arg-type]


def _task(records: Batch) -> tuple[Batch, Ints, tuple[int, ...]]:
    """What is shown, the position of the right answer for each, and the classes (none: orientations)."""
    if records.space.kind is not Kind.IMAGES:
        raise FitError(f"a feature network needs pictures, got {records.space.kind.value}", hint="leave out metrics on features")
    if not len(records):
        raise FitError("there are no pictures to train a feature network on", hint="use more data")
    if max(records.space.shape[:2]) > MAX_SIDE:
        raise FitError(f"pictures of {records.space.shape} are too large for the feature network", hint=f"at most {MAX_SIDE} pixels a side")
    found = np.empty(0, np.int64) if records.labels is None else np.unique(records.labels)
    if len(found) < 2:
        turned, answers = _turned(records)
        return turned, answers, ()
    if len(found) > MAX_CLASSES:
        raise FitError(f"the pictures have {len(found):,} classes, at most {MAX_CLASSES:,} are told apart", hint="use fewer classes")
    return records, np.searchsorted(found, np.asarray(records.labels)).astype(np.int64), tuple(int(c) for c in found)


def _turned(records: Batch) -> tuple[Batch, Ints]:
    """Each picture in one of four orientations: quarter turns, or where it isn't square mirrored and turned by a half."""
    answers = np.arange(len(records)) % ORIENTATIONS
    values, square = records.values.copy(), records.space.shape[0] == records.space.shape[1]
    for k in range(1, ORIENTATIONS):
        rows = answers == k
        values[rows] = np.rot90(values[rows], k, axes=(1, 2)) if square else np.flip(values[rows], ((1,), (2,), (1, 2))[k - 1])
    return Batch(np.ascontiguousarray(values), records.space), answers


def _default_training(n: int) -> Training:
    epochs = int(np.clip(round(N_STEPS * 64 / n), 4, 60))
    return Training(epochs=epochs, batch=64, rate=3e-3, weight_decay=0.02, warmup=0.1, device="cpu")


def _divide(n: int, *, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Rows for training, and a tenth that is kept out of it (none below 20 records)."""
    order = rng.permutation(n)
    cut = n // 10 if n >= 20 else 0
    return np.sort(order[cut:]), np.sort(order[:cut])


def _moved(pixels: Tensor) -> Tensor:
    """The pictures, each turned by up to 10°, scaled by up to 10 % and shifted by up to a sixteenth of its side; edges are repeated."""
    n, device = len(pixels), pixels.device
    draws = 2.0 * torch.rand((n, 4), device=device) - 1.0
    angle, scale, shift = draws[:, 0] * math.radians(10.0), 1.0 + 0.1 * draws[:, 1], draws[:, 2:] / 8.0
    cosine, sine = scale * torch.cos(angle), scale * torch.sin(angle)
    matrix = torch.stack([torch.stack([cosine, -sine, shift[:, 0]], 1), torch.stack([sine, cosine, shift[:, 1]], 1)], 1)
    grid = functional.affine_grid(matrix, list(pixels.shape), align_corners=False)
    return functional.grid_sample(pixels, grid, padding_mode="border", align_corners=False)


@torch.no_grad()
def _set_unit(network: Network, pixels: Tensor) -> None:
    """Features of the order of 1, so that distances and kernels mean the same on every data set."""
    squares = [network.features(part).double().square().mean(1) for part in torch.split(pixels, AT_ONCE)]
    size = torch.cat(squares).mean().sqrt()
    network.unit.fill_(float(size) or 1.0)


@torch.no_grad()
def _accuracy(network: Network, pixels: Tensor, targets: Tensor, rows: Ints) -> float:
    hits = 0
    for chosen in np.split(rows, range(AT_ONCE, len(rows), AT_ONCE)):
        at = torch.from_numpy(chosen).to(pixels.device)
        hits += int((network(pixels[at]).argmax(1) == targets[at]).sum())
    return hits / len(rows) if len(rows) else math.nan


def _digest(records: Batch) -> str:
    """SHA-256 (hex) over the pictures, their labels, and everything else that decides what the network becomes."""
    settings = {"version": VERSION, "torch": torch.__version__, "space": [records.space.shape, records.space.value_range]}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for column in (records.values, records.labels):
        digest.update(b"-" if column is None else np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()
