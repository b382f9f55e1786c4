"""Finding green-list watermarks (Kirchenbauer et al. 2023): exact, fast, for several keys at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np

from studbook.arrays import AnyArray, Ints
from studbook.marks.greenlists import GreenLists
from studbook.marks.scanning import Part
from studbook.marks.settings import Kgw

Counting: TypeAlias = Literal["draws", "ngrams"]
_PAIR = 2


@dataclass(frozen=True, slots=True, eq=False)
class KgwScorer:
    """Green tokens of one mark; see ``scanning.Scorer``.

    Attributes:
        mark: The settings.
        lists: Its green lists.
        counting: ``draws`` counts each draw of the key once: a token with the seed of its list. ``ngrams`` counts each n-gram once, as
            transformers does; with a context of 2 or more many n-grams share a draw, and as often as they do chance counts double.
    """

    mark: Kgw
    lists: GreenLists = field(repr=False)
    counting: Counting = "draws"

    @property
    def rate(self) -> float:
        """Share of the vocabulary that is green."""
        return self.mark.rate

    @property
    def weight(self) -> int:
        """A token is one trial."""
        return 1

    @property
    def shared(self) -> object:
        """Marks with an equal one have the same places that count."""
        private = self.counting == "draws" and self.mark.scheme == "selfhash"
        return (self.mark.scheme, self.mark.context, self.mark.key if private else None)

    def fresh(self, part: Part) -> AnyArray:
        """The first place of each draw or n-gram of a text, prompts left out; its context may reach into the prompt."""
        from studbook.marks._kernels import find_first, find_first_codes

        draws, left = self.counting == "draws", self.mark.scheme == "lefthash"
        fresh = np.zeros(part.ids.size, np.uint8)
        begins = part.begins(self.mark.width)
        find_first(part.ids, begins, part.bounds[1:], _PAIR if draws and left else self.mark.width, fresh)
        if not draws or left:
            return fresh
        places = np.flatnonzero(fresh)
        first = np.zeros(places.size, np.uint8)
        find_first_codes(self._draws(part, places), np.searchsorted(places, part.bounds), first)
        fresh[places] = first
        return fresh

    def once(self, part: Part, fresh: AnyArray) -> AnyArray:
        """Of the places that count those whose draw comes first in all texts together: ``(n,)`` uint8."""
        places = np.flatnonzero(fresh)
        found = np.zeros_like(fresh)
        found[places[np.unique(self._draws(part, places), return_index=True)[1]]] = 1
        return found

    def hits(self, part: Part, fresh: AnyArray) -> AnyArray:
        """Green places."""
        return self.lists.count(part.ids, fresh)

    def _draws(self, part: Part, places: Ints) -> AnyArray:
        """What decides at some places, seed and token, in one number: ``(k,)`` uint64."""
        return (self.lists.seeds(part.ids, places).astype(np.uint64) << np.uint64(32)) | part.ids[places].astype(np.uint64)


@dataclass(frozen=True, slots=True)
class SettingsCheck:
    """Whether a mark's settings fit texts that are known to be marked, or known not to be.

    Attributes:
        n_scored: Different n-grams of all texts together.
        green_rate: Green ones among them.
        expected: Share to be expected without a mark.
        p_high: How often as many or more come by chance.
        p_low: How often as few or fewer come by chance.
        p_any_gamma: How often the tokens' places in the key's permutations lie so far ahead by chance, whatever gamma is: a bound
            (Massart 1990).
        gamma_found: The gamma that explains the places best; ``None`` where ``p_any_gamma`` is above a thousandth.
        note: What follows, in one sentence.
    """

    n_scored: int
    green_rate: float
    expected: float
    p_high: float
    p_low: float
    p_any_gamma: float
    gamma_found: float | None
    note: str


def gamma_of(ranks: Ints, vocabulary: int) -> tuple[float, float | None]:
    """From places in permutations, 0 … vocabulary - 1: how often they lie so far ahead by chance, and the likeliest gamma.

    Under a mark the places' density is one step, high below gamma · vocabulary and low above it.

    References:
        P. Massart, "The tight constant in the Dvoretzky–Kiefer–Wolfowitz inequality", Annals of Probability 18 (1990): one side.
    """
    n = ranks.size
    if not n:
        return 1.0, None
    # Above each place: at most what a continuous law would give.
    places = (np.sort(ranks) + 1) / vocabulary
    share = np.arange(1, n + 1) / n
    distance = float((share - places).max())
    chance = min(1.0, float(np.exp(-2.0 * n * max(0.0, distance) ** 2)))
    inside = (places > 0.0) & (places < 1.0) & (share > places) & (share < 1.0)
    if chance > 1e-3 or not inside.any():
        return chance, None
    at, below = places[inside], share[inside]
    gain = below * np.log(below / at) + (1.0 - below) * np.log((1.0 - below) / (1.0 - at))
    return chance, float(at[gain.argmax()])


def ranks_of(scorer: KgwScorer, part: Part, fresh: AnyArray, most: int) -> Ints:
    """Places of tokens in their permutations, of ``most`` counted n-grams at most, spread evenly over the texts."""
    from studbook.marks._kernels import rank_tokens

    places = np.flatnonzero(fresh)
    if places.size:
        places = places[np.linspace(0, places.size - 1, min(most, places.size)).astype(int)]
    ranks = np.empty(places.size, np.int64)
    rank_tokens(scorer.lists.seeds(part.ids, places), part.ids[places], scorer.mark.vocabulary, ranks)
    return ranks
