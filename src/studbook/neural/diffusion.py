"""Denoising diffusion: noise schedules, the training loss, guidance, and the DDIM sampler."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from studbook.arrays import Ints
from studbook.neural.device import precision, tensor_rows
from studbook.neural.images import Pictures
from studbook.neural.options import Training
from studbook.neural.training import Average, fit_module
from studbook.records import FitReport

Schedule: TypeAlias = Literal["cosine", "linear"]
Target: TypeAlias = Literal["noise", "v"]
Denoiser: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""From noisy pictures ``(b, c, h, w)`` and their noise levels ``(b,)`` to what is predicted, of the pictures' shape."""

_COSINE_OFFSET = 0.008
_LARGEST_BETA = 0.999
_VALIDATION_SEED = 0


@dataclass(frozen=True, slots=True, eq=False)
class Noising:
    """How pictures turn to noise: x_t = √ā_t · x_0 + √(1 − ā_t) · ε.

    Attributes:
        kept: ``(steps,)`` float32 in (0, 1), falling: ā_t, the share of the picture's variance at noise level t.

    References:
        Ho, Jain and Abbeel 2020, "Denoising diffusion probabilistic models", eq. 4.

    Examples:
        >>> import torch
        >>> from studbook.neural.diffusion import Noising
        >>> [round(float(share), 2) for share in Noising.of("cosine", 4, torch.device("cpu")).kept]
        [0.85, 0.49, 0.14, 0.0]
    """

    kept: Tensor

    @classmethod
    def of(cls, schedule: Schedule, steps: int, device: torch.device) -> Noising:
        """``cosine`` (Nichol and Dhariwal 2021, eq. 17), or ``linear`` (Ho et al. 2020; its β are scaled by 1000/steps)."""
        if schedule == "linear":
            betas = np.linspace(1e-4, 0.02, steps) * (1000.0 / steps)
        else:
            times = np.arange(steps + 1) / steps
            curve = np.cos((times + _COSINE_OFFSET) / (1.0 + _COSINE_OFFSET) * math.pi / 2.0) ** 2
            betas = 1.0 - curve[1:] / curve[:-1]
        kept = np.cumprod(1.0 - np.clip(betas, 0.0, _LARGEST_BETA))
        return cls(torch.from_numpy(kept.astype(np.float32)).to(device))

    def __len__(self) -> int:
        return len(self.kept)

    def scales(self, levels: Tensor) -> tuple[Tensor, Tensor]:
        """√ā and √(1 − ā) at ``levels`` ``(b,)``, each ``(b, 1, 1, 1)``."""
        kept = self.kept[levels][:, None, None, None]
        return kept.sqrt(), (1.0 - kept).sqrt()


def draw_levels(n: int, steps: int, device: torch.device) -> Tensor:
    """Noise levels ``(n,)`` spread evenly by one random shift, which makes the loss less noisy (Kingma et al. 2021, "VDM")."""
    spread = (torch.rand(1, device=device) + torch.arange(n, device=device) / n) % 1.0
    return (spread * steps).long().clamp_(max=steps - 1)


def target_of(clean: Tensor, noise: Tensor, scales: tuple[Tensor, Tensor], target: Target) -> Tensor:
    """What the network is to predict: the noise, or v = √ā · ε − √(1 − ā) · x_0 (Salimans and Ho 2022)."""
    return noise if target == "noise" else scales[0] * noise - scales[1] * clean


def split_noisy(noisy: Tensor, output: Tensor, scales: tuple[Tensor, Tensor], target: Target) -> tuple[Tensor, Tensor]:
    """The picture and the noise that a prediction says ``noisy`` is made of."""
    signal, noise = scales
    if target == "noise":
        return (noisy - noise * output) / signal, output
    return signal * noisy - noise * output, noise * noisy + signal * output


class _Trained(nn.Module):
    """The network that takes the steps, and the average of its weights that is kept; the early stop looks at the average."""

    def __init__(self, network: nn.Module, average: nn.Module) -> None:
        super().__init__()
        self.network, self.average = network, average


@dataclass(frozen=True, slots=True)
class Objective:
    """What a denoiser is trained on.

    Attributes:
        target: What it predicts.
        decay: Of the moving average of its weights.
        label_dropout: Share of the records whose class is hidden from it.
        n_classes: 0 for an unconditional model; the class of that number stands for "none".
    """

    target: Target
    decay: float
    label_dropout: float
    n_classes: int


def train_denoiser(
    network: nn.Module, pictures: Pictures, noising: Noising, objective: Objective, options: Training, *, rng: np.random.Generator
) -> tuple[nn.Module, FitReport]:
    """Train ``network`` in place on the weighted squared error of its predictions at random noise levels (Ho et al. 2020, eq. 14).

    Returns:
        The network with averaged weights, in evaluation mode, and how the fit went.
    """
    device = pictures.pixels.device
    average = Average(network, objective.decay)
    both = _Trained(network, average.module)

    def loss(rows: Tensor) -> Tensor:
        if both.training:
            return denoising_loss(both.network, pictures, rows, noising, objective)
        # The same noise after every epoch, so that the validation losses differ by the weights alone.
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else [], device_type="cuda"):
            torch.manual_seed(_VALIDATION_SEED)
            return denoising_loss(both.average, pictures, rows, noising, objective)

    report = fit_module(both, len(pictures.pixels), loss, options, device=device, rng=rng, after_step=lambda: average.update(network))
    return both.average.eval(), report


def denoising_loss(network: nn.Module, pictures: Pictures, rows: Tensor, noising: Noising, objective: Objective) -> Tensor:
    """The mean squared error over the pixels of the pictures at ``rows``, weighted by record; a scalar."""
    clean = pictures.pixels[rows]
    levels, noise = draw_levels(len(rows), len(noising), clean.device), torch.randn_like(clean)
    scales = noising.scales(levels)
    classes = None if pictures.classes is None else pictures.classes[rows]
    if classes is not None and objective.label_dropout:
        hidden = torch.rand(len(rows), device=clean.device) < objective.label_dropout
        classes = torch.where(hidden, objective.n_classes, classes)
    output: Tensor = network(scales[0] * clean + scales[1] * noise, levels / len(noising), classes)
    errors = (output.float() - target_of(clean, noise, scales, objective.target)).square().flatten(1).mean(dim=1)
    return (errors * pictures.weights[rows]).mean()


def guided(network: nn.Module, classes: Tensor | None, weight: float, n_classes: int) -> Callable[[Tensor, Tensor], Tensor]:
    """Classifier-free guidance: (1 + w) · f(x, class) − w · f(x, none).

    Args:
        network: From noisy pictures, levels as shares in [0, 1) and classes to predictions.
        classes: ``(b,)`` positions of the classes; ``None`` for an unconditional network.
        weight: w; 0 is the conditional model itself, at half the cost.
        n_classes: The position that stands for "none".

    References:
        Ho and Salimans 2022, "Classifier-free diffusion guidance", eq. 6. Others call 1 + w the weight.
    """
    if classes is None or weight == 0.0:
        return lambda noisy, share: network(noisy, share, classes)
    asked = torch.cat([classes, torch.full_like(classes, n_classes)])

    def predict(noisy: Tensor, share: Tensor) -> Tensor:
        both: Tensor = network(torch.cat([noisy, noisy]), torch.cat([share, share]), asked)
        with_class, without = both.chunk(2)
        return (1.0 + weight) * with_class - weight * without

    return predict


def sampling_levels(steps: int, sampling_steps: int) -> list[int]:
    """The noise levels that the sampler visits, from the last one to 0, closer together where little noise is left.

    Spread as squares (Song et al. 2021, appendix D.2); where two of them round to the same level, it is visited once.

    Examples:
        >>> from studbook.neural.diffusion import sampling_levels
        >>> sampling_levels(1000, 4)
        [999, 444, 111, 0]
    """
    return [int(level) for level in np.unique(np.round((steps - 1) * np.linspace(1.0, 0.0, sampling_steps) ** 2))[::-1]]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How pictures are drawn from a denoiser.

    Attributes:
        target: What it predicts.
        steps: Noise levels that are visited, 1 or more; with one, the picture is guessed at once.
        eta: 0 is deterministic; 1 adds as much noise at each step as DDPM does.
        order: 1 is DDIM; 2 extrapolates from the last two guesses and needs ``eta = 0``.
        guidance: See ``guided``.
        n_classes: 0 for an unconditional model.
        batch: Pictures that are drawn side by side.
        clip: Whether the guessed picture is cut to [-1, 1] at every step.
    """

    target: Target
    steps: int = 50
    eta: float = 0.0
    order: int = 1
    guidance: float = 0.0
    n_classes: int = 0
    batch: int = 256
    clip: bool = True


@torch.no_grad()
def sample_ddim(predict: Denoiser, start: Tensor, noising: Noising, sampling: Sampling) -> Tensor:
    """Turn noise into pictures.

    DDIM is a method of order one: with few steps it narrows what it draws. Of normal pixels with a standard deviation of .3, denoised
    perfectly, it keeps .86 of the variance in 20 steps, .94 in 50 and .98 in 200 (cosine schedule); order two keeps 1.01 in 20.

    Args:
        predict: From noisy pictures and noise levels ``(b,)``, as shares of all of them in [0, 1), to ``sampling.target``.
        start: ``(b, c, h, w)`` standard normal noise.
        noising: The schedule that the denoiser was trained with.
        sampling: How.

    Returns:
        ``(b, c, h, w)``. What isn't a number (a network whose training failed) is 0, the middle grey.

    References:
        Song, Meng and Ermon 2021, "Denoising diffusion implicit models", eqs. 12 and 16; order two: Lu et al. 2022, "DPM-Solver++", 2M.
    """
    run, steps = begin_run(start), len(sampling_levels(len(noising), sampling.steps))
    for step in range(steps):
        noise = torch.randn_like(start) if sampling.eta and step + 1 < steps else None
        run = advance(predict, run, step, noising, sampling, noise)
    return torch.nan_to_num(run[1])


Run: TypeAlias = tuple[Tensor, Tensor]
"""Where a sampler stands: the noisy pictures, and the last guess at the clean ones."""


def begin_run(start: Tensor) -> Run:
    """Where a sampler begins: at noise ``(b, c, h, w)``, and no guess yet."""
    return start, torch.zeros_like(start)


@torch.no_grad()
def advance(predict: Denoiser, run: Run, step: int, noising: Noising, sampling: Sampling, noise: Tensor | None) -> Run:
    """One step of ``sample_ddim``.

    Args:
        predict: See there.
        run: Where it stands; the second part isn't looked at in the first step.
        step: 0 for the first, from noise.
        noising: See there.
        sampling: See there.
        noise: ``(b, c, h, w)`` standard normal, needed where ``eta`` is above 0.
    """
    levels = sampling_levels(len(noising), sampling.steps)
    (noisy, before), level = run, levels[step]
    at = torch.full((len(noisy),), level, device=noisy.device)
    scales = noising.scales(at)
    clean, pointing = split_noisy(noisy, predict(noisy, at / len(noising)).float(), scales, sampling.target)
    if sampling.clip:
        clean = torch.nan_to_num(clean.clamp(-1.0, 1.0))
    if level == levels[-1]:
        return noisy, clean
    ahead = clean
    if sampling.order == 2 and step:
        ahead = clean + (clean - before) * _extrapolation(noising, levels[step - 1 : step + 2])
    if sampling.clip or ahead is not clean:
        # The noise is worked out again, so that picture and noise together still are what was seen.
        pointing = (noisy - scales[0] * ahead) / scales[1]
    return _step_towards(ahead, pointing, noising.kept[level], noising.kept[levels[step + 1]], sampling.eta, noise), clean


def _extrapolation(noising: Noising, levels: list[int]) -> float:
    """How far to go on in the direction of the last change: half the ratio of two steps in log signal-to-noise.

    At most a half: the last steps are long by that measure, and would overshoot.
    """
    before, now, after = (float(x) for x in torch.logit(noising.kept[levels].double()))
    return 0.5 * min(1.0, (after - now) / (now - before))


def _step_towards(clean: Tensor, pointing: Tensor, kept: Tensor, kept_after: Tensor, eta: float, noise: Tensor | None) -> Tensor:
    """The noisy pictures at the next lower noise level."""
    if noise is None or not eta:
        return kept_after.sqrt() * clean + (1.0 - kept_after).sqrt() * pointing
    sigma = eta * ((1.0 - kept_after) / (1.0 - kept) * (1.0 - kept / kept_after)).sqrt()
    rest = (1.0 - kept_after - sigma.square()).clamp_(min=0.0).sqrt()
    return kept_after.sqrt() * clean + rest * pointing + sigma * noise


def draw_pictures(
    network: nn.Module,
    shape: tuple[int, int, int],
    classes: Ints | None,
    n: int,
    noising: Noising,
    sampling: Sampling,
    options: Training,
) -> Tensor:
    """``n`` pictures ``(n, *shape)``, on the CPU, a batch at a time.

    Args:
        network: In evaluation mode, on the device of ``noising``.
        shape: ``(channels, height, width)``.
        classes: ``(n,)`` positions of the wanted classes, or ``None``.
        n: How many; may be 0.
        noising: The schedule.
        sampling: How.
        options: Precision.
    """
    device = noising.kept.device
    drawn = [torch.empty((0, *shape))]
    for first in range(0, n, sampling.batch):
        size = min(sampling.batch, n - first)
        wanted = None if classes is None else tensor_rows(classes[first : first + size], device)
        predict = guided(network, wanted, sampling.guidance, sampling.n_classes)
        with precision(options, device):
            start = torch.randn((size, *shape), device=device)
            pictures = sample_ddim(predict, start, noising, sampling)
        drawn.append(pictures.float().cpu())
    return torch.cat(drawn)
