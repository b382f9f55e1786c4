"""How much of a text's variety a generation keeps: types, rare types, distinct n-grams.

The standard errors here are delete-a-group jackknives over 20 groups of blocks (fewer where there are fewer blocks). Blocks are the
sampling unit: words of one block depend on each other, blocks don't. For a number of types the jackknife errs upwards by some tenth
(Efron and Stein 1981). The original is taken as given: it adds no error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from studbook.arrays import AnyArray, Batch, Ints, Kind
from studbook.errors import ConfigError, MetricError
from studbook.metrics.protocols import Observation, Reference
from studbook.metrics.stderr import jackknife_stderr
from studbook.metrics.text_tables import (
    N_GROUPS,
    TEXT,
    block_groups,
    check_text,
    count_ngrams,
    count_present,
    jackknife_of_share,
    only_groups,
    original_of,
    type_counts,
)
from studbook.records import Measurement

MAX_N = 5


@dataclass(frozen=True, slots=True)
class Types:
    """``types``: number of different words in the sample.

    References:
        Shumailov et al. 2024, "AI models collapse when trained on recursively generated data": rare events vanish first.

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import text
        >>> from studbook.metrics.protocols import Observation, Reference
        >>> from studbook.metrics.text import Types
        >>> blocks = text(np.array([[0, 1], [1, 1]]), ("a", "b", "c"))
        >>> seen = Observation(sample=blocks, training=blocks, model=None, base=None)
        >>> Types().measure(Reference(blocks, None), seen, rng=np.random.default_rng(0))[0].value
        2.0
    """

    kinds: ClassVar[frozenset[Kind]] = TEXT

    def measure(self, reference: Reference, observation: Observation, *, rng: np.random.Generator) -> tuple[Measurement, ...]:
        """Count the types.

        Args:
            reference: The original.
            observation: The generation.
            rng: Unused.
        """
        only = only_groups("types", reference, observation.sample)
        return (_share("types", only, 1.0, observation),)


@dataclass(frozen=True, slots=True)
class TypesShare:
    """``types_share``: number of different words in the sample, as a share of the original's.

    A sample as large as the original has fewer types than the original even from a perfect model: it draws anew.

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import text
        >>> from studbook.metrics.protocols import Observation, Reference
        >>> from studbook.metrics.text import TypesShare
        >>> original, blocks = (text(np.array([ids]), ("a", "b", "c")) for ids in ([0, 1], [1, 1]))
        >>> seen = Observation(sample=blocks, training=original, model=None, base=None)
        >>> TypesShare().measure(Reference(original, None), seen, rng=np.random.default_rng(0))[0].value
        0.5
    """

    kinds: ClassVar[frozenset[Kind]] = TEXT

    def measure(self, reference: Reference, observation: Observation, *, rng: np.random.Generator) -> tuple[Measurement, ...]:
        """Count the types; see ``Types.measure``."""
        known = int(np.count_nonzero(type_counts("types_share", reference)))
        only = only_groups("types_share", reference, observation.sample)
        return (_share("types_share", only, known, observation),)


@dataclass(frozen=True, slots=True)
class HapaxSurvival:
    """``hapax_survival``: share of the words that occur once in the original that occur in the sample.

    Resampling as many words as the original has keeps 1 − 1/e = 63 % of them in the first generation.

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import text
        >>> from studbook.metrics.protocols import Observation, Reference
        >>> from studbook.metrics.text import HapaxSurvival
        >>> original, blocks = (text(np.array([ids]), ("a", "b", "c")) for ids in ([0, 0, 1, 2], [0, 0, 0, 2]))
        >>> seen = Observation(sample=blocks, training=original, model=None, base=None)
        >>> HapaxSurvival().measure(Reference(original, None), seen, rng=np.random.default_rng(0))[0].value
        0.5
    """

    kinds: ClassVar[frozenset[Kind]] = TEXT

    def measure(self, reference: Reference, observation: Observation, *, rng: np.random.Generator) -> tuple[Measurement, ...]:
        """Look the original's hapaxes up; see ``Types.measure``.

        Raises:
            MetricError: The original has no word that occurs once.
        """
        hapaxes = _hapaxes(reference)
        only = only_groups("hapax_survival", reference, observation.sample)
        return (_share("hapax_survival", only[hapaxes], len(hapaxes), observation),)

    def check_reference(self, reference: Reference) -> None:
        """See ``studbook.metrics.protocols.CheckedMetric``."""
        _hapaxes(reference)


@dataclass(frozen=True, slots=True)
class RareSurvival:
    """``rare_survival``: share of the original's rarest quartile of types that occur in the sample.

    The quartile is all types that occur no more often than the type a quarter of the way from the rarest to the most frequent. Where
    more than a quarter occur once, these are the hapaxes.

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import text
        >>> from studbook.metrics.protocols import Observation, Reference
        >>> from studbook.metrics.text import RareSurvival
        >>> original = text(np.array([[0, 0, 0, 0, 1, 1, 1, 2, 2, 3]]), ("a", "b", "c", "d"))
        >>> seen = Observation(sample=original.take(np.array([0])), training=original, model=None, base=None)
        >>> RareSurvival().measure(Reference(original, None), seen, rng=np.random.default_rng(0))[0].value
        1.0
    """

    kinds: ClassVar[frozenset[Kind]] = TEXT

    def measure(self, reference: Reference, observation: Observation, *, rng: np.random.Generator) -> tuple[Measurement, ...]:
        """Look the original's rarest types up; see ``Types.measure``."""
        counts = type_counts("rare_survival", reference)
        rare = reference.memo("text.rare", lambda: _rarest_quartile(counts))
        only = only_groups("rare_survival", reference, observation.sample)
        return (_share("rare_survival", only[rare], len(rare), observation),)


@dataclass(frozen=True, slots=True)
class Distinct:
    """``distinct_<n>``: number of different n-grams over number of n-grams, within blocks.

    It falls with the size of the sample; compare samples of one size.

    Attributes:
        n: Words of an n-gram, 1 to 5.

    References:
        Li et al. 2016, "A diversity-promoting objective function for neural conversation models".

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import text
        >>> from studbook.metrics.protocols import Observation, Reference
        >>> from studbook.metrics.text import Distinct
        >>> blocks = text(np.array([[0, 1, 0, 1, 0]]), ("a", "b"))
        >>> seen = Observation(sample=blocks, training=blocks, model=None, base=None)
        >>> [Distinct(n).measure(Reference(blocks, None), seen, rng=np.random.default_rng(0))[0].value for n in (1, 2)]
        [0.4, 0.5]
    """

    kinds: ClassVar[frozenset[Kind]] = TEXT
    n: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.n <= MAX_N:
            raise ConfigError(f"distinct: n is {self.n}, expected 1 to {MAX_N}")

    def measure(self, reference: Reference, observation: Observation, *, rng: np.random.Generator) -> tuple[Measurement, ...]:
        """Count the n-grams.

        Args:
            reference: The original.
            observation: The generation.
            rng: Unused.

        Raises:
            MetricError: Blocks are shorter than ``n``.
        """
        name, sample = f"distinct_{self.n}", observation.sample
        check_text(name, sample)
        self._require_length(sample)
        a_block = sample.space.dimension - self.n + 1
        count, left_out = count_ngrams(reference, sample, self.n)
        total = len(sample) * a_block
        others = total - np.bincount(block_groups(sample)) * a_block
        stderr = jackknife_stderr(left_out / others) if len(others) > 1 else float("inf")
        return (Measurement(name, count / total, stderr, total),)

    def check_reference(self, reference: Reference) -> None:
        """See ``studbook.metrics.protocols.CheckedMetric``."""
        self._require_length(original_of(f"distinct_{self.n}", reference))

    def _require_length(self, batch: Batch) -> None:
        if batch.space.dimension < self.n:
            message = f"metric distinct_{self.n} got blocks of {batch.space.dimension} tokens, expected {self.n} or more"
            raise MetricError(message, hint="use longer blocks")


def _hapaxes(reference: Reference) -> Ints:
    counts = type_counts("hapax_survival", reference)
    hapaxes = reference.memo("text.hapaxes", lambda: np.flatnonzero(counts == 1))
    if not len(hapaxes):
        raise MetricError("the original has no word that occurs once, so hapax_survival has no value", hint="measure rare_survival")
    return hapaxes


def _share(name: str, only: AnyArray, whole: float, observation: Observation) -> Measurement:
    """How many of these words occur, over ``whole``."""
    sample = observation.sample
    count, left_out = count_present(only, min(len(sample), N_GROUPS))
    return Measurement(name, count / whole, jackknife_of_share(left_out, whole), sample.values.size)


def _rarest_quartile(counts: AnyArray) -> AnyArray:
    known = np.sort(counts[counts > 0])
    limit = known[max(0, -(-len(known) // 4) - 1)]
    return np.flatnonzero((counts > 0) & (counts <= limit))
