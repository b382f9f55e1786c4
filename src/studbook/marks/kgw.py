"""Finding green-list watermarks (Kirchenbauer et al. 2023): exact, fast, for several keys at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from studbook.arrays import AnyArray, Ints
from studbook.marks.greenlists import GreenLists
from studbook.marks.scanning import Part
from studbook.marks.settings import Kgw


@dataclass(frozen=True, slots=True, eq=False)
class KgwScorer:
    """Green tokens of one mark; see ``scanning.Scorer``."""

    mark: Kgw
    lists: GreenLists = field(repr=False)

    @property
    def rate(self) -> float:
        """Share of the vocabulary that is green."""
        return self.mark.rate

    @property
    def weight(self) -> int:
        """A token is one trial."""
        return 1

    def fresh(self, part: Part) -> AnyArray:
        """The first place of each n-gram of a text, prompts left out; an n-gram's context may reach into the prompt."""
        from studbook.marks._kernels import find_first

        width = self.mark.width
        fresh = np.zeros(part.ids.size, np.uint8)
        find_first(part.ids, part.begins(width), part.bounds[1:], width, fresh)
        return fresh

    def hits(self, part: Part, fresh: AnyArray) -> AnyArray:
        """Green places."""
        return self.lists.count(part.ids, fresh)


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


def ranks_of(scorer: KgwScorer, parts: Sequence[Part], most: int) -> Ints:
    """Places of tokens in their permutations, of ``most`` counted n-grams at most, spread evenly over the texts."""
    from studbook.marks._kernels import rank_tokens

    found = [np.empty(0, np.int64)]
    share = max(1, most // max(1, len(parts)))
    for part in parts:
        places = np.flatnonzero(scorer.fresh(part))
        places = places[np.linspace(0, places.size - 1, min(share, places.size)).astype(int)] if places.size else places
        ranks = np.empty(places.size, np.int64)
        rank_tokens(scorer.lists.seeds(part.ids, places), part.ids[places], scorer.mark.vocabulary, ranks)
        found.append(ranks)
    return np.concatenate(found)
