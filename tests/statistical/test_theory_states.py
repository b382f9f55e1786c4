"""Support, heterozygosity, extinction, absorption and regression error against simulation."""

from __future__ import annotations

import numpy as np
import pytest

from studbook.arrays import Floats, Ints
from studbook.theory import (
    CategoricalLaw,
    PoissonLaw,
    Renewal,
    Situation,
    absorption_time_exact,
    accumulated_error,
    expected_support,
    extinction_probability,
    log_variance,
    predict,
    rate_moments,
    replaced_error,
    replaced_std,
)

R = 20_000
LAW = np.array([0.4, 0.3, 0.2, 0.05, 0.03, 0.02])


def z_scores(values: Floats, expected: Floats) -> Floats:
    """``values`` ``(G, R)`` against ``expected`` ``(G,)``; a quantity without variance must agree."""
    error = values.std(axis=1) / np.sqrt(values.shape[1])
    gap = values.mean(axis=1) - expected
    return np.divide(gap, error, out=np.where(np.abs(gap) < 1e-9, 0.0, np.inf), where=error > 0)


def hypergeometric(counts: Ints, draws: int, rng: np.random.Generator) -> Ints:
    return rng.multivariate_hypergeometric(counts, draws) if counts.ndim == 1 else np.array([hypergeometric(c, draws, rng) for c in counts])


def categorical_chain(renewal: Renewal, n_original: int, last: int, *, sampled: bool, seed: int) -> Floats:
    """Frequencies ``(last + 1, R, K)``, all states jointly."""
    rng = np.random.default_rng(seed)
    original = rng.multinomial(n_original, LAW, size=R) if sampled else np.tile(np.rint(LAW * n_original).astype(np.int64), (R, 1))
    frequencies = [original / n_original]
    for _ in range(last):
        counts = rng.multinomial(renewal.generated, frequencies[-1])
        if renewal.fresh:
            counts = counts + rng.multinomial(renewal.fresh, LAW, size=R)
        if renewal.original:
            counts = counts + hypergeometric(original, renewal.original, rng)
        frequencies.append(counts / renewal.size)
    return np.array(frequencies)


CHAINS = [
    (Renewal(12), 12, True),
    (Renewal(12), 20, True),
    (Renewal(12), 100, False),
    (Renewal(10, fresh=2), 12, True),
    (Renewal(10, fresh=2), 7, True),
    (Renewal(0, fresh=12), 12, True),
    (Renewal(9, original=3), 12, True),
    (Renewal(9, original=3), 20, True),
    (Renewal(9, original=3), 100, False),
]


@pytest.mark.parametrize(("renewal", "n_original", "sampled"), CHAINS)
def test_support(renewal: Renewal, n_original: int, sampled: bool) -> None:
    """|z| < 5 at six generations in nine cases: false alarms in 3e-5 of all seeds."""
    simulated = (categorical_chain(renewal, n_original, 6, sampled=sampled, seed=4) > 0).sum(axis=2)
    expected = expected_support(LAW, renewal, n_original, np.arange(7), sampled=sampled)
    assert np.abs(z_scores(simulated, expected)).max() < 5.0


@pytest.mark.parametrize(
    ("mix", "parameters", "renewal"),
    [("replace", {}, Renewal(12)), ("fresh", {"fresh": 2}, Renewal(10, fresh=2)), ("keep", {"share": 0.25}, Renewal(9, original=3))],
)
def test_predictions_of_states(mix: str, parameters: dict[str, float], renewal: Renewal) -> None:
    """Heterozygosity, support and its share, through ``predict``; |z| < 5 for 21 numbers in three cases: 4e-5."""
    frequencies = categorical_chain(renewal, 15, 6, sampled=True, seed=5)
    situation = Situation("categorical", {}, mix, parameters, 12, 15, CategoricalLaw(LAW[None]), True, 1, {})
    measured = {
        "heterozygosity": 1.0 - (frequencies**2).sum(axis=2),
        "support": (frequencies > 0).sum(axis=2).astype(float),
        "support_share": (frequencies > 0).mean(axis=2),
    }
    for metric, values in measured.items():
        curve = predict(situation, metric, np.arange(7))
        assert curve is not None
        assert curve.exact
        assert np.abs(z_scores(values, curve.mean)).max() < 5.0, metric


@pytest.mark.parametrize(("mix", "parameters"), [("accumulate", {}), ("weighted", {"weight": 0.5})])
@pytest.mark.parametrize("sampled", [True, False])
def test_support_where_the_original_stays(mix: str, parameters: dict[str, float], sampled: bool) -> None:
    """Nothing is lost after generation 0; |z| < 5: 6e-7."""
    rng = np.random.default_rng(6)
    alive = (rng.multinomial(20, LAW, size=R) > 0).sum(axis=1)[None].astype(float)
    situation = Situation("categorical", {}, mix, parameters, 12, 20, CategoricalLaw(LAW[None]), sampled, 1, {})
    curve = predict(situation, "support", np.array([0, 3]))
    assert curve is not None
    expected = curve.mean[:1] if sampled else alive.mean(axis=1)
    assert np.abs(z_scores(alive, expected)).max() < 5.0
    assert curve.mean[1] == curve.mean[0]
    assert sampled or curve.mean[0] == 6.0


@pytest.mark.parametrize(("n_original", "fresh"), [(12, 0), (7, 0), (None, 0), (12, 3), (None, 3)])
def test_extinction(n_original: int | None, fresh: int) -> None:
    """|z| < 5 at six generations in five cases: false alarms in 2e-5 of all seeds."""
    rng, rate, n = np.random.default_rng(7), 0.15, 12
    rates = [np.full(R, rate) if n_original is None else rng.poisson(rate * n_original, R) / n_original]
    for _ in range(6):
        rates.append((rng.poisson(rates[-1] * (n - fresh)) + rng.poisson(rate * fresh, R)) / n)
    extinct = (np.array(rates) == 0).astype(float)
    expected = extinction_probability(rate, n, np.arange(7), n_original=n_original, fresh=fresh)
    assert np.abs(z_scores(extinct, expected)).max() < 5.0
    if not fresh:
        mean, variance = rate_moments(rate, n, np.arange(7), n_original=n_original)
        assert np.abs(z_scores(np.array(rates), mean)).max() < 5.0
        assert np.abs(z_scores((np.array(rates) - rate) ** 2, variance)).max() < 5.0


@pytest.mark.parametrize("mix", ["accumulate", "subsample", "keep", "blend", "weighted"])
def test_poisson_drift_of_mixes(mix: str) -> None:
    """The recursion with v = λ₀, for mixes whose parts share ancestors; |z| < 5 for five numbers in five cases: 2e-5."""
    parameters = {"keep": {"share": 0.3}, "blend": {"alpha": 0.4, "beta": 0.4, "gamma": 0.2}, "weighted": {"weight": 0.4}}.get(mix, {})
    rng, n, rate = np.random.default_rng(8), 10, 2.0
    original = rng.poisson(rate, (R, n)).astype(float)
    pool = training = original
    rates = [original.mean(axis=1)]
    for _ in range(4):
        new = rng.poisson(rates[-1][:, None], (R, n)).astype(float)
        pool = np.hstack([pool, new])
        if mix == "keep":
            training = np.hstack([rng.permuted(original, axis=1)[:, :3], new[:, :7]])
        elif mix == "blend":
            training = np.hstack([new[:, :4], rng.permuted(training, axis=1)[:, :4], rng.permuted(original, axis=1)[:, :2]])
        else:
            training = pool if mix == "accumulate" else rng.permuted(pool, axis=1)[:, :n]
        rates.append(0.4 * original.mean(axis=1) + 0.6 * new.mean(axis=1) if mix == "weighted" else training.mean(axis=1))
    situation = Situation("poisson", {}, mix, parameters, n, n, PoissonLaw(np.array([rate])), True, 1, {})
    curve = predict(situation, "drift", np.arange(5))
    assert curve is not None
    assert curve.exact
    assert np.abs(z_scores((np.array(rates) - rate) ** 2, curve.mean)).max() < 5.0


def test_absorption_time() -> None:
    """From 7 of 20 copies; |z| < 5: 6e-7."""
    rng = np.random.default_rng(9)
    counts, time = np.full(R, 7), np.zeros(R)
    while np.any(alive := (counts > 0) & (counts < 20)):
        time += alive
        counts = rng.binomial(20, counts / 20)
    assert abs(z_scores(time[None], absorption_time_exact(20)[[7]])[0]) < 5.0
    # The other copies are the last ones left with probability 13/20.
    assert abs(z_scores((counts == 20)[None].astype(float), np.array([7 / 20]))[0]) < 5.0


@pytest.mark.parametrize("accumulate", [True, False])
@pytest.mark.parametrize("same_features", [True, False])
def test_regression_error(accumulate: bool, same_features: bool) -> None:
    """Least squares on its own labels; |z| < 5 at five generations in four cases: false alarms in 1e-5 of all seeds."""
    rng, replicates, n, d = np.random.default_rng(10), 8_000, 16, 3
    features = rng.standard_normal((replicates, n, d))
    gram = cross = np.zeros(1)
    weights, errors = np.zeros((replicates, d)), []
    for _ in range(5):
        if not same_features:
            features = rng.standard_normal((replicates, n, d))
        labels = np.einsum("rnd,rd->rn", features, weights) + 0.7 * rng.standard_normal((replicates, n))
        now = features.swapaxes(1, 2) @ features
        moment = np.einsum("rnd,rn->rd", features, labels)
        gram, cross = (gram + now, cross + moment) if accumulate else (now, moment)
        weights = np.linalg.solve(gram, cross[..., None])[..., 0]
        errors.append((weights**2).sum(axis=1))
    if accumulate:
        expected = accumulated_error(0.49, d, n, np.arange(5), same_features=same_features)
    else:
        expected = replaced_error(0.49, d, n, np.arange(5))
    assert np.abs(z_scores(np.array(errors), expected)).max() < 5.0


def test_gaussian_standard_deviation_and_median() -> None:
    """A product of chi-squares, ddof 0, 12 generations of 15 draws; |z| < 5 for the mean, the median's by its binomial count: 1e-6."""
    rng = np.random.default_rng(11)
    variance = np.prod(rng.chisquare(14, (12, 100_000)) / 15, axis=0)
    assert abs(z_scores(np.sqrt(variance)[None], replaced_std(15, np.array([12])))[0]) < 5.0
    for level in (0.1, 0.5, 0.9):
        below = np.mean(variance < log_variance(15, np.array([12])).quantile(level)[0])
        assert abs(below - level) < 5.0 * np.sqrt(level * (1 - level) / 100_000)
