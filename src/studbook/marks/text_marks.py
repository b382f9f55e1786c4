"""A detector of text watermarks: several marks, whole texts and windows, one corrected p-value a text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from studbook.arrays import AnyArray, Floats
from studbook.errors import ConfigError
from studbook.marks.binomial import low_p_values, p_values
from studbook.marks.greenlists import BUDGET_BYTES, GreenLists
from studbook.marks.kgw import Counting, KgwScorer, SettingsCheck, gamma_of, ranks_of
from studbook.marks.scanning import MarkResult, Texts, Windows, parts_of, scan
from studbook.marks.settings import Kgw, Mark, SynthId
from studbook.marks.synthid import SynthIdScorer
from studbook.records.canonical import digest_of

MAX_MARKS = 1000
MAX_THREADS = 256
_ANY_VOCABULARY = (1 << 31) - 1
_SURE = 1e-3
_NEAR = 1.25
_NOTHING = "too short to say anything: no token has its whole context"


@dataclass(frozen=True, slots=True, init=False)
class TextMarkDetector:
    """Looks for one or several watermarks in tokenised text.

    What the key decides counts once in a text, where it comes first; prompts don't count; the tail of the binomial law is exact. With
    several marks or windows the p-value is Bonferroni's bound on any of them being as small. It assumes that the keys were drawn at
    random and that the text doesn't depend on them. Under one key, texts of the same few phrases are green together: hence calibrate on
    one's own text.

    Args:
        marks: One or more; all KGW ones of one vocabulary.
        windows: Passages to look at beside the whole text; ``None`` for none.
        threads: Threads that many texts are spread over.
        budget_bytes: What the green lists of each mark may take in memory, at most.
        counting: Of KGW marks: ``draws``, a token and the seed of its list, or ``ngrams`` with the whole context, as transformers'
            detector with ``ignore_repeated_ngrams``. They are the same for ``lefthash`` with a context of 1. Else n-grams share draws, and
            p-values from ``ngrams`` are too small: of unmarked texts with a Zipf law 4 % had one below .001 under ``selfhash``.

    Raises:
        ConfigError: No marks, too many, one twice, or of several vocabularies.
        MissingExtraError: A SynthID mark, and PyTorch isn't installed.

    Examples:
        >>> import numpy as np
        >>> from studbook.marks import Kgw, TextMarkDetector
        >>> detector = TextMarkDetector(Kgw(vocabulary=1000, key=15_485_863))
        >>> text = np.random.default_rng(0).integers(1000, size=400)
        >>> result = detector.detect(text)
        >>> result.n_scored, result.n_green, round(result.p_value, 2)
        (399, 87, 0.94)
    """

    marks: tuple[Mark, ...]
    windows: Windows | None
    threads: int
    counting: Counting
    _scorers: tuple[KgwScorer | SynthIdScorer, ...] = field(repr=False, compare=False)

    def __init__(
        self,
        *marks: Mark,
        windows: Windows | None = None,
        threads: int = 1,
        budget_bytes: int = BUDGET_BYTES,
        counting: Counting = "draws",
    ) -> None:
        _check_marks(marks)
        if not 1 <= threads <= MAX_THREADS:
            raise ConfigError(f"threads is {threads}, expected 1 to {MAX_THREADS}")
        if counting not in ("draws", "ngrams"):
            raise ConfigError(f"counting is {counting!r}, expected draws or ngrams")
        if budget_bytes < 0:
            raise ConfigError(f"budget_bytes is {budget_bytes}, expected 0 or more")
        scorers = tuple(
            KgwScorer(mark, GreenLists(mark, budget_bytes), counting) if isinstance(mark, Kgw) else SynthIdScorer.of(mark) for mark in marks
        )
        for name, value in (("marks", marks), ("windows", windows), ("threads", threads), ("counting", counting), ("_scorers", scorers)):
            object.__setattr__(self, name, value)

    @property
    def name(self) -> str:
        """Names of the marks' schemes."""
        return "+".join(sorted({mark.name for mark in self.marks}))

    @property
    def vocabulary(self) -> int:
        """Token ids run from 0 to one less."""
        return next((mark.vocabulary for mark in self.marks if isinstance(mark, Kgw)), _ANY_VOCABULARY)

    @property
    def digest(self) -> str:
        """What determines the outcome: the marks in their order, the windows, what is counted; SHA-256 in hex."""
        windows = "" if self.windows is None else f"{' '.join(map(str, self.windows.sizes))}/{self.windows.steps}"
        return digest_of({"marks": [mark.digest for mark in self.marks], "windows": windows, "counting": self.counting})

    def detect(self, ids: AnyArray | Sequence[int], *, prompt_len: int = 0) -> MarkResult:
        """Test one text.

        Args:
            ids: Its token ids ``(n,)``, without a begin-of-text token.
            prompt_len: So many at the beginning are the prompt: nobody marked them.

        Raises:
            DataError: Not a row of token ids of the vocabulary.
            ConfigError: A negative prompt.
        """
        return self.detect_many([ids], prompt_len=prompt_len)[0]

    def detect_many(self, texts: Texts, *, prompt_len: Sequence[int] | int = 0) -> list[MarkResult]:
        """Test many texts, a result each, in their order.

        Args:
            texts: Token ids of each.
            prompt_len: One number for all, or one each.

        Raises:
            DataError: See ``detect``; names the text.
            ConfigError: Prompts that don't fit.
        """
        parts = parts_of(texts, prompt_len, self.vocabulary)
        if self.threads == 1:
            return [result for part in parts for result in scan(self._scorers, part, self.windows)]
        groups = _shares(len(texts), 4 * self.threads)
        given = [prompt_len] * len(texts) if isinstance(prompt_len, int) else list(prompt_len)
        if len(given) != len(texts):
            raise ConfigError(f"got {len(given)} prompt lengths for {len(texts)} texts", hint="give one number, or one for each text")

        def work(share: slice) -> list[MarkResult]:
            found = parts_of(texts[share], given[share], self.vocabulary, number=share.start)
            return [result for part in found for result in scan(self._scorers, part, self.windows)]

        with ThreadPoolExecutor(self.threads) as pool:
            return [result for results in pool.map(work, groups) for result in results]

    def p_values(self, texts: Sequence[str], encode: Callable[[str], Sequence[int]]) -> Floats:
        """Corrected p-values of texts that aren't tokenised: ``(n,)``.

        Args:
            texts: As they are read.
            encode: The tokenizer of the model that is meant, without begin-of-text or other added tokens: for transformers
                ``lambda text: tokenizer(text, add_special_tokens=False).input_ids``.

        Raises:
            DataError: The tokenizer gives ids outside the vocabulary.
        """
        results = self.detect_many([encode(text) for text in texts])
        return np.array([result.p_value_corrected for result in results], np.float64)

    def check_settings(self, texts: Texts, *, prompt_len: Sequence[int] | int = 0, number: int = 0, most: int = 2000) -> SettingsCheck:
        """Whether one mark's settings fit texts that are all marked, or all unmarked.

        Unmarked text that is greener or less green than chance tells of another vocabulary, a bad key or repeated phrases; marked text
        whose tokens lie far ahead in the key's permutations, but not up to this gamma, of another gamma. About the first million tokens are
        looked at, and an n-gram counts once in all texts together.

        Args:
            texts: Token ids of each.
            prompt_len: Tokens of the prompts.
            number: Which of the detector's marks.
            most: N-grams whose place is worked out, at most; about a tenth of a millisecond each at a vocabulary of 50,000.

        Raises:
            DataError: See ``detect``.
            ConfigError: No such mark.
        """
        if not 0 <= number < len(self.marks):
            raise ConfigError(f"there is no mark {number}, the detector has {len(self.marks)}")
        scorer = self._scorers[number]
        part = next(parts_of(texts, prompt_len, self.vocabulary), None)
        if part is None:
            return SettingsCheck(0, 0.0, scorer.rate, 1.0, 1.0, 1.0, None, _NOTHING)
        fresh = scorer.once(part, scorer.fresh(part))
        trials, hits = int(fresh.sum(dtype=np.int64)) * scorer.weight, int(scorer.hits(part, fresh).sum(dtype=np.int64))
        high, low = (float(tail(np.array(hits), np.array(trials), scorer.rate)) for tail in (p_values, low_p_values))
        any_gamma, gamma = 1.0, None
        if isinstance(scorer, KgwScorer):
            any_gamma, gamma = gamma_of(ranks_of(scorer, part, fresh, most), scorer.mark.vocabulary)
        rate = hits / trials if trials else 0.0
        note = _fit_note(scorer.mark, (high, low), gamma, trials)
        return SettingsCheck(trials, rate, scorer.rate, high, low, any_gamma, gamma, note)

    def save_lists(self, folder: Path) -> list[Path]:
        """Store the green lists filled so far, a file a mark, for ``load_lists``; they tell of the key, so keep them as secret.

        Raises:
            StorageError: The disk refused.
        """
        return [scorer.lists.save(folder) for scorer in self._scorers if isinstance(scorer, KgwScorer)]

    def load_lists(self, folder: Path) -> int:
        """Map stored green lists; gives how many there are.

        Raises:
            DataError: A file is damaged or of another mark.
            StorageError: It can't be read.
        """
        return sum(scorer.lists.load(folder) for scorer in self._scorers if isinstance(scorer, KgwScorer))


def _check_marks(marks: tuple[Mark, ...]) -> None:
    if not 1 <= len(marks) <= MAX_MARKS:
        raise ConfigError(f"got {len(marks)} marks, expected 1 to {MAX_MARKS:,}")
    if any(not isinstance(mark, Kgw | SynthId) for mark in marks):
        raise ConfigError("a mark is neither Kgw nor SynthId", hint="for example Kgw(vocabulary=50_257, key=15_485_863)")
    if len({mark.digest for mark in marks}) < len(marks):
        raise ConfigError("the same mark is given twice", hint="each counts as a test; leave one out")
    if len({mark.vocabulary for mark in marks if isinstance(mark, Kgw)}) > 1:
        raise ConfigError("the marks are of several vocabularies", hint="build a detector for each model's tokenizer")


def _shares(n: int, most: int) -> list[slice]:
    edges = np.linspace(0, n, min(n, most) + 1).astype(int).tolist()
    return [slice(start, stop) for start, stop in pairwise(edges)]


def _fit_note(mark: Mark, tails: tuple[float, float], gamma: float | None, trials: int) -> str:
    high, low = tails
    if not trials:
        return _NOTHING
    if gamma is not None and isinstance(mark, Kgw) and not 1.0 / _NEAR < gamma / mark.gamma < _NEAR:
        return f"marked under this key, with gamma near {gamma:.2f}: the settings say {mark.gamma:g}"
    if low < _SURE:
        return f"fewer green tokens than chance gives (p = {low:.1g}): the settings may not fit (vocabulary, gamma, key)"
    if high < _SURE:
        return f"more green tokens than chance gives (p = {high:.1g}): marked, or unmarked text that these settings don't fit"
    return "as green as unmarked text: unmarked, or marked under another key or vocabulary"
