"""Our detectors give what transformers' give on the same ids: green counts, g-values and who is marked, exactly."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from studbook.marks import Kgw, SynthId, TextMarkDetector  # noqa: E402
from studbook.marks.greenlists import GreenLists  # noqa: E402
from studbook.marks.scanning import parts_of  # noqa: E402
from studbook.marks.synthid import SynthIdScorer, draw_table  # noqa: E402

VOCABULARY = 1000
CONFIG = SimpleNamespace(vocab_size=VOCABULARY, bos_token_id=-1, is_encoder_decoder=False)
KGW = [
    Kgw(vocabulary=VOCABULARY, key=15_485_863),
    Kgw(vocabulary=VOCABULARY, key=-7, gamma=0.5),
    Kgw(vocabulary=VOCABULARY, key=2**62 + 1, gamma=0.1, context=3),
    Kgw(vocabulary=VOCABULARY, key=15_485_863, scheme="selfhash", context=4),
    Kgw(vocabulary=VOCABULARY, key=2**61 - 1, scheme="selfhash", context=1),
]
SYNTHID = [
    SynthId(keys=(654, 400, 836, 123, 340, 443, 597, 160, 57)),
    SynthId(keys=(-5, 2**62, 17), ngram=3, table_seed=11, table_size=1 << 12),
    SynthId(keys=(1, 2, 3, 4), ngram=2, table_size=10_007),
]


@pytest.fixture(scope="module")
def network() -> Any:
    """A small GPT-2 with random weights, sharpened a little so that its texts repeat themselves."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY, n_positions=160, n_embd=32, n_layer=1, n_head=2, bos_token_id=None, eos_token_id=None
    )
    return transformers.GPT2LMHeadModel(config).eval()


def texts(seed: int, n: int = 12, length: int = 150) -> Iterator[np.ndarray]:
    """Texts of a Zipf law, whose n-grams often repeat."""
    rng = np.random.default_rng(seed)
    for _ in range(n):
        yield np.minimum(rng.zipf(1.3, size=length), VOCABULARY) - 1


def written(network: Any, mark: Kgw | SynthId, n: int = 6, prompt: int = 8) -> np.ndarray:
    torch.manual_seed(1)
    prompts = torch.randint(0, VOCABULARY, (n, prompt))
    made = network.generate(
        prompts,
        attention_mask=torch.ones_like(prompts),
        watermarking_config=mark.config(),
        do_sample=True,
        max_new_tokens=100,
        pad_token_id=0,
        top_k=40,  # selfhash marks nothing beyond the 40 likeliest
    )
    return made.numpy()


@pytest.mark.parametrize("mark", KGW, ids=lambda mark: f"{mark.scheme}-{mark.context}-{mark.gamma}")
def test_kgw_counts_are_those_of_transformers(mark: Kgw) -> None:
    theirs = transformers.WatermarkDetector(CONFIG, "cpu", mark.config(), ignore_repeated_ngrams=True)
    rows = np.stack([*texts(2), *texts(3)])
    expected = theirs(torch.from_numpy(rows), return_dict=True, z_threshold=3.0)
    found = TextMarkDetector(mark, counting="ngrams").detect_many(list(rows))
    assert [each.n_green for each in found] == expected.num_green_tokens.astype(int).tolist()
    assert [each.n_scored for each in found] == expected.num_tokens_scored.astype(int).tolist()
    draws = TextMarkDetector(mark).detect_many(list(rows))
    assert all(one.n_scored <= two.n_scored for one, two in zip(draws, found, strict=True))
    assert draws == found or mark.context > 1


@pytest.mark.parametrize("mark", KGW[:2] + KGW[3:4], ids=lambda mark: f"{mark.scheme}-{mark.gamma}")
def test_kgw_verdicts_are_those_of_transformers(network: Any, mark: Kgw) -> None:
    theirs = transformers.WatermarkDetector(CONFIG, "cpu", mark.config(), ignore_repeated_ngrams=True)
    made = written(network, mark)[:, 8:]
    plain = np.stack(list(texts(5, n=6, length=100)))
    rows = np.concatenate([made, plain])
    # A z of 5 is a normal tail of 2.9e-7; texts near the limit would tell the binomial from the normal tail, and there are none here.
    expected = theirs(torch.from_numpy(rows), return_dict=True, z_threshold=5.0)
    found = TextMarkDetector(mark).detect_many(list(rows))
    assert [each.p_value <= 2.9e-7 for each in found] == expected.prediction.tolist() == [True] * 6 + [False] * 6


def test_a_generators_prompt_is_left_out(network: Any) -> None:
    mark = KGW[0]
    rows = written(network, mark)
    found = TextMarkDetector(mark).detect_many(list(rows), prompt_len=8)
    # The first new token's green list follows the prompt's last token: one n-gram more than in the bare continuation.
    bare = TextMarkDetector(mark).detect_many([row[8:] for row in rows])
    assert all(one.n_scored - two.n_scored in (0, 1) for one, two in zip(found, bare, strict=True))
    assert all(one.window == (8, 108) for one in found)
    assert max(one.p_value_corrected for one in found) < 1e-9


@pytest.mark.parametrize("mark", SYNTHID, ids=lambda mark: f"{len(mark.keys)}-{mark.ngram}-{mark.table_size}")
def test_g_values_and_repeated_contexts_are_those_of_transformers(mark: SynthId) -> None:
    theirs = mark.processor()
    assert np.array_equal(theirs.sampling_table.numpy(), draw_table(mark))
    rows = np.stack(list(texts(7)))
    values = theirs.compute_g_values(torch.from_numpy(rows)).sum(dim=2).numpy()
    repeated = theirs.compute_context_repetition_mask(torch.from_numpy(rows)).numpy()
    scorer = SynthIdScorer.of(mark)
    (part,) = parts_of(list(rows), 0, VOCABULARY)
    fresh = scorer.fresh(part)
    hits = scorer.hits(part, fresh).reshape(len(rows), -1)[:, mark.ngram - 1 :]
    assert np.array_equal(fresh.reshape(len(rows), -1)[:, mark.ngram - 1 :], repeated)
    assert np.array_equal(hits, values * repeated)
    # The detectors' score without training: the mean g-value over places that aren't masked.
    means = (values * repeated).sum(axis=1) / (repeated.sum(axis=1) * len(mark.keys))
    found = TextMarkDetector(mark).detect_many(list(rows))
    assert np.allclose([each.green_rate for each in found], means, rtol=1e-12)


def test_synthid_that_transformers_wrote_is_found(network: Any) -> None:
    mark = SYNTHID[0]
    rows = written(network, mark)
    detector = TextMarkDetector(mark, SYNTHID[1])
    found = detector.detect_many(list(rows), prompt_len=8)
    assert max(each.p_value_corrected for each in found) < 1e-6
    assert {each.mark for each in found} == {0}
    other = TextMarkDetector(SYNTHID[1]).detect_many(list(rows), prompt_len=8)
    assert min(each.p_value for each in other) > 1e-4


@pytest.mark.parametrize("vocabulary", [2, 63, 64, 1000, 50_257, 151_936])
@pytest.mark.parametrize("key", [15_485_863, -7, 2**63 - 1])
def test_green_lists_are_pytorchs(vocabulary: int, key: int) -> None:
    mark = Kgw(vocabulary=vocabulary, key=key, gamma=0.5)
    theirs, ours = mark.processor(), GreenLists(mark)
    for token in {0, 1, vocabulary // 2, vocabulary - 1}:
        assert ours.of(token).tolist() == sorted(theirs._get_greenlist_ids(torch.tensor([token])).tolist())


def test_the_watermark_detectors_config_is_the_marks() -> None:
    theirs = transformers.WatermarkDetector(CONFIG, "cpu", KGW[0].config(), ignore_repeated_ngrams=True)
    assert theirs.processor.greenlist_size == KGW[0].n_green
    assert theirs.greenlist_ratio == KGW[0].gamma
