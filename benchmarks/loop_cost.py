"""What the loop adds to a generation of ``wikitext-lm``.

The study's own generations, all in (mixing, metrics, journal, result), against the bare calls that train and sample the same networks on
the same records.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from studbook.api import create_study
from studbook.rng import stream

ROOT = Path(__file__).resolve().parent.parent
GENERATIONS = 3
ROUNDS = 3
TARGET = "≤ 1.05 ×"


def plan(last: int) -> Any:
    """The study's first case, one replicate, up to generation ``last``."""
    overrides = (f"study.generations={last}", "study.replicates=1", 'grid.case=[{name="no real data"}]')
    return create_study(ROOT / "studies" / "wikitext-lm.toml", overrides=overrides)


def whole(last: int) -> float:
    """CPU seconds of a run, planning not counted."""
    study = plan(last)
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        study.run(Path(folder) / "run")
        return time.process_time() - start


def bare() -> float:
    """CPU seconds of ``GENERATIONS`` trainings and samplings, nothing else."""
    study = plan(GENERATIONS)
    job = study.plan.jobs[0]
    dataset = next(iter(study.plan.datasets.values()))
    split = job.divide(dataset)
    learner = job.cell.learner.condition_on(split.original)
    base = learner.fit(split.base, rng=stream(0, "base"))
    data = split.original
    total = 0.0
    for generation in range(GENERATIONS + 1):
        start = time.process_time()
        model = learner.fit_from(base, data, rng=stream(0, generation, "fit"))
        data = model.sample(job.n, rng=stream(0, generation, "sample"))
        if generation:  # the first one also compiles
            total += time.process_time() - start
    return total


def run() -> dict[str, object]:
    rounds = []
    whole(0)
    for _ in range(ROUNDS):
        short, long, steps = whole(0), whole(GENERATIONS), bare()
        rounds.append(((long - short) / GENERATIONS, steps / GENERATIONS))
    ratios = [ours / peer for ours, peer in rounds]
    ours, peer = sorted(rounds, key=lambda pair: pair[0] / pair[1])[ROUNDS // 2]
    return {
        "name": "one generation of wikitext-lm, all in, against its bare training and sampling",
        "ours_s": ours,
        "peer_s": peer,
        "ratio": statistics.median(ratios),
        "target": TARGET,
        "detail": f"CPU; lower is better; ratios of {ROUNDS} rounds: " + ", ".join(f"{ratio:.3f}" for ratio in ratios),
    }


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
