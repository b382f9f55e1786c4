"""How often a vote of verifiers is right: independent, correlated, and with voters that collude, copy or fail.

The figures for independent voters hold for voters that err independently. Voters that share digest, model and hardware don't: with an
intra-class correlation rho the error of a majority tends to a positive limit, however many vote.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, overload

import numpy as np

from studbook.arrays import Floats
from studbook.errors import ConfigError

PUBLISHED_DETECTION = 0.98073
"""Probability that one voter accepts an honest claim, which a majority of three makes 99.89 %."""
PUBLISHED_COLLISION = 0.009464
"""Probability that one voter accepts a false claim, which a majority of three makes 0.0267 %."""

LazyHabit: TypeAlias = Literal["work", "guess", "abstain", "copy"]
"""What a lazy voter does where there is no open ballot to copy: the work after all, a guess, nothing, or repeat a commitment."""

_HABITS = ("work", "guess", "abstain", "copy")
_MOST_VOTERS = 500


@overload
def majority(p: float, n: int, k: int | None = None) -> float: ...
@overload
def majority(p: Floats, n: int, k: int | None = None) -> Floats: ...
def majority(p: float | Floats, n: int, k: int | None = None) -> float | Floats:
    """The probability that at least k of n independent voters say yes.

    Args:
        p: Probability of one voter's yes, 0 to 1; any shape.
        n: Voters, 1 or more.
        k: Votes it takes, 0 to n; by default more than half, n // 2 + 1.

    Returns:
        The upper tail of the binomial law, with full relative accuracy however small; in the shape of ``p``.

    Raises:
        ConfigError: A probability, a number of voters or a threshold out of its range.

    References:
        N. de Condorcet, "Essai sur l'application de l'analyse à la probabilité des décisions" (1785); P. J. Boland, "Majority systems and
        the Condorcet jury theorem", The Statistician 38 (1989). For n = 3: 3p² − 2p³.

    Examples:
        >>> from studbook.theory import majority
        >>> f"{majority(0.98073, 3):.4f} {majority(0.009464, 3):.2e} {majority(0.009464, 5):.1e} {majority(0.009464, 7):.1e}"
        '0.9989 2.67e-04 8.4e-06 2.7e-07'
    """
    votes = _check_votes(n, k)
    values = _check_probabilities("p", p)
    if votes == 0:
        result = np.ones_like(values)
    else:
        from scipy.special import betainc

        result = np.asarray(betainc(votes, n - votes + 1.0, values))
    return result if isinstance(p, np.ndarray) else float(result)


def voter_for(probability: float, n: int, k: int | None = None, *, rho: float = 0.0) -> float:
    """What one voter's probability of a yes must be, for at least k of n to say yes with ``probability``.

    Args:
        probability: Wanted for the vote, 0 to 1.
        n: Voters, 1 or more.
        k: Votes it takes, 1 to n; by default more than half.
        rho: Intra-class correlation of the voters, 0 to 1.

    Returns:
        The inverse of ``majority``, or of ``correlated_majority``, in p.

    Raises:
        ConfigError: An argument out of its range.

    References:
        The quantile of the beta law of a k-th order statistic: H. A. David, H. N. Nagaraja, "Order Statistics" (2003), §2.1.

    Examples:
        >>> from studbook.theory import voter_for
        >>> round(voter_for(0.9989, 3), 5), round(voter_for(2.67e-4, 3), 5)
        (0.98073, 0.00946)
    """
    votes = _check_votes(n, k)
    _check_probabilities("probability", probability)
    _check_probabilities("rho", rho)
    if votes == 0:
        raise ConfigError("k is 0, expected 1 or more", hint="with k = 0 every voter will do")
    if rho == 0.0:
        from scipy.special import betaincinv

        return float(betaincinv(votes, n - votes + 1.0, probability))
    if probability in (0.0, 1.0):
        return probability
    from scipy.optimize import brentq

    return float(brentq(lambda p: correlated_majority(p, rho, n, votes) - probability, 0.0, 1.0, xtol=1e-15, rtol=1e-12))


def vote_law(p: float | Floats, n: int, rho: float = 0.0) -> Floats:
    """The law of the number of yeses among n exchangeable voters: beta-binomial, binomial for rho = 0.

    P(x) = C(n, x)·Π(p(1 − ρ) + iρ)·Π((1 − p)(1 − ρ) + iρ)/Π(1 − ρ + iρ) with i from 0 below x, n − x and n. One factor 1 − ρ cancels, so
    that rho = 1, all or nobody, is no special case.

    Args:
        p: Probability of one voter's yes, 0 to 1; any shape.
        n: Voters, 0 to 500.
        rho: Correlation of any two votes, 0 to 1.

    Returns:
        Probabilities of 0 to n yeses along a last axis of n + 1.

    Raises:
        ConfigError: An argument out of its range.

    References:
        J. G. Skellam, "A probability distribution derived from the binomial distribution by regarding the probability of success as
        variable between the sets of trials", Journal of the Royal Statistical Society B 10 (1948).

    Examples:
        >>> from studbook.theory import vote_law
        >>> [vote_law(0.5, 2, rho).round(6).tolist() for rho in (0.0, 0.5, 1.0)]
        [[0.25, 0.5, 0.25], [0.375, 0.25, 0.375], [0.5, 0.0, 0.5]]
    """
    values = _check_probabilities("p", p)[..., None]
    _check_probabilities("rho", rho)
    if not 0 <= n <= _MOST_VOTERS:
        raise ConfigError(f"n is {n}, expected 0 to {_MOST_VOTERS} voters")
    if n == 0:
        return np.ones((*values.shape[:-1], 1))
    own, i = 1.0 - rho, np.arange(1, n)
    with np.errstate(divide="ignore"):  # log 0 for p = 0 or 1 without correlation
        yes = np.cumsum(np.log(np.insert(values * own + i * rho, 0, 1.0, axis=-1)), axis=-1)
        no = np.cumsum(np.log(np.insert((1.0 - values) * own + i * rho, 0, 1.0, axis=-1)), axis=-1)
    ways = np.cumsum(np.log(np.arange(n, 0, -1) / np.arange(1, n + 1)))[:-1]
    every = np.log(own + i * rho).sum()
    # Entry x − 1 of yes, and n − x − 1 of no, hold the products over i from 1 on; the factors of i = 0 stand in front.
    law: Floats = np.empty((*values.shape[:-1], n + 1))
    law[..., :1], law[..., n:] = (1.0 - values) * np.exp(no[..., n - 1 :] - every), values * np.exp(yes[..., n - 1 :] - every)
    law[..., 1:n] = values * (1.0 - values) * own * np.exp(ways + yes[..., : n - 1] + no[..., : n - 1][..., ::-1] - every)
    return law


@overload
def correlated_majority(p: float, rho: float, n: int, k: int | None = None) -> float: ...
@overload
def correlated_majority(p: Floats, rho: float, n: int, k: int | None = None) -> Floats: ...
def correlated_majority(p: float | Floats, rho: float, n: int, k: int | None = None) -> float | Floats:
    """The probability that at least k of n voters say yes whose votes are correlated.

    Each claim has its own probability of a yes, from a beta law with mean p, and given it the voters are independent. For a large n the
    majority errs as often as that law lies on the wrong side of ½: more voters don't help against what they share.

    Args:
        p: Mean probability of one voter's yes, 0 to 1; any shape.
        rho: Correlation of any two votes, 0 (``majority``) to 1 (all vote alike: p).
        n: Voters, 1 to 500.
        k: Votes it takes, 0 to n; by default more than half.

    Returns:
        The upper tail of the beta-binomial law, in the shape of ``p``.

    Raises:
        ConfigError: An argument out of its range.

    References:
        J. G. Skellam, Journal of the Royal Statistical Society B 10 (1948); K. K. Ladha, "The Condorcet jury theorem, free speech, and
        correlated votes", American Journal of Political Science 36 (1992).

    Examples:
        >>> from studbook.theory import correlated_majority
        >>> [round(correlated_majority(0.00946, rho, 3), 6) for rho in (0.0, 0.1, 0.3, 1.0)]
        [0.000267, 0.00269, 0.005995, 0.00946]
    """
    votes = _check_votes(n, k)
    result = vote_law(p, n, rho)[..., votes:].sum(axis=-1)
    return result if isinstance(p, np.ndarray) else float(result)


def effective_voters(n: int, *, rho: float = 0.0, copying: int = 0) -> float:
    """How many independent voters would give the share of yeses the same variance.

    Args:
        n: Voters, 1 or more, those that copy among them.
        rho: Correlation of any two votes of those that do the work, 0 to 1.
        copying: How many copy the first ballot, 0 to n − 1: it then weighs 1 + ``copying`` votes.

    Returns:
        Σ²w/(Σw² + ρ(Σ²w − Σw²)), from 1 to n.

    Raises:
        ConfigError: An argument out of its range.

    References:
        L. Kish, "Survey Sampling" (1965): the design effects of clusters and of weights.

    Examples:
        >>> from studbook.theory import effective_voters
        >>> effective_voters(7), round(effective_voters(7, rho=0.3), 2), round(effective_voters(7, copying=3), 2)
        (7.0, 2.5, 2.58)
    """
    _check_votes(n, None)
    _check_probabilities("rho", rho)
    if not 0 <= copying < n:
        raise ConfigError(f"{copying} of {n} voters copy, expected 0 to {n - 1}", hint="somebody must have a ballot to copy")
    squares = float((1 + copying) ** 2 + n - copying - 1)
    return n**2 / (squares + rho * (n**2 - squares))


@dataclass(frozen=True, slots=True)
class VoteRow:
    """What a majority of n makes of one voter's probabilities.

    Attributes:
        n: Voters.
        k: Votes it takes.
        detection: Probability that an honest claim is accepted.
        collision: Probability that a false claim is accepted.
    """

    n: int
    k: int
    detection: float
    collision: float


def vote_table(
    p: float = PUBLISHED_DETECTION, q: float = PUBLISHED_COLLISION, *, rho: float = 0.0, sizes: tuple[int, ...] = (1, 3, 5, 7)
) -> tuple[VoteRow, ...]:
    """Majorities of several sizes; by default of voters that give the published figures for three.

    Args:
        p: Probability that one voter accepts an honest claim.
        q: Probability that one voter accepts a false claim.
        rho: Intra-class correlation of the voters, 0 to 1.
        sizes: Numbers of voters.

    Raises:
        ConfigError: An argument out of its range.

    References:
        E. Kim, I. Isozaki, N. Sirkin, M. Robson, "Generative Artificial Intelligence Reproducibility and Consensus", arXiv 2307.01898:
        the row of three.

    Examples:
        >>> from studbook.theory import vote_table
        >>> for row in vote_table():
        ...     print(row.n, round(row.detection, 6), f"{row.collision:.2g}")
        1 0.98073 0.0095
        3 0.9989 0.00027
        5 0.99993 8.4e-06
        7 0.999995 2.7e-07
    """
    ks = [n // 2 + 1 for n in sizes]
    return tuple(
        VoteRow(n, k, majority(p, n, k), majority(q, n, k))
        if rho == 0.0
        else VoteRow(n, k, correlated_majority(p, rho, n, k), correlated_majority(q, rho, n, k))
        for n, k in zip(sizes, ks, strict=True)
    )


@dataclass(frozen=True, slots=True)
class Committee:
    """Who is expected to vote.

    Attributes:
        honest: Voters that do the work and publish what they found.
        colluding: Voters that vote as the adversary wants: no on an honest claim, yes on a false one. Where ballots are open they publish
            first, so that those who copy copy them.
        lazy: Voters that copy the first ballot they see.
        faulty: Voters that do the work, but whose ballot gets lost.
        correlation: Correlation of any two votes of those that do the work, 0 to 1.
        missing: Probability that a faulty voter's ballot gets lost, 0 to 1.
        commit_reveal: Ballots are committed to before any is shown; a repeated commitment is struck.
        lazy_habit: What the lazy do under commit–reveal: ``work``; ``guess``; ``abstain``; or ``copy`` a commitment, which is struck.
        guess: Probability that a guess is yes, 0 to 1: most claims are honest, so that 1 is a good guess.

    Raises:
        ConfigError: Nobody, a negative number, or a probability out of its range.

    Examples:
        >>> from studbook.theory import Committee
        >>> Committee(honest=3, colluding=1, lazy=1).n
        5
    """

    honest: int
    colluding: int = 0
    lazy: int = 0
    faulty: int = 0
    correlation: float = 0.0
    missing: float = 1.0
    commit_reveal: bool = True
    lazy_habit: LazyHabit = "work"
    guess: float = 1.0

    def __post_init__(self) -> None:
        counts = {"honest": self.honest, "colluding": self.colluding, "lazy": self.lazy, "faulty": self.faulty}
        for name, count in counts.items():
            if count < 0:
                raise ConfigError(f"{name} is {count}, expected 0 or more voters")
        if not 1 <= self.n <= _MOST_VOTERS:
            raise ConfigError(f"the committee has {self.n} voters, expected 1 to {_MOST_VOTERS}")
        for name, value in {"correlation": self.correlation, "missing": self.missing, "guess": self.guess}.items():
            _check_probabilities(name, value)
        if self.lazy_habit not in _HABITS:
            raise ConfigError(f"lazy_habit is {self.lazy_habit!r}, expected one of {', '.join(_HABITS)}")

    @property
    def n(self) -> int:
        """Expected voters."""
        return self.honest + self.colluding + self.lazy + self.faulty


@dataclass(frozen=True, slots=True)
class Outcomes:
    """How often a quorum comes to each of its verdicts; they sum to 1.

    Attributes:
        accept: Probability that k voters accepted.
        reject: Probability that k voters rejected.
        inconclusive: Probability of neither.
    """

    accept: float
    reject: float
    inconclusive: float


@dataclass(frozen=True, slots=True)
class QuorumRates:
    """The verdicts on both kinds of claims.

    Attributes:
        honest_claim: On claims that are true.
        false_claim: On claims that aren't.
    """

    honest_claim: Outcomes
    false_claim: Outcomes


def ballot_law(committee: Committee, p: float, *, colluders_accept: bool) -> Floats:
    """The exact joint law of the numbers of accepting and rejecting ballots.

    Args:
        committee: Who votes.
        p: Probability that a voter that does the work accepts, 0 to 1.
        colluders_accept: What the adversary wants.

    Returns:
        ``(n + 1, n + 1)`` probabilities of (accepting, rejecting) ballots; the rest of the n is missing.

    Raises:
        ConfigError: A probability out of its range.

    References:
        Closed form: beta-binomial votes (Skellam 1948) of a binomial number of workers, shifted by the votes of the others. Lazy voters
        copy a worker drawn at random unless somebody colludes: given a accepting of m ballots the first one accepts with probability a/m.

    Examples:
        >>> from studbook.theory import Committee, ballot_law
        >>> law = ballot_law(Committee(honest=1, lazy=2, commit_reveal=False), 0.9, colluders_accept=False)
        >>> float(law[3, 0].round(3)), float(law[0, 3].round(3))
        (0.9, 0.1)
    """
    from scipy.stats import binom

    n, copies = committee.n, committee.lazy > 0 and not committee.commit_reveal
    workers = committee.honest + (committee.lazy if committee.commit_reveal and committee.lazy_habit == "work" else 0)
    law = np.zeros((n + 1, n + 1))
    arrived = binom.pmf(np.arange(committee.faulty + 1), committee.faulty, 1.0 - committee.missing)
    for extra, weight in enumerate(arrived):
        ballots = workers + extra
        yes = np.arange(ballots + 1)
        law[yes, ballots - yes] += weight * vote_law(p, ballots, committee.correlation)
    if copies and committee.colluding == 0:
        law = _copy_first(law, committee.lazy)
    together = committee.colluding + (committee.lazy if copies and committee.colluding else 0)
    law = _shift(law, together, accept=colluders_accept)
    if committee.lazy and committee.commit_reveal and committee.lazy_habit == "guess":
        guesses = binom.pmf(np.arange(committee.lazy + 1), committee.lazy, committee.guess)
        law = np.sum(
            [
                weight * _shift(_shift(law, yes, accept=True), committee.lazy - yes, accept=False)
                for yes, weight in enumerate(guesses.tolist())
            ],
            axis=0,
        )
    return law


def quorum_rates(committee: Committee, p: float, q: float, k: int) -> QuorumRates:
    """How often a quorum of k accepts, rejects or comes to nothing, on honest and on false claims.

    ACCEPT takes k accepting ballots, REJECT k rejecting ones, of all *expected* voters: a ballot that is missing counts for nobody.

    Args:
        committee: Who votes.
        p: Probability that a voter that does the work accepts an honest claim, 0 to 1.
        q: Probability that it accepts a false one, 0 to 1.
        k: Ballots it takes, more than half of the expected voters and at most all of them.

    Raises:
        ConfigError: A probability out of its range, or a threshold that both sides could reach.

    References:
        Exact, from ``ballot_law``.

    Examples:
        >>> from studbook.theory import Committee, quorum_rates
        >>> open_vote = quorum_rates(Committee(honest=4, lazy=3, commit_reveal=False), 0.98073, 0.00946, 4)
        >>> sealed = quorum_rates(Committee(honest=4, lazy=3), 0.98073, 0.00946, 4)
        >>> f"{open_vote.false_claim.accept:.1e} {sealed.false_claim.accept:.1e}"
        '9.5e-03 2.7e-07'
    """
    check_quorum(k, committee.n)
    return QuorumRates(
        _outcomes(ballot_law(committee, p, colluders_accept=False), k), _outcomes(ballot_law(committee, q, colluders_accept=True), k)
    )


def check_quorum(k: int, n: int) -> None:
    """Refuse a threshold that both sides could reach, or none.

    Raises:
        ConfigError: ``k`` isn't more than half of ``n`` and at most ``n``.

    Examples:
        >>> from studbook.theory.votes import check_quorum
        >>> check_quorum(2, 3)
    """
    if not n < 2 * k <= 2 * n:
        raise ConfigError(f"k is {k} of {n} expected voters, expected {n // 2 + 1} to {n}", hint="with half or less both sides could win")


def _outcomes(law: Floats, k: int) -> Outcomes:
    accept, reject = float(law[k:].sum()), float(law[:, k:].sum())
    return Outcomes(accept, reject, float(law[:k, :k].sum()))


def _shift(law: Floats, by: int, *, accept: bool) -> Floats:
    """The law with ``by`` more ballots on one side; there is room, as no more than n vote."""
    shifted = np.zeros_like(law)
    size = law.shape[0] - by
    if accept:
        shifted[by:] = law[:size]
    else:
        shifted[:, by:] = law[:, :size]
    return shifted


def _copy_first(law: Floats, lazy: int) -> Floats:
    """Everybody lazy copies the first of the ballots, any of them; with no ballot there is nothing to copy."""
    yes, no = np.indices(law.shape)
    share = yes / np.maximum(yes + no, 1)
    copied = _shift(law * share, lazy, accept=True) + _shift(law * np.where(yes + no > 0, 1.0 - share, 0.0), lazy, accept=False)
    copied[0, 0] += law[0, 0]
    return copied


def _check_votes(n: int, k: int | None) -> int:
    if n < 1:
        raise ConfigError(f"n is {n}, expected 1 or more voters")
    votes = n // 2 + 1 if k is None else k
    if not 0 <= votes <= n:
        raise ConfigError(f"k is {votes}, expected 0 to the {n} voters")
    return votes


def _check_probabilities(name: str, value: float | Floats) -> Floats:
    values = np.asarray(value, dtype=np.float64)
    if not ((values >= 0.0) & (values <= 1.0)).all():
        raise ConfigError(f"{name} is {value}, expected 0 to 1")
    return values
