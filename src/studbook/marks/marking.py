"""Marking what our own sampler writes, in transformers' order: the mark acts on what temperature and truncations leave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from studbook.marks.greenlists import GreenLists
from studbook.marks.settings import Kgw, Mark
from studbook.neural.generate import Readable, Writing
from studbook.neural.options import Decoding
from studbook.neural.sampling import History, truncate

Process = Callable[[Tensor, Tensor], Tensor]
_ROWS = 4
"""Rows that one of SynthID's processors serves: for each it holds a number of 64 bits for every token and key."""


@dataclass(frozen=True, slots=True, eq=False)
class TextMarker:
    """Marks one model's text; see ``neural.language.Marker``.

    ``lefthash`` takes green lists from a cache, with the scores of transformers' processor; ``selfhash`` and SynthID are done by
    transformers' processors themselves, on the CPU.

    Attributes:
        mark: The settings.
        lists: Green lists, for ``lefthash``.
    """

    mark: Mark
    lists: GreenLists | None = None

    def wrap(self, reader: Readable, decoding: Decoding) -> Readable:
        """The model with the penalty, the temperature, the truncations and the mark done to its logits."""
        return _Marked(reader, decoding, self)

    def rest(self, decoding: Decoding) -> Decoding:
        """Greedy decoding, or sampling from the scores as they are."""
        return replace(decoding, temperature=min(1.0, float(decoding.temperature > 0)), top_k=0, top_p=1.0, repetition_penalty=1.0)

    def begin(self, n: int) -> Process:
        """A processor of tokens so far ``(n, t)`` and scores ``(n, vocabulary)``, with the state of one batch.

        Raises:
            MissingExtraError: The scheme needs transformers, which isn't installed.
        """
        mark = self.mark
        if self.lists is not None and isinstance(mark, Kgw):
            return _GreenBias(mark, self.lists)
        if isinstance(mark, Kgw):
            processor = mark.processor()
            # Transformers' own warns at each step that is too short for a seed.
            return lambda ids, scores: processor(ids, scores) if ids.shape[1] >= mark.context else scores
        processors = [mark.processor() for _ in range(0, n, _ROWS)]

        def process(ids: Tensor, scores: Tensor) -> Tensor:
            rows = range(0, n, _ROWS)
            return torch.cat([each(ids[i : i + _ROWS], scores[i : i + _ROWS]) for each, i in zip(processors, rows, strict=True)])

        return process


@dataclass(frozen=True, slots=True, eq=False)
class _GreenBias:
    """Transformers' ``WatermarkLogitsProcessor`` for ``lefthash``, from kept lists."""

    mark: Kgw
    lists: GreenLists

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        if ids.shape[1] < self.mark.context:
            return scores
        green = torch.from_numpy(self.lists.bits(ids[:, -1].numpy().astype(np.int64)))
        return torch.where(green, scores + self.mark.delta, scores)


@dataclass(frozen=True, slots=True, eq=False)
class _Marked:
    """A model whose logits are decoded and marked already."""

    reader: Readable
    decoding: Decoding
    marker: TextMarker

    def prefill(self, prompts: Tensor, *, beams: int, max_new: int) -> tuple[Tensor, Writing]:
        """See ``Readable``."""
        logits, writing = self.reader.prefill(prompts, beams=beams, max_new=max_new)
        width = logits.shape[-1]
        history = History.of(prompts, width, max_new, self.decoding.repetition_penalty)
        ids = prompts[:, (prompts < width).all(dim=0)].cpu()
        marked = _MarkedWriting(writing, self.decoding, history, ids, self.marker.begin(len(prompts)))
        return marked.processed(logits), marked


@dataclass(slots=True, eq=False)
class _MarkedWriting:
    """What goes on writing, and what was written."""

    writing: Writing
    decoding: Decoding
    history: History
    ids: Tensor
    process: Process

    def step(self, tokens: Tensor, parents: Tensor | None = None) -> Tensor:
        """See ``Writing``; there are no beams."""
        self.history.add(tokens)
        self.ids = torch.cat((self.ids, tokens.cpu()[:, None]), dim=1)
        return self.processed(self.writing.step(tokens, parents))

    def processed(self, logits: Tensor) -> Tensor:
        """Scores after the penalty, the temperature, the truncations and the mark."""
        scores = self.history.penalise_logits(logits.float())
        if self.decoding.temperature > 0:
            scores = truncate(scores, self.decoding)
        return self.process(self.ids, scores.cpu()).to(scores.device)
