"""Our own small decoder-only language model."""

from __future__ import annotations

import dataclasses
import json
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from studbook.arrays import AnyArray, Batch, Floats, Space
from studbook.errors import CheckpointError, ConfigError, DataError, FitError
from studbook.learners._pictures import report_as_table, report_of_table
from studbook.learners._text import describe, digest_of_words, end_token, first_outside, require_room, require_text
from studbook.learners.checks import require_size
from studbook.learners.prompted import first_prompts, prompted, prompts_of
from studbook.marks.choice import check_marking, marker_of
from studbook.neural.options import Decoding, Marking, Training, require, require_extra
from studbook.parameters import conform
from studbook.records import FitReport
from studbook.rng import stream

if TYPE_CHECKING:
    import torch

    from studbook.neural.decoder import Decoder
    from studbook.neural.lesson import Lesson

_FAMILY = "gpt"
_TRAINING = Training(epochs=10, batch=16, rate=2e-3)
_DECODING = Decoding()
_MARK = Marking()


@dataclass(frozen=True, slots=True, eq=False)
class GptModel:
    """A trained decoder.

    Attributes:
        learner: The family and the decoding.
        space: Text blocks of one length over one vocabulary.
        fit_report: How the training went; losses are nats a token.
        network: The weights, on the CPU.
        prompts: ``(m, p)`` what generated blocks continue; ``(1, 0)`` for nothing.
    """

    learner: Gpt
    space: Space
    fit_report: FitReport
    network: Decoder = field(repr=False)
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
        require_room(self.space, decoding, self.network.context)
        end, marker = end_token(self.space, decoding), marker_of(self.learner.mark, self.space.n_states)
        with session(options, rng=rng, doing="writing with gpt", batch=decoding.batch, lower="learner.decoding.batch") as device:
            writer = Writer(on_device(self.network, device), self.prompts, decoding, self.space.n_states, end, marker)
            return Batch(writer.blocks(n, self.space.dimension, device=device, rng=rng), self.space)

    def log_prob(self, batch: Batch) -> Floats:
        """Natural log of each block's probability, in nats: ``(n,)``; of the model itself, whatever the decoding.

        Raises:
            DataError: See ``token_log_prob``.
        """
        return np.asarray(self.token_log_prob(batch).sum(axis=1))

    def token_log_prob(self, batch: Batch) -> Floats:
        """Natural log of each token's probability given those before it in its block: ``(n, length)``, in nats.

        Raises:
            DataError: Blocks longer than the context, or a token id that isn't in the vocabulary.
        """
        from studbook.neural.device import on_device, session
        from studbook.neural.language import token_log_probs

        if batch.values.ndim != 2 or batch.values.shape[1] > self.network.context:
            raise DataError(f"blocks have shape {batch.values.shape}, the model sees {self.network.context} tokens")
        if (place := first_outside(batch.values, self.space.n_states)) is not None:
            raise DataError(f"{describe(batch.values, place)}, the model's vocabulary has {self.space.n_states} words")
        options = self.learner.training
        rng = stream(0, "token_log_prob")  # nothing in it is random
        with session(options, rng=rng, doing="measuring text", batch=len(batch), lower="the number of blocks") as device:
            return token_log_probs(on_device(self.network, device), batch.values, self.space.n_states, device=device)

    def with_decoding(self, decoding: Decoding) -> GptModel:
        """The same weights and prompts under another decoding; the number of prompt tokens stays."""
        kept = replace(decoding, prompt=self.learner.decoding.prompt)
        return replace(self, learner=replace(self.learner, decoding=kept))

    def plain(self) -> GptModel:
        """The same model at temperature 1, without truncation, beams, penalties or a mark; itself where that is how it writes."""
        was = self.learner.decoding
        how = Decoding(prompt=was.prompt, max_new=was.max_new, min_new=was.min_new, end=was.end, batch=was.batch)
        unmarked = replace(self, learner=replace(self.learner, mark=_MARK)) if self.learner.mark != _MARK else self
        return unmarked if how == was else unmarked.with_decoding(how)

    def shown_prompts(self, n: int) -> Batch | None:
        """The prompts of the first blocks of a sample of ``n``; ``None`` where blocks don't continue a prompt each."""
        return first_prompts(self.prompts, n, self.space, self.learner.decoding)

    def save(self, folder: Path) -> None:
        """Write the weights and what they are to ``folder``, which is replaced.

        Raises:
            StorageError: The disk refused.
        """
        import torch

        from studbook.neural.checkpoints import save_checkpoint

        about = {
            "config": dataclasses.asdict(self.network.config),
            "vocabulary": digest_of_words(self.space),
            "fit": report_as_table(self.fit_report),
        }
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        if self.prompts.shape[1]:
            tensors["prompts"] = torch.from_numpy(self.prompts.astype(np.int32))
        save_checkpoint(folder, _FAMILY, tensors, about)


@dataclass(frozen=True, slots=True)
class Gpt:
    """A small decoder-only transformer over the data's tokens (words, bytes or BPE pieces: the data source's choice).

    Pre-norm blocks, learned positions, GELU, tied embeddings (Radford et al. 2019). Every window begins with an embedding of its own.

    Attributes:
        layers: Blocks, 1 or more.
        width: Numbers a token, a multiple of ``heads``.
        heads: Attention heads.
        context: Tokens that the model sees in a row; 0 is a block. With a larger one neighbouring blocks are trained on end to end, so that
            a prompt and its continuation stay within what was trained.
        dropout: Share of numbers that are dropped while training, in [0, 1).
        training: How the network is trained.
        decoding: How it writes.
        mark: The watermark of what it writes.

    Raises:
        ConfigError: A size out of range.

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import text
        >>> from studbook.learners import Gpt
        >>> from studbook.neural.options import Training
        >>> blocks = text(np.tile([0, 1, 2, 1], (40, 2)), ("the", "cat", "sat"))
        >>> learner = Gpt(layers=1, width=16, heads=2, training=Training(epochs=20, batch=8, rate=1e-2))
        >>> model = learner.fit(blocks, rng=np.random.default_rng(0))
        >>> model.sample(1, rng=np.random.default_rng(1)).values[0].tolist()
        [0, 1, 2, 1, 0, 1, 2, 1]
    """

    layers: int = 4
    width: int = 128
    heads: int = 4
    context: int = 0
    dropout: float = 0.0
    training: Training = _TRAINING
    decoding: Decoding = _DECODING
    mark: Marking = _MARK

    def __post_init__(self) -> None:
        where = "learner"
        conform(self, where)
        require(1 <= self.layers <= 1000, where, "layers", self.layers, "1 to 1,000")
        require(1 <= self.width <= 65_536, where, "width", self.width, "1 to 65,536")
        require(1 <= self.heads <= self.width, where, "heads", self.heads, "1 up to the width")
        require(0 <= self.context <= 1 << 20, where, "context", self.context, "0 (a block) or more tokens")
        require(0.0 <= self.dropout < 1.0, where, "dropout", self.dropout, "at least 0 and below 1")
        if self.width % self.heads:
            raise ConfigError(f"learner.width is {self.width}, not a multiple of learner.heads, {self.heads}")

    def check_original(self, batch: Batch) -> None:
        """Refuse data and a decoding that don't fit each other or the model.

        Raises:
            FitError: Not text, no blocks, a token id that isn't in the vocabulary, or a weight that isn't positive.
            ConfigError: Prompt and continuation are longer than the context, or an end token that isn't in the vocabulary.
        """
        require_text(batch, "gpt")
        if self.context and self.context < batch.space.dimension:
            message = f"learner.context is {self.context}, the data's blocks have {batch.space.dimension} tokens"
            raise ConfigError(message, hint="set it to 0, or to a multiple of data.block")
        require_room(batch.space, self.decoding, self._context(batch.space))
        end_token(batch.space, self.decoding)
        check_marking(self.mark, self.decoding, batch.space.n_states)

    def condition_on(self, original: Batch) -> object:
        """This learner with its prompts taken from ``original``, whatever a later generation is trained on."""
        return prompted(self, original)

    def fit(self, data: Batch, *, rng: np.random.Generator) -> GptModel:
        """Train from random weights.

        Raises:
            FitError: See ``check_original``.
            MissingExtraError: PyTorch isn't installed.
            DeviceError: The device isn't there.
            DeviceMemoryError: Memory is used up.
        """
        return self._fit(None, data, rng=rng)

    def fit_from(self, start: GptModel, data: Batch, *, rng: np.random.Generator) -> GptModel:
        """Train from another model's weights, which stay as they are.

        Raises:
            FitError: See ``fit``; or the other model has another vocabulary.
            CheckpointError: It has another architecture.
        """
        return self._fit(start, data, rng=rng)

    def lesson(self, data: Batch, *, start: GptModel | None = None, rng: np.random.Generator) -> Lesson:
        """The training taken apart, on the CPU: for nodes that train together.

        Raises:
            FitError: See ``fit_from``.
        """
        with self._session(replace(self.training, device="cpu"), rng) as device:
            return self._lesson(start, data, device)

    def check_base(self, space: Space) -> bool:
        """Whether ``training.base`` names a base; its files are checked.

        Raises:
            CheckpointError: It can't be loaded, or doesn't fit the data.
        """
        return self.own_base(space) is not None

    def own_base(self, space: Space) -> GptModel | None:
        """The model that ``training.base`` names, or ``None``."""
        return self.load(Path(self.training.base).expanduser(), space) if self.training.base else None

    def load(self, folder: Path, space: Space) -> GptModel:
        """The model that ``GptModel.save`` wrote.

        Raises:
            CheckpointError: It can't be read, was changed, is of another architecture or over another vocabulary.
        """
        require_extra()
        from studbook.neural.checkpoints import load_checkpoint, load_into

        tensors, about = load_checkpoint(folder, _FAMILY)
        if about.get("vocabulary") != digest_of_words(space):
            raise CheckpointError(f"{folder} was trained on another vocabulary than the data's", hint="use the data that it was trained on")
        network = self._network(space)
        if about.get("config") != json.loads(json.dumps(dataclasses.asdict(network.config))):
            raise CheckpointError(
                f"{folder} is of another architecture: {_difference(about.get('config'), dataclasses.asdict(network.config))}",
                hint="set the learner's sizes as they were when it was trained",
            )
        prompts = tensors.pop("prompts", None)
        load_into(network, {name.removeprefix("network."): value for name, value in tensors.items()}, str(folder))
        kept = np.empty((1, 0), np.int32) if prompts is None else prompts.numpy()
        return GptModel(self, space, report_of_table(str(folder), about.get("fit")), network.eval(), kept)

    def _context(self, space: Space) -> int:
        return self.context or space.dimension

    def _network(self, space: Space) -> Decoder:
        from studbook.neural.decoder import Decoder, DecoderConfig

        return Decoder(
            DecoderConfig(
                vocabulary=space.n_states,
                width=self.width,
                layers=self.layers,
                heads=self.heads,
                context=self._context(space),
                special=1,
                dropout=self.dropout,
            )
        )

    def _fit(self, start: GptModel | None, data: Batch, *, rng: np.random.Generator) -> GptModel:
        with self._session(self.training, rng) as device:
            model: GptModel = self._lesson(start, data, device).fit(self.training, device=device, rng=rng)
        return model

    def _session(self, options: Training, rng: np.random.Generator) -> AbstractContextManager[torch.device]:
        require_extra()
        from studbook.neural.device import session

        return session(options, rng=rng, doing="training gpt", batch=options.batch, lower="learner.training.batch")

    def _lesson(self, start: GptModel | None, data: Batch, device: torch.device) -> Lesson:
        from studbook.neural.checkpoints import load_into
        from studbook.neural.language import Windows
        from studbook.neural.lesson import Lesson

        self.check_original(data)
        space, prompts = data.space, prompts_of(data, self.decoding.prompt)
        network = self._network(space).to(device)
        if start is not None:
            _require_same_words(start.space, space)
            load_into(network, start.network.state_dict(), "the model to start from")
        context = min(self._context(space), data.values.size)  # no window is larger than the training set
        windows = Windows.of(data.values, data.weights, context=context, begin=space.n_states, device=device)
        loss = partial(windows.loss, network)
        return Lesson(network, len(windows), loss, lambda report: GptModel(self, space, report, network.cpu().eval(), prompts))


def _require_same_words(start: Space, space: Space) -> None:
    """Refuse to go on from a model of other text."""
    if start.vocabulary != space.vocabulary:
        raise FitError("the model to start from has another vocabulary than the data", hint="pretrain it on data of the same source")


def _difference(got: object, expected: dict[str, object]) -> str:
    if not isinstance(got, dict):
        return "it doesn't say how it is built"
    name = next((n for n in expected if got.get(n) != expected[n]), "")
    return f"its {name} is {got.get(name)!r}, expected {expected.get(name)!r}" if name else "it has other parameters"
