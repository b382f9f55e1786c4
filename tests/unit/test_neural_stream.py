"""The compiled parts of a decoder: products, norms, activations and whole texts, beside PyTorch's own."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from studbook.neural import stream
from studbook.neural.block_kernels import ACTIVATIONS, _activate, _gate, likelihoods, normalise
from studbook.neural.causal_attention import LONGEST
from studbook.neural.decoder import Decoder, DecoderConfig
from studbook.neural.decoder_layers import activate
from studbook.neural.generate import generate
from studbook.neural.language import PACKED_FROM, token_log_probs
from studbook.neural.options import Decoding
from studbook.neural.product_kernels import multiply_rows, pack
from studbook.neural.stream import Packed, text_log_likelihoods

CPU = torch.device("cpu")
PLAIN = DecoderConfig(vocabulary=70, width=24, layers=2, heads=4, context=20, special=1)
CONFIGS = {
    "gpt": PLAIN,
    "opt": replace(PLAIN, activation="relu", position_offset=2),
    "bloom": replace(PLAIN, positions="alibi", embedding_norm=True),
    "llama": replace(
        PLAIN, kv_heads=2, positions="rotary", norm="rms", activation="silu", gated=True, attention_bias=False, mlp_bias=False, inner=40
    ),
    "narrow": replace(PLAIN, width=8, activation="gelu", tied=False),
    "odd": replace(PLAIN, width=40, heads=2, kv_heads=1),
    "lines": replace(PLAIN, width=64, heads=4),
}


def decoder(config: DecoderConfig) -> Decoder:
    """A random decoder whose logits differ by something."""
    torch.manual_seed(0)
    model = Decoder(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8.0)
            else:
                parameter.add_(0.1 * torch.randn(parameter.shape))
    return model


def product(left: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    out = torch.full((len(left), len(weight)), math.nan)
    multiply_rows(left.numpy().ravel(), len(left), pack(weight, bias), out.numpy().reshape(-1))
    return out


@pytest.mark.parametrize("rows", [*range(1, 9), 15, 40])
@pytest.mark.parametrize(("depth", "columns"), [(1, 1), (5, 31), (48, 32), (64, 33), (192, 100)])
@pytest.mark.parametrize("biased", [True, False])
def test_products(rows: int, depth: int, columns: int, biased: bool) -> None:
    rng = torch.Generator().manual_seed(rows * depth)
    left, weight = torch.randn(rows, depth, generator=rng), torch.randn(columns, depth, generator=rng)
    bias = torch.randn(columns, generator=rng) if biased else None
    found = product(left, weight, bias)
    exact = functional.linear(left.double(), weight.double(), None if bias is None else bias.double())
    torch.testing.assert_close(found.double(), exact, atol=2e-6 * depth, rtol=1e-5)
    for row in range(rows):  # to the bit the same alone as beside others
        assert torch.equal(product(left[row : row + 1], weight, bias)[0], found[row])


@pytest.mark.parametrize("spoilt", [math.nan, math.inf])
def test_a_number_that_is_none_spoils_its_products(spoilt: float) -> None:
    left, weight = torch.ones(9, 6), torch.ones(40, 6)
    left[3, 2] = spoilt
    assert product(left, weight, None).isfinite().all(dim=1).tolist() == [row != 3 for row in range(9)]
    weight[35, 1] = spoilt
    assert product(torch.ones(9, 6), weight, None).isfinite().all(dim=0).tolist() == [column != 35 for column in range(40)]


@pytest.mark.parametrize("width", [1, 7, 16, 24, 192])
@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("shift", [0.0, 30.0])
def test_norms(width: int, centred: bool, shift: float) -> None:
    rng = torch.Generator().manual_seed(width)
    x, norm = torch.randn(5, width, generator=rng) + shift, torch.randn(2, width, generator=rng)
    out = torch.empty(5, width)
    normalise(x.numpy().reshape(-1), 5, norm.numpy().reshape(-1), (1e-5, centred), out.numpy().reshape(-1))
    wide, factors, added = x.double(), norm[0].double(), norm[1].double()
    if centred:
        expected = functional.layer_norm(wide, (width,), factors, added, 1e-5)
    else:
        expected = functional.rms_norm(wide, (width,), factors, 1e-5) + added
    torch.testing.assert_close(out.double(), expected, atol=1e-4 if shift and centred else 3e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name: str) -> None:
    given = torch.cat((torch.linspace(-12.0, 12.0, 2001), torch.tensor([-1e30, -200.0, -0.0, 0.0, 200.0, 1e30, math.nan])))
    found = given.clone()
    _activate(found.numpy(), np.uint64(0), np.uint64(len(given)), ACTIVATIONS.index(name))
    expected = activate(given.double(), name)
    torch.testing.assert_close(found.double(), expected, atol=5e-7, rtol=1e-6, equal_nan=True)


@pytest.mark.parametrize("depth", [3, 16, 21])
def test_gates(depth: int) -> None:
    given = torch.randn(7, 2 * depth, generator=torch.Generator().manual_seed(depth))
    flat = given.flatten().clone()
    _gate(flat.numpy(), np.uint64(7), np.uint64(depth), ACTIVATIONS.index("silu"))
    expected = functional.silu(given[:, :depth]) * given[:, depth:]
    torch.testing.assert_close(flat[: 7 * depth].view(7, depth), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("threads", [1, 2])
def test_log_probabilities_of_many_texts(name: str, threads: int) -> None:
    model, length = decoder(CONFIGS[name]), 20
    blocks = np.random.default_rng(1).integers(0, 70, (PACKED_FROM // length + 9, length)).astype(np.int32)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        found = token_log_probs(model, blocks, 70, device=CPU)
    finally:
        torch.set_num_threads(before)
    exact = token_log_probs(model.double(), blocks, 70, device=CPU)
    assert found.std() > 0.3
    np.testing.assert_allclose(found, exact, atol=2e-4)
    again = token_log_probs(model.float(), blocks[5:], 70, device=CPU)
    assert (again == found[5:]).all()  # to the bit, whatever is read beside them


@pytest.mark.parametrize("name", CONFIGS)
def test_log_probabilities_do_not_depend_on_how_many_texts_are_read_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokens = decoder(CONFIGS[name]), torch.randint(70, (23, 17), generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        packed = Packed.of(model)
        whole = text_log_likelihoods(model, packed, tokens, tokens)
        monkeypatch.setattr(stream, "READ_NUMBERS", 1)
        for rows, passed in ((1, 1), (40, 1), (40, 3), (64, 50)):
            monkeypatch.setattr(stream, "READ_ROWS", rows)
            monkeypatch.setattr(stream, "PASSED_ROWS", rows)
            monkeypatch.setattr(stream, "PASSED", passed)
            assert torch.equal(text_log_likelihoods(model, packed, tokens, tokens), whole)


def test_texts_longer_than_compiled_attention_takes_are_read_as_well() -> None:
    model, tokens = decoder(replace(PLAIN, context=LONGEST + 30)), torch.randint(70, (3, LONGEST + 25))
    with torch.inference_mode():
        found = text_log_likelihoods(model, Packed.of(model), tokens, tokens)
        exact = model.double()
        expected = functional.log_softmax(exact.logits(exact(tokens)), dim=2).gather(2, tokens[:, :, None])[:, :, 0]
    torch.testing.assert_close(found.double(), expected, atol=2e-4, rtol=0.0)


@pytest.mark.parametrize("gap", [0.0, 20.0, 44.0, 45.0, 90.0, 500.0, 1e5])
def test_a_token_that_is_certain_or_all_but_impossible(gap: float) -> None:
    """Sums over the token's own exponential would overflow, or lose digits; nothing is ever more than certain."""
    rng = torch.Generator().manual_seed(4)
    head, rows, targets = torch.randn(75, 24, generator=rng), torch.randn(21, 24, generator=rng), torch.randint(75, (21,), generator=rng)
    head[:, 0], rows[:, 0] = 0.0, 1.0
    head[7, 0], targets[::2] = gap, 7
    found = torch.empty(21)
    likelihoods(rows.numpy().ravel(), pack(head, None), head.numpy().ravel(), targets.numpy(), found.numpy())
    exact = functional.log_softmax(rows.double() @ head.double().T, dim=1).gather(1, targets[:, None])[:, 0]
    torch.testing.assert_close(found.double(), exact, atol=1e-5, rtol=1e-6)
    assert found.max() <= 0.0


@pytest.mark.parametrize(("size", "gain"), [(1e30, 1e10), (2.5e38, 30.0), (2.5e38, 1.0)])
def test_logits_that_overflow_are_no_probabilities(size: float, gain: float) -> None:
    rng = torch.Generator().manual_seed(5)
    head, rows = size * (2.0 * torch.rand(75, 24, generator=rng) - 1.0), gain * torch.randn(21, 24, generator=rng)
    targets, found = torch.randint(75, (21,), generator=rng), torch.empty(21)
    likelihoods(rows.numpy().ravel(), pack(head, None), head.numpy().ravel(), targets.numpy(), found.numpy())
    own = (rows.double() * head.double()[targets]).sum(dim=1).abs() > torch.finfo(torch.float32).max
    assert own.any()
    assert not (found > 0.0).any()
    assert not found[own].isfinite().any()


def test_a_large_vocabulary_loses_no_digits() -> None:
    head, rows, found = torch.zeros(200_000, 8), torch.ones(3, 8), torch.empty(3)
    head[5] = 1.0
    targets = torch.tensor([5, 6, 5])
    likelihoods(rows.numpy().ravel(), pack(head, None), head.numpy().ravel(), targets.numpy(), found.numpy())
    expected = functional.log_softmax(rows.double() @ head.double().T, dim=1).gather(1, targets[:, None])[:, 0]
    torch.testing.assert_close(found.double(), expected, atol=2e-6, rtol=0.0)


@pytest.mark.parametrize("spoilt", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["embedding.weight", "blocks.1.up.weight", "norm.weight"])
def test_a_weight_that_is_no_number_spoils_the_log_probabilities(spoilt: float, name: str) -> None:
    model, tokens = decoder(PLAIN), torch.arange(40).view(2, 20)
    with torch.inference_mode():
        model.get_parameter(name).view(-1)[-30 if name == "embedding.weight" else 3] = spoilt  # of the last token but one
        assert not text_log_likelihoods(model, Packed.of(model), tokens, tokens).isfinite().any()


def test_a_target_that_can_not_be_predicted_is_refused() -> None:
    model, tokens = decoder(PLAIN), torch.zeros(1, 5, dtype=torch.int64)
    with torch.inference_mode(), pytest.raises(IndexError, match="targets are 0 to 70, the vocabulary has 70 tokens"):
        text_log_likelihoods(model, Packed.of(model), tokens, torch.tensor([[0, 1, 70, 2, 3]]))


@pytest.mark.parametrize("decoding", [Decoding(), Decoding(temperature=0.0), Decoding(beams=3)])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_text_is_the_same_to_the_bit_beside_any_others(name: str, decoding: Decoding) -> None:
    model, rng = decoder(CONFIGS[name]), torch.Generator().manual_seed(2)
    prompts, uniforms = torch.randint(70, (11, 6), generator=rng), torch.rand(11, 12, dtype=torch.float64, generator=rng)
    with torch.inference_mode():
        together = model.prefill(prompts, beams=1, max_new=3)[0]
        for row in range(11):
            assert torch.equal(model.prefill(prompts[row : row + 1], beams=1, max_new=3)[0][0], together[row])
    whole, _ = generate(model, prompts, decoding=decoding, end=None, max_new=12, uniforms=uniforms)
    for row in range(11):
        part = slice(row, row + 1)
        alone, _ = generate(model, prompts[part], decoding=decoding, end=None, max_new=12, uniforms=uniforms[part])
        assert torch.equal(alone[0], whole[row])
