"""A dishonest network of voters, played claim by claim: who works, who copies, who colludes, whose ballot gets lost.

It knows nothing of the closed forms in ``studbook.theory.votes``, so that each checks the other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from studbook.arrays import Floats, Ints
from studbook.errors import ConfigError
from studbook.theory import Committee, clopper_pearson
from studbook.theory.votes import check_quorum

Ballots: TypeAlias = NDArray[np.int8]
"""``(claims, voters)``: +1 accepts, −1 rejects, 0 is no ballot."""

_BLOCK = 50_000
"""Claims played at a time; part of what a seed means."""


@dataclass(frozen=True, slots=True)
class SimulatedRate:
    """A share of the claims, with its Clopper–Pearson interval.

    Attributes:
        events: Claims with this verdict.
        trials: Claims.
        low: Lower end of the two-sided interval.
        high: Upper end.
    """

    events: int
    trials: int
    low: float
    high: float

    @property
    def rate(self) -> float:
        """Events over trials."""
        return self.events / self.trials

    def __contains__(self, probability: float) -> bool:
        """Whether the interval covers a probability."""
        return self.low <= probability <= self.high


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedVotes:
    """What became of the claims of one kind.

    Attributes:
        accept: Share that k voters accepted.
        reject: Share that k voters rejected.
        inconclusive: Share with neither.
        ballots: ``(n + 1, n + 1)`` numbers of claims by accepting and rejecting ballots.
        n_struck: Commitments that repeated another and were struck.
    """

    accept: SimulatedRate
    reject: SimulatedRate
    inconclusive: SimulatedRate
    ballots: Ints = field(repr=False)
    n_struck: int

    @property
    def effective_voters(self) -> float:
        """Independent voters that would give the share of accepting ballots its variance: n²·p(1 − p)/Var; infinite without any.

        It means something where every voter gives a ballot and nobody colludes.
        """
        n = self.ballots.shape[0] - 1
        weights = self.ballots.sum(axis=1) / self.ballots.sum()
        yes = np.arange(n + 1.0)
        mean = float(weights @ yes)
        variance = float(weights @ (yes - mean) ** 2)
        return mean * (n - mean) / variance if variance > 0.0 else float("inf")


@dataclass(frozen=True, slots=True)
class SimulatedNetwork:
    """Both kinds of claims before the same committee.

    Attributes:
        honest_claim: Claims that are true.
        false_claim: Claims that aren't.
    """

    honest_claim: SimulatedVotes
    false_claim: SimulatedVotes


def simulate_network(
    committee: Committee,
    p: float | Floats,
    q: float | Floats,
    k: int,
    *,
    rng: np.random.Generator,
    claims: int = 100_000,
    confidence: float = 0.95,
) -> SimulatedNetwork:
    """Play honest and false claims before a committee, voter by voter.

    Every claim is easy or hard for all who do the work alike (a common uniform variable, turned into a beta-distributed probability), then
    each works, and the ballots are published in random order, those of colluders first. A lazy voter takes the first ballot that it sees.
    Under commit–reveal it sees hashes, which tell nothing; a hash that is repeated is struck.

    Args:
        committee: Who is expected to vote.
        p: Probability that a voter that does the work accepts an honest claim, 0 to 1: one for all, or ``(n,)`` in the order honest,
            colluding, lazy, faulty.
        q: Probability that it accepts a false claim, alike.
        k: Ballots that a verdict takes, more than half of the expected voters.
        rng: Source of everything random.
        claims: How many of each kind, 1 or more.
        confidence: Of each two-sided interval, above 0 and below 1.

    Returns:
        Rates of the three verdicts on both kinds of claims.

    Raises:
        ConfigError: A number out of its range, or as many probabilities as there aren't voters.

    Assumes:
        Voters are drawn from one population and don't know which claims are false, except for colluders.

    References:
        Beta-binomial votes: J. G. Skellam, Journal of the Royal Statistical Society B 10 (1948). Commitments: G. Brassard, D. Chaum,
        C. Crépeau, "Minimum disclosure proofs of knowledge", Journal of Computer and System Sciences 37 (1988).

    Examples:
        >>> import numpy as np
        >>> from studbook.theory import Committee
        >>> from studbook.verification.simulation import simulate_network
        >>> open_vote = Committee(honest=4, lazy=3, commit_reveal=False)
        >>> result = simulate_network(open_vote, 0.9, 0.1, 4, rng=np.random.default_rng(1))
        >>> round(result.honest_claim.effective_voters, 1), 0.1 < result.false_claim.accept.rate < 0.13
        (2.6, True)
    """
    check_quorum(k, committee.n)
    if claims < 1:
        raise ConfigError(f"claims is {claims}, expected 1 or more")
    honest, false = _per_voter("p", p, committee.n), _per_voter("q", q, committee.n)
    return SimulatedNetwork(
        honest_claim=_play(committee, honest, k, claims, confidence, rng, wanted=False),
        false_claim=_play(committee, false, k, claims, confidence, rng, wanted=True),
    )


def _play(
    committee: Committee, accepts: Floats, k: int, claims: int, confidence: float, rng: np.random.Generator, *, wanted: bool
) -> SimulatedVotes:
    n = committee.n
    table, struck = np.zeros((n + 1) ** 2, dtype=np.int64), 0
    for start in range(0, claims, _BLOCK):
        ballots, repeated = _vote(committee, accepts, min(_BLOCK, claims - start), rng, wanted=wanted)
        yes, no = (ballots > 0).sum(axis=1), (ballots < 0).sum(axis=1)
        table += np.bincount(yes * (n + 1) + no, minlength=table.size)
        struck += repeated
    counts = table.reshape(n + 1, n + 1)

    def share(part: Ints) -> SimulatedRate:
        events = int(part.sum())
        return SimulatedRate(events, claims, *clopper_pearson(events, claims, confidence))

    return SimulatedVotes(share(counts[k:]), share(counts[:, k:]), share(counts[:k, :k]), counts, struck)


def _vote(committee: Committee, accepts: Floats, claims: int, rng: np.random.Generator, *, wanted: bool) -> tuple[Ballots, int]:
    """The ballots that count, and how many repeated commitments were struck."""
    ballots = _work(accepts, committee.correlation, claims, rng)
    honest, colluding, lazy = committee.honest, committee.colluding, committee.lazy
    ballots[:, honest : honest + colluding] = 1 if wanted else -1
    copiers = slice(honest + colluding, honest + colluding + lazy)
    faulty = slice(copiers.stop, committee.n)
    ballots[:, faulty][rng.random((claims, committee.faulty)) < committee.missing] = 0
    if lazy == 0:
        return ballots, 0
    if not committee.commit_reveal:
        _copy_first(ballots, colluding, honest, copiers, rng)
    elif committee.lazy_habit == "guess":
        ballots[:, copiers] = np.where(rng.random((claims, lazy)) < committee.guess, 1, -1)
    elif committee.lazy_habit != "work":
        ballots[:, copiers] = 0
    sealed = committee.commit_reveal and committee.lazy_habit == "copy"
    # There is a commitment to repeat wherever anybody else gave one.
    return ballots, lazy * int((ballots != 0).any(axis=1).sum()) if sealed else 0


def _work(accepts: Floats, correlation: float, claims: int, rng: np.random.Generator) -> Ballots:
    """What everybody would find who did the work."""
    draws = rng.random((claims, accepts.size))
    if correlation == 0.0:
        return np.where(draws < accepts, 1, -1).astype(np.int8)
    common = rng.random(claims)
    chance = np.empty_like(draws)
    for p in np.unique(accepts):
        chance[:, accepts == p] = _ease(float(p), correlation, common)[:, None]
    return np.where(draws < chance, 1, -1).astype(np.int8)


def _ease(p: float, correlation: float, common: Floats) -> Floats:
    """Each claim's own probability of a yes: beta-distributed with mean p, and rising in the common variable."""
    if p in (0.0, 1.0):
        return np.full_like(common, p)
    if correlation == 1.0:
        return (common > 1.0 - p).astype(np.float64)
    from scipy.special import betaincinv

    scale = (1.0 - correlation) / correlation
    return np.asarray(betaincinv(p * scale, (1.0 - p) * scale, common), dtype=np.float64)


def _copy_first(ballots: Ballots, colluding: int, honest: int, copiers: slice, rng: np.random.Generator) -> None:
    """Ballots are open: the lazy wait for the first one, which colluders hurry to give, and publish the same."""
    time = rng.random(ballots.shape)
    time[:, honest : honest + colluding] -= 1.0
    time[ballots == 0] = np.inf
    time[:, copiers] = np.inf
    first = time.argmin(axis=1)
    rows = np.arange(first.size)
    seen = np.where(np.isfinite(time[rows, first]), ballots[rows, first], 0)
    ballots[:, copiers] = seen[:, None]


def _per_voter(name: str, value: float | Floats, n: int) -> Floats:
    values = np.asarray(value, dtype=np.float64)
    if values.shape not in ((), (n,)):
        raise ConfigError(f"{name} has the shape {values.shape}, expected one probability, or one for each of the {n} voters")
    if not ((values >= 0.0) & (values <= 1.0)).all():
        raise ConfigError(f"{name} is {value}, expected 0 to 1")
    return np.broadcast_to(values, (n,))
