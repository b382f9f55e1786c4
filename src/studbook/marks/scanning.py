"""What all text detectors share: reading texts, whole texts and sliding windows, the correction for many tests, and the result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

import numpy as np

from studbook.arrays import AnyArray, Ints
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

    def span(self, found: Found) -> tuple[int, int]:
        """Where in its text a test looked."""
        origin = int(self.bounds[found.text])
        return found.begin - origin, found.stop - origin


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
    """Test every text of a part for every mark, whole and in windows. Marks are looked for one by one: many take no more memory."""
    whole = Places.of(part)
    passages = None if windows is None else whole.windows(windows)
    shared: dict[object, AnyArray] = {}
    wholes, inside = [], []
    for scorer in scorers:
        if scorer.shared not in shared:
            shared = {scorer.shared: scorer.fresh(part)}
        fresh = shared[scorer.shared]
        counts = (_running(fresh), _running(scorer.hits(part, fresh)))
        wholes.append(whole.best(scorer, counts))
        if passages is not None:
            inside.append(passages.best(scorer, counts))
    best, best_inside = _strongest(wholes), _strongest(inside) if inside else None
    results = []
    for i, (k, found) in enumerate(best):
        result = _result(scorers[k], k, found, part.span(found), len(scorers))
        if passages is not None and best_inside is not None and (n_windows := int(passages.sizes[i])):
            number, other = best_inside[i]
            tests = n_windows * len(scorers)
            alone, within = 2.0 * result.p_value_corrected, 2.0 * other.chance * tests
            if within < alone:
                result = _result(scorers[number], number, other, part.span(other), tests)
            chance = min(1.0, alone, within)
            result = replace(result, p_value_corrected=chance, n_tests=tests + len(scorers))
        results.append(result)
    return results


@dataclass(frozen=True, slots=True)
class Found:
    """The strongest of one mark's tests of one text.

    Attributes:
        text: Which text of the part.
        begin: First place.
        stop: The place after the last.
        trials: That counted.
        hits: Among them.
        chance: The p-value.
    """

    text: int
    begin: int
    stop: int
    trials: int
    hits: int
    chance: float


_NONE = Found(-1, 0, 0, 0, 0, 1.0)


@dataclass(frozen=True, slots=True)
class Places:
    """Where tests begin and stop, text by text.

    Attributes:
        begins: ``(w,)`` first places.
        stops: ``(w,)`` those after the last.
        sizes: ``(m,)`` how many of them each text has.
    """

    begins: Ints
    stops: Ints
    sizes: Ints

    @classmethod
    def of(cls, part: Part) -> Places:
        """One a text: all of it but its prompt."""
        return cls(part.bounds[:-1] + part.prompts, part.bounds[1:], np.ones(len(part.prompts), np.int64))

    def windows(self, windows: Windows) -> Places:
        """The windows of each text."""
        nothing = np.empty(0, np.int64)
        found = [windows.of(int(stop - begin)) for begin, stop in zip(self.begins, self.stops, strict=True)]
        begins = np.concatenate([nothing, *(each[0] + begin for each, begin in zip(found, self.begins, strict=True))])
        stops = np.concatenate([nothing, *(each[1] + begin for each, begin in zip(found, self.begins, strict=True))])
        return Places(begins, stops, np.array([each[0].size for each in found], np.int64))

    def best(self, scorer: Scorer, counts: tuple[Ints, Ints]) -> list[Found]:
        """The strongest test of each text."""
        trials = (counts[0][self.stops] - counts[0][self.begins]).astype(np.int64) * scorer.weight
        hits = counts[1][self.stops] - counts[1][self.begins]
        chances = p_values(hits, trials, scorer.rate)
        results, first = [], 0
        for i, size in enumerate(self.sizes.tolist()):
            k = first if size == 1 else first + int(chances[first : first + size].argmin()) if size else -1
            first += size
            where = (int(self.begins[k]), int(self.stops[k]), int(trials[k]), int(hits[k]), float(chances[k])) if size else None
            results.append(_NONE if where is None else Found(i, *where))
        return results


def _strongest(found: Sequence[Sequence[Found]]) -> list[tuple[int, Found]]:
    """For each text the mark with the smallest p-value, the first of equals, and its test."""
    return [min(enumerate(tests), key=lambda each: each[1].chance) for tests in zip(*found, strict=True)]


def _running(values: AnyArray) -> Ints:
    # Half as much memory where the sums have room: a g-value's count is at most 128.
    running: Ints = np.zeros(values.size + 1, np.int32 if values.size < 1 << 24 else np.int64)
    np.cumsum(values, out=running[1:])
    return running


def _result(scorer: Scorer, number: int, found: Found, span: tuple[int, int], n_tests: int) -> MarkResult:
    return MarkResult(
        p_value=found.chance,
        p_value_corrected=min(1.0, found.chance * n_tests),
        n_scored=found.trials,
        n_green=found.hits,
        expected=scorer.rate,
        mark=number,
        window=span,
        n_tests=n_tests,
        settings=scorer.mark.digest,
        note=_note(found.trials, found.hits, scorer.rate),
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
