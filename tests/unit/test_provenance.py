"""Keys in files, and signatures that say what was changed."""

from __future__ import annotations

import base64
import copy
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa, x25519

from studbook.errors import ConfigError, KeyFileError, RecordError, SchemaVersionError, SignatureError, StorageError
from studbook.provenance import PublicKey, SigningKey, open_signed, payload_schema, read_signed, sign
from studbook.records import (
    Ballot,
    Calibration,
    Check,
    Claim,
    Digest,
    Environment,
    Evidence,
    Feature,
    Level,
    Opened,
    Outcome,
    Rate,
    Receipt,
    Recipe,
    Spread,
    Tally,
    TextSampling,
    Verdict,
    canonical_bytes,
    open_merkle,
)

SHA = "sha256:" + 64 * "a"
KEY, OTHER = SigningKey.generate(), SigningKey.generate()
SPREAD = Spread("own", "tokens", (0.0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.5))
GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493


def pem(secret: Any, form: serialization.PrivateFormat = serialization.PrivateFormat.PKCS8, password: bytes | None = None) -> bytes:
    lock = serialization.NoEncryption() if password is None else serialization.BestAvailableEncryption(password)
    return secret.private_bytes(serialization.Encoding.PEM, form, lock)


def write_key(path: Path, data: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(data)
    path.chmod(mode)
    return path


# Keys in files


def test_a_saved_key_is_its_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        KEY.save(tmp_path / "new" / "key.pem")
    finally:
        os.umask(before)
    path = tmp_path / "new" / "key.pem"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert SigningKey.load(path).public == KEY.public
    assert [each.name for each in path.parent.iterdir()] == ["key.pem"]


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    KEY.save(path)
    before = path.read_bytes()
    with pytest.raises(KeyFileError, match="is there already"):
        OTHER.save(path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["key.pem"]


def test_a_key_is_not_written_through_a_link_or_onto_a_folder(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "folder").mkdir()
    for name in ("link", "folder"):
        with pytest.raises(KeyFileError, match="is there already"):
            KEY.save(tmp_path / name)
    assert not (tmp_path / "elsewhere").exists()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["folder", "link"]


def test_a_key_below_a_file_cannot_be_saved(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError):
        KEY.save(tmp_path / "file" / "key.pem")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o666, 0o777, 0o440])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = write_key(tmp_path / "key.pem", b"", mode)
    with pytest.raises(KeyFileError, match=f"mode {mode:o}.*chmod 600"):
        SigningKey.load(path)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_key_of_its_owner_alone_is_read(tmp_path: Path, mode: int) -> None:
    KEY.save(tmp_path / "key.pem")
    (tmp_path / "key.pem").chmod(mode)
    assert SigningKey.load(tmp_path / "key.pem").public == KEY.public


RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "no private key"),
        (b"not a key", "no private key"),
        (bytes(range(256)), "no private key"),
        (pem(KEY._secret)[:-30], "no private key"),
        (pem(KEY._secret)[:60], "no private key"),
        (pem(KEY._secret).replace(b"M", b"N", 1), "no private key"),
        (pem(KEY._secret, password=b"secret"), "no private key"),
        (pem(KEY._secret).replace(b"PRIVATE", b"PUBLIC"), "no private key"),
        (pem(ed25519.Ed25519PrivateKey.generate(), serialization.PrivateFormat.OpenSSH)[:90], "no private key"),
        ((1 << 20) * b"A", "no private key"),
        (pem(RSA), "another kind"),
        (pem(RSA, serialization.PrivateFormat.TraditionalOpenSSL), "another kind"),
        (pem(ec.generate_private_key(ec.SECP256R1())), "another kind"),
        (pem(ed448.Ed448PrivateKey.generate()), "another kind"),
        (pem(x25519.X25519PrivateKey.generate()), "another kind"),
    ],
    ids=lambda _: "text",  # keys are new in every run
)
def test_what_is_no_ed25519_key_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(KeyFileError, match=message):
        SigningKey.load(write_key(tmp_path / "key.pem", data))


def test_a_public_key_is_no_private_one(tmp_path: Path) -> None:
    public = KEY._secret.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(KeyFileError, match="no private key"):
        SigningKey.load(write_key(tmp_path / "key.pem", public))


@pytest.mark.parametrize(
    "name",
    [
        "missing.pem",
        ".",
        "key.pem/below",
        300 * "a",
        "a\0b",
    ],
)
def test_a_key_that_is_not_there_is_an_error_of_ours(tmp_path: Path, name: str) -> None:
    write_key(tmp_path / "key.pem", pem(KEY._secret))
    with pytest.raises(KeyFileError, match="can't be read"):
        SigningKey.load(tmp_path / name)


def test_the_secret_is_in_no_message(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    KEY.save(path)
    secret = KEY._secret.private_bytes_raw()
    body = path.read_text().splitlines()[1]
    path.write_text(path.read_text().replace("-----END", "----END"))
    with pytest.raises(KeyFileError) as caught:
        SigningKey.load(path)
    for shown in (repr(KEY), str(KEY), repr(caught.value)):
        assert not any(text in shown for text in (body, secret.hex(), base64.b64encode(secret).decode()))


def test_known_signature() -> None:
    """RFC 8032, section 7.1, test 2."""
    secret = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    key = SigningKey(ed25519.Ed25519PrivateKey.from_private_bytes(secret))
    assert str(key.public) == "ed25519:PUAXw-hDiVqStwqnTRt-vJyYLM8uxJaMwM1V8Sr0Zgw"
    assert key.sign(b"\x72").hex() == (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    assert key.public.check(b"\x72", key.sign(b"\x72")) is None


@pytest.mark.parametrize(
    "text",
    [
        "", "ed25519:", "ed25519:" + 43 * "é", str(KEY.public)[:-1], str(KEY.public) + "A", str(KEY.public) + "=", str(KEY.public) + "\n",
        str(KEY.public).upper(), str(KEY.public).replace("ed25519", "rsa"), " " + str(KEY.public), "ed25519:" + 42 * "A" + "B", None, 5,
        b"ed25519:" + 43 * b"A", ["ed25519:" + 43 * "A"],
    ],
    ids=lambda _: "text",  # keys are new in every run
)  # fmt: skip
def test_what_is_no_public_key_is_refused(text) -> None:
    with pytest.raises(SignatureError, match="is no public key"):
        PublicKey(text)


def test_signatures_of_others_and_on_others_are_refused() -> None:
    signature = KEY.sign(b"claim")
    assert KEY.public.check(b"claim", signature) is None
    for key, data, each in (
        (OTHER.public, b"claim", signature), (KEY.public, b"claims", signature), (KEY.public, b"", signature),
        (KEY.public, b"claim", signature[:-1]), (KEY.public, b"claim", signature + b"\0"), (KEY.public, b"claim", b""),
        (KEY.public, b"claim", bytes(64)),
    ):  # fmt: skip
        with pytest.raises(SignatureError, match="isn't"):
            key.check(data, each)


def test_a_signature_has_one_form() -> None:
    """S and S + L are the same scalar; RFC 8032 takes only the smaller."""
    signature = KEY.sign(b"claim")
    larger = int.from_bytes(signature[32:], "little") + GROUP_ORDER
    with pytest.raises(SignatureError):
        KEY.public.check(b"claim", signature[:32] + larger.to_bytes(32, "little"))


SMALL_ORDER = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    # The same points with the other sign, and in encodings that aren't reduced.
    "0100000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
]


@pytest.mark.parametrize("point", SMALL_ORDER)
def test_a_key_under_which_everybody_can_sign_is_refused(point: str) -> None:
    """Of a point of small order, (R, S) = (the neutral point, 0) is a signature on one message in eight, or on all of them."""
    text = "ed25519:" + base64.urlsafe_b64encode(bytes.fromhex(point)).decode().rstrip("=")
    neutral = bytes.fromhex(SMALL_ORDER[0]) + bytes(32)
    forged = 0
    for i in range(200):
        try:
            PublicKey(text).check(b"%d" % i, neutral)
            forged += 1
        except SignatureError:
            pass
    assert forged == 0
    with pytest.raises(SignatureError, match="everybody can sign"):
        PublicKey(text)


# Signed records


def make_records() -> dict[str, Any]:
    recipe = Recipe(model=SHA, request="Once", sampling=TextSampling(max_new=8), seed=7, code="studbook 1", environment=Environment())
    phash = Digest("phash", 1, (("size", 8),), bytes(8))
    claim = Claim(
        recipe=recipe, tokens=(5, 6, 7), digests=(Digest("tokens", 1, (), bytes(range(32))), phash), commitment=64 * "0", nonce=32 * "1",
        made="2026-01-31T12:00:00Z",
    )  # fmt: skip
    checks = (Check("execution", "tokens", 0.25, 0.5, 64), Check("identity", "activations", 0.0, 0.1, 64))
    ballot = Ballot(
        claim=SHA, claimant=str(KEY.public), task=SHA, round=32 * "2", electorate="", calibration=SHA, checks=checks
    )  # fmt: skip
    values = [b"a", b"b", b"c"]
    opened = tuple(Opened.of(values[i], open_merkle(values, i)) for i in (0, 2))
    evidence = Evidence(claim=SHA, nonce=32 * "3", projections=phash, opened=opened)
    level = Level(8, 2.0, (Feature("execution", "tokens", 0.0, 0.1),), (Rate("own", 0, 300, 0.0, 0.01),), (), (SPREAD,))
    calibration = Calibration(
        kind="text", model=SHA, false_alarm=0.01, confidence=0.95, sampling=TextSampling(max_new=8), units=300, scale_units=75,
        requests=SHA,
        verifier=Environment(), environments=(Environment(), Environment(dtype="bf16")), levels=(level,), sequential=(), radii=(), seed=0,
        code="studbook 1", made="2026-01-31T12:00:00Z",
    )  # fmt: skip
    verdict = Verdict(
        outcome=Outcome.INCONCLUSIVE, claim=SHA, round=32 * "2", k=2, n=2, accepts=1, rejects=1, missing=0,
        findings=(Tally("execution", 1, 1, 0, ("tokens",)),),
    )  # fmt: skip
    receipt = Receipt(
        claim="{}", ballots=("{}", "[]"), voters=("a", "b"), round=32 * "2", k=2, verdict=verdict, notes=("late",),
        made="2026-01-31T12:00:00Z",
    )  # fmt: skip
    return {"claim": claim, "ballot": ballot, "evidence": evidence, "calibration": calibration, "verdict": verdict, "receipt": receipt}


RECORDS = make_records()


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        yield path
    else:
        for name, each in items:
            yield from leaves(each, (*path, name))


def altered(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return value[:-1] + ("0" if value[-1:] != "0" else "1")
    return "x"


def envelope_of(name: str) -> dict[str, Any]:
    return json.loads(sign(RECORDS[name], KEY))


def with_leaf(envelope: dict[str, Any], path: tuple[Any, ...]) -> bytes:
    changed = copy.deepcopy(envelope)
    place = changed
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = altered(place[path[-1]])
    return canonical_bytes(changed)


PAYLOAD_LEAVES = [(name, path) for name in RECORDS for path in leaves(envelope_of(name)["payload"])]


@pytest.mark.parametrize("name, path", PAYLOAD_LEAVES, ids=[f"{name}-{'.'.join(map(str, path))}" for name, path in PAYLOAD_LEAVES])
def test_every_changed_leaf_is_found_and_named(name: str, path: tuple[Any, ...]) -> None:
    data = with_leaf(envelope_of(name), ("payload", *path))
    with pytest.raises(SignatureError, match="was changed after it was signed: ") as caught:
        open_signed(data, type(RECORDS[name]), "the record")
    part = caught.value.message.split(": ", 1)[1]
    full = ".".join(map(str, path))
    assert part == full or full.startswith(f"{part}."), f"{full} was changed, {part} was named"


@pytest.mark.parametrize("name", RECORDS)
def test_every_changed_leaf_beside_the_record_is_found(name: str) -> None:
    envelope = envelope_of(name)
    beside = list(leaves({key: each for key, each in envelope.items() if key != "payload"}))
    assert len(beside) > 5
    for path in beside:
        with pytest.raises((SignatureError, RecordError)):
            open_signed(with_leaf(envelope, path), type(RECORDS[name]), "the record")


@pytest.mark.parametrize("name", RECORDS)
def test_removed_and_added_parts_are_found(name: str) -> None:
    envelope = envelope_of(name)
    for key in envelope["payload"]:
        changed = copy.deepcopy(envelope)
        del changed["payload"][key]
        with pytest.raises(SignatureError, match="was changed after"):
            open_signed(canonical_bytes(changed), type(RECORDS[name]), "the record")
        added = copy.deepcopy(envelope)
        added["payload"][f"{key}.x"] = 1
        with pytest.raises(SignatureError, match=f"was changed after it was signed: {key}.x"):
            open_signed(canonical_bytes(added), type(RECORDS[name]), "the record")
    for key in envelope["sums"]:
        changed = copy.deepcopy(envelope)
        del changed["sums"][key]
        with pytest.raises(SignatureError, match="on these bytes"):
            open_signed(canonical_bytes(changed), type(RECORDS[name]), "the record")


def test_a_table_with_dots_in_its_keys_hides_nothing() -> None:
    """A part's name can be said in two ways, {"recipe": {"seed": …}} and {"recipe.seed": …}: the second must not stand in for the first."""
    envelope = envelope_of("claim")
    envelope["payload"]["recipe.seed"] = envelope["payload"]["recipe"]["seed"]
    envelope["payload"]["recipe"]["seed"] = 8
    with pytest.raises((SignatureError, RecordError)):
        open_signed(canonical_bytes(envelope), Claim, "claim.json")
    swapped = envelope_of("evidence")
    swapped["payload"]["projections"]["parameters.size"] = swapped["payload"]["projections"]["parameters"]["size"]
    swapped["payload"]["projections"]["parameters"]["size"] = 9
    with pytest.raises((SignatureError, RecordError)):
        open_signed(canonical_bytes(swapped), Evidence, "evidence.json")


def test_parts_in_another_order_are_found() -> None:
    for name, part in (("claim", "tokens"), ("claim", "digests"), ("ballot", "checks"), ("evidence", "opened"), ("receipt", "ballots")):
        envelope = envelope_of(name)
        envelope["payload"][part].reverse()
        with pytest.raises(SignatureError, match=f"was changed after it was signed: {part}"):
            open_signed(canonical_bytes(envelope), type(RECORDS[name]), "the record")


def test_parts_that_were_cut_off_or_repeated_are_found() -> None:
    for name, part in (("claim", "tokens"), ("claim", "digests"), ("ballot", "checks"), ("evidence", "opened"), ("receipt", "ballots")):
        for change in (lambda found: found[:-1], lambda found: [*found, found[-1]], lambda found: []):
            envelope = envelope_of(name)
            envelope["payload"][part] = change(envelope["payload"][part])
            with pytest.raises(SignatureError, match=f"was changed after it was signed: {part}"):
                open_signed(canonical_bytes(envelope), type(RECORDS[name]), "the record")


def test_a_long_list_of_changes_is_cut() -> None:
    envelope = envelope_of("claim")
    other = json.loads(sign(replace(RECORDS["claim"], tokens=(1,), commitment=64 * "1", nonce=32 * "2", made="2026-01-31T12:00:01Z"), KEY))
    envelope["payload"] = other["payload"]
    with pytest.raises(SignatureError, match="commitment, made, nonce and 1 more"):
        open_signed(canonical_bytes(envelope), Claim, "claim.json")


def test_only_trusted_keys_count() -> None:
    data = sign(RECORDS["claim"], KEY)
    assert open_signed(data, Claim, "claim.json", keys={KEY.public, OTHER.public}).key == KEY.public
    for keys in ((), {OTHER.public}):
        with pytest.raises(SignatureError, match="isn't trusted here"):
            open_signed(data, Claim, "claim.json", keys=keys)


def test_another_name_under_the_same_record_is_found() -> None:
    envelope = envelope_of("claim")
    envelope["key"] = str(OTHER.public)
    with pytest.raises(SignatureError, match="on these bytes"):
        open_signed(canonical_bytes(envelope), Claim, "claim.json")
    envelope["signature"] = json.loads(sign(RECORDS["claim"], OTHER))["signature"]
    assert open_signed(canonical_bytes(envelope), Claim, "claim.json").key == OTHER.public
    with pytest.raises(SignatureError, match="isn't trusted"):
        open_signed(canonical_bytes(envelope), Claim, "claim.json", keys={KEY.public})


def test_a_signature_on_the_record_alone_is_none() -> None:
    """What is signed names the envelope's schema and the key: a signature for another purpose isn't one."""
    envelope = envelope_of("claim")
    for data in (canonical_bytes(envelope["payload"]), canonical_bytes(envelope["sums"]), canonical_bytes({**envelope, "signature": ""})):
        changed = {**envelope, "signature": base64.urlsafe_b64encode(KEY.sign(data)).decode().rstrip("=")}
        with pytest.raises(SignatureError, match="on these bytes"):
            open_signed(canonical_bytes(changed), Claim, "claim.json")


def test_no_kind_of_record_is_opened_as_another() -> None:
    for record in RECORDS.values():
        data = sign(record, KEY)
        assert payload_schema(data, "x") == record.SCHEMA
        for other in RECORDS.values():
            if other is record:
                assert open_signed(data, type(record), "x").record == record
            else:
                with pytest.raises(RecordError, match="another kind"):
                    open_signed(data, type(other), "x")


@pytest.mark.parametrize(
    "changes, error",
    [
        ({"schema": "studbook.signed/2"}, SchemaVersionError), ({"schema": "studbook.signed/0"}, RecordError),
        ({"schema": None}, RecordError), ({"payload": None}, RecordError), ({"payload": []}, RecordError), ({"sums": []}, RecordError),
        ({"sums": {}}, SignatureError), ({"sums": {"a": 1}}, RecordError), ({"key": None}, SignatureError), ({"key": ""}, SignatureError),
        ({"key": ["x"]}, SignatureError), ({"signature": ""}, SignatureError), ({"signature": None}, SignatureError),
        ({"signature": 5}, SignatureError), ({"signature": []}, SignatureError), ({"signature": 86 * "é"}, SignatureError),
        ({"signature": 88 * "A"}, SignatureError), ({"signature": 85 * "A" + "B"}, SignatureError), ({"extra": 1}, RecordError),
    ],
)  # fmt: skip
def test_malformed_envelopes_are_refused(changes: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        open_signed(canonical_bytes({**envelope_of("claim"), **changes}), Claim, "claim.json")
    for key in envelope_of("claim"):
        lacking = {name: each for name, each in envelope_of("claim").items() if name != key}
        with pytest.raises(RecordError):
            open_signed(canonical_bytes(lacking), Claim, "claim.json")


def test_a_record_of_the_future_is_told_apart_from_a_broken_one() -> None:
    """Signed by its own key, so that nothing is wrong with it but its version."""

    class Later:
        SCHEMA = "studbook.claim/2"

    envelope = envelope_of("claim")
    envelope["payload"]["schema"] = Later.SCHEMA
    from studbook.provenance.signed import _signed_bytes, _sums

    sums = dict(_sums(envelope["payload"]))
    signature = base64.urlsafe_b64encode(KEY.sign(_signed_bytes(sums, KEY.public))).decode().rstrip("=")
    data = canonical_bytes({**envelope, "sums": sums, "signature": signature})
    with pytest.raises(SchemaVersionError, match="version 2; this studbook reads up to 1"):
        open_signed(data, Claim, "claim.json")


def test_a_record_that_is_signed_but_empty_is_refused() -> None:
    """Whoever signs may sign anything: a good signature makes no claim of what is none."""
    from studbook.provenance.signed import _signed_bytes, _sums

    for changes in ({"digests": []}, {"tokens": []}, {"digests": [], "tokens": []}, {"nonce": ""}, {"recipe": {}}):
        payload = {**envelope_of("claim")["payload"], **changes}
        sums = dict(_sums(payload))
        signature = base64.urlsafe_b64encode(KEY.sign(_signed_bytes(sums, KEY.public))).decode().rstrip("=")
        envelope = {**envelope_of("claim"), "payload": payload, "sums": sums, "signature": signature}
        with pytest.raises(RecordError):
            open_signed(canonical_bytes(envelope), Claim, "claim.json", keys={KEY.public})


def test_sizes_are_bounded_before_anything_is_read() -> None:
    data = sign(RECORDS["claim"], KEY)
    assert open_signed(data, Claim, "claim.json", max_bytes=len(data)).record == RECORDS["claim"]
    with pytest.raises(RecordError, match=f"expected at most {len(data) - 1:,}"):
        open_signed(data, Claim, "claim.json", max_bytes=len(data) - 1)
    for read in (lambda big: open_signed(big, Claim, "claim.json"), lambda big: payload_schema(big, "claim.json")):
        with pytest.raises(RecordError, match="bytes, expected at most"):
            read(b"[" * ((8 << 20) + 1))


def test_a_signed_file_is_read_by_one_reader(tmp_path: Path) -> None:
    """Absent, a folder, a pipe, a device, impossible, too long, of another kind, of somebody else: each is an error of ours by its kind."""
    record, file = RECORDS["ballot"], tmp_path / "ballot.json"
    file.write_bytes(sign(record, KEY))
    assert read_signed(file, Ballot, keys={KEY.public}).record == record
    os.mkfifo(tmp_path / "pipe.json")
    for path in (tmp_path / "absent.json", tmp_path, tmp_path / "pipe.json", Path("/dev/zero"), Path("a\0b")):
        with pytest.raises(ConfigError, match=r"can't be read.*make one"):
            read_signed(path, Ballot, hint="make one")
    with pytest.raises(RecordError, match="expected"):
        read_signed(file, Claim)
    with pytest.raises(SignatureError, match="isn't trusted"):
        read_signed(file, Ballot, keys={OTHER.public})
    file.write_bytes(b" " * (Ballot.MAX_BYTES + 1))
    with pytest.raises(RecordError, match="has more than 65,536 bytes"):
        read_signed(file, Ballot)


def test_temporary_files_of_keys_are_not_left_behind_where_the_disk_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operating system's refusal, in place of a full disk."""

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StorageError):
        KEY.save(tmp_path / "key.pem")
    assert list(tmp_path.iterdir()) == []
