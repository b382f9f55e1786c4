"""Precision, recall, density and coverage: this package beside prdc 0.2 (``pip install --no-deps prdc==0.2``).

Both sides see the same 1,797 real and 1,797 noisy handwritten digits and must give equal values. In a study the real balls are computed
once; the first number counts them every time, as the peer does.
"""

from __future__ import annotations

import contextlib
import io
import time

import numpy as np
from sklearn.datasets import load_digits

from studbook.arrays import images
from studbook.metrics.images import PrecisionRecall
from studbook.metrics.protocols import Observation, Reference

REPEATS = 5


def run() -> list[dict]:
    import prdc

    pixels = load_digits().data
    noisy = pixels + np.random.default_rng(0).normal(size=pixels.shape)
    real, fake = (images(values.reshape(-1, 8, 8), (0.0, 16.0)) for values in (pixels, noisy))
    ours, values = cpu(lambda: measure(Reference(real, None), fake))
    reference = Reference(real, None)
    measure(reference, fake)
    again, _ = cpu(lambda: measure(reference, fake))
    with contextlib.redirect_stdout(io.StringIO()):
        peer, expected = cpu(lambda: prdc.compute_prdc(pixels, noisy, nearest_k=5))
    if values != {name: float(value) for name, value in expected.items()}:
        raise RuntimeError(f"values differ: {values} and {expected}")
    detail = "1,797 × 1,797 digits; values equal; ours also gives standard errors"
    return [row("precision, recall, density, coverage", ours, peer, detail), row("the same, a later generation", again, peer, detail)]


def row(name: str, ours: float, peer: float, detail: str) -> dict:
    return {"name": name, "ours_s": ours, "peer_s": peer, "ratio": peer / ours, "target": None, "detail": detail}


def measure(reference: Reference, fake) -> dict[str, float]:
    seen = Observation(fake, fake, model=None, base=None)
    return {m.metric: m.value for m in PrecisionRecall().measure(reference, seen, rng=np.random.default_rng(0))}


def cpu(work) -> tuple[float, dict]:
    """Smallest CPU time of some runs, threads included, and the last result."""
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        result = work()
        times.append(time.process_time() - start)
    return min(times), result


if __name__ == "__main__":
    for line in run():
        print(f"{line['name']}: {line['ours_s'] * 1e3:.0f} ms, prdc {line['peer_s'] * 1e3:.0f} ms, {line['ratio']:.2f} ×")
