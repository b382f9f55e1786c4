"""Standard errors: of means, of shares, and by the delete-a-group jackknife."""

from __future__ import annotations

import numpy as np

from studbook.arrays import AnyArray, Floats, Ints


def mean_stderr(values: AnyArray) -> float:
    """Standard error of the mean of independent values: s/√n.

    Args:
        values: ``(n,)``; for a smooth statistic, the influence of each record on it (delta method).

    Returns:
        0 or more; infinite for a single value, whose spread can't be seen.

    Examples:
        >>> from studbook.metrics.stderr import mean_stderr
        >>> import numpy as np
        >>> round(mean_stderr(np.array([1.0, 2.0, 3.0, 4.0])), 4)
        0.6455
    """
    n = len(values)
    return float(np.std(values, ddof=1) / np.sqrt(n)) if n > 1 else float("inf")


def share_stderr(hits: float, n: int) -> float:
    """Binomial standard error of a share, √(p(1−p)/n) at p = (hits + ½)/(n + 1).

    The half hit is Jeffreys' prior: none seen in n isn't certainty that there are none.

    Examples:
        >>> from studbook.metrics.stderr import share_stderr
        >>> round(share_stderr(50, 100), 4), round(share_stderr(0, 100), 4)
        (0.05, 0.007)
    """
    p = (hits + 0.5) / (n + 1)
    return float(np.sqrt(p * (1 - p) / n))


def groups_of(n: int, n_groups: int) -> Ints:
    """A group in ``[0, G)`` for each of n records in random order, G = min(n, n_groups), of sizes that differ by at most one.

    Consecutive records are in one group, so that what depends on its neighbours stays together.
    """
    return np.arange(n) * min(n, n_groups) // n


def jackknife_stderr(left_out: AnyArray) -> float:
    """Delete-a-group jackknife: √((G−1)/G · Σ(θ₋g − θ̄)²).

    Its own relative error is about 1/√(2G). For a number of distinct things it errs upwards (Efron and Stein 1981).

    Args:
        left_out: ``(G,)`` the statistic without each group in turn.

    Returns:
        0 or more; infinite for a single group.

    Examples:
        >>> from studbook.metrics.stderr import jackknife_stderr, mean_stderr
        >>> import numpy as np
        >>> x = np.array([1.0, 2.0, 3.0, 4.0])
        >>> round(jackknife_stderr((x.sum() - x) / 3), 4) == round(mean_stderr(x), 4)
        True
    """
    n_groups = len(left_out)
    if n_groups < 2:
        return float("inf")
    centred: Floats = np.asarray(left_out, dtype=np.float64) - np.mean(left_out)
    return float(np.sqrt((n_groups - 1) / n_groups * (centred**2).sum()))
