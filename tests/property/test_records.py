"""Records and Merkle trees under values that nobody thought of."""

from __future__ import annotations

import string
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studbook.errors import RecordError, StudbookError
from studbook.provenance import SigningKey, open_signed, sign
from studbook.records import (
    Ballot,
    Calibration,
    Check,
    Claim,
    Digest,
    Environment,
    Evidence,
    Feature,
    ImageSampling,
    Level,
    Opened,
    Opening,
    Outcome,
    Radius,
    Rate,
    Receipt,
    Recipe,
    Sequential,
    Spread,
    Tally,
    TextSampling,
    Verdict,
    canonical_bytes,
    check_opening,
    digest_of,
    from_bytes,
    from_plain,
    merkle_root,
    open_merkle,
    read_json,
    to_bytes,
    to_plain,
)

KEY = SigningKey.generate()


def hexes(n: int) -> st.SearchStrategy[str]:
    return st.text("0123456789abcdef", min_size=n, max_size=n)


def reals(low: float | None = None, high: float | None = None) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False, allow_infinity=False)


keys = st.text(string.ascii_letters + string.digits + "-_", min_size=43, max_size=43).map("ed25519:{}".format)
shas = hexes(64).map("sha256:{}".format)
texts = st.text(st.characters(codec="utf-8"), max_size=40)
names = st.builds(str.__add__, st.sampled_from(string.ascii_lowercase), st.text(string.ascii_lowercase + "0123456789_. -", max_size=20))
whole = st.integers(0, 2**53 - 1)
findings = st.sampled_from(["identity", "execution", "behaviour"])
times = st.datetimes().map(lambda t: t.strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0"))
schemes = st.from_regex(r"[a-z][a-z0-9_.-]{0,20}", fullmatch=True)
environments = st.builds(
    Environment,
    engine=st.sampled_from(["studbook", "transformers"]), dtype=st.sampled_from(["fp32", "bf16"]),
    device=st.sampled_from(["cpu", "cuda"]), threads=st.integers(1, 4096), batch=st.integers(1, 1 << 20),
)  # fmt: skip
greedy = st.builds(TextSampling, max_new=st.integers(20, 1 << 17), beams=st.integers(1, 192), stop=st.booleans())
sampled = st.builds(
    TextSampling, max_new=st.integers(20, 1 << 17), temperature=st.one_of(st.just(0.0), reals(1e-3, 100)), top_k=st.integers(0, 1 << 22),
    top_p=reals(0, 1).filter(bool), stop=st.booleans(),
)  # fmt: skip
pictures = st.one_of(
    st.builds(ImageSampling, steps=st.integers(1, 10_000), guidance=reals(-100, 100), eta=reals(0, 1)),
    st.builds(ImageSampling, steps=st.integers(1, 10_000), guidance=reals(-100, 100), order=st.just(2)),
)
digests = st.builds(
    Digest, schemes, st.integers(1, 2**53 - 1),
    st.dictionaries(texts, st.one_of(texts, st.integers(-(2**53) + 1, 2**53 - 1), st.booleans(), reals(-1e15, 1e15)), max_size=4).map(
        lambda table: tuple(table.items())
    ),
    st.binary(min_size=1, max_size=64),
)  # fmt: skip


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    image = draw(st.booleans())
    return Recipe(
        model=draw(shas), request=draw(st.integers(0, 10**18 - 1).map(str) if image else texts), seed=draw(whole),
        sampling=draw(pictures if image else st.one_of(greedy, sampled)), code=draw(texts.filter(bool)), environment=draw(environments),
    )  # fmt: skip


@st.composite
def claims(draw: st.DrawFn) -> Claim:
    recipe = draw(recipes())
    tokens = draw(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=20)) if recipe.kind == "text" else []
    found = draw(st.lists(digests, min_size=1, max_size=4, unique_by=lambda each: each.scheme))
    return Claim(
        recipe=recipe, tokens=tuple(tokens), digests=tuple(found), commitment=draw(hexes(64)), nonce=draw(hexes(32)), made=draw(times)
    )


checks = st.builds(Check, findings, names, reals(0), reals(), st.integers(1, 2**53 - 1))
ballots = st.builds(
    Ballot, claim=shas, claimant=keys, task=shas, round=hexes(32), electorate=st.one_of(st.just(""), shas), calibration=shas,
    checks=st.lists(checks, min_size=1, max_size=6, unique_by=lambda c: (c.finding, c.name)).map(
        lambda found: (replace(found[0], finding="execution"), *(each for each in found[1:] if each.name != found[0].name))
    ),
)  # fmt: skip
openings = st.builds(Opening, whole, whole, st.lists(hexes(64), max_size=4).map(tuple))
evidences = st.builds(
    Evidence, claim=shas, nonce=st.one_of(st.just(""), hexes(32)), projections=st.one_of(st.none(), digests),
    opened=st.lists(st.builds(Opened.of, st.binary(max_size=40), openings), min_size=1, max_size=4).map(tuple),
)  # fmt: skip


@st.composite
def verdicts(draw: st.DrawFn) -> Verdict:
    accepts, rejects, missing = (draw(st.integers(0, 9)) for _ in range(3))
    n = accepts + rejects + missing or 1
    missing = n - accepts - rejects
    k = draw(st.integers(n // 2 + 1, n))
    outcome = Outcome.ACCEPT if accepts >= k else Outcome.REJECT if rejects >= k else Outcome.INCONCLUSIVE
    tallies = draw(st.lists(st.builds(Tally, findings, whole, whole, whole, st.lists(names, max_size=2).map(tuple)), max_size=3))
    return Verdict(
        outcome=outcome, claim=draw(shas), round=draw(hexes(32)), k=k, n=n, accepts=accepts, rejects=rejects, missing=missing,
        findings=tuple(tallies),
    )  # fmt: skip


receipts = st.builds(
    Receipt, claim=texts, ballots=st.lists(texts, max_size=3).map(tuple), voters=st.lists(texts, max_size=3).map(tuple),
    round=hexes(32), k=st.integers(1, 9), verdict=verdicts(), notes=st.lists(texts, max_size=3).map(tuple), made=times,
)  # fmt: skip
rates = st.integers(1, 10**6).flatmap(
    lambda units: st.builds(Rate, texts, st.integers(0, units), st.just(units), st.just(0.0), st.just(1.0))
)
spreads = st.builds(Spread, texts, names, st.tuples(*(reals() for _ in range(7))))


@st.composite
def calibrations(draw: st.DrawFn) -> Calibration:
    text = draw(st.booleans())
    sizes = sorted(draw(st.sets(st.integers(1, 4096), min_size=1, max_size=3)))
    level = [
        Level(
            size, draw(reals(0, 1e9)), (Feature("execution", "first", 0.0, 1.0), Feature("identity", draw(names), 0.5, 0.25)),
            tuple(draw(st.lists(rates, max_size=2))), tuple(draw(st.lists(rates, max_size=2))), tuple(draw(st.lists(spreads, max_size=2))),
        )
        for size in sizes
    ]  # fmt: skip
    test = st.builds(
        Sequential, cheat=texts, honest_mean=reals(-9, 9), cheat_mean=reals(-9, 9), deviation=reals(1e-3, 9), inflation=reals(1, 9),
        error=reals(1e-6, 0.4), honest_wrong=rates, cheat_missed=rates, median_tokens=st.integers(0, 10**6),
    )  # fmt: skip
    radius = st.builds(Radius, schemes, st.integers(0, 256), reals(0, 1), reals(0, 1), st.integers(1, 10**9))
    return Calibration(
        kind="text" if text else "image", model=draw(shas), false_alarm=draw(reals(1e-6, 0.9)), confidence=draw(reals(1e-6, 0.9)),
        sampling=draw(sampled if text else pictures), units=draw(st.integers(1, 10**6)), requests=draw(shas),
        scale_units=draw(st.integers(1, 10**6)),
        verifier=draw(environments), environments=tuple(draw(st.lists(environments, min_size=1, max_size=3))), levels=tuple(level),
        sequential=tuple(draw(st.lists(test, max_size=2))), radii=tuple(draw(st.lists(radius, max_size=2))), seed=draw(whole),
        code=draw(texts), made=draw(times),
    )  # fmt: skip


RECORDS = {
    Claim: claims(), Ballot: ballots, Evidence: evidences, Verdict: verdicts(), Receipt: receipts, Calibration: calibrations(),
}  # fmt: skip


@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: kind.__name__)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_records_come_back_from_their_bytes(kind, data) -> None:
    record = data.draw(RECORDS[kind])
    written = to_bytes(record)
    again = from_bytes(kind, written, "a record")
    assert again == record
    assert to_bytes(again) == written == canonical_bytes(read_json(written, "a record"))
    assert from_plain(kind, to_plain(record), "a record") == record
    signed = open_signed(sign(record, KEY), kind, "a record", keys={KEY.public})
    assert signed.record == record
    assert signed.id == digest_of(to_plain(record))


@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: kind.__name__)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_changed_byte_of_a_record_is_another_record_or_none(kind, data) -> None:
    """Bytes stand for one record, and a record for one row of bytes: no two rows say the same."""
    record = data.draw(RECORDS[kind])
    written = bytearray(to_bytes(record))
    place = data.draw(st.integers(0, len(written) - 1))
    written[place] ^= data.draw(st.integers(1, 255))
    try:
        other = from_bytes(kind, bytes(written), "a record")
    except StudbookError:
        return
    assert to_plain(other) != to_plain(record)
    assert to_bytes(other) == bytes(written)


plain = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53) + 1, 2**53 - 1), reals(), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(plain)
def test_canonical_json_comes_back(value) -> None:
    written = canonical_bytes(value)
    assert read_json(written, "a value") == value
    assert canonical_bytes(read_json(written, "a value")) == written


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(texts, plain, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_matter(table, shuffle) -> None:
    items = list(table.items())
    shuffle.shuffle(items)
    assert canonical_bytes(dict(items)) == canonical_bytes(table)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass"))))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for kind in RECORDS:
        with pytest.raises(StudbookError):
            from_bytes(kind, data, "a record")


@pytest.mark.parametrize("n", range(1, 71))
def test_every_value_opens_at_its_place_and_nowhere_else(n: int) -> None:
    values = [b"%d" % i for i in range(n)]
    root = merkle_root(values)
    for index in range(n):
        opening = open_merkle(values, index)
        assert check_opening(root, values[index], opening) is None
        assert len(opening.path) <= (n - 1).bit_length()
        other = (index + 1) % (n + 1)
        wrong = [
            (values[index] + b"x", opening),
            (values[index], replace(opening, index=other)),
            (values[index], replace(opening, size=n + 1)),
            (values[index], replace(opening, path=(*opening.path, 64 * "0"))),
        ]
        if n > 1:
            wrong += [
                (values[index - 1], opening),
                (values[index], replace(opening, size=n - 1)),
                (values[index], replace(opening, path=opening.path[1:])),
                (values[index], replace(opening, path=opening.path[:-1])),
            ]
        for value, changed in wrong:
            with pytest.raises(RecordError):
                check_opening(root, value, changed)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=5), min_size=1, max_size=70), st.data())
def test_no_changed_opening_is_taken(values: list[bytes], data) -> None:
    index = data.draw(st.integers(0, len(values) - 1))
    root, opening = merkle_root(values), open_merkle(values, index)
    check_opening(root, values[index], opening)
    claimed = data.draw(st.integers(-2, 80)), data.draw(st.integers(-2, 80))
    if claimed != (index, len(values)):
        with pytest.raises(RecordError):
            check_opening(root, values[index], replace(opening, index=claimed[0], size=claimed[1]))
    if opening.path:
        place, digit = data.draw(st.integers(0, len(opening.path) - 1)), data.draw(st.integers(0, 63))
        node = opening.path[place]
        changed = node[:digit] + f"{int(node[digit], 16) ^ data.draw(st.integers(1, 15)):x}" + node[digit + 1 :]
        with pytest.raises(RecordError):
            check_opening(root, values[index], replace(opening, path=(*opening.path[:place], changed, *opening.path[place + 1 :])))
    changed_root = f"{int(root, 16) ^ (1 << data.draw(st.integers(0, 255))):064x}"
    with pytest.raises(RecordError):
        check_opening(changed_root, values[index], opening)
