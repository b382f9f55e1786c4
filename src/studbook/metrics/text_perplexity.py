"""How probable text is: real text under a generation's model, a generation's text under generation 0's model.

Perplexity is exp(−mean ln p) a token, at temperature 1 and without truncation whatever the decoding, and infinite where a token has
probability 0 (maximum likelihood). Blocks are the sampling unit of every standard error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from studbook.arrays import Batch, Floats, Kind
from studbook.errors import MetricError
from studbook.metrics import views
from studbook.metrics.protocols import Observation, Reference
from studbook.metrics.stderr import mean_stderr, share_stderr
from studbook.metrics.text_tables import TEXT, log_probs, n_scored, scored_blocks, surprise_of_original, surprise_of_sample
from studbook.records import Measurement

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
TAIL = 0.05


@dataclass(frozen=True, slots=True)
class Perplexity:
    """``perplexity``: of the generation's model on real text that no generation was trained on.

    It can recover while the model's own text goes on collapsing: read it beside ``own_perplexity``. Standard error: delta method over
    the held-out blocks.

    Attributes:
        limit: See ``OwnPerplexity``.

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import text
        >>> from studbook.learners.ngram import NGram
        >>> from studbook.metrics.protocols import Observation, Reference
        >>> from studbook.metrics.text_perplexity import Perplexity
        >>> real, rest = (text(np.array(ids), ("a", "b")) for ids in ([[0, 1], [1, 0]], [[0, 0], [1, 1]]))
        >>> model = NGram(order=1, discount=0.0).fit(real, rng=np.random.default_rng(0))
        >>> seen = Observation(sample=real, training=real, model=model, base=model)
        >>> round(Perplexity().measure(Reference(real, None, heldout=rest), seen, rng=np.random.default_rng(0))[0].value, 9)
        2.0
    """

    kinds: ClassVar[frozenset[Kind]] = TEXT
    limit: int = 0

    def __post_init__(self) -> None:
        check_limit("perplexity", self.limit)

    def measure(self, reference: Reference, observation: Observation, *, rng: np.random.Generator) -> tuple[Measurement, ...]:
        """The model's perplexity.

        Args:
            reference: Holds the held-out text.
            observation: Holds the model.
            rng: Unused.

        Raises:
            MetricError: No text was held out, or the model gives no probabilities.
        """
        scored = scored_blocks(_heldout(reference), n_scored(observation.model, self.limit))
        log_prob = log_probs("perplexity", observation.model, scored, "the model")
        return (_perplexity("perplexity", -log_prob / scored.space.dimension, scored.values.size),)

    def check_reference(self, reference: Reference) -> None:
        """See ``studbook.metrics.protocols.CheckedMetric``."""
        _heldout(reference)


@dataclass(frozen=True, slots=True)
class OwnPerplexity:
    """``own_perplexity``: of the generation's own text under generation 0's model.

    It falls while likely text accumulates, and rises where later generations write what the original never would. Standard error:
    delta method over the generated blocks.

    Attributes:
        limit: At most so many blocks are scored, drawn at random, the same every time; 0 takes all under models that look probabilities up
            (n-grams), 500 under networks.

    References:
        Shumailov et al. 2024, "AI models collapse when trained on recursively generated data", figure 1c.
    """

    kinds: ClassVar[frozenset[Kind]] = TEXT
    limit: int = 0

    def __post_init__(self) -> None:
        check_limit("own_perplexity", self.limit)

    def measure(self, reference: Reference, observation: Observation, *, rng: np.random.Generator) -> tuple[Measurement, ...]:
        """The sample's perplexity.

        Args:
            reference: The original.
            observation: Holds the sample and generation 0's model.
            rng: Unused.

        Raises:
            MetricError: Generation 0's model gives no probabilities.
        """
        surprise = surprise_of_sample("own_perplexity", reference, observation, self.limit)
        return (_perplexity("own_perplexity", surprise, len(surprise) * observation.sample.space.dimension),)


@dataclass(frozen=True, slots=True)
class BlockPerplexity:
    """``block_perplexity.p05``, ``.p25``, ``.p50``, ``.p75``, ``.p95``: perplexity of generated blocks under generation 0.

    These are quantiles over the blocks, each the perplexity of a block: no interpolation. Standard error: half the distance between
    the order statistics one binomial standard deviation of the rank below and above (Woodruff 1952).

    Attributes:
        limit: See ``OwnPerplexity``.
    """

    kinds: ClassVar[frozenset[Kind]] = TEXT
    limit: int = 0

    def __post_init__(self) -> None:
        check_limit("block_perplexity", self.limit)

    def measure(self, reference: Reference, observation: Observation, *, rng: np.random.Generator) -> tuple[Measurement, ...]:
        """The five quantiles; see ``OwnPerplexity.measure``."""
        ordered = np.sort(surprise_of_sample("block_perplexity", reference, observation, self.limit))
        return tuple(_quantile(f"block_perplexity.p{round(100 * share):02d}", ordered, share) for share in QUANTILES)


@dataclass(frozen=True, slots=True)
class LowPerplexityShare:
    """``low_perplexity_share``: share of generated blocks less perplexing to generation 0 than the original's 5 % quantile.

    The original is what generation 0 was fitted to, so that even generation 0's own text need not have 5 %. Standard error: binomial,
    with Jeffreys' half hit, so that it isn't 0 where no block was seen; the original's quantile is taken as given.

    Attributes:
        limit: See ``OwnPerplexity``.
    """

    kinds: ClassVar[frozenset[Kind]] = TEXT
    limit: int = 0

    def __post_init__(self) -> None:
        check_limit("low_perplexity_share", self.limit)

    def measure(self, reference: Reference, observation: Observation, *, rng: np.random.Generator) -> tuple[Measurement, ...]:
        """The share; see ``OwnPerplexity.measure``."""
        name = "low_perplexity_share"
        limit = _at(np.sort(surprise_of_original(name, reference, observation.base, self.limit)), TAIL)
        return (_tail_share(name, surprise_of_sample(name, reference, observation, self.limit) < limit),)


@dataclass(frozen=True, slots=True)
class HighPerplexityShare:
    """``high_perplexity_share``: share of generated blocks more perplexing to generation 0 than the original's 95 % quantile.

    Standard error as of ``LowPerplexityShare``.

    Attributes:
        limit: See ``OwnPerplexity``.
    """

    kinds: ClassVar[frozenset[Kind]] = TEXT
    limit: int = 0

    def __post_init__(self) -> None:
        check_limit("high_perplexity_share", self.limit)

    def measure(self, reference: Reference, observation: Observation, *, rng: np.random.Generator) -> tuple[Measurement, ...]:
        """The share; see ``OwnPerplexity.measure``."""
        name = "high_perplexity_share"
        limit = _at(np.sort(surprise_of_original(name, reference, observation.base, self.limit)), 1 - TAIL)
        return (_tail_share(name, surprise_of_sample(name, reference, observation, self.limit) > limit),)


def _heldout(reference: Reference) -> Batch:
    if reference.heldout is None or not len(reference.heldout):
        raise MetricError("metric perplexity needs held-out real text, and there is none", hint="set data.heldout, for example to 0.1")
    return reference.heldout


def check_limit(metric: str, limit: int) -> None:
    """Refuse a limit below 0.

    Raises:
        ConfigError: Says what was got and what is allowed.
    """
    views.require_range(f"{metric}.limit", limit, 0, 10**9)


def _perplexity(name: str, surprise: Floats, n_tokens: int) -> Measurement:
    """The exponential of the mean of the blocks' surprises (all of one length), and the delta method's standard error."""
    value = _exp(float(surprise.mean()))
    stderr = value * mean_stderr(surprise) if math.isfinite(value) else math.inf
    return Measurement(name, value, stderr, n_tokens)


def _quantile(name: str, ordered: Floats, share: float) -> Measurement:
    n = len(ordered)
    spread = math.sqrt(share * (1 - share) / n)
    low, value, high = (_exp(_at(ordered, q)) for q in (share - spread, share, share + spread))
    stderr = (high - low) / 2 if math.isfinite(high) and n > 1 else math.inf
    return Measurement(name, value, stderr, n)


def _at(ordered: Floats, share: float) -> float:
    """The order statistic at ``share`` of the way, the inverse of the empirical distribution function."""
    rank = math.ceil(share * len(ordered) - 1e-9)
    return float(ordered[min(max(rank, 1), len(ordered)) - 1])


def _tail_share(name: str, hits: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Measurement:
    n_hits, n = int(hits.sum()), len(hits)
    return Measurement(name, n_hits / n, share_stderr(n_hits, n), n)


def _exp(surprise: float) -> float:
    """The exponential, infinite where it is beyond float64."""
    return math.exp(surprise) if surprise < 709.0 else math.inf
