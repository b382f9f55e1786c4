"""Diffusion models as claims need them: each picture from noise of its own, step by step, so that any of them can be drawn again alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from studbook.arrays import AnyArray
from studbook.errors import CheckpointError, DataError, VerifierError
from studbook.neural.checkpoints import load_checkpoint, load_into
from studbook.neural.denoisers import Blueprint
from studbook.neural.device import choose_device
from studbook.neural.diffusion import Noising, Sampling, advance, begin_run, guided, sampling_levels
from studbook.records import Environment, ImageSampling
from studbook.verification.models import RegisteredModel
from studbook.verification.noise import PIXELS, STEPS, normals
from studbook.verification.quantised import quantise_weights

_MOST_NUMBERS = 1 << 24


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """Pictures and how they came about.

    Attributes:
        pixels: ``(n, h, w)`` or ``(n, h, w, 3)`` uint8.
        states: ``(n, steps + 1, 2, c, h, w)`` float32: before each step the noisy picture and the last guess, and in the end the picture.
    """

    pixels: AnyArray
    states: AnyArray


class ImageEngine:
    """A registered diffusion model in one environment.

    Args:
        model: Whose files.
        environment: Number type, device and threads; the engine is studbook's own.
        weight_bits: 8 or 4 rounds the weights, which makes it another model; 0 leaves them alone.

    Raises:
        CheckpointError: The model can't be loaded.
        DeviceError: The device isn't there.
        VerifierError: Another engine was asked for.
    """

    def __init__(self, model: RegisteredModel, environment: Environment, *, weight_bits: int = 0) -> None:
        if environment.engine != "studbook":
            raise VerifierError("diffusion models run in studbook's own engine", hint='set the engine to "studbook"')
        self.model, self.environment = model, environment
        self._device = choose_device(environment.device)
        self._network, self._classes, self._design = _open(model)
        if weight_bits:
            quantise_weights(self._network, weight_bits)
        self._network.to(self._device).eval()
        self._noising = Noising.of(self._design["schedule"], self._design["steps"], self._device)

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(channels, height, width)``."""
        return cast("tuple[int, int, int]", tuple(self._design["shape"]))

    @property
    def classes(self) -> tuple[int, ...]:
        """The labels that the model knows; empty for an unconditional one."""
        return self._classes

    def n_steps(self, sampling: ImageSampling) -> int:
        """Steps that a run really has: as many as there are noise levels, at most."""
        return len(sampling_levels(len(self._noising), sampling.steps))

    def write(self, requests: Sequence[str], sampling: ImageSampling, seeds: Sequence[int], *, keep_states: bool = True) -> Drawing:
        """Draw pictures side by side.

        Args:
            requests: The class of each, in decimal digits; empty texts for an unconditional model.
            sampling: How.
            seeds: One a picture.
            keep_states: Whether the drawing has the states before each step, or only the last one.

        Raises:
            DataError: A class that the model doesn't know.
        """
        classes = self._positions(requests)
        start = np.stack([normals(seed, PIXELS, 0, int(np.prod(self.shape))).reshape(self.shape) for seed in seeds])
        with self._running():
            run = begin_run(torch.from_numpy(start.astype(np.float32)).to(self._device))
            states = [_state_of(run)]
            for step in range(self.n_steps(sampling)):
                run = self._advance(run, step, classes, sampling, seeds)
                states = [*(states if keep_states else ()), _state_of(run)]
        whole = np.stack(states, axis=1)
        return Drawing(self.pixels_of(whole[:, -1]), whole)

    def redo(self, state: AnyArray, step: int, request: str, sampling: ImageSampling, seed: int) -> AnyArray:
        """The state ``(2, c, h, w)`` after one step from the state before it.

        Raises:
            DataError: A state of another shape or not finite, no such step, or a class that the model doesn't know.
        """
        if state.shape != (2, *self.shape) or not np.isfinite(state).all():
            raise DataError(
                f"a state has shape {state.shape}, expected {(2, *self.shape)} finite numbers", hint="it isn't this model's run"
            )
        if not 0 <= step < self.n_steps(sampling):
            raise DataError(f"there is no step {step} in a run of {self.n_steps(sampling)}")
        classes = self._positions([request])
        with self._running():
            at = torch.from_numpy(np.ascontiguousarray(state[None], np.float32)).to(self._device)
            run = self._advance((at[:, 0], at[:, 1]), step, classes, sampling, [seed])
            after: AnyArray = _state_of(run)[0]
            return after

    def start(self, seed: int) -> AnyArray:
        """The state ``(2, c, h, w)`` that a seed's run begins with."""
        noise = normals(seed, PIXELS, 0, int(np.prod(self.shape))).reshape(self.shape).astype(np.float32)
        return np.stack([noise, np.zeros_like(noise)])

    def pixels_of(self, states: AnyArray) -> AnyArray:
        """The pictures ``(n, h, w)`` or ``(n, h, w, 3)`` uint8 of last states ``(n, 2, c, h, w)``; halves are rounded to even."""
        values = np.clip(np.rint((states[:, 1].astype(np.float64) + 1.0) * 127.5), 0, 255).astype(np.uint8)
        pixels: AnyArray = np.ascontiguousarray(values[:, 0] if self.shape[0] == 1 else np.moveaxis(values, 1, -1))
        return pixels

    def _advance(
        self, run: tuple[Tensor, Tensor], step: int, classes: Tensor | None, sampling: ImageSampling, seeds: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        how = Sampling(self._design["predict"], sampling.steps, sampling.eta, sampling.order, sampling.guidance, len(self._classes))
        noise = None
        if sampling.eta:
            n = int(np.prod(self.shape))
            drawn = np.stack([normals(seed, STEPS, step, n).reshape(self.shape) for seed in seeds]).astype(np.float32)
            noise = torch.from_numpy(drawn).to(self._device)
        predict = guided(self._network, classes, sampling.guidance, len(self._classes))
        kind = torch.bfloat16 if self.environment.dtype == "bf16" else torch.float32
        with torch.autocast(self._device.type, torch.bfloat16, enabled=kind == torch.bfloat16):
            return advance(predict, run, step, self._noising, how, noise)

    def _positions(self, requests: Sequence[str]) -> Tensor | None:
        known = {str(label): place for place, label in enumerate(self._classes)}
        wrong = next((request for request in requests if (request not in known if known else request != "")), None)
        if wrong is not None:
            expected = f"one of {', '.join(known)}" if known else "no class: the model is unconditional"
            raise DataError(f"the request asks for the class {wrong[:40]!r}, expected {expected}")
        return torch.tensor([known[request] for request in requests], device=self._device) if known else None

    @contextmanager
    def _running(self) -> Iterator[None]:
        before = torch.get_num_threads()
        torch.set_num_threads(self.environment.threads)
        try:
            with torch.inference_mode():
                yield
        finally:
            torch.set_num_threads(before)


def _state_of(run: tuple[Tensor, Tensor]) -> AnyArray:
    state: AnyArray = np.stack([part.float().cpu().numpy() for part in run], axis=1)
    return state


def _open(model: RegisteredModel) -> tuple[nn.Module, tuple[int, ...], dict[str, Any]]:
    tensors, about = load_checkpoint(model.folder, "diffusion")
    try:
        design, classes = dict(about["design"]), tuple(int(label) for label in about["classes"])
        names = ("architecture", "shape", "width", "depth", "patch", "n_classes")
        parts: dict[str, Any] = {name: tuple(design[name]) if name == "shape" else design[name] for name in names}
        plan = Blueprint(**parts)
        sizes = (*plan.shape, plan.width, plan.depth, plan.patch, plan.n_classes, design["steps"])
        usual = all(type(size) is int and 0 <= size <= _MOST_NUMBERS for size in sizes) and 1 <= design["steps"] <= 100_000
        if not usual or len(plan.shape) != 3 or int(np.prod(plan.shape)) > _MOST_NUMBERS or plan.width > _largest(tensors):
            raise ValueError("sizes out of range")
        network = plan.build()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{model.folder} doesn't say how its network is built: {error}", hint="train or copy it again") from error
    load_into(network, tensors, str(model.folder))
    return network, classes, design


def _largest(tensors: dict[str, Tensor]) -> int:
    """The most numbers that a tensor holds: no width of the network is larger."""
    return max((tensor.numel() for tensor in tensors.values()), default=0)
