"""The families taken apart for a diagnosis: a network and its loss to step on, and a gauge that weights of any run are held against."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from studbook.arrays import AnyArray, Batch
from studbook.fingerprints import PerceptualHash
from studbook.learners.diffusion import Diffusion
from studbook.learners.gpt import Gpt
from studbook.learners.vae import Vae
from studbook.neural.decoder import Decoder
from studbook.neural.options import Decoding, Training
from studbook.neural.training import Average
from studbook.neural.vae import VaeNetwork, mean_bound
from studbook.protocols.diagnose_sources import Setting

N_PROBED = 16
"""Records that the loss is measured on."""
N_OUTPUTS = 16
"""Pictures, or texts, that are fingerprinted."""
_SAMPLING_STEPS, _PROMPT = 10, 8

Named = dict[str, Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Trainee:
    """A network in training.

    Attributes:
        module: What is trained.
        loss: The mean loss of the rows, whose gradient is that of the whole batch or the sum of its parts'.
        weights: Its weights in the family's names.
        parts: The networks that a checkpoint holds, by name: the one that is trained, and its average where it has one.
        average: The moving average of its weights, where it has one.
    """

    module: nn.Module
    loss: Callable[[Tensor], Tensor]
    weights: Callable[[], Named]
    parts: Mapping[str, nn.Module]
    average: Average | None = None

    def kept(self) -> Named:
        """The weights that outputs are made with: the average's, where there is one."""
        return dict(self.parts["average"].state_dict()) if "average" in self.parts else self.weights()


class Family(Protocol):
    """A learner and its data, ready to be trained under any setting."""

    @property
    def n(self) -> int:
        """Rows."""
        ...

    @property
    def unit(self) -> str:
        """What ``probe`` counts in outputs: ``"bits"`` of hashes, or ``"tokens"``."""
        ...

    @property
    def has_twin(self) -> bool:
        """Whether transformers implements the same network."""
        ...

    def build(self, setting: Setting) -> Trainee:
        """A trainee with random weights from PyTorch's generator."""
        ...

    def probe(self, weights: Named) -> tuple[float, AnyArray]:
        """The loss of fixed records under fixed noise, and outputs: bits ``(n, w)`` of hashes, or tokens ``(n, t)``."""
        ...


def open_family(learner: Any, data: Batch, device: torch.device) -> Family:
    """The family of a learner that ``check_learner`` takes; the data are checked.

    Raises:
        FitError: Data that the learner can't be fitted to.
        ConfigError: Sizes that don't fit the data.
    """
    learner.check_original(data)
    if isinstance(learner, Diffusion):
        return _Diffusing(learner, data, device)
    return _Encoding(learner, data, device) if isinstance(learner, Vae) else _Writing(learner, data, device)


def distance(one: AnyArray, other: AnyArray) -> float:
    """How far apart outputs are, 0 … 1: the share of bits of hashes (uint8) or of tokens that differ, over all outputs."""
    if one.dtype == np.uint8:
        return float(np.unpackbits(np.bitwise_xor(one, other, dtype=np.uint8)).mean())
    return float((one != other).mean())


class _Parted(nn.Module):
    """A network that takes its batch in parts: the same numbers in, and gradients that are summed part by part."""

    def __init__(self, module: nn.Module, n: int) -> None:
        super().__init__()
        self.module, self.n_parts = module, n

    def forward(self, first: Tensor, *others: Tensor | None) -> Tensor:
        size = math.ceil(len(first) / self.n_parts)
        spans = [slice(start, start + size) for start in range(0, len(first), size)]
        return torch.cat([self.module(first[span], *(None if x is None else x[span] for x in others)) for span in spans])


def _summed(loss: Callable[[Tensor], Tensor], count: Callable[[Tensor], float], n: int) -> Callable[[Tensor], Tensor]:
    """The loss of a batch as the weighted sum of its micro-batches', each of which draws its own noise."""

    def parted(rows: Tensor) -> Tensor:
        chunks = torch.split(rows, math.ceil(len(rows) / n))
        whole = sum(count(chunk) for chunk in chunks)
        return torch.stack([loss(chunk) * (count(chunk) / whole) for chunk in chunks]).sum()

    return parted


def _records(rows: Tensor) -> float:
    return float(len(rows))


def _state(module: nn.Module) -> Callable[[], Named]:
    return lambda: dict(module.state_dict())


class _Pictured:
    """What the families of pictures have in common."""

    unit, has_twin = "bits", False

    def __init__(self, data: Batch, device: torch.device, options: Training, classes: tuple[int, ...] = ()) -> None:
        from studbook.neural.images import Pictures

        self.pictures, self.device, self.space = Pictures.of(data, device, classes), device, data.space
        self.options = replace(options, dtype="fp32")

    @property
    def n(self) -> int:
        return len(self.pictures.pixels)

    def _probed(self) -> Tensor:
        return torch.arange(min(N_PROBED, self.n), device=self.device)

    @staticmethod
    def _hashes(pixels: Tensor) -> AnyArray:
        """Perceptual hashes of pictures ``(n, c, h, w)`` in [-1, 1]; other than three channels are averaged."""
        levels = ((pixels.float().cpu().numpy() + 1.0) * 127.5).round().clip(0, 255).astype(np.uint8)
        shown = np.moveaxis(levels, 1, -1) if levels.shape[1] == 3 else levels.mean(axis=1).astype(np.uint8)
        return PerceptualHash().pack(np.ascontiguousarray(shown))


class _Diffusing(_Pictured):
    """Denoising diffusion; pictures are drawn from the averaged weights."""

    def __init__(self, learner: Diffusion, data: Batch, device: torch.device) -> None:
        from studbook.neural.diffusion import Noising, Objective

        classes = learner._classes_of(data)  # the same network and classes as in a study
        super().__init__(data, device, learner.training, classes)
        self.learner, self.blueprint = learner, learner._blueprint(data.space, len(classes))
        self.noising = Noising.of(learner.schedule, learner.steps, device)
        self.objective = Objective(learner.predict, learner.average, learner.label_dropout, len(classes))
        with torch.random.fork_rng(devices=[]):
            self.gauge = self.blueprint.build().to(device).eval()

    def build(self, setting: Setting) -> Trainee:
        from studbook.neural.diffusion import denoising_loss

        network = self.blueprint.build().to(self.device)
        average = Average(network, self.learner.average)
        shared = _Parted(network, setting.parts) if setting.parts > 1 and not setting.own_noise else network

        def loss(rows: Tensor) -> Tensor:
            return denoising_loss(shared, self.pictures, rows, self.noising, self.objective)

        whole = _summed(loss, _records, setting.parts) if setting.own_noise else loss
        parts = {"network": network, "average": average.module}
        return Trainee(network, whole, _state(network), parts, average)

    def probe(self, weights: Named) -> tuple[float, AnyArray]:
        from studbook.neural.diffusion import denoising_loss, draw_pictures

        self.gauge.load_state_dict(weights)
        loss = denoising_loss(self.gauge, self.pictures, self._probed(), self.noising, replace(self.objective, label_dropout=0.0))
        n_classes = self.objective.n_classes
        how = replace(self.learner.sampling(n_classes), steps=min(_SAMPLING_STEPS, self.learner.steps), eta=0.0, guidance=0.0)
        wanted = np.arange(N_OUTPUTS) % n_classes if n_classes else None
        drawn = draw_pictures(self.gauge, self.blueprint.shape, wanted, N_OUTPUTS, self.noising, how, self.options)
        return float(loss), self._hashes(drawn)


class _Encoding(_Pictured):
    """Variational autoencoders; pictures are decoded from fixed latents."""

    def __init__(self, learner: Vae, data: Batch, device: torch.device) -> None:
        super().__init__(data, device, learner.training)
        self.learner, self.design = learner, learner._design(data.space)
        with torch.random.fork_rng(devices=[]):
            self.gauge = VaeNetwork(self.design).to(device).eval()

    def build(self, setting: Setting) -> Trainee:
        network = VaeNetwork(self.design).to(self.device)
        shared = network
        if setting.parts > 1 and not setting.own_noise:
            shared = copy.copy(network)  # the same weights; only what it is called through differs
            shared._modules = {name: _Parted(part, setting.parts) for name, part in network.named_children()}
        loss = self._loss(shared)
        if setting.own_noise:
            loss = _summed(loss, _records, setting.parts)
        return Trainee(network, loss, _state(network), {"network": network})

    def probe(self, weights: Named) -> tuple[float, AnyArray]:
        from studbook.neural.vae import sample

        self.gauge.load_state_dict(weights)
        loss = float(self._loss(self.gauge)(self._probed()))
        return loss, self._hashes(sample(self.gauge, N_OUTPUTS, self.options, draw=False, device=self.device))

    def _loss(self, network: VaeNetwork) -> Callable[[Tensor], Tensor]:
        return partial(mean_bound, network, self.pictures, self.learner.beta)


class _Writing:
    """Language models: studbook's decoder, or transformers' implementation of the same; text is drawn by fixed random numbers.

    Not greedily: in its first steps every model repeats the commonest word, whatever the differences between them.
    """

    unit = "tokens"

    def __init__(self, learner: Any, data: Batch, device: torch.device) -> None:
        from studbook.neural.language import Windows

        self.learner, self.device, space = learner, device, data.space
        self.start = None if isinstance(learner, Gpt) or learner.training.start == "scratch" else learner.own_base(space)
        with torch.random.fork_rng(devices=[]):
            self.gauge = self._network(space).to(device).eval()
            self.made = None
            if not isinstance(learner, Gpt):
                self.made = self.start.network if self.start is not None else learner._random(space)
        self.begin = space.n_states if self.made is None else self.made.begin
        context = min(learner.context or space.dimension, self.gauge.context, data.values.size)
        self.space, self.windows = space, Windows.of(data.values, data.weights, context=context, begin=self.begin, device=device)
        length = min(_PROMPT, space.dimension // 2)
        self.prompts, self.n_new = np.ascontiguousarray(data.values[:N_OUTPUTS, :length]), max(1, space.dimension - length)

    @property
    def n(self) -> int:
        return len(self.windows)

    @property
    def has_twin(self) -> bool:
        return isinstance(self.gauge, Decoder)

    def build(self, setting: Setting) -> Trainee:
        network = self._network(self.space).to(self.device)
        read = _state(network)
        if setting.engine == "transformers":
            network, read = self._foreign(network)

        def loss(rows: Tensor) -> Tensor:
            return self.windows.loss(network, rows)

        whole = _summed(loss, self._tokens, setting.parts) if setting.parts > 1 else loss
        return Trainee(network, whole, read, {"network": network})

    def probe(self, weights: Named) -> tuple[float, AnyArray]:
        from studbook.neural.language import Writer

        self.gauge.load_state_dict(weights)
        rows = torch.arange(min(N_PROBED, self.n), device=self.device)
        loss = float(self.windows.loss(self.gauge, rows))
        writer = Writer(self.gauge, self.prompts, Decoding(), self.begin, None)
        written = writer.blocks(len(self.prompts), self.n_new, device=self.device, rng=np.random.default_rng(0))
        return loss, written.astype(np.int32)

    def _network(self, space: Any) -> Any:
        """As the learner makes it; the module of a pretrained model is copied."""
        if isinstance(self.learner, Gpt):
            return self.learner._network(space)
        return copy.deepcopy(self.start.network.module) if self.start is not None else self.learner._random(space).module

    def _tokens(self, rows: Tensor) -> float:
        """Whole blocks in some windows: what their mean loss is a mean over."""
        joined, n = self.windows.n_joined, len(self.windows.blocks)
        return float((n - rows * joined).clamp(max=joined).sum())

    def _foreign(self, network: Decoder) -> tuple[nn.Module, Callable[[], Named]]:
        """Transformers' model with the same weights, and how they are read back in the decoder's names."""
        from transformers import AutoModelForCausalLM

        from studbook.neural.architectures import from_decoder, to_decoder
        from studbook.neural.causal import quiet_transformers
        from studbook.neural.foreign import Foreign

        config = copy.deepcopy(self._config())
        for name in [name for name in vars(config) if name.endswith(("pdrop", "dropout"))]:
            setattr(config, name, 0.0)
        with quiet_transformers(), torch.random.fork_rng(devices=[]):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False).float().to(self.device)
        model.load_state_dict(from_decoder(network.state_dict(), config, network.config), strict=False)
        shape = network.config

        def read() -> Named:
            return to_decoder({name: value.detach() for name, value in model.state_dict().items()}, config, shape, "transformers' model")

        return Foreign(model, network.vocabulary), read

    def _config(self) -> Any:
        """Transformers' config of the same network: ``gpt`` is a GPT-2 with a token more, which begins a text."""
        if self.made is not None:
            return self.made.config
        from studbook.neural.causal import random_network

        sizes = (self.learner.layers, self.learner.width, self.learner.heads)
        with torch.random.fork_rng(devices=[]):
            return random_network("gpt2-tiny", sizes, self.space.n_states, context=self.gauge.context).config
