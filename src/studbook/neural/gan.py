"""Generative adversarial networks: generator, critic, their training with the hinge loss, and what can go wrong with it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from studbook.neural.convolutional import Growing, SpectralConv, channels_at, sizes_of
from studbook.neural.device import precision, tensor_rows
from studbook.neural.images import Pictures
from studbook.neural.options import Training
from studbook.neural.training import Average, LastSound, Stepper, epoch_batches
from studbook.records import FitReport

BETAS = (0.5, 0.999)
"""Adam's decays: a short memory of the gradient, since the game goes on moving (Radford, Metz and Chintala 2016)."""
DEAD_LOSS = 0.01
"""A hinge loss of the critic below this has hardly a record left that it learns from."""
EVEN_LOSS = (1.999, 2.001)
"""A loss of 2 with equal outputs everywhere: the critic tells nothing apart."""
DEAD_SPREAD = 1e-4
"""Standard deviation of a critic's outputs below which they are equal."""
LONG = 0.25
"""A critic that is dead for this share of its steps, the last ones, counts as dead; and for `MIN_LONG` steps at least."""
MIN_LONG = 20
CONSTANT = 0.02
"""Pictures whose spread is below this share of the training set's are one picture."""
_N_PROBES = 64


@dataclass(frozen=True, slots=True)
class Design:
    """How generator and critic are built.

    Attributes:
        channels: 1 for grey pictures.
        height: In pixels.
        width: In pixels.
        latents: Dimensions of the noise.
        base: Channels at full size.
        n_classes: 0 where the model isn't conditional.
    """

    channels: int
    height: int
    width: int
    latents: int
    base: int
    n_classes: int


class Generator(nn.Module):
    """From noise ``(n, latents)`` and classes ``(n,)`` to pictures ``(n, c, h, w)`` in [-1, 1]."""

    def __init__(self, design: Design) -> None:
        super().__init__()
        self.design = design
        n_classes, latents = design.n_classes, design.latents
        self.embedding = nn.Embedding(n_classes, latents) if n_classes else None
        inputs = 2 * latents if n_classes else latents
        self.body = Growing(inputs, design.channels, design.height, design.width, design.base)

    def forward(self, noise: Tensor, classes: Tensor | None) -> Tensor:
        """The pictures."""
        if self.embedding is not None:
            noise = torch.cat([noise, self.embedding(classes)], dim=1)
        return torch.tanh(self.body(noise))


class Critic(nn.Module):
    """How real pictures look, ``(n,)``: a network of slope about 1, and the projection of its features on the class.

    References:
        Miyato, Koyama 2018, "cGANs with projection discriminator", equation 3.
    """

    def __init__(self, design: Design) -> None:
        super().__init__()
        base, levels = design.base, len(sizes_of(design.height, design.width)) - 1
        layers: list[nn.Module] = [SpectralConv(design.channels, base), nn.LeakyReLU(0.2)]
        for level in range(1, levels + 1):
            layers += [SpectralConv(channels_at(level - 1, base), channels_at(level, base), stride=2), nn.LeakyReLU(0.2)]
        wide = channels_at(levels, base)
        self.layers = nn.Sequential(*layers, SpectralConv(wide, wide), nn.LeakyReLU(0.2))
        self.score = nn.Linear(wide, 1)
        self.embedding = nn.Embedding(design.n_classes, wide) if design.n_classes else None

    def forward(self, pictures: Tensor, classes: Tensor | None) -> Tensor:
        """Above 0: looks real."""
        features: Tensor = self.layers(pictures).sum(dim=(2, 3))
        scores: Tensor = self.score(features).squeeze(1)
        return scores if self.embedding is None else scores + (self.embedding(classes) * features).sum(1)


@dataclass(frozen=True, slots=True, eq=False)
class Game:
    """How the two are trained against each other.

    Attributes:
        critic_steps: Steps of the critic for each step of the generator.
        average: Decay of the average of the generator's weights.
        shares: ``(C,)`` share of each class in the training set, on the CPU; empty where the model isn't conditional.
    """

    critic_steps: int
    average: float
    shares: Tensor


@dataclass(slots=True)
class _Watch:
    """What the losses say about the game's health."""

    losses: list[float] = field(default_factory=list)
    separated: int = 0
    blind: int = 0

    def see(self, loss: float, spread: float) -> None:
        """After a step of the critic: its loss and the standard deviation of its outputs."""
        self.losses.append(loss)
        self.separated = self.separated + 1 if loss < DEAD_LOSS else 0
        even = EVEN_LOSS[0] < loss < EVEN_LOSS[1] and spread < DEAD_SPREAD
        self.blind = self.blind + 1 if even else 0

    def report(self, an_epoch: int, failure: str | None) -> FitReport:
        """How it went, with ``an_epoch`` steps in an epoch."""
        n_steps = len(self.losses)
        epochs = math.ceil(n_steps / an_epoch)
        last = self.losses[(epochs - 1) * an_epoch :]
        return FitReport(n_steps, epochs, float(np.mean(last)) if last else math.nan, failure=failure)

    def verdict(self) -> str | None:
        """Why the critic counts as dead at the end, or ``None``."""
        long = max(MIN_LONG, math.ceil(LONG * len(self.losses)))
        if self.separated >= long:
            return f"the critic is dead: its hinge loss was below {DEAD_LOSS:g} in its last {self.separated} steps"
        if self.blind >= long:
            return f"the critic is dead: it gave every picture the same score in its last {self.blind} steps"
        return None


def train(
    generator: Generator,
    critic: Critic,
    pictures: Pictures,
    game: Game,
    options: Training,
    *,
    device: torch.device,
    rng: np.random.Generator,
) -> tuple[Generator, FitReport]:
    """Train both in place with the hinge loss.

    Args:
        generator: On ``device``.
        critic: On ``device``.
        pictures: The training set, with classes where the model is conditional.
        game: How they take turns.
        options: Epochs, batch, optimiser.
        device: Where everything is.
        rng: Order of the records.

    Returns:
        The generator with averaged weights, and how it went: the loss is the critic's, a record, in the last epoch. A loss that isn't
        finite ends the training; the critic then has the last weights, and the average is over weights, that gave finite losses.

    References:
        Lim, Ye 2017, "Geometric GAN" (hinge loss); Goodfellow et al. 2014.
    """
    players = _Players(generator, critic, pictures, game, options, device)
    failure = players.play(rng=rng)
    if failure is not None:
        players.sound.restore()
    average = cast(Generator, players.average.module.eval())
    critic.eval()
    failure = failure or players.idle() or players.watch.verdict() or _constant(average, pictures, game.shares, device)
    return average, players.watch.report(math.ceil(len(pictures.pixels) / options.batch), failure)


class _Players:
    """Generator and critic with their optimisers."""

    def __init__(
        self, generator: Generator, critic: Critic, pictures: Pictures, game: Game, options: Training, device: torch.device
    ) -> None:
        n_steps = options.epochs * math.ceil(len(pictures.pixels) / options.batch)
        self.generator, self.critic = generator.train(), critic.train()
        self.average, self.sound, self.watch = Average(generator, game.average), LastSound(critic), _Watch()
        self._pictures, self._game, self._options, self._device = pictures, game, options, device
        self._critic_stepper = Stepper(critic, options, n_steps, betas=BETAS)
        self._generator_stepper = Stepper(generator, options, n_steps // game.critic_steps, betas=BETAS)

    def play(self, *, rng: np.random.Generator) -> str | None:
        """All epochs; says what ended them early."""
        for _ in range(self._options.epochs):
            for rows in epoch_batches(np.arange(len(self._pictures.pixels)), self._options.batch, rng=rng):
                failure = self.turn(tensor_rows(rows, self._device))
                if failure is not None:
                    return failure
        return None

    def turn(self, rows: Tensor) -> str | None:
        """A step of the critic on real records at ``rows``, and one of the generator where it is its turn; says what failed."""
        n_steps = len(self.watch.losses)
        loss, spread = self._critic_step(rows)
        if not math.isfinite(loss):
            return f"the critic's loss was {loss} in step {n_steps + 1}"
        self.watch.see(loss, spread)
        if (n_steps + 1) % self._game.critic_steps:
            return None
        loss = self._generator_step(len(rows))
        return None if math.isfinite(loss) else f"the generator's loss was {loss} in step {n_steps + 1}"

    def idle(self) -> str | None:
        """Says so where the generator had no turn."""
        if self._generator_stepper.steps:
            return None
        steps = len(self.watch.losses)
        return f"the generator took no step: the critic took {steps}, the generator's turn comes after {self._game.critic_steps}"

    def _critic_step(self, rows: Tensor) -> tuple[float, float]:
        with precision(self._options, self._device):
            value, scores = _critic_loss(self.generator, self.critic, self._pictures, rows, self._game.shares)
        loss = float(value.detach())
        if math.isfinite(loss):
            self.sound.keep()
            self._critic_stepper.step(value)
        return loss, float(scores.std(correction=0))

    def _generator_step(self, n: int) -> float:
        with precision(self._options, self._device):
            value = _generator_loss(self.generator, self.critic, n, self._game.shares, self._device)
        loss = float(value.detach())
        if math.isfinite(loss):
            # These weights have just proved sound; the next ones have to first.
            self.average.update(self.generator)
            self._generator_stepper.step(value)
        return loss


def _critic_loss(generator: Generator, critic: Critic, pictures: Pictures, rows: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    """The hinge loss on real records at ``rows`` and as many made ones, and all their scores, without a slope."""
    real_pictures, weights = pictures.pixels[rows], pictures.weights[rows]
    with torch.no_grad():
        fakes, fake_classes = make(generator, len(rows), shares, rows.device)
    # Together, so that the critic's singular vectors take one step, not two.
    both = None if pictures.classes is None else torch.cat([pictures.classes[rows], fake_classes])
    real, fake = critic(torch.cat([real_pictures, fakes]), both).float().chunk(2)
    value = (weights * functional.relu(1.0 - real)).mean() + functional.relu(1.0 + fake).mean()
    return value, torch.cat([real, fake]).detach()


def _generator_loss(generator: Generator, critic: Critic, n: int, shares: Tensor, device: torch.device) -> Tensor:
    """Minus the mean score of ``n`` made pictures, with a slope in the generator's weights alone."""
    critic.requires_grad_(requires_grad=False)
    fakes, classes = make(generator, n, shares, device)
    value: Tensor = -critic(fakes, classes).float().mean()
    critic.requires_grad_(requires_grad=True)
    return value


def both_losses(generator: Generator, critic: Critic, pictures: Pictures, shares: Tensor, rows: Tensor) -> Tensor:
    """The critic's loss at ``rows``; down its slope both players step at once, each on its own loss, instead of in turn.

    The critic is normalised by its singular vectors themselves, so that nothing but weights goes into it.
    """
    settle(critic)
    value, _ = _critic_loss(generator, critic, pictures, rows, shares)
    other = _generator_loss(generator, critic, len(rows), shares, rows.device)
    return value + (other - other.detach())


def settle(critic: Critic) -> None:
    """Normalise the critic by its singular vectors themselves."""
    for module in critic.modules():
        if isinstance(module, SpectralConv):
            module.settle()


def judge(generator: Generator, critic: Critic, pictures: Pictures, shares: Tensor, losses: Sequence[float]) -> str | None:
    """What went wrong with a game of which the critic's losses are known; its outputs are looked at as they are at the end."""
    watch, device = _Watch(), pictures.pixels.device
    rows = torch.arange(min(_N_PROBES, len(pictures.pixels)), device=device)
    with torch.no_grad():
        spread = float(_critic_loss(generator, critic, pictures, rows, shares)[1].std(correction=0))
    for loss in losses:
        watch.see(loss, spread)
    return watch.verdict() or _constant(generator, pictures, shares, device)


def make(generator: Generator, n: int, shares: Tensor, device: torch.device, classes: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """``n`` pictures and their classes, drawn by ``shares`` where they aren't given (and 0 where there are none), on ``device``."""
    noise = torch.randn(n, generator.design.latents).to(device)
    if classes is None:
        classes = torch.multinomial(shares, n, replacement=True) if len(shares) else torch.zeros(n, dtype=torch.long)
    classes = classes.to(device)
    return generator(noise, classes), classes


@torch.no_grad()
def _constant(generator: Generator, pictures: Pictures, shares: Tensor, device: torch.device) -> str | None:
    """Whether the generator gives one picture (of a class) whatever the noise."""
    classes = torch.full((_N_PROBES,), int(shares.argmax())) if len(shares) else None
    spread = _spread(make(generator, _N_PROBES, shares, device, classes)[0])
    real = _spread(pictures.pixels)
    if not math.isfinite(spread):
        return "the generator's pictures hold NaN"
    if real > 0.0 and spread < CONSTANT * real:
        return f"the generator collapsed to one picture: a spread of {spread:.2g} a pixel, against {real:.2g} in its training set"
    return None


def _spread(pixels: Tensor) -> float:
    """Root of the mean variance of the pixels."""
    return float(pixels.float().var(dim=0, correction=0).mean().sqrt())


@torch.no_grad()
def sample(generator: Generator, n: int, shares: Tensor, options: Training, device: torch.device) -> tuple[Tensor, Tensor]:
    """``n`` pictures and their classes, on the CPU."""
    design = generator.design
    pictures = [torch.empty(0, design.channels, design.height, design.width)]
    classes = [torch.empty(0, dtype=torch.long)]
    for start in range(0, n, options.batch):
        with precision(options, device):
            made, drawn = make(generator, min(options.batch, n - start), shares, device)
        pictures.append(made.float().cpu())
        classes.append(drawn.cpu())
    return torch.cat(pictures), torch.cat(classes)
