"""The vote: what decides, what doesn't count, and what a coordinator can't do."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from studbook.errors import BallotError, ConfigError, RecordError, SignatureError, StudbookError
from studbook.provenance import PublicKey, SigningKey, open_signed, sign
from studbook.provenance.signed import _signed_bytes, _sums
from studbook.records import (
    Ballot,
    Check,
    Claim,
    Digest,
    Environment,
    Outcome,
    Receipt,
    Recipe,
    Tally,
    TextSampling,
    canonical_bytes,
    to_plain,
)
from studbook.verification.quorum import Quorum, Revealed, check_receipt, make_receipt, new_round, seal_ballot, unseal

SHA = "sha256:" + 64 * "a"
RECIPE = Recipe(model=SHA, request="Once", sampling=TextSampling(max_new=8), seed=7, code="studbook 1", environment=Environment())
CLAIM = Claim(
    recipe=RECIPE, tokens=(5, 6, 7), digests=(Digest("tokens", 1, (), bytes(range(32))),), commitment=64 * "0", nonce=32 * "1",
    made="2026-01-31T12:00:00Z",
)  # fmt: skip
ROUND = 32 * "2"
CLAIMANT, COORDINATOR, STRANGER = (SigningKey.generate() for _ in range(3))
KEYS = [SigningKey.generate() for _ in range(5)]
SIGNED = open_signed(sign(CLAIM, CLAIMANT), Claim, "the claim")


def quorum(k: int, n: int) -> Quorum:
    return Quorum(k, tuple(key.public for key in KEYS[:n]))


COMPANY = quorum(2, 3)


def vote(company: Quorum = COMPANY, *, accept: bool = True, **changes: str) -> Ballot:
    checks = (Check("execution", "tokens", 0.25 if accept else 0.75, 0.5, 64), Check("identity", "activations", 0.0, 0.1, 64))
    fields = {
        "claim": CLAIM.id, "claimant": str(CLAIMANT.public), "task": CLAIM.recipe.task, "round": ROUND, "electorate": company.electorate,
        "calibration": SHA, "checks": checks,
    }  # fmt: skip
    return Ballot(**{**fields, **changes})


def votes(pattern: str, company: Quorum = COMPANY) -> list[bytes]:
    """``"++-."``: two accept, one rejects, one is missing."""
    return [sign(vote(company, accept=sign_ == "+"), key) for sign_, key in zip(pattern, KEYS, strict=False) if sign_ != "."]


# What decides


@pytest.mark.parametrize(
    "k, pattern, outcome",
    [
        (1, "+", "accept"),
        (1, "-", "reject"),
        (1, ".", "inconclusive"),
        (2, "++.", "accept"),
        (2, "++-", "accept"),
        (2, "+-.", "inconclusive"),
        (2, "--+", "reject"),
        (2, "--.", "reject"),
        (2, "...", "inconclusive"),
        (2, "+..", "inconclusive"),
        (3, "++-", "inconclusive"),
        (3, "+++", "accept"),
        (3, "---", "reject"),
        (3, "++--", "inconclusive"),
        (3, "+++--", "accept"),
        (4, "+++--", "inconclusive"),
        (4, "+++.-", "inconclusive"),
        (5, "+++++", "accept"),
        (5, "++++.", "inconclusive"),
    ],
)
def test_k_votes_decide_and_a_missing_one_counts_for_nobody(k: int, pattern: str, outcome: str) -> None:
    company = quorum(k, len(pattern))
    verdict = company.judge(SIGNED, votes(pattern, company), round_=ROUND)
    assert verdict.outcome == outcome
    assert (verdict.accepts, verdict.rejects, verdict.missing) == tuple(map(pattern.count, "+-."))
    assert (verdict.k, verdict.n, verdict.claim, verdict.round) == (k, len(pattern), CLAIM.id, ROUND)


def test_findings_are_counted_apart() -> None:
    partly = replace(vote(), checks=(Check("execution", "tokens", 0.0, 0.5, 64),))
    broken = replace(
        vote(), checks=(*vote().checks[:1], Check("identity", "activations", 0.2, 0.1, 64), Check("behaviour", "phash", 9.0, 8.0, 64))
    )
    ballots = [sign(each, key) for each, key in zip((vote(), partly, broken), KEYS, strict=False)]
    verdict = quorum(2, 3).judge(SIGNED, ballots, round_=ROUND)
    assert verdict.outcome is Outcome.ACCEPT
    assert verdict.findings == (
        Tally("identity", 1, 1, 1, ("activations",)), Tally("execution", 3, 0, 0, ()), Tally("behaviour", 0, 1, 2, ("phash",)),
    )  # fmt: skip


def test_the_order_of_ballots_does_not_matter() -> None:
    found = votes("++-.-", quorum(3, 5))
    assert quorum(3, 5).judge(SIGNED, found, round_=ROUND) == quorum(3, 5).judge(SIGNED, found[::-1], round_=ROUND)


def test_an_electorate_is_its_voters_and_k_in_any_order() -> None:
    keys = [key.public for key in KEYS]
    assert Quorum(2, (keys[2], keys[0], keys[1])).electorate == COMPANY.electorate
    others = [quorum(3, 3), quorum(2, 2), quorum(3, 4), Quorum(2, (keys[0], keys[1], keys[3]))]
    assert len({COMPANY.electorate, *(each.electorate for each in others)}) == 5


@pytest.mark.parametrize("k, n", [(0, 0), (1, 0), (0, 1), (2, 1), (1, 2), (1, 3), (2, 4), (-1, 3), (4, 3), (2, 5)])
def test_a_quorum_that_cannot_decide_is_refused(k: int, n: int) -> None:
    with pytest.raises(ConfigError, match="a quorum"):
        quorum(k, n)


def test_a_voter_is_named_once() -> None:
    with pytest.raises(ConfigError, match="3 voters, 2 of them different"):
        Quorum(2, (KEYS[0].public, KEYS[1].public, KEYS[0].public))


def test_rounds_are_never_the_same() -> None:
    rounds = {new_round() for _ in range(1000)}
    assert len(rounds) == 1000 and all(len(bytes.fromhex(each)) == 16 for each in rounds)


# What doesn't count


def resigned(ballot: Ballot, key: SigningKey, **changes: object) -> bytes:
    """A payload of any form under a good signature."""
    payload = {**to_plain(ballot), **changes}
    sums = dict(_sums(payload))
    signature = base64.urlsafe_b64encode(key.sign(_signed_bytes(sums, key.public))).decode().rstrip("=")
    envelope = {"schema": "studbook.signed/1", "payload": payload, "sums": sums, "key": str(key.public), "signature": signature}
    return canonical_bytes(envelope)


GOOD = sign(vote(), KEYS[0])
OTHER_CLAIM = replace(CLAIM, nonce=32 * "9")

BAD_BALLOTS = {
    "of a stranger": (sign(vote(), STRANGER), "isn't trusted"),
    "of the claimant": (sign(vote(), CLAIMANT), "isn't trusted"),
    "for another claim": (sign(vote(claim=OTHER_CLAIM.id), KEYS[0]), "for the claim"),
    "for another task": (sign(vote(task=SHA), KEYS[0]), "for the task"),
    "of another round": (sign(vote(round=32 * "3"), KEYS[0]), "for the round"),
    "for another claimant": (sign(vote(claimant=str(STRANGER.public)), KEYS[0]), "for the claimant"),
    "in another company": (sign(vote(quorum(2, 2)), KEYS[0]), "for the electorate"),
    "where more votes decide": (sign(vote(quorum(3, 3)), KEYS[0]), "for the electorate"),
    "of an examination that was no vote": (sign(vote(electorate=""), KEYS[0]), "for the electorate"),
    "without a claimant": (resigned(vote(), KEYS[0], claimant=""), "expected a public key"),
    "longer than any ballot": (sign(vote(), KEYS[0]) + (64 << 10) * b" ", "expected at most 65,536"),
    "unsigned": (canonical_bytes(to_plain(vote())), "expected 'studbook.signed/1'"),
    "with a signature of zeros": (canonical_bytes({**json.loads(GOOD), "signature": 86 * "A"}), "on these bytes"),
    "changed": (GOOD.replace(b'"value":0.25', b'"value":0.24'), "was changed after it was signed: checks.0"),
    "with another limit": (GOOD.replace(b'"limit":0.5', b'"limit":0.9'), "was changed after it was signed: checks.0"),
    "under another's name": (GOOD.replace(str(KEYS[0].public).encode(), str(KEYS[1].public).encode()), "on these bytes"),
    "cut off": (GOOD[:-1], "isn't JSON"),
    "empty": (b"", "isn't JSON"),
    "not text": (b"\xff\xfe", "isn't UTF-8"),
    "oversized": (b"[" * ((8 << 20) + 1), "at most"),
    "reformatted": (json.dumps(json.loads(GOOD)).encode(), "isn't canonical"),
    "without checks": (resigned(vote(), KEYS[0], checks=[]), "measures nothing of the execution"),
    "without the execution": (resigned(vote(), KEYS[0], checks=to_plain(vote())["checks"][1:]), "measures nothing of the execution"),
    "with a check twice": (resigned(vote(), KEYS[0], checks=2 * to_plain(vote())["checks"]), "twice"),
    "with a text for a number": (resigned(vote(), KEYS[0], checks=[{**to_plain(vote())["checks"][0], "value": "0"}]), "checks.0.value"),
    "with a stated verdict": (resigned(vote(), KEYS[0], accepts=True), "accepts"),
    "of the future": (resigned(vote(), KEYS[0], schema="studbook.ballot/2"), "version 2"),
    "in a future envelope": (canonical_bytes({**json.loads(GOOD), "schema": "studbook.signed/2"}), "version 2"),
    "that is a claim": (sign(CLAIM, KEYS[0]), "expected 'studbook.ballot/1'"),
}


@pytest.mark.parametrize("name", BAD_BALLOTS)
def test_a_ballot_that_does_not_belong_is_an_error(name: str) -> None:
    data, message = BAD_BALLOTS[name]
    with pytest.raises(BallotError, match=message):
        quorum(2, 3).judge(SIGNED, [data], round_=ROUND)
    with pytest.raises(BallotError, match=message):
        quorum(2, 3).open_ballot(SIGNED, data, round_=ROUND)


def test_nobody_votes_twice() -> None:
    again = sign(replace(vote(), calibration="sha256:" + 64 * "b"), KEYS[0])
    for second in (GOOD, again, sign(vote(accept=False), KEYS[0])):
        with pytest.raises(BallotError, match="voted twice"):
            quorum(2, 3).judge(SIGNED, [GOOD, second], round_=ROUND)


def test_a_ballot_of_an_earlier_round_is_refused_in_the_next() -> None:
    first = votes("+++")
    assert quorum(2, 3).judge(SIGNED, first, round_=ROUND).outcome is Outcome.ACCEPT
    with pytest.raises(BallotError, match="for the round"):
        quorum(2, 3).judge(SIGNED, first, round_=new_round())


def test_a_ballot_counts_for_the_claimant_that_it_was_cast_on() -> None:
    """Somebody else's signature under the same claim must not inherit its votes: else others' work can be shown as one's own."""
    mine, theirs = sign(CLAIM, CLAIMANT), sign(CLAIM, STRANGER)
    receipt = make_receipt(mine, votes("+++"), quorum(2, 3), ROUND, COORDINATOR, made="2026-01-31T12:00:00Z")
    assert check_receipt(receipt)[1].key == CLAIMANT.public
    with pytest.raises(BallotError, match="for the claimant"):
        make_receipt(theirs, votes("+++"), quorum(2, 3), ROUND, COORDINATOR, made="2026-01-31T12:00:00Z")


# Sealed ballots


def sealed(n: int, salts: Sequence[str]) -> tuple[dict[PublicKey, str], dict[PublicKey, Revealed]]:
    ballots = votes(n * "+")
    revealed = {key.public: Revealed(ballot, salt) for key, ballot, salt in zip(KEYS, ballots, salts, strict=False)}
    return {key: seal_ballot(each.ballot, each.salt, key) for key, each in revealed.items()}, revealed


def test_sealed_ballots_are_opened() -> None:
    seals, revealed = sealed(3, ("a", "b", "c"))
    assert unseal(seals, revealed) == votes("+++")
    assert unseal(seals, {}) == []
    late = dict(list(revealed.items())[:2])
    assert quorum(2, 3).judge(SIGNED, unseal(seals, late), round_=ROUND).missing == 1


def test_the_same_ballot_and_salt_seal_differently_for_each_voter() -> None:
    assert len({seal_ballot(GOOD, "salt", key.public) for key in KEYS}) == len(KEYS)
    assert seal_ballot(GOOD, "salt", KEYS[0].public) != seal_ballot(GOOD, "tlas", KEYS[0].public)
    assert seal_ballot(GOOD, "salt", KEYS[0].public) != seal_ballot(GOOD + b" ", "salt", KEYS[0].public)


def test_what_was_not_sealed_is_not_opened() -> None:
    seals, revealed = sealed(3, ("a", "b", "c"))
    first, second = KEYS[0].public, KEYS[1].public
    unsealed = {key: each for key, each in seals.items() if key != first}
    with pytest.raises(BallotError, match="hadn't sealed"):
        unseal(unsealed, revealed)
    for other in (Revealed(votes("-")[0], "a"), Revealed(revealed[first].ballot, "b"), Revealed(revealed[first].ballot + b" ", "a"),
                  revealed[second]):  # fmt: skip
        with pytest.raises(BallotError, match="another ballot than it had sealed"):
            unseal(seals, {**revealed, first: other})


def test_a_copied_seal_is_found() -> None:
    seals, revealed = sealed(3, ("a", "b", "c"))
    copied = {**seals, KEYS[2].public: seals[KEYS[0].public]}
    with pytest.raises(BallotError, match="the same seal"):
        unseal(copied, revealed)
    other = {**seals, KEYS[2].public: seals[KEYS[0].public].upper()}
    with pytest.raises(BallotError, match="another ballot than it had sealed"):
        unseal(other, {**revealed, KEYS[2].public: revealed[KEYS[0].public]})


def test_a_ballot_is_revealed_by_the_voter_who_signed_it() -> None:
    """Else a voter could seal and show somebody else's ballot, so that it is there twice and counts for nobody."""
    seals, revealed = sealed(2, ("a", "b"))
    thief = KEYS[2].public
    seals[thief], revealed[thief] = seal_ballot(revealed[KEYS[0].public].ballot, "x", thief), Revealed(revealed[KEYS[0].public].ballot, "x")
    with pytest.raises(BallotError) as caught:
        quorum(2, 3).judge(SIGNED, unseal(seals, revealed), round_=ROUND)
    assert str(thief)[:20] in str(caught.value), "the message blames the voter whose ballot was copied"


# Receipts


def make(pattern: str = "++-", k: int = 2, **changes: object) -> bytes:
    chosen = quorum(k, len(pattern))
    return make_receipt(sign(CLAIM, CLAIMANT), votes(pattern, chosen), chosen, ROUND, COORDINATOR, made="2026-01-31T12:00:00Z", **changes)


def reissued(receipt: bytes, **changes: object) -> bytes:
    """The receipt with other parts, signed by its own coordinator: it may write what it likes."""
    opened = check_receipt(receipt)[0].record
    return sign(replace(opened, **changes), COORDINATOR)


@pytest.mark.parametrize("k, pattern", [(2, "++-"), (2, "--."), (3, "++-"), (1, "."), (3, "+++--")])
def test_a_receipt_is_judged_again(k: int, pattern: str) -> None:
    signed, claim = check_receipt(make(pattern, k, notes=("late",)))
    assert (signed.key, claim.key, claim.record) == (COORDINATOR.public, CLAIMANT.public, CLAIM)
    company = quorum(k, len(pattern))
    assert signed.record.verdict == company.judge(SIGNED, votes(pattern, company), round_=ROUND)
    assert signed.record.notes == ("late",)


def test_a_forged_verdict_is_found() -> None:
    receipt = make("--+")
    verdict = check_receipt(receipt)[0].record.verdict
    forged = [
        replace(verdict, **changes)
        for changes in (
            {"outcome": Outcome.ACCEPT, "accepts": 2, "rejects": 1}, {"outcome": Outcome.INCONCLUSIVE, "rejects": 1, "missing": 1},
            {"findings": ()}, {"round": 32 * "7"}, {"claim": SHA}, {"k": 3, "outcome": Outcome.INCONCLUSIVE},
            {"n": 4, "missing": 1, "k": 3, "outcome": Outcome.INCONCLUSIVE},
        )
    ]  # fmt: skip
    for each in forged:
        with pytest.raises(RecordError, match="its ballots say"):
            check_receipt(reissued(receipt, verdict=each))


def test_a_coordinator_cannot_change_what_a_receipt_rests_on() -> None:
    receipt = make("++-")
    strangers = tuple(str(key.public) for key in (STRANGER, KEYS[3], KEYS[4]))
    changes: list[tuple[dict[str, object], str]] = [
        ({"ballots": ()}, "its ballots say inconclusive"),
        ({"ballots": tuple(each.decode() for each in votes("++."))}, "its ballots say accept"),
        ({"ballots": (votes("+")[0].decode(), votes("+")[0].decode())}, "voted twice"),
        ({"ballots": tuple(each.decode() for each in votes("+++++"))}, "isn't trusted"),
        ({"round": 32 * "3"}, "for the round"),
        ({"claim": sign(OTHER_CLAIM, CLAIMANT).decode()}, "for the claim"),
        ({"claim": sign(CLAIM, CLAIMANT).decode().replace('"seed":7', '"seed":8')}, "changed after it was signed: recipe.seed"),
        ({"voters": strangers}, "isn't trusted"),
        ({"voters": ("x", "y", "z")}, "no public key"),
        ({"voters": 3 * (str(KEYS[0].public),)}, "1 of them different"),
        ({"k": 3}, "for the electorate"),
        ({"voters": (*(str(key.public) for key in KEYS[:3]), str(STRANGER.public)), "k": 3}, "for the electorate"),
        ({"claim": sign(CLAIM, STRANGER).decode()}, "for the claimant"),
        ({"k": 1}, "can't decide"),
        ({"k": 0}, "can't decide"),
        ({"voters": ()}, "0 voters"),
    ]
    for change, message in changes:
        with pytest.raises(StudbookError, match=message):
            check_receipt(reissued(receipt, **change))


def test_a_changed_receipt_is_found_and_says_where() -> None:
    receipt = make("++-")
    for old, new, part in (
        (b'"outcome":"accept"', b'"outcome":"reject"', "verdict.outcome"),
        (b'"made":"2026-01-31T12:00:00Z","notes"', b'"made":"2026-01-31T12:00:01Z","notes"', "made"),
        (b'"rejects":1', b'"rejects":0', "verdict.rejects"),
    ):
        assert receipt.count(old) == 1
        with pytest.raises(SignatureError, match=f"was changed after it was signed: {part}"):
            check_receipt(receipt.replace(old, new))


def test_a_rejection_cannot_be_turned_by_dropping_ballots() -> None:
    """Dropped ballots are missing ones: they may make a verdict inconclusive, never another one."""
    found = votes("---++", quorum(3, 5))
    for mask in range(32):
        kept = [ballot for i, ballot in enumerate(found) if mask >> i & 1]
        assert quorum(3, 5).judge(SIGNED, kept, round_=ROUND).outcome in {Outcome.REJECT, Outcome.INCONCLUSIVE}


def test_a_rejection_cannot_be_turned_by_dropping_voters() -> None:
    """A ballot must say in which company it was cast: else a coordinator names only those voters who accepted."""
    ballots = votes("+--")
    assert check_receipt(make("+--"))[0].record.verdict.outcome is Outcome.REJECT
    with pytest.raises(BallotError, match="for the electorate"):
        make_receipt(sign(CLAIM, CLAIMANT), ballots[:1], quorum(1, 1), ROUND, COORDINATOR, made="2026-01-31T12:00:00Z")
    with pytest.raises(BallotError, match="for the electorate"):
        check_receipt(reissued(make("+--"), voters=(str(KEYS[0].public),), k=1, ballots=(ballots[0].decode(),)))


def test_a_reader_says_whose_receipts_and_which_voters_it_expects() -> None:
    receipt, expected = make("++-"), quorum(2, 3)
    check_receipt(receipt, coordinators={COORDINATOR.public}, quorum=expected)
    check_receipt(receipt, quorum=Quorum(2, expected.voters[::-1]))
    with pytest.raises(SignatureError, match="isn't trusted"):
        check_receipt(receipt, coordinators={STRANGER.public})
    for other in (quorum(3, 3), quorum(2, 2), quorum(3, 4), Quorum(1, (STRANGER.public,))):
        with pytest.raises(RecordError, match="another quorum"):
            check_receipt(receipt, quorum=other)
    # A company of the coordinator's own making judges itself consistently, and isn't the expected one.
    puppets = [SigningKey.generate() for _ in range(3)]
    own = Quorum(2, tuple(key.public for key in puppets))
    ballots = [sign(vote(own), key) for key in puppets]
    forged = make_receipt(sign(CLAIM, CLAIMANT), ballots, own, ROUND, COORDINATOR, made="2026-01-31T12:00:00Z")
    assert check_receipt(forged)[0].record.verdict.outcome is Outcome.ACCEPT
    with pytest.raises(RecordError, match="another quorum"):
        check_receipt(forged, quorum=expected)


def test_receipts_with_too_much_in_them_are_refused() -> None:
    receipt = check_receipt(make("++-"))[0].record
    for part in ("ballots", "voters", "notes"):
        with pytest.raises(RecordError, match="more than 1,024"):
            replace(receipt, **{part: 1025 * ("x",)})
    with pytest.raises(RecordError, match="expected at most"):
        check_receipt(sign(replace(receipt, claim=(8 << 20) * "x"), COORDINATOR))


def test_a_claim_that_was_changed_gets_no_receipt() -> None:
    changed = sign(CLAIM, CLAIMANT).replace(b'"seed":7', b'"seed":8')
    with pytest.raises(SignatureError, match=r"recipe\.seed"):
        make_receipt(changed, votes("+++"), quorum(2, 3), ROUND, COORDINATOR, made="")
    with pytest.raises(BallotError):
        make_receipt(sign(CLAIM, CLAIMANT), [sign(vote(), STRANGER)], quorum(2, 3), ROUND, COORDINATOR, made="")


def test_a_receipt_is_no_claim_and_a_claim_no_receipt() -> None:
    for data in (sign(CLAIM, CLAIMANT), votes("+")[0]):
        with pytest.raises(RecordError, match="another kind"):
            check_receipt(data)
    assert Receipt.SCHEMA == "studbook.receipt/1"
