"""How often the marks of pictures are found, and where they aren't: the tables of docs/guides/marks-pictures.md.

    python -m benchmarks.picture_marks

Photographs: Oxford 17 flowers, 1,360 of 64 pixels a side (in the folder of test data, or $STUDBOOK_TEST_DATA), enlarged to 320 so that a
crop by 10 % leaves enough pixels; scikit-learn's two photographs of 427 × 640; its digits for the strip. About 5 minutes of CPU time.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits, load_sample_images

from studbook.marks.calibrate_images import calibrate_picture_mark
from studbook.marks.changes import CHANGES, resize
from studbook.marks.dalle_strip import DalleStrip
from studbook.marks.dwt_dct_svd import DwtDctSvd, random_payload
from studbook.marks.images import Picture

DATA = Path(os.environ.get("STUDBOOK_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
SIDE = 320


def flowers() -> list[Picture]:
    with np.load(DATA / "flowers17-64.npz") as file:
        return [resize(image, SIDE, SIDE) for image in file["images"]]


def accuracy(pictures: list[Picture], payloads: int) -> dict[str, float]:
    """Share of 32 bits that are read right, for each change."""
    rng = np.random.default_rng(0)
    found: dict[str, list[float]] = {}
    for _ in range(payloads):
        mark = DwtDctSvd((random_payload(rng),))
        bits = np.unpackbits(np.frombuffer(bytes.fromhex(mark.payloads[0]), np.uint8)).astype(bool)
        for picture in pictures:
            marked = mark.embed(picture)
            shown = {"unmarked": picture, "as made": marked} | {each.name: each.apply(marked, rng=rng) for each in CHANGES}
            for name, changed in shown.items():
                found.setdefault(name, []).append(float((mark.read(changed) == bits).mean()))
    return {name: float(np.mean(values)) for name, values in found.items()}


def main() -> None:
    pictures = flowers()
    payload = random_payload(np.random.default_rng(0))
    for mark in (DalleStrip(), DwtDctSvd((payload,))):
        start = time.process_time()
        found = calibrate_picture_mark(mark, pictures, false_alarm=0.02, confidence=0.95, seed=2)
        print(f"{mark.name}: threshold {found.threshold:.4g}, {time.process_time() - start:.0f} s CPU")
        for rate in (found.false_hits, found.hits, *found.attacked):
            print(f"  {rate.name}: {rate.events} of {rate.units} = {rate.rate:.3f} [{rate.lower:.3f}, {rate.upper:.3f}]")
    digits = [resize(np.repeat((255 - 15.9 * each).astype(np.uint8)[:, :, None], 3, axis=2), 256, 256) for each in load_digits().images]
    print(f"strip, {len(digits)} digits: highest score {max(DalleStrip().test(each).score for each in digits):.0f}")
    photographs = [np.ascontiguousarray(each) for each in load_sample_images().images]
    for name, some, payloads in (("photographs", photographs, 8), ("flowers", pictures[::68], 4)):
        print(f"{name}: " + ", ".join(f"{change} {value:.2f}" for change, value in accuracy(some, payloads).items()))


if __name__ == "__main__":
    main()
