"""Parameters as bytes without copies, and their mean in blocks: the same bits as the plain way."""

from __future__ import annotations

import numpy as np
import pytest

from studbook.protocols.values import buffers, decode, encode, mean

SHAPES = [(), (0,), (1,), (3, 5), (1 << 14,), ((1 << 14) + 1,), (200, 300)]


def drawn(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    values = np.asarray(np.random.default_rng(seed).standard_normal(shape), np.float32)
    return np.where(values < -1.0, np.float32(-0.0), values)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_mean_in_blocks_is_the_plain_sum_to_the_bit(shape):
    several = [{"w": drawn(seed, shape)} for seed in range(3)]
    total = np.zeros(shape, np.float64)
    for share, each in zip(np.array([1.0, 2.0, 4.0]) / 7.0, several, strict=True):
        total += share * each["w"]
    found = mean(several, [1.0, 2.0, 4.0])["w"]
    assert found.dtype == np.float32
    assert found.shape == shape
    assert found.tobytes() == total.astype(np.float32).tobytes()


def test_the_mean_of_arrays_that_lie_otherwise():
    whole = drawn(0, (30, 20))
    strided, turned = whole[::2, ::2], np.ascontiguousarray(whole[::2, ::2].T).T
    assert mean([{"w": strided}, {"w": turned}])["w"].tolist() == strided.tolist()


def test_buffers_are_views_and_join_to_the_bytes():
    parameters = {"b": drawn(0, ()), "w": drawn(1, (3, 5)), "e": drawn(2, (0, 4)), "strided": drawn(3, (6, 6))[::2, ::3]}
    assert b"".join(buffers(parameters)) == encode(parameters)
    assert np.shares_memory(np.frombuffer(buffers({"w": parameters["w"]})[1], np.uint8), parameters["w"])


@pytest.mark.parametrize("offset", range(0, 33, 3))
def test_decoding_takes_memory_over_only_where_it_is_writable_and_aligned(offset):
    data = encode({"w": drawn(1, (3, 5))})
    memory = np.empty(len(data) + offset, np.uint8)
    memory[offset:] = np.frombuffer(data, np.uint8)
    found = decode(memoryview(memory)[offset:], "it")["w"]
    start = memory.__array_interface__["data"][0] + len(memory) - 60
    assert np.shares_memory(found, memory) == (start % 16 == 0)
    assert found.flags.writeable
    assert found.__array_interface__["data"][0] % 16 == 0
    assert encode({"w": found}) == data


def test_decoding_copies_what_belongs_to_somebody_else():
    data = encode({"w": drawn(1, (3, 5))})
    found = decode(data, "it")["w"]
    found[:] = 0.0
    assert encode(decode(data, "it")) == data
