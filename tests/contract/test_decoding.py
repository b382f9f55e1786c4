"""The contract of decoding: greedy decoding and beam search are transformers' token for token; sampling follows the exact law.

Models are random, in double precision, so that ties (and near ties, which rounding would decide) practically don't occur.
"""

from __future__ import annotations

import itertools
import random
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from scipy.stats import chisquare  # noqa: E402

from studbook.neural.architectures import decoder_config, to_decoder  # noqa: E402
from studbook.neural.checkpoints import load_into  # noqa: E402
from studbook.neural.decoder import Decoder, DecoderConfig  # noqa: E402
from studbook.neural.generate import generate  # noqa: E402
from studbook.neural.options import Decoding  # noqa: E402

END = 3


@pytest.fixture(autouse=True)
def one_thread():
    """Small products on several threads of a busy machine wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pair(vocabulary: int, spread: float, seed: int):
    """A random OPT of transformers, and the same weights in the decoder."""
    torch.manual_seed(seed)
    config = transformers.OPTConfig(
        vocab_size=vocabulary, hidden_size=16, word_embed_proj_dim=16, num_hidden_layers=2, ffn_dim=32, num_attention_heads=4,
        max_position_embeddings=40, dropout=0.0, pad_token_id=1, bos_token_id=2, eos_token_id=None, init_std=spread,
    )  # fmt: skip
    theirs = transformers.OPTForCausalLM(config).double().eval()
    ours = Decoder(decoder_config(config, vocabulary, 0.0)).double()
    load_into(ours, to_decoder(theirs.state_dict(), config, ours.config, "a random OPT"), "a random OPT")
    return theirs, ours.eval()


def expected(model, prompts, decoding: Decoding, end: int | None, max_new: int, min_new: int):
    """What transformers generates, filled up with the end token."""
    options = {"do_sample": False, "max_new_tokens": max_new, "pad_token_id": END, "eos_token_id": end, "num_beams": decoding.beams}
    if decoding.repetition_penalty != 1.0:
        options["repetition_penalty"] = decoding.repetition_penalty
    if decoding.beams > 1:
        options |= {"length_penalty": decoding.length_penalty, "early_stopping": False}
    if min_new:
        options["min_new_tokens"] = min_new
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = model.generate(prompts, attention_mask=torch.ones_like(prompts), **options)[:, prompts.shape[1] :]
    return torch.nn.functional.pad(found, (0, max_new - found.shape[1]), value=END)


CHOICES = random.Random(0)
CASES = [
    {
        "vocabulary": CHOICES.choice([5, 23, 60, 700]),
        "spread": CHOICES.choice([0.1, 0.3, 0.6]),
        "beams": CHOICES.choice([1, 2, 3, 5]),
        "repetition_penalty": CHOICES.choice([1.0, 1.0, 1.3, 0.8, 3.0]),
        "length_penalty": CHOICES.choice([1.0, 0.0, 2.0, -1.0]),
        "end": CHOICES.choice([None, END, END]),
        "length": CHOICES.choice([1, 5, 9]),
        "max_new": CHOICES.choice([1, 2, 10, 14]),
        "min_new": CHOICES.choice([0, 0, 1, 6]),
    }
    for _ in range(60)
]


@pytest.mark.parametrize("number", range(len(CASES)))
def test_token_for_token(number):
    case = CASES[number]
    theirs, ours = pair(case["vocabulary"], case["spread"], number)
    prompts = torch.randint(case["vocabulary"], (4, case["length"]))
    min_new = min(case["min_new"], case["max_new"]) if case["end"] is not None else 0
    decoding = Decoding(
        temperature=0.0 if case["beams"] == 1 else 1.0,
        beams=case["beams"],
        repetition_penalty=case["repetition_penalty"],
        length_penalty=case["length_penalty"],
    )
    tokens, lengths = generate(ours, prompts, decoding=decoding, end=case["end"], max_new=case["max_new"], min_new=min_new)
    wanted = expected(theirs, prompts, decoding, case["end"], case["max_new"], min_new)
    assert tokens.tolist() == wanted.tolist()
    if case["end"] is not None:
        ends = [row.index(END) + 1 if END in row else case["max_new"] for row in wanted.tolist()]
        assert lengths.tolist() == ends


def test_most_cases_end_before_the_last_token():
    """The cases above are of use: hypotheses end at different lengths in many of them."""
    early = 0
    for number, case in enumerate(CASES):
        if case["end"] is None or case["beams"] == 1 or case["max_new"] < 10:
            continue
        theirs, _ = pair(case["vocabulary"], case["spread"], number)
        prompts = torch.randint(case["vocabulary"], (4, case["length"]))
        decoding = Decoding(beams=case["beams"], length_penalty=case["length_penalty"])
        early += END in expected(theirs, prompts, decoding, END, case["max_new"], 0)[:, :-1].tolist()[0]
    assert early >= 3


def texts_and_law(model: Decoder, prompt: list[int], length: int, options: dict) -> tuple[list[tuple[int, ...]], np.ndarray]:
    """All texts of a length after a prompt, and their exact probabilities under a decoding, by transformers' processors."""
    vocabulary = model.vocabulary
    processors = transformers.LogitsProcessorList()
    if "repetition_penalty" in options:
        processors.append(transformers.RepetitionPenaltyLogitsProcessor(options["repetition_penalty"]))
    if "temperature" in options:
        processors.append(transformers.TemperatureLogitsWarper(options["temperature"]))
    if "top_k" in options:
        processors.append(transformers.TopKLogitsWarper(options["top_k"]))
    if "top_p" in options:
        processors.append(transformers.TopPLogitsWarper(options["top_p"]))
    texts, law = list(itertools.product(range(vocabulary), repeat=length)), []
    with torch.inference_mode():
        for text in texts:
            rows = torch.tensor([[*prompt, *text]])
            log_prob = 0.0
            for position in range(length):
                read = rows[:, : len(prompt) + position]
                scores = processors(read, model.logits(model(read))[:, -1].float())
                log_prob += float(scores.double().log_softmax(-1)[0, text[position]])
            law.append(np.exp(log_prob))
    return texts, np.array(law)


@pytest.mark.parametrize(
    "options",
    [{}, {"temperature": 0.6}, {"top_k": 3}, {"top_p": 0.7}, {"repetition_penalty": 1.8, "temperature": 1.4, "top_k": 4, "top_p": 0.9}],
)
def test_samples_follow_the_exact_law(options):
    """20,000 texts of two tokens against all 36, by Pearson's test at p > 1e-6 (false alarms: 1e-6 a case)."""
    torch.manual_seed(5)
    model = Decoder(DecoderConfig(vocabulary=6, width=16, layers=1, heads=2, context=8)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(20.0 if parameter.ndim > 1 else 1.0)
    texts, law = texts_and_law(model, [4, 1], 2, options)
    assert law.sum() == pytest.approx(1.0)
    n = 20_000
    uniforms = torch.from_numpy(np.random.default_rng(0).random((n, 2)))
    tokens, _ = generate(model, torch.tensor([[4, 1]]).expand(n, -1), decoding=Decoding(**options), end=None, max_new=2, uniforms=uniforms)
    counts = np.bincount(tokens[:, 0] * 6 + tokens[:, 1], minlength=len(texts))
    assert not counts[law == 0].any()
    likely = law * n > 5
    rest = [counts[~likely].sum()], [law[~likely].sum() * n]
    found, wanted = np.append(counts[likely], rest[0]), np.append(law[likely] * n, rest[1])
    kept = wanted > 0
    assert chisquare(found[kept], wanted[kept] * found[kept].sum() / wanted[kept].sum()).pvalue > 1e-6
