"""Compiled loops of decoding and of the token loss, each beside PyTorch's own operations."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import pytest
import torch
from torch.nn import functional

from studbook.neural import vectors
from studbook.neural.attention_kernels import attend, locate, padded
from studbook.neural.causal_attention import LONGEST, causal_attention
from studbook.neural.decoder import Decoder, DecoderConfig
from studbook.neural.generate import generate
from studbook.neural.kv_cache import FIRST_SLOTS
from studbook.neural.options import Decoding
from studbook.neural.parts import in_parts
from studbook.neural.sampling import sample
from studbook.neural.token_loss import token_log_likelihood, token_loss

U = np.uint64


@numba.njit
def _exp2(given: Any, out: Any) -> None:
    vectors.store(out, U(0), vectors.exp2(vectors.load(given, U(0))))


@numba.njit(fastmath={"nnan", "nsz", "arcp", "contract", "reassoc", "afn"})
def _exp2_fast(given: Any, out: Any) -> None:
    vectors.store(out, U(0), vectors.exp2(vectors.load(given, U(0))))


@numba.njit
def _reduced(given: Any) -> Any:
    first = vectors.load(given, U(0))
    return vectors.highest(first), vectors.total(first)


@pytest.mark.parametrize("work", [_exp2, _exp2_fast])
def test_powers_of_two(work: Any) -> None:
    given = np.array([-np.inf, -1e30, -127, -125.9, -30.3, -1, -0.5, -0.2, 0, 0.2, 0.5, 0.7, 1, 3, 10.4, 125.9], np.float32)
    out = np.empty(16, np.float32)
    work(given, out)
    assert out[:3].tolist() == [0.0, 0.0, 0.0]
    np.testing.assert_allclose(out[3:], np.exp2(given[3:].astype(np.float64)), rtol=3e-7)


def test_lanes_are_taken_together() -> None:
    given = np.random.default_rng(0).standard_normal(16).astype(np.float32)
    top, total = _reduced(given)
    assert top == given.max()
    assert total == pytest.approx(float(given.astype(np.float64).sum()), abs=1e-5)


@pytest.mark.parametrize("head_width", [4, 16, 24, 32, 48, 80])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2)])
@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("slope", [0.0, 0.25])
def test_attention_of_new_tokens(head_width: int, heads: int, kv_heads: int, beams: int, slope: float) -> None:
    n, n_read, steps = 3, 7, 14
    rng = np.random.default_rng(0)
    width, lines = (heads + 2 * kv_heads) * head_width, padded(head_width)
    n_slots = n_read + beams * steps
    cache = np.zeros((n, kv_heads, 2, n_slots, lines), np.float32)
    read = rng.standard_normal((n, kv_heads, 2, n_read, head_width)).astype(np.float32)
    cache[:, :, :, :n_read, :head_width] = read
    slots = np.zeros((n, beams, steps), np.int64)
    texts = [[[] for _ in range(beams)] for _ in range(n)]  # type: ignore[var-annotated]
    slopes = np.full(heads, slope, np.float32)
    for step in range(steps):
        parents = rng.integers(0, beams, (n, beams)) if step else np.zeros((n, beams), np.int64)
        projected = rng.standard_normal((n * beams, width)).astype(np.float32)
        places = np.empty((n, beams, padded(n_read + step + 1)), np.uint64)
        used = locate(slots, parents, n_read, step + 1, lines, places)
        assert beams <= used <= beams * (step + 1)
        out = np.empty((n * beams, heads * head_width), np.float32)
        sizes = (n, beams, heads, kv_heads, head_width, width, n_slots, n_read + step + 1)
        attend(projected.ravel(), cache.ravel(), places.ravel(), slopes, sizes, 1.0 / math.sqrt(head_width), out.ravel())
        new = projected[:, heads * head_width :].reshape(n, beams, 2, kv_heads, head_width)
        texts = [[[*texts[i][parents[i, j]], new[i, j]] for j in range(beams)] for i in range(n)]
        for i in range(n):
            for j in range(beams):
                both = np.concatenate([read[i], np.stack(texts[i][j], axis=2).transpose(1, 0, 2, 3)], axis=2)
                keys, values = (torch.from_numpy(np.repeat(both[:, part], heads // kv_heads, axis=0)) for part in range(2))
                query = torch.from_numpy(projected[i * beams + j, : heads * head_width].reshape(heads, 1, head_width))
                bias = slope * torch.arange(keys.shape[1], dtype=torch.float32).expand(heads, 1, -1)
                expected = functional.scaled_dot_product_attention(query, keys, values, attn_mask=bias).reshape(-1)
                np.testing.assert_allclose(out[i * beams + j], expected.numpy(), atol=3e-6)


@pytest.mark.parametrize(("heads", "kv_heads", "head_width"), [(4, 4, 32), (4, 2, 20), (6, 1, 8), (1, 1, 48)])
@pytest.mark.parametrize("length", [1, 7, 16, 50, 64, LONGEST])
def test_causal_attention_and_its_slopes(heads: int, kv_heads: int, head_width: int, length: int) -> None:
    rng = torch.Generator().manual_seed(length)
    projected = torch.randn(3, length, (heads + 2 * kv_heads) * head_width, generator=rng, requires_grad=True)
    slopes = torch.randn(3, length, heads * head_width, generator=rng)
    found, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            mixed = causal_attention(projected, heads, kv_heads)
            found.append((mixed, *torch.autograd.grad(mixed, projected, slopes)))
    finally:
        torch.set_num_threads(before)
    parts = projected.double().view(3, length, -1, head_width).transpose(1, 2)
    query, key, value = parts.split([heads, kv_heads, kv_heads], dim=1)
    exact = functional.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True).transpose(1, 2).flatten(2)
    expected = exact, *torch.autograd.grad(exact, projected, slopes.double())
    for got, again, wanted in zip(*found, expected, strict=True):
        assert (got == again).all()
        torch.testing.assert_close(got.double(), wanted.double(), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-3, 30.0])
def test_causal_attention_of_large_scores(scale: float) -> None:
    projected = torch.randn(2, 40, 3 * 16, generator=torch.Generator().manual_seed(1)) * scale
    query, key, value = projected.double()[:, None].chunk(3, dim=-1)
    expected = functional.scaled_dot_product_attention(query, key, value, is_causal=True)[:, 0]
    torch.testing.assert_close(causal_attention(projected, 1, 1).double(), expected, atol=2e-4 * scale, rtol=0.0)


@pytest.mark.parametrize("spoilt", [math.nan, math.inf])
@pytest.mark.parametrize("place", [3, 20, 40])
def test_a_number_that_is_none_spoils_what_reads_it(spoilt: float, place: int) -> None:
    projected = torch.ones(1, 30, 3 * 16)
    projected[0, 18, place] = spoilt
    spoils = ~causal_attention(projected, 1, 1).isfinite().all(dim=2)[0]
    assert spoils[18]
    assert place < 16 or spoils[18:].all()  # a query is its own token's alone
    assert not spoils[:16].any()


@pytest.fixture
def flat_decoder() -> Decoder:
    """Its logits hardly differ, so that beams stay apart for long."""
    torch.manual_seed(0)
    return Decoder(DecoderConfig(vocabulary=400, width=32, layers=2, heads=4, context=128)).eval()


@pytest.mark.parametrize("beams", [40, 3 * FIRST_SLOTS])
def test_more_slots_than_the_first(flat_decoder: Decoder, beams: int) -> None:
    prompts = torch.randint(400, (3, 4), generator=torch.Generator().manual_seed(1))
    new = 12
    found, _ = generate(flat_decoder, prompts, decoding=Decoding(beams=beams), end=None, max_new=new)
    # In double precision the general path is taken, which never moves a slot.
    exact, _ = generate(flat_decoder.double(), prompts, decoding=Decoding(beams=beams), end=None, max_new=new)
    assert (found == exact).all()


@pytest.mark.parametrize("decoding", [Decoding(beams=4), Decoding(temperature=0.0), Decoding(top_p=0.9)])
def test_parts_of_a_batch_on_two_threads(flat_decoder: Decoder, decoding: Decoding) -> None:
    prompts = torch.randint(400, (7, 5), generator=torch.Generator().manual_seed(2))
    uniforms = torch.rand(7, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 16):
            torch.set_num_threads(threads)
            found.append(generate(flat_decoder, prompts, decoding=decoding, end=7, max_new=20, uniforms=uniforms))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for tokens, lengths in found[1:]:
        assert (tokens == found[0][0]).all()
        assert (lengths == found[0][1]).all()


def test_an_error_in_a_part_is_raised() -> None:
    before = torch.get_num_threads()

    def work(part: slice) -> int:
        if part.stop == 4:
            raise ValueError("the second part")
        return part.start

    try:
        torch.set_num_threads(2)
        assert in_parts(lambda part: part.stop, 4) == [2, 4]
        with pytest.raises(ValueError, match="the second part"):
            in_parts(work, 4)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_weights_after_a_step_of_training_are_seen(flat_decoder: Decoder) -> None:
    prompts = torch.randint(400, (2, 4), generator=torch.Generator().manual_seed(4))

    def write(decoder: Decoder) -> torch.Tensor:
        return generate(decoder, prompts, decoding=Decoding(temperature=0.0), end=None, max_new=10)[0]

    before = write(flat_decoder)
    optimizer = torch.optim.AdamW(flat_decoder.parameters(), lr=0.3, fused=True)
    token_loss(flat_decoder(prompts).flatten(0, 1), flat_decoder.head_weight(), prompts.flatten()).backward()
    optimizer.step()
    fresh = Decoder(flat_decoder.config).eval()
    fresh.load_state_dict(flat_decoder.state_dict())
    after = write(flat_decoder)
    assert (after == write(fresh)).all()
    assert (after != before).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_more_tokens_than_there_is_room_for(flat_decoder: Decoder, dtype: torch.dtype) -> None:
    flat_decoder.to(dtype)
    with torch.inference_mode():
        _, writing = flat_decoder.prefill(torch.tensor([[1, 2]]), beams=1, max_new=2)
        writing.step(torch.tensor([3]))
        writing.step(torch.tensor([3]))
        with pytest.raises(IndexError, match="room for 2 new tokens"):
            writing.step(torch.tensor([3]))


def test_sampling_from_large_logits_at_a_low_temperature() -> None:
    logits = torch.linspace(-1.0, 1.0, 150)[torch.randperm(150, generator=torch.Generator().manual_seed(5))].repeat(200, 1)
    logits += torch.linspace(-9000.0, 9000.0, 200)[:, None]
    chosen = sample(logits.clone(), Decoding(temperature=1e-6), torch.full((200,), 0.5, dtype=torch.float64))
    best = logits.max(dim=1).values  # above 500 neighbours round to the same number
    assert (logits.gather(1, chosen[:, None])[:, 0] == best).all()


@pytest.mark.parametrize("vocabulary", [3, 16, 63, 64, 65, 1500])
@pytest.mark.parametrize("threads", [1, 2])
def test_token_loss_and_its_slopes(vocabulary: int, threads: int) -> None:
    rng = torch.Generator().manual_seed(vocabulary)
    hidden, weight = torch.randn(50, 8, generator=rng, requires_grad=True), torch.randn(vocabulary, 8, generator=rng, requires_grad=True)
    targets, shares = torch.randint(vocabulary, (50,), generator=rng), torch.rand(50, generator=rng)
    targets[::7] = -100
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        loss = token_loss(hidden, weight, targets, shares)
        slopes = torch.autograd.grad(loss, (hidden, weight))
        likelihood = token_log_likelihood(hidden, weight, targets.clamp(min=0))
    finally:
        torch.set_num_threads(before)
    logits = hidden.double() @ weight.double().T
    each = functional.cross_entropy(logits, targets, ignore_index=-100, reduction="none")
    expected = (each * shares).sum() / (targets != -100).sum()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), abs=1e-5)
    for got, wanted in zip(slopes, torch.autograd.grad(expected, (hidden, weight)), strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-6, rtol=1e-4)
    wanted = logits.log_softmax(-1).gather(1, targets.clamp(min=0)[:, None])[:, 0]
    torch.testing.assert_close(likelihood.double(), wanted.detach(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("spoilt", [math.nan, math.inf])
@pytest.mark.parametrize("row", [3, 49])
@pytest.mark.parametrize("training", [True, False])
def test_a_weight_that_is_no_number_spoils_the_loss(spoilt: float, row: int, training: bool) -> None:
    weight = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    weight[row, 2] = spoilt
    hidden, targets = torch.ones(10, 8), torch.zeros(10, dtype=torch.int64)
    assert not math.isfinite(float(token_loss(hidden, weight.requires_grad_(training), targets).detach()))
    assert not token_log_likelihood(hidden, weight, targets).isfinite().any()


def test_a_hidden_state_that_is_no_number_spoils_its_row() -> None:
    hidden = torch.ones(4, 8)
    hidden[2, 5] = math.nan
    found = token_log_likelihood(hidden, torch.ones(50, 8), torch.zeros(4, dtype=torch.int64))
    assert found.isfinite().tolist() == [True, True, False, True]


def test_a_target_outside_the_vocabulary_is_refused() -> None:
    hidden, weight = torch.ones(4, 8, requires_grad=True), torch.ones(50, 8)
    with pytest.raises(IndexError, match="a target is 50, the vocabulary has 50 tokens"):
        token_loss(hidden, weight, torch.tensor([1, 2, 50, 3]))
