"""Text from n-gram models: interpolated Kneser-Ney or maximum likelihood, with the decoding as part of the learner."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from studbook.arrays import AnyArray, Batch, Floats, Kind, Space
from studbook.errors import ConfigError, DataError, FitError
from studbook.learners._ngram_tables import Tables, build_tables, compiled_blocks
from studbook.learners._text import describe, first_outside, require_text
from studbook.marks.choice import check_listed, lists_of
from studbook.neural.options import Marking
from studbook.parameters import conform

MAX_ORDER = 5
_MARK = Marking()


@dataclass(frozen=True, slots=True)
class NGram:
    """A word's law given the ``order - 1`` words before it in its block.

    Counts are discounted by ``discount`` and interpolated with the next shorter context, where a word counts by the number of
    different words that it follows, down to the uniform law on the vocabulary: every word has a positive probability after every
    context, and they sum to 1. A ``discount`` of 0 is maximum likelihood: raw counts at every length, and a shorter context only
    where the longer one was never seen. A context at the beginning of a block is shorter and knows that it is at the beginning.

    Decoding follows the usual order: temperature, then the ``top_k`` likeliest words, then the smallest set of the likeliest words
    that holds ``top_p`` of what is left; ties go to the smaller token id. All three act on the interpolated law over the whole
    vocabulary, exactly.

    Weights of records weigh their counts. Only ratios of weights matter: they are scaled so that their sum equals their effective
    number, (sum w)^2 / sum w^2, and equal weights are the same as none.

    Attributes:
        order: Words of the longest n-gram, 1 to 5.
        discount: Taken from each count, in [0, 1).
        temperature: Exponent 1 / temperature on the probabilities, above 0.
        top_k: Number of words kept at each step; 0 keeps all.
        top_p: Share of the probability kept at each step, in (0, 1].
        prompt: Tokens that a generated block takes over from the beginning of a random block of the original data.
        mark: The watermark of what is generated: ``kgw``, or none.

    References:
        Kneser, Ney 1995, "Improved backing-off for m-gram language modeling"; Chen, Goodman 1999, "An empirical study of smoothing
        techniques for language modeling", section 2.7 (interpolated form, n-grams at a beginning keep raw counts); Holtzman et al. 2020,
        "The curious case of neural text degeneration" (top-p); Kish 1965 (effective number).

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import text
        >>> from studbook.learners.ngram import NGram
        >>> blocks = text(np.array([[0, 1, 2, 1], [0, 1, 0, 1]]), ("the", "cat", "sat"))
        >>> model = NGram(order=2).fit(blocks, rng=np.random.default_rng(0))
        >>> model.sample(2, rng=np.random.default_rng(0)).values.shape
        (2, 4)
        >>> float(np.exp(model.token_log_prob(blocks)[0, 0]).round(3))  # (2 - d) / 2, and d / 2 of what the shorter context gives: 0.4
        0.775
    """

    order: int = 2
    discount: float = 0.75
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    prompt: int = 0
    mark: Marking = _MARK

    def __post_init__(self) -> None:
        _require(1 <= self.order <= MAX_ORDER, "order", self.order, f"1 to {MAX_ORDER}")
        _require(0.0 <= self.discount < 1.0, "discount", self.discount, "at least 0 and below 1 (0 is maximum likelihood)")
        _require(0.0 < self.temperature < math.inf, "temperature", self.temperature, "above 0 (top_k = 1 always takes the likeliest word)")
        _require(self.top_k >= 0, "top_k", self.top_k, "0 (keep all) or more")
        _require(0.0 < self.top_p <= 1.0, "top_p", self.top_p, "above 0 and at most 1 (keep all)")
        _require(self.prompt >= 0, "prompt", self.prompt, "0 (no prompt) or more tokens")
        conform(self, "learner")
        _require(self.mark.scheme in ("none", "kgw"), "mark.scheme", self.mark.scheme, "kgw or none for n-gram models")

    def check_original(self, batch: Batch) -> None:
        """Refuse data that no model of this family can be fitted to.

        Args:
            batch: Text blocks.

        Raises:
            FitError: Not text, no blocks, blocks no longer than the prompt, an empty vocabulary, a token id that isn't in it or a weight
                that isn't positive; the message names the block.
        """
        require_text(batch, "an n-gram model")
        space = batch.space
        if space.dimension <= self.prompt:
            raise FitError(
                f"blocks have {space.dimension} tokens, prompt takes {self.prompt} of them: nothing is left to generate",
                hint="use longer blocks or a shorter prompt",
            )
        check_listed(self.mark, space.n_states)

    def condition_on(self, original: Batch) -> NGram | PromptedNGram:
        """This learner with its prompts taken from ``original``, whatever a later generation is trained on.

        Args:
            original: The original data, real blocks.
        """
        if not self.prompt:
            return self
        self.check_original(original)
        return PromptedNGram(self, original.values[:, : self.prompt].copy())

    def fit(self, data: Batch, *, rng: np.random.Generator) -> NGramModel:
        """Count and smooth.

        Args:
            data: Text blocks, with weights or without.
            rng: Unused; fitting is deterministic.

        Returns:
            The model; with ``prompt`` set, its prompts are the beginnings of ``data`` (see ``condition_on``).

        Raises:
            FitError: See ``check_original``.
        """
        self.check_original(data)
        blocks, weights = data.values, np.empty(0)
        if data.weights is not None:
            weights = _effective_weights(data.weights)
            blocks, weights = blocks[weights > 0], weights[weights > 0]  # a weight too small for float64 beside the largest is none
        tables = build_tables(blocks, data.space.n_states, self.order, self.discount, weights)
        return NGramModel(self, data.space, tables, data.values[:, : self.prompt].copy())


@dataclass(frozen=True, slots=True, eq=False)
class PromptedNGram:
    """An n-gram learner whose models begin their blocks as real blocks begin.

    Attributes:
        learner: What is fitted.
        prompts: ``(m, learner.prompt)`` beginnings of the original blocks.
    """

    learner: NGram
    prompts: AnyArray

    def check_original(self, batch: Batch) -> None:
        """See ``NGram.check_original``."""
        self.learner.check_original(batch)

    def fit(self, data: Batch, *, rng: np.random.Generator) -> NGramModel:
        """See ``NGram.fit``."""
        model = self.learner.fit(data, rng=rng)
        return NGramModel(self.learner, model.space, model.tables, self.prompts)


@dataclass(frozen=True, slots=True, eq=False)
class NGramModel:
    """A fitted n-gram model.

    Attributes:
        learner: The family and the decoding.
        space: Text blocks of one length over one vocabulary.
        tables: The tree of contexts.
        prompts: ``(m, learner.prompt)`` beginnings that generated blocks take over.
    """

    learner: NGram
    space: Space
    tables: Tables
    prompts: AnyArray

    def sample(self, n: int, *, rng: np.random.Generator, prompts: Batch | None = None) -> Batch:
        """``n`` independent blocks under the learner's decoding.

        Args:
            n: Number of blocks, 0 or more.
            rng: Where the randomness comes from.
            prompts: Block i begins with block i of these (n blocks, shorter than the model's); by default with a random one of the
                model's own prompts.

        Raises:
            ConfigError: ``n`` is negative, or the prompts don't fit.
        """
        from studbook.learners import _ngram_decoding, _ngram_kernels

        _require(n >= 0, "n", n, "0 or more blocks")
        given = self.prompts[rng.integers(len(self.prompts), size=n)] if prompts is None else self._check_prompts(prompts, n)
        blocks = np.empty((n, self.space.dimension), np.int32)
        n_prompt = given.shape[1]
        blocks[:, :n_prompt] = given
        how = self.learner
        if how.mark != _MARK:
            self._sample_marked(blocks, n_prompt, rng)
        elif how.temperature == 1.0 and how.top_k == 0 and how.top_p == 1.0:
            _ngram_kernels.sample_blocks(self.tables, rng.random((n, blocks.shape[1] - n_prompt)), blocks)
        else:
            by_probability = _ngram_decoding.sort_rows(self.tables, float(how.temperature))
            decoding = (float(how.temperature), int(how.top_k), float(how.top_p))
            _ngram_decoding.sample_decoded(self.tables, by_probability, decoding, n_prompt, blocks, rng)
        return Batch(blocks, self.space)

    def _sample_marked(self, blocks: AnyArray, n_prompt: int, rng: np.random.Generator) -> None:
        """Fill blocks with marked text."""
        from studbook.learners import _ngram_decoding, _ngram_marking

        how = self.learner
        decoding = (float(how.temperature), int(how.top_k), float(how.top_p))
        by_probability = _ngram_decoding.sort_rows(self.tables, decoding[0])
        green = lists_of(how.mark, self.space.n_states)
        mark = (green, math.exp(-how.mark.delta))
        _ngram_marking.sample_marked(self.tables, by_probability, decoding, mark, n_prompt, blocks, rng)

    def plain(self) -> NGramModel:
        """The same model without truncation or a mark, at temperature 1; itself where that is how it writes."""
        how = replace(self.learner, temperature=1.0, top_k=0, top_p=1.0, mark=_MARK)
        return self if how == self.learner else NGramModel(how, self.space, self.tables, self.prompts)

    def log_prob(self, batch: Batch) -> Floats:
        """Natural log of each block's probability, in nats: ``(n,)``, minus infinity where it is 0.

        Of the model itself, at temperature 1 and without truncation.

        Args:
            batch: Blocks over the model's vocabulary, of any length.

        Raises:
            DataError: See ``token_log_prob``.
        """
        return np.asarray(self.token_log_prob(batch).sum(axis=1))

    def token_log_prob(self, batch: Batch) -> Floats:
        """Natural log of each token's probability given those before it in its block: ``(n, length)``, in nats.

        Args:
            batch: Blocks over the model's vocabulary, of any length.

        Raises:
            DataError: Not text, or a token id that isn't in the vocabulary.
        """
        from studbook.learners import _ngram_kernels

        if batch.space.kind is not Kind.TEXT:
            raise DataError(f"an n-gram model gives probabilities to text, got {batch.space.kind.value}")
        if (place := first_outside(batch.values, self.space.n_states)) is not None:
            raise DataError(f"{describe(batch.values, place)}, the model's vocabulary has {self.space.n_states} words")
        return np.asarray(_ngram_kernels.token_log_prob(self.tables, compiled_blocks(batch.values)))

    def _check_prompts(self, prompts: Batch, n: int) -> AnyArray:
        values = prompts.values
        if values.ndim != 2 or len(values) != n or values.shape[1] >= self.space.dimension:
            raise ConfigError(
                f"prompts have shape {values.shape}, expected {n} blocks of fewer than {self.space.dimension} tokens",
                hint="pass one prompt for each block to generate",
            )
        if (place := first_outside(values, self.space.n_states)) is not None:
            raise ConfigError(f"prompts: {describe(values, place)}, the model's vocabulary has {self.space.n_states} words")
        return values


def _require(holds: bool, name: str, got: object, expected: str) -> None:
    if not holds:
        raise ConfigError(f"{name} is {got}, expected {expected}")


def _effective_weights(weights: Floats) -> Floats:
    """The weights, scaled so that their sum is their effective number."""
    scaled = weights / weights.max()
    return np.asarray(scaled * (scaled.sum() / np.square(scaled).sum()))
