"""How fast nodes that average with each other agree, and how far apart gradient noise keeps them: second moments, exact where they can be.

Write x_i for the parameters of node i, D for the mean squared distance to their mean, (1/n)·Σ|x_i − x̄|². A step of training is
x ← W·(x − η·g) with a doubly stochastic W, perhaps drawn anew each step. It leaves the mean to the gradients and shrinks D.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from studbook.arrays import Floats
from studbook.errors import ConfigError

_TOLERANCE = 1e-9
_MOST_CYCLES = 200_000


def second_eigenvalue(weights: Floats) -> float:
    """The second largest modulus among a mixing matrix's eigenvalues, |λ₂|: 0 mixes at once, 1 never.

    Args:
        weights: ``(n, n)``, doubly stochastic.

    Raises:
        ConfigError: Not such a matrix.

    Examples:
        >>> import numpy as np
        >>> from studbook.theory import second_eigenvalue
        >>> ring = sum(np.roll(np.eye(8), k, axis=1) for k in (-1, 0, 1)) / 3
        >>> round(second_eigenvalue(ring), 4), round(float(1 + 2 * np.cos(np.pi / 4)) / 3, 4)
        (0.8047, 0.8047)
    """
    (matrix,) = _stack(weights)
    if matrix.shape[0] == 1:
        return 0.0
    moduli = np.abs(np.linalg.eigvals(matrix))
    return float(np.sort(moduli)[-2])


def contraction(weights: Floats) -> float:
    """By what factor one averaging shrinks the expected squared distance to the mean, at worst over all directions.

    E|W·x − x̄|² ≤ ρ·|x − x̄|² with ρ the largest eigenvalue of E[WᵀW] on vectors whose entries sum to 0. For a fixed W it is σ₂², the second
    singular value squared, and λ₂² where W is symmetric; there it is the rate that shows after some steps.

    Args:
        weights: ``(n, n)``, or ``(m, n, n)`` for m equally likely matrices; each doubly stochastic.

    Returns:
        ρ, from 0 (agreed after one step) to 1 (never).

    Raises:
        ConfigError: Not such matrices.

    References:
        S. Boyd, A. Ghosh, B. Prabhakar, D. Shah, "Randomized gossip algorithms", IEEE Trans. Inf. Theory 52 (2006), eqs. 11–13 and
        theorem 3; for a fixed W: L. Xiao, S. Boyd, Systems & Control Letters 53 (2004), eq. 12.

    Examples:
        >>> import numpy as np
        >>> from studbook.theory import contraction
        >>> contraction(np.full((4, 4), 0.25)), contraction(np.eye(4))
        (0.0, 1.0)
    """
    stack = _stack(weights)
    n = stack.shape[1]
    apart = np.eye(n) - 1.0 / n
    squares = apart @ np.mean(np.swapaxes(stack, 1, 2) @ stack, axis=0) @ apart
    return float(min(1.0, max(0.0, np.linalg.eigvalsh(squares)[-1].round(12))))


def pair_contraction(n: int) -> float:
    """``contraction`` of random pairs: everybody is paired at random each step, and each pair takes its mean.

    A pair's averaging is a projection, so that E[WᵀW] = E[W]; with n even that is ½·I + ½·(11ᵀ − I)/(n − 1), hence ρ = (n − 2)/(2·(n − 1)).
    With n odd one node sits out, and ρ = ½. It is the same in every direction, so that the bound is met exactly.

    Raises:
        ConfigError: ``n`` below 2.

    References:
        Boyd et al. (2006), §II.B with a matching in place of one pair a tick.

    Examples:
        >>> from studbook.theory import pair_contraction
        >>> pair_contraction(2), round(pair_contraction(8), 4), pair_contraction(5)
        (0.0, 0.4286, 0.5)
    """
    if n < 2:
        raise ConfigError(f"n is {n}, expected 2 or more nodes")
    return 0.5 if n % 2 else (n - 2) / (2 * (n - 1))


def predict_spread(schedule: Sequence[Floats], steps: int, *, noise: float, decay: float = 1.0, start: float = 0.0) -> Floats:
    """The expected squared distance to the mean after each step, exact for quadratic losses of one curvature.

    With independent noise of the nodes' updates the matrix M of second moments of the deviations goes
    M ← E[W·(c²·M + s²·P)·Wᵀ] with P = I − 11ᵀ/n, and D = tr(M)/n.

    Args:
        schedule: One entry a step, used again from its beginning: ``(n, n)`` or ``(m, n, n)`` mixing matrices as in ``contraction``.
        steps: How many, 0 or more.
        noise: s², the variance of one node's update around its mean, summed over all parameters: η² times the gradient's.
        decay: c, what a step leaves of a deviation: 1 − η·h for the curvature h; 1 where the curvature doesn't count.
        start: D before the first step, spread evenly over all directions.

    Returns:
        ``(steps,)`` values of D.

    Raises:
        ConfigError: Not such matrices, or numbers out of range.

    References:
        X. Lian et al., "Can decentralized algorithms outperform centralized algorithms?", NeurIPS 2017, lemma 5 with equality for
        quadratics; A. Koloskova et al., "A unified theory of decentralized SGD", ICML 2020, lemma 9 (the consensus distance).

    Examples:
        >>> import numpy as np
        >>> from studbook.theory import predict_spread
        >>> predict_spread([np.eye(4)], 3, noise=1.0).tolist()  # without contact it grows by s²·(1 − 1/n)
        [0.75, 1.5, 2.25]
        >>> predict_spread([np.eye(4), np.full((4, 4), 0.25)], 4, noise=1.0).round(12).tolist()  # averaged every other step
        [0.75, 0.0, 0.75, 0.0]
    """
    stacks = _schedule(schedule, noise, decay)
    if steps < 0 or not start >= 0.0:
        raise ConfigError(f"{steps} steps from a spread of {start}, expected 0 or more of both")
    n = stacks[0].shape[1]
    apart = np.eye(n) - 1.0 / n
    moments = apart * (start * n / max(1, n - 1))
    found = np.empty(steps)
    for step in range(steps):
        moments = _next(stacks[step % len(stacks)], moments, apart, noise, decay)
        found[step] = _mean_square(moments, noise + start)
    return found


def steady_spread(schedule: Sequence[Floats], *, noise: float, decay: float = 1.0) -> Floats:
    """What ``predict_spread`` tends to, one value for each step of the schedule; infinite where noise piles up for ever.

    For one symmetric W it is (s²/n)·Σ λ²/(1 − c²·λ²) over all eigenvalues but the first.

    Args:
        schedule: As in ``predict_spread``.
        noise: As there.
        decay: As there.

    Raises:
        ConfigError: As there.

    Examples:
        >>> import numpy as np
        >>> from studbook.theory import steady_spread
        >>> steady_spread([np.eye(2)], noise=1.0).tolist(), steady_spread([np.eye(2)], noise=1.0, decay=0.5).round(4).tolist()
        ([inf], [0.6667])
    """
    stacks = _schedule(schedule, noise, decay)
    n = stacks[0].shape[1]
    apart = np.eye(n) - 1.0 / n
    moments, before = np.zeros((n, n)), np.full(len(stacks), -1.0)
    rho = {id(stack): contraction(stack) for stack in {id(stack): stack for stack in stacks}.values()}
    growth = np.prod([decay**2 * rho[id(stack)] for stack in stacks])
    if growth >= 1.0 - 1e-12 and noise > 0.0:
        return np.full(len(stacks), np.inf)
    for _ in range(_MOST_CYCLES):
        found = np.empty(len(stacks))
        for k, stack in enumerate(stacks):
            moments = _next(stack, moments, apart, noise, decay)
            found[k] = _mean_square(moments, noise)
        if np.allclose(found, before, rtol=1e-10, atol=0.0):
            break
        before = found
    return found


def spread_bound(rho: float, n: int, *, noise: float = 0.0, drift: float = 0.0, decay: float = 1.0) -> float:
    """A bound on the steady spread from the contraction alone: ρ·s²·(1 − 1/n)/(1 − c²·ρ) by noise, (√ρ·d/(1 − c·√ρ))² by drift.

    Noise is independent from step to step; drift isn't: nodes with different rows pull apart in the same direction at every step.

    Args:
        rho: See ``contraction``, 0 up to below 1.
        n: Nodes.
        noise: s², as in ``predict_spread``.
        drift: d, the root mean square over nodes of the constant part of an update's deviation from the mean update.
        decay: As in ``predict_spread``.

    Returns:
        The square of the sum of both roots.

    Raises:
        ConfigError: Numbers out of range.

    References:
        Lian et al. (2017), lemma 5; Koloskova et al. (2020), lemma 9.

    Examples:
        >>> from studbook.theory import pair_contraction, spread_bound
        >>> round(spread_bound(pair_contraction(8), 8, noise=1.0), 4)
        0.6562
    """
    if not 0.0 <= rho < 1.0 or n < 1 or not noise >= 0.0 or not drift >= 0.0 or not 0.0 <= decay <= 1.0:
        raise ConfigError(f"rho is {rho}, n {n}, noise {noise}, drift {drift}, decay {decay}: expected 0 ≤ rho < 1, the rest from 0 on")
    by_noise = rho * noise * (1 - 1 / n) / (1 - decay**2 * rho)
    by_drift = np.sqrt(rho) * drift / (1 - decay * np.sqrt(rho))
    return float((np.sqrt(by_noise) + by_drift) ** 2)


def _mean_square(moments: Floats, scale: float) -> float:
    value = float(np.trace(moments)) / moments.shape[0]
    return value if value > 1e-13 * scale else 0.0  # what is left of numbers that cancel


def _next(stack: Floats, moments: Floats, apart: Floats, noise: float, decay: float) -> Floats:
    spread = decay**2 * moments + noise * apart
    following: Floats = np.mean(stack @ spread @ np.swapaxes(stack, 1, 2), axis=0)
    return following


def _schedule(schedule: Sequence[Floats], noise: float, decay: float) -> list[Floats]:
    if not schedule or not noise >= 0.0 or not 0.0 <= decay <= 1.0:
        raise ConfigError(f"{len(schedule)} mixing matrices, noise {noise}, decay {decay}: expected 1 or more, 0 or more, and 0 to 1")
    distinct = {id(weights): _stack(weights) for weights in {id(each): each for each in schedule}.values()}
    stacks = [distinct[id(weights)] for weights in schedule]
    if len({stack.shape[1] for stack in stacks}) > 1:
        raise ConfigError("the mixing matrices are for different numbers of nodes")
    return stacks


def _stack(weights: Floats) -> Floats:
    stack = np.asarray(weights, np.float64)
    stack = stack[None] if stack.ndim == 2 else stack
    if stack.ndim != 3 or stack.shape[1] != stack.shape[2] or not stack.size:
        raise ConfigError(f"mixing matrices have the shape {np.shape(weights)}, expected (n, n) or (m, n, n)")
    sums = np.abs(np.concatenate([stack.sum(axis=1), stack.sum(axis=2)]) - 1.0).max()
    if not (stack.min() >= -_TOLERANCE and sums <= _TOLERANCE):
        raise ConfigError("a mixing matrix isn't doubly stochastic: expected no entry below 0, and rows and columns that sum to 1")
    return stack
