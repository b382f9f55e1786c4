"""What all text detectors share: reading texts, whole texts and sliding windows, the correction for many tests, and the result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

import numpy as np

from studbook.arrays import AnyArray, Floats, Ints
from studbook.errors import ConfigError, DataError
from studbook.marks.binomial import low_p_values, p_values
from studbook.marks.settings import Mark

Texts: TypeAlias = Sequence[AnyArray | Sequence[int]]
PART_TOKENS = 1 << 20
"""Texts are looked at in parts of about so many tokens, which bounds the memory; a single longer text is a part."""
_SUSPICIOUS = 1e-6
_LONGEST = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Windows:
    """Where in a text a mark is looked for, beside the whole.

    Attributes:
        sizes: Tokens of a window, rising; for a passage of n marked tokens a size near n.
        steps: Windows of one size begin every ``size / steps`` tokens.

    Raises:
        ConfigError: A value out of range.
    """

    sizes: tuple[int, ...] = (200, 400, 800)
    steps: int = 4

    def __post_init__(self) -> None:
        sizes = self.sizes
        if not sizes or list(sizes) != sorted(set(sizes)) or sizes[0] < 1 or sizes[-1] > _LONGEST:
            raise ConfigError(f"windows.sizes is {sizes}, expected rising numbers of tokens, 1 or more")
        if not 1 <= self.steps <= sizes[0]:
            raise ConfigError(f"windows.steps is {self.steps}, expected 1 up to the smallest size, {sizes[0]}")

    def of(self, length: int) -> tuple[Ints, Ints]:
        """Where the windows of a text begin and stop; those that are the whole text are left out."""
        begins, stops = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for size in (each for each in self.sizes if each < length):
            step = max(1, size // self.steps)
            first = np.arange(0, length - size + step, step, dtype=np.int64)
            first = np.minimum(first, length - size)
            begins.append(first)
            stops.append(first + size)
        return np.concatenate(begins), np.concatenate(stops)


@dataclass(frozen=True, slots=True)
class MarkResult:
    """What was found in one text: the strongest of the tests.

    Attributes:
        p_value: How often that test alone gives as much by chance, 0 … 1: the exact binomial tail.
        p_value_corrected: How often any of the text's tests gives as much: Bonferroni's bound, which holds however the tests depend on
            each other. Half of the error is the whole text's, half the windows'. This is the number to compare with a false-alarm rate.
        n_scored: Tokens that counted in that test (for SynthID times the number of keys).
        n_green: Green ones among them (for SynthID: g-values of 1).
        expected: Share to be expected without a mark.
        mark: Which of the detector's marks, counted from 0.
        window: First token and the one after the last, of the text with its prompt; the whole text without the prompt where that was
            the strongest.
        n_tests: Tests of this text.
        settings: Digest of the mark's settings.
        note: What to know of this result; empty for nothing.
    """

    p_value: float
    p_value_corrected: float
    n_scored: int
    n_green: int
    expected: float
    mark: int
    window: tuple[int, int]
    n_tests: int
    settings: str
    note: str = ""

    @property
    def green_rate(self) -> float:
        """Share of the counted tokens that are green; 0 where none counted."""
        return self.n_green / self.n_scored if self.n_scored else 0.0


class Scorer(Protocol):
    """One mark's way of counting."""

    @property
    def mark(self) -> Mark:
        """The settings."""
        ...

    @property
    def rate(self) -> float:
        """Chance of a hit without a mark."""
        ...

    @property
    def weight(self) -> int:
        """Trials a counted token."""
        ...

    @property
    def shared(self) -> object:
        """Scorers whose are equal have the same places that count."""
        ...

    def fresh(self, part: Part) -> AnyArray:
        """Which places count: ``(n,)`` uint8."""
        ...

    def once(self, part: Part, fresh: AnyArray) -> AnyArray:
        """Those of them that nothing in an earlier text counted for: ``(n,)`` uint8."""
        ...

    def hits(self, part: Part, fresh: AnyArray) -> AnyArray:
        """Hits at each place that counts, 0 elsewhere: ``(n,)``."""
        ...


@dataclass(frozen=True, slots=True)
class Part:
    """Some texts end to end.

    Attributes:
        ids: ``(n,)`` int32.
        bounds: ``(m + 1,)`` where each begins, and the end.
        prompts: ``(m,)`` tokens of each that are its prompt, at most all.
    """

    ids: AnyArray
    bounds: Ints
    prompts: Ints

    def begins(self, width: int) -> Ints:
        """The first place of each text that has ``width`` - 1 tokens of its text before it and isn't in the prompt: ``(m,)``."""
        return np.minimum(self.bounds[:-1] + np.maximum(self.prompts, width - 1), self.bounds[1:])


def parts_of(texts: Texts, prompts: Sequence[int] | int, vocabulary: int, *, number: int = 0) -> Iterator[Part]:
    """The texts in parts.

    Args:
        texts: Token ids, each one-dimensional and of whole numbers.
        prompts: Tokens of the prompt: one number for all texts, or one each.
        vocabulary: Ids run from 0 to one less.
        number: Of the first text, for messages.

    Raises:
        DataError: A text that isn't that; names it and the place.
        ConfigError: Prompts that don't fit.
    """
    given = [prompts] * len(texts) if isinstance(prompts, int) else list(prompts)
    if len(given) != len(texts):
        raise ConfigError(f"got {len(given)} prompt lengths for {len(texts)} texts", hint="give one number, or one for each text")
    if any(isinstance(each, bool) or not isinstance(each, int | np.integer) or each < 0 for each in given):
        raise ConfigError("a prompt's length isn't a whole number of 0 or more")
    held: list[AnyArray] = []
    first, size = 0, 0
    for i, text in enumerate(texts):
        held.append(_checked(text, number + i, vocabulary))
        size += held[-1].size
        if size >= PART_TOKENS:
            yield _joined(held, given[first : i + 1])
            held, first, size = [], i + 1, 0
    if held:
        yield _joined(held, given[first:])


def _joined(texts: list[AnyArray], prompts: Sequence[int]) -> Part:
    sizes = np.array([text.size for text in texts], np.int64)
    bounds = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    if bounds[-1] > _LONGEST:
        raise DataError(f"a text has {bounds[-1]:,} tokens", hint="cut it into texts below 2^31 tokens")
    return Part(np.concatenate(texts), bounds, np.minimum(np.array(prompts, np.int64), sizes))


def _checked(text: AnyArray | Sequence[int], number: int, vocabulary: int) -> AnyArray:
    try:
        ids = np.asarray(text)
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(f"text {number} isn't a row of token ids: {error}") from error
    if ids.size == 0 and ids.ndim <= 1:
        return np.empty(0, np.int32)
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise DataError(
            f"text {number} has shape {ids.shape} and holds {ids.dtype}, expected a row of whole numbers",
            hint="turn it into tokens first, with the tokenizer of the model that is meant",
        )
    if ids.min() < 0 or ids.max() >= vocabulary:
        place = int(np.flatnonzero((ids < 0) | (ids >= vocabulary))[0])
        raise DataError(
            f"text {number} holds token id {ids[place]} at position {place}, the mark's vocabulary has {vocabulary:,} tokens",
            hint="use the tokenizer of the model that is meant, and its config's vocab_size",
        )
    return ids.astype(np.int32, copy=False)


def scan(scorers: Sequence[Scorer], part: Part, windows: Windows | None) -> list[MarkResult]:
    """Test every text of a part for every mark, whole and in windows."""
    shared: dict[object, AnyArray] = {}
    sums: list[tuple[Ints, Ints]] = []
    for scorer in scorers:
        if scorer.shared not in shared:
            shared[scorer.shared] = scorer.fresh(part)
        fresh = shared[scorer.shared]
        sums.append((_running(fresh), _running(scorer.hits(part, fresh))))
    whole = [
        _totals(scorer, counts, part.bounds[:-1] + part.prompts, part.bounds[1:]) for scorer, counts in zip(scorers, sums, strict=True)
    ]
    table = np.array([found[2] for found in whole])  # marks by texts
    best = table.argmin(axis=0)
    results = []
    for i in range(len(part.prompts)):
        k = int(best[i])
        span = (int(part.prompts[i]), int(part.bounds[i + 1] - part.bounds[i]))
        result = _result(scorers[k], k, (whole[k][0][i], whole[k][1][i], table[k, i]), span, len(scorers))
        results.append(result if windows is None else _with_windows(scorers, sums, part, i, result, windows))
    return results


def _running(values: AnyArray) -> Ints:
    # Half as much memory where the sums have room: a g-value's count is at most 128.
    running: Ints = np.zeros(values.size + 1, np.int32 if values.size < 1 << 24 else np.int64)
    np.cumsum(values, out=running[1:])
    return running


def _totals(scorer: Scorer, counts: tuple[Ints, Ints], begins: Ints, stops: Ints) -> tuple[Ints, Ints, Floats]:
    """Trials, hits and p-values between some places."""
    trials = (counts[0][stops] - counts[0][begins]) * scorer.weight
    hits = counts[1][stops] - counts[1][begins]
    return trials, hits, p_values(hits, trials, scorer.rate)


def _result(scorer: Scorer, number: int, found: tuple[int, int, float], span: tuple[int, int], n_tests: int) -> MarkResult:
    trials, hits, chance = int(found[0]), int(found[1]), float(found[2])
    return MarkResult(
        p_value=chance,
        p_value_corrected=min(1.0, chance * n_tests),
        n_scored=trials,
        n_green=hits,
        expected=scorer.rate,
        mark=number,
        window=span,
        n_tests=n_tests,
        settings=scorer.mark.digest,
        note=_note(trials, hits, scorer.rate),
    )


def _note(trials: int, hits: int, rate: float) -> str:
    if not trials:
        return "too short to say anything: no token has its whole context"
    if rate**trials > _SUSPICIOUS:
        return f"too short to be found: {trials} tokens count, and all of them green come by chance with p = {rate**trials:.2g}"
    low = float(low_p_values(np.array(hits), np.array(trials), rate))
    if low < _SUSPICIOUS:
        return f"fewer green tokens than chance gives (p = {low:.1g}): the settings may not fit (vocabulary, gamma, key)"
    return ""


def _with_windows(
    scorers: Sequence[Scorer], sums: Sequence[tuple[Ints, Ints]], part: Part, i: int, whole: MarkResult, windows: Windows
) -> MarkResult:
    """The stronger of the whole text and its windows, each with half of the error."""
    prompt, origin = int(part.prompts[i]), int(part.bounds[i])
    begins, stops = windows.of(int(part.bounds[i + 1]) - origin - prompt)
    n_tests = len(scorers) * (1 + begins.size)
    if not begins.size:
        return whole
    places = origin + prompt
    tables = [_totals(scorer, counts, begins + places, stops + places) for scorer, counts in zip(scorers, sums, strict=True)]
    chances = np.array([table[2] for table in tables])
    k, j = divmod(int(chances.argmin()), begins.size)
    alone, inside = 2.0 * whole.p_value_corrected, 2.0 * float(chances[k, j]) * chances.size
    if alone <= inside:
        return _corrected(whole, alone, n_tests)
    found = (int(tables[k][0][j]), int(tables[k][1][j]), float(chances[k, j]))
    span = (prompt + int(begins[j]), prompt + int(stops[j]))
    return _corrected(_result(scorers[k], k, found, span, n_tests), inside, n_tests)


def _corrected(result: MarkResult, chance: float, n_tests: int) -> MarkResult:
    return replace(result, p_value_corrected=min(1.0, chance), n_tests=n_tests)
