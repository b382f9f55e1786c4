"""What a screen leaves of the contamination, and what that does over the generations: Wright and Fisher's drift with migration.

Candidates are generated with probability π. A screen passes generated ones with probability 1 − TPR and real ones with 1 − FPR, so that
among those that pass the share r = π(1 − TPR) / [π(1 − TPR) + (1 − π)(1 − FPR)] is generated: the rest are migrants.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from studbook.arrays import Floats, Ints
from studbook.errors import ConfigError
from studbook.theory.support import Renewal, expected_support


@dataclass(frozen=True, slots=True)
class Screening:
    """A screen with its error rates, in front of a training set.

    Attributes:
        contamination: π, share of generated records among the candidates, 0 to 1.
        tpr: True positive rate: share of the generated records that it rejects.
        fpr: False positive rate: share of the real records that it rejects.

    Examples:
        >>> from studbook.theory import Screening
        >>> screen = Screening(contamination=0.9, tpr=0.8, fpr=0.01)
        >>> round(screen.residual, 3), round(screen.accepted, 3)
        (0.645, 0.279)
    """

    contamination: float
    tpr: float
    fpr: float

    def __post_init__(self) -> None:
        for name in ("contamination", "tpr", "fpr"):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise ConfigError(f"{name} is {value}, expected a share from 0 to 1", hint="0.8 finds eight of ten")

    @property
    def accepted(self) -> float:
        """Share of the candidates that pass."""
        return self.contamination * (1.0 - self.tpr) + (1.0 - self.contamination) * (1.0 - self.fpr)

    @property
    def residual(self) -> float:
        """r, share of generated records among those that pass.

        Raises:
            ConfigError: Nothing passes.
        """
        if self.accepted == 0.0:
            raise ConfigError("the screen rejects every candidate: no training set is left", hint="lower fpr, or contamination")
        return self.contamination * (1.0 - self.tpr) / self.accepted


def screened_heterozygosity(screening: Screening, n: int, n_original: int, generations: Ints, *, refill: bool = True) -> Floats:
    """Expected share of the law's heterozygosity in the model of each generation, 1 − F_t.

    Two records of a training set descend from one of the generation before only if both are generated, so that with s of them among n
    F_t = 1/n + E[s(s − 1)]/n² · F_{t−1}. The moments of s are exact for candidates of which first round(πn) of n are generated, and
    where rejected ones are replaced by further candidates, each generated with probability π. Without ``refill`` n is the expected size.

    Args:
        screening: The screen and the contamination.
        n: Candidates at first, and records of a training set that is refilled.
        n_original: Records of the law behind generation 0.
        generations: ``(G,)``, 0 or more.
        refill: Whether rejected candidates are replaced.

    References:
        S. Wright, "Evolution in Mendelian populations", Genetics 16 (1931): drift with migration.

    Examples:
        >>> import numpy as np
        >>> from studbook.theory import Screening, screened_heterozygosity
        >>> for screen in (Screening(0.99, 0.0, 0.0), Screening(0.99, 0.8, 0.01)):
        ...     print(screened_heterozygosity(screen, 100, 100, np.array([0, 1000])).round(3).tolist())
        [0.99, 0.664]
        [0.99, 0.902]
    """
    size, both = _pairs(screening, n, refill=refill)
    chosen = np.asarray(generations, dtype=np.int64)
    identity = np.empty(int(chosen.max(initial=0)) + 1)
    identity[0] = 1.0 / n_original
    for index in range(1, len(identity)):
        identity[index] = 1.0 / size + both / size**2 * identity[index - 1]
    kept: Floats = 1.0 - identity[chosen]
    return kept


def screened_support(
    probabilities: Floats, screening: Screening, n: int, n_original: int, generations: Ints, *, refill: bool = True
) -> Floats:
    """Expected number of states alive in the model of each generation, with the share r of every training set generated.

    An approximation: the number of generated records is taken for its expectation. Its scatter, at most √n/2, hardly counts.

    Args:
        probabilities: ``(K,)`` of the law.
        screening: The screen and the contamination.
        n: As in ``screened_heterozygosity``.
        n_original: As in ``screened_heterozygosity``.
        generations: ``(G,)``, 0 or more.
        refill: As in ``screened_heterozygosity``.

    Returns:
        ``(G,)``.

    References:
        S. Wright, Genetics 16 (1931); W. Ewens, "Mathematical Population Genetics" (2004), chapter 3.

    Examples:
        >>> import numpy as np
        >>> from studbook.theory import Screening, screened_support
        >>> zipf = 1 / np.arange(1, 51)
        >>> for screen in (Screening(0.9, 0.0, 0.0), Screening(0.9, 0.95, 0.01)):
        ...     print(screened_support(zipf / zipf.sum(), screen, 100, 100, np.array([0, 20])).round(1).tolist())
        [31.8, 19.7]
        [31.8, 31.1]
    """
    return expected_support(probabilities, screened_renewal(screening, n, refill=refill), n_original, generations)


def screened_renewal(screening: Screening, n: int, *, refill: bool = True) -> Renewal:
    """What a generation is trained on in expectation, in whole records.

    Examples:
        >>> from studbook.theory import Screening
        >>> from studbook.theory.screened import screened_renewal
        >>> screened_renewal(Screening(0.9, 0.8, 0.01), 1000)
        Renewal(generated=645, fresh=355, original=0)
    """
    size = n if refill else max(1, round(n * screening.accepted))
    generated = round(size * screening.residual)
    return Renewal(generated, fresh=size - generated)


def _pairs(screening: Screening, n: int, *, refill: bool) -> tuple[float, float]:
    """Records of a training set, and expected ordered pairs of generated ones."""
    generated = round(screening.contamination * n)
    stay, real_stay, residual = 1.0 - screening.tpr, 1.0 - screening.fpr, screening.residual
    first = generated * stay
    first_pairs = generated * (generated - 1) * stay**2
    if not refill:
        return first + (n - generated) * real_stay, first_pairs
    # Of the d that are missing Bin(d, r) become generated ones. d and the x that are kept at first aren't independent.
    real = (n - generated) * real_stay
    missing = n - first - real
    spread = first * screening.tpr + real * screening.fpr
    cross = first * missing - first * screening.tpr
    return float(n), first_pairs + 2.0 * residual * cross + residual**2 * (missing**2 + spread - missing)
