"""Categorical models refitted to their own draws: the Wright–Fisher model of population genetics.

The counts of a training set of N records are multinomial with the last frequencies. The heterozygosity 1 − Σp² follows the
coalescence recursion; how many states survive is in ``studbook.theory.support``.
"""

from __future__ import annotations

import numpy as np

from studbook.arrays import Floats, Ints
from studbook.errors import ConfigError


def replaced_heterozygosity(n: int, generations: Ints, *, n_original: int | None = None) -> Floats:
    """E (1 − Σp²)/H₀ under replacement: (1 − 1/N)^t, times 1 − 1/n_original where generation 0 is fitted to draws.

    Args:
        n: Records a generation.
        generations: ``(G,)``.
        n_original: Draws behind generation 0; ``None``: it has exactly the law.

    Returns:
        ``(G,)`` shares of the law's heterozygosity. For other mixes see ``studbook.theory.expected_heterozygosity``.

    References:
        S. Wright, "Evolution in Mendelian populations", Genetics 16 (1931).

    Examples:
        >>> import numpy as np
        >>> from studbook.theory import replaced_heterozygosity
        >>> replaced_heterozygosity(100, np.array([0, 100])).round(3).tolist()
        [1.0, 0.366]
    """
    start = 1.0 if n_original is None else 1.0 - 1.0 / n_original
    with np.errstate(divide="ignore"):
        log_kept = np.log1p(-1.0 / n)
    steps = np.asarray(generations, dtype=np.float64)
    kept: Floats = start * np.exp(np.multiply(steps, log_kept, out=np.zeros_like(steps), where=steps > 0))
    return kept


def loss_probability(probability: Floats, n: int) -> Floats:
    """Probability that a state is lost in one generation, (1 − q)^M.

    Args:
        probability: q in [0, 1].
        n: M, records drawn.

    References:
        I. Shumailov et al., Nature 631 (2024), section on discrete distributions.

    Examples:
        >>> import numpy as np
        >>> from studbook.theory import loss_probability
        >>> loss_probability(np.array([0.01]), 100).round(3).tolist()
        [0.366]
    """
    lost: Floats = (1.0 - np.asarray(probability, dtype=np.float64)) ** n
    return lost


def fixation_probability(probability: Floats) -> Floats:
    """Probability that a state is the only one left in the end, under replacement: its initial probability (p_t is a martingale).

    References:
        R. Fisher, "The Genetical Theory of Natural Selection" (1930); M. Kimura, Genetics 47 (1962).

    Examples:
        >>> import numpy as np
        >>> from studbook.theory import fixation_probability
        >>> fixation_probability(np.array([0.25, 0.75])).tolist()
        [0.25, 0.75]
    """
    return np.array(probability, dtype=np.float64)


def absorption_time(probability: float, n: int) -> float:
    """Expected generations until one of two states is left, in the diffusion limit: −2N(p·ln p + q·ln q).

    Args:
        probability: p of one state, 0 to 1; q = 1 − p.
        n: N, records a generation.

    References:
        J. Crow and M. Kimura, "An Introduction to Population Genetics Theory" (1970), section 8.9 (there for 2N copies); M. Kimura and
        T. Ohta, Genetics 61 (1969).

    Examples:
        >>> from studbook.theory import absorption_time
        >>> round(absorption_time(0.5, 100), 1)
        138.6
    """
    from scipy.special import xlog1py, xlogy

    return float(-2.0 * n * (xlogy(probability, probability) + xlog1py(1.0 - probability, -probability)))


def absorption_time_exact(n: int, *, limit: int = 3000) -> Floats:
    """Expected generations until one of two states is left, from each count 0..N: the chain's fundamental equation (I − Q)t = 1.

    Args:
        n: N, records a generation, up to ``limit``: memory grows with N², time with N³.
        limit: Largest N that is solved.

    Returns:
        ``(N + 1,)`` by the count of one state.

    Raises:
        ConfigError: N is above the limit; ``absorption_time`` is within 2 % there.

    References:
        J. Kemeny and J. Snell, "Finite Markov Chains" (1960), theorem 3.3.5; W. Ewens, "Mathematical Population
        Genetics" (2004), chapter 3.

    Examples:
        >>> from studbook.theory import absorption_time_exact
        >>> round(float(absorption_time_exact(100)[50]), 1)
        136.6
    """
    from studbook.theory._chain import transition

    if not 1 <= n <= limit:
        raise ConfigError(f"n is {n}, expected 1 to {limit}", hint="use absorption_time, its diffusion limit")
    times = np.zeros(n + 1)
    if n > 1:
        counts = np.arange(n + 1)
        inner = transition(counts[1:-1], n, n, counts)[:, 1:-1]
        times[1:-1] = np.linalg.solve(np.eye(n - 1) - inner, np.ones(n - 1))
    return times
