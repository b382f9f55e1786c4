"""Names of outputs, graphs of descent, limits, and a register across a fork."""

from __future__ import annotations

import hashlib
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studbook.errors import DataError, RegisterError
from studbook.fingerprints import ExactText, MinHash
from studbook.pictures import png_bytes, read_picture
from studbook.registry import Added, Edge, Register, canonical_text, fingerprint_pictures, fingerprint_texts, picture_content, text_content
from studbook.registry.indexes import is_indexed
from studbook.registry.limits import DEFAULTS, N_PERMUTATIONS, agreement_of, distances_of
from studbook.registry.lineage import on_a_cycle
from studbook.registry.writing import made_text


@settings(deadline=None)  # the first call compiles
@given(st.text(min_size=1))
def test_a_text_is_named_as_its_exact_fingerprint_names_it(text):
    try:
        expected = f"sha256:{ExactText().digest(text).bits.hex()}"
    except DataError:
        with pytest.raises(DataError):
            fingerprint_texts([text])
        return
    assert text_content(text) == expected == f"sha256:{hashlib.sha256(canonical_text(text)).hexdigest()}"
    assert fingerprint_texts([text]).contents == [bytes.fromhex(expected[7:])]


def test_the_forms_of_a_letter_are_one_text():
    assert canonical_text("cafe\u0301") == "café".encode()
    assert fingerprint_texts(["cafe\u0301", "café"]).contents[0] == fingerprint_texts(["café"]).contents[0]


def test_a_picture_is_named_by_its_file_or_by_shape_and_pixels():
    pixels = np.arange(24, dtype=np.uint8).reshape(4, 6)
    data = png_bytes(pixels)
    assert picture_content(data) == f"sha256:{hashlib.sha256(data).hexdigest()}"
    names = {picture_content(each) for each in (pixels, pixels.reshape(6, 4), pixels.reshape(2, 4, 3), pixels[::-1], data)}
    assert len(names) == 5
    assert picture_content(pixels[:, ::2]) == picture_content(pixels[:, ::2].copy())
    for wrong in (pixels.astype(np.int64), pixels[0], "file.png", None):
        with pytest.raises(DataError, match="the picture is"):
            picture_content(wrong)


def test_files_and_their_pixels_have_the_same_fingerprints():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    for one, other in zip(fingerprint_pictures([pixels]).packed, fingerprint_pictures([png_bytes(pixels)]).packed, strict=True):
        assert np.array_equal(one[1], other[1])


def test_what_has_no_word_or_no_shape_has_no_fingerprint():
    texts = fingerprint_texts(["one two", "…", "three"])
    assert [rows.tolist() for _, _, rows in texts.packed] == [[0, 2]]
    assert len(texts) == 3
    flat = fingerprint_pictures([np.zeros((9, 9), np.uint8), np.eye(9, dtype=np.uint8) * 200])
    assert [rows.tolist() for _, _, rows in flat.packed] == [[1], [1]]


@pytest.mark.parametrize("agreeing", range(1, N_PERMUTATIONS + 1))
def test_a_distance_and_its_permutations_are_the_same_limit(agreeing):
    assert agreement_of(float(distances_of(np.int64(agreeing)))) == agreeing


def test_distances_are_those_of_the_fingerprint():
    one, other = MinHash().digests([" ".join(f"w{i}" for i in range(60)), " ".join(f"w{i}" for i in range(20, 90))])
    agreeing = int((np.frombuffer(one.bits, np.uint16) == np.frombuffer(other.bits, np.uint16)).sum())
    assert float(distances_of(np.int64(agreeing))) == pytest.approx(MinHash.distance(one, other), abs=1e-12)
    assert all(limit.basis for limit in DEFAULTS.values())


graphs = st.dictionaries(st.sampled_from("abcdefgh"), st.sets(st.sampled_from("abcdefgh"), min_size=1), max_size=8)


@settings(max_examples=200, deadline=None)
@given(graphs)
def test_circles_are_found_where_they_are(parents):
    reach = {node: set(several) for node, several in parents.items()}
    for _ in range(8):
        for several in reach.values():
            several |= {far for near in several for far in reach.get(near, ())}
    circular = any(node in several for node, several in reach.items())
    assert (on_a_cycle(parents) is not None) == circular


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 513, 3, None])
def test_what_is_no_node_is_refused(name):
    for child, parent in ((name, "a"), ("a", name)):
        with pytest.raises(RegisterError, match="a node of the lineage"):
            Edge(child, parent, "derived-from")


def test_times_before_the_epoch_and_after():
    assert [made_text(seconds) for seconds in (-1, 0, 1769860800)] == [
        "1969-12-31T23:59:59Z",
        "1970-01-01T00:00:00Z",
        "2026-01-31T12:00:00Z",
    ]


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        (("phash", 1, (("size", 8),), 8), True),
        (("minhash", 2, (("bits", 16), ("permutations", 128), ("rule", "words2"), ("words", 5)), 256), True),
        (("minhash", 2, (("bits", 8), ("permutations", 256), ("rule", "words2"), ("words", 3)), 256), False),
        (("tokens_prefix", 1, (), 8), False),
        (("my-own", 1, (), 8), False),
    ],
)
def test_which_schemes_have_an_index(scheme, expected):
    assert is_indexed(scheme) is expected


def test_a_register_is_used_on_both_sides_of_a_fork(tmp_path):
    with Register.open(tmp_path / "register.db", create=True) as register:
        register.add_texts(["before the fork there was one"])
        child = os.fork()
        if child == 0:
            found = register.add_texts([f"text {i} of the child" for i in range(200)])
            os._exit(0 if found == Added(200, 0) and register.find_texts(["text 7 of the child"])[0] else 1)
        added = sum((register.add_texts([f"text {i} of the parent"]) for i in range(50)), Added(0, 0))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert added == Added(50, 0)
        assert register.stats().entries == 251
        assert register.verify() == []


def test_pictures_that_somebody_unpacked_have_the_same_prints():
    rng = np.random.default_rng(4)
    files = [png_bytes(rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)) for _ in range(3)]
    one, two = fingerprint_pictures(files), fingerprint_pictures(files, unpacked=[read_picture(each, "it") for each in files])
    assert one.contents == two.contents
    assert all((a[1] == b[1]).all() and (a[2] == b[2]).all() for a, b in zip(one.packed, two.packed, strict=True))
    with pytest.raises(DataError, match="2 unpacked pictures of 3"):
        fingerprint_pictures(files, unpacked=[read_picture(each, "it") for each in files[:2]])
