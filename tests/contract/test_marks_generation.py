"""What our own sampler marks: the scores of transformers' processors, in transformers' order; n-gram models the same law by rejection."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from scipy.stats import chi2  # noqa: E402

from studbook.arrays import Batch, text  # noqa: E402
from studbook.errors import ConfigError  # noqa: E402
from studbook.learners import Gpt  # noqa: E402
from studbook.learners.causal_lm import CausalLM  # noqa: E402
from studbook.learners.ngram import NGram  # noqa: E402
from studbook.marks import TextMarkDetector  # noqa: E402
from studbook.marks.choice import lists_of, mark_of, marker_of  # noqa: E402
from studbook.neural.decoder import Decoder, DecoderConfig  # noqa: E402
from studbook.neural.options import Decoding, Marking, Training  # noqa: E402
from studbook.neural.sampling import truncate  # noqa: E402

KEY = 15_485_863
V = 200
MARKINGS = [
    Marking("kgw", keys=(KEY,)),
    Marking("kgw", keys=(-7,), gamma=0.5, delta=4.0, context=3),
    Marking("selfhash", keys=(KEY,), context=2),
    Marking("synthid", keys=(654, 400, 836)),
]


def some_text(seed: int = 0, n: int = 60, length: int = 40) -> Batch:
    rng = np.random.default_rng(seed)
    return text(rng.integers(V, size=(n, length)), tuple(map(str, range(V))))


@pytest.mark.parametrize("marking", MARKINGS, ids=lambda m: f"{m.scheme}-{m.context}")
@pytest.mark.parametrize("decoding", [Decoding(), Decoding(temperature=0.7, top_k=50, top_p=0.9)], ids=["plain", "cut"])
def test_scores_are_those_of_transformers(marking: Marking, decoding: Decoding) -> None:
    torch.manual_seed(0)
    model = Decoder(DecoderConfig(vocabulary=V, width=32, layers=1, heads=2, context=24, special=1)).eval().prepare()
    mark, marker = mark_of(marking, V), marker_of(marking, V)
    assert mark is not None
    assert marker is not None
    prompts = torch.cat([torch.full((6, 1), V), torch.randint(0, V, (6, 4))], dim=1)
    theirs = mark.processor()
    with torch.inference_mode():
        plain, plain_writing = model.prefill(prompts, beams=1, max_new=10)
        marked, marked_writing = marker.wrap(model, decoding).prefill(prompts, beams=1, max_new=10)
        ids = prompts[:, 1:]  # the begin-of-text token isn't one of the vocabulary
        for _ in range(8):
            expected = theirs(ids, truncate(plain.float().clone(), decoding))
            assert torch.equal(marked, expected)
            chosen = torch.multinomial(expected.softmax(dim=-1), 1)[:, 0]
            ids = torch.cat((ids, chosen[:, None]), dim=1)
            plain, marked = plain_writing.step(chosen), marked_writing.step(chosen)


@pytest.mark.parametrize("marking", MARKINGS, ids=lambda m: f"{m.scheme}-{m.context}")
def test_a_learners_marked_text_is_found_and_its_plain_text_is_not(marking: Marking) -> None:
    data = some_text()
    # Transformers' selfhash marks nothing beyond the 40 likeliest.
    decoding = Decoding(top_k=40 if marking.scheme == "selfhash" else 0)
    learner = Gpt(layers=1, width=16, heads=2, training=Training(epochs=1, batch=32), decoding=decoding, mark=marking)
    model = learner.fit(data, rng=np.random.default_rng(0))
    detector = TextMarkDetector(mark_of(marking, V))
    # Blocks end to end: what crosses a boundary carries no mark and dilutes it a little.
    marked = model.sample(60, rng=np.random.default_rng(1)).values.reshape(6, -1)
    plain = model.plain().sample(60, rng=np.random.default_rng(1)).values.reshape(6, -1)
    # A false alarm of the second line comes with p < 6e-4.
    assert max(each.p_value for each in detector.detect_many(list(marked))) < 1e-6
    assert min(each.p_value for each in detector.detect_many(list(plain))) > 1e-4


def test_a_causal_lms_marked_text_is_found() -> None:
    learner = CausalLM(
        training=Training(epochs=1, batch=32),
        mark=Marking("kgw", keys=(KEY,), delta=4.0),
    )
    model = learner.fit(some_text(), rng=np.random.default_rng(0))
    marked = model.sample(40, rng=np.random.default_rng(1)).values.reshape(4, -1)
    assert max(each.p_value for each in TextMarkDetector(mark_of(learner.mark, V)).detect_many(list(marked))) < 1e-9


def test_an_ngram_models_marked_law_is_exact() -> None:
    """Chi-squared of a word's marked law after each word, false-alarm rate 1e-4 (one test)."""
    rng = np.random.default_rng(0)
    words = 6
    data = text(rng.integers(words, size=(50, 2)), tuple(map(str, range(words))))
    marking = Marking("kgw", keys=(KEY,), gamma=0.5, delta=1.5)
    model = NGram(order=2, mark=marking).fit(data, rng=rng)
    counted = Counter(map(tuple, model.sample(200_000, rng=rng).values.tolist()))
    green = np.unpackbits(lists_of(marking, words).view(np.uint8), axis=1, count=words, bitorder="little")
    pairs = np.array([(a, b) for a in range(words) for b in range(words)])
    law = np.exp(model.plain().token_log_prob(Batch(pairs.astype(np.int32), data.space))).reshape(words, words, 2)
    bent = law[:, :, 1] * np.exp(marking.delta * green)
    expected = 200_000 * law[:, :, 0] * bent / bent.sum(axis=1, keepdims=True)
    got = np.array([counted[tuple(pair)] for pair in pairs.tolist()]).reshape(words, words)
    distance = float(((got - expected) ** 2 / expected).sum())
    assert distance < chi2.isf(1e-4, words * words - 1)


def test_an_ngram_models_marked_text_is_found_after_truncation() -> None:
    learner = NGram(order=2, temperature=0.9, top_k=100, mark=Marking("kgw", keys=(KEY,)))
    model = learner.fit(some_text(), rng=np.random.default_rng(0))
    rows = model.sample(40, rng=np.random.default_rng(1)).values.reshape(4, -1)
    detector = TextMarkDetector(mark_of(learner.mark, V))
    assert max(each.p_value for each in detector.detect_many(list(rows))) < 1e-9
    again = model.sample(40, rng=np.random.default_rng(1)).values.reshape(4, -1)
    assert np.array_equal(rows, again)


def test_what_cannot_be_marked_is_refused() -> None:
    data = some_text()
    with pytest.raises(ConfigError, match="beams"):
        Gpt(mark=MARKINGS[0], decoding=Decoding(beams=2)).check_original(data)
    with pytest.raises(ConfigError, match="temperature"):
        Gpt(mark=MARKINGS[3], decoding=Decoding(temperature=0.0)).check_original(data)
    with pytest.raises(ConfigError, match="scheme"):
        NGram(mark=MARKINGS[3])
    with pytest.raises(ConfigError, match="one number"):
        Marking("kgw")
    with pytest.raises(ConfigError, match="share their green lists"):
        NGram(mark=Marking("kgw", keys=(1 << 30,))).check_original(data)
    with pytest.raises(ConfigError, match="context of 1"):
        model = NGram(mark=Marking("kgw", keys=(KEY,), context=2)).fit(data, rng=np.random.default_rng(0))
        model.sample(2, rng=np.random.default_rng(0))
