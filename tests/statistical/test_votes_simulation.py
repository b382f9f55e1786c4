"""The simulated network against exact laws; how often intervals cover and sequential tests err. All seeded; false-alarm rates stated."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from studbook.errors import ConfigError
from studbook.theory import (
    Committee,
    Decision,
    PairedTrials,
    Sprt,
    SprtState,
    ballot_law,
    clopper_pearson,
    cluster_bootstrap,
    effective_voters,
    lower_bound,
    quorum_rates,
    upper_bound,
)
from studbook.verification.simulation import simulate_network

NETWORKS = [
    Committee(7),
    Committee(7, correlation=0.3),
    Committee(7, correlation=1.0),
    Committee(4, colluding=3, correlation=0.1),
    Committee(4, lazy=3, commit_reveal=False),
    Committee(4, lazy=3, correlation=0.2, commit_reveal=False),
    Committee(3, colluding=1, lazy=3, commit_reveal=False),
    Committee(2, lazy=2, faulty=3, missing=0.4, commit_reveal=False),
    Committee(0, lazy=2, faulty=3, missing=0.7, commit_reveal=False),
    Committee(3, lazy=2, faulty=2, missing=0.4, correlation=0.2),
    Committee(4, lazy=3, lazy_habit="guess", guess=0.8),
    Committee(4, lazy=3, lazy_habit="copy"),
    Committee(3, colluding=2, lazy=1, faulty=1, missing=0.5, lazy_habit="abstain"),
]


@pytest.mark.parametrize("committee", NETWORKS, ids=str)
def test_ballots_follow_the_exact_law(committee):
    """Pearson's χ² at level 1e-7 over the joint numbers of ballots, on both kinds of claims, in 13 networks: false alarm 2.6e-6."""
    played = simulate_network(committee, 0.85, 0.2, committee.n // 2 + 1, rng=np.random.default_rng(11), claims=60_000)
    for votes, p, wanted in ((played.honest_claim, 0.85, False), (played.false_claim, 0.2, True)):
        seen, expected = votes.ballots.ravel(), 60_000 * ballot_law(committee, p, colluders_accept=wanted).ravel()
        assert seen[expected < 1e-9].sum() == 0
        likely = expected > 5
        observed, model = (np.append(x[likely], x[~likely].sum()) for x in (seen, expected))
        kept = model > 1e-6
        assert kept.sum() == 1 or stats.chisquare(observed[kept], model[kept], sum_check=False).pvalue > 1e-7


@pytest.mark.parametrize("committee", NETWORKS, ids=str)
def test_intervals_cover_the_exact_rates(committee):
    """Six intervals of confidence 1 − 1e-7 in 13 networks: false alarm at most 8e-6."""
    k = committee.n // 2 + 1
    played = simulate_network(committee, 0.98, 0.01, k, rng=np.random.default_rng(12), claims=60_000, confidence=1 - 1e-7)
    exact = quorum_rates(committee, 0.98, 0.01, k)
    for votes, outcomes in ((played.honest_claim, exact.honest_claim), (played.false_claim, exact.false_claim)):
        for verdict in ("accept", "reject", "inconclusive"):
            probability = min(1.0, max(0.0, getattr(outcomes, verdict)))
            assert probability in getattr(votes, verdict)
        assert votes.accept.events + votes.reject.events + votes.inconclusive.events == 60_000


def test_voters_with_their_own_error_rates():
    """Unequal independent voters against the enumeration of their votes: χ² at level 1e-7."""
    p = np.array([0.99, 0.9, 0.7, 0.6, 0.95])
    played = simulate_network(Committee(5), p, 0.1, 3, rng=np.random.default_rng(13))
    law = np.zeros(6)
    for votes in itertools.product((0, 1), repeat=5):
        law[sum(votes)] += np.prod(np.where(votes, p, 1 - p))
    seen = played.honest_claim.ballots.sum(axis=1)
    assert stats.chisquare(np.append(seen[2:], seen[:2].sum()), 100_000 * np.append(law[2:], law[:2].sum())).pvalue > 1e-7


def test_correlation_leaves_each_voter_its_own_rate():
    """The mean number of ballots is the sum of the rates, |z| < 5: false alarm 6e-7; they vary more than independent ones."""
    p = np.array([0.9, 0.9, 0.6])
    ballots = simulate_network(Committee(3, correlation=0.4), p, 0.1, 2, rng=np.random.default_rng(14)).honest_claim.ballots.sum(axis=1)
    yes, share = np.arange(4), ballots / ballots.sum()
    variance = share @ (yes - share @ yes) ** 2
    assert abs(share @ yes - p.sum()) < 5 * np.sqrt(variance / 100_000)
    assert variance > 1.4 * (p * (1 - p)).sum()


def test_copying_costs_voters_and_commit_reveal_gives_them_back():
    """Seven voters of whom three are lazy. The intervals have confidence 1 − 1e-6; the relative error of a variance of 10⁵ is below 2 %."""
    p, q, k, rng = 0.98073, 0.009464, 4, np.random.default_rng(15)

    def play(**roles):
        return simulate_network(Committee(4, lazy=3, **roles), p, q, k, rng=rng, claims=200_000, confidence=1 - 1e-6)

    copied, worked, struck = play(commit_reveal=False), play(), play(lazy_habit="copy")
    assert copied.honest_claim.effective_voters == pytest.approx(effective_voters(7, copying=3), rel=0.05)
    assert worked.honest_claim.effective_voters == pytest.approx(7.0, rel=0.05)
    assert copied.false_claim.accept.low > 0.008  # no better than one voter
    assert worked.false_claim.accept.high < 2e-4
    assert struck.false_claim.accept.high < 2e-4
    assert struck.honest_claim.inconclusive.rate == pytest.approx(1 - p**4, rel=0.05)  # a struck ballot decides nothing
    assert struck.honest_claim.n_struck == 3 * 200_000
    assert copied.false_claim.n_struck == worked.false_claim.n_struck == 0


def test_a_seed_gives_the_same_network():
    committee = Committee(3, colluding=1, lazy=2, faulty=1, missing=0.5, correlation=0.1, commit_reveal=False)
    first, second = (simulate_network(committee, 0.9, 0.1, 4, rng=np.random.default_rng(1), claims=70_000) for _ in range(2))
    assert (first.honest_claim.ballots == second.honest_claim.ballots).all()
    assert first.false_claim.accept == second.false_claim.accept


@pytest.mark.parametrize(("p", "k", "claims"), [(1.2, 2, 10), (np.array([0.5, 0.5]), 2, 10), (0.5, 1, 10), (0.5, 2, 0)])
def test_impossible_networks_are_refused(p, k, claims):
    with pytest.raises(ConfigError, match="expected"):
        simulate_network(Committee(3), p, 0.1, k, rng=np.random.default_rng(0), claims=claims)


@pytest.mark.parametrize("n", [5, 40, 300])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_clopper_pearson_covers_whatever_the_rate(n, confidence):
    """Exact coverage, summed over all outcomes: no false alarms."""
    rates, counts = np.linspace(0.001, 0.999, 97), np.arange(n + 1)
    law = stats.binom.pmf(counts, n, rates[:, None])
    ends = np.array([clopper_pearson(int(x), n, confidence) for x in counts])
    covered = (ends[:, 0] <= rates[:, None]) & (rates[:, None] <= ends[:, 1])
    assert (law * covered).sum(axis=1).min() >= confidence - 1e-12
    uppers, lowers = (np.array([bound(int(x), n, confidence) for x in counts]) for bound in (upper_bound, lower_bound))
    assert (law * (rates[:, None] <= uppers)).sum(axis=1).min() >= confidence - 1e-12
    assert (law * (rates[:, None] >= lowers)).sum(axis=1).min() >= confidence - 1e-12


def draw_effects(n, rng):
    """Images that collide with many or with few: a probit model with an effect of each image; rate .05."""
    i, j = np.triu_indices(n, 1)
    effect = rng.normal(0.0, np.sqrt(0.25), n)
    hit = effect[i] + effect[j] + rng.normal(0.0, np.sqrt(0.5), i.size) > stats.norm.isf(0.05)
    return PairedTrials.complete(i[hit], j[hit], n), 0.05


def draw_hubs(n, rng):
    """Images of which one in ten collides with everything."""
    i, j = np.triu_indices(n, 1)
    hub = rng.random(n) < 0.1
    hit = hub[i] | hub[j]
    return PairedTrials.complete(i[hit], j[hit], n), 1 - 0.9**2


def draw_free(n, rng):
    """Independent pairs."""
    i, j = np.triu_indices(n, 1)
    hit = rng.random(i.size) < 0.05
    return PairedTrials.complete(i[hit], j[hit], n), 0.05


def draw_prompts(n, rng):
    """Twenty outputs of each prompt, run again elsewhere: beta-binomial numbers of differences, rate .1."""
    prompts = np.arange(n)
    return PairedTrials.listed(prompts, prompts, rng.binomial(20, rng.beta(0.5, 4.5, n)), np.full(n, 20)), 0.1


def draw_nothing_to_see(n, rng):
    """A hub in 1/n of the images: often no event is seen at all."""
    i, j = np.triu_indices(n, 1)
    hub = rng.random(n) < 1.0 / n
    hit = hub[i] | hub[j]
    return PairedTrials.complete(i[hit], j[hit], n), 1 - (1 - 1.0 / n) ** 2


@pytest.mark.parametrize("draw", [draw_effects, draw_hubs, draw_free, draw_prompts, draw_nothing_to_see])
def test_cluster_bounds_cover(draw):
    """At 90 % each bound misses at most 10 % of 300 studies of 120 clusters, with 2 % for an asymptotic method: false alarm 1e-6 each."""
    rng, studies, allowed = np.random.default_rng(16), 300, stats.binom.isf(1e-6, 300, 0.12)
    above = below = naive = free = 0
    for _ in range(studies):
        paired, rate = draw(120, rng)
        found = cluster_bootstrap(paired, 0.9, rng=rng, resamples=200)
        above += found.upper < rate
        below += found.lower > rate
        free += found.distribution_free_upper < rate
        naive += upper_bound(found.events, found.trials, 0.9) < rate
    assert above <= allowed
    assert below <= allowed
    assert free <= stats.binom.isf(1e-6, 300, 0.1)
    if draw in (draw_effects, draw_hubs, draw_prompts):
        assert naive > studies / 5  # what treating the pairs as independent would give


@pytest.mark.parametrize(("p0", "p1", "alpha", "beta"), [(0.03, 0.35, 0.01, 0.02), (0.1, 0.2, 0.05, 0.05)])
def test_sprt_errs_no_more_often_than_it_says(p0, p1, alpha, beta):
    """4,000 walks a case, a lower bound of confidence 1 − 1e-6 under Wald's limit; mean lengths |z| < 5 from his with the overshoot."""
    test, rng, walks = Sprt(p0, p1, alpha, beta), np.random.default_rng(17), 4_000
    limits = {p0: alpha / (1 - beta), p1: beta / (1 - alpha)}
    overshoot = max(map(abs, test.steps))
    for p, expected, wrong in ((p0, test.expected_more()[0], Decision.REJECT), (p1, test.expected_more()[1], Decision.ACCEPT)):
        states = [test.observe(SprtState(), rng.random(3_000) < p) for _ in range(walks)]
        decisions = [test.decide(state) for state in states]
        assert Decision.CONTINUE not in decisions
        assert lower_bound(decisions.count(wrong), walks, 1 - 1e-6) <= limits[p]
        lengths = np.array([state.n for state in states])
        error = 5 * lengths.std() / np.sqrt(walks)
        without, event = test.steps
        drift = abs(p * event + (1 - p) * without)
        # Wald leaves out what the walk overshoots, at most a step, and errors rarer than stated.
        assert expected - error - overshoot / drift < lengths.mean() < expected + error + overshoot / drift


def test_sprt_on_a_stream_of_gaussian_ratios():
    """Mean 0 against mean ½ with unit variance, 4,000 walks: errors as above, more_needed within the overshoot of the mean length."""
    test, rng, walks = Sprt(0.1, 0.2, 0.05, 0.05), np.random.default_rng(18), 4_000
    states = [test.add(SprtState(), 0.5 * rng.normal(0.0, 1.0, 600) - 0.125) for _ in range(walks)]
    rejected = sum(test.decide(state) is Decision.REJECT for state in states)
    assert lower_bound(rejected, walks, 1 - 1e-6) <= 0.05 / 0.95
    expected = test.expected_more(drifts=(-0.125, 0.125))[0]
    assert expected <= np.mean([state.n for state in states]) + 1 <= expected + 8
