"""What the loop adds to a generation of ``wikitext-lm``.

In one run of the study's first case each generation is timed from the start of its training to the start of the next one's: mixing,
training, sampling, metrics, journal. Beside it stands what training and sampling took inside.
"""

from __future__ import annotations

import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from studbook.api import create_study
from studbook.learners.gpt import GptModel
from studbook.learners.prompted import Prompted

ROOT = Path(__file__).resolve().parent.parent
GENERATIONS = 6
TARGET = "≤ 1.05 ×"


def timed(function: Callable[..., Any], calls: list[tuple[float, float]]) -> Callable[..., Any]:
    """The function, which notes the start and the CPU seconds of each call."""

    def call(*arguments: Any, **named: Any) -> Any:
        start = time.process_time()
        result = function(*arguments, **named)
        calls.append((start, time.process_time() - start))
        return result

    return call


def run() -> dict[str, object]:
    overrides = (f"study.generations={GENERATIONS}", "study.replicates=1", 'grid.case=[{name="no real data"}]')
    study = create_study(ROOT / "studies" / "wikitext-lm.toml", overrides=overrides)
    fits: list[tuple[float, float]] = []
    samples: list[tuple[float, float]] = []
    fit, sample = Prompted.fit_from, GptModel.sample
    Prompted.fit_from, GptModel.sample = timed(fit, fits), timed(sample, samples)  # type: ignore[method-assign]
    try:
        with tempfile.TemporaryDirectory() as folder:
            study.run(Path(folder) / "run")
    finally:
        Prompted.fit_from, GptModel.sample = fit, sample  # type: ignore[method-assign]
    assert len(fits) == len(samples) == GENERATIONS + 1, "a generation is one training and one sample"
    starts = [start for start, _ in fits]
    whole = [after - before for before, after in itertools.pairwise(starts[1:])]  # generation 0 also compiles
    bare = [fits[g][1] + samples[g][1] for g in range(1, len(starts) - 1)]
    ratios = [ours / peer for ours, peer in zip(whole, bare, strict=True)]
    return {
        "name": "one generation of wikitext-lm, all in, against its bare training and sampling",
        "ours_s": statistics.median(whole),
        "peer_s": statistics.median(bare),
        "ratio": statistics.median(ratios),
        "target": TARGET,
        "detail": f"CPU; lower is better; generations 1 to {len(ratios)}: " + ", ".join(f"{ratio:.3f}" for ratio in ratios),
    }


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
