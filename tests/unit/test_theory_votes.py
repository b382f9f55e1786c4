"""Votes against the published figures, closed forms, and the enumeration of every way to vote."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from studbook.errors import ConfigError
from studbook.theory import (
    Committee,
    ballot_law,
    correlated_majority,
    effective_voters,
    majority,
    quorum_rates,
    vote_law,
    vote_table,
    voter_for,
)

P, Q = 0.98073, 0.009464


@pytest.mark.parametrize(
    ("n", "detection", "collision"), [(1, 0.98073, 0.00946), (3, 0.9989, 2.67e-4), (5, 0.99993, 8.4e-6), (7, 0.999995, 2.7e-7)]
)
def test_majorities_of_the_facts(n: int, detection: float, collision: float) -> None:
    row = next(row for row in vote_table() if row.n == n)
    assert row.k == n // 2 + 1
    assert row.detection == pytest.approx(detection, abs=5e-7 if n == 7 else 5e-6)
    assert row.collision == pytest.approx(collision, rel=2e-2)


def test_voters_behind_the_published_majority_of_three() -> None:
    assert voter_for(0.9989, 3) == pytest.approx(0.98073, abs=5e-6)
    assert voter_for(2.67e-4, 3) == pytest.approx(0.00946, abs=5e-6)


def test_majority_of_three_is_the_cubic() -> None:
    p = np.linspace(0.0, 1.0, 101)
    assert majority(p, 3) == pytest.approx(3 * p**2 - 2 * p**3, abs=1e-14)
    assert isinstance(majority(0.5, 3), float)


@pytest.mark.parametrize(("n", "k"), [(1, 1), (4, None), (7, 0), (7, 2), (7, 7), (100, 60)])
def test_majority_is_the_binomial_tail(n: int, k: int | None) -> None:
    p = np.array([[0.0, 1e-6, 0.3], [0.5, 0.99, 1.0]])
    votes = n // 2 + 1 if k is None else k
    assert majority(p, n, k) == pytest.approx(stats.binom.sf(votes - 1, n, p), rel=1e-10)


@pytest.mark.parametrize("rho", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("probability", [0.0, 1e-5, 0.4, 0.9989, 1.0])
def test_voter_for_inverts(rho: float, probability: float) -> None:
    assert correlated_majority(voter_for(probability, 5, 4, rho=rho), rho, 5, 4) == pytest.approx(probability, rel=1e-8)


@pytest.mark.parametrize("rho", [0.01, 0.3, 0.9])
@pytest.mark.parametrize("n", [1, 2, 7, 60])
def test_vote_law_is_beta_binomial(n: int, rho: float) -> None:
    p = 0.03
    a, b = p * (1 - rho) / rho, (1 - p) * (1 - rho) / rho
    assert vote_law(p, n, rho) == pytest.approx(stats.betabinom.pmf(np.arange(n + 1), n, a, b), rel=1e-9)


def test_vote_law_of_extreme_correlations() -> None:
    p = np.array([0.0, 0.2, 1.0])
    assert vote_law(p, 6) == pytest.approx(stats.binom.pmf(np.arange(7), 6, p[:, None]), abs=1e-14)
    assert vote_law(p, 6, 1.0)[:, [0, 6]] == pytest.approx(np.stack([1 - p, p], axis=1))
    assert vote_law(p, 6, 1.0)[:, 1:6].max() == 0.0
    assert vote_law(p, 0).tolist() == [[1.0], [1.0], [1.0]]
    assert correlated_majority(p, 1.0, 5) == pytest.approx(p)
    assert correlated_majority(p, 0.0, 5) == pytest.approx(majority(p, 5))


@pytest.mark.parametrize("rho", [0.0, 0.1, 0.5])
def test_moments_and_margins_of_the_vote_law(rho: float) -> None:
    """Mean np, variance np(1 − p)(1 + (n − 1)ρ), and a law of n − 1 voters that is the law of n with one left out."""
    n, p, yes = 9, 0.3, np.arange(10)
    law = vote_law(p, n, rho)
    assert law @ yes == pytest.approx(n * p)
    assert law @ (yes - n * p) ** 2 == pytest.approx(n * p * (1 - p) * (1 + (n - 1) * rho))
    left_out = law[:-1] * (n - yes[:-1]) / n + law[1:] * yes[1:] / n
    assert vote_law(p, n - 1, rho) == pytest.approx(left_out)


def test_more_correlated_voters_do_not_help_beyond_what_they_share() -> None:
    rho, q = 0.1, 0.00946
    limit = stats.beta.sf(0.5, q * (1 - rho) / rho, (1 - q) * (1 - rho) / rho)
    errors = [correlated_majority(q, rho, n) for n in (1, 3, 7, 51, 401)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] > limit
    assert correlated_majority(q, rho, 499) == pytest.approx(limit, rel=0.1)


def test_effective_voters_from_the_variance_of_the_ballots() -> None:
    for honest, lazy, rho in ((4, 3, 0.0), (4, 3, 0.2), (1, 6, 0.0), (7, 0, 0.3)):
        law = ballot_law(Committee(honest, lazy=lazy, correlation=rho, commit_reveal=False), 0.8, colluders_accept=False).sum(axis=1)
        yes = np.arange(8)
        assert 49 * 0.16 / (law @ (yes - 5.6) ** 2) == pytest.approx(effective_voters(7, rho=rho, copying=lazy))
    assert effective_voters(3, copying=1) == pytest.approx(1.8)
    assert effective_voters(5, rho=1.0) == 1.0


def enumerate_ballots(committee: Committee, p: float, wanted: bool) -> np.ndarray:
    """Every ballot of every worker, every loss, every first ballot, every guess: for independent voters."""
    n = committee.n
    law = np.zeros((n + 1, n + 1))
    honest, lazy = committee.honest, committee.lazy
    works = committee.commit_reveal and committee.lazy_habit == "work"
    guesses = committee.commit_reveal and committee.lazy_habit == "guess"
    copies = not committee.commit_reveal
    workers = honest + (lazy if works else 0)
    for votes in itertools.product((True, False), repeat=workers + committee.faulty):
        for lost in itertools.product((True, False), repeat=committee.faulty):
            for guessed in itertools.product((True, False), repeat=lazy if guesses else 0):
                chance = np.prod([p if vote else 1 - p for vote in votes]) * np.prod(
                    [committee.missing if gone else 1 - committee.missing for gone in lost]
                )
                chance *= np.prod([committee.guess if guess else 1 - committee.guess for guess in guessed])
                open_ballots = [*votes[:workers], *(vote for vote, gone in zip(votes[workers:], lost, strict=True) if not gone)]
                sight = [wanted] if committee.colluding else open_ballots
                for first in sight if copies and sight else [None]:
                    ballots = [*open_ballots, *guessed, *[wanted] * committee.colluding, *([first] * lazy if first is not None else [])]
                    law[sum(ballots), len(ballots) - sum(ballots)] += chance / (len(sight) if copies and sight else 1)
    return law


COMMITTEES = [
    Committee(5),
    Committee(3, colluding=2),
    Committee(2, lazy=2, commit_reveal=False),
    Committee(2, colluding=1, lazy=2, commit_reveal=False),
    Committee(2, lazy=2, faulty=2, missing=0.3, commit_reveal=False),
    Committee(0, lazy=1, faulty=2, missing=0.6, commit_reveal=False),
    Committee(2, lazy=2, faulty=1, missing=0.25),
    Committee(2, colluding=1, lazy=2, lazy_habit="guess", guess=0.7),
    Committee(3, lazy=2, lazy_habit="abstain"),
    Committee(3, lazy=2, lazy_habit="copy"),
]


@pytest.mark.parametrize("committee", COMMITTEES, ids=str)
@pytest.mark.parametrize("wanted", [True, False])
def test_ballot_law_by_enumeration(committee: Committee, wanted: bool) -> None:
    law = ballot_law(committee, 0.83, colluders_accept=wanted)
    assert law == pytest.approx(enumerate_ballots(committee, 0.83, wanted), abs=1e-14)
    assert law.sum() == pytest.approx(1.0)


def test_a_missing_ballot_counts_for_nobody() -> None:
    silent = quorum_rates(Committee(1, faulty=2, missing=1.0), 1.0, 0.0, 2)
    assert silent.honest_claim.inconclusive == silent.false_claim.inconclusive == 1.0
    certain = quorum_rates(Committee(2, faulty=1, missing=1.0), 1.0, 0.0, 2)
    assert certain.honest_claim.accept == certain.false_claim.reject == 1.0


def test_colluders_win_with_k_and_block_with_more_than_the_rest() -> None:
    won = quorum_rates(Committee(3, colluding=4), 1.0, 0.0, 4)
    assert won.false_claim.accept == won.honest_claim.reject == 1.0
    blocked = quorum_rates(Committee(4, colluding=3), 1.0, 0.0, 5)
    assert blocked.false_claim.inconclusive == blocked.honest_claim.inconclusive == 1.0
    rushed = quorum_rates(Committee(4, colluding=1, lazy=2, commit_reveal=False), 1.0, 0.0, 4)
    assert rushed.false_claim.reject == 1.0  # three ballots aren't four
    captured = quorum_rates(Committee(3, colluding=1, lazy=3, commit_reveal=False), 1.0, 0.0, 4)
    assert captured.false_claim.accept == 1.0  # one colluder and three who copy it


def test_commit_reveal_restores_what_copying_takes() -> None:
    open_vote = quorum_rates(Committee(4, lazy=3, commit_reveal=False), P, Q, 4)
    sealed = quorum_rates(Committee(4, lazy=3), P, Q, 4)
    everybody = quorum_rates(Committee(7), P, Q, 4)
    assert open_vote.false_claim.accept == pytest.approx(Q, rel=1e-3)  # seven voters are as good as one
    assert sealed == everybody
    struck = quorum_rates(Committee(4, lazy=3, lazy_habit="copy"), P, Q, 4)
    assert struck == quorum_rates(Committee(4, lazy=3, lazy_habit="abstain"), P, Q, 4)
    assert struck.false_claim.accept == pytest.approx(Q**4)
    assert struck.honest_claim.inconclusive == pytest.approx(1 - P**4 - (1 - P) ** 4)


@pytest.mark.parametrize("rho", [0.0, 0.3])
def test_outcomes_sum_to_one_and_agree_with_the_majority(rho: float) -> None:
    for k in (4, 5, 6, 7):
        rates = quorum_rates(Committee(7, correlation=rho), P, Q, k)
        assert rates.false_claim.accept == pytest.approx(correlated_majority(Q, rho, 7, k))
        assert rates.honest_claim.reject == pytest.approx(correlated_majority(1 - P, rho, 7, k))
        for outcomes in (rates.honest_claim, rates.false_claim):
            assert outcomes.accept + outcomes.reject + outcomes.inconclusive == pytest.approx(1.0)


@pytest.mark.parametrize(
    "call",
    [
        lambda: majority(1.1, 3),
        lambda: majority(np.array([0.1, np.nan]), 3),
        lambda: majority(0.5, 0),
        lambda: majority(0.5, 3, 4),
        lambda: voter_for(0.5, 3, 0),
        lambda: voter_for(2.0, 3),
        lambda: vote_law(0.5, 501),
        lambda: vote_law(0.5, 3, -0.1),
        lambda: effective_voters(3, copying=3),
        lambda: Committee(0),
        lambda: Committee(-1, colluding=3),
        lambda: Committee(3, missing=1.5),
        lambda: Committee(3, lazy_habit="sleep"),
        lambda: quorum_rates(Committee(4), P, Q, 2),
        lambda: quorum_rates(Committee(4), P, Q, 5),
        lambda: ballot_law(Committee(4), -0.1, colluders_accept=True),
    ],
)
def test_impossible_arguments_are_refused(call) -> None:
    with pytest.raises(ConfigError, match="expected"):
        call()
