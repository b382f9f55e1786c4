"""Noise that is a function of seed, stream and position alone: any position can be drawn again by itself.

Philox 4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), with the seed as its key. A token is drawn by the
Gumbel-max trick (Gumbel 1954; Maddison et al. 2014): the one that maximises logit / temperature + noise is distributed as the softmax, and
a small change of the logits changes it with the smallest probability that any coupling allows, up to a factor of 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from studbook.arrays import AnyArray, Floats
from studbook.errors import VerifierError

TOKENS, PIXELS, STEPS = 1, 2, 3
"""Streams: tokens of a text, the noise that a picture starts from, the noise of a denoising step."""


def words(seed: int, stream: int, position: int, n: int) -> AnyArray:
    """``(n,)`` uint32, uniform.

    Args:
        seed: 0 … 2⁶⁴ - 1.
        stream: What the numbers are for: ``TOKENS``, ``PIXELS``, ``STEPS``.
        position: Of a token, or the number of a step: 0 … 2⁶⁴ - 1.
        n: How many.

    Examples:
        >>> from studbook.verification.noise import words
        >>> bool((words(7, 1, 3, 10)[:4] == words(7, 1, 3, 4)).all())
        True
    """
    from studbook.verification._noise_kernels import philox_words

    out = np.empty(n, np.uint32)
    philox_words(np.uint64(seed), np.uint64(stream), np.uint64(position), out)
    return out


def normals(seed: int, stream: int, position: int, n: int) -> Floats:
    """``(n,)`` standard normal numbers (Box and Muller 1958)."""
    half = (n + 1) // 2
    drawn = (words(seed, stream, position, 2 * half).astype(np.float64) + 0.5) * 2.0**-32
    radius, angle = np.sqrt(-2.0 * np.log(drawn[:half])), 2.0 * math.pi * drawn[half:]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:n]


@dataclass(frozen=True, slots=True)
class Law:
    """What a token is drawn from, beside its logits.

    Attributes:
        temperature: 0 is greedy: no noise.
        top_k: The likeliest tokens that can be drawn; 0 is all.
        top_p: The fewest likeliest of them that hold this probability, in (0, 1].
    """

    temperature: float
    top_k: int = 0
    top_p: float = 1.0


def draw_token(logits: AnyArray, law: Law, *, seed: int, position: int, claimed: int = -1) -> tuple[int, float]:
    """The token that the seed draws at a position, and how far a claimed one is from it.

    Args:
        logits: ``(vocabulary,)`` float32.
        law: Temperature and truncations.
        seed: Of the text.
        position: Of the token in the text, 0 for the first new one.
        claimed: The claimed token, or -1.

    Returns:
        The token, and the margin: its score less that of the claimed one, 0 where they are the same; a claimed one that the truncations
        exclude lacks that much more. In units of logit / temperature (greedy: of logits).

    Raises:
        VerifierError: The logits aren't numbers.

    Examples:
        >>> import numpy as np
        >>> from studbook.verification.noise import Law, draw_token
        >>> logits = np.array([0.0, 1.0, 2.0], np.float32)
        >>> [draw_token(logits, Law(1.0), seed=5, position=i)[0] for i in range(8)]
        [2, 2, 2, 2, 2, 0, 2, 2]
        >>> draw_token(logits, Law(0.0), seed=5, position=5, claimed=1)
        (2, 1.0)
    """
    if not np.isfinite(logits.max()):
        raise VerifierError("the model's logits aren't numbers", hint="the weights are damaged, or the number type is too narrow for them")
    if law.temperature == 0.0:
        best = int(logits.argmax())
        return best, float(logits[best] - logits[claimed]) if claimed >= 0 else 0.0
    from studbook.verification._noise_kernels import gumbel_best, mass_above

    inverse = 1.0 / law.temperature
    lowest = float(np.partition(logits, -law.top_k)[-law.top_k]) if 0 < law.top_k < len(logits) else -math.inf
    token, score, claimed_score = gumbel_best(logits, inverse, lowest, np.uint64(seed), np.uint64(TOKENS), np.uint64(position), claimed)
    if law.top_p < 1.0 and (token != claimed >= 0 or mass_above(logits, inverse, logits[token], lowest) >= law.top_p):
        # Seldom: what the nucleus excludes is worked out only where it may matter.
        lowest = _nucleus(logits, inverse, law.top_p, lowest)
        token, score, claimed_score = gumbel_best(logits, inverse, lowest, np.uint64(seed), np.uint64(TOKENS), np.uint64(position), claimed)
    return int(token), float(score - claimed_score) if claimed >= 0 else 0.0


def _nucleus(logits: AnyArray, inverse: float, top_p: float, lowest: float) -> float:
    """The lowest logit of the fewest likeliest tokens that hold ``top_p`` of the probability of those of ``lowest`` and more."""
    ordered = np.sort(logits[logits >= lowest].astype(np.float64))[::-1]
    weights = np.exp((ordered - ordered[0]) * inverse)
    before = np.cumsum(weights) - weights
    kept = int(np.searchsorted(before, top_p * weights.sum()))
    return float(ordered[max(kept, 1) - 1])
