"""The distribution of the perplexity of single blocks, by generation: what the ridge and the two-dimensional picture are drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from studbook.arrays import Floats, Ints, Kind
from studbook.metrics.protocols import Observation, Reference
from studbook.metrics.stderr import share_stderr
from studbook.metrics.text_perplexity import check_limit
from studbook.metrics.text_tables import TEXT, surprise_of_original, surprise_of_sample
from studbook.records import Measurement

BINS_A_DECADE = 10
N_DECADES = 5
N_BINS = BINS_A_DECADE * N_DECADES + 1


@dataclass(frozen=True, slots=True)
class PerplexityDensity:
    """``perplexity_density.e0.0`` to ``.e5.0``: how the perplexities of generated blocks under generation 0 are distributed.

    Shares of the blocks in geometric bins, ten a decade. ``e`` and a number is the decimal logarithm of a bin's left edge, so that
    ``.e1.5`` is the share of blocks with a perplexity from 10^1.5 to 10^1.6; ``.e0.0`` holds all below 10^0.1 and ``.e5.0`` all from 10^5
    on, infinite ones too. The 51 shares sum to 1. Generation 0 also has ``perplexity_density.real.e0.0`` to ``.real.e5.0``: the original's
    blocks, which generation 0 was fitted to.

    Standard errors: binomial, with Jeffreys' half block.

    Attributes:
        limit: See ``studbook.metrics.text_perplexity.OwnPerplexity``.

    References:
        Shumailov et al. 2024, "AI models collapse when trained on recursively generated data", figures 1b and 1c.

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import text
        >>> from studbook.learners.ngram import NGram
        >>> from studbook.metrics.protocols import Observation, Reference
        >>> from studbook.metrics.text_density import PerplexityDensity
        >>> real = text(np.array([[0, 1], [1, 0]]), ("a", "b"))
        >>> model = NGram(order=1, discount=0.0).fit(real, rng=np.random.default_rng(0))
        >>> seen = Observation(sample=real, training=real, model=model, base=model)
        >>> found = PerplexityDensity().measure(Reference(real, None), seen, rng=np.random.default_rng(0))
        >>> [m.metric for m in found if m.value > 0]  # a perplexity of 2 is 10^0.301
        ['perplexity_density.e0.3', 'perplexity_density.real.e0.3']
    """

    kinds: ClassVar[frozenset[Kind]] = TEXT
    limit: int = 0

    def __post_init__(self) -> None:
        check_limit("perplexity_density", self.limit)

    def measure(self, reference: Reference, observation: Observation, *, rng: np.random.Generator) -> tuple[Measurement, ...]:
        """The shares; see ``OwnPerplexity.measure``."""
        name, base = "perplexity_density", observation.base
        found = _shares(name, surprise_of_sample(name, reference, observation, self.limit))
        if observation.model is base:
            found += _shares(f"{name}.real", surprise_of_original(name, reference, base, self.limit))
        return found


def bins_of(surprise: Floats) -> Ints:
    """The bin, 0 to ``N_BINS`` - 1, of each surprise (mean -ln p a token, in nats)."""
    # A perplexity on an edge belongs to the bin above it, also where rounding has left it a little below.
    position = np.floor(surprise / np.log(10.0) * BINS_A_DECADE + 1e-9)
    return np.asarray(np.clip(position, 0, N_BINS - 1), dtype=np.int64)


def edge_names() -> tuple[str, ...]:
    """Member names of the bins, ascending: ``e0.0`` to ``e5.0``."""
    return tuple(f"e{position / BINS_A_DECADE:.1f}" for position in range(N_BINS))


def _shares(head: str, surprise: Floats) -> tuple[Measurement, ...]:
    counts, n = np.bincount(bins_of(surprise), minlength=N_BINS).tolist(), len(surprise)
    names = edge_names()
    return tuple(Measurement(f"{head}.{name}", c / n, share_stderr(c, n), n) for name, c in zip(names, counts, strict=True))
