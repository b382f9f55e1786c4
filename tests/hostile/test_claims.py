"""Attacks on claims and everything around them: nothing is accepted, nothing crashes."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import subprocess
import sys
import zipfile
import zlib
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from studbook.errors import BallotError, DataError, RecordError, SchemaVersionError, SignatureError, StudbookError
from studbook.fingerprints import create
from studbook.provenance import open_signed, payload_schema, sign
from studbook.records import (
    Ballot,
    Calibration,
    Claim,
    Evidence,
    Opened,
    Opening,
    Outcome,
    Receipt,
    canonical_bytes,
    from_bytes,
    to_bytes,
    to_plain,
)
from studbook.theory import upper_bound
from studbook.verification.quorum import Quorum, check_receipt

FILE = Path(__file__).with_name("attack_table.py")


def load_table() -> ModuleType:
    name = "attack_table"
    spec = importlib.util.spec_from_file_location(name, FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


table = load_table()
TARGETS = {target.kind: target for target in table.make_targets()}
KINDS = (Claim, Evidence, Ballot, Receipt, Calibration)


# The table


def test_what_is_attacked_is_accepted_when_it_is_left_alone() -> None:
    """Else refusing everything would pass."""
    for target in table.make_targets():
        assert target.open(target.data) is not None
    assert len(TARGETS) == 6 and len(table.ATTACKS) > 20


@pytest.mark.parametrize("name", table.ATTACKS)
def test_no_attack_is_accepted_and_none_crashes(name: str) -> None:
    """480 attempts a class, 10,080 in all, over six kinds of records."""
    row = table.run_attack(name, 480)
    assert (row.accepted, row.crashed) == (0, {})
    assert row.detected[0] > 0.99 and row.detected[1] == 1.0


def test_ten_thousand_mutations_of_claims_alone() -> None:
    """All classes in turn, of claims only. No acceptance in 10,000 bounds the rate by 3e-4 (95 %)."""
    rng = np.random.default_rng(2026)
    claims = [TARGETS["claim of a text"], TARGETS["claim of a picture"]]
    attacks, n, accepted = list(table.ATTACKS.values()), 0, 0
    while n < 10_000:
        target = claims[n % 2]
        data = attacks[n % len(attacks)](target, rng)
        if data == target.data:
            data = table.flip(target, rng)
        n += 1
        try:
            target.open(data)
            accepted += 1
        except StudbookError as error:
            assert str(error) and len(str(error)) < 2000
    assert accepted == 0 and upper_bound(accepted, n, 0.95) < 3.1e-4


@pytest.mark.slow
def test_a_hundred_thousand_attacks() -> None:
    rows = [table.run_attack(name, 5000, seed=1) for name in table.ATTACKS]
    assert [(row.attack, row.accepted, row.crashed) for row in rows if row.accepted or row.crashed] == []


def test_the_same_seed_gives_the_same_attacks() -> None:
    target = table.make_targets()[0]
    for attack in table.ATTACKS.values():
        assert attack(target, np.random.default_rng(5)) == attack(target, np.random.default_rng(5))


def test_the_table_is_printed_as_markdown() -> None:
    found = subprocess.run(
        [sys.executable, str(FILE), "12"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ).stdout.splitlines()
    assert found[0] == "| attack | attempts | accepted | crashes | refused (95 %) |"
    assert len(found) == len(table.ATTACKS) + 3
    assert all(line.count("|") == 6 for line in found)
    assert found[-1].startswith(f"| **all** | {12 * len(table.ATTACKS):,} | 0 | 0 |")


def test_the_table_counts_what_is_accepted_and_what_crashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that can't show a failure shows nothing: readers that are broken on purpose."""
    target = table.make_targets()[0]

    def crash(_: bytes) -> object:
        raise ZeroDivisionError

    monkeypatch.setattr(table, "make_targets", lambda: (replace(target, open=len), replace(target, open=crash)))
    row = table.run_attack("cut off", 10)
    assert (row.trials, row.accepted, row.crashed) == (10, 5, {"ZeroDivisionError": 5})
    assert row.detected[0] == 0.0


# Sizes


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    "data",
    [
        b" " * (8 << 20) + b"{}", b"[" * (8 << 20), b'{"a":' * (1 << 20), b"[[],[" * (1 << 20), b'"' + b"a" * (8 << 20), b"1" * (8 << 20),
        b"\xff" * (8 << 20), b"",
    ],
    ids=["spaces", "brackets", "tables", "brackets in lists", "a text", "a number", "no text", "nothing"],
)  # fmt: skip
def test_oversized_and_endless_records_are_refused(kind: type, data: bytes) -> None:
    for read in (lambda: open_signed(data, kind, "x"), lambda: from_bytes(kind, data, "x"), lambda: payload_schema(data, "x")):
        with pytest.raises(RecordError) as caught:
            read()
        assert len(str(caught.value)) < 500


def test_a_record_full_of_small_parts_is_refused() -> None:
    """Hundreds of thousands of parts within the limit of size."""
    with pytest.raises(RecordError):
        open_signed(b"[" + b"[]," * 300_000 + b"[]]", Claim, "x")
    target = TARGETS["claim of a text"]
    envelope = json.loads(target.data)
    for part in ("payload", "sums"):
        crowd = {f"k{i}": "" for i in range(150_000)}
        with pytest.raises((RecordError, SignatureError)) as caught:
            target.open(canonical_bytes({**envelope, part: {**envelope[part], **crowd}}))
        assert len(str(caught.value)) < 500
    with pytest.raises((RecordError, SignatureError)):
        target.open(canonical_bytes({**envelope, **{f"k{i}": "" for i in range(50_000)}}))


@pytest.mark.parametrize("n", [131_073, 300_000])
def test_a_claim_of_more_tokens_than_any_model_writes_is_refused(n: int) -> None:
    claim = to_plain(table.text_claim())
    claim["tokens"] = n * [1]
    claim["recipe"]["sampling"]["max_new"] = n
    with pytest.raises(RecordError):
        open_signed(table.resigned(claim, table.CLAIMANT), Claim, "x", keys={table.CLAIMANT.public})


def test_a_value_of_evidence_is_bounded() -> None:
    with pytest.raises(RecordError, match="expected at most"):
        _ = Opened(((8 << 20) + 4) * "A", Opening(0, 1, ())).value


# What isn't JSON at all: bombs, archives, pictures


def bombs() -> dict[str, bytes]:
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("claim.json", b"0" * (64 << 20))
    rows = zlib.compress(b"\0" * (64 << 20), 9)
    header = (30_000).to_bytes(4, "big") + (30_000).to_bytes(4, "big") + b"\x08\x00\x00\x00\x00"

    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    svg = b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]><svg>&b;</svg>'
    return {
        "gzip": gzip.compress(b"[" * (64 << 20), 9), "zip": packed.getvalue(), "png": png, "png cut off": png[:100], "svg": svg,
        "pickle": b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00.", "safetensors": (1 << 62).to_bytes(8, "little") + b"{}",
        "utf-16": '{"schema":"studbook.signed/1"}'.encode("utf-16"), "utf-32": "{}".encode("utf-32"), "yaml": b"a: &a [*a, *a]",
    }  # fmt: skip


@pytest.mark.parametrize("name", bombs())
def test_whatever_is_packed_is_not_unpacked(name: str) -> None:
    """Claims ship no encoded pictures, and nothing here decompresses: a bomb is a few kilobytes that aren't JSON."""
    data = bombs()[name]
    for kind in KINDS:
        with pytest.raises(RecordError, match="isn't"):
            open_signed(data, kind, "x")
    opened = Opened.of(data, Opening(0, 1, ()))
    assert opened.value == data


@pytest.mark.parametrize("data", [*bombs().values(), b"", b"{}", (8).to_bytes(8, "little") + b'{"a":{}}'], ids=lambda _: "data")
def test_stored_states_that_are_bombs_are_refused(data: bytes, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the extra 'neural'")
    from studbook.verification.claimant import load_states

    (tmp_path / "states").write_bytes(data)
    with pytest.raises(RecordError, match="doesn't hold a claim's states"):
        load_states(tmp_path / "states")


@pytest.mark.parametrize("dtype, shape", [("F32", [1 << 40]), ("F32", [-1]), ("F32", [1 << 62, 1 << 62]), ("F99", [1]), ("F32", "x")])
def test_stored_states_whose_header_lies_are_refused(dtype: str, shape: object, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the extra 'neural'")
    from studbook.verification.claimant import load_states

    header = json.dumps({"states": {"dtype": dtype, "shape": shape, "data_offsets": [0, 4]}}).encode()
    (tmp_path / "states").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(RecordError, match="doesn't hold a claim's states"):
        load_states(tmp_path / "states")


@pytest.mark.parametrize("scheme", ["phash", "pdq", "dhash", "whash", "ahash", "colorhash"])
@pytest.mark.parametrize("shape", [(1 << 14, 1 << 13), (1, (1 << 16) + 1), ((1 << 16) + 1, 1, 3), (1 << 30, 1 << 30), (0, 8), (8, 8, 4)])
def test_pictures_of_impossible_size_are_refused(scheme: str, shape: tuple[int, ...]) -> None:
    """No path decodes a picture from outside; what fingerprints get as arrays is bounded instead. These take no memory."""
    with pytest.raises(DataError):
        create(scheme).digest(np.broadcast_to(np.uint8(0), shape))


# Vacuous claims


def test_empty_claims_are_never_accepted() -> None:
    for kind in ("claim of a text", "claim of a picture"):
        target = TARGETS[kind]
        payload = json.loads(target.data)["payload"]
        for changes in (
            {"digests": []}, {"digests": [], "tokens": []}, {"tokens": [1] if kind.endswith("picture") else []}, {"commitment": ""},
            {"nonce": ""}, {"digests": [{}]}, {"digests": [None]}, {"recipe": {}}, {"recipe": None},
            {"digests": [{**payload["digests"][0], "bits": ""}]}, {"digests": 2 * payload["digests"][:1]},
        ):  # fmt: skip
            with pytest.raises(RecordError):
                target.open(table.resigned({**payload, **changes}, target.key))


def test_empty_ballots_and_empty_rounds_accept_nothing() -> None:
    claim = table.signed_claim()
    verdict = table.QUORUM.judge(claim, [], round_=table.ROUND)
    assert (verdict.outcome, verdict.missing) == (Outcome.INCONCLUSIVE, 3)
    payload = to_plain(table.make_ballot())
    for checks in ([], payload["checks"][1:], [None], [{}], "all", None, [{**payload["checks"][0], "n": 0}]):
        with pytest.raises(BallotError):
            table.QUORUM.judge(claim, [table.resigned({**payload, "checks": checks}, table.VOTERS[0])], round_=table.ROUND)


def test_a_check_cannot_be_made_to_pass_by_its_type() -> None:
    payload = to_plain(table.make_ballot(accept=False))
    for value in ("0", None, False, True, [], {}, -1, -0.5):
        checks = [{**payload["checks"][0], "value": value}, *payload["checks"][1:]]
        with pytest.raises(BallotError):
            table.QUORUM.open_ballot(
                table.signed_claim(), table.resigned({**payload, "checks": checks}, table.VOTERS[0]), round_=table.ROUND
            )
    for limit in ("9", None, True, 10**400):
        checks = [{**payload["checks"][0], "limit": limit}, *payload["checks"][1:]]
        with pytest.raises((BallotError, RecordError)):
            table.QUORUM.open_ballot(
                table.signed_claim(), table.resigned({**payload, "checks": checks}, table.VOTERS[0]), round_=table.ROUND
            )


# Names that point elsewhere


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "file:///etc/passwd", "sha256:../../x", "C:\\x", "sha256:" + 63 * "0" + "/"]
)
def test_nothing_in_a_claim_says_where_to_look(name: str) -> None:
    payload = json.loads(TARGETS["claim of a text"].data)["payload"]
    payload["recipe"]["model"] = name
    with pytest.raises(RecordError, match=r"recipe\.model|sha256"):
        TARGETS["claim of a text"].open(table.resigned(payload, table.CLAIMANT))
    with pytest.raises(StudbookError):
        replace(table.text_claim().digests[0], scheme=name)


def test_messages_show_no_control_characters() -> None:
    """Terminal escapes of an attacker don't reach the reader's terminal."""
    payload = json.loads(TARGETS["claim of a text"].data)["payload"]
    evil = "\x1b[2J\x1b]0;owned\x07\r\n"
    for change in (
        {"schema": evil}, {"made": evil}, {"nonce": evil}, {evil: 1}, {"recipe": {**payload["recipe"], "model": evil}},
        {"recipe": {**payload["recipe"], evil: 1}},
    ):  # fmt: skip
        with pytest.raises(StudbookError) as caught:
            TARGETS["claim of a text"].open(table.resigned({**payload, **change}, table.CLAIMANT))
        assert "\x1b" not in str(caught.value) and "\r" not in str(caught.value)


# Replays, versions, kinds


def test_replayed_records_are_refused() -> None:
    claim, ballot = table.signed_claim(), TARGETS["ballot"].data
    again = open_signed(sign(replace(claim.record, nonce=32 * "7"), table.CLAIMANT), Claim, "x")
    with pytest.raises(BallotError, match="for the claim "):
        table.QUORUM.judge(again, [ballot], round_=table.ROUND)
    with pytest.raises(BallotError, match="for the round"):
        table.QUORUM.judge(claim, [ballot], round_="00" * 16)
    with pytest.raises(BallotError, match="voted twice"):
        table.QUORUM.judge(claim, [ballot, ballot], round_=table.ROUND)
    theirs = open_signed(sign(claim.record, table.STRANGER), Claim, "x")
    with pytest.raises(BallotError, match="for the claimant"):
        table.QUORUM.judge(theirs, [ballot], round_=table.ROUND)
    voters = table.QUORUM.voters
    for other in (Quorum(1, voters[:1]), Quorum(2, voters[:2]), Quorum(3, voters), Quorum(3, (*voters, table.STRANGER.public))):
        with pytest.raises(BallotError, match="for the electorate"):
            other.judge(claim, [ballot], round_=table.ROUND)


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("version", [2, 3, 10, 999])
def test_records_of_the_future_say_so(kind: str, version: int) -> None:
    target = TARGETS[kind]
    payload = json.loads(target.data)["payload"]
    payload["schema"] = f"{payload['schema'].split('/')[0]}/{version}"
    with pytest.raises((SchemaVersionError, BallotError), match=f"version {version}; this studbook reads up to 1"):
        target.open(table.resigned(payload, target.key))
    envelope = {**json.loads(target.data), "schema": f"studbook.signed/{version}"}
    with pytest.raises((SchemaVersionError, BallotError), match=f"version {version}; this studbook reads up to 1"):
        target.open(canonical_bytes(envelope))


def test_one_kind_is_never_taken_for_another() -> None:
    for target in TARGETS.values():
        schema = payload_schema(target.data, "x").split("/")[0].removeprefix("studbook.")
        for kind in KINDS:
            if kind.SCHEMA.split("/")[0].removeprefix("studbook.") != schema:
                with pytest.raises(RecordError, match="another kind"):
                    open_signed(target.data, kind, "x")


def test_a_receipt_inside_a_receipt_is_refused() -> None:
    receipt = check_receipt(TARGETS["receipt"].data)[0].record
    for claim in (TARGETS["receipt"].data.decode(), "", "{}", TARGETS["ballot"].data.decode(), to_bytes(table.text_claim()).decode()):
        with pytest.raises(StudbookError):
            check_receipt(sign(replace(receipt, claim=claim), table.COORDINATOR))
    with pytest.raises(StudbookError):
        check_receipt(sign(replace(receipt, claim="\ud800"), table.COORDINATOR))


def test_base64_has_one_form_everywhere() -> None:
    """Padding, other alphabets, white space and unused bits that are set."""
    for target in TARGETS.values():
        envelope = json.loads(target.data)
        for name in ("key", "signature"):
            text = envelope[name]
            last = text[-1]
            alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
            twin = text[:-1] + alphabet[alphabet.index(last) ^ 1]
            for other in (text + "=", text + "==", text + "\n", " " + text, text.replace("-", "+").replace("_", "/") + "=", twin):
                if other != text:
                    with pytest.raises(StudbookError):
                        target.open(canonical_bytes({**envelope, name: other}))
