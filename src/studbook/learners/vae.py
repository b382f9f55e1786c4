"""Variational autoencoders of pictures."""

from __future__ import annotations

import dataclasses
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from studbook.arrays import Batch, Floats, Space
from studbook.errors import DataError
from studbook.learners._pictures import (
    report_as_table,
    report_of_table,
    require_original_pictures,
    require_pictures,
    require_same_design,
    require_same_space,
)
from studbook.learners.checks import require_size
from studbook.neural.options import Training, require, require_extra
from studbook.parameters import conform
from studbook.records import FitReport
from studbook.rng import stream

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from studbook.neural.lesson import Lesson
    from studbook.neural.vae import Design, VaeNetwork

_FAMILY = "vae"
_LOWER = "learner.training.batch"
_TRAINING = Training(epochs=20, batch=128, rate=2e-3, optimizer="adam", weight_decay=0.0, warmup=0.0)


@dataclass(frozen=True, slots=True, eq=False)
class VaeModel:
    """A trained autoencoder.

    Attributes:
        learner: The family and how it was trained.
        space: What a record is.
        fit_report: How the training went; losses are nats a pixel.
        network: The weights, on the CPU.
    """

    learner: Vae
    space: Space
    fit_report: FitReport
    network: VaeNetwork = field(repr=False)

    def sample(self, n: int, *, rng: np.random.Generator) -> Batch:
        """``n`` independent pictures, from latents drawn from the standard normal prior.

        Raises:
            ConfigError: ``n`` is negative.
        """
        from studbook.neural.device import on_device, session
        from studbook.neural.images import pictures_of
        from studbook.neural.vae import sample

        require_size(n, "n")
        options, draw = self.learner.training, self.learner.sample == "draw"
        with session(options, rng=rng, doing="sampling a vae", batch=options.batch, lower=_LOWER) as device:
            pixels = sample(on_device(self.network, device), n, options, draw=draw, device=device)
        return pictures_of(pixels, self.space)

    def encode(self, batch: Batch) -> Floats:
        """Means of the latents' posterior for each picture: ``(n, latents)``.

        Raises:
            DataError: Pictures of another shape.
        """
        from studbook.neural.device import on_device, session
        from studbook.neural.vae import encode

        options = self.learner.training
        rng = stream(0, "encode")  # nothing in it is random
        with session(options, rng=rng, doing="encoding with a vae", batch=options.batch, lower=_LOWER) as device:
            latents: Floats = encode(on_device(self.network, device), self._pixels(batch, device), options).double().numpy()
        return latents

    def elbo(self, batch: Batch, *, rng: np.random.Generator, draws: int = 1) -> Floats:
        """The evidence lower bound on each picture's log probability, ``(n,)`` nats, unbiased, from ``draws`` draws of its latents.

        With a Bernoulli likelihood pixels count from 0 to 1, with a normal one it is a log density of pixels scaled to -1 … 1.

        Raises:
            DataError: Pictures of another shape.
        """
        from studbook.neural.device import on_device, session
        from studbook.neural.vae import elbo

        options = self.learner.training
        with session(options, rng=rng, doing="the bound of a vae", batch=options.batch, lower=_LOWER) as device:
            bounds: Floats = elbo(on_device(self.network, device), self._pixels(batch, device), options, draws=draws).double().numpy()
        return bounds

    def save(self, folder: Path) -> None:
        """Write the weights and what they are to ``folder``, which is replaced.

        Raises:
            StorageError: The disk refused.
        """
        from studbook.neural.checkpoints import save_checkpoint

        about = {"design": dataclasses.asdict(self.network.design), "fit": report_as_table(self.fit_report)}
        save_checkpoint(folder, _FAMILY, self.network.state_dict(), about)

    def _pixels(self, batch: Batch, device: torch.device) -> Tensor:
        from studbook.neural.images import Pictures

        if batch.space.shape != self.space.shape:
            raise DataError(f"the pictures have shape {batch.space.shape}, the model was fitted to {self.space.shape}")
        return Pictures.of(batch, device).pixels


@dataclass(frozen=True, slots=True)
class Vae:
    """A variational autoencoder with a standard normal prior (Kingma and Welling 2014).

    What a generation loses comes from three sides: the decoder's mean has no pixel noise, the bound is no likelihood, and the encoder
    may leave latents unused.

    Attributes:
        latents: Dimensions of the latent space, 1 or more.
        network: ``mlp``: one hidden layer in the encoder and one in the decoder; ``conv``: convolutions that halve the picture.
        hidden: Units of the hidden layers (``mlp``).
        width: Channels at full size (``conv``); doubled with every halving.
        likelihood: ``bernoulli`` takes a pixel, scaled to 0 … 1, for the probability of a white one; ``gaussian`` for a normal value
            whose one scale is fitted.
        beta: How often the divergence from the prior counts; 1 is the evidence bound.
        sample: Whether generated pixels are the decoder's mean, or drawn from the likelihood.
        training: How the network is trained.

    Raises:
        ConfigError: A value out of range.

    References:
        Kingma, Welling 2014, "Auto-encoding variational Bayes"; Higgins et al. 2017, "beta-VAE".

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import images
        >>> from studbook.learners import Vae
        >>> from studbook.neural.options import Training
        >>> pixels = np.random.default_rng(0).random((100, 4, 4)) * np.eye(4)
        >>> learner = Vae(latents=2, hidden=16, training=Training(epochs=2))
        >>> model = learner.fit(images(pixels, (0.0, 1.0)), rng=np.random.default_rng(1))
        >>> model.sample(3, rng=np.random.default_rng(2)).values.shape, model.fit_report.steps
        ((3, 4, 4), 4)
    """

    latents: int = 20
    network: Literal["mlp", "conv"] = "mlp"
    hidden: int = 400
    width: int = 16
    likelihood: Literal["bernoulli", "gaussian"] = "bernoulli"
    beta: float = 1.0
    sample: Literal["mean", "draw"] = "mean"
    training: Training = _TRAINING

    def __post_init__(self) -> None:
        where = "learner"
        conform(self, where)
        require(1 <= self.latents <= 10_000, where, "latents", self.latents, "1 to 10,000")
        require(self.network in ("mlp", "conv"), where, "network", self.network, "mlp or conv")
        require(1 <= self.hidden <= 100_000, where, "hidden", self.hidden, "1 to 100,000 units")
        require(1 <= self.width <= 1024, where, "width", self.width, "1 to 1,024 channels")
        require(self.likelihood in ("bernoulli", "gaussian"), where, "likelihood", self.likelihood, "bernoulli or gaussian")
        require(0.0 <= self.beta <= 1e6, where, "beta", self.beta, "0 or more; 1 is the evidence bound")
        require(self.sample in ("mean", "draw"), where, "sample", self.sample, "mean or draw")

    def check_original(self, data: Batch) -> None:
        """Refuse original data that no generation can be fitted to.

        Raises:
            FitError: No pictures, a pixel that is NaN or out of range, one record, or equal ones.
        """
        require_original_pictures(data, _FAMILY)

    def fit(self, data: Batch, *, rng: np.random.Generator) -> VaeModel:
        """Train from random weights.

        Raises:
            FitError: No pictures, or a pixel that is NaN or out of range.
            MissingExtraError: PyTorch isn't installed.
            DeviceError: The device isn't there, or its memory is used up.
        """
        return self._fit(None, data, rng=rng)

    def fit_from(self, start: VaeModel, data: Batch, *, rng: np.random.Generator) -> VaeModel:
        """Train from another model's weights, which stay as they are.

        Raises:
            FitError: See ``fit``; or the other model makes pictures of another shape.
            CheckpointError: It has another architecture.
        """
        return self._fit(start, data, rng=rng)

    def own_base(self, space: Space) -> VaeModel | None:
        """The model in ``training.base``, or ``None`` where that is empty.

        Raises:
            CheckpointError: See ``load``.
        """
        return self.load(Path(self.training.base).expanduser(), space) if self.training.base else None

    def load(self, folder: Path, space: Space) -> VaeModel:
        """The model that ``VaeModel.save`` wrote to ``folder``.

        Raises:
            CheckpointError: It can't be read, was changed, or is of another architecture.
        """
        require_extra()
        from studbook.neural.checkpoints import load_checkpoint, load_into
        from studbook.neural.vae import VaeNetwork

        tensors, about = load_checkpoint(folder, _FAMILY)
        design = self._design(space)
        require_same_design(str(folder), about.get("design"), dataclasses.asdict(design))
        network = VaeNetwork(design)
        load_into(network, tensors, str(folder))
        return VaeModel(self, space, report_of_table(str(folder), about.get("fit")), network.eval())

    def lesson(self, data: Batch, *, start: VaeModel | None = None, rng: np.random.Generator) -> Lesson:
        """The training taken apart, on the CPU: for nodes that train together.

        Raises:
            FitError: See ``fit_from``.
        """
        with self._session(replace(self.training, device="cpu"), rng) as device:
            return self._lesson(start, data, device)

    def _fit(self, start: VaeModel | None, data: Batch, *, rng: np.random.Generator) -> VaeModel:
        with self._session(self.training, rng) as device:
            model: VaeModel = self._lesson(start, data, device).fit(self.training, device=device, rng=rng)
        return model

    def _session(self, options: Training, rng: np.random.Generator) -> AbstractContextManager[torch.device]:
        require_extra()
        from studbook.neural.device import session

        return session(options, rng=rng, doing="training a vae", batch=options.batch, lower=_LOWER)

    def _lesson(self, start: VaeModel | None, data: Batch, device: torch.device) -> Lesson:
        from studbook.neural.checkpoints import load_into
        from studbook.neural.images import Pictures
        from studbook.neural.lesson import Lesson
        from studbook.neural.vae import VaeNetwork, mean_bound

        require_pictures(data, _FAMILY)
        network = VaeNetwork(self._design(data.space))
        if start is not None:
            require_same_space(start.space, data.space)
            load_into(network, start.network.state_dict(), "the model to start from")
        loss = partial(mean_bound, network.to(device), Pictures.of(data, device), self.beta)
        return Lesson(network, len(data), loss, lambda report: VaeModel(self, data.space, report, network.cpu().eval()))

    def _design(self, space: Space) -> Design:
        from studbook.neural.images import channels_of
        from studbook.neural.vae import Design

        units = self.hidden if self.network == "mlp" else self.width
        height, width = space.shape[:2]
        return Design(channels_of(space), height, width, self.latents, self.network, units, self.likelihood)
