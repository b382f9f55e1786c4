"""What variance and heterozygosity keep, in closed form.

Two draws of a model are copies of one real draw with probability F (coalescence). A training set of ``r`` fresh and ``s = n - r``
generated records passes on F only through pairs of generated records, so that F' = 1/n + s(s-1)/n² · F, and the expected variance
and the expected heterozygosity are both 1 - F of the original's.
"""

from __future__ import annotations

import math

import numpy as np


def kept_moment(fresh: int, samples: int, generations: int, *, ddof: int = 0) -> float:
    """The expected share of the variance (of the heterozygosity, for ``ddof=0``) after ``generations`` generations.

    Time and memory don't depend on any argument: the recursion is affine, so a power of it is a closed form.
    """
    return _kept_unbiased(fresh, samples, generations) if ddof else 1.0 - _coalescence(fresh, samples, generations)


def _coalescence(fresh: int, samples: int, generations: int) -> float:
    generated = samples - fresh
    # 1 - s(s-1)/n², written without the difference of two nearly equal numbers: n may be 10^9.
    decay = (fresh * (samples + generated) + generated) / samples**2
    if decay >= 1.0:
        return 1.0 / samples
    equilibrium = 1.0 / (samples * decay)
    log_memory = generations * math.log1p(-decay)
    return -equilibrium * math.expm1(log_memory) + math.exp(log_memory) / samples


def _kept_unbiased(fresh: int, samples: int, generations: int) -> float:
    """With the n - 1 divisor the variance of the generated records feels the scatter of their means: two coupled affine equations.

    A pair of training records is real with real, real with generated or generated with generated; its half mean squared distance
    is 1, (1 + v + m)/2 or v. The mean of the training set adds its own share of each record's second moment to m.
    """
    n, r, s = float(samples), float(fresh), float(samples - fresh)
    pairs = n * max(n - 1.0, 1.0)
    step = np.array(
        [
            [(r * s + s * (s - 1.0)) / pairs, r * s / pairs, (r * (r - 1.0) + r * s) / pairs],
            [s / n**2, (s / n) ** 2, r / n**2],
            [0.0, 0.0, 1.0],
        ]
    )
    start = np.array([1.0, 1.0 / n, 1.0])
    return float((np.linalg.matrix_power(step, generations) @ start)[0])
