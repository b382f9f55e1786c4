"""5-beam search and sampling of an OPT-like model of 2.6 million parameters, batch 32, 64 new tokens, against transformers' ``generate``.

The same weights, the same prompts, one and two threads; the beams have to be equal token for token. On one thread CPU time counts, on two
the wall clock.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import OPTConfig, OPTForCausalLM

from studbook.neural.architectures import decoder_config, to_decoder
from studbook.neural.checkpoints import load_into
from studbook.neural.decoder import Decoder
from studbook.neural.generate import generate
from studbook.neural.options import Decoding

BATCH, LENGTH, NEW, BEAMS, VOCABULARY = 32, 64, 64, 5, 4096
ROUNDS = 3


def models() -> tuple[Any, Decoder]:
    """A random model of transformers, and ours with the same weights."""
    torch.manual_seed(0)
    config = OPTConfig(
        vocab_size=VOCABULARY, hidden_size=192, word_embed_proj_dim=192, num_hidden_layers=4, ffn_dim=768, num_attention_heads=6,
        max_position_embeddings=256, dropout=0.0, bos_token_id=0, eos_token_id=1, pad_token_id=1, init_std=0.06,
    )  # fmt: skip
    theirs = OPTForCausalLM(config).eval()
    design = decoder_config(config, VOCABULARY, 0.0)
    assert design is not None
    ours = Decoder(design)
    load_into(ours, to_decoder(theirs.state_dict(), config, design, "a random OPT"), "a random OPT")
    return theirs, ours.eval()


def measure(work: str, threads: int) -> dict[str, object]:
    theirs, ours = models()
    prompts = torch.randint(4, VOCABULARY, (BATCH, LENGTH), generator=torch.Generator().manual_seed(1))
    uniforms = torch.rand(BATCH, NEW, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    beams = work == "5-beam search"
    options: dict[str, Any] = {"num_beams": BEAMS, "do_sample": False} if beams else {"do_sample": True, "top_k": 0}
    decoding = Decoding(beams=BEAMS if beams else 1)

    def peer() -> torch.Tensor:
        mask = torch.ones_like(prompts)
        return theirs.generate(prompts, attention_mask=mask, max_new_tokens=NEW, eos_token_id=None, pad_token_id=1, **options)[:, LENGTH:]

    def mine() -> torch.Tensor:
        return generate(ours, prompts, decoding=decoding, end=None, max_new=NEW, uniforms=uniforms)[0]

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        mine()  # compiles
        rounds = [(timed(mine, threads), timed(peer, threads)) for _ in range(ROUNDS)]
        equal = float((mine() == peer()).all(1).float().mean()) if beams else None
    finally:
        torch.set_num_threads(before)
    ratios = [theirs_s / ours_s for ours_s, theirs_s in rounds]
    ours_s, theirs_s = sorted(rounds, key=lambda pair: pair[1] / pair[0])[ROUNDS // 2]
    detail = f"{BATCH * NEW / ours_s:,.0f} tokens/s; ratios of {ROUNDS} rounds: " + ", ".join(f"{ratio:.2f}" for ratio in ratios)
    return {
        "name": f"{work}, OPT-like, 2.6 M parameters, batch {BATCH}, {NEW} new tokens, {threads} thread{'s' if threads > 1 else ''}",
        "ours_s": ours_s,
        "peer_s": theirs_s,
        "ratio": statistics.median(ratios),
        "target": 4.0 if beams else 3.0,
        "detail": detail + (f"; {equal:.0%} of the beams equal token for token" if equal is not None else ""),
    }


def timed(work: Callable[[], object], threads: int) -> float:
    clock = time.process_time if threads == 1 else time.perf_counter
    start = clock()
    work()
    return clock() - start


def run() -> list[dict[str, object]]:
    return [measure(work, threads) for work in ("5-beam search", "sampling") for threads in (1, 2)]


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
