"""Generative adversarial networks of pictures."""

from __future__ import annotations

import dataclasses
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from studbook.arrays import Batch, Floats, Ints, Space
from studbook.errors import CheckpointError, ConfigError, FitError
from studbook.learners._pictures import (
    report_as_table,
    report_of_table,
    require_original_pictures,
    require_pictures,
    require_same_design,
    require_same_space,
)
from studbook.learners.checks import record_weights, refuse_rows, require_size
from studbook.neural.options import Training, require, require_extra
from studbook.parameters import conform
from studbook.records import FitReport

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from studbook.neural.gan import Critic, Design, Generator
    from studbook.neural.images import Pictures
    from studbook.neural.lesson import Lesson

_FAMILY = "gan"
_LOWER = "learner.training.batch"
_TRAINING = Training(epochs=50, batch=64, rate=5e-4, optimizer="adam", weight_decay=0.0, schedule="constant", warmup=0.0, clip=0.0)
_MAX_CLASSES = 10_000


@dataclass(frozen=True, slots=True, eq=False)
class GanModel:
    """A trained generator, and its critic to go on with.

    Attributes:
        learner: The family and how it was trained.
        space: What a record is.
        fit_report: How the training went. A dead critic, a generator that gives one picture, and a loss that isn't finite are failures;
            the loss is the critic's hinge loss, a record.
        classes: The labels that it knows, ascending; empty where it isn't conditional.
        shares: ``(C,)`` their shares in its training set.
        generator: Averaged weights, on the CPU.
        critic: Weights, on the CPU.
    """

    learner: Gan
    space: Space
    fit_report: FitReport
    classes: tuple[int, ...]
    shares: Floats
    generator: Generator = field(repr=False)
    critic: Critic = field(repr=False)

    def sample(self, n: int, *, rng: np.random.Generator) -> Batch:
        """``n`` independent pictures; of a conditional model with labels, drawn by their shares in the training set.

        Raises:
            ConfigError: ``n`` is negative.
        """
        import torch

        from studbook.neural.device import on_device, session
        from studbook.neural.gan import sample
        from studbook.neural.images import pictures_of

        require_size(n, "n")
        options = self.learner.training
        with session(options, rng=rng, doing="sampling a gan", batch=options.batch, lower=_LOWER) as device:
            pixels, drawn = sample(on_device(self.generator, device), n, torch.from_numpy(self.shares), options, device)
        labels = np.array(self.classes, np.int64)[drawn.numpy()] if self.classes else None
        return pictures_of(pixels, self.space, labels)

    def save(self, folder: Path) -> None:
        """Write the weights and what they are to ``folder``, which is replaced.

        Raises:
            StorageError: The disk refused.
        """
        import torch

        from studbook.neural.checkpoints import save_checkpoint

        parts = {"generator": self.generator, "critic": self.critic}
        tensors = {f"{part}.{name}": value for part, module in parts.items() for name, value in module.state_dict().items()}
        about = {
            "design": dataclasses.asdict(self.generator.design),
            "classes": list(self.classes),
            "fit": report_as_table(self.fit_report),
        }
        shares = {"shares": torch.from_numpy(self.shares)} if self.classes else {}
        save_checkpoint(folder, _FAMILY, {**tensors, **shares}, about)


@dataclass(frozen=True, slots=True)
class Gan:
    """A small convolutional generative adversarial network with the hinge loss.

    The critic is spectrally normalised, and projects on the class where the model is conditional; what generates are averaged weights.
    Training that goes wrong is reported in the model's ``fit_report``, not hidden.

    Attributes:
        latents: Dimensions of the noise, 1 or more.
        width: Channels at full size; doubled with every halving.
        conditional: Whether generated pictures have labels, and are made for them.
        classes: The labels that a conditional model knows; empty: those of the original data.
        critic_steps: Steps of the critic for each step of the generator, each on a batch of its own.
        average: Decay of the average of the generator's weights, a step, in [0, 1).
        training: How both are trained; adam or adamw. There is nothing to stop early by: a gan's losses say how even the game is.

    Raises:
        ConfigError: A value out of range.

    References:
        Goodfellow et al. 2014; Lim, Ye 2017, "Geometric GAN"; Miyato et al. 2018, "Spectral normalization"; Miyato, Koyama 2018, "cGANs
        with projection discriminator"; Yazıcı et al. 2019, "The unusual effectiveness of averaging in GAN training".

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import images
        >>> from studbook.learners import Gan
        >>> from studbook.neural.options import Training
        >>> pictures = images(np.random.default_rng(0).random((100, 4, 4)), (0.0, 1.0), np.arange(100) % 2)
        >>> learner = Gan(latents=2, width=4, conditional=True, training=Training(epochs=2))
        >>> model = learner.fit(pictures, rng=np.random.default_rng(1))
        >>> sample = model.sample(3, rng=np.random.default_rng(2))
        >>> sample.values.shape, set(sample.labels.tolist()) <= {0, 1}
        ((3, 4, 4), True)
    """

    latents: int = 32
    width: int = 16
    conditional: bool = False
    classes: tuple[int, ...] = ()
    critic_steps: int = 1
    average: float = 0.999
    training: Training = _TRAINING

    def __post_init__(self) -> None:
        where = "learner"
        conform(self, where)
        require(1 <= self.latents <= 10_000, where, "latents", self.latents, "1 to 10,000")
        require(1 <= self.width <= 1024, where, "width", self.width, "1 to 1,024 channels")
        require(1 <= self.critic_steps <= 1000, where, "critic_steps", self.critic_steps, "1 to 1,000")
        require(0.0 <= self.average < 1.0, where, "average", self.average, "at least 0 and below 1, for example 0.999")
        require(self.training.optimizer != "sgd", where, "training.optimizer", self.training.optimizer, "adam or adamw")
        if self.training.validation or self.training.patience:
            message = "learner.training.validation is given, but a gan's losses don't tell when to stop"
            raise ConfigError(message, hint="leave validation and patience out")
        if self.classes and not self.conditional:
            raise ConfigError("learner.classes are given, but learner.conditional is false", hint="set learner.conditional = true")
        ascending = list(self.classes) == sorted(set(self.classes)) and len(self.classes) <= _MAX_CLASSES
        require(ascending, where, "classes", list(self.classes)[:10], f"up to {_MAX_CLASSES:,} different labels, ascending")

    def check_original(self, data: Batch) -> None:
        """Refuse original data that no generation can be fitted to.

        Raises:
            FitError: No pictures, a pixel that is NaN or out of range, one record, or equal ones; or no labels for a conditional model.
        """
        require_original_pictures(data, _FAMILY)
        self._classes_of(data)

    def condition_on(self, original: Batch) -> Gan:
        """This learner with the classes of ``original``, whatever is left of them in a later generation's training set.

        Raises:
            FitError: It has no labels, and the learner is conditional.
        """
        return replace(self, classes=self._classes_of(original))

    def fit(self, data: Batch, *, rng: np.random.Generator) -> GanModel:
        """Train from random weights.

        Raises:
            FitError: No pictures, a pixel that is NaN or out of range, or a label that is missing or unknown.
            MissingExtraError: PyTorch isn't installed.
            DeviceError: The device isn't there, or its memory is used up.
        """
        return self._fit(None, data, rng=rng)

    def fit_from(self, start: GanModel, data: Batch, *, rng: np.random.Generator) -> GanModel:
        """Train from another model's averaged generator and its critic, which stay as they are.

        Raises:
            FitError: See ``fit``; or the other model makes pictures of another shape, or of other classes.
            CheckpointError: It has another architecture.
        """
        return self._fit(start, data, rng=rng)

    def own_base(self, space: Space) -> GanModel | None:
        """The model in ``training.base``, or ``None`` where that is empty.

        Raises:
            CheckpointError: See ``load``.
        """
        return self.load(Path(self.training.base).expanduser(), space) if self.training.base else None

    def load(self, folder: Path, space: Space) -> GanModel:
        """The model that ``GanModel.save`` wrote to ``folder``; the classes are those it was trained with.

        Raises:
            CheckpointError: It can't be read, was changed, is of another architecture, or knows other classes than the learner.
        """
        require_extra()
        from studbook.neural.checkpoints import load_checkpoint, load_into
        from studbook.neural.gan import Critic, Generator

        where = str(folder)
        tensors, about = load_checkpoint(folder, _FAMILY)
        classes = _stored_classes(where, about.get("classes"))
        if bool(classes) != self.conditional:
            knows = f"the classes {list(classes)[:10]}" if classes else "no classes"
            message = f"{where} knows {knows}, but learner.conditional is {str(self.conditional).lower()}"
            raise CheckpointError(message, hint="set learner.conditional as it was when it was trained")
        if self.classes and classes != self.classes:
            raise CheckpointError(f"{where} knows the classes {list(classes)}, expected {list(self.classes)}", hint="use equal classes")
        design = self._design(space, classes)
        require_same_design(where, about.get("design"), dataclasses.asdict(design))
        shares = _stored_shares(where, tensors.pop("shares", None), len(classes))
        generator, critic = Generator(design), Critic(design)
        for part, module in (("generator", generator), ("critic", critic)):
            own = {name.removeprefix(f"{part}."): value for name, value in tensors.items() if name.startswith(f"{part}.")}
            load_into(module, own, f"the {part} in {where}")
        report = report_of_table(where, about.get("fit"))
        return GanModel(self, space, report, classes, shares, generator.eval(), critic.eval())

    def check_lesson(self) -> None:
        """Refuse what nodes that train together can't do.

        Raises:
            ConfigError: The players don't take turns one by one.
        """
        if self.critic_steps != 1:
            message = f"learner.critic_steps is {self.critic_steps}, but nodes that train together step both players at once"
            raise ConfigError(message, hint="set learner.critic_steps = 1")

    def lesson(self, data: Batch, *, start: GanModel | None = None, rng: np.random.Generator) -> Lesson:
        """The training taken apart, on the CPU: for nodes that train together. Both players step at once, not in turn.

        Raises:
            FitError: See ``fit_from``.
        """
        import torch

        from studbook.neural.gan import BETAS, both_losses, judge, settle
        from studbook.neural.lesson import Lesson

        with self._session(replace(self.training, device="cpu"), rng) as device:
            generator, critic, pictures, shares = self._prepare(start, data, device)

        def finish(report: FitReport) -> GanModel:
            settle(critic)
            return self._model(data, report, generator, critic)

        network = torch.nn.ModuleDict({"generator": generator, "critic": critic})
        loss = partial(both_losses, generator, critic, pictures, shares)
        verdict = partial(judge, generator, critic, pictures, shares)
        return Lesson(network, len(data), loss, finish, verdict, BETAS, averaged="generator.", decay=self.average, players=True)

    def _fit(self, start: GanModel | None, data: Batch, *, rng: np.random.Generator) -> GanModel:
        from studbook.neural.gan import Game, train

        with self._session(self.training, rng) as device:
            generator, critic, pictures, shares = self._prepare(start, data, device)
            game = Game(self.critic_steps, self.average, shares)
            averaged, report = train(generator, critic, pictures, game, self.training, device=device, rng=rng)
        return self._model(data, report, averaged, critic)

    def _session(self, options: Training, rng: np.random.Generator) -> AbstractContextManager[torch.device]:
        require_extra()
        from studbook.neural.device import session

        return session(options, rng=rng, doing="training a gan", batch=options.batch, lower=_LOWER)

    def _prepare(self, start: GanModel | None, data: Batch, device: torch.device) -> tuple[Generator, Critic, Pictures, Tensor]:
        """Both players, the pictures, and the shares of their classes."""
        import torch

        from studbook.neural.checkpoints import load_into
        from studbook.neural.gan import Critic, Generator
        from studbook.neural.images import Pictures

        require_pictures(data, _FAMILY)
        classes = self._classes_of(data)
        design = self._design(data.space, classes)
        generator, critic = Generator(design), Critic(design)
        if start is not None:
            _require_startable(start, data.space, classes)
            load_into(generator, start.generator.state_dict(), "the model to start from")
            load_into(critic, start.critic.state_dict(), "the model to start from")
        shares = torch.from_numpy(_shares(data, classes))
        return generator.to(device), critic.to(device), Pictures.of(data, device, classes), shares

    def _model(self, data: Batch, report: FitReport, generator: Generator, critic: Critic) -> GanModel:
        classes = self._classes_of(data)
        return GanModel(self, data.space, report, classes, _shares(data, classes), generator.cpu().eval(), critic.cpu().eval())

    def _classes_of(self, data: Batch) -> tuple[int, ...]:
        """The classes of a model of these records."""
        if not self.conditional:
            return ()
        if data.labels is None:
            raise FitError("a conditional gan needs labels, these records have none", hint="set learner.conditional = false")
        if not self.classes:
            return tuple(np.unique(data.labels).tolist())
        unknown = ~np.isin(data.labels, self.classes)
        refuse_rows(unknown, f"a label that isn't among the classes {list(self.classes)[:10]}")
        return self.classes

    def _design(self, space: Space, classes: tuple[int, ...]) -> Design:
        from studbook.neural.gan import Design
        from studbook.neural.images import channels_of

        height, width = space.shape[:2]
        return Design(channels_of(space), height, width, self.latents, self.width, len(classes))


def _shares(data: Batch, classes: tuple[int, ...]) -> Floats:
    """Share of the records' weight in each class."""
    if not classes:
        return np.empty(0)
    labels: Ints = np.asarray(data.labels)
    weights = record_weights(data)
    shares: Floats = np.array([weights[labels == label].sum() for label in classes]) / weights.sum()
    return shares


def _require_startable(start: GanModel, space: Space, classes: tuple[int, ...]) -> None:
    require_same_space(start.space, space)
    if start.classes != classes:
        message = f"the model to start from knows the classes {list(start.classes)}, the data hold {list(classes)}"
        raise FitError(message, hint="set learner.classes to equal ones")


def _stored_classes(where: str, found: Any) -> tuple[int, ...]:
    sound = isinstance(found, list) and len(found) <= _MAX_CLASSES and all(type(label) is int for label in found)
    if not sound or found != sorted(set(found)):
        raise CheckpointError(f"{where} doesn't say which classes it knows", hint="train or copy it again")
    return tuple(found)


def _stored_shares(where: str, found: Any, n_classes: int) -> Floats:
    shares: Floats = np.empty(0) if found is None else found.double().numpy()
    sound = shares.shape == (n_classes,) and bool((shares >= 0).all())
    if not sound or (n_classes and not 0.0 < shares.sum() < np.inf):
        raise CheckpointError(f"{where} holds no shares of its {n_classes} classes", hint="train or copy it again")
    return shares
