"""Every function against Python's own integers, for any width, any rows and any number of threads."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from studbook.hamming import Labels, distances, grouped_histogram, histogram, nearest, within

WIDTHS = st.one_of(st.integers(1, 20), st.sampled_from([32, 40, 64, 127, 128]))
THREADS = st.integers(1, 3)


@st.composite
def strings(draw, most=70, least=0):
    """Some bit strings of one width, most of them few flips away from each other, so that small distances and ties occur."""
    n_bytes, n_a, n_b = draw(WIDTHS), draw(st.integers(least, most)), draw(st.integers(least, most))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    share = draw(st.sampled_from([0.0, 0.02, 0.5, 0.98, 1.0]))
    base = rng.random((3, 8 * n_bytes)) < draw(st.sampled_from([0.0, 0.5, 1.0]))
    made = [np.packbits(base[rng.integers(3, size=n)] ^ (rng.random((n, 8 * n_bytes)) < share), axis=1) for n in (n_a, n_b)]
    return tuple(rows.reshape(-1, n_bytes) for rows in made)


def naive(a, b):
    """All distances, ``(len(a), len(b))``."""
    left, right = ([int.from_bytes(row.tobytes(), "big") for row in rows] for rows in (a, b))
    return np.array([[(x ^ y).bit_count() for y in right] for x in left], dtype=np.int64).reshape(len(a), len(b))


def pairs_of(table, once):
    """Row, column and distance of the pairs that count, in order."""
    rows, columns = np.indices(table.shape).reshape(2, -1)
    chosen = rows < columns if once else rows >= 0
    return rows[chosen], columns[chosen], table.ravel()[chosen]


@given(strings(), st.booleans(), THREADS)
@settings(deadline=None)
def test_histograms_count_every_pair(given_strings, once, threads):
    a, b = given_strings
    _, _, found = pairs_of(naive(a, a if once else b), once)
    got = histogram(a, None if once else b, threads=threads)
    assert got.dtype == np.int64
    assert got.tolist() == np.bincount(found, minlength=8 * a.shape[1] + 1).tolist()


@given(strings(), st.booleans(), THREADS, st.floats(0.0, 1.0))
@settings(deadline=None)
def test_pairs_within_a_radius_are_all_there_and_in_order(given_strings, once, threads, share):
    a, b = given_strings
    radius = round(share * 8 * a.shape[1])
    rows, columns, found = pairs_of(naive(a, a if once else b), once)
    got = within(a, None if once else b, radius_bits=radius, threads=threads)
    for expected, values in zip((rows, columns, found), (got.rows, got.columns, got.distances), strict=True):
        assert values.tolist() == expected[found <= radius].tolist()


@given(strings(least=2), st.booleans(), THREADS, st.integers(1, 70))
@settings(deadline=None)
def test_the_nearest_come_first_and_the_lower_row_among_equals(given_strings, once, threads, k):
    a, b = given_strings
    other = a if once else b
    k = min(k, len(other) - once)
    table = naive(a, other)
    if once:
        np.fill_diagonal(table, 10**6)
    expected = np.argsort(table, axis=1, kind="stable")[:, :k]
    columns, found = nearest(a, None if once else b, k=k, threads=threads)
    assert columns.tolist() == expected.tolist()
    assert found.tolist() == np.take_along_axis(table, expected, axis=1).tolist()


@given(strings(), st.booleans(), THREADS, st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_groups_share_the_pairs_out(given_strings, once, threads, seed):
    a, b = given_strings
    rng = np.random.default_rng(seed)
    recipes = [rng.integers(-3, 6, len(rows)) for rows in (a, b)]
    labels = [Labels(recipe, recipe // 3) for recipe in recipes]
    mine, theirs = labels[0], labels[0] if once else labels[1]
    rows, columns, found = pairs_of(naive(a, a if once else b), once)
    same_recipe = mine.recipes[rows] == theirs.recipes[columns]
    group = np.where(same_recipe, 0, np.where(mine.classes[rows] == theirs.classes[columns], 1, 2))
    got = grouped_histogram(a, mine, None if once else b, None if once else theirs, threads=threads)
    for number in range(3):
        expected = found[group == number]
        assert got.counts[number].tolist() == np.bincount(expected, minlength=8 * a.shape[1] + 1).tolist()
        row, column, distance = got.closest[number]
        if len(expected):
            assert distance == expected.min()
            assert any((rows == row) & (columns == column) & (found == distance) & (group == number))
        else:
            assert (row, column, distance) == (-1, -1, -1)


@given(strings())
@settings(deadline=None)
def test_distances_go_row_by_row(given_strings):
    a, b = given_strings
    n = min(len(a), len(b))
    assert distances(a[:n], b[:n]).tolist() == naive(a[:n], b[:n]).diagonal().tolist()
