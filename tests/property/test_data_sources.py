"""Properties of the data sources."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from studbook.data import ArrayFile, CsvFile, TextFile, Zipf, open_source, unigram_probabilities
from studbook.data.words import TextOptions
from studbook.errors import StudbookError

WORDS = st.lists(st.sampled_from(["the", "cat", "<unk>", "eats", ".", "@-@", "É", "a-b"]), min_size=1, max_size=80)


@given(WORDS, st.integers(1, 7), st.integers(0, 6).filter(lambda v: v != 1))
def test_blocks_hold_the_text_in_order(words, block, vocabulary):
    if len(words) < block:
        return
    batch = TextOptions("whitespace", block, vocabulary).blocks([" ".join(words)], "test")
    kept = words[: len(words) // block * block]
    known = set(batch.space.vocabulary)
    assert [batch.space.vocabulary[i] for i in batch.values.reshape(-1)] == [word if word in known else "<unk>" for word in kept]
    assert not vocabulary or len(known) <= max(vocabulary, 1)
    frequency = np.bincount(batch.values.reshape(-1), minlength=batch.space.n_states)
    assert (np.diff(frequency) <= 0).all()
    assert frequency.min() > 0


@given(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=60))
def test_characters_round_trip(text):
    batch = TextOptions("characters", len(text)).blocks([text], "test")
    assert "".join(batch.space.vocabulary[i] for i in batch.values[0]) == text


@given(arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=6), elements=st.floats(allow_nan=False, allow_infinity=False)))
def test_csv_gives_back_every_bit(table):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.csv")
        path.write_text("\n".join(",".join(map(repr, row)) for row in table.tolist()))
        np.testing.assert_array_equal(CsvFile(str(path)).load().records.values, table)


@given(
    arrays(np.float64, array_shapes(min_dims=2, max_dims=3, max_side=5), elements=st.floats(-1e6, 1e6)),
    st.sampled_from(["<f8", ">f8"]),
    st.sampled_from("CF"),
)
def test_digests_do_not_depend_on_how_an_array_is_stored(array, dtype, order):
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder, "a.npy"), array)
        np.save(Path(folder, "b.npy"), np.asarray(array, dtype=dtype, order=order))
        one, two = (ArrayFile(str(Path(folder, name))).load() for name in ("a.npy", "b.npy"))
        assert one.digest == two.digest
        changed = array.copy()
        changed.flat[-1] += 1.0
        np.save(Path(folder, "a.npy"), changed)
        assert ArrayFile(str(Path(folder, "a.npy"))).load().digest != one.digest


@given(st.integers(2, 2_000), st.floats(0, 20))
def test_zipf_is_a_falling_distribution(states, exponent):
    p = unigram_probabilities(Zipf(states=states, exponent=exponent).load()).probabilities[0]
    assert p.shape == (states,)
    assert abs(p.sum() - 1.0) < 1e-9
    assert (np.diff(p) <= 0).all()


def _good(suffix: str) -> bytes:
    stream = io.BytesIO()
    table = np.random.default_rng(0).standard_normal((6, 3))
    if suffix == ".parquet":
        pl.DataFrame(table).write_parquet(stream)
    elif suffix == ".npz":
        np.savez_compressed(stream, x=table, y=np.arange(6))
    elif suffix == ".npy":
        np.save(stream, table)
    elif suffix == ".idx":
        stream.write(bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2]) + bytes(range(8)))
    else:
        stream.write(b"a,b\n1,2\n3,4.5\n" if suffix == ".csv" else "naïve words, and more of them.\n".encode() * 8)
    return stream.getvalue()


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".parquet", ".npz", ".npy", ".idx"])
@settings(max_examples=60, deadline=None)
@given(changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4), cut=st.floats(0.01, 1.0))
def test_damage_is_read_or_refused_but_never_crashes(suffix, changes, cut):
    content = bytearray(_good(suffix))
    for position, byte in changes:
        content[position % len(content)] = byte
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x" + suffix)
        path.write_bytes(content[: max(1, int(cut * len(content)))])
        try:
            dataset = open_source(path).load()
        except StudbookError as error:
            assert len(str(error).splitlines()) <= 2
        else:
            assert np.isfinite(dataset.records.values).all()


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=200))
def test_any_text_is_read_or_refused(text):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.txt")
        path.write_bytes(text.encode())
        try:
            dataset = TextFile(str(path), block=2).load()
        except StudbookError:
            return
        assert dataset.records.values.max() < dataset.space.n_states
