"""An ideal screen: one that knows where records come from, and errs at stated rates."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from studbook.arrays import Batch, Space
from studbook.curation.checks import require_candidates, require_rate
from studbook.curation.judged import Judged
from studbook.mixing import Origin


@dataclass(frozen=True, slots=True)
class Ideal:
    """Rejects generated records with probability ``tpr`` and real ones with probability ``fpr``, whatever they are.

    What a detector with these error rates would leave of the contamination π: π(1 − TPR) / [π(1 − TPR) + (1 − π)(1 − FPR)], if its errors
    had nothing to do with what the records are. Those of real detectors have: ``Screen`` is the real thing.

    Attributes:
        tpr: True positive rate, 0 to 1: share of the generated records that it finds.
        fpr: False positive rate, 0 to 1: share of the real records that it takes for generated ones.
        refill: Whether rejected candidates are replaced by further ones, so that the training set keeps its size.
        candidates: At most so many candidates are seen for each record of the training set; what is missing then stays missing.

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import states
        >>> from studbook.curation import Ideal
        >>> from studbook.mixing import Origin
        >>> screen, records = Ideal(tpr=0.8, fpr=0.01), states(np.zeros(1000), 2)
        >>> rng = np.random.default_rng(0)
        >>> [int((screen.judge(records, origin, rng=rng).verdicts >= 0).sum()) for origin in (Origin.GENERATED, Origin.FRESH)]
        [788, 17]
    """

    tpr: float
    fpr: float
    refill: bool = True
    candidates: int = 100

    def __post_init__(self) -> None:
        require_rate("tpr", self.tpr)
        require_rate("fpr", self.fpr)
        require_candidates(self.candidates)

    @contextmanager
    def open(self, space: Space, learner: Any, *, seed: int) -> Iterator[Ideal]:
        """The curator of one replicate: itself."""
        yield self

    @property
    def reason(self) -> str:
        """See ``studbook.recursion.LawCurator``."""
        return "ideal screen"

    @property
    def remembers(self) -> bool:
        """See ``studbook.recursion.Curator``."""
        return False

    def rejection(self, origin: Origin) -> float:
        """See ``studbook.recursion.LawCurator``."""
        return self.tpr if origin is Origin.GENERATED else self.fpr

    def write(self, model: Any, n: int, *, rng: np.random.Generator) -> Batch:
        """See ``studbook.recursion.Curator``."""
        sample: Batch = model.sample(n, rng=rng)
        return sample

    def note(self, generation: int, sample: Batch) -> None:
        """See ``studbook.recursion.Curator``."""

    def judge(self, candidates: Batch, origin: Origin, *, rng: np.random.Generator) -> Judged:
        """See ``studbook.recursion.Curator``."""
        rejected = rng.random(len(candidates)) < self.rejection(origin)
        return Judged(candidates, np.where(rejected, 0, -1), (self.reason,))
