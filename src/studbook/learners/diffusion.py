"""Denoising diffusion models of pictures, sampled by DDIM, with classifier-free guidance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from studbook.arrays import Batch, Floats, Kind, Space
from studbook.errors import CheckpointError, ConfigError, FitError
from studbook.learners._pictures import (
    report_as_table,
    report_of_table,
    require_original_pictures,
    require_pictures,
    require_same_design,
    require_same_space,
)
from studbook.learners.checks import record_weights, refuse_rows, require_kind, require_size
from studbook.neural.options import Training, require, require_extra
from studbook.parameters import conform
from studbook.records import FitReport

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from studbook.neural.denoisers import Blueprint
    from studbook.neural.diffusion import Noising, Objective, Sampling
    from studbook.neural.images import Pictures
    from studbook.neural.lesson import Lesson

_FAMILY = "diffusion"
_TRAINING = Training(epochs=100, batch=32, rate=2e-3)


@dataclass(frozen=True, slots=True, eq=False)
class DiffusionModel:
    """A trained denoiser.

    Attributes:
        space: Space of the pictures.
        learner: How it was trained and is sampled.
        network: The denoiser with averaged weights, on the CPU.
        classes: The labels that it knows, ascending; empty for an unconditional model.
        shares: ``(len(classes),)`` their shares of the weight of the training set: what generated records' labels are drawn from.
        fit_report: How the fit went.
    """

    space: Space
    learner: Diffusion
    network: nn.Module
    classes: tuple[int, ...]
    shares: Floats
    fit_report: FitReport

    def sample(self, n: int, *, rng: np.random.Generator) -> Batch:
        """``n`` pictures within the space's value range; of a conditional model with labels.

        After a failed fit (``fit_report.failure``) they may be grey.

        Raises:
            DeviceError: CUDA was asked for, and there is none.
            DeviceMemoryError: Memory is used up.
        """
        require_size(n, "n")
        from studbook.neural.device import on_device, session
        from studbook.neural.diffusion import Noising, draw_pictures
        from studbook.neural.images import pictures_of

        learner = self.learner
        positions = rng.choice(len(self.classes), size=n, p=self.shares) if self.classes else None
        with session(learner.training, rng=rng, doing="sampling a diffusion model", batch=learner.batch, lower="learner.batch") as device:
            noising = Noising.of(learner.schedule, learner.steps, device)
            network, sampling = on_device(self.network, device), learner.sampling(len(self.classes))
            pixels = draw_pictures(network, _shape_of(self.space), positions, n, noising, sampling, learner.training)
        labels = None if positions is None else np.array(self.classes, np.int64)[positions]
        return pictures_of(pixels, self.space, labels)

    def save(self, folder: Path) -> None:
        """Write the weights and what they are to ``folder``.

        Raises:
            StorageError: The disk refused.
        """
        from studbook.neural.checkpoints import save_checkpoint

        about = {
            "design": self.learner.design(self.space, len(self.classes)),
            "classes": list(self.classes),
            "shares": self.shares.tolist(),
            "fit": report_as_table(self.fit_report),
        }
        save_checkpoint(folder, _FAMILY, self.network.state_dict(), about)


@dataclass(frozen=True, slots=True)
class Diffusion:
    """A denoising diffusion model (DDPM) of pictures, drawn from by DDIM.

    The denoiser learns to tell the noise that was added to a picture (Ho, Jain and Abbeel 2020); a sample starts as noise alone and is
    denoised in ``sampling_steps`` steps (Song, Meng and Ermon 2021). With ``guidance`` w the conditional prediction is pushed away from
    the unconditional one, (1 + w) · f(x, class) − w · f(x), in the convention of Ho and Salimans (2022): 0 is none, and what others call
    a guidance scale is 1 + w. It sharpens and narrows the samples, so it is a sampling bias that a recursion adds up.

    Attributes:
        network: ``auto`` is an MLP for pictures up to 12 pixels a side, else a U-Net.
        width: Hidden units of the MLP, or channels at the top of the U-Net; 0 is 256, or 32.
        depth: Residual blocks of the MLP, or halvings of the U-Net's side; 0 is 3, or as many as bring the side to 8.
        patch: Side of the squares of pixels that the U-Net takes as one: a quarter of the work for each doubling, and coarser detail;
            0 is 1 up to 16 pixels a side, 2 up to 32, else 4.
        predict: ``noise``, or ``v`` (Salimans and Ho 2022), which also tells something where the picture is nearly all noise.
        steps: Noise levels of the training.
        schedule: How fast the picture goes: ``cosine`` (Nichol and Dhariwal 2021) or ``linear`` (Ho et al. 2020).
        sampling_steps: Levels that a sample visits.
        eta: 0 samples deterministically from its first noise; 1 adds as much noise at each step as DDPM does.
        order: 1 is DDIM, which narrows the samples when its steps are few: a sampling bias. 2 is DPM-Solver++ 2M (Lu et al. 2022), at the
            same cost nearly without it; needs ``eta = 0``.
        average: Decay of the moving average of the weights, which is what is sampled from.
        conditional: Whether it is conditioned on the records' labels. Generated records then carry labels, drawn by their shares in the
            training set.
        guidance: w, 0 or more; needs ``conditional``.
        label_dropout: Share of the training records whose label is hidden; guidance needs some.
        classes: The labels that are known; empty takes those of the original data.
        batch: Pictures that are drawn side by side.
        training: How it is trained.

    Raises:
        ConfigError: A value out of range, or guidance without what it needs.

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import images
        >>> from studbook.learners.diffusion import Diffusion
        >>> from studbook.neural.options import Training
        >>> rng = np.random.default_rng(0)
        >>> data = images(rng.uniform(size=(64, 4, 4)), (0.0, 1.0))
        >>> learner = Diffusion(width=16, depth=1, sampling_steps=5, training=Training(epochs=1))
        >>> model = learner.fit(data, rng=rng)
        >>> model.sample(3, rng=rng).values.shape, model.fit_report.steps
        ((3, 4, 4), 1)
    """

    network: Literal["auto", "mlp", "unet"] = "auto"
    width: int = 0
    depth: int = 0
    patch: int = 0
    predict: Literal["noise", "v"] = "v"
    steps: int = 1000
    schedule: Literal["cosine", "linear"] = "cosine"
    sampling_steps: int = 50
    eta: float = 0.0
    order: int = 1
    average: float = 0.999
    conditional: bool = False
    guidance: float = 0.0
    label_dropout: float = 0.1
    classes: tuple[int, ...] = ()
    batch: int = 256
    training: Training = _TRAINING

    def __post_init__(self) -> None:
        where = "learner"
        conform(self, where)
        require(0 <= self.width <= 8192, where, "width", self.width, "0 (choose by the network) to 8192")
        require(0 <= self.depth <= 64, where, "depth", self.depth, "0 (choose by the network) to 64")
        require(0 <= self.patch <= 64, where, "patch", self.patch, "0 (choose by the side) to 64 pixels")
        require(1 <= self.steps <= 10**6, where, "steps", self.steps, "1 or more noise levels, for example 1000")
        expected = "1 or more, at most learner.steps"
        require(1 <= self.sampling_steps <= self.steps, where, "sampling_steps", self.sampling_steps, expected)
        require(0.0 <= self.eta <= 1.0, where, "eta", self.eta, "0 (deterministic) to 1 (as DDPM)")
        require(self.order in (1, 2), where, "order", self.order, "1 (DDIM) or 2")
        require(0.0 <= self.average < 1.0, where, "average", self.average, "at least 0 (no average) and below 1")
        require(0.0 <= self.guidance < math.inf, where, "guidance", self.guidance, "0 (none) or more")
        require(0.0 <= self.label_dropout < 1.0, where, "label_dropout", self.label_dropout, "a share, at least 0 and below 1")
        require(1 <= self.batch <= 10**6, where, "batch", self.batch, "1 or more pictures")
        if list(self.classes) != sorted(set(self.classes)):
            raise ConfigError(f"learner.classes is {list(self.classes)}, expected different labels in ascending order")
        if self.order == 2 and self.eta:
            raise ConfigError(f"learner.order is 2, with learner.eta {self.eta}", hint="set learner.eta = 0, or learner.order = 1")
        if self.guidance and not self.conditional:
            raise ConfigError(
                f"learner.guidance is {self.guidance}, but the model isn't conditional", hint="set learner.conditional = true"
            )
        if self.guidance and not self.label_dropout:
            message = f"learner.guidance is {self.guidance}, but learner.label_dropout is 0: the model never learns to do without a label"
            raise ConfigError(message, hint="set learner.label_dropout, for example to 0.1")

    def check_original(self, data: Batch) -> None:
        """Refuse data that it can't be fitted to.

        Raises:
            FitError: No pictures, all alike, NaN or infinity, or no labels for a conditional model.
        """
        require_original_pictures(data, _FAMILY)
        self._require_labels(data)

    def condition_on(self, original: Batch) -> Self:
        """The learner with the classes of the original data, so that a class which dies out keeps its place.

        Raises:
            FitError: The data have no labels.
        """
        return replace(self, classes=self._classes_of(original)) if self.conditional else self

    def fit(self, data: Batch, *, rng: np.random.Generator) -> DiffusionModel:
        """The model trained on ``data`` from random weights.

        Raises:
            FitError: Wrong kind, no records, NaN or infinity; no labels, or unknown ones, for a conditional model.
            MissingExtraError: PyTorch isn't installed.
            DeviceError: CUDA was asked for, and there is none.
            DeviceMemoryError: Memory is used up.
        """
        return self._fit(data, None, rng=rng)

    def fit_from(self, start: DiffusionModel, data: Batch, *, rng: np.random.Generator) -> DiffusionModel:
        """The model trained on ``data`` from the weights of ``start``.

        Raises:
            CheckpointError: ``start`` is of another architecture.
            FitError: As ``fit``.
        """
        return self._fit(data, start, rng=rng)

    def own_base(self, space: Space) -> DiffusionModel | None:
        """The model in the folder ``training.base``, where one is named."""
        return self.load(Path(self.training.base).expanduser(), space) if self.training.base else None

    def load(self, folder: Path, space: Space) -> DiffusionModel:
        """The model that ``save`` wrote.

        Raises:
            CheckpointError: Nothing there, damaged, or of another architecture, space or schedule.
            MissingExtraError: PyTorch isn't installed.
        """
        require_extra()
        from studbook.neural.checkpoints import load_checkpoint, load_into

        require_kind(space, (Kind.IMAGES,), _FAMILY)
        tensors, about = load_checkpoint(folder, _FAMILY)
        classes, shares = _read_classes(about, folder)
        if bool(classes) != self.conditional or (self.classes and classes != self.classes):
            wanted = list(self.classes) or ("some" if self.conditional else "none")
            message = f"{folder} was trained on the classes {list(classes) or 'none'}, expected {wanted}"
            raise CheckpointError(message, hint="set learner.conditional and learner.classes as they were")
        require_same_design(str(folder), about.get("design") or {}, self.design(space, len(classes)))
        network = self._blueprint(space, len(classes)).build()
        load_into(network, tensors, str(folder))
        return DiffusionModel(space, self, network.eval(), classes, shares, report_of_table(str(folder), about.get("fit")))

    def design(self, space: Space, n_classes: int) -> dict[str, object]:
        """What the weights depend on, in JSON's types: a checkpoint must say the same."""
        plan = asdict(self._blueprint(space, n_classes))
        return {**plan, "shape": list(plan["shape"]), "predict": self.predict, "schedule": self.schedule, "steps": self.steps}

    def sampling(self, n_classes: int) -> Sampling:
        """How pictures are drawn."""
        from studbook.neural.diffusion import Sampling

        return Sampling(self.predict, self.sampling_steps, self.eta, self.order, self.guidance, n_classes, self.batch)

    def lesson(self, data: Batch, *, start: DiffusionModel | None = None, rng: np.random.Generator) -> Lesson:
        """The training taken apart, on the CPU: for nodes that train together.

        Raises:
            FitError: See ``fit_from``.
        """
        from studbook.neural.diffusion import denoising_loss
        from studbook.neural.lesson import Lesson

        with self._session(replace(self.training, device="cpu"), rng) as device:
            network, pictures, noising, objective = self._prepare(data, start, device)

        def loss(rows: Tensor) -> Tensor:
            return denoising_loss(network, pictures, rows, noising, objective)

        def finish(report: FitReport) -> DiffusionModel:
            return self._model(data, start, network, report)

        return Lesson(network, len(data), loss, finish, decay=self.average)

    def _fit(self, data: Batch, start: DiffusionModel | None, *, rng: np.random.Generator) -> DiffusionModel:
        from studbook.neural.diffusion import train_denoiser

        with self._session(self.training, rng) as device:
            averaged, report = train_denoiser(*self._prepare(data, start, device), self.training, rng=rng)
        return self._model(data, start, averaged, report)

    def _session(self, options: Training, rng: np.random.Generator) -> AbstractContextManager[torch.device]:
        require_extra()
        from studbook.neural.device import session

        return session(options, rng=rng, doing="training a diffusion model", batch=options.batch, lower="learner.training.batch")

    def _prepare(self, data: Batch, start: DiffusionModel | None, device: torch.device) -> tuple[nn.Module, Pictures, Noising, Objective]:
        """The network to train, and what its loss needs."""
        from studbook.neural.checkpoints import load_into
        from studbook.neural.diffusion import Noising, Objective
        from studbook.neural.images import Pictures

        require_pictures(data, _FAMILY)
        classes = self._known_classes(data, start)
        if start is not None:
            require_same_space(start.space, data.space)
            _require_same_classes(start, classes)
        _shares(data, classes)  # refuses unknown labels
        network = self._blueprint(data.space, len(classes)).build()
        if start is not None:
            load_into(network, start.network.state_dict(), "the model to start from")
        objective = Objective(self.predict, self.average, self.label_dropout, len(classes))
        return network.to(device), Pictures.of(data, device, classes), Noising.of(self.schedule, self.steps, device), objective

    def _model(self, data: Batch, start: DiffusionModel | None, network: nn.Module, report: FitReport) -> DiffusionModel:
        classes = self._known_classes(data, start)
        return DiffusionModel(data.space, self, network.cpu().eval(), classes, _shares(data, classes), report)

    def _known_classes(self, data: Batch, start: DiffusionModel | None) -> tuple[int, ...]:
        """The classes of a model fitted to ``data``, from ``start`` or from scratch."""
        own = self._classes_of(data)
        return own if start is None or self.classes else start.classes

    def _require_labels(self, data: Batch) -> None:
        if self.conditional and data.labels is None:
            raise FitError("a conditional diffusion model needs labels, the data have none", hint="set learner.conditional = false")

    def _classes_of(self, data: Batch) -> tuple[int, ...]:
        """The labels that a model fitted to ``data`` knows."""
        self._require_labels(data)
        if not self.conditional or data.labels is None:
            return ()
        return self.classes or tuple(int(label) for label in np.unique(data.labels))

    def _blueprint(self, space: Space, n_classes: int) -> Blueprint:
        from studbook.neural.denoisers import Blueprint

        sizes = {"width": self.width, "depth": self.depth, "patch": self.patch}
        return Blueprint.for_pictures(self.network, _shape_of(space), **sizes, n_classes=n_classes)


def _shape_of(space: Space) -> tuple[int, int, int]:
    """``(channels, height, width)``."""
    return (space.shape[2] if len(space.shape) == 3 else 1, space.shape[0], space.shape[1])


def _shares(data: Batch, classes: tuple[int, ...]) -> Floats:
    """Each class's share of the weight of the training set."""
    if not classes or data.labels is None:
        return np.zeros(0)
    known = np.array(classes, np.int64)
    refuse_rows(~np.isin(data.labels, known), f"a label that isn't one of {', '.join(map(str, classes))}")
    totals = np.bincount(np.searchsorted(known, data.labels), weights=record_weights(data), minlength=len(classes))
    shares: Floats = totals / totals.sum()
    return shares


def _require_same_classes(start: DiffusionModel, classes: tuple[int, ...]) -> None:
    """Refuse to go on from a model of other classes."""
    if start.classes != classes:
        got, expected = list(start.classes) or "none", list(classes) or "none"
        raise CheckpointError(f"the model to start from knows the classes {got}, expected {expected}", hint="set learner.classes alike")


def _read_classes(about: Mapping[str, Any], folder: Path) -> tuple[tuple[int, ...], Floats]:
    """The classes that a checkpoint names, and their shares.

    Raises:
        CheckpointError: They aren't ascending integers with shares that sum to 1.
    """
    classes, shares = about.get("classes"), about.get("shares")
    if isinstance(classes, list) and isinstance(shares, list) and len(classes) == len(shares):
        ascending = all(type(label) is int and abs(label) < 2**62 for label in classes) and classes == sorted(set(classes))
        probable = all(isinstance(share, float) and 0.0 <= share <= 1.0 for share in shares)
        if ascending and probable and (not shares or math.isclose(sum(shares), 1.0, abs_tol=1e-9)):
            return tuple(classes), np.array(shares, np.float64)
    raise CheckpointError(f"{folder} has no proper list of classes with shares that sum to 1", hint="train or copy it again")
