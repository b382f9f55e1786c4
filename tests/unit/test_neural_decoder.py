"""The decoder: cached and uncached logits agree, compiled loops do what PyTorch does, and the sliced loss is the plain one."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional  # noqa: E402

from studbook.errors import ConfigError  # noqa: E402
from studbook.neural import generate as engine  # noqa: E402
from studbook.neural import token_loss as losses  # noqa: E402
from studbook.neural.decoder import Decoder, DecoderConfig  # noqa: E402
from studbook.neural.generate import generate  # noqa: E402
from studbook.neural.options import Decoding  # noqa: E402
from studbook.neural.sampling import draw, largest, sample, survey, truncate  # noqa: E402
from studbook.neural.token_loss import IGNORED, token_log_likelihood, token_loss  # noqa: E402

PLAIN = DecoderConfig(vocabulary=50, width=24, layers=2, heads=4, context=20)
CONFIGS = {
    "opt": replace(PLAIN, position_offset=2, activation="relu"),
    "gpt": replace(PLAIN, special=1, dropout=0.5),
    "bloom": replace(PLAIN, width=48, heads=6, positions="alibi", embedding_norm=True),
    "llama": replace(
        PLAIN, kv_heads=2, head_width=10, positions="rotary", norm="rms", activation="silu", gated=True,
        attention_bias=False, mlp_bias=False, tied=False, inner=40,
    ),
    "bare": replace(PLAIN, kv_heads=1, positions="rotary", activation="gelu", tied=False),
}  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread():
    """Small products on several threads of a busy machine wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def decoder(config: DecoderConfig, seed: int = 0, spread: float = 10.0) -> Decoder:
    """A random decoder whose logits differ by something."""
    torch.manual_seed(seed)
    model = Decoder(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(spread)
            else:
                parameter.add_(0.1 * torch.randn(parameter.shape))
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])  # compiled attention, and PyTorch's
@pytest.mark.parametrize("name", CONFIGS)
def test_a_cache_changes_nothing(name, dtype):
    model = decoder(CONFIGS[name]).to(dtype)
    tokens = torch.randint(50, (3, 16))
    with torch.inference_mode():
        expected = model.logits(model(tokens))
        logits, writing = model.prefill(tokens[:, :5], beams=1, max_new=12)
        found = [logits, *(writing.step(tokens[:, t]).clone() for t in range(5, 16))]
    assert expected.std() > 0.5
    torch.testing.assert_close(torch.stack(found, 1), expected[:, 4:], rtol=0, atol=1e-9 if dtype == torch.float64 else 2e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", CONFIGS)
def test_beams_read_their_own_past(name, dtype):
    model, rng = decoder(CONFIGS[name]).to(dtype), torch.Generator().manual_seed(1)
    prompts, beams = torch.randint(50, (2, 4), generator=rng), 3
    texts = prompts.repeat_interleave(beams, 0)
    with torch.inference_mode():
        logits, writing = model.prefill(prompts, beams=beams, max_new=8)
        torch.testing.assert_close(logits, model.logits(model(prompts))[:, -1], rtol=0, atol=2e-4)
        for _ in range(7):
            parents = torch.randint(beams, (2 * beams,), generator=rng)
            new = torch.randint(50, (2 * beams,), generator=rng)
            rows = torch.arange(2 * beams) // beams * beams + parents
            texts = torch.cat((texts[rows], new[:, None]), 1)
            found = writing.step(new, parents)
            expected = model.logits(model(texts))[:, -1]
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-9 if dtype == torch.float64 else 2e-4)


def test_nothing_is_seen_of_the_future():
    model = decoder(PLAIN)
    tokens = torch.randint(50, (1, 12))
    other = tokens.clone()
    other[0, 8:] = (tokens[0, 8:] + 1) % 50
    first, second = model(tokens), model(other)
    assert torch.equal(first[:, :8], second[:, :8])
    assert not torch.allclose(first[:, 8:], second[:, 8:])


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"width": 25}, "width, 25, isn't divisible by its 4 heads"),
        ({"kv_heads": 3}, "4 heads can't share 3 key-value heads"),
        ({"layers": 0}, "layers is 0, expected 1 or more"),
        ({"positions": "rotary", "head_width": 5}, "even width, got 5"),
        ({"dropout": 1.0}, "dropout is 1.0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes, said):
    with pytest.raises(ConfigError, match=said):
        replace(PLAIN, **sizes)


def test_dropout_acts_in_training_alone():
    model = decoder(CONFIGS["gpt"])
    tokens = torch.randint(50, (2, 10))
    assert torch.equal(model(tokens), model(tokens))
    model.train()
    assert not torch.equal(model(tokens), model(tokens))


@pytest.mark.parametrize("decoding", [Decoding(), Decoding(temperature=0.0), Decoding(beams=3), Decoding(top_k=7, repetition_penalty=1.4)])
def test_results_do_not_depend_on_what_is_written_beside_them(decoding):
    model = decoder(PLAIN).double()  # rounding apart
    prompts, uniforms = torch.randint(50, (6, 5)), torch.rand(6, 12, dtype=torch.float64)
    together = generate(model, prompts, decoding=decoding, end=3, max_new=12, min_new=2, uniforms=uniforms)
    for row in range(6):
        part = slice(row, row + 1)
        alone = generate(model, prompts[part], decoding=decoding, end=3, max_new=12, min_new=2, uniforms=uniforms[part])
        assert torch.equal(alone[0][0], together[0][row])
        assert alone[1][0] == together[1][row]


@pytest.mark.parametrize("decoding", [Decoding(), Decoding(temperature=0.0), Decoding(beams=4)])
def test_continuations_end_and_are_filled_up(decoding):
    model = decoder(PLAIN, spread=4.0)
    tokens, lengths = generate(
        model, torch.randint(50, (40, 3)), decoding=decoding, end=7, max_new=15, min_new=3, uniforms=torch.rand(40, 15, dtype=torch.float64)
    )
    for row, length in zip(tokens.tolist(), lengths.tolist(), strict=True):
        assert 3 < length <= 15
        assert 7 not in row[: length - 1]
        assert length == 15 or row[length - 1 :] == [7] * (16 - length)
    if decoding.beams == 1 and decoding.temperature:
        assert int(lengths.min()) < 15


def test_nothing_to_write():
    model = decoder(PLAIN)
    for prompts, max_new in ((torch.zeros(0, 3, dtype=torch.int64), 4), (torch.zeros(2, 3, dtype=torch.int64), 0)):
        tokens, lengths = generate(model, prompts, decoding=Decoding(beams=2), end=None, max_new=max_new)
        assert tokens.shape == (len(prompts), max_new)
        assert lengths.shape == (len(prompts),)
    with pytest.raises(ConfigError, match="needs uniform numbers"):
        generate(model, torch.zeros(2, 3, dtype=torch.int64), decoding=Decoding(), end=None, max_new=2)


def test_a_token_that_is_only_read_takes_no_penalty():
    model = decoder(replace(PLAIN, special=1))
    prompts = torch.tensor([[50, 4, 9], [50, 8, 8]])
    tokens, _ = generate(model, prompts, decoding=Decoding(beams=2, repetition_penalty=2.0), end=None, max_new=6)
    assert int(tokens.max()) < 50
    only = generate(model, prompts[:, :1], decoding=Decoding(temperature=0.0, repetition_penalty=2.0), end=None, max_new=6)[0]
    assert int(only.max()) < 50


@pytest.mark.parametrize("width", [3, 64, 130, 1000])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.5},
        {"top_k": 3},
        {"top_k": 60, "temperature": 2.0},
        {"top_p": 0.8},
        {"top_p": 0.3, "top_k": 40},
        {"top_p": 1e-9},
    ],
)
def test_compiled_sampling_is_pytorchs(width, options):
    torch.manual_seed(width)
    decoding, scores, uniforms = Decoding(**options), 3 * torch.randn(200, width), torch.rand(200, dtype=torch.float64)
    scores[3, :2], uniforms[3] = -torch.inf, 0.0
    uniforms[4] = 1.0 - 2.0**-53
    compiled = sample(scores.clone(), decoding, uniforms)
    plain = draw(truncate(scores.double(), decoding), uniforms)
    assert (compiled != plain).sum() <= 1  # a uniform number on the border of two tokens
    kept = truncate(scores.clone(), decoding)
    assert torch.isfinite(kept.gather(1, compiled[:, None])).all()


def test_numbers_that_are_not_finite_do_not_break_out():
    """A damaged model writes something, and nothing outside the vocabulary."""
    for bad in (torch.nan, torch.inf):
        scores = torch.full((2, 70), bad)
        for decoding in (Decoding(), Decoding(top_k=5), Decoding(top_p=0.5)):
            found = sample(scores.clone(), decoding, torch.rand(2, dtype=torch.float64))
            assert 0 <= int(found.min()) <= int(found.max()) < 70


@pytest.mark.parametrize(("width", "k"), [(5, 2), (700, 2), (3000, 10), (3001, 3)])
def test_the_largest_are_found_in_a_few_runs(width, k):
    scores = torch.randn(20, width)
    totals, maxima = survey(scores)
    torch.testing.assert_close(totals, scores.logsumexp(1, keepdim=True))
    for known in (None, maxima):
        values, places = largest(scores, k, known)
        assert torch.equal(values, scores.topk(k)[0])
        assert torch.equal(scores.gather(1, places), values)


def test_the_likeliest_of_all_texts_is_found_by_wide_beams():
    """With as many beams as there are texts, beam search is exhaustive."""
    model = decoder(replace(PLAIN, vocabulary=5, context=8), spread=6.0).double()
    prompts = torch.tensor([[0, 3], [2, 2]])
    tokens, _ = generate(model, prompts, decoding=Decoding(beams=125), end=None, max_new=3)
    texts = torch.tensor(list(itertools.product(range(5), repeat=3)))
    for prompt, found in zip(prompts, tokens, strict=True):
        rows = torch.cat((prompt.expand(len(texts), -1), texts), 1)
        scores = model.logits(model(rows)).log_softmax(-1)[:, 1:-1].gather(2, texts[:, :, None]).sum((1, 2))
        assert found.tolist() == texts[scores.argmax()].tolist()


@pytest.mark.parametrize("weighted", [False, True])
def test_the_sliced_loss_is_cross_entropy(weighted, monkeypatch):
    monkeypatch.setattr(losses, "SLICE_BYTES", 4 * 30 * 7)
    torch.manual_seed(0)
    hidden, weight = (torch.randn(n, 8, dtype=torch.float64, requires_grad=True) for n in (50, 30))
    targets, shares = torch.randint(30, (50,)), torch.rand(50, dtype=torch.float64) if weighted else None
    targets[3] = IGNORED
    each = functional.cross_entropy(hidden @ weight.T, targets, ignore_index=IGNORED, reduction="none")
    expected = (each if shares is None else each * shares).sum() / 49
    loss = token_loss(hidden, weight, targets, shares)
    torch.testing.assert_close(loss, expected)
    for found, wanted in zip(
        torch.autograd.grad(3 * loss, (hidden, weight)), torch.autograd.grad(3 * expected, (hidden, weight)), strict=True
    ):
        torch.testing.assert_close(found, wanted)
    kept = targets.clamp(min=0)
    torch.testing.assert_close(
        token_log_likelihood(hidden, weight, kept), -functional.cross_entropy(hidden @ weight.T, kept, reduction="none")
    )


def test_the_sliced_loss_in_mixed_precision():
    torch.manual_seed(0)
    hidden, weight, targets = torch.randn(40, 16, requires_grad=True), torch.randn(30, 16, requires_grad=True), torch.randint(30, (40,))
    with torch.autocast("cpu", torch.bfloat16):
        loss = token_loss(hidden, weight, targets)
    loss.backward()
    expected = functional.cross_entropy(hidden @ weight.T, targets)
    torch.testing.assert_close(loss, expected, rtol=0.02, atol=0.0)
    wanted = torch.autograd.grad(expected, weight)[0]
    assert float((weight.grad - wanted).norm() / wanted.norm()) < 0.02
    with torch.no_grad():
        assert not token_loss(hidden, weight, targets).requires_grad


def test_the_buffer_without_onednn(monkeypatch):
    class Lacking:
        def __getattr__(self, name):
            raise AttributeError(name)

    model, prompts = decoder(PLAIN), torch.randint(50, (3, 4))
    expected = generate(model, prompts, decoding=Decoding(temperature=0.0), end=None, max_new=5)[0]
    monkeypatch.setattr(torch.ops, "mkldnn", Lacking())
    assert torch.equal(generate(model, prompts, decoding=Decoding(temperature=0.0), end=None, max_new=5)[0], expected)


def test_any_model_that_reads_and_writes_can_be_decoded():
    """The engine asks for ``prefill`` and ``step`` alone."""

    class Counting:
        def prefill(self, prompts, *, beams, max_new):
            self.beams = beams
            return functional.one_hot((prompts[:, -1] + 1) % 10, 10).float(), self

        def step(self, tokens, parents=None):
            return functional.one_hot((tokens + 1) % 10, 10).float()

    for decoding in (Decoding(temperature=0.0), Decoding(beams=3)):
        tokens, _ = engine.generate(Counting(), torch.tensor([[3], [8]]), decoding=decoding, end=None, max_new=4)
        assert tokens.tolist() == [[4, 5, 6, 7], [9, 0, 1, 2]]


def test_more_threads_write_the_same():
    model, prompts = decoder(PLAIN).double(), torch.randint(50, (5, 4))
    before, texts = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            texts.append(generate(model, prompts, decoding=Decoding(beams=3), end=2, max_new=9)[0].tolist())
    finally:
        torch.set_num_threads(before)
    assert texts[0] == texts[1]
    assert np.shape(texts[0]) == (5, 9)
