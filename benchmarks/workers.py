"""Two worker processes against one: 16 equal units of linear algebra, wall clock, start-up included."""

from __future__ import annotations

import json
import statistics
import time

from studbook.execution import ProcessExecutor
from studbook.testing.executors import work

N_UNITS = 16
ROUNDS = 3
TARGET = 1.8


def wall_clock(workers: int) -> float:
    start = time.perf_counter()
    results = dict(ProcessExecutor(workers).run(work, range(N_UNITS)))
    assert len(results) == N_UNITS
    return time.perf_counter() - start


def run() -> dict[str, object]:
    # Side by side in each round, so that a busy machine slows both; the middle ratio counts.
    rounds = sorted(((wall_clock(2), wall_clock(1)) for _ in range(ROUNDS)), key=lambda pair: pair[1] / pair[0])
    ours, peer = rounds[ROUNDS // 2]
    ratios = [one / two for two, one in rounds]
    return {
        "name": "16 equal units: 2 processes against 1",
        "ours_s": ours,
        "peer_s": peer,
        "ratio": statistics.median(ratios),
        "target": TARGET,
        "detail": f"wall clock, start of the workers included; {peer / N_UNITS:.2f} s a unit; ratios of {ROUNDS} rounds: "
        + ", ".join(f"{ratio:.2f}" for ratio in ratios),
    }


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
