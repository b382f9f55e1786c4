"""Projections of hidden states, and steps of a trajectory: what is found, how often, and where the detection fades."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from studbook.errors import DigestError, RecordError
from studbook.fingerprints.activations import Activations, commit_activations, projection_key, row_bytes
from studbook.fingerprints.challenge import challenge_bytes, draw_places
from studbook.fingerprints.trajectory import check_state, commit_trajectory, draw_step, open_state
from studbook.records import Digest, check_opening, merkle_root, open_merkle
from studbook.theory import clopper_pearson

N, WIDTH = 32, 48
SCHEME = Activations()
KEY = projection_key(64 * "0", 32 * "1")
HALF_STEP = 1.0 / 64.0
LIMIT = 0.02
"""Just above what rounding alone gives: identical states are within half a step, 1/64 = 0.0156."""


def states(seed: int = 0, n: int = N, width: int = WIDTH) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)


def distances(shown: np.ndarray, own: np.ndarray, key: bytes = KEY) -> np.ndarray:
    return SCHEME.distances(SCHEME.digest(shown, key), own, key)


# Projections


def test_the_same_states_are_within_half_a_step() -> None:
    """Whatever the numbers are: 100,000 tokens, some of whose projections are beyond the largest that is kept."""
    hidden = states(1, 100_000, 64)
    assert np.abs(SCHEME._project(hidden, KEY)).max() > 127 / 32
    assert distances(hidden, hidden).max() <= HALF_STEP


def test_a_projection_is_the_formula() -> None:
    """Signs from SHAKE-256 of key and position, times the state at unit length, in steps of 1/32."""
    import hashlib

    hidden = states(2, 5, 11)
    expected = []
    for position, row in enumerate(hidden.astype(float)):
        stream = hashlib.shake_256(KEY + position.to_bytes(8, "little")).digest(11)
        signs = np.array([1.0 if stream[i // 8] >> (7 - i % 8) & 1 else -1.0 for i in range(88)]).reshape(8, 11)
        expected.append(np.clip(np.rint(32 * signs @ row / np.linalg.norm(row)), -127, 127))
    digest = SCHEME.digest(hidden, KEY)
    assert np.frombuffer(digest.bits, np.int8).reshape(5, 8).tolist() == np.array(expected).tolist()
    assert (digest.scheme, digest.version, digest.parameters) == ("activations", 1, (("key", KEY.hex()), ("size", 8)))
    one = SCHEME.digest(hidden[3:4], KEY, first=3)
    assert one.bits == digest.bits[24:32]


@pytest.mark.parametrize("place", range(N))
@pytest.mark.parametrize("how", ["random", "neighbour", "zero", "negative", "turned", "mean"])
def test_any_one_of_32_replaced_is_found_and_nothing_else(place: int, how: str) -> None:
    """TOPLOC lets six of 32 pass. Smallest distance over 192 replacements is some 0.3; 0.1 leaves room."""
    own = states(3)
    shown = own.copy()
    shown[place] = {
        "random": states(4)[place], "neighbour": own[(place + 1) % N], "zero": 0.0 * own[place], "negative": -own[place],
        "turned": own[place][::-1], "mean": own.mean(axis=0),
    }[how]  # fmt: skip
    found = distances(shown, own)
    assert np.flatnonzero(found > 0.1).tolist() == [place]
    assert np.delete(found, place).max() <= HALF_STEP


def test_swapped_repeated_moved_and_omitted_rows_are_found() -> None:
    own = states(5)
    swapped = own.copy()
    swapped[[4, 20]] = swapped[[20, 4]]
    assert np.flatnonzero(distances(swapped, own) > 0.1).tolist() == [4, 20]
    repeated = own.copy()
    repeated[10:20] = own[9]
    assert np.flatnonzero(distances(repeated, own) > 0.1).tolist() == list(range(10, 20))
    assert np.flatnonzero(distances(np.roll(own, 1, axis=0), own) > 0.1).tolist() == list(range(N))
    # The same state everywhere: each position has a matrix of its own, so that even then no projection fits another place.
    constant = np.repeat(own[:1], N, axis=0)
    rows = np.frombuffer(SCHEME.digest(constant, KEY).bits, np.int8).reshape(N, 8)
    moved = Digest("activations", 1, (("key", KEY.hex()), ("size", 8)), np.roll(rows, 1, axis=0).tobytes())
    assert (SCHEME.distances(moved, constant, KEY) > 0.1).all()
    for digest in (SCHEME.digest(own[:-1], KEY), SCHEME.digest(np.vstack([own, own[:1]]), KEY), SCHEME.digest(own[:1], KEY)):
        with pytest.raises(DigestError, match=r"projections of .* tokens, the text has 32"):
            SCHEME.distances(digest, own, KEY)


def test_the_length_of_a_state_does_not_count_and_its_direction_does() -> None:
    own = states(6)
    assert distances(own * 1000.0, own).max() <= HALF_STEP
    assert distances(-own, own).min() > 0.5


def test_the_key_binds_commitment_nonce_and_purpose() -> None:
    keys = [
        projection_key(commitment, nonce) for commitment in (64 * "0", 64 * "1") for nonce in ("", 32 * "1", 32 * "2")
    ] + [challenge_bytes("rows", 64 * "0", "")]  # fmt: skip
    assert len(set(keys)) == 7
    own = states(7)
    for key in keys:
        for other in keys:
            digest = SCHEME.digest(own, key)
            if key == other:
                assert SCHEME.distances(digest, own, key).max() <= HALF_STEP
                continue
            with pytest.raises(DigestError, match="expected"):
                SCHEME.distances(digest, own, other)
            renamed = replace(digest, parameters=(("key", other.hex()), ("size", 8)))
            assert (SCHEME.distances(renamed, own, other) > 0.1).all()


@pytest.mark.parametrize(
    "digest",
    [
        Digest("activations", 2, (("key", KEY.hex()), ("size", 8)), bytes(256)),
        Digest("phash", 1, (("key", KEY.hex()), ("size", 8)), bytes(256)),
        Digest("activations", 1, (("key", KEY.hex()), ("size", 4)), bytes(256)),
        Digest("activations", 1, (), bytes(256)),
        Digest("activations", 1, (("key", KEY.hex()), ("note", 1), ("size", 8)), bytes(256)),
        Digest("activations", 1, (("key", KEY.hex()), ("size", 8)), bytes(255)),
        Digest("activations", 1, (("key", KEY.hex()), ("size", 8)), b"\0"),
    ],
)
def test_projections_of_another_form_are_refused(digest: Digest) -> None:
    with pytest.raises(DigestError):
        SCHEME.distances(digest, states(), KEY)


def test_projections_of_nothing_are_far_from_everything() -> None:
    zeros = Digest("activations", 1, (("key", KEY.hex()), ("size", 8)), bytes(256))
    assert SCHEME.distances(zeros, states(), KEY).min() > 0.2


@pytest.mark.parametrize("hidden", [np.zeros((0, 4)), np.zeros(4), np.zeros((2, 2, 2)), np.full((2, 4), np.nan), np.full((2, 4), np.inf)])
def test_states_that_are_none_are_refused(hidden: np.ndarray) -> None:
    with pytest.raises(DigestError):
        SCHEME.digest(hidden, KEY)


@pytest.mark.parametrize("size", [0, 1, 65, -8])
def test_impossible_sizes_are_refused(size: int) -> None:
    with pytest.raises(DigestError, match="2 to 64"):
        Activations(size=size)


# (relative change, at least this share is found, at most this share is found), at the limit of 0.02
FADE = [(0.002, 0.0, 0.05), (0.01, 0.0, 0.6), (0.03, 0.8, 1.0), (0.05, 0.98, 1.0), (0.1, 0.999, 1.0), (0.3, 0.999, 1.0)]


@pytest.mark.parametrize("change, least, most", FADE)
def test_how_detection_fades_with_the_size_of_a_change(change: float, least: float, most: float) -> None:
    """Clopper–Pearson at 1 − 1e-6 over 20,000 tokens, each moved by a share of its length in a direction of its own, which its maker
    couldn't choose to be blind to, as the matrix is drawn after the commitment: false alarm 6e-6."""
    own = states(8, 20_000)
    rng = np.random.default_rng(9)
    noise = rng.normal(size=own.shape)
    noise *= change * np.linalg.norm(own, axis=1, keepdims=True) / np.linalg.norm(noise, axis=1, keepdims=True)
    found = int((distances(own + noise, own) > LIMIT).sum())
    low, high = clopper_pearson(found, len(own), 1 - 1e-6)
    assert low >= least - 1e-12 and high <= most + 1e-12, f"{found} of {len(own)}: {low:.5f} to {high:.5f}"


@pytest.mark.parametrize("axes", [1, 2, 4])
def test_a_change_of_few_coordinates_is_no_easier_to_hide(axes: int) -> None:
    """Sparse changes of a tenth of the length; 20,000 tokens, Clopper–Pearson at 1 − 1e-6."""
    own = states(10, 20_000)
    rng, shown = np.random.default_rng(11), own.astype(float)
    lengths = np.linalg.norm(shown, axis=1)
    for _ in range(axes):
        shown[np.arange(len(own)), rng.integers(WIDTH, size=len(own))] += 0.1 * lengths / np.sqrt(axes) * rng.choice([-1, 1], len(own))
    found = int((distances(shown, own) > LIMIT).sum())
    assert clopper_pearson(found, len(own), 1 - 1e-6)[0] > 0.98


def test_a_replacement_that_is_as_near_as_any_other_state_is_found() -> None:
    """The adversary takes, of 2,000 states, the one nearest to what it has to replace: 300 tokens, all are found."""
    own, pool = states(12, 300), states(13, 2000)
    unit, others = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (own, pool))
    shown = pool[(unit @ others.T).argmax(axis=1)]
    assert (distances(shown, own) > 0.1).all()


def test_commitments_bind_every_bit_of_every_state() -> None:
    own = states(14)
    root = commit_activations(own)
    assert root == merkle_root([row.astype("<f4").tobytes() for row in own]) == commit_activations(own.astype(np.float64))
    rng = np.random.default_rng(15)
    for _ in range(200):
        changed = own.copy()
        flat = changed.view(np.uint32).reshape(-1)
        flat[rng.integers(flat.size)] ^= np.uint32(1) << np.uint32(rng.integers(32))
        assert commit_activations(changed) != root
    values = row_bytes(own)
    for i in range(N):
        check_opening(root, values[i], open_merkle(values, i))
        with pytest.raises(RecordError):
            check_opening(root, values[i], open_merkle(values, (i + 1) % N))
    with pytest.raises(RecordError, match="got none"):
        commit_activations(own[:0])


# Challenges


def test_places_are_distinct_sorted_and_within() -> None:
    for size in range(1, 20):
        for n in range(25):
            places = draw_places("rows", f"{size:064x}", str(n), n, size)
            assert list(places) == sorted(set(places)) and len(places) == min(n, size)
            assert all(0 <= place < size for place in places)


def test_places_are_uniform_and_change_with_everything() -> None:
    """χ² at level 1e-7 of 30,000 single places, and of the pairs."""
    drawn = [draw_places("rows", f"{i:064x}", 32 * "0", 2, 7) for i in range(30_000)]
    pairs = np.bincount([a * 7 + b for a, b in drawn], minlength=49).reshape(7, 7)
    assert (np.tril(pairs) == 0).all()
    assert stats.chisquare(pairs[np.triu_indices(7, 1)]).pvalue > 1e-7
    steps = np.bincount([draw_step(64 * "0", f"{i:032x}", 10) for i in range(30_000)], minlength=10)
    assert len(steps) == 10 and stats.chisquare(steps).pvalue > 1e-7
    assert len({draw_places(p, c, n, 3, 10**6) for p in ("rows", "step") for c in ("0", "1") for n in ("", "1")}) == 8


# Trajectories

STEPS = 8


def advance(state: np.ndarray, step: int) -> np.ndarray:
    """A step of a run that everybody can redo."""
    return (0.9 * np.roll(state, 1) + 0.1 * np.float32(step)).astype(np.float32)


def trajectory(seed: int = 0) -> np.ndarray:
    found = [states(seed, 4, 4)]
    for step in range(STEPS):
        found.append(advance(found[-1], step))
    return np.stack(found)


@pytest.mark.parametrize("wrong", range(STEPS))
def test_a_wrong_step_is_found_where_it_is_drawn_and_nowhere_else(wrong: int) -> None:
    """What follows the wrong step follows honestly from it: one step of eight doesn't hold. The share of nonces that find it is 1/8,
    binomial at level 1e-8 of 2,000 nonces in 8 tests: false alarm 8e-8."""
    run = trajectory()
    run[wrong + 1] += np.float32(0.01)
    for step in range(wrong + 1, STEPS):
        run[step + 1] = advance(run[step], step)
    root = commit_trajectory(run)
    openings = [open_state(run, i) for i in range(STEPS + 1)]
    found = 0
    for i in range(2000):
        step = draw_step(root, f"{i:032x}", STEPS)
        check_state(root, run[step], openings[step], step=step, steps=STEPS)
        check_state(root, run[step + 1], openings[step + 1], step=step + 1, steps=STEPS)
        broken = not np.array_equal(advance(run[step], step), run[step + 1])
        assert broken == (step == wrong)
        found += broken
    assert stats.binomtest(found, 2000, 1 / STEPS).pvalue > 1e-8


def test_a_state_that_was_not_committed_to_is_found() -> None:
    run = trajectory()
    root = commit_trajectory(run)
    for i in range(STEPS + 1):
        opening = open_state(run, i)
        assert check_state(root, run[i], opening, step=i, steps=STEPS) is None
        with pytest.raises(RecordError, match="doesn't lie under"):
            check_state(root, run[i] + np.float32(1e-6), opening, step=i, steps=STEPS)
        with pytest.raises(RecordError, match="doesn't lie under"):
            check_state(root, run[(i + 1) % (STEPS + 1)], opening, step=i, steps=STEPS)
        for step, steps in ((i + 1, STEPS), (i - 1, STEPS), (i, STEPS + 1), (i, STEPS - 1)):
            with pytest.raises(RecordError, match="an opening is of state"):
                check_state(root, run[i], opening, step=step, steps=steps)


def test_order_and_number_of_states_count() -> None:
    run = trajectory()
    assert len({commit_trajectory(each) for each in (run, run[::-1], run[:-1], run[1:], np.concatenate([run, run[-1:]]))}) == 5
