"""What variance and heterozygosity keep, in closed form."""

from __future__ import annotations

import numpy as np

from studbook.theory import kept_share


def kept_moment(fresh: int, samples: int, generations: int, *, ddof: int = 0) -> float:
    """The expected share of the variance (of the heterozygosity, for ``ddof=0``) after ``generations`` generations.

    Time and memory don't depend on any argument: the recursion is affine, so that a power of it does.
    """
    return _kept_unbiased(fresh, samples, generations) if ddof else kept_share(fresh, samples, generations)


def _kept_unbiased(fresh: int, samples: int, generations: int) -> float:
    """With the n - 1 divisor the variance of the generated records feels the scatter of their means: two coupled affine equations.

    A pair of training records is real with real, real with generated or generated with generated; its half mean squared distance
    is 1, (1 + v + m)/2 or v. The mean of the training set adds its own share of each record's second moment to m.
    """
    n, r, s = float(samples), float(fresh), float(samples - fresh)
    pairs = n * (n - 1.0)
    step = np.array(
        [
            [(r * s + s * (s - 1.0)) / pairs, r * s / pairs, (r * (r - 1.0) + r * s) / pairs],
            [s / n**2, (s / n) ** 2, r / n**2],
            [0.0, 0.0, 1.0],
        ]
    )
    start = np.array([1.0, 1.0 / n, 1.0])
    return float((np.linalg.matrix_power(step, generations) @ start)[0])
