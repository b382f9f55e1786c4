"""Image fingerprints: this package beside ImageHash 4.3 and pdqhash 0.2 (``pip install imagehash pdqhash``).

Both sides start from the same uint8 arrays of 512 × 512 pixels, made of photographs that scikit-learn brings; ImageHash takes them as
Pillow images, whose making is part of its time. The two take turns, and each one's fastest round counts. Text has no peer here: run as a
program, this module also prints the rates of SimHash and MinHash.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from sklearn.datasets import load_sample_images

from studbook.fingerprints import AverageHash, ColourHash, DifferenceHash, MinHash, PdqHash, PerceptualHash, SimHash, WaveletHash

N, SIDE, ROUNDS = 32, 512, 7
N_TEXTS, N_WORDS = 400, 500


def run() -> list[dict]:
    import imagehash
    import pdqhash
    from PIL import Image

    colour = photographs()
    grey = np.ascontiguousarray(colour[..., 1])

    def each(function: Callable) -> Callable:
        return lambda batch: [function(Image.fromarray(image)) for image in batch]

    phash = each(imagehash.phash)
    return [
        compare("perceptual hash, RGB", PerceptualHash().pack, phash, colour, 4.0),
        compare("perceptual hash, RGB, 2 threads", lambda batch: PerceptualHash().pack(batch, threads=2), phash, colour, None),
        compare("perceptual hash, grey", PerceptualHash().pack, phash, grey, None),
        compare("average hash, RGB", AverageHash().pack, each(imagehash.average_hash), colour, None),
        compare("difference hash, RGB", DifferenceHash().pack, each(imagehash.dhash), colour, None),
        compare("wavelet hash, RGB", WaveletHash().pack, each(imagehash.whash), colour, None),
        compare("colour hash, RGB", ColourHash().pack, each(imagehash.colorhash), colour, None),
        compare("PDQ, RGB", PdqHash().pack, lambda batch: [pdqhash.compute(image) for image in batch], colour, None, "pdqhash"),
    ]


def photographs() -> np.ndarray:
    """``(N, 512, 512, 3)``: crops of two photographs, mirrored at the border where they are smaller."""
    rng = np.random.default_rng(0)
    wide = [np.pad(image, ((0, SIDE - 427), (0, 0), (0, 0)), mode="reflect") for image in load_sample_images().images]
    lefts = rng.integers(0, 640 - SIDE, N)
    return np.stack([wide[i % 2][:, left : left + SIDE] for i, left in enumerate(lefts)])


def compare(name: str, ours: Callable, peer: Callable, batch: np.ndarray, target: float | None, who: str = "ImageHash") -> dict:
    ours_s, peer_s = turns(lambda: ours(batch), lambda: peer(batch))
    detail = f"{N} images of {SIDE} × {SIDE}; {N / ours_s:,.0f} a second, {who} {N / peer_s:,.0f}"
    return {"name": name, "ours_s": ours_s, "peer_s": peer_s, "ratio": peer_s / ours_s, "target": target, "detail": detail}


def read_text(fingerprint: SimHash | MinHash) -> str:
    """How fast a fingerprint reads English-like texts, one thread."""
    rng = np.random.default_rng(0)
    known = ["".join(map(chr, rng.integers(97, 123, rng.integers(2, 10)))) for _ in range(20_000)]
    share = 1 / np.arange(1, len(known) + 1)
    texts = [" ".join(rng.choice(known, N_WORDS, p=share / share.sum())) for _ in range(N_TEXTS)]
    best = turns(lambda: fingerprint.pack(texts), lambda: None)[0]
    return f"{fingerprint}: {sum(map(len, texts)) / 1e6 / best:.0f} MB a second in texts of {N_WORDS} words"


def turns(ours: Callable, peer: Callable) -> list[float]:
    """Smallest wall time of each, taking turns; the first round of both is left out."""
    best = [np.inf, np.inf]
    for i in range(ROUNDS + 1):
        for side, work in enumerate((ours, peer)):
            start = time.perf_counter()
            work()
            best[side] = min(best[side], time.perf_counter() - start if i else np.inf)
    return best


if __name__ == "__main__":
    for line in run():
        print(
            f"{line['name']}: {line['ours_s'] * 1e3:.1f} ms, peer {line['peer_s'] * 1e3:.1f} ms, {line['ratio']:.2f} × ({line['detail']})"
        )
    print(*map(read_text, (SimHash(), MinHash())), sep="\n")
