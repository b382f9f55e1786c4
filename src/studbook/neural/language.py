"""Language models on blocks of tokens: their loss, probabilities and writing; for our own decoder and for transformers' modules alike."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from studbook.arrays import AnyArray, Floats, Ints
from studbook.neural.decoder import Decoder
from studbook.neural.generate import Readable, Writing, generate
from studbook.neural.options import Decoding
from studbook.neural.parts import in_parts
from studbook.neural.stream import Packed, packable, text_log_likelihoods
from studbook.neural.token_loss import IGNORED, token_log_likelihood, token_loss

NUMBER_BYTES = {"cpu": 8 << 20, "cuda": 64 << 20}
"""What the widest numbers of a batch take where probabilities are measured; on a CPU they stay in the cache."""

PACKED_FROM = 2048
"""Tokens from which on laying a decoder's weights out takes less time than it saves."""


class LanguageNetwork(Protocol):
    """A network that reads tokens and predicts the next one: ``decoder.Decoder``, ``foreign.Foreign``."""

    @property
    def vocabulary(self) -> int: ...
    @property
    def context(self) -> int: ...
    def __call__(self, tokens: Tensor) -> Tensor: ...
    def logits(self, hidden: Tensor) -> Tensor: ...
    def prefill(self, prompts: Tensor, *, beams: int, max_new: int) -> tuple[Tensor, Writing]: ...


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """A training set cut into what the network sees at once.

    Attributes:
        blocks: ``(n, length)`` token ids on the device.
        weights: ``(n,)`` with mean 1, or ``None``.
        n_joined: Neighbouring blocks that are put end to end.
        begin: The token that stands for the beginning of a text.
    """

    blocks: Tensor
    weights: Tensor | None
    n_joined: int
    begin: int

    @classmethod
    def of(cls, blocks: AnyArray, weights: Floats | None, *, context: int, begin: int, device: torch.device) -> Windows:
        """Windows of as many whole blocks as ``context`` tokens hold, one at least."""
        shares = None if weights is None else torch.from_numpy((weights / weights.mean()).astype(np.float32)).to(device)
        tokens = torch.from_numpy(np.require(blocks, np.int32, ["C", "W"])).to(device)
        return cls(tokens, shares, max(1, context // blocks.shape[1]), begin)

    def __len__(self) -> int:
        return math.ceil(len(self.blocks) / self.n_joined)

    def loss(self, network: LanguageNetwork, rows: Tensor) -> Tensor:
        """Mean −ln p a token in the windows ``rows``, in nats, weighted by the blocks' weights."""
        inputs, targets = self._shifted(rows)
        shares = None
        if self.weights is not None:
            each = self.weights[self._records(rows).clamp(max=len(self.blocks) - 1)]
            shares = each.repeat_interleave(self.blocks.shape[1], dim=1).flatten()
        hidden = network(inputs).flatten(0, 1)
        if isinstance(network, Decoder):
            return token_loss(hidden, network.head_weight(), targets.flatten(), shares)
        losses = functional.cross_entropy(network.logits(hidden).float(), targets.flatten(), ignore_index=IGNORED, reduction="none")
        return (losses if shares is None else losses * shares).sum() / (targets != IGNORED).sum()

    def _records(self, rows: Tensor) -> Tensor:
        """The blocks ``(b, n_joined)`` of windows; the last window may name some that aren't there."""
        return rows[:, None] * self.n_joined + torch.arange(self.n_joined, device=rows.device)

    def _shifted(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """What is read, and what should be said at each place: ``(b, n_joined * length)``."""
        records = self._records(rows)
        tokens = self.blocks[records.clamp(max=len(self.blocks) - 1)].long()
        targets = tokens.masked_fill((records >= len(self.blocks))[:, :, None], IGNORED).flatten(1)
        read = tokens.flatten(1)
        first = torch.full((len(rows), 1), self.begin, device=read.device)
        return torch.cat((first, read[:, :-1]), dim=1), targets


@torch.inference_mode()
def token_log_probs(network: nn.Module, blocks: AnyArray, begin: int, *, device: torch.device) -> Floats:
    """Natural log of each token's probability given those before it in its block: ``(n, length)``.

    Always in full precision, whatever the training's: it is a measuring rod.
    """
    n, length = blocks.shape
    reader: LanguageNetwork = network  # type: ignore[assignment]
    if isinstance(network, Decoder) and n * length >= PACKED_FROM and packable(network.embedding.weight):
        return _packed_log_probs(network, blocks, begin)
    found = np.empty((n, length))
    # A decoder's logits are made in slices.
    widest = network.config.sizes()[0] * (1 + network.config.gated) if isinstance(network, Decoder) else reader.vocabulary
    step = max(1, min(512, NUMBER_BYTES.get(device.type, 64 << 20) // (4 * length * widest)))
    for start in range(0, n, step):
        tokens = torch.from_numpy(np.require(blocks[start : start + step], np.int64, ["C", "W"])).to(device)
        first = torch.full((len(tokens), 1), begin, device=device)
        hidden = reader(torch.cat((first, tokens[:, :-1]), dim=1)).flatten(0, 1)
        if isinstance(network, Decoder):
            scores = token_log_likelihood(hidden, network.head_weight(), tokens.flatten())
        else:
            scores = -functional.cross_entropy(reader.logits(hidden).float(), tokens.flatten(), reduction="none")
        found[start : start + step] = scores.view(len(tokens), length).cpu().numpy()
    return found


def _packed_log_probs(network: Decoder, blocks: AnyArray, begin: int) -> Floats:
    """The same on a CPU, through weights that are laid out once for all blocks."""
    packed, tokens = Packed.of(network), torch.from_numpy(blocks.astype(np.int64))
    read = functional.pad(tokens[:, :-1], (1, 0), value=begin)
    found = in_parts(lambda part: text_log_likelihoods(network, packed, read[part], tokens[part]), len(blocks))
    return torch.cat(found).double().numpy()


def prompt_rows(n: int, n_prompts: int) -> Ints:
    """Which prompt each of ``n`` continuations has: spread evenly over all where there are fewer continuations, else round and round."""
    numbers = np.arange(n)
    return numbers * n_prompts // n if n <= n_prompts else numbers % n_prompts


class Marker(Protocol):
    """Marks what a model writes. ``marks.marking.TextMarker`` is one."""

    def wrap(self, reader: Readable, decoding: Decoding) -> Readable:
        """The model with the logits that the decoding and the mark leave."""
        ...

    def rest(self, decoding: Decoding) -> Decoding:
        """What of the decoding is still to be done to those."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Writer:
    """How a trained network writes blocks.

    Attributes:
        network: The network, on the device, in evaluation mode.
        prompts: ``(m, p)`` what continuations begin after; ``(m, 0)`` for nothing.
        decoding: See ``Decoding``.
        begin: The token that stands for the beginning of a text.
        end: The token that ends a continuation, or ``None``.
        marker: What marks the text, or ``None``.
    """

    network: LanguageNetwork
    prompts: AnyArray
    decoding: Decoding
    begin: int
    end: int | None
    marker: Marker | None = None

    def blocks(self, n: int, length: int, *, device: torch.device, rng: np.random.Generator) -> AnyArray:
        """``n`` blocks of ``length`` tokens: continuations, end to end where they are shorter."""
        reader: Readable = self.network.prepare() if isinstance(self.network, Decoder) else self.network
        if self.marker is not None:
            reader = self.marker.wrap(reader, self.decoding)
        max_new = self.decoding.max_new or length
        if max_new == length and self.end is None:
            return self._continued(reader, prompt_rows(n, len(self.prompts)), length, device=device, rng=rng)[0]
        parts: list[AnyArray] = []
        wanted, written = n * length, 0
        n_first = math.ceil(wanted / max_new)
        rows = prompt_rows(n_first, len(self.prompts))
        while written < wanted:
            tokens, lengths = self._continued(reader, rows, max_new, device=device, rng=rng)
            parts.extend(row[:count] for row, count in zip(tokens, lengths, strict=True))
            written += int(lengths.sum())
            mean = max(1.0, written / len(parts))
            more = max(1, math.ceil((wanted - written) / mean))
            rows = (rows[-1] + 1 + np.arange(more)) % len(self.prompts) if len(rows) else rows
        joined = np.concatenate([np.empty(0, np.int32), *parts])[:wanted]
        return joined.reshape(n, length)

    def _continued(
        self, reader: Readable, rows: Ints, max_new: int, *, device: torch.device, rng: np.random.Generator
    ) -> tuple[AnyArray, Ints]:
        """A continuation of each of the prompts ``rows``, and their lengths."""
        tokens, lengths = np.empty((len(rows), max_new), np.int32), np.empty(len(rows), np.int64)
        decoding = self.decoding if self.marker is None else self.marker.rest(self.decoding)
        for part in _slices(len(rows), self.decoding.batch):
            uniforms = torch.from_numpy(rng.random((len(rows[part]), max_new))).to(device)
            prompts = np.concatenate([np.full((len(rows[part]), 1), self.begin), self.prompts[rows[part]]], axis=1)
            written, counts = generate(
                reader,
                torch.from_numpy(prompts.astype(np.int64)).to(device),
                decoding=decoding,
                end=self.end,
                max_new=max_new,
                min_new=self.decoding.min_new,
                uniforms=uniforms,
            )
            tokens[part], lengths[part] = written.cpu().numpy(), counts.cpu().numpy()
        return tokens, lengths


def _slices(n: int, size: int) -> Iterator[slice]:
    for start in range(0, n, size):
        yield slice(start, start + size)
