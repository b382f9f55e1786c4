"""Training an OPT-like model of 2.6 million parameters, batch 32, blocks of 64 tokens.

Against the same steps of transformers' ``Trainer``.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from functools import partial

import numpy as np
import torch
from transformers import Trainer, TrainingArguments

from benchmarks.decoding import BATCH, VOCABULARY, models
from studbook.neural.language import Windows
from studbook.neural.options import Training
from studbook.neural.training import fit_module

STEPS, LENGTH, ROUNDS = 30, 64, 3


def tokens() -> np.ndarray:
    """Zipf-distributed blocks."""
    ranks = 1.0 / np.arange(1, VOCABULARY + 1)
    return np.random.default_rng(0).choice(VOCABULARY, size=(BATCH * STEPS, LENGTH), p=ranks / ranks.sum()).astype(np.int32)


class Blocks(torch.utils.data.Dataset):
    """The blocks as ``Trainer`` wants them."""

    def __init__(self, blocks: np.ndarray) -> None:
        self.blocks = torch.from_numpy(blocks.astype(np.int64))

    def __len__(self) -> int:
        return len(self.blocks)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.blocks[index], "labels": self.blocks[index]}


def peer(blocks: np.ndarray, threads: int) -> tuple[float, float]:
    theirs, _ = models()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, per_device_train_batch_size=BATCH, num_train_epochs=1, learning_rate=1e-3, weight_decay=0.01,
            lr_scheduler_type="cosine", max_grad_norm=1.0, report_to=[], logging_strategy="no", save_strategy="no",
            use_cpu=True, disable_tqdm=True,
        )  # fmt: skip
        trainer = Trainer(model=theirs.train(), args=arguments, train_dataset=Blocks(blocks))
        start = clock(threads)
        result = trainer.train()
        return clock(threads) - start, result.training_loss


def mine(blocks: np.ndarray, threads: int) -> tuple[float, float]:
    _, ours = models()
    device = torch.device("cpu")
    windows = Windows.of(blocks, None, context=LENGTH, begin=0, device=device)
    options = Training(epochs=1, batch=BATCH, rate=1e-3, warmup=0.0, threads=threads)
    start = clock(threads)
    report = fit_module(ours, len(windows), partial(windows.loss, ours), options, device=device, rng=np.random.default_rng(0))
    return clock(threads) - start, report.loss


def clock(threads: int) -> float:
    return time.process_time() if threads == 1 else time.perf_counter()


def measure(threads: int) -> dict[str, object]:
    blocks = tokens()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        rounds = [(mine(blocks, threads), peer(blocks, threads)) for _ in range(ROUNDS)]
    finally:
        torch.set_num_threads(before)
    ratios = [theirs[0] / ours[0] for ours, theirs in rounds]
    ours, theirs = sorted(rounds, key=lambda pair: pair[1][0] / pair[0][0])[ROUNDS // 2]
    return {
        "name": f"training, the same model, batch {BATCH}, blocks of {LENGTH} tokens, {threads} thread{'s' if threads > 1 else ''}",
        "ours_s": ours[0],
        "peer_s": theirs[0],
        "ratio": statistics.median(ratios),
        "target": 1.2,
        "detail": f"{blocks.size / ours[0]:,.0f} tokens/s; losses {ours[1]:.2f} and {theirs[1]:.2f}; ratios of {ROUNDS} rounds: "
        + ", ".join(f"{ratio:.2f}" for ratio in ratios),
    }


def run() -> list[dict[str, object]]:
    return [measure(threads) for threads in (1, 2)]


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
