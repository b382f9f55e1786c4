"""Attacks on signed records, counted by class: ``python tests/hostile/attack_table.py`` prints the table of the docs (Markdown)."""

from __future__ import annotations

import base64
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from studbook.errors import StudbookError
from studbook.provenance import PublicKey, Signed, SigningKey, open_signed, sign
from studbook.provenance.signed import _signed_bytes, _sums
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
    Rate,
    Recipe,
    Sequential,
    Spread,
    TextSampling,
    canonical_bytes,
    open_merkle,
)
from studbook.theory import clopper_pearson
from studbook.verification.quorum import Quorum, check_receipt, make_receipt

CONFIDENCE = 0.95
Rng = np.random.Generator


def key_of(i: int) -> SigningKey:
    """A key that is the same in every run; none that anybody should use."""
    return SigningKey(Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32))


CLAIMANT, COORDINATOR, OPERATOR, STRANGER, *VOTERS = (key_of(i) for i in range(1, 8))
QUORUM = Quorum(2, tuple(voter.public for voter in VOTERS))
ROUND = "5a" * 16
SHA = "sha256:" + 64 * "a"


@dataclass(frozen=True, slots=True)
class Target:
    """A valid signed record, and how its reader opens it."""

    kind: str
    data: bytes
    key: SigningKey
    open: Callable[[bytes], object]


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one class of attacks.

    Attributes:
        attack: Its name.
        trials: Attacks.
        accepted: Those that were taken for the real thing.
        crashed: Exceptions that aren't studbook's own, by type.
    """

    attack: str
    trials: int
    accepted: int
    crashed: dict[str, int]

    @property
    def detected(self) -> tuple[float, float]:
        """Clopper–Pearson interval of the share that was refused with an error of studbook's."""
        return clopper_pearson(self.trials - self.accepted - sum(self.crashed.values()), self.trials, CONFIDENCE)


def text_claim() -> Claim:
    recipe = Recipe(
        model=SHA, request="Once upon a time …\n", sampling=TextSampling(max_new=64, temperature=0.8, top_k=40, top_p=0.95), seed=2**53 - 1,
        code="studbook 1", environment=Environment(dtype="bf16", batch=8),
    )  # fmt: skip
    return Claim(
        recipe=recipe, tokens=tuple(range(100, 132)), digests=(Digest("exact_tokens", 1, (), bytes(range(32))),), commitment=64 * "4",
        nonce=32 * "1", made="2026-01-31T12:00:00Z",
    )  # fmt: skip


def image_claim() -> Claim:
    recipe = replace(text_claim().recipe, request="3", sampling=ImageSampling(steps=20, eta=0.5, guidance=1.5))
    digests = tuple(Digest(scheme, 1, (("size", 8),), bytes([i]) * 8) for i, scheme in enumerate(("phash", "pdq", "dhash")))
    return replace(text_claim(), recipe=recipe, tokens=(), digests=digests)


def make_ballot(*, accept: bool = True) -> Ballot:
    claim = text_claim()
    checks = (Check("execution", "tokens", 0.25 if accept else 0.75, 0.5, 64), Check("identity", "activations", 0.013, 0.1, 64))
    return Ballot(
        claim=claim.id, claimant=str(CLAIMANT.public), task=claim.recipe.task, round=ROUND, electorate=QUORUM.electorate, calibration=SHA,
        checks=checks,
    )  # fmt: skip


@cache
def signed_claim() -> Signed[Claim]:
    """What is voted on."""
    return open_signed(sign(text_claim(), CLAIMANT), Claim, "the claim")


@cache
def make_targets() -> tuple[Target, ...]:
    """A valid signed record of each kind."""
    claim, values = text_claim(), [bytes([i]) * 40 for i in range(9)]
    evidence = Evidence(
        claim=claim.id, nonce=ROUND, projections=Digest("activations", 1, (("key", 64 * "0"), ("size", 8)), bytes(range(256))),
        opened=tuple(Opened.of(values[i], open_merkle(values, i)) for i in (2, 7)),
    )  # fmt: skip
    level = Level(
        8, 2.5, (Feature("execution", "tokens", 0.01, 0.1), Feature("identity", "activations", 0.02, 0.01)),
        (Rate("own", 1, 300, 0.001, 0.01),), (Rate("int4", 299, 300, 0.98, 1.0),),
        (Spread("own", "tokens", (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 1.0)),),
    )  # fmt: skip
    test = Sequential("int4", -4.0, -3.0, 0.8, 1.5, 0.01, Rate("wrong", 0, 60, 0.0, 0.1), Rate("missed", 1, 60, 0.0, 0.1), 12)
    calibration = Calibration(
        kind="text", model=SHA, false_alarm=0.01, confidence=0.95, sampling=claim.recipe.sampling, units=300, scale_units=75,
        requests=SHA,
        verifier=Environment(), environments=(Environment(), Environment(dtype="bf16")), levels=(level, replace(level, size=64)),
        sequential=(test,), radii=(), seed=7, code="studbook 1", made="2026-01-31T12:00:00Z",
    )  # fmt: skip
    ballots = [sign(make_ballot(accept=i < 2), voter) for i, voter in enumerate(VOTERS)]
    receipt = make_receipt(sign(claim, CLAIMANT), ballots, QUORUM, ROUND, COORDINATOR, made="2026-01-31T12:00:00Z")

    def opener(cls: type, key: SigningKey) -> Callable[[bytes], object]:
        return lambda data: open_signed(data, cls, "the record", keys={key.public})

    def open_receipt(data: bytes) -> object:
        return check_receipt(data, coordinators={COORDINATOR.public}, quorum=QUORUM)

    return (
        Target("claim of a text", sign(claim, CLAIMANT), CLAIMANT, opener(Claim, CLAIMANT)),
        Target("claim of a picture", sign(image_claim(), CLAIMANT), CLAIMANT, opener(Claim, CLAIMANT)),
        Target("evidence", sign(evidence, CLAIMANT), CLAIMANT, opener(Evidence, CLAIMANT)),
        Target("ballot", ballots[0], VOTERS[0], lambda data: QUORUM.open_ballot(signed_claim(), data, round_=ROUND)),
        Target("receipt", receipt, COORDINATOR, open_receipt),
        Target("calibration", sign(calibration, OPERATOR), OPERATOR, opener(Calibration, OPERATOR)),
    )


# Attacks on bytes


def flip(target: Target, rng: Rng) -> bytes:
    data = bytearray(target.data)
    for place in rng.integers(len(data), size=rng.integers(1, 4)):
        data[place] ^= 1 << int(rng.integers(8))
    return bytes(data)


def substitute(target: Target, rng: Rng) -> bytes:
    data = bytearray(target.data)
    data[rng.integers(len(data))] = int(rng.integers(256))
    return bytes(data)


def insert(target: Target, rng: Rng) -> bytes:
    at = int(rng.integers(len(target.data) + 1))
    new = [rng.bytes(int(rng.integers(1, 9))), b" ", b"\n", b"\0", b",", b"0", "\u200b".encode(), "\ufeff".encode(), b'"x":1,']
    return target.data[:at] + new[rng.integers(len(new))] + target.data[at:]


def delete(target: Target, rng: Rng) -> bytes:
    at, n = int(rng.integers(len(target.data))), int(rng.integers(1, 40))
    return target.data[:at] + target.data[at + n :]


def truncate(target: Target, rng: Rng) -> bytes:
    cut = int(rng.integers(len(target.data)))
    return target.data[:cut] if rng.integers(4) else target.data[cut + 1 :]


def repeat(target: Target, rng: Rng) -> bytes:
    a, b = sorted(int(x) for x in rng.integers(len(target.data) + 1, size=2))
    return (target.data[:b] + target.data[a:]) if rng.integers(3) else target.data * int(rng.integers(2, 4))


def swap_spans(target: Target, rng: Rng) -> bytes:
    a, b, c, d = sorted(int(x) for x in rng.integers(len(target.data) + 1, size=4))
    data = target.data
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


# Attacks on text

LOOKALIKES = {"a": "а", "e": "е", "o": "о", "c": "с", "0": "٠", "1": "１", "2": "２", ":": "：", '"': "＂", "-": "‐", "s": "ѕ", ".": "．"}


def lookalike(target: Target, rng: Rng) -> bytes:
    text = target.data.decode()
    places = [i for i, each in enumerate(text) if each in LOOKALIKES]
    at = places[rng.integers(len(places))]
    return (text[:at] + LOOKALIKES[text[at]] + text[at + 1 :]).encode()


def escape(target: Target, rng: Rng) -> bytes:
    """The same letter, written as an escape; or a lone half of a surrogate pair."""
    text = target.data.decode()
    places = [i for i, each in enumerate(text) if each.isalnum()]
    at = places[rng.integers(len(places))]
    new = [f"\\u{ord(text[at]):04x}", "\\ud800", "\\udc00x", "\\u0000", text[at] + "\\u0301", "\\uD83D\\uDE00"]
    return (text[:at] + new[rng.integers(len(new))] + text[at + 1 :]).encode()


ODD_NUMBERS = [
    "9007199254740992", "-9007199254740992", "1" + 40 * "0", 5000 * "9", "1e400", "-1e400", "NaN", "Infinity", "-Infinity", "-0", "0.0",
    "1E2", "1e2", "1.50", "+1", "01", "0x10", "1_000", "true", "null", '"1"', "1e-400", ".5", "5.", "2147483648", "[]", "{}",
]  # fmt: skip


def odd_number(target: Target, rng: Rng) -> bytes:
    text = target.data.decode()
    found = list(re.finditer(r"(?<=[:,\[])-?\d+(?:\.\d+)?(?:e[-+]\d+)?(?=[,}\]])", text))
    if not found:
        return insert(target, rng)
    each = found[rng.integers(len(found))]
    return (text[: each.start()] + ODD_NUMBERS[rng.integers(len(ODD_NUMBERS))] + text[each.end() :]).encode()


def nest(target: Target, rng: Rng) -> bytes:
    text, depth = target.data.decode(), int(rng.choice([1, 2, 30, 33, 1000, 100_000]))
    at = int(rng.choice([each.end() for each in re.finditer(r":", text)]))
    left, right = ("[", "]") if rng.integers(2) else ('{"a":', "}")
    return (text[:at] + depth * left + "1" + depth * right + "," + text[at:]).encode()


def double_key(target: Target, rng: Rng) -> bytes:
    text = target.data.decode()
    found = list(re.finditer(r'(?<=[{,])"[a-z_.0-9]+":(?:"[^"\\]*"|-?[\d.]+|true|false|null)(?=[,}])', text))
    each = found[rng.integers(len(found))]
    pair = each.group() if rng.integers(2) else each.group().split(":")[0] + ":1"
    return (text[: each.start()] + pair + "," + text[each.start() :]).encode()


# Attacks on JSON: canonical again, so that they reach the signature


def nodes(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    return [each for name, child in items for each in [(*path, name), *nodes(child, (*path, name))]]


def at(value: Any, path: Sequence[Any]) -> Any:
    for step in path:
        value = value[step]
    return value


ODD_VALUES = [None, True, False, 0, 1, -1, 2**53 - 1, 0.5, 1e300, "", "x", "\0", "😀", [], {}, [[]], [{}], {"": ""}, [1, 2],
              "../../etc/passwd",
              "sha256:" + 64 * "b", 64 * "0", {"schema": "studbook.claim/1"}]  # fmt: skip


def edit(target: Target, rng: Rng) -> bytes:
    envelope = json.loads(target.data)
    for _ in range(int(rng.integers(1, 3))):
        places = nodes(envelope)
        path = places[rng.integers(len(places))]
        parent, name = at(envelope, path[:-1]), path[-1]
        how = int(rng.integers(5))
        other = places[rng.integers(len(places))]
        if how == 0:
            parent[name] = ODD_VALUES[rng.integers(len(ODD_VALUES))]
        elif how == 1:
            del parent[name]
        elif how == 2:
            parent[name] = json.loads(json.dumps(at(envelope, other)))
        elif how == 3 and isinstance(parent, dict):
            parent[f"{name}{rng.integers(10)}"] = parent[name]
        elif isinstance(parent, list):
            parent.insert(int(rng.integers(len(parent) + 1)), parent[name])
        else:
            value = parent[name]
            parent[name] = value - 1 if type(value) in {int, float} else [value]
    return canonical_bytes(envelope)


def reorder(target: Target, rng: Rng) -> bytes:
    envelope = json.loads(target.data)
    lists = [path for path in nodes(envelope) if isinstance(at(envelope, path), list) and len(at(envelope, path)) > 1]
    found = at(envelope, lists[rng.integers(len(lists))])
    i, j = rng.choice(len(found), 2, replace=False)
    found[i], found[j] = found[j], found[i]
    return canonical_bytes(envelope)


def reformat(target: Target, rng: Rng) -> bytes:
    envelope = json.loads(target.data)
    ways: list[Callable[[], str]] = [
        lambda: json.dumps(envelope), lambda: json.dumps(envelope, indent=1), lambda: json.dumps(envelope, separators=(",", ":")) + "\n",
        lambda: json.dumps(dict(reversed(envelope.items())), separators=(",", ":"), ensure_ascii=False), lambda: json.dumps([envelope]),
        lambda: "\ufeff" + target.data.decode(),
    ]  # fmt: skip
    return ways[rng.integers(len(ways))]().encode("utf-16" if rng.integers(8) == 0 else "utf-8")


# Attacks on signatures


def resigned(payload: dict[str, Any], key: SigningKey) -> bytes:
    """Any payload under a good signature."""
    sums = dict(_sums(payload))
    signature = base64.urlsafe_b64encode(key.sign(_signed_bytes(sums, key.public))).decode().rstrip("=")
    return canonical_bytes(
        {"schema": "studbook.signed/1", "payload": payload, "sums": sums, "key": str(key.public), "signature": signature}
    )


def stranger_signs(target: Target, rng: Rng) -> bytes:
    """The record as it is or with one leaf changed, well signed by somebody whom nobody trusts; half of them under the victim's name."""
    payload = json.loads(target.data)["payload"]
    if rng.integers(2):
        payload = json.loads(edit(replace(target, data=canonical_bytes(payload)), rng))
    forged = json.loads(resigned(payload, STRANGER))
    if rng.integers(2):
        forged["key"] = str(target.key.public)
    return canonical_bytes(forged)


def old_signature(target: Target, rng: Rng) -> bytes:
    """A changed record with a table of sums that fits it, under the old signature."""
    envelope = json.loads(target.data)
    leaves = [path for path in nodes(envelope["payload"]) if type(at(envelope["payload"], path)) in {int, float, str}]
    path = leaves[rng.integers(len(leaves))]
    value = at(envelope["payload"], path)
    at(envelope["payload"], path[:-1])[path[-1]] = value + "x" if isinstance(value, str) else value - 1
    return canonical_bytes({**envelope, "sums": dict(_sums(envelope["payload"]))})


def mixed(target: Target, rng: Rng) -> bytes:
    """Parts of two envelopes, both of which are valid."""
    mine = json.loads(target.data)
    others = [each for each in make_targets() if each.data != target.data]
    other = json.loads(others[rng.integers(len(others))].data)
    parts = ["payload", "sums", "key", "signature"]
    taken = [parts[i] for i in rng.choice(4, int(rng.integers(1, 4)), replace=False)]
    data = canonical_bytes({**mine, **{part: other[part] for part in taken}})
    return data if all(data != each.data for each in make_targets()) else target.data  # a whole record of another kind is no attack


def random_signature(target: Target, rng: Rng) -> bytes:
    envelope = json.loads(target.data)
    signature = [rng.bytes(64), bytes(64), b"\xff" * 64, bytes([1]) + bytes(63), rng.bytes(63), rng.bytes(65)][rng.integers(6)]
    return canonical_bytes({**envelope, "signature": base64.urlsafe_b64encode(signature).decode().rstrip("=")})


def another_kind(target: Target, rng: Rng) -> bytes:
    """A valid record of another kind, by the very key that is trusted here; or of a version from the future, or the past."""
    payload = json.loads(target.data)["payload"]
    if rng.integers(2):
        kind = payload["schema"].split("/")[0]
        payload["schema"] = f"{kind}/{rng.choice([0, 2, 3, 10, 9999, 10000])}" if rng.integers(2) else "studbook.other/1"
        return resigned(payload, target.key)
    others = [each for each in make_targets() if json.loads(each.data)["payload"]["schema"] != payload["schema"]]
    return resigned(json.loads(others[rng.integers(len(others))].data)["payload"], target.key)


def hollow(target: Target, rng: Rng) -> bytes:
    """A record with a part emptied or left out, well signed by the very key that is trusted here."""
    payload = json.loads(target.data)["payload"]
    names = sorted(HOLLOW & payload.keys())
    name = names[rng.integers(len(names))]
    if rng.integers(2):
        payload[name] = type(payload[name])() if isinstance(payload[name], list | dict) else None
    else:
        del payload[name]
    return resigned(payload, target.key)


HOLLOW = {
    "digests",
    "tokens",
    "recipe",
    "commitment",
    "nonce",
    "claim",
    "claimant",
    "task",
    "round",
    "electorate",
    "calibration",
    "opened",
    "verdict",
    "levels",
    "model",
    "requests",
}

ATTACKS: dict[str, Callable[[Target, Rng], bytes]] = {
    "bits flipped": flip,
    "a byte replaced": substitute,
    "bytes inserted": insert,
    "bytes deleted": delete,
    "cut off": truncate,
    "a part repeated": repeat,
    "two parts swapped": swap_spans,
    "letters that look alike": lookalike,
    "escapes and half characters": escape,
    "odd and huge numbers": odd_number,
    "deep nesting": nest,
    "a key twice": double_key,
    "values edited, canonical again": edit,
    "lists re-ordered": reorder,
    "reformatted": reformat,
    "signed by a stranger": stranger_signs,
    "changed, sums adapted, old signature": old_signature,
    "parts of two valid records": mixed,
    "random signature": random_signature,
    "another kind or version, well signed": another_kind,
    "parts emptied, well signed": hollow,
}


def run_attack(name: str, trials: int, seed: int = 0) -> Row:
    """So many attacks of one class, over all kinds of records in turn; what comes out unchanged is drawn again."""
    targets, make = make_targets(), ATTACKS[name]
    rng = np.random.default_rng([seed, list(ATTACKS).index(name)])
    accepted, crashed = 0, Counter[str]()
    for i in range(trials):
        target = targets[i % len(targets)]
        data = next(each for each in (make(target, rng) for _ in range(1000)) if each != target.data)
        try:
            target.open(data)
            accepted += 1
        except StudbookError:
            continue
        except Exception as error:  # noqa: BLE001 - that is what is counted
            crashed[type(error).__name__] += 1
    return Row(name, trials, accepted, dict(crashed))


def markdown(rows: Sequence[Row]) -> str:
    """The table of the docs."""
    lines = ["| attack | attempts | accepted | crashes | refused (95 %) |", "|---|---:|---:|---:|---|"]
    for row in rows:
        low, high = row.detected
        lines.append(f"| {row.attack} | {row.trials:,} | {row.accepted} | {sum(row.crashed.values())} | {low:.4f} to {high:.4f} |")
    total = Row(
        "all", sum(row.trials for row in rows), sum(row.accepted for row in rows), dict(sum((Counter(r.crashed) for r in rows), Counter()))
    )
    low, high = total.detected
    return "\n".join(
        [*lines, f"| **all** | {total.trials:,} | {total.accepted} | {sum(total.crashed.values())} | {low:.5f} to {high:.5f} |"]
    )


def main() -> None:
    """``python tests/hostile/attack_table.py [ATTEMPTS A CLASS]``."""
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    print(markdown([run_attack(name, trials) for name in ATTACKS]))


if __name__ == "__main__":
    main()

__all__ = ["ATTACKS", "PublicKey", "Row", "Target", "make_targets", "markdown", "run_attack"]
