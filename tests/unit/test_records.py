"""Records: what they refuse, how they are written, and what their Merkle trees commit to."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace

import pytest

from studbook.errors import DigestError, RecordError, SchemaVersionError
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
    Rate,
    Receipt,
    Recipe,
    Sequential,
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
from studbook.records.canonical import MAX_BYTES, MAX_DEPTH
from studbook.records.claim import MAX_REQUEST, MAX_SEED, MAX_TOKENS
from studbook.records.codec import check_schema
from studbook.records.digest import MAX_DIGEST_BYTES

SHA = "sha256:" + 64 * "a"
TEXT = Recipe(model=SHA, request="Once", sampling=TextSampling(max_new=8), seed=7, code="studbook 1", environment=Environment())
IMAGE = replace(TEXT, request="3", sampling=ImageSampling(steps=5))
TOKENS = Digest("tokens", 1, (), bytes(range(32)))
PHASH = Digest("phash", 1, (("size", 8),), bytes(8))
CLAIMANT = "ed25519:" + 43 * "A"
RATE = Rate("own", 5, 10, 0.2, 0.8)


def make_claim(**changes: object) -> Claim:
    fields = {
        "recipe": TEXT, "tokens": (5, 6, 7), "digests": (TOKENS,), "commitment": 64 * "0", "nonce": 32 * "1",
        "made": "2026-01-31T12:00:00Z",
    }  # fmt: skip
    return Claim(**{**fields, **changes})


def make_ballot(**changes: object) -> Ballot:
    checks = (Check("execution", "tokens", 0.25, 0.5, 64), Check("identity", "activations", 0.0, 0.1, 64))
    fields = {"claim": SHA, "claimant": CLAIMANT, "task": SHA, "round": 32 * "2", "electorate": SHA, "calibration": SHA, "checks": checks}
    return Ballot(**{**fields, **changes})


def make_level(**changes: object) -> Level:
    fields = {"size": 8, "limit": 2.0, "features": (Feature("execution", "tokens", 0.0, 0.1),), "honest": (), "cheats": (), "spreads": ()}
    return Level(**{**fields, **changes})


def make_calibration(**changes: object) -> Calibration:
    fields = {
        "kind": "text", "model": SHA, "false_alarm": 0.01, "confidence": 0.95, "sampling": TextSampling(max_new=8), "units": 300,
        "scale_units": 75, "requests": SHA, "verifier": Environment(),
        "environments": (Environment(),), "levels": (make_level(),), "sequential": (),
        "radii": (), "seed": 0, "code": "studbook 1", "made": "2026-01-31T12:00:00Z",
    }  # fmt: skip
    return Calibration(**{**fields, **changes})


def make_verdict(**changes: object) -> Verdict:
    fields = {
        "outcome": Outcome.ACCEPT, "claim": SHA, "round": 32 * "2", "k": 2, "n": 3, "accepts": 2, "rejects": 1, "missing": 0,
        "findings": (Tally("execution", 2, 1, 0, ("tokens",)),),
    }  # fmt: skip
    return Verdict(**{**fields, **changes})


# Canonical JSON


def test_numbers_are_written_as_the_rfc_does() -> None:
    """The sample of RFC 8785, section 3.2.2, and of its appendix B."""
    value = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": '€$\u000f\nA\'B"\\\\"/',
        "literals": [None, True, False],
    }
    expected = (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )
    assert canonical_bytes(value).decode() == expected
    assert canonical_bytes([0.0, -0.0, 5e-324, 1.7976931348623157e308, 9007199254740991]) == (
        b"[0,0,5e-324,1.7976931348623157e+308,9007199254740991]"
    )


def test_keys_are_sorted_by_utf_16() -> None:
    """RFC 8785, section 3.2.3: U+1F600 sorts before U+FB33, since its first half is U+D83D."""
    assert list(json.loads(canonical_bytes({"\ufb33": 1, "\U0001f600": 2, "\r": 3, "1": 4}))) == ["\r", "1", "\U0001f600", "\ufb33"]


@pytest.mark.parametrize("value", [math.nan, math.inf, 2**53, -(2**53), "\ud800", {"\udfff": 1}, b"bytes", {1: 2}, {1, 2}, object()])
def test_what_json_cannot_hold_is_refused(value) -> None:
    with pytest.raises(RecordError, match="can't hold"):
        canonical_bytes({"value": value})


def test_a_digest_is_of_the_canonical_bytes() -> None:
    assert digest_of({"b": 1, "a": 2}) == "sha256:" + hashlib.sha256(b'{"a":2,"b":1}').hexdigest()


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "line 1, column 1"),
        (b'{"a":1', "line 1, column 7"),
        (b'{"a":1}\n\n x', "line 3, column 2"),
        (b'{"a":1,"a":1}', "'a' occurs twice"),
        (b'{"a":{"b":1,"b":2}}', "'b' occurs twice"),
        (b'{"a":1,"\\u0061":2}', "'a' occurs twice"),
        (b'{"a":NaN}', "NaN"),
        (b"[-Infinity]", "-Infinity"),
        (b'"\xff"', "byte 1 is 0xff"),
        (b'"\xed\xa0\x80"', "byte 1"),
        ("\ufeff{}".encode(), "isn't"),
        (b'{"a":01}', "isn't JSON"),
        (b"{'a':1}", "isn't JSON"),
        (b"[" + 5000 * b"9" + b"]", "isn't a record"),
        (100_000 * b"[", "deep"),
        (1_000_000 * b'{"a":', "deep"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "nested more than 32 deep"),
    ],
)
def test_what_is_no_json_of_ours_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(RecordError, match=message):
        read_json(data, "claim.json")


def test_depth_and_size_are_bounded_exactly() -> None:
    assert read_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, "x")
    assert read_json(b'"' + (MAX_BYTES - 2) * b"a" + b'"', "x")
    with pytest.raises(RecordError, match="8,388,609 bytes, expected at most 8,388,608"):
        read_json(b'"' + (MAX_BYTES - 1) * b"a" + b'"', "x")
    with pytest.raises(RecordError, match="expected at most 3"):
        read_json(b'"aa"', "x", max_bytes=3)


# Codec

CLAIM = make_claim()


@pytest.mark.parametrize(
    "data",
    [
        to_bytes(CLAIM) + b"\n",
        b" " + to_bytes(CLAIM),
        to_bytes(CLAIM).replace(b'"seed":7', b'"seed":7.0'),
        to_bytes(CLAIM).replace(b'"seed":7', b'"seed":7e0'),
        to_bytes(CLAIM).replace(b'"top_k":0', b'"top_k":-0'),
        to_bytes(CLAIM).replace(b'"temperature":0', b'"temperature":-0.0'),
        to_bytes(CLAIM).replace(b"Once", b"\\u004fnce"),
        json.dumps(to_plain(CLAIM)).encode(),
        json.dumps(dict(reversed(to_plain(CLAIM).items())), separators=(",", ":")).encode(),
    ],
)
def test_the_same_said_in_another_way_is_refused(data: bytes) -> None:
    with pytest.raises(RecordError, match=r"isn't canonical JSON .* from byte"):
        from_bytes(Claim, data, "claim.json")


def test_the_first_byte_that_is_not_canonical_is_named() -> None:
    data = to_bytes(CLAIM)
    place = data.index(b"Once")
    with pytest.raises(RecordError, match=f"from byte {place} on"):
        from_bytes(Claim, data.replace(b"Once", b"\\u004fnce"), "claim.json")


@pytest.mark.parametrize(
    "path, value, message",
    [
        ("seed", "7", "recipe.seed"),
        ("seed", True, "recipe.seed"),
        ("seed", 7.5, "recipe.seed"),
        ("seed", None, "recipe.seed"),
        ("seed", -1, "0 to 2\\^53"),
        ("request", 5, "recipe.request"),
        ("environment", {"engine": "vllm"}, "recipe.environment.engine"),
        ("environment", {"batch": 0}, "environment.batch"),
        ("environment", {"threads": 4097}, "environment.threads"),
        ("environment", {"dtype": "int4"}, "recipe.environment.dtype"),
        ("environment", {"note": ""}, "recipe.environment.note"),
        ("sampling", {"max_new": 8, "steps": 8}, "recipe.sampling"),
        ("sampling", {}, "recipe.sampling"),
        ("sampling", {"max_new": True}, "recipe.sampling"),
        ("sampling", {"steps": 8}, "class of the picture"),
        ("sampling", [], "recipe.sampling"),
    ],
)
def test_fields_are_strictly_typed_and_named(path: str, value: object, message: str) -> None:
    plain = to_plain(CLAIM)
    plain["recipe"] = {**plain["recipe"], path: value}
    with pytest.raises(RecordError, match=message):
        from_plain(Claim, plain, "claim.json")


@pytest.mark.parametrize("value", [None, 5, "x", [], [["schema", "studbook.claim/1"]]])
def test_what_is_no_table_is_no_record(value) -> None:
    with pytest.raises(RecordError, match="expected a record"):
        from_plain(Claim, value, "claim.json")


@pytest.mark.parametrize("key", sorted(to_plain(CLAIM)))
def test_every_key_is_needed_and_no_other_is_taken(key: str) -> None:
    plain = to_plain(CLAIM)
    with pytest.raises(RecordError):
        from_plain(Claim, {name: each for name, each in plain.items() if name != key}, "claim.json")
    with pytest.raises(RecordError, match=r"claim.json: \w*x: Unexpected"):
        from_plain(Claim, {**plain, f"{key}x": 1}, "claim.json")


@pytest.mark.parametrize("part, key", [("environment", key) for key in ("engine", "dtype", "device", "threads", "batch")] + [
    ("sampling", key) for key in ("temperature", "top_k", "top_p", "beams", "stop")])  # fmt: skip
def test_a_key_that_has_a_default_is_needed_all_the_same(part: str, key: str) -> None:
    """Else two rows of bytes would be one record, with one id."""
    plain = to_plain(CLAIM)
    del plain["recipe"][part][key]
    with pytest.raises(RecordError):
        from_bytes(Claim, canonical_bytes(plain), "claim.json")


@pytest.mark.parametrize(
    "schema, error",
    [
        ("studbook.claim/2", SchemaVersionError),
        ("studbook.claim/9999", SchemaVersionError),
        ("studbook.claim/0", RecordError),
        ("studbook.claim/01", RecordError),
        ("studbook.claim/10000", RecordError),
        ("studbook.claim/٢", RecordError),
        ("studbook.claim/2\n", RecordError),
        ("studbook.ballot/1", RecordError),
        ("studbook.ballot/2", RecordError),
        ("claim/1", RecordError),
        ("", RecordError),
        (None, RecordError),
        (["studbook.claim/1"], RecordError),
    ],
)
def test_other_kinds_and_versions_are_refused(schema, error: type[Exception]) -> None:
    with pytest.raises(error):
        check_schema(schema, "studbook.claim/1", "claim.json")
    with pytest.raises(error):
        from_plain(Claim, {**to_plain(CLAIM), "schema": schema}, "claim.json")


def test_no_kind_of_record_is_taken_for_another() -> None:
    opened = Opened.of(b"abcd", Opening(0, 1, ()))
    evidence = Evidence(claim=SHA, nonce="", projections=None, opened=(opened,))
    receipt = Receipt(claim="", ballots=(), voters=(), round=32 * "0", k=1, verdict=make_verdict(), notes=(), made=CLAIM.made)
    records = [CLAIM, make_ballot(), make_calibration(), evidence, make_verdict(), receipt]
    for one in records:
        for other in records:
            if one is other:
                assert from_bytes(type(one), to_bytes(one), "x") == one
            else:
                with pytest.raises(RecordError, match="another kind"):
                    from_bytes(type(other), to_bytes(one), "x")


@pytest.mark.parametrize("value", [2.0**53 - 1, 2.0**53, 1e16, 1e17, 1e20, 1e21, 1.7976931348623157e308, 5e-324])
def test_large_and_small_measurements_come_back(value: float) -> None:
    """A measurement that can be written must be readable: else whoever provokes it takes a vote away."""
    ballot = make_ballot(checks=(Check("execution", "start", value, 0.5, 1),))
    assert from_bytes(Ballot, to_bytes(ballot), "ballot.json") == ballot


# Claims


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"digests": ()}, "an empty claim proves nothing"),
        ({"tokens": ()}, "one or more for a text"),
        ({"tokens": (), "digests": ()}, "proves nothing"),
        ({"recipe": IMAGE}, "none for a picture"),
        ({"recipe": IMAGE, "tokens": (), "digests": ()}, "proves nothing"),
        ({"digests": (TOKENS, TOKENS)}, "one digest a scheme"),
        ({"digests": tuple(replace(PHASH, scheme=f"s{i}") for i in range(33))}, "at most 32"),
        ({"tokens": 9 * (1,)}, "at most sampling.max_new, 8"),
        ({"tokens": (-1,)}, "token id"),
        ({"tokens": (1 << 31,)}, "token id"),
        ({"commitment": ""}, "64 hex digits"),
        ({"commitment": 63 * "0"}, "64 hex digits"),
        ({"commitment": 64 * "A"}, "64 hex digits"),
        ({"commitment": 64 * "g"}, "64 hex digits"),
        ({"commitment": 64 * "٠"}, "64 hex digits"),
        ({"commitment": 63 * "0" + "\n"}, "64 hex digits"),
        ({"nonce": ""}, "32 hex digits"),
        ({"nonce": 33 * "0"}, "32 hex digits"),
        ({"nonce": 32 * "F"}, "32 hex digits"),
        ({"made": ""}, "a time"),
        ({"made": "2026-01-31 12:00:00"}, "a time"),
        ({"made": "2026-01-31T12:00:00Z\n"}, "a time"),
        ({"made": "2026-00-31T12:00:00Z"}, "a time"),
        ({"made": "2026-01-32T12:00:00Z"}, "a time"),
        ({"made": "2026-01-31T24:00:00Z"}, "a time"),
        ({"made": "2026-01-31T12:00:60Z"}, "a time"),
        ({"made": "٢٠٢٦-01-31T12:00:00Z"}, "a time"),
        ({"made": "2026-99-99T99:99:99Z"}, "a time"),
    ],
)
def test_claims_that_cannot_be_meant_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(RecordError, match=message):
        make_claim(**changes)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"model": ""}, "sha256:"),
        ({"model": "../../etc"}, "sha256:"),
        ({"model": SHA.upper()}, "sha256:"),
        ({"model": SHA + "\n"}, "sha256:"),
        ({"seed": MAX_SEED + 1}, "recipe.seed"),
        ({"request": (MAX_REQUEST + 1) * "a"}, "1,048,577 characters"),
        ({"code": ""}, "recipe.code"),
        ({"code": 201 * "a"}, "recipe.code"),
    ],
)
def test_recipes_that_cannot_be_meant_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(RecordError, match=message):
        replace(TEXT, **changes)


@pytest.mark.parametrize("temperature", [0.0, 0.001, 0.7, 100.0])
def test_every_other_temperature_is_taken(temperature: float) -> None:
    assert TextSampling(max_new=8, temperature=temperature).temperature == temperature


@pytest.mark.parametrize("request_", ["three", "-3", "3.0", " 3", "٣", "²", 19 * "1", "3\n"])
def test_a_picture_is_asked_for_by_its_class(request_: str) -> None:
    with pytest.raises(RecordError, match="class of the picture"):
        replace(IMAGE, request=request_)


@pytest.mark.parametrize(
    "changes",
    [
        {"max_new": 0}, {"max_new": MAX_TOKENS + 1}, {"temperature": -0.1}, {"temperature": math.nan}, {"temperature": math.inf},
        {"temperature": 100.1},
        {"temperature": 9e-4}, {"temperature": 5e-324}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.1}, {"top_p": math.nan},
        {"beams": 0}, {"beams": 193},
        {"beams": 2, "temperature": 1.0},
    ],
)  # fmt: skip
def test_impossible_text_sampling_is_refused(changes: dict[str, float]) -> None:
    with pytest.raises(RecordError, match="sampling"):
        TextSampling(**{"max_new": 8, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 0}, {"steps": 10_001}, {"guidance": math.nan}, {"guidance": 101.0}, {"eta": -0.1}, {"eta": 1.1}, {"eta": math.nan},
        {"order": 0}, {"order": 3}, {"order": 2, "eta": 0.5},
    ],
)  # fmt: skip
def test_impossible_picture_sampling_is_refused(changes: dict[str, float]) -> None:
    with pytest.raises(RecordError, match="sampling"):
        ImageSampling(**{"steps": 8, **changes})


def test_the_task_is_all_but_environment_and_code() -> None:
    assert TEXT.task == replace(TEXT, code="other 2", environment=Environment(dtype="bf16", batch=9)).task
    others = [
        replace(TEXT, model="sha256:" + 64 * "b"), replace(TEXT, request="once"), replace(TEXT, seed=8),
        replace(TEXT, sampling=TextSampling(max_new=9)), replace(TEXT, request="Once "),
    ]  # fmt: skip
    assert len({each.task for each in [TEXT, *others]}) == 6


def test_ids_differ_with_every_part() -> None:
    changes = [
        {"recipe": replace(TEXT, seed=8)}, {"tokens": (5, 7, 6)}, {"digests": (PHASH,)}, {"commitment": 64 * "1"}, {"nonce": 32 * "2"},
        {"made": "2026-01-31T12:00:01Z"},
    ]  # fmt: skip
    assert len({CLAIM.id, *(make_claim(**change).id for change in changes)}) == 7
    assert CLAIM.canonical() == to_bytes(CLAIM)
    assert CLAIM.digest("tokens") == TOKENS
    assert CLAIM.digest("phash") is None


# Ballots, verdicts, evidence, calibrations


@pytest.mark.parametrize(
    "changes",
    [
        {"checks": ()},
        {"checks": (Check("identity", "activations", 0.0, 0.1, 64),)},
        {"checks": 2 * (Check("execution", "tokens", 0.0, 0.1, 64),)},
        {"checks": tuple(Check("execution", f"t{i}", 0.0, 0.1, 64) for i in range(65))},
        {"claim": "x"}, {"task": ""}, {"calibration": SHA[:-1]}, {"electorate": "x"}, {"electorate": SHA.upper()}, {"claimant": ""},
        {"claimant": 101 * "a"}, {"round": ""}, {"round": 32 * "G"}, {"round": 33 * "0"},
    ],
)  # fmt: skip
def test_empty_and_malformed_ballots_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(RecordError):
        make_ballot(**changes)


@pytest.mark.parametrize(
    "value, limit, n, name",
    [
        (math.nan, 0.1, 1, "tokens"), (math.inf, 0.1, 1, "tokens"), (0.0, math.inf, 1, "tokens"), (0.0, math.nan, 1, "tokens"),
        (-0.1, 0.1, 1, "tokens"), (0.0, 0.1, 0, "tokens"), (0.0, 0.1, 1, ""), (0.0, 0.1, 1, "Tokens"), (0.0, 0.1, 1, 65 * "a"),
        (0.0, 0.1, 1, "a\nb"), (0.0, 0.1, 1, "а"), (0.0, 0.1, 1, "a\x1b[2J"),
    ],
)  # fmt: skip
def test_checks_without_numbers_are_refused(value: float, limit: float, n: int, name: str) -> None:
    with pytest.raises(RecordError):
        Check("execution", name, value, limit, n)


def test_what_the_verifier_measures_has_names_that_a_check_takes() -> None:
    names = ("token disagreement", "largest token margin", "mean activation distance", "phash distance in bits", "redone step distance")
    assert all(Check("execution", name, 0.0, 0.1, 1).passes for name in names)


def test_a_ballot_accepts_where_every_check_passes() -> None:
    edge = Check("execution", "tokens", 0.5, 0.5, 1)
    beyond = Check("identity", "activations", math.nextafter(0.1, 1), 0.1, 1)
    assert edge.passes and not beyond.passes
    assert make_ballot(checks=(edge,)).accepts
    mixed = make_ballot(checks=(edge, beyond))
    assert not mixed.accepts
    assert [mixed.finding(name) for name in ("execution", "identity", "behaviour")] == [True, False, None]


@pytest.mark.parametrize(
    "changes",
    [
        {"outcome": Outcome.REJECT},
        {"outcome": Outcome.INCONCLUSIVE},
        {"accepts": 1},
        {"accepts": 1, "missing": 1},
        {"accepts": 3, "rejects": -1, "missing": 1},
        {"k": 1},
        {"k": 4},
        {"k": 0, "n": 0, "accepts": 0, "rejects": 0},
        {"k": -1, "n": -3, "accepts": -2, "rejects": -1},
        {"n": 4, "missing": 1},
        {"claim": ""},
    ],
)
def test_verdicts_that_contradict_themselves_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(RecordError):
        make_verdict(**changes)


@pytest.mark.parametrize(
    "changes",
    [{"opened": ()}, {"opened": 65 * (Opened.of(b"", Opening(0, 1, ())),)}, {"claim": "x"}, {"nonce": "0"}, {"nonce": 32 * "X"}],
)
def test_empty_and_malformed_evidence_is_refused(changes: dict[str, object]) -> None:
    fields = {"claim": SHA, "nonce": "", "projections": None, "opened": (Opened.of(b"", Opening(0, 1, ())),)}
    with pytest.raises(RecordError):
        Evidence(**{**fields, **changes})


@pytest.mark.parametrize("data", ["A", "AA=A", "AAAA\n", "AA-_", "é", (8 << 20) * "A" + "A"])
def test_opened_values_are_base64_of_bounded_size(data: str) -> None:
    with pytest.raises(RecordError, match="opened value"):
        _ = Opened(data, Opening(0, 1, ())).value


def test_an_opened_value_has_one_form() -> None:
    assert Opened("AA==", Opening(0, 1, ())).value == b"\0"
    with pytest.raises(RecordError):
        _ = Opened("AB==", Opening(0, 1, ())).value


@pytest.mark.parametrize(
    "changes",
    [
        {"levels": ()}, {"levels": (make_level(), make_level())}, {"levels": (make_level(size=9), make_level())}, {"false_alarm": 0.0},
        {"false_alarm": 1.0}, {"confidence": math.nan}, {"kind": "image"}, {"sampling": ImageSampling(steps=3)}, {"model": ""},
        {"made": ""}, {"made": "2026"},
    ],
)  # fmt: skip
def test_calibrations_that_cannot_be_meant_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(RecordError):
        make_calibration(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"size": 0}, {"limit": math.nan}, {"limit": math.inf}, {"limit": -0.1}, {"features": ()},
        {"features": (Feature("identity", "x", 0.0, 1.0),)}, {"features": 2 * (Feature("execution", "x", 0.0, 1.0),)},
    ],
)  # fmt: skip
def test_levels_without_a_limit_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(RecordError):
        make_level(**changes)


@pytest.mark.parametrize("centre, spread", [(math.nan, 1.0), (0.0, 0.0), (0.0, -1.0), (0.0, math.inf)])
def test_features_without_a_scale_are_refused(centre: float, spread: float) -> None:
    with pytest.raises(RecordError):
        Feature("execution", "x", centre, spread)


@pytest.mark.parametrize(
    "changes",
    [
        {"units": 0}, {"units": -3}, {"events": -1}, {"events": 11}, {"lower": -0.1}, {"upper": 1.1}, {"lower": 0.9}, {"lower": math.nan},
        {"upper": math.nan},
    ],
)  # fmt: skip
def test_rates_that_are_none_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(RecordError, match="a rate is"):
        replace(RATE, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"honest_mean": math.nan}, {"cheat_mean": math.inf}, {"deviation": 0.0}, {"deviation": -1.0}, {"deviation": math.nan},
        {"inflation": 0.9}, {"inflation": math.inf}, {"error": 0.0}, {"error": 0.5}, {"error": math.nan},
    ],
)  # fmt: skip
def test_sequential_tests_that_decide_nothing_are_refused(changes: dict[str, object]) -> None:
    test = Sequential("int4", -4.0, -3.0, 0.8, 1.0, 0.05, RATE, RATE, 0)
    with pytest.raises(RecordError, match="a sequential test has"):
        replace(test, **changes)


@pytest.mark.parametrize(
    "kind, record, longest", [(Ballot, make_ballot(), 64 << 10), (Claim, CLAIM, 4 << 20), (Calibration, make_calibration(), 1 << 20)]
)
def test_each_kind_has_a_length_of_its_own(kind: type, record: object, longest: int) -> None:
    """Before a byte is parsed; 64 KiB hold the 64 checks that a ballot may have."""
    key = SigningKey.generate()
    assert longest == kind.MAX_BYTES
    assert open_signed(sign(record, key), kind, "x").record == record
    with pytest.raises(RecordError, match=f"expected at most {longest:,}"):
        open_signed(b" " * (longest + 1), kind, "x")
    with pytest.raises(RecordError, match="line 1"):
        open_signed(b" " * longest, kind, "x")


def test_the_longest_ballot_is_short_enough() -> None:
    checks = tuple(Check("execution", f"{i:a>64}", -2.2250738585072014e-308 * -1, 1.7976931348623157e308, 2**53 - 1) for i in range(64))
    assert len(sign(make_ballot(checks=checks), SigningKey.generate())) <= Ballot.MAX_BYTES


# Digests


@pytest.mark.parametrize(
    "change",
    [
        {"bits": ""}, {"bits": "A"}, {"bits": "AA=="}, {"bits": "AB"}, {"bits": "A A"}, {"bits": "é"}, {"bits": 5}, {"bits": None},
        {"bits": "+/AA"}, {"version": 0}, {"version": True}, {"version": 1.5}, {"version": "1"}, {"scheme": ""}, {"scheme": "PHASH"},
        {"scheme": ["phash"]}, {"scheme": "../x"}, {"parameters": []}, {"parameters": None}, {"parameters": {"a": None}},
        {"parameters": {"a": [1]}}, {"parameters": {str(i): i for i in range(33)}}, {"extra": 1},
        {"bits": (2 * MAX_DIGEST_BYTES + 1) * "A"}, {"bits": 4 * (MAX_DIGEST_BYTES // 3 + 1) * "A"},
    ],
)  # fmt: skip
def test_what_is_no_digest_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(DigestError):
        Digest.from_json({**PHASH.to_json(), **change})
    with pytest.raises(RecordError):
        from_plain(Claim, {**to_plain(CLAIM), "digests": [{**PHASH.to_json(), **change}]}, "claim.json")


# Merkle trees


def rfc_root(values: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, word for word."""
    if len(values) == 1:
        return hashlib.sha256(b"\0" + values[0]).digest()
    k = 1
    while 2 * k < len(values):
        k *= 2
    return hashlib.sha256(b"\1" + rfc_root(values[:k]) + rfc_root(values[k:])).digest()


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 8, 9, 31, 33, 64, 65, 200])
def test_the_root_is_that_of_the_rfc_with_the_size_bound(n: int) -> None:
    values = [str(i).encode() for i in range(n)]
    assert merkle_root(values) == hashlib.sha256(b"\2" + n.to_bytes(8, "big") + rfc_root(values)).hexdigest()


def test_boundaries_number_and_order_of_values_count() -> None:
    rows = [[b"ab", b"c"], [b"a", b"bc"], [b"abc"], [b"c", b"ab"], [b"ab", b"c", b""], [b"", b"ab", b"c"], [b"ab", b"c", b"c"]]
    assert len({merkle_root(row) for row in rows}) == len(rows)
    with pytest.raises(RecordError, match="got none"):
        merkle_root([])


@pytest.mark.parametrize("index", [-1, 3, 10**30])
def test_there_is_no_opening_of_what_is_not_there(index: int) -> None:
    with pytest.raises(RecordError, match="there is no value"):
        open_merkle([b"a", b"b", b"c"], index)


def test_an_inner_node_is_no_leaf() -> None:
    values = [b"a", b"b", b"c", b"d"]
    leaves = [hashlib.sha256(b"\0" + value).digest() for value in values]
    right = hashlib.sha256(b"\1" + leaves[2] + leaves[3]).hexdigest()
    with pytest.raises(RecordError, match="doesn't lie under"):
        check_opening(merkle_root(values), b"\1" + leaves[0] + leaves[1], Opening(0, 2, (right,)))
    with pytest.raises(RecordError, match="doesn't lie under"):
        check_opening(merkle_root(values), leaves[0] + leaves[1], Opening(0, 2, (right,)))


@pytest.mark.parametrize(
    "change",
    [
        lambda o: replace(o, index=-1), lambda o: replace(o, index=5), lambda o: replace(o, size=0), lambda o: replace(o, size=-5),
        lambda o: replace(o, size=1 << 60, index=2), lambda o: replace(o, path=()), lambda o: replace(o, path=o.path[:-1]),
        lambda o: replace(o, path=(*o.path, 64 * "0")), lambda o: replace(o, path=(*o.path, o.path[-1])),
        lambda o: replace(o, path=o.path[::-1]), lambda o: replace(o, path=("xyz", *o.path[1:])),
        lambda o: replace(o, path=("", *o.path[1:])), lambda o: replace(o, path=(o.path[0][:-2], *o.path[1:])),
        lambda o: replace(o, path=100_000 * (64 * "0",)),
    ],
)  # fmt: skip
def test_malformed_openings_are_refused(change) -> None:
    values = [bytes([i]) for i in range(5)]
    opening = open_merkle(values, 2)
    check_opening(merkle_root(values), values[2], opening)
    with pytest.raises(RecordError):
        check_opening(merkle_root(values), values[2], change(opening))


@pytest.mark.parametrize("change", [str.upper, lambda node: f" {node}", lambda node: f"{node[:2]} {node[2:]}", lambda node: f"{node}\n"])
def test_an_opening_has_one_form(change) -> None:
    values = [bytes([i]) * 9 for i in range(5)]
    opening = open_merkle(values, 2)
    with pytest.raises(RecordError):
        check_opening(merkle_root(values), values[2], replace(opening, path=tuple(map(change, opening.path))))
