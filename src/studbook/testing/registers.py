"""The contract of a register, whatever database is behind it.

In a test of your own::

    import pytest
    from studbook.registry import Register
    from studbook.testing.registers import REGISTER_CHECKS

    @pytest.mark.parametrize("check", REGISTER_CHECKS)
    def test_my_register_keeps_the_contract(check, tmp_path):
        check(lambda: Register.open(tmp_path / "register.db", create=True, index=tmp_path / "index"), tmp_path)

Each check takes what opens a register (empty at first, the same one at every call) and an empty folder, returns nothing and raises
``AssertionError``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from studbook.errors import ConfigError, DataError, RecordError, RegisterError, SignatureError, StudbookError
from studbook.fingerprints import AverageHash, ExactText, MinHash, PerceptualHash, TokenPrefix
from studbook.provenance import SigningKey, sign
from studbook.records import Claim, Digest, Entry, Environment, Outcome, Receipt, Recipe, Tally, TextSampling, Verdict
from studbook.registry import Added, Edge, Register, fingerprint_texts, picture_content, text_content
from studbook.registry.signed import MAX_MANIFEST

Opener: TypeAlias = Callable[[], Register]
Check: TypeAlias = Callable[[Opener, Path], None]

_MADE = "2026-01-31T12:00:00Z"


def _words(seed: int, n: int = 120) -> list[str]:
    return [f"w{i}" for i in np.random.default_rng(seed).integers(0, 5000, n)]


def _text(seed: int, n: int = 120) -> str:
    return " ".join(_words(seed, n))


def _pictures(n: int, seed: int = 0) -> Any:
    """Smooth pictures ``(n, 48, 64, 3)`` that have nothing to do with each other."""
    coarse = np.random.default_rng(seed).uniform(0, 255, (n, 6, 8, 3))
    return np.repeat(np.repeat(coarse, 8, axis=1), 8, axis=2).astype(np.uint8)


def _sha(name: str) -> str:
    return f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"


def _refuses(kind: type[StudbookError], words: str, call: Callable[[], object]) -> None:
    try:
        call()
    except kind as error:
        assert words in str(error), f"expected {words!r} in {str(error)!r}"
    else:
        raise AssertionError(f"expected {kind.__name__}: {words}")


def check_is_idempotent(new: Opener, _folder: Path) -> None:
    """What is known is not entered twice, within a call or across calls; another model, source or origin is another entry."""
    with new() as register:
        one, two = _text(1), _text(2)
        assert register.add_texts([one, two, one], model="m") == Added(2, 1)
        assert register.add_texts([two, one, _text(3)], model="m") == Added(1, 2)
        assert register.add_texts([one], model="n") == Added(1, 0)
        assert register.add_texts([one], model="m", source="s") == Added(1, 0)
        assert register.add_texts([one], origin="human") == Added(1, 0)
        assert register.add_texts([]) == Added(0, 0)
        known = {(entry.origin, entry.model, entry.source) for entry in register.get(text_content(one))}
        assert known == {("generated", "m", ""), ("generated", "n", ""), ("generated", "m", "s"), ("human", "", "")}
        stats = register.stats()
        assert (stats.entries, stats.by_origin) == (6, (("text, generated", 5), ("text, human", 1)))
        assert dict(stats.by_model) == {"m": 4, "n": 1}
        assert register.add(register.get(text_content(one))) == Added(0, 4)


def check_gives_entries_back(new: Opener, _folder: Path) -> None:
    """An entry comes back as it was put in, of every kind."""
    picture = _pictures(1)[0]
    digests = (*PerceptualHash().digests([picture]), *AverageHash().digests([picture]))
    several = [
        Entry(_sha("a"), "image", "generated", "model ü", "words", digests, (_sha("p"), _sha("q")), _sha("manifest"), _MADE),
        Entry(_sha("b"), "tokens", "unknown", digests=(Digest("my-own", 3, (("a", 1.5), ("b", True), ("c", "x")), b"\x00\xff"),)),
        Entry(_sha("c"), "bytes", "human", made="1969-12-31T23:59:59Z"),
        Entry(_sha("d"), "text", "generated", _sha("m")),
    ]
    with new() as register:
        assert register.add(several) == Added(4, 0)
        for entry in several:
            (found,) = register.get(entry.content)
            assert {*found.digests} == {*entry.digests}
            assert {*found.parents} == {*entry.parents}
            for name in ("content", "kind", "origin", "model", "source", "manifest", "made"):
                assert getattr(found, name) == getattr(entry, name), name
        assert register.get(_sha("nobody")) == ()
        _refuses(RegisterError, "64 hex digits", lambda: register.get("nobody"))


def check_completes_entries(new: Opener, _folder: Path) -> None:
    """What a known entry lacks is filled in, nothing is overwritten, and contradictions leave it as it was."""
    text = _text(1)
    bare = Entry(text_content(text), "text", "generated", "m", made=_MADE)
    whole = Entry(bare.content, "text", "generated", "m", "", (MinHash().digest(text),), (_sha("p"),), _sha("x"), "2027-01-01T00:00:00Z")
    with new() as register:
        assert [register.add([each]) for each in (bare, whole, whole)] == [Added(1, 0), Added(0, 1), Added(0, 1)]
        (found,) = register.get(bare.content)
        assert (found.digests, found.parents, found.manifest, found.made) == (whole.digests, whole.parents, whole.manifest, _MADE)
        (match,) = register.find_texts([text + " too"])[0]
        assert match.entry == replace(found, digests=())
        other = Entry(bare.content, "text", "generated", "m", manifest=_sha("y"))
        _refuses(RegisterError, "known with the manifest", lambda: register.add([Entry(_sha("new"), "text", "human"), other]))
        assert register.get(bare.content) == (found,)
        assert register.get(_sha("new")) == ()


def check_finds_texts(new: Opener, _folder: Path) -> None:
    """The same text, in either Unicode form; a near one; not another; texts without a word by their bytes alone."""
    with new() as register:
        texts = [_text(i) for i in range(50)]
        accented = ["caf\u00e9 " + texts[0], "!!!", "\u00a7"]
        register.add_texts(texts, model="m")
        register.add_texts(accented, model="n")
        edited = _words(7)
        edited[::10] = ["changed"] * len(edited[::10])
        half = " ".join(_words(8)[30:90])
        asked = [texts[3], " ".join(edited), half, _text(99), "cafe\u0301 " + texts[0], "!!!", "???"]
        same, near, part, other, composed, signs, absent = register.find_texts(asked)
        assert [(match.how, match.scheme, match.distance, match.entry.model) for match in same] == [("exact", "sha256", 0.0, "m")]
        assert [(match.how, match.scheme, match.entry.content) for match in near] == [("near", "minhash", text_content(texts[7]))]
        assert 0 < near[0].distance <= near[0].limit < 1
        assert [match.entry.content for match in part] == [text_content(texts[8])]
        assert [(match.how, match.entry.model) for match in composed] == [("exact", "n"), ("near", "m")]
        assert [match.entry.content for match in signs] == [text_content("!!!")]
        assert other == absent == ()
        assert register.find_texts(fingerprint_texts(asked[:2])) == [same, near]
        assert register.find_texts([]) == []


def check_finds_pictures(new: Opener, _folder: Path) -> None:
    """The same pixels, and nearly the same ones; uniform pictures by their bytes alone."""
    pictures = _pictures(30)
    flat = np.full((20, 20), 9, np.uint8)
    with new() as register:
        assert register.add_images([*pictures, flat], model="m", source="s") == Added(31, 0)
        noisy = np.clip(pictures[4] + np.random.default_rng(1).normal(0, 6, pictures[4].shape), 0, 255).astype(np.uint8)
        same, near, other, still, flatter = register.find_images([pictures[3], noisy, _pictures(1, seed=5)[0], flat, flat + 1])
        assert [(match.how, match.entry.content) for match in same] == [("exact", picture_content(pictures[3]))]
        assert [(match.how, match.entry.content) for match in near] == [("near", picture_content(pictures[4]))]
        assert near[0].scheme in {"phash", "pdq"}
        assert near[0].distance <= near[0].limit
        assert [match.how for match in still] == ["exact"]
        assert other == flatter == ()


def check_finds_digests(new: Opener, _folder: Path) -> None:
    """By any fingerprint that is compared by bits; the radius is a parameter, a stated limit, or a default, and else is asked for."""
    pictures, text = _pictures(3), _text(1)
    average = AverageHash().digests(pictures)
    entries = [Entry(picture_content(p), "image", "generated", "m", digests=(d,)) for p, d in zip(pictures, average, strict=True)]
    first = average[0]
    flipped = Digest(first.scheme, first.version, first.parameters, bytes([first.bits[0] ^ 0b11, *first.bits[1:]]))
    with new() as register:
        register.add(entries)
        register.add_texts([text])
        assert register.find_digests([flipped], radius=1) == [()]
        (match,) = register.find_digests([flipped], radius=2)[0]
        assert (match.entry.content, match.distance, match.limit, match.scheme) == (entries[0].content, 2.0, 2.0, "ahash")
        _refuses(RegisterError, "no limit for ahash", lambda: register.find_digests([flipped]))
        register.set_limit("ahash", 2)
        assert register.find_digests([flipped]) == [(match,)]
        exact, near, absent = register.find_digests(
            [ExactText().digest(text), MinHash().digest(text), PerceptualHash().digest(pictures[0])]
        )
        assert (exact[0].how, near[0].how, near[0].distance, absent) == ("exact", "near", 0.0, ())
        register.add([Entry(_sha("t"), "tokens", "generated", digests=(TokenPrefix().digest([1, 2]),))])
        _refuses(RegisterError, "can't look up", lambda: register.find_digests([TokenPrefix().digest([1, 2])], radius=1))


def check_keeps_limits(new: Opener, _folder: Path) -> None:
    """A limit that was set takes the place of the default, also for whoever opens the register later."""
    text = _text(1)
    with new() as register:
        register.add_texts([text])
        default = register.limit("minhash")
        assert default is not None and default.calibration is None and default.basis
        register.set_limit("minhash", 0.001)
        assert register.find_texts([text + " too"]) == [()]
    with new() as register:
        limit = register.limit("minhash")
        assert limit is not None and limit.value == 0.001
        for scheme, value in (("phash", -1.0), ("phash", float("nan")), ("minhash", 1.5), ("fash", 1.0)):
            _refuses(ConfigError, scheme, lambda scheme=scheme, value=value: register.set_limit(scheme, value))  # type: ignore[misc]


def check_keeps_lineage(new: Opener, _folder: Path) -> None:
    """Steps of descent, stated or from entries, are found both ways; what would close a circle is refused, and leaves nothing."""
    corpus, text = _sha("corpus"), _text(1)
    content = text_content(text)
    with new() as register:
        register.link("model", corpus, "trained-on")
        register.link("model", corpus, "trained-on")
        register.add_texts([text], model="model", parents=[_sha("prompt")])
        register.link("next", content, "trained-on")
        found = register.lineage(content)
        assert found.ancestors == (
            *sorted((Edge(content, "model", "generated-by"), Edge(content, _sha("prompt"), "derived-from")), key=lambda edge: edge.parent),
            Edge("model", corpus, "trained-on"),
        )
        assert (found.descendants, found.complete) == ((Edge("next", content, "trained-on"),), True)
        assert [edge.child for edge in register.lineage(corpus).descendants] == ["model", content, "next"]
        assert register.lineage("nobody").ancestors == ()
        for child, parent in ((corpus, "model"), ("model", "model")):
            _refuses(RegisterError, "its own ancestor", lambda c=child, p=parent: register.link(c, p, "derived-from"))  # type: ignore[misc]
        circle = Entry(_sha("prompt"), "text", "generated", parents=(content,))
        _refuses(RegisterError, "its own ancestor", lambda: register.add([Entry(_sha("other"), "text", "human"), circle]))
        pair = [Entry(_sha("a"), "text", "human", parents=(_sha("b"),)), Entry(_sha("b"), "text", "human", parents=(_sha("a"),))]
        _refuses(RegisterError, "its own ancestor", lambda: register.add(pair))
        assert register.get(_sha("other")) == register.get(_sha("a")) == ()
        _refuses(RegisterError, "a relation is", lambda: register.link("a", "b", "uncle-of"))  # type: ignore[arg-type]
        assert register.stats().edges == 3


def check_memorised_text_is_no_circle(new: Opener, _folder: Path) -> None:
    """A model that gave the very text that it was trained on is entered, and its lineage ends."""
    text = _text(1)
    with new() as register:
        register.link("model", text_content(text), "trained-on")
        assert register.add_texts([text], model="model") == Added(1, 0)
        found = register.lineage(text_content(text))
        assert {edge.relation for edge in found.ancestors} == {"generated-by", "trained-on"}
        assert found.complete


def signed_claim_and_receipt() -> tuple[bytes, bytes, str]:
    """A signed claim, a signed receipt on it, and the claim's id."""
    key = SigningKey.generate()
    how = TextSampling(max_new=8)
    recipe = Recipe(model=_sha("m"), request="Once", sampling=how, seed=1, code="studbook 1", environment=Environment())
    claim = Claim(recipe=recipe, tokens=(1, 2), digests=(ExactText().digest("Once more"),), commitment=64 * "a", nonce=32 * "b", made=_MADE)
    signed = sign(claim, key)
    verdict = Verdict(
        outcome=Outcome.INCONCLUSIVE, claim=claim.id, round=32 * "2", k=2, n=2, accepts=1, rejects=1, missing=0,
        findings=(Tally("execution", 1, 1, 0, ("tokens",)),),
    )  # fmt: skip
    receipt = Receipt(
        claim=signed.decode(), ballots=(), voters=("a", "b"), round=32 * "2", k=2, verdict=verdict, notes=("late",), made=_MADE
    )
    return signed, sign(receipt, key), claim.id


def check_keeps_signed_records(new: Opener, _folder: Path) -> None:
    """Claims and receipts are kept once their signatures were checked; a changed byte is refused."""
    claim, receipt, name = signed_claim_and_receipt()
    with new() as register:
        register.add_verdict(receipt)
        assert register.add_claim(claim) == name
        register.add_verdict(receipt)
        assert register.claim(name).data == claim
        assert [found.data for found in register.verdicts(name)] == [receipt]
        assert register.verdicts(_sha("nobody")) == ()
        stats = register.stats()
        assert (stats.claims, stats.verdicts) == (1, 1)
        _refuses(SignatureError, "changed after it was signed", lambda: register.add_claim(claim.replace(b'"seed":1', b'"seed":2')))
        _refuses(RecordError, "", lambda: register.add_claim(receipt))
        _refuses(RegisterError, "no claim", lambda: register.claim(_sha("nobody")))


def check_keeps_manifests(new: Opener, _folder: Path) -> None:
    """Any bytes up to a bound, under their SHA-256."""
    data = bytes(range(256)) * 40
    with new() as register:
        name = register.put_manifest(data)
        assert name == register.put_manifest(data) == f"sha256:{hashlib.sha256(data).hexdigest()}"
        assert register.manifest(name) == data
        assert register.stats().manifests == 1
        for wrong in (b"", bytes(MAX_MANIFEST + 1), "text"):
            _refuses(RegisterError, "a manifest has", lambda wrong=wrong: register.put_manifest(wrong))  # type: ignore[misc]
        _refuses(RegisterError, "no manifest", lambda: register.manifest(_sha("nobody")))


def check_refuses_bad_outputs(new: Opener, _folder: Path) -> None:
    """What is no output is a clear error, and its batch leaves nothing."""
    with new() as register:
        for wrong in (["fine", ""], ["fine", 3], ["fine", "\ud800"], "a single text", b"bytes"):
            _refuses(DataError, "", lambda wrong=wrong: register.add_texts(wrong))  # type: ignore[misc]
        for picture in (np.zeros((2, 2), float), np.zeros((2, 2, 2, 2), np.uint8), "picture"):
            _refuses(DataError, "", lambda picture=picture: register.add_images([picture]))  # type: ignore[misc]
        _refuses(DataError, "an entry is", lambda: register.add(["entry"]))  # type: ignore[list-item]
        _refuses(RecordError, "", lambda: register.add_texts(["fine"], model="a\nb"))
        _refuses(RecordError, "", lambda: register.add_texts(["fine"], parents=["nobody"]))
        _refuses(ConfigError, "origin", lambda: register.add_texts(["fine"], origin="alien"))  # type: ignore[arg-type]
        contradiction = Entry(_sha("x"), "text", "human", digests=(ExactText().digest("fine"),))
        _refuses(RegisterError, "exact digest", lambda: register.add([contradiction]))
        assert register.stats().entries == 0


def check_exports_and_imports(new: Opener, folder: Path) -> None:
    """All of it goes out and comes back; what was cut off or changed is noticed."""
    claim, receipt, name = signed_claim_and_receipt()
    with new() as register:
        register.add_texts([_text(i) for i in range(20)], model="m", parents=[_sha("p")])
        register.add_images(list(_pictures(3)), model="n")
        register.link("m", "corpus", "trained-on")
        register.add_claim(claim)
        register.add_verdict(receipt)
        manifest = register.put_manifest(b"manifest")
        register.set_limit("phash", 4)
        n = register.export(folder / "one.jsonl")
        assert n == 23 + 1 + 2 + 1 + 1
        assert register.import_(folder / "one.jsonl") == Added(0, 23)
        with Register.open(folder / "other.db", create=True) as other:
            assert other.import_(folder / "one.jsonl") == Added(23, 0)
            other.export(folder / "two.jsonl")
            assert (folder / "two.jsonl").read_bytes() == (folder / "one.jsonl").read_bytes()
            assert (other.manifest(manifest), other.claim(name).data, other.verify()) == (b"manifest", claim, [])
            limit = other.limit("phash")
            assert limit is not None and limit.value == 4
        lines = (folder / "one.jsonl").read_bytes().splitlines(keepends=True)
        for wrong, words in ((lines[:-1], "cut off"), ([*lines[:3], *lines[4:]], "cut off"), (lines[1:], "no export"), ([], "cut off")):
            (folder / "wrong.jsonl").write_bytes(b"".join(wrong))
            _refuses(RegisterError, words, lambda: register.import_(folder / "wrong.jsonl"))


def check_is_found_later_and_elsewhere(new: Opener, _folder: Path) -> None:
    """What one opener added another finds, whether it was open before or is opened after."""
    with new() as one, new() as two:
        for i in range(3):
            (one if i % 2 else two).add_texts([_text(i)])
            assert all(len(found) == 1 for each in (one, two) for found in each.find_texts([_text(j) + " too" for j in range(i + 1)]))
    with new() as three:
        assert len(three.find_texts([_text(2) + " too"])[0]) == 1
        assert three.verify() == []


def check_makes_its_index_again(new: Opener, _folder: Path) -> None:
    """Indexes are caches: cut off, overwritten or deleted, what they held is found again."""
    asked = [_text(i) + " too" for i in range(40)]
    with new() as register:
        register.add_texts([_text(i) for i in range(40)])
        register.find_texts(asked)
        files = [file for file in register.index.rglob("*") if file.is_file()]
        assert files
    for left in (None, b"not an index", b""):
        for file in [file for file in register.index.rglob("*") if file.is_file()]:
            file.unlink() if left is None else file.write_bytes(left)
        with new() as register:
            assert [len(found) for found in register.find_texts(asked)] == [1] * 40
            assert register.verify() == []


def check_many_at_once(new: Opener, _folder: Path) -> None:
    """Writers beside each other lose nothing, enter nothing twice, and leave no gap in the numbers."""

    def work(writer: int) -> Added:
        with new() as register:
            return sum(
                (register.add_texts([_text(i, 20) for i in range(k, k + 30)], model="m") for k in range(writer, 90, 10)), Added(0, 0)
            )

    new().close()
    with ThreadPoolExecutor(4) as pool:
        found = sum(pool.map(work, range(4)), Added(0, 0))
    with new() as register:
        assert found.new == register.stats().entries == 113
        assert all(register.find_texts([_text(i, 20) for i in range(113)]))
        assert register.verify() == []


def check_takes_many(new: Opener, _folder: Path) -> None:
    """More than one batch, from an iterator, each once."""
    with new() as register:
        assert register.add_texts((f"text {i % 33_000} of very many" for i in range(33_500)), model="m") == Added(33_000, 500)
        assert all(register.find_texts([f"text {i} of very many" for i in (0, 8191, 8192, 32_767, 32_768, 32_999)]))
        assert register.add([Entry(_sha(str(i % 9000)), "bytes", "human") for i in range(9500)]) == Added(9000, 500)


REGISTER_CHECKS: tuple[Check, ...] = (
    check_is_idempotent,
    check_gives_entries_back,
    check_completes_entries,
    check_finds_texts,
    check_finds_pictures,
    check_finds_digests,
    check_keeps_limits,
    check_keeps_lineage,
    check_memorised_text_is_no_circle,
    check_keeps_signed_records,
    check_keeps_manifests,
    check_refuses_bad_outputs,
    check_exports_and_imports,
    check_is_found_later_and_elsewhere,
    check_makes_its_index_again,
    check_many_at_once,
    check_takes_many,
)
