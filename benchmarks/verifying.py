"""What it costs to verify a text: one pass over the claimed tokens against writing them, SmolLM2 on one thread and two."""

from __future__ import annotations

import statistics
import time

from studbook.neural.pretrained import find_folder
from studbook.records import Environment, TextSampling
from studbook.verification.claimant import answer, write_texts
from studbook.verification.language import TextEngine
from studbook.verification.measure import trace_text
from studbook.verification.models import register_model

ROUNDS, TOKENS = 5, 64
PROMPT = (
    "The museum was founded in the nineteenth century, and its first collection consisted of stones and plants from the region around it"
)


def run() -> list[dict]:
    model = register_model(find_folder("smollm2"))
    return [row(model, threads, sampling, name) for threads in (1, 2) for sampling, name in (
        (TextSampling(max_new=TOKENS, stop=False), "greedy"),
        (TextSampling(max_new=TOKENS, temperature=1.0, top_p=0.95, stop=False), "sampled, top-p .95"),
    )]  # fmt: skip


def row(model, threads: int, sampling: TextSampling, name: str) -> dict:
    engine = TextEngine(model, Environment(threads=threads))
    prompt = engine.encode(PROMPT)
    made = write_texts(engine, [PROMPT], sampling, [1])[0]
    evidence = answer(made.claim, made.states)
    trace_text(engine, made.claim, evidence)
    ours, theirs = [], []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        engine.write([prompt], sampling, [1])
        between = time.perf_counter()
        trace = trace_text(engine, made.claim, evidence)
        theirs.append(between - start)
        ours.append(time.perf_counter() - between)
    assert not trace.differs.any()
    ratios = [their / our for their, our in zip(theirs, ours, strict=True)]
    return {
        "name": f"verifying {TOKENS} tokens of SmolLM2 against writing them, {name}, {threads} thread{'s' if threads > 1 else ''}",
        "ours_s": statistics.median(ours),
        "peer_s": statistics.median(theirs),
        "ratio": statistics.median(ratios),
        "target": 8,
        "detail": f"openings, projections and digests included; ratios of {ROUNDS} rounds: {', '.join(f'{ratio:.1f}' for ratio in ratios)}",
    }


if __name__ == "__main__":
    for line in run():
        print(f"{line['name']}: {line['ours_s'] * 1e3:.0f} ms, writing {line['peer_s'] * 1e3:.0f} ms, {line['ratio']:.1f} x")
