"""Recursion on a Zipf law: 5,000 states, 20,000 draws a generation, 100 generations, 100 runs; against ``Generator.choice``."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np

from studbook.arrays import Kind, Space
from studbook.learners.categorical import Categorical
from studbook.rng import stream
from studbook.theory.laws import CategoricalLaw

N_STATES, N_SAMPLES, N_GENERATIONS, N_REPLICATES = 5_000, 20_000, 100, 100
TARGET = 50.0


def zipf(n_states: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Probabilities proportional to 1 / rank."""
    weights = 1.0 / np.arange(1, n_states + 1)
    return weights / weights.sum()


def in_law(n: int, generations: int, replicates: int, seed: int = 0) -> tuple[float, float]:
    """CPU seconds and the mean number of surviving states, with the learner."""
    rng = stream(seed, "zipf", "law")
    learner = Categorical()
    start = time.process_time()
    model = learner.from_law(CategoricalLaw(np.tile(zipf(N_STATES), (replicates, 1))), Space(Kind.STATES, (), N_STATES))
    for _ in range(generations):
        model = learner.refit(model, n, rng=rng)
    support = float(np.diff(model.alive.starts).mean())
    return time.process_time() - start, support


def choice(n: int, generations: int, replicates: int, seed: int = 0) -> tuple[float, float]:
    """CPU seconds and the mean number of surviving states, with ``Generator.choice`` and ``bincount``."""
    rng = stream(seed, "zipf", "choice")
    support = []
    start = time.process_time()
    for _ in range(replicates):
        probabilities = zipf(N_STATES)
        for _ in range(generations):
            counts = np.bincount(rng.choice(N_STATES, size=n, p=probabilities), minlength=N_STATES)
            probabilities = counts / n
        support.append(np.count_nonzero(probabilities))
    return time.process_time() - start, float(np.mean(support))


def multinomial(n: int, generations: int, replicates: int, seed: int = 0) -> tuple[float, float]:
    """CPU seconds and the mean number of surviving states, with ``Generator.multinomial``: the best that plain NumPy does."""
    rng = stream(seed, "zipf", "multinomial")
    start = time.process_time()
    probabilities = np.tile(zipf(N_STATES), (replicates, 1))
    for _ in range(generations):
        probabilities = rng.multinomial(n, probabilities) / n
    return time.process_time() - start, float(np.count_nonzero(probabilities, axis=1).mean())


def run(peer_replicates: int = 10) -> dict[str, Any]:
    """Time both; the peer with fewer runs, extrapolated (its cost is linear in them)."""
    in_law(N_SAMPLES, 2, 2)  # compiles
    ours_s, support = min(in_law(N_SAMPLES, N_GENERATIONS, N_REPLICATES) for _ in range(3))
    timed_s, peer_support = choice(N_SAMPLES, N_GENERATIONS, peer_replicates)
    peer_s = timed_s * N_REPLICATES / peer_replicates
    return {
        "name": "Zipf recursion: 5,000 states, N = 20,000, 100 generations × 100 runs",
        "ours_s": ours_s,
        "peer_s": peer_s,
        "ratio": peer_s / ours_s,
        "target": TARGET,
        "detail": f"peer: Generator.choice and bincount, {peer_replicates} runs in {timed_s:.2f} s, extrapolated to {N_REPLICATES}; "
        f"states alive {support:.1f} here, {peer_support:.1f} there; "
        f"NumPy's multinomial takes {multinomial(N_SAMPLES, N_GENERATIONS, N_REPLICATES)[0]:.2f} s",
    }


def main() -> None:
    """Print the figures as JSON."""
    print(json.dumps(run(), indent=2))


if __name__ == "__main__":
    main()
