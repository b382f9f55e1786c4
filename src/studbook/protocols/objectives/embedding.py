"""One small embedding of a frozen diffusion model: what a new kind of picture is called (textual inversion, by classes)."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from studbook.arrays import Batch, Ints, Kind
from studbook.data import open_source
from studbook.errors import DataError
from studbook.learners import Diffusion
from studbook.neural.options import Training, require, require_extra
from studbook.parameters import conform
from studbook.protocols.objective import Gradient
from studbook.protocols.objectives._threads import one_torch_thread
from studbook.protocols.objectives._torch import as_tensors, torch_gradient
from studbook.protocols.values import Parameters
from studbook.rng import stream

if TYPE_CHECKING:
    from torch import Tensor

    from studbook.learners.diffusion import DiffusionModel


@dataclass(frozen=True, slots=True)
class Embedding:
    """The embedding of one class of pictures, which a diffusion model of all the others hasn't seen.

    The model is trained here, from its seed, and then stays as it is; only the vector that it is conditioned on is learnt.

    Attributes:
        data: ``digits``, ``mnist5k``, or a file of labelled pictures.
        concept: The label of the class whose embedding is learnt.
        width: Hidden units, or channels at the top of the U-Net, of the frozen model.
        depth: Its residual blocks, or halvings.
        epochs: Passes through the other classes that it is trained for.
        seed: Of its training.
        held_out: Share of the concept's pictures that is held out.

    Raises:
        ConfigError: A value out of range.

    References:
        Gal et al. 2023, "An image is worth one word: personalizing text-to-image generation using textual inversion".
    """

    data: str = "digits"
    concept: int = 9
    width: int = 64
    depth: int = 2
    epochs: int = 30
    seed: int = 0
    held_out: float = 0.2

    def __post_init__(self) -> None:
        conform(self, "objective")
        require(1 <= self.width <= 8192, "objective", "width", self.width, "1 to 8,192")
        require(1 <= self.depth <= 64, "objective", "depth", self.depth, "1 to 64")
        require(1 <= self.epochs <= 10**6, "objective", "epochs", self.epochs, "1 or more passes")
        require(self.seed >= 0, "objective", "seed", self.seed, "0 or more")
        require(0.0 < self.held_out < 1.0, "objective", "held_out", self.held_out, "a share above 0 and below 1")

    def load(self) -> EmbeddingObjective:
        """The objective, with its data and the frozen model; the same model isn't trained twice in one process.

        Raises:
            DataError: No labelled pictures, or none of the concept.
            MissingExtraError: PyTorch isn't installed.
        """
        require_extra()
        return _loaded(self)


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingObjective:
    """The denoising loss of the concept's pictures, by ``embedding`` ``(width,)`` alone.

    Attributes:
        settings: What was asked for.
        model: The frozen model.
        pixels: ``(n, c, h, w)`` float32 in [-1, 1]: the concept's pictures to train on.
        held: Those held out.
        about: Digests of the data and of the frozen weights.
    """

    settings: Embedding
    model: DiffusionModel = field(repr=False)
    pixels: NDArray[np.float32] = field(repr=False)
    held: NDArray[np.float32] = field(repr=False)
    about: Mapping[str, Any]

    @property
    def n_rows(self) -> int:
        """Training pictures."""
        return len(self.pixels)

    def initial(self, *, rng: np.random.Generator) -> Parameters:
        """The mean of the known classes' embeddings, and a little noise."""
        known = self._known()
        start = known[:-1].mean(axis=0) + rng.normal(0.0, 0.1, known.shape[1]) * known[:-1].std(axis=0)
        return {"embedding": start.astype(np.float32)}

    def gradient(self, parameters: Parameters, rows: Ints, *, rng: np.random.Generator) -> Gradient:
        """The gradient over rows, at noise levels and under noise from ``rng``."""
        return torch_gradient(parameters, len(rows), lambda tensors: self._loss(tensors, self.pixels[rows], rng=rng))

    def evaluate(self, parameters: Parameters) -> Mapping[str, float]:
        """``loss`` on what is held out, always under the same noise: mean squared error a pixel."""
        import torch

        rng = stream(0, "embedding", "evaluate")
        with one_torch_thread(), torch.no_grad():
            tensors = as_tensors(parameters)
            losses = [float(self._loss(tensors, self.held, rng=rng)) for _ in range(8)]
        return {"loss": float(np.mean(losses))}

    def describe(self) -> Mapping[str, Any]:
        """What determines it."""
        return {"objective": "embedding", "concept": self.settings.concept, "rows": self.n_rows, "held_out": len(self.held), **self.about}

    def _known(self) -> NDArray[np.float32]:
        """The embeddings of the known classes; the last one stands for none."""
        weights = self.model.network.get_parameter("condition.label.weight")
        return np.array(weights.detach().numpy())

    def _loss(self, tensors: Mapping[str, Tensor], pixels: NDArray[np.float32], *, rng: np.random.Generator) -> Tensor:
        """The mean squared error of the prediction; noise levels are spread evenly by one random shift, as in the model's training."""
        import torch
        from torch.func import functional_call

        from studbook.neural.diffusion import Noising, target_of

        learner, n = self.model.learner, len(pixels)
        noising = Noising.of(learner.schedule, learner.steps, torch.device("cpu"))
        levels = torch.from_numpy(((rng.random() + np.arange(n) / n) % 1.0 * learner.steps).astype(np.int64).clip(0, learner.steps - 1))
        clean, noise = torch.from_numpy(pixels), torch.from_numpy(rng.standard_normal(pixels.shape, dtype=np.float32))
        known = self.model.network.get_parameter("condition.label.weight").detach()
        rows = {"condition.label.weight": torch.cat([known, tensors["embedding"][None]])}
        scales = noising.scales(levels)
        seen = (scales[0] * clean + scales[1] * noise, levels / len(noising), torch.full((n,), len(known)))
        output: Tensor = functional_call(self.model.network, rows, seen)
        return (output - target_of(clean, noise, scales, learner.predict)).square().mean()


@functools.lru_cache(maxsize=4)
def _loaded(settings: Embedding) -> EmbeddingObjective:
    from studbook.neural.checkpoints import digest_of_tensors

    dataset = open_source(settings.data).load()
    batch = dataset.records
    if batch is None or batch.space.kind is not Kind.IMAGES or batch.labels is None:
        raise DataError(f"{settings.data} has no labelled pictures", hint="take digits or mnist5k")
    concept = np.flatnonzero(batch.labels == settings.concept)
    if len(concept) < 2 or len(concept) == len(batch):
        message = (
            f"{settings.data} has {len(concept):,} pictures of {settings.concept} among {len(batch):,}, expected some, and some others"
        )
        raise DataError(message, hint=f"the labels are {', '.join(map(str, np.unique(batch.labels)[:20]))}")
    model = _train(settings, batch.take(np.flatnonzero(batch.labels != settings.concept)))
    order = stream(0, "held out").permutation(concept)
    n_held = min(len(order) - 1, max(1, round(settings.held_out * len(order))))
    frozen = digest_of_tensors(model.network.state_dict())
    about = {"data": f"sha256:{dataset.digest}", "frozen": frozen}
    held, kept = (_pixels(batch, np.sort(rows)) for rows in (order[:n_held], order[n_held:]))
    return EmbeddingObjective(settings, model, kept, held, about)


def _train(settings: Embedding, others: Batch) -> DiffusionModel:
    training = Training(epochs=settings.epochs, batch=32, rate=2e-3, device="cpu")
    learner = Diffusion(width=settings.width, depth=settings.depth, conditional=True, average=0.99, training=training)
    model = learner.fit(others, rng=stream(settings.seed, "frozen", "diffusion"))
    model.network.requires_grad_(requires_grad=False)
    return model


def _pixels(batch: Batch, rows: Ints) -> NDArray[np.float32]:
    import torch

    from studbook.neural.images import Pictures

    return np.array(Pictures.of(batch.take(rows), torch.device("cpu")).pixels.numpy())
