"""Content credentials: made, read, found again by fingerprint."""

from __future__ import annotations

import datetime as dt
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from studbook.errors import ConfigError, DataError, KeyFileError, ProvenanceError, RecordError
from studbook.fingerprints import MinHash, PdqHash, PerceptualHash
from studbook.pictures import jpeg_bytes, png_bytes, read_picture
from studbook.provenance import (
    Chain,
    Statement,
    Trust,
    binding_of,
    check_binding,
    digest_of_binding,
    inspect_credential,
    manifest_of,
    new_chain,
    picture_format,
    read_credential,
    renew_signer,
    sign_bytes,
    sign_picture,
    soft_binding_of,
    verify_credential,
    verify_recovered,
)
from studbook.provenance.bindings import SoftBinding
from studbook.records import Digest, Entry

SHA = "sha256:" + 64 * "a"
GENERATED = Statement(origin="generated", model="pixels-1", entry=SHA, parents=("sha256:" + 64 * "b",), made="2026-01-31T12:00:00Z")


def picture(seed: int = 0, side: int = 128) -> np.ndarray:
    """Smooth shapes, so that a perceptual hash is stable."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8))
    return np.array(coarse.resize((side, side), Image.Resampling.BICUBIC))


def encoded(pixels: np.ndarray, form: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("provenance")
    new_chain(folder / "chain", "Example Laboratory")
    new_chain(folder / "other", "Somebody Else")
    return folder


@pytest.fixture(scope="module")
def chain(place: Path) -> Chain:
    return Chain.load(place / "chain")


@pytest.fixture(scope="module")
def trust(place: Path) -> Trust:
    return Trust.load([place / "chain" / "root.pem"])


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_picture_carries_its_credential_and_keeps_its_pixels(form, chain, trust):
    data = encoded(picture(), form)
    signed = sign_picture(data, chain, GENERATED, title="one")
    found = verify_credential(signed, trust=trust)
    assert (found.signer, found.issuer, found.origin, found.model) == ("Example Laboratory", "Example Laboratory", "generated", "pixels-1")
    assert found.statement is not None
    assert (found.statement.entry, found.statement.parents, found.made) == (SHA, GENERATED.parents, GENERATED.made)
    assert found.bindings == (soft_binding_of(read_picture(data, "one")),)
    assert found.generator.startswith("studbook ")
    np.testing.assert_array_equal(read_picture(signed, "signed"), read_picture(data, "one"))


def test_no_thumbnail_makes_it_large(chain):
    large = encoded(np.random.default_rng(0).integers(0, 255, (1024, 1024, 3), dtype=np.uint8), "PNG")
    signed = sign_picture(large, chain, GENERATED)
    assert 0 < len(signed) - len(large) < 6_000
    assert len(sign_bytes(large, chain, GENERATED)) < 6_000


@pytest.mark.parametrize("data", [b"x", "Grüße".encode(), b"PAR1" + bytes(99) + b"PAR1", b"%PDF-1.4\n%%EOF", b"PK\x05\x06" + bytes(18)])
def test_any_bytes_are_signed_beside_the_file(data, chain, trust):
    sidecar = sign_bytes(data, chain, Statement(origin="human"))
    assert verify_credential(data, sidecar=sidecar, trust=trust).origin == "human"
    with pytest.raises(ProvenanceError, match="content was changed"):
        verify_credential(data + b"\0", sidecar=sidecar, trust=trust)


def test_a_picture_can_be_signed_beside_the_file_too(chain, trust):
    inside = sign_picture(png_bytes(picture()), chain, GENERATED)
    sidecar = sign_bytes(inside, chain, Statement(origin="unknown"))
    assert verify_credential(inside, sidecar=sidecar, trust=trust).origin == "unknown"
    assert verify_credential(inside, trust=trust).origin == "generated"


def test_no_credential_is_none_or_said_so(trust):
    plain = png_bytes(picture())
    assert read_credential(plain, trust=trust) is None
    assert read_credential(b"a text", trust=trust) is None
    assert inspect_credential(plain) is None
    with pytest.raises(ProvenanceError, match="carries no content credential"):
        verify_credential(plain, trust=trust)


def test_a_credential_is_never_replaced_unasked(chain, place, trust):
    signed = sign_picture(png_bytes(picture()), chain, GENERATED)
    other = Chain.load(place / "other")
    with pytest.raises(DataError, match="carries a credential already"):
        sign_picture(signed, other, Statement(origin="human"))
    replaced = sign_picture(signed, other, Statement(origin="human"), replace=True)
    with pytest.raises(ProvenanceError, match="isn't trusted"):
        verify_credential(replaced, trust=trust)


def test_who_counts_can_be_named(chain, place):
    sidecar = sign_bytes(b"x", chain, GENERATED)
    assert (
        verify_credential(b"x", sidecar=sidecar, trust=Trust.load([place / "chain"], signers=["Example Laboratory"])).origin == "generated"
    )
    with pytest.raises(ProvenanceError, match="signed by 'Example Laboratory'"):
        verify_credential(b"x", sidecar=sidecar, trust=Trust.load([place / "chain"], signers=["Example"]))
    both = Trust.load([place / "other", place / "chain"])
    assert verify_credential(b"x", sidecar=sidecar, trust=both).signer == "Example Laboratory"


def test_inspection_says_what_is_claimed_and_what_is_wrong(chain, trust):
    sidecar = sign_bytes(b"x", chain, GENERATED)
    found = inspect_credential(b"y", sidecar=sidecar)
    assert found is not None
    assert found.claimed.model == "pixels-1"
    assert len(found.problems) == 2
    right = inspect_credential(b"x", sidecar=sidecar, trust=trust)
    assert right is not None
    assert right.problems == ()


def test_an_entry_of_the_register_becomes_a_statement():
    entry = Entry(SHA, "image", "generated", model="m", parents=(SHA,), digests=(PerceptualHash().digest(picture()),))
    said = Statement.of_entry(entry)
    assert (said.model, said.parents, said.digests) == ("m", (SHA,), entry.digests)
    assert said.entry.startswith("sha256:")


@pytest.mark.parametrize("wrong", [{"entry": "abc"}, {"model": "a\nb"}, {"model": 600 * "a"}, {"made": "yesterday"}, {"parents": ("x",)}])
def test_a_statement_that_cant_be_meant_is_refused(wrong):
    with pytest.raises(RecordError):
        Statement(origin="generated", **wrong)


def test_a_stripped_credential_is_recovered_by_fingerprint(chain, trust):
    original = picture(1)
    store = manifest_of(sign_picture(png_bytes(original), chain, GENERATED))
    assert store is not None
    resaved = read_picture(jpeg_bytes(original, 60), "resaved")
    found = verify_recovered(store, resaved, trust=trust, max_distance={"phash": 10})
    assert found.model == "pixels-1"
    with pytest.raises(ProvenanceError, match="belongs to another picture"):
        verify_recovered(store, picture(2), trust=trust, max_distance={"phash": 10})
    with pytest.raises(ProvenanceError, match="no fingerprint"):
        verify_recovered(store, resaved, trust=trust, max_distance={"pdq": 60})


def test_the_credential_of_a_text_is_recovered_too(chain, trust):
    words = [f"word{i}" for i in range(300)]
    text = " ".join(words)
    said = Statement(origin="generated", model="texts-1", digests=(MinHash().digests([text])[0],))
    store = sign_bytes(text.encode(), chain, said)
    edited = " ".join(["another", *words[:150], "between", *words[150:]])
    assert verify_recovered(store, edited, trust=trust, max_distance={"minhash": 0.2}).model == "texts-1"
    with pytest.raises(ProvenanceError, match="belongs to another text"):
        verify_recovered(store, " ".join(reversed(words)), trust=trust, max_distance={"minhash": 0.2})


def test_a_recovered_credential_must_be_trusted(chain, place):
    store = manifest_of(sign_picture(png_bytes(picture()), chain, GENERATED))
    assert store is not None
    named = Trust.load([place / "chain"], signers=["Somebody Else"])
    for stranger in (Trust.load([place / "other"]), named):
        with pytest.raises(ProvenanceError, match="isn't trusted"):
            verify_recovered(store, picture(), trust=stranger, max_distance={"phash": 10})


def test_soft_bindings_are_read_back():
    for digest in (PerceptualHash().digest(picture()), PerceptualHash(size=16).digest(picture()), PdqHash().digest(picture())):
        assert digest_of_binding(binding_of(digest)) == digest
    text = MinHash().digests(["some words in a row that make a text"])[0]
    assert digest_of_binding(binding_of(text)) == text
    assert binding_of(PerceptualHash(size=16).digest(picture())).alg == "org.studbook.phash.1.size-16"


@pytest.mark.parametrize(
    "binding",
    [
        SoftBinding("com.example.mark", "AAAA"), SoftBinding("org.studbook.phash.2", "/wD/AP8A/wA="),
        SoftBinding("org.studbook.phash.1", "?"), SoftBinding("org.studbook.phash.1", ""),
        SoftBinding("org.studbook.phash.1.size-9", "/wD/AP8A/wA="),
    ],
)  # fmt: skip
def test_a_binding_of_others_or_damaged_is_no_fingerprint(binding):
    with pytest.raises(ValueError, match=r"binding|digest"):
        digest_of_binding(binding)
    with pytest.raises(ProvenanceError, match="no fingerprint"):
        check_binding((binding,), picture(), "it", max_distance={"phash": 10})


def test_a_fingerprint_of_a_foreign_scheme_has_no_binding():
    with pytest.raises(ConfigError):
        binding_of(Digest("unknown", 1, (), b"x"))


def test_formats_are_told_by_their_bytes():
    forms = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "", "BMP": ""}
    assert {form: picture_format(encoded(picture(), form)) for form in forms} == forms
    with pytest.raises(DataError, match="can't be embedded"):
        sign_picture(encoded(picture(), "GIF"), None, GENERATED)  # type: ignore[arg-type]


def test_keys_are_their_owners_alone_and_never_overwritten(tmp_path):
    new_chain(tmp_path / "chain", "Lab")
    assert {file.name: file.stat().st_mode & 0o77 for file in (tmp_path / "chain").glob("*.key")} == {"root.key": 0, "signer.key": 0}
    with pytest.raises(KeyFileError, match="is there already"):
        new_chain(tmp_path / "chain", "Lab")
    (tmp_path / "chain" / "signer.key").chmod(0o640)
    with pytest.raises(KeyFileError, match="chmod 600"):
        Chain.load(tmp_path / "chain")
    secret = (tmp_path / "chain" / "root.key").read_text()
    assert secret.splitlines()[1] not in repr(new_chain(tmp_path / "again", "Lab"))


def test_a_key_of_another_chain_is_refused(tmp_path):
    for name in ("a", "b"):
        new_chain(tmp_path / name, "Lab")
    (tmp_path / "a" / "signer.key").write_bytes((tmp_path / "b" / "signer.key").read_bytes())
    with pytest.raises(KeyFileError, match="isn't the key of"):
        Chain.load(tmp_path / "a")
    with pytest.raises(KeyFileError, match="can't be read"):
        Chain.load(tmp_path / "nowhere")


def test_a_renewed_signer_is_trusted_by_the_same_root(tmp_path):
    old = new_chain(tmp_path / "chain", "Lab", valid=dt.timedelta(days=1))
    new = renew_signer(tmp_path / "chain")
    trust = Trust.load([tmp_path / "chain"])
    for chain in (old, new, Chain.load(tmp_path / "chain")):
        assert verify_credential(b"x", sidecar=sign_bytes(b"x", chain, GENERATED), trust=trust).signer == "Lab"
    assert new.leaf.not_valid_after_utc > old.leaf.not_valid_after_utc
    assert (tmp_path / "chain" / "signer.key").stat().st_mode & 0o77 == 0


@pytest.mark.parametrize("name", ["", " ", "a\nb", 70 * "a"])
def test_a_signer_needs_a_name(name, tmp_path):
    with pytest.raises(ConfigError, match="name"):
        new_chain(tmp_path / "chain", name)
    assert not (tmp_path / "chain").exists()


def test_trust_in_nobody_or_in_a_signer_is_refused(place, tmp_path):
    with pytest.raises(ConfigError, match="no root certificate"):
        Trust(b" ")
    with pytest.raises(ConfigError, match="isn't the certificate of a root"):
        Trust.load([place / "chain" / "signer.pem"])
    with pytest.raises(ConfigError, match="no certificates in PEM"):
        Trust(b"nonsense")
    with pytest.raises(ConfigError, match="can't be read"):
        Trust.load([tmp_path / "nothing.pem"])
    (tmp_path / "other.pem").write_text("no certificate")
    with pytest.raises(ConfigError, match=r"no certificates in PEM in .*other\.pem"):
        Trust.load([place / "chain", tmp_path / "other.pem"])
    with pytest.raises(ConfigError, match="name is empty"):
        Trust.load([place / "chain"], signers=[" "])


def test_a_root_that_has_expired_isnt_trusted(tmp_path):
    long_ago = dt.datetime.now(dt.UTC) - dt.timedelta(days=3700)
    new_chain(tmp_path / "old", "Lab", start=long_ago)
    sidecar = sign_bytes(b"x", new_chain(tmp_path / "new", "Lab"), GENERATED)
    with pytest.raises(ProvenanceError, match="no trusted root is valid now"):
        verify_credential(b"x", sidecar=sidecar, trust=Trust.load([tmp_path / "old"]))
    both = Trust.load([tmp_path / "old", tmp_path / "new"])
    assert verify_credential(b"x", sidecar=sidecar, trust=both).signer == "Lab"


def test_an_expired_signer_cant_sign(tmp_path):
    past = dt.datetime.now(dt.UTC) - dt.timedelta(days=60)
    chain = new_chain(tmp_path / "chain", "Lab", start=past, valid=dt.timedelta(days=30))
    with pytest.raises(ProvenanceError, match=r"chain renew"):
        sign_bytes(b"x", chain, GENERATED)
