"""One training run of a diagnosis, step by step, with what is looked at on the way."""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from studbook.arrays import AnyArray, Batch, Floats, Ints
from studbook.errors import FitError
from studbook.neural.causal_attention import plain_attention
from studbook.neural.checkpoints import load_checkpoint, load_into, save_checkpoint
from studbook.neural.device import choose_device, precision, tensor_rows
from studbook.neural.options import Training
from studbook.neural.training import Rows, Stepper, epoch_batches
from studbook.protocols.diagnose_networks import Family, Named, Trainee, open_family
from studbook.protocols.diagnose_sources import Setting
from studbook.protocols.values import digest
from studbook.rng import stream

_PROBE_SEED = 0
_CHECKPOINT = "training"


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One run to do.

    Attributes:
        learner: What is trained.
        data: On these records.
        setting: How.
        seed: Root of its streams.
        repeat: Which repeat; the run's streams are named by it.
        looks: Steps that are looked at, ascending from 0; the last one ends the run.
        reload_at: Step after which a checkpoint is written and read, where the setting asks for one.
    """

    learner: Any
    data: Batch
    setting: Setting
    seed: int
    repeat: int
    looks: tuple[int, ...]
    reload_at: int


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """What was seen.

    Attributes:
        digests: Of the weights before the first step and after each one.
        weights: ``(looks, parameters)`` float32.
        losses: ``(looks,)`` of fixed records, with fixed noise, in single precision.
        outputs: ``(looks, n, w)``; see ``Family.probe``.
        training_losses: ``(steps,)`` of each step's own batch, before it.
    """

    digests: tuple[str, ...]
    weights: AnyArray
    losses: Floats
    outputs: AnyArray
    training_losses: Floats


def count_steps(learner: Any, n: int) -> int:
    """Steps of the learner's whole training on ``n`` rows."""
    options: Training = learner.training
    n_validation = min(max(1, round(options.validation * n)), n - 1) if options.validation and n > 1 else 0
    return options.epochs * math.ceil((n - n_validation) / options.batch)


def train_task(task: Task) -> Trace:
    """Train from random weights, as the learner's ``fit`` does, and look at the weights on the way.

    The same seed gives the same weights to the bit as ``fit`` does with ``stream(seed, "diagnose", repeat)``. The validation part is set
    aside, but its loss isn't measured, which would draw noise in a ``vae``; there is no early stop.

    Raises:
        FitError: The loss isn't finite.
        DeviceError: The device isn't there.
    """
    device, before = choose_device(task.learner.training.device), torch.get_num_threads()
    torch.set_num_threads(task.setting.threads)
    try:
        with torch.random.fork_rng(devices=_cuda(device), device_type="cuda"), _engine(task.setting):
            return _Run(task, open_family(task.learner, task.data, device), device).trace()
    finally:
        torch.set_num_threads(before)


@contextmanager
def _engine(setting: Setting) -> Iterator[None]:
    with ExitStack() as stack:
        if setting.engine == "no-onednn":
            stack.enter_context(_onednn(enabled=False))
        if setting.engine == "torch-attention":
            stack.enter_context(plain_attention())
        yield


@contextmanager
def _onednn(*, enabled: bool) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of accelerators that aren't there
        with torch.backends.mkldnn.flags(enabled=enabled):
            yield


@contextmanager
def _as_measured(device: torch.device) -> Iterator[None]:
    """Looking leaves the random state alone, and is done alike whatever the run's own setting."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=_cuda(device), device_type="cuda"), _onednn(enabled=True), torch.no_grad():
            torch.manual_seed(_PROBE_SEED)
            yield
    finally:
        torch.set_num_threads(threads)


class _Run:
    """A run under way."""

    def __init__(self, task: Task, family: Family, device: torch.device) -> None:
        self.task, self.family, self.device = task, family, device
        self.options: Training = replace(task.learner.training, dtype=task.setting.dtype)
        rng = stream(task.seed, "diagnose", task.repeat)
        self.trainee = self._build(int(rng.integers(2**63)))
        self.rows = Rows.divide(family.n, self.options.validation, rng=rng).training
        self.order = stream(task.seed, "diagnose", task.repeat, "order") if task.setting.order else rng
        self.stepper = self._stepper(self.trainee)

    def trace(self) -> Trace:
        """Train to the last look."""
        digests, losses, seen = [self._digest()], [], [self._look()]
        batches = self._batches()
        self.trainee.module.train()
        for step in range(1, self.task.looks[-1] + 1):
            losses.append(self._step(next(batches), step))
            digests.append(self._digest())
            if step in self.task.looks:
                seen.append(self._look())
            if step == self.task.reload_at and self.task.setting.reload != "none":
                self._reload()
        weights, measured, outputs = zip(*seen, strict=True)
        return Trace(tuple(digests), np.stack(weights), np.array(measured), np.stack(outputs), np.array(losses))

    def _step(self, rows: Ints, step: int) -> float:
        with precision(self.options, self.device):
            loss = self.trainee.loss(tensor_rows(rows, self.device))
        value = float(loss.detach())
        if not math.isfinite(value):
            raise FitError(f"the loss was {value} in step {step}", hint="lower learner.training.rate: such a run has no drift to measure")
        self.stepper.step(loss)
        if self.trainee.average is not None:
            self.trainee.average.update(self.trainee.module)
        return value

    def _build(self, seed: int) -> Trainee:
        """The network; whatever its initial weights are, the noise goes on from the same state of the generator."""
        setting = self.task.setting
        torch.manual_seed(seed)
        trainee = self.family.build(setting)
        if setting.weights:
            state = self._random_state()
            torch.manual_seed(int(stream(self.task.seed, "diagnose", self.task.repeat, "weights").integers(2**63)))
            trainee = self.family.build(setting)
            self._set_random_state(state)
        if setting.noise:
            torch.manual_seed(int(stream(self.task.seed, "diagnose", self.task.repeat, "noise").integers(2**63)))
        return trainee

    def _stepper(self, trainee: Trainee) -> Stepper:
        stepper = Stepper(trainee.module, self.options, count_steps(self.task.learner, self.family.n))
        if self.task.setting.engine == "loop-adam":
            for group in stepper.optimizer.param_groups:
                group["fused"], group["foreach"] = False, False
        return stepper

    def _batches(self) -> Iterator[Ints]:
        while True:
            yield from epoch_batches(self.rows, self.options.batch, rng=self.order)

    def _digest(self) -> str:
        weights = _plain(self.trainee.weights())
        if self.trainee.average is not None:  # it is part of what is trained
            weights |= {f"average.{name}": value for name, value in _plain(self.trainee.kept()).items()}
        return digest(weights)

    def _look(self) -> tuple[AnyArray, float, AnyArray]:
        weights = _plain(self.trainee.weights())
        flat = np.concatenate([weights[name].ravel() for name in sorted(weights)])
        with _as_measured(self.device):
            loss, outputs = self.family.probe(self.trainee.kept())
        return flat, loss, outputs

    def _reload(self) -> None:
        """Write a checkpoint, forget everything, and go on from what is read."""
        with tempfile.TemporaryDirectory(prefix="studbook-diagnose-") as folder:
            path = Path(folder) / "checkpoint"
            save_checkpoint(path, _CHECKPOINT, self._checkpoint(), {"steps": self.stepper.steps})
            tensors, about = load_checkpoint(path, _CHECKPOINT)
        how, steps = self.task.setting.reload, int(about["steps"])
        torch.manual_seed(steps)
        self.trainee = self.family.build(self.task.setting)
        self.trainee.module.train()
        for name, part in self.trainee.parts.items():
            held = name if how != "weights" else "network"  # an average that is lost begins again at the weights
            load_into(part, _under(tensors, f"{held}."), "the checkpoint")
        self.stepper = self._stepper(self.trainee)
        self.stepper.steps = steps
        if how != "weights":
            self._restore_optimiser(tensors)
            if self.trainee.average is not None:
                self.trainee.average.steps = steps
        if how != "reseeded":  # where only the weights are lost to it, the noise isn't changed as well
            self._set_random_state(tensors)

    def _checkpoint(self) -> Named:
        tensors = {f"{part}.{name}": value for part, module in self.trainee.parts.items() for name, value in module.state_dict().items()}
        for i, parameter in enumerate(self.stepper.optimizer.param_groups[0]["params"] + self._others()):
            tensors |= {f"optimiser.{i}.{name}": torch.as_tensor(value) for name, value in self.stepper.optimizer.state[parameter].items()}
        return tensors | self._random_state()

    def _random_state(self) -> Named:
        """Of the generators that the run draws from: the processor's, and the device's own."""
        own = {"random_cuda": torch.cuda.get_rng_state(self.device)} if self.device.type == "cuda" else {}
        return {"random": torch.get_rng_state(), **own}

    def _set_random_state(self, state: Named) -> None:
        torch.set_rng_state(state["random"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state["random_cuda"], self.device)

    def _restore_optimiser(self, tensors: Named) -> None:
        for i, parameter in enumerate(self.stepper.optimizer.param_groups[0]["params"] + self._others()):
            held = _under(tensors, f"optimiser.{i}.")
            self.stepper.optimizer.state[parameter] = {name: _laid_out(value, parameter) for name, value in held.items()}

    def _others(self) -> list[torch.nn.Parameter]:
        """Parameters of the other groups."""
        return [parameter for group in self.stepper.optimizer.param_groups[1:] for parameter in group["params"]]


def _cuda(device: torch.device) -> list[torch.device]:
    return [device] if device.type == "cuda" else []


def _under(tensors: Named, prefix: str) -> Named:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _laid_out(value: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """A state as its parameter lies in memory: fused optimisers go through both side by side, and convolutions' channels come last."""
    return torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value


def _plain(weights: Named) -> dict[str, Any]:
    return {name: value.detach().cpu().float().numpy() for name, value in weights.items()}
