"""Cost in law, through the loop that studies use: independent of the number of samples, linear in replicates and generations."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable

from studbook.data import Normal, PoissonCounts, Uniform
from studbook.learners import Categorical, Gaussian, Poisson
from studbook.mixing import Accumulate, Fresh, Replace
from studbook.recursion import run_generations_in_law
from studbook.rng import stream
from studbook.theory.laws import repeat_law

CASES = {
    "Gaussian, replace": (Gaussian(), Normal(), Replace()),
    "Poisson, accumulate": (Poisson(), PoissonCounts(rate=3.0), Accumulate()),
    "100 states, fresh 5": (Categorical(), Uniform(states=100), Fresh(5)),
}


def run() -> list[dict]:
    return [found for name, parts in CASES.items() for found in rows(f"in law, {name}", _case(*parts))]


def rows(name: str, case: Callable[[int, int, int], float]) -> list[dict]:
    case(10**3, 10, 10)  # compiles
    cost = {n: best(lambda n=n: case(n, 500, 500)) for n in (10**3, 10**9, 10**12)}
    memory = [peak(lambda n=n: case(n, 50, 500)) for n in (10**3, 10**9)]
    megabytes = f"peak memory {memory[1]:.2f} against {memory[0]:.2f} MB"
    more = best(lambda: case(10**3, 500, 2000))
    longer = best(lambda: case(10**3, 2000, 500))
    return [
        row(f"{name}: N = 10⁹ against N = 10³", cost[10**9], cost[10**3], megabytes),
        row(f"{name}: N = 10¹² against N = 10⁹", cost[10**12], cost[10**9], "as it should be: about 1"),
        row(f"{name}: 4 × the replicates", more, cost[10**3], "linear is .25; more is better"),
        row(f"{name}: 4 × the generations", longer, cost[10**3], "linear is .25"),
    ]


def row(name: str, ours: float, peer: float, detail: str) -> dict:
    return {"name": name, "ours_s": ours, "peer_s": peer, "ratio": peer / ours, "target": None, "detail": detail}


def _case(learner, source, mix) -> Callable[[int, int, int], float]:
    dataset = source.load()

    def go(n: int, generations: int, replicates: int) -> float:
        real = learner.from_law(repeat_law(dataset.law, replicates), dataset.space)
        start = time.process_time()
        original = learner.draw(real, n, rng=stream(0, "original"))
        chain = run_generations_in_law(
            learner, mix, original, dataset.space, n=n, n_original=n, last=generations, real=real, rng=stream(0, "law")
        )
        for _ in chain:
            pass
        return time.process_time() - start

    return go


def best(work: Callable[[], float]) -> float:
    return min(work() for _ in range(3))


def peak(work: Callable[[], float]) -> float:
    tracemalloc.start()
    work()
    top = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return top / 2**20


if __name__ == "__main__":
    for found in run():
        print(found)
