"""Finding text watermarks at a vocabulary of 50,257, against transformers' detectors in one run.

The texts follow a Zipf law, as words do: 1,000 texts of 1,000 tokens. Transformers' ``WatermarkDetector`` (repeated n-grams ignored) and
its SynthID functions (g-values, repetition mask, mean) are run on a few of them and extrapolated; counts must be equal. Ours is timed with
its green lists filled; filling them is a row of its own.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from studbook.marks import Kgw, SynthId, TextMarkDetector
from studbook.marks.greenlists import GreenLists

VOCABULARY = 50_257
N_TEXTS, LENGTH = 1000, 1000
TARGET = 1000.0
KGW = Kgw(vocabulary=VOCABULARY, key=15_485_863)
SELF = Kgw(vocabulary=VOCABULARY, key=15_485_863, scheme="selfhash", context=4)
SYNTHID = SynthId(keys=tuple(range(101, 131)))


def zipf_texts() -> np.ndarray:
    """``(1000, 1000)`` token ids."""
    law = 1.0 / np.arange(1, VOCABULARY + 1)
    ranks = np.random.default_rng(0).permutation(VOCABULARY)
    return np.asarray(ranks[np.random.default_rng(1).choice(VOCABULARY, p=law / law.sum(), size=(N_TEXTS, LENGTH))])


def measured(work: Callable[[], Any], clock: Callable[[], float], repeats: int) -> tuple[float, Any]:
    """The median of some timings, and what came of the work."""
    times, found = [], None
    for _ in range(repeats):
        start = clock()
        found = work()
        times.append(clock() - start)
    return float(np.median(times)), found


def row(name: str, ours: float, peer: float, detail: str, target: float | None = None) -> dict[str, Any]:
    """A row of the table."""
    return {"name": name, "ours_s": ours, "peer_s": peer, "ratio": peer / ours, "target": target, "detail": detail}


def kgw_rows(texts: np.ndarray, n_peer: int, repeats: int) -> list[dict[str, Any]]:
    """Filling, then finding on one thread and on two."""
    import torch
    from transformers import WatermarkDetector

    config = SimpleNamespace(vocab_size=VOCABULARY, bos_token_id=-1, is_encoder_decoder=False)
    some, rows, given = torch.from_numpy(texts[:n_peer]), [], list(texts)
    # Compiled beforehand, and never with the lists that are timed.
    TextMarkDetector(Kgw(vocabulary=VOCABULARY, key=3)).detect_many(given[:2])
    tokens = np.unique(texts[:, :-1])
    lists = GreenLists(KGW)
    filling, _ = measured(lambda: lists.fill(tokens), time.process_time, 1)
    processor = KGW.processor()
    start = time.process_time()
    for token in tokens[:500].tolist():
        processor._get_greenlist_ids(torch.tensor([token]))
    theirs = (time.process_time() - start) / 500 * tokens.size
    detail = f"{tokens.size:,} distinct tokens come before another: {filling / tokens.size * 1e6:.0f} µs each, once; peer: torch.randperm"
    rows.append(row("KGW, vocabulary 50,257: filling the green lists", filling, theirs, detail))
    for threads, clock, unit in ((1, time.process_time, "CPU"), (2, time.perf_counter, "wall-clock")):
        torch.set_num_threads(threads)
        detector = TextMarkDetector(KGW, threads=threads)
        detector.detect_many(given)
        ours, found = measured(lambda detector=detector: detector.detect_many(given), clock, repeats)  # type: ignore[misc]
        peer = WatermarkDetector(config, "cpu", KGW.config(), ignore_repeated_ngrams=True)
        spent, expected = measured(lambda peer=peer: peer(some, return_dict=True), clock, 1)  # type: ignore[misc]
        if [each.n_green for each in found[:n_peer]] != expected.num_green_tokens.astype(int).tolist():
            raise SystemExit("the counts differ from transformers'")
        detail = (
            f"10⁶ tokens in {N_TEXTS:,} texts: {texts.size / ours / 1e6:.1f} M tokens a {unit} second, lists filled; "
            f"peer: {some.numel() / spent:,.0f} tokens a {unit} second on {n_peer} texts, extrapolated; counts equal"
        )
        name = f"KGW: finding marks, {'one thread' if threads == 1 else 'two threads'}"
        rows.append(row(name, ours, spent / n_peer * N_TEXTS, detail, TARGET if threads == 1 else None))
    torch.set_num_threads(1)
    return rows


def selfhash_row(texts: np.ndarray, n_ours: int, n_peer: int) -> dict[str, Any]:
    """``selfhash`` keeps no lists: a draw is worked out by itself."""
    import torch
    from transformers import WatermarkDetector

    config = SimpleNamespace(vocab_size=VOCABULARY, bos_token_id=-1, is_encoder_decoder=False)
    TextMarkDetector(SELF, counting="ngrams").detect(texts[0, :50])
    detector = TextMarkDetector(SELF, counting="ngrams")
    ours, found = measured(lambda: detector.detect_many(list(texts[:n_ours])), time.process_time, 1)
    peer = WatermarkDetector(config, "cpu", SELF.config(), ignore_repeated_ngrams=True)
    spent, expected = measured(lambda: peer(torch.from_numpy(texts[:n_peer]), return_dict=True), time.process_time, 1)
    if [each.n_green for each in found[:n_peer]] != expected.num_green_tokens.astype(int).tolist():
        raise SystemExit("the counts differ from transformers'")
    scale = n_ours / n_peer
    detail = f"{n_ours * LENGTH:,} tokens: {n_ours * LENGTH / ours:,.0f} a CPU second, nothing kept; counts equal"
    return row("KGW selfhash, context 4: finding marks", ours, spent * scale, detail)


def synthid_row(texts: np.ndarray, n_peer: int, repeats: int) -> dict[str, Any]:
    """Mean g-values of 30 keys."""
    import torch

    detector, processor = TextMarkDetector(SYNTHID), SYNTHID.processor()
    detector.detect_many(list(texts[:2]))
    ours, found = measured(lambda: detector.detect_many(list(texts)), time.process_time, repeats)

    def peer() -> Any:
        some = torch.from_numpy(texts[:n_peer])
        mask = processor.compute_context_repetition_mask(some)
        return (processor.compute_g_values(some).sum(dim=2) * mask).sum(dim=1)

    spent, expected = measured(peer, time.process_time, 1)
    if [each.n_green for each in found[:n_peer]] != expected.tolist():
        raise SystemExit("the g-values differ from transformers'")
    detail = (
        f"10⁶ tokens: {texts.size / ours / 1e6:.1f} M tokens a CPU second; "
        f"peer: {n_peer * LENGTH / spent:,.0f} on {n_peer} texts, extrapolated; g-values equal"
    )
    return row("SynthID, 30 keys: finding marks", ours, spent / n_peer * N_TEXTS, detail)


def run(*, n_peer: int = 2, repeats: int = 5) -> list[dict[str, Any]]:
    """The rows.

    Args:
        n_peer: Texts that transformers' KGW detector reads.
        repeats: Timings of ours; the median counts.
    """
    try:
        import transformers  # noqa: F401
    except ImportError:
        raise SystemExit("the benchmark of marks needs transformers: pip install 'studbook[neural]'") from None
    texts = zipf_texts()
    return [*kgw_rows(texts, n_peer, repeats), selfhash_row(texts, 20, 1), synthid_row(texts, 20, repeats)]


if __name__ == "__main__":
    print(json.dumps(run(), indent=2, ensure_ascii=False))
