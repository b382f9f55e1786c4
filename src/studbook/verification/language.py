"""Language models as claims need them: text is written with noise that can be drawn again, and read in one pass."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from studbook.arrays import AnyArray, Floats
from studbook.errors import CheckpointError, DataError, VerifierError
from studbook.neural.causal import open_network, quiet_transformers, read_config
from studbook.neural.checkpoints import load_checkpoint, load_into
from studbook.neural.decoder import Decoder, DecoderConfig
from studbook.neural.device import choose_device
from studbook.neural.foreign import Foreign, ForeignWriting, read_foreign
from studbook.neural.generate import Readable, Writing, generate
from studbook.neural.options import Decoding
from studbook.neural.tokens import Encoder, has_tokenizer, read_encoder
from studbook.records import Environment, TextSampling
from studbook.verification.models import RegisteredModel
from studbook.verification.noise import Law, draw_token
from studbook.verification.quantised import quantise_weights

_LOGIT_BYTES = 256 << 20


class _Reader(Protocol):
    """A network that gives hidden states and logits apart."""

    @property
    def vocabulary(self) -> int: ...
    @property
    def context(self) -> int: ...
    def __call__(self, tokens: Tensor) -> Tensor: ...
    def logits(self, hidden: Tensor) -> Tensor: ...
    def prefill(self, prompts: Tensor, *, beams: int, max_new: int) -> tuple[Tensor, Writing]: ...


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What one pass over a claimed text shows.

    Attributes:
        drawn: ``(n,)`` the tokens that this model draws at each position, given the claimed ones before it.
        margins: ``(n,)`` how far each claimed token is from the drawn one: see ``noise.draw_token``.
        hidden: ``(n, width)`` float32: the state that each claimed token was drawn from.
    """

    drawn: AnyArray
    margins: Floats
    hidden: AnyArray


class TextEngine:
    """A registered language model in one environment.

    Args:
        model: Whose files.
        environment: Engine, number type, device and threads; ``batch`` is up to whoever calls ``write``.
        weight_bits: 8 or 4 rounds the weights, which makes it another model; 0 leaves them alone.
        half: Leave out the second half of the blocks, which makes it another model (studbook's engine).

    Raises:
        CheckpointError: The model can't be loaded.
        DeviceError: The device isn't there.
        VerifierError: The engine can't run such a model.
    """

    def __init__(self, model: RegisteredModel, environment: Environment, *, weight_bits: int = 0, half: bool = False) -> None:
        self.model, self.environment = model, environment
        self._device = choose_device(environment.device)
        network, self._begin, self._end, self._encoder = _open(model, environment)
        if weight_bits:
            quantise_weights(network, weight_bits)
        if half and isinstance(network, Decoder):
            network.blocks = nn.ModuleList(network.layers[: max(1, len(network.layers) // 2)])
        kind = torch.bfloat16 if environment.dtype == "bf16" else torch.float32
        self._network: _Reader = network.to(self._device, kind).eval()  # type: ignore[assignment]

    @property
    def vocabulary(self) -> int:
        """Tokens that can be written."""
        return self._network.vocabulary

    def encode(self, request: str) -> list[int]:
        """The tokens of a request, after the one that stands for the beginning of a text.

        Args:
            request: The prompt; for a model without a tokenizer a JSON list of token ids.

        Raises:
            DataError: The request can't be encoded.
        """
        ids = _ids_of(request) if self._encoder is None else self._encoder.encode([request]).tolist()
        if any(not 0 <= token < self.vocabulary for token in ids):
            raise DataError(f"the request has a token outside the model's {self.vocabulary:,}", hint="it is a request to another model")
        return [self._begin, *ids]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens; for a model without a tokenizer the JSON list of their ids."""
        if self._encoder is None:
            return json.dumps([int(token) for token in tokens])
        return str(self._encoder.tokenizer.decode([int(token) for token in tokens], skip_special_tokens=False))

    def write(self, prompts: Sequence[Sequence[int]], sampling: TextSampling, seeds: Sequence[int]) -> list[list[int]]:
        """Continue prompts side by side.

        Args:
            prompts: Token ids, as ``encode`` gives them, all equally many.
            sampling: How.
            seeds: One a prompt.

        Returns:
            The new tokens of each, the end token among them.

        Raises:
            DataError: Prompts of different lengths, or too long with what is to be written.
        """
        lengths = {len(prompt) for prompt in prompts}
        if len(lengths) != 1:
            raise DataError(f"prompts side by side have {sorted(lengths)} tokens, expected one length", hint="write them one by one")
        self._require_room(lengths.pop() + sampling.max_new)
        with self._running():
            rows = torch.tensor([list(prompt) for prompt in prompts], device=self._device)
            end = self._end if sampling.stop else None
            if sampling.beams > 1:
                decoding = Decoding(beams=sampling.beams)
                tokens, counts = generate(self._readable(), rows, decoding=decoding, end=end, max_new=sampling.max_new)
                return [row[:count] for row, count in zip(tokens.tolist(), counts.tolist(), strict=True)]
            return self._draw(rows, sampling, seeds, end)

    def _draw(self, rows: Tensor, sampling: TextSampling, seeds: Sequence[int], end: int | None) -> list[list[int]]:
        logits, writing = self._readable().prefill(rows, beams=1, max_new=sampling.max_new)
        written: list[list[int]] = [[] for _ in seeds]
        going = [True] * len(seeds)
        for position in range(sampling.max_new):
            chosen = _chosen(logits, sampling, seeds, position)
            for i, token in enumerate(chosen):
                if going[i]:
                    written[i].append(token)
                    going[i] = token != end
            if not any(going) or position + 1 == sampling.max_new:
                break
            logits = writing.step(torch.tensor(chosen, device=self._device))
        return written

    def read(self, prompt: Sequence[int], tokens: Sequence[int], sampling: TextSampling, seed: int) -> Reading:
        """One pass over a prompt and the claimed tokens after it.

        Args:
            prompt: Token ids, as ``encode`` gives them.
            tokens: The claimed ones, 1 or more.
            sampling: How they are claimed to be drawn. Of beams it looks at greedy ones' margins, which beam search may leave.
            seed: Of the text.

        Raises:
            DataError: A claimed token that the model doesn't have, or a text longer than its context.
        """
        outside = next((token for token in tokens if not 0 <= token < self.vocabulary), None)
        if outside is not None or not tokens:
            got = "no tokens" if outside is None else f"the token {outside}"
            raise DataError(f"the claim has {got}, the model has {self.vocabulary:,} tokens", hint="it isn't this model's output")
        self._require_room(len(prompt) + len(tokens))
        with self._running():
            rows = torch.tensor([[*prompt, *tokens[:-1]]], device=self._device)
            hidden = self._network(rows)[0, len(prompt) - 1 :]
            step = max(1, _LOGIT_BYTES // (4 * self.vocabulary))
            found = [pair for start in range(0, len(tokens), step) for pair in self._margins(hidden, tokens, start, step, (sampling, seed))]
            states = hidden.float().cpu().numpy()
        drawn, margins = zip(*found, strict=True)
        return Reading(np.array(drawn), np.array(margins, np.float64), states)

    def check_end(self, tokens: Sequence[int], sampling: TextSampling) -> None:
        """Return nothing where a text ends where it should: at its full length, or with the only end token in it.

        Raises:
            DataError: It was cut off, or goes on after its end.
        """
        end = self._end if sampling.stop else None
        ended = end is not None and tokens[-1] == end
        if len(tokens) < sampling.max_new and not ended:
            message = f"the text has {len(tokens)} tokens and no end token, {sampling.max_new} were asked for"
            raise DataError(message, hint="it was cut off: it isn't what the model gives")
        if end is not None and end in tokens[:-1]:
            place = list(tokens).index(end)
            raise DataError(f"the text goes on after its end token, token {place}", hint="it isn't what the model gives")

    def _margins(
        self, hidden: Tensor, tokens: Sequence[int], start: int, step: int, how: tuple[TextSampling, int]
    ) -> Iterator[tuple[int, float]]:
        sampling, seed = how
        law = Law(sampling.temperature, sampling.top_k, sampling.top_p)
        logits = self._network.logits(hidden[start : start + step]).float().cpu().numpy()
        for i, row in enumerate(logits):
            yield draw_token(row, law, seed=seed, position=start + i, claimed=tokens[start + i])

    def _readable(self) -> Readable:
        return self._network.prepare() if isinstance(self._network, Decoder) else self._network

    def _require_room(self, n_tokens: int) -> None:
        if n_tokens > self._network.context:
            message = f"prompt and text have {n_tokens:,} tokens, the model sees {self._network.context:,}"
            raise DataError(message, hint="it isn't this model's output, or lower max_new")

    @contextmanager
    def _running(self) -> Iterator[None]:
        before = torch.get_num_threads()
        torch.set_num_threads(self.environment.threads)
        try:
            with torch.inference_mode():
                yield
        finally:
            torch.set_num_threads(before)


class _Module(Foreign):
    """Transformers' module with its hidden states and its head apart."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Hidden states ``(b, t, width)``, after the last norm."""
        out = self.model(input_ids=tokens, use_cache=False, output_hidden_states=True, logits_to_keep=1)
        hidden: Tensor = out.hidden_states[-1]
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits ``(..., vocabulary)``."""
        scores: Tensor = self.model.get_output_embeddings()(hidden)
        return scores[..., : self.vocabulary]

    def prefill(self, prompts: Tensor, *, beams: int, max_new: int) -> tuple[Tensor, ForeignWriting]:
        """See ``Foreign.prefill``."""
        return super().prefill(prompts, beams=beams, max_new=max_new)


def _open(model: RegisteredModel, environment: Environment) -> tuple[nn.Module, int, int | None, Encoder | None]:
    """The network, its begin and end tokens, and its tokenizer."""
    folder = model.folder
    if "config.json" not in model.files:
        if environment.engine != "studbook":
            raise VerifierError(f"{folder} holds a gpt of studbook's, which transformers can't run", hint="set the engine to studbook")
        return *_open_gpt(model), None
    encoder = read_encoder(folder) if has_tokenizer(folder) else None
    config = read_config(folder)
    vocabulary = config.vocab_size - _n_suppressed(folder) if encoder is None else min(len(encoder.vocabulary), config.vocab_size)
    network, _ = open_network(folder, vocabulary)
    module: nn.Module = network.module
    if environment.engine == "transformers":
        with quiet_transformers():
            module = _Module(read_foreign(folder, network.config, vocabulary).model, vocabulary)
    elif isinstance(module, Foreign):
        raise VerifierError(f"studbook's decoder can't run a {config.model_type}", hint="set the engine to transformers")
    end = config.eos_token_id[0] if isinstance(config.eos_token_id, list) and config.eos_token_id else config.eos_token_id
    return module, network.begin, end if isinstance(end, int) and 0 <= end < vocabulary else None, encoder


def _open_gpt(model: RegisteredModel) -> tuple[nn.Module, int, int | None]:
    tensors, about = load_checkpoint(model.folder, "gpt")
    try:
        config = DecoderConfig(**about["config"])
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{model.folder} doesn't say how its network is built", hint="train or copy it again") from error
    if max(config.vocabulary, config.width, config.layers) > max(tensor.numel() for tensor in tensors.values()):
        raise CheckpointError(f"{model.folder} has a config with more numbers than its weights", hint="train or copy it again")
    network = Decoder(config)
    load_into(network, {name.removeprefix("network."): t for name, t in tensors.items() if name != "prompts"}, str(model.folder))
    return network, config.vocabulary, None


def _n_suppressed(folder: Any) -> int:
    """Tokens at the end of the vocabulary that no text holds, as studbook notes them for transformers' ``generate``."""
    file = folder / "generation_config.json"
    try:
        return len(json.loads(file.read_bytes()).get("suppress_tokens") or [])
    except (OSError, ValueError, AttributeError, TypeError):
        return 0


def _ids_of(request: str) -> list[int]:
    try:
        ids = json.loads(request or "[]")
    except (ValueError, RecursionError) as error:
        raise DataError(
            "the model has no tokenizer, and the request isn't a JSON list of token ids", hint='such as "[5, 17, 2]"'
        ) from error
    if not isinstance(ids, list) or not all(type(token) is int for token in ids):
        raise DataError("the model has no tokenizer, and the request isn't a JSON list of token ids", hint='such as "[5, 17, 2]"')
    return ids


def _chosen(logits: Tensor, sampling: TextSampling, seeds: Sequence[int], position: int) -> list[int]:
    law = Law(sampling.temperature, sampling.top_k, sampling.top_p)
    rows = logits.float().cpu().numpy()
    return [draw_token(row, law, seed=seed, position=position)[0] for row, seed in zip(rows, seeds, strict=True)]
