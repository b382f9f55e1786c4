"""Compiled kernels on count vectors: multinomial and multivariate hypergeometric draws, and merging.

Many count vectors ("rows", one a replicate) are stored one after the other with the dead states left out: row ``r`` owns the entries
``starts[r]:starts[r + 1]`` of ``states`` (ascending) and ``counts``. All draws come from the generator that is passed, in one fixed
order. Sizes up to 2**53 are exact in double precision; every difference of log-factorials is taken without cancellation.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from studbook.arrays import AnyArray, Floats, Ints

# Up to this many records a state, dealing them one by one is cheaper than a Poisson number for each state.
_DEAL_UP_TO, _DEAL_ALWAYS = 2, 64
_URN_UP_TO = 12
_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
# What Stirling's formula for log x! leaves out, x = 0 … 9.
_STIRLING_LEFT = np.array([math.lgamma(x + 1.0) - (x + 0.5) * math.log(x + 1.0) + (x + 1.0) - _HALF_LOG_2PI for x in range(10)])


@numba.njit(cache=True, nogil=True)
def _stirling_left(x: float) -> float:
    if x < 10.0:
        return _STIRLING_LEFT[int(x)]  # type: ignore[no-any-return]
    z = 1.0 / (x + 1.0)
    return z * (1.0 / 12.0 - z * z * (1.0 / 360.0 - z * z / 1260.0))


@numba.njit(cache=True, nogil=True)
def _factorial_step(base: float, step: float) -> float:
    """``log (base + step)! - log base! - step log(base + 1)``, to full precision for any base."""
    rise = (base + step + 0.5) * math.log1p(step / (base + 1.0)) - step
    return rise + _stirling_left(base + step) - _stirling_left(base)  # type: ignore[no-any-return]


@numba.njit(cache=True, nogil=True)
def _uniform(state: AnyArray) -> float:
    """A double in [0, 1): xoshiro256++ (Blackman and Vigna 2019), inlined where a call of the generator costs four times as much."""
    s0, s1, s2, s3 = state[0], state[1], state[2], state[3]
    word = s0 + s3
    word = ((word << np.uint64(23)) | (word >> np.uint64(41))) + s0
    s2 ^= s0
    s3 ^= s1
    state[1] = s1 ^ s2
    state[0] = s0 ^ s3
    state[2] = s2 ^ (s1 << np.uint64(17))
    state[3] = (s3 << np.uint64(45)) | (s3 >> np.uint64(19))
    return float(word >> np.uint64(11)) * 2.0**-53


def _poisson_tables(means: list[float]) -> tuple[Floats, Ints]:
    """Alias tables (Walker 1977; Vose 1991) of Poisson laws, one after the other, and where each starts.

    An entry holds the alias before the point and the share that stays behind it. The mass beyond a table is below 1e-17.
    """
    entries: list[float] = []
    starts = [0]
    for mean in means:
        width = int(mean + 9.5 * math.sqrt(mean)) + 14
        mass = [math.exp(k * math.log(mean) - mean - math.lgamma(k + 1.0)) if mean else float(k == 0) for k in range(width)]
        entries += _alias_table(mass)
        starts.append(len(entries))
    return np.array(entries), np.array(starts)


def _alias_table(mass: list[float]) -> list[float]:
    scale = len(mass) / math.fsum(mass)
    keep = [scale * share for share in mass]
    alias = list(range(len(mass)))
    low, high = [k for k, share in enumerate(keep) if share < 1.0], [k for k, share in enumerate(keep) if share >= 1.0]
    while low and high:
        short, tall = low.pop(), high[-1]
        alias[short] = tall
        keep[tall] -= 1.0 - keep[short]
        if keep[tall] < 1.0:
            low.append(high.pop())
    return [a + (k if a != i else 0.0) for i, (a, k) in enumerate(zip(alias, keep, strict=True))]


# The sum of Poisson numbers is Poisson. So a mean below 2048 is cut into powers of two from 64 up, whole, sixteenths and a rest.
_TABLED = 2048.0
_POWER, _POWER_STARTS = _poisson_tables([1024.0, 512.0, 256.0, 128.0, 64.0])
_WHOLE, _WHOLE_STARTS = _poisson_tables([float(mean) for mean in range(64)])
_PART, _PART_STARTS = _poisson_tables([mean / 16.0 for mean in range(16)])


@numba.njit(cache=True, nogil=True)
def _look_up(table: Floats, start: int, end: int, u: float) -> int:
    u *= end - start
    cell = int(u)
    entry = table[start + cell]
    alias = int(entry)
    return alias + (cell - alias) * int(u - cell < entry - alias)  # without a branch that nobody can predict


@numba.njit(cache=True, nogil=True)
def _poisson_tabled(sixteenths: int, state: AnyArray) -> int:
    """Poisson with a mean of ``sixteenths / 16``, below 2048: a sum of Poisson numbers from tables."""
    k: int = 0
    whole = sixteenths >> 4
    if whole >= 64:
        for i in range(5):
            if whole >= 1024 >> i:
                whole -= 1024 >> i
                k += _look_up(_POWER, _POWER_STARTS[i], _POWER_STARTS[i + 1], _uniform(state))
    part = sixteenths & 15
    k += _look_up(_WHOLE, _WHOLE_STARTS[whole], _WHOLE_STARTS[whole + 1], _uniform(state))
    k += _look_up(_PART, _PART_STARTS[part], _PART_STARTS[part + 1], _uniform(state))
    return k


@numba.njit(cache=True, nogil=True)
def _poisson_large(mean: float, state: AnyArray) -> int:
    """Poisson by transformed rejection with squeeze, algorithm PTRS of Hörmann (1993), for means of 10 and more."""
    b = 0.931 + 2.53 * math.sqrt(mean)
    a = -0.059 + 0.02483 * b
    v_squeeze = 0.9277 - 3.6224 / (b - 2.0)
    while True:
        u = _uniform(state) - 0.5
        v = _uniform(state)
        edge = 0.5 - abs(u)
        if edge <= 0.0:
            continue
        k = math.floor((2.0 * a / edge + b) * u + mean + 0.43)
        if edge >= 0.07 and v <= v_squeeze:
            return int(k)
        if k < 0.0 or (edge < 0.013 and v > edge):
            continue
        mode = math.floor(mean)
        at_mode = mode * math.log1p((mean - mode - 1.0) / (mode + 1.0)) - (mean - mode - 1.0)
        at_mode -= 0.5 * math.log(mode + 1.0) + _stirling_left(mode) + _HALF_LOG_2PI
        log_mass = at_mode + (k - mode) * math.log(mean / (mode + 1.0)) - _factorial_step(mode, k - mode)
        scale = (1.1239 + 1.1328 / (b - 3.4)) / (a / (edge * edge) + b)
        if math.log(v * scale) <= log_mass:
            return int(k)


@numba.njit(cache=True, nogil=True)
def _hypergeometric_rejection(good: int, bad: int, n: int, rng: np.random.Generator) -> int:
    """Ratio of uniforms, Stadlober (1990), for ``good <= bad`` and ``2 n <= good + bad``."""
    total = float(good) + float(bad)
    share = good / total
    variance = n * share * (1.0 - share) * (total - n) / (total - 1.0)
    centre = n * share + 0.5
    width = 2.0 * math.sqrt(2.0 / math.e) * math.sqrt(variance + 0.5) + (3.0 - 2.0 * math.sqrt(3.0 / math.e))
    mode = math.floor((n + 1.0) * (good + 1.0) / (total + 2.0))
    slope = math.log((good - mode + 1.0) / (mode + 1.0) * ((n - mode + 1.0) / (bad - n + mode + 1.0)))
    top = float(min(good, n))
    while True:
        u = rng.random()
        v = rng.random()
        if u <= 0.0:
            continue
        k = math.floor(centre + width * (v - 0.5) / u)
        if k < 0.0 or k > top:
            continue
        step = k - mode
        log_ratio = step * slope - _factorial_step(mode, step) - _factorial_step(good - mode, -step)
        log_ratio -= _factorial_step(n - mode, -step) + _factorial_step(bad - n + mode, step)
        if 2.0 * math.log(u) <= log_ratio:
            return int(k)


@numba.njit(cache=True, nogil=True)
def _hypergeometric(good: int, bad: int, n: int, rng: np.random.Generator) -> int:
    total = good + bad
    few = min(n, total - n)
    rare = min(good, bad)
    if min(few, rare) <= _URN_UP_TO:
        # The law is symmetric in "drawn" and "marked": walk through the smaller of the two.
        draws, marked = min(few, rare), max(few, rare)
        k = 0
        for i in range(draws):
            if rng.random() * (total - i) < marked - k:
                k += 1
    else:
        k = _hypergeometric_rejection(rare, total - rare, few, rng)
    if good > bad:
        k = few - k
    return k if few == n else good - k


@numba.njit(cache=True, nogil=True)
def hypergeometric(good: Ints, bad: Ints, n: int, rng: np.random.Generator) -> Ints:
    """How many marked records are among ``n`` drawn without replacement, for each of ``(R,)`` urns."""
    drawn = np.empty(len(good), np.int64)
    for r in range(len(good)):
        drawn[r] = _hypergeometric(good[r], bad[r], n, rng)
    return drawn


@numba.njit(cache=True, nogil=True)
def _exponential(state: AnyArray) -> float:
    return -math.log(1.0 - _uniform(state))


@numba.njit(cache=True, nogil=True)
def _deal(weights: Floats, total: float, n: int, counts: Floats, gaps: Floats, state: AnyArray) -> None:
    """Add ``n`` records to ``counts``: one sweep over the states with ``n`` ordered uniform numbers (normalised exponential gaps)."""
    span = 0.0
    for j in range(n + 1):
        gaps[j] = _exponential(state)
        span += gaps[j]
    scale = total / span
    record, arrival, running = 0, gaps[0] * scale, 0.0
    for i in range(len(weights)):
        running += weights[i]
        while arrival < running and record < n:
            counts[i] += 1.0
            record += 1
            arrival += gaps[record] * scale
    counts[len(weights) - 1] += n - record  # rounding may leave the last one over


@numba.njit(cache=True, nogil=True)
def _poisson_round(weights: Floats, scale: float, drawn: Floats, state: AnyArray) -> float:
    """Independent Poisson numbers with means ``scale * weights`` into ``drawn``; returns their sum.

    A mean is cut into sixteenths and a rest. The rests are the arrivals of one Poisson process that runs through all states.
    """
    total = 0.0
    wait = _exponential(state)
    for i in range(len(weights)):
        mean = scale * weights[i]
        if mean < _TABLED:
            sixteenths = int(mean * 16.0)
            k = float(_poisson_tabled(sixteenths, state))
            wait -= mean - sixteenths * 0.0625
            while wait < 0.0:
                k += 1.0
                wait += _exponential(state)
        else:
            k = float(_poisson_large(mean, state))
        drawn[i] = k
        total += k
    return total


@numba.njit(cache=True, nogil=True)
def _multinomial_row(weights: Floats, n: int, counts: Floats, drawn: Floats, gaps: Floats, state: AnyArray) -> None:
    """One multinomial vector.

    Independent Poisson numbers are multinomial given their sum. So draw them with a total a little short of ``n``, again where they
    exceed it all the same (which leaves their law given the sum as it is), and draw what is missing in the same way until little
    is left to deal one by one: some ``log log n`` rounds.
    """
    size = len(weights)
    counts[:size] = 0.0
    total = weights.sum()
    left = n
    while left > _DEAL_UP_TO * size + _DEAL_ALWAYS:
        goal = left - 1.25 * math.sqrt(left)
        n_drawn = left + 1.0
        while n_drawn > left:
            n_drawn = _poisson_round(weights, goal / total, drawn, state)
        for i in range(size):
            counts[i] += drawn[i]
        left -= int(n_drawn)
    _deal(weights, total, left, counts, gaps, state)


@numba.njit(cache=True, nogil=True)
def _compact(first: int, counts: Floats, states: Ints, out_states: Ints, out_counts: Floats, end: int) -> int:
    for i in range(len(counts)):
        out_states[end] = states[first + i]
        out_counts[end] = counts[i]
        end += counts[i] > 0.0  # without a branch that nobody can predict
    return end


@numba.njit(cache=True, nogil=True)
def multinomial_rows(starts: Ints, states: Ints, weights: Floats, sizes: Ints, state: AnyArray) -> tuple[Ints, Ints, Floats]:
    """``sizes[r]`` records of row r's law, as counts.

    Args:
        starts: ``(R + 1,)``.
        states: ``(E,)``.
        weights: ``(E,)`` positive; a row's probabilities are proportional to them.
        sizes: ``(R,)`` records of each row, 0 or more.
        state: ``(4,)`` uint64, not all zero: the state of the stream, drawn from a generator; it is advanced.

    Returns:
        ``starts``, ``states``, ``counts`` of the states that were drawn.
    """
    n_rows = len(starts) - 1
    longest = 1
    for r in range(n_rows):
        longest = max(longest, starts[r + 1] - starts[r])
    counts, drawn, gaps = np.empty(longest), np.empty(longest), np.empty(_DEAL_UP_TO * longest + _DEAL_ALWAYS + 1)
    out_starts = np.zeros(n_rows + 1, np.int64)
    out_states = np.empty(len(states) + 1, np.int64)
    out_counts = np.empty(len(states) + 1)
    end = 0
    for r in range(n_rows):
        first, last = starts[r], starts[r + 1]
        _multinomial_row(weights[first:last], sizes[r], counts[: last - first], drawn, gaps, state)
        end = _compact(first, counts[: last - first], states, out_states, out_counts, end)
        out_starts[r + 1] = end
    return out_starts, out_states[:end].copy(), out_counts[:end].copy()


@numba.njit(cache=True, nogil=True)
def hypergeometric_rows(starts: Ints, states: Ints, counts: Floats, n: int, rng: np.random.Generator) -> tuple[Ints, Ints, Floats]:
    """``n`` records drawn without replacement from each row (multivariate hypergeometric), as counts; a row must hold ``n``."""
    n_rows = len(starts) - 1
    out_starts = np.zeros(n_rows + 1, np.int64)
    out_states = np.empty(len(states), np.int64)
    out_counts = np.empty(len(states))
    end = 0
    for r in range(n_rows):
        rest = np.int64(counts[starts[r] : starts[r + 1]].sum())
        left = n
        for e in range(starts[r], starts[r + 1]):
            here = np.int64(counts[e])
            rest -= here
            drawn = _hypergeometric(here, rest, left, rng)
            left -= drawn
            if drawn > 0:
                out_states[end] = states[e]
                out_counts[end] = drawn
                end += 1
        out_starts[r + 1] = end
    return out_starts, out_states[:end].copy(), out_counts[:end].copy()


@numba.njit(cache=True, nogil=True)
def merge_rows(
    starts: Ints, states: Ints, counts: Floats, other_starts: Ints, other_states: Ints, other_counts: Floats
) -> tuple[Ints, Ints, Floats]:
    """The sums of two sets of rows."""
    n_rows = len(starts) - 1
    out_starts = np.zeros(n_rows + 1, np.int64)
    out_states = np.empty(len(states) + len(other_states), np.int64)
    out_counts = np.empty(len(states) + len(other_states))
    end = 0
    for r in range(n_rows):
        i, j = starts[r], other_starts[r]
        while i < starts[r + 1] or j < other_starts[r + 1]:
            mine = states[i] if i < starts[r + 1] else np.iinfo(np.int64).max
            theirs = other_states[j] if j < other_starts[r + 1] else np.iinfo(np.int64).max
            out_states[end] = min(mine, theirs)
            out_counts[end] = 0.0
            if mine <= theirs:
                out_counts[end] += counts[i]
                i += 1
            if theirs <= mine:
                out_counts[end] += other_counts[j]
                j += 1
            end += 1
        out_starts[r + 1] = end
    return out_starts, out_states[:end].copy(), out_counts[:end].copy()


@numba.njit(cache=True, nogil=True)
def row_totals(starts: Ints, counts: Floats) -> Floats:
    """The sum of each row: ``(R,)``."""
    totals = np.zeros(len(starts) - 1)
    for r in range(len(totals)):
        for e in range(starts[r], starts[r + 1]):
            totals[r] += counts[e]
    return totals


@numba.njit(cache=True, nogil=True)
def compress_rows(table: Floats) -> tuple[Ints, Ints, Floats]:
    """The entries of ``(R, K)`` that aren't 0."""
    n_rows, n_states = table.shape
    starts = np.zeros(n_rows + 1, np.int64)
    for r in range(n_rows):
        starts[r + 1] = starts[r] + np.count_nonzero(table[r])
    states = np.empty(starts[n_rows] + 1, np.int64)
    counts = np.empty(starts[n_rows] + 1)
    end = 0
    for r in range(n_rows):
        for k in range(n_states):
            states[end] = k
            counts[end] = table[r, k]
            end += table[r, k] != 0.0
            if end == starts[n_rows]:
                break
    return starts, states[:end].copy(), counts[:end].copy()
