"""Language models whose text continues real text."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from studbook.arrays import AnyArray, Batch, Space

if TYPE_CHECKING:
    from studbook.neural.lesson import Lesson
    from studbook.neural.options import Decoding, Training


@dataclass(frozen=True, slots=True, eq=False)
class Prompted:
    """A language model's learner whose models continue the original's blocks, whatever a later generation is trained on.

    Attributes:
        learner: What is fitted: ``Gpt`` or ``CausalLM``.
        prompts: ``(m, learner.decoding.prompt)`` the last tokens of each original block.
    """

    learner: Any
    prompts: AnyArray

    @property
    def training(self) -> Training:
        """How the learner trains."""
        training: Training = self.learner.training
        return training

    def check_original(self, batch: Batch) -> None:
        """See the learner."""
        self.learner.check_original(batch)

    def check_base(self, space: Space) -> bool:
        """See the learner."""
        return bool(self.learner.check_base(space))

    def own_base(self, space: Space) -> Any:
        """See the learner."""
        return self._prompted(self.learner.own_base(space))

    def fit(self, data: Batch, *, rng: np.random.Generator) -> Any:
        """See the learner."""
        return self._prompted(self.learner.fit(data, rng=rng))

    def fit_from(self, start: Any, data: Batch, *, rng: np.random.Generator) -> Any:
        """See the learner."""
        return self._prompted(self.learner.fit_from(start, data, rng=rng))

    def lesson(self, data: Batch, *, start: Any = None, rng: np.random.Generator) -> Lesson:
        """See the learner."""
        taken: Lesson = self.learner.lesson(data, start=start, rng=rng)
        return replace(taken, finish=lambda report: self._prompted(taken.finish(report)))

    def load(self, folder: Path, space: Space) -> Any:
        """See the learner."""
        return self._prompted(self.learner.load(folder, space))

    def _prompted(self, model: Any) -> Any:
        return None if model is None else replace(model, prompts=self.prompts)


def prompted(learner: Any, original: Batch) -> Any:
    """The learner with its prompts taken from ``original``; itself where its decoding has none."""
    if not learner.decoding.prompt:
        return learner
    learner.check_original(original)
    return Prompted(learner, prompts_of(original, learner.decoding.prompt))


def prompts_of(data: Batch, n_tokens: int) -> AnyArray:
    """The last ``n_tokens`` of each block: ``(n, n_tokens)``; without prompts one empty row."""
    return data.values[:, data.space.dimension - n_tokens :].copy() if n_tokens else np.empty((1, 0), np.int32)


def first_prompts(prompts: AnyArray, n: int, space: Space, decoding: Decoding) -> Batch | None:
    """The prompts of the first six of ``n`` generated blocks, where there are prompts and each block is one continuation."""
    from studbook.neural.language import prompt_rows

    if not prompts.shape[1] or decoding.end or decoding.max_new not in (0, space.dimension):
        return None
    rows = prompt_rows(n, len(prompts))[:6]
    return Batch(prompts[rows], replace(space, shape=(prompts.shape[1],)))
