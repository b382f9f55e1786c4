"""Noise that is a function of seed, stream and position: known answers, distributions, and what it is independent of."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from studbook.errors import VerifierError
from studbook.verification._noise_kernels import _philox
from studbook.verification.noise import PIXELS, STEPS, TOKENS, Law, draw_token, normals, words

M0, M1, W0, W1, LOW = 0xD2511F53, 0xCD9E8D57, 0x9E3779B9, 0xBB67AE85, 0xFFFFFFFF


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, ...]:
    """Philox 4x32-10 as Salmon et al. 2011 write it, in Python's integers."""
    c, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = M0 * c[0], M1 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k[0], p1 & LOW, (p0 >> 32) ^ c[3] ^ k[1], p0 & LOW]
        k = [(k[0] + W0) & LOW, (k[1] + W1) & LOW]
    return tuple(c)


@pytest.mark.parametrize(
    "counter, key, expected",
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_known_answers(counter: str, key: str, expected: str) -> None:
    """Of the authors' library Random123 (kat_vectors)."""
    c, k = (tuple(int(word, 16) for word in text.split()) for text in (counter, key))
    assert [f"{int(word):08x}" for word in _philox(*map(np.uint64, (*c, *k)))] == expected.split()
    assert [f"{word:08x}" for word in philox(c, k)] == expected.split()


def test_the_words_of_a_position_are_blocks_of_one_counter() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        seed, position = int(rng.integers(2**53)), int(rng.integers(2**53))
        stream, n = int(rng.integers(1, 9)), int(rng.integers(1, 23))
        expected = [
            word
            for block in range((n + 3) // 4)
            for word in philox((block, position & LOW, position >> 32, stream), (seed & LOW, seed >> 32))
        ]
        assert words(seed, stream, position, n).tolist() == expected[:n]


def test_the_first_words_are_the_known_answer() -> None:
    assert [f"{word:08x}" for word in words(0, 0, 0, 4)] == ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]


def test_the_largest_arguments_work_after_small_ones() -> None:
    assert words(1, 1, 1, 1).shape == (1,)
    top = 2**64 - 1
    assert words(top, LOW, top, 4).tolist() == list(philox((0, LOW, LOW, LOW), (LOW, LOW)))
    assert words(5, 1, 1, 0).shape == (0,)


def test_any_part_can_be_drawn_alone() -> None:
    whole = words(7, TOKENS, 3, 101)
    for n in range(102):
        assert np.array_equal(words(7, TOKENS, 3, n), whole[:n])
    assert len({words(seed, stream, position, 4).tobytes() for seed in range(9) for stream in (1, 2, 3) for position in range(9)}) == 243


@pytest.mark.parametrize("bit", range(32))
def test_every_bit_is_fair(bit: int) -> None:
    """Two-sided binomial at level 1e-8 for each of 32 bits: false alarm 3.2e-7."""
    drawn = np.concatenate([words(11, STEPS, position, 1000) for position in range(100)])
    assert stats.binomtest(int((drawn >> bit & 1).sum()), len(drawn)).pvalue > 1e-8


def test_normals_are_normal_and_finite() -> None:
    """Kolmogorov–Smirnov at level 1e-7, and both ends of what a word can give."""
    drawn = np.concatenate([normals(5, PIXELS, position, 999) for position in range(101)])
    assert stats.kstest(drawn, "norm").pvalue > 1e-7
    assert np.isfinite(drawn).all() and np.abs(drawn).max() <= math.sqrt(2 * 33 * math.log(2))
    assert normals(5, PIXELS, 0, 7).shape == (7,) and normals(5, PIXELS, 0, 0).shape == (0,)


@pytest.mark.parametrize("lag", [1, 2, 7, 2**32])
def test_positions_and_seeds_are_independent(lag: int) -> None:
    """Correlation of 40,000 normal pairs beyond 5.6/√n: probability 2e-8 each, 8 tests: false alarm 1.7e-7."""
    n = 40_000
    here = np.concatenate([normals(3, TOKENS, position, 400) for position in range(100)])
    there = np.concatenate([normals(3, TOKENS, position + lag, 400) for position in range(100)])
    other = np.concatenate([normals(3 + lag, TOKENS, position, 400) for position in range(100)])
    if lag < 100:  # the same numbers, moved
        assert np.array_equal(here[400 * lag :], there[: -400 * lag])
    assert abs(np.corrcoef(here, there)[0, 1]) < 5.6 / math.sqrt(n)
    assert abs(np.corrcoef(here, other)[0, 1]) < 5.6 / math.sqrt(n)


LOGITS = np.array([1.5, 0.0, -0.7, 2.2, 1.5, -3.0, 0.9, -9.0, 2.1], np.float32)
PLAIN = Law(1.0)


def drawn_tokens(n: int, law: Law = PLAIN, seed: int = 2) -> np.ndarray:
    return np.array([draw_token(LOGITS, law, seed=seed, position=i)[0] for i in range(n)])


def kept_by(logits: np.ndarray, law: Law) -> np.ndarray:
    """Which tokens the truncations leave, as nucleus sampling is defined: of the top k the fewest likeliest that hold the probability."""
    scaled = logits.astype(float) / law.temperature
    weight = np.exp(scaled - scaled.max())
    lowest = np.sort(logits)[-law.top_k] if 0 < law.top_k < len(logits) else -np.inf
    if law.top_p == 1.0:
        return logits >= lowest
    weight[logits < lowest] = 0.0
    share, total, least = weight / weight.sum(), 0.0, np.inf
    for i in np.argsort(-weight, kind="stable"):
        if total >= law.top_p:
            break
        total, least = total + share[i], logits[i]
    return (logits >= least) & (weight > 0)


LAWS = [Law(0.25), Law(1.0), Law(4.0), Law(1.0, top_k=5), Law(1.0, top_k=1), Law(1.0, top_p=0.8), Law(2.0, 6, 0.6), Law(1.0, top_p=1e-9)]


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_tokens_follow_the_softmax_of_what_is_left(law: Law) -> None:
    """Pearson's χ² at level 1e-7 over 30,000 positions of one seed, eight tests: false alarm 8e-7."""
    n = 30_000
    weight = np.where(kept_by(LOGITS, law), np.exp(LOGITS.astype(float) / law.temperature), 0.0)
    expected = n * weight / weight.sum()
    seen = np.bincount(drawn_tokens(n, law), minlength=len(LOGITS))
    assert seen[weight == 0].sum() == 0
    likely = expected >= 5
    observed, model = seen[likely].astype(float), expected[likely]
    if (rest := expected[~likely].sum()) > 1e-9:
        observed, model = np.append(observed, seen[~likely].sum()), np.append(model, rest)
    assert len(model) == 1 or stats.chisquare(observed, model).pvalue > 1e-7


def test_tokens_of_neighbouring_positions_are_independent() -> None:
    """Contingency χ² at level 1e-7 over 30,000 pairs."""
    drawn = drawn_tokens(60_000)
    table = np.zeros((len(LOGITS), len(LOGITS)))
    np.add.at(table, (drawn[::2], drawn[1::2]), 1)
    common = table.sum(axis=0) > 300
    assert stats.chi2_contingency(table[np.ix_(common, common)])[1] > 1e-7


def test_the_kernel_is_the_formula() -> None:
    """Gumbel-max in NumPy, over vocabularies around the block of four, with truncations, and with claimed tokens that they exclude."""
    rng, excluded = np.random.default_rng(3), 0
    for n in [1, 2, 3, 4, 5, 7, 8, 9, 100, 257] * 40:
        logits = rng.normal(0, 4, n).astype(np.float32)
        law = Law(float(rng.uniform(0.1, 3)), int(rng.choice([0, 0, 1, 3, 50])), float(rng.choice([1.0, 0.95, 0.5])))
        seed, position, claimed = int(rng.integers(2**53)), int(rng.integers(2**40)), int(rng.integers(n))
        uniform = (words(seed, TOKENS, position, n) + 0.5) * 2.0**-32
        score = logits.astype(float) / law.temperature - np.log(-np.log(uniform))
        kept = kept_by(logits, law)
        best = int(np.where(kept, score, -np.inf).argmax())
        token, margin = draw_token(logits, law, seed=seed, position=position, claimed=claimed)
        assert token == best == draw_token(logits, law, seed=seed, position=position)[0]
        if kept[claimed]:
            assert margin == pytest.approx(score[best] - score[claimed], abs=1e-6)
            assert (margin == 0) == (claimed == best)
        else:
            excluded += 1
            shortfall = (float(logits[kept].min()) - float(logits[claimed])) / law.temperature
            wanted = score[best] - min(score[claimed], score[best]) + shortfall
            assert margin == pytest.approx(wanted, rel=1e-6, abs=1e-6) and margin >= shortfall - 1e-6
    assert excluded > 100


def test_greedy_needs_no_noise() -> None:
    for seed in range(20):
        assert draw_token(LOGITS, Law(0.0), seed=seed, position=seed, claimed=0) == (3, pytest.approx(0.7))
    assert draw_token(LOGITS, Law(0.0), seed=0, position=0) == (3, 0.0)
    assert draw_token(LOGITS, Law(0.0), seed=0, position=0, claimed=3) == (3, 0.0)


def test_a_claimed_token_does_not_change_what_is_drawn() -> None:
    for position in range(300):
        plain = draw_token(LOGITS, Law(0.8, top_k=5), seed=9, position=position)[0]
        for claimed in range(len(LOGITS)):
            token, margin = draw_token(LOGITS, Law(0.8, top_k=5), seed=9, position=position, claimed=claimed)
            assert token == plain and margin >= 0 and (margin == 0) == (claimed == plain)


def test_small_changes_of_the_logits_rarely_change_the_token() -> None:
    """The coupling: with total variation distance d between the two softmaxes, tokens differ with probability at most 2d/(1 + d).

    Gumbel-max couples with exactly 1 − Σᵢ 1/Σⱼ max(pⱼ/pᵢ, qⱼ/qᵢ) or less; 20,000 positions, binomial at level 1e-8 above the bound.
    """
    n, other = 20_000, LOGITS + np.random.default_rng(4).normal(0, 0.05, len(LOGITS)).astype(np.float32)
    p, q = (np.exp(x.astype(float)) / np.exp(x.astype(float)).sum() for x in (LOGITS, other))
    distance = 0.5 * np.abs(p - q).sum()
    differ = sum(
        draw_token(LOGITS, Law(1.0), seed=1, position=i)[0] != draw_token(other, Law(1.0), seed=1, position=i)[0] for i in range(n)
    )
    assert differ > 0
    assert differ <= stats.binom.ppf(1 - 1e-8, n, 2 * distance / (1 + distance))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_no_numbers_are_an_error(bad: float) -> None:
    logits = LOGITS.copy()
    logits[5] = bad
    for temperature in (0.0, 1.0):
        with pytest.raises(VerifierError, match="aren't numbers"):
            draw_token(logits, Law(temperature), seed=0, position=0)
    with pytest.raises(VerifierError, match="aren't numbers"):
        draw_token(np.full(4, -np.inf, np.float32), Law(1.0), seed=0, position=0)


def test_an_impossible_token_is_infinitely_far() -> None:
    logits = LOGITS.copy()
    logits[7] = -np.inf
    for temperature in (0.0, 1.0):
        assert draw_token(logits, Law(temperature), seed=0, position=0, claimed=7)[1] == np.inf


@pytest.mark.parametrize("temperature", [1e-300, 1e-30, 1e-6])
def test_the_smallest_temperatures_are_greedy(temperature: float) -> None:
    token, margin = draw_token(LOGITS, Law(temperature), seed=0, position=0, claimed=1)
    assert token == 3 and margin > 0
