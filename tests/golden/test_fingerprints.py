"""Golden vectors: the bits that stored digests were made with. A change of one of them is a new version of its scheme.

simhash/2 and minhash/2: words are hashed by compiled code (rule words2) instead of BLAKE2b, and permutations are linear.

``python tests/golden/test_fingerprints.py`` writes the file anew.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from studbook.arrays import images
from studbook.fingerprints import FINGERPRINTS, create, to_uint8

FILE = Path(__file__).parent / "fingerprints.json"
ON_IMAGES = (
    ("ahash", {}),
    ("ahash", {"size": 16}),
    ("dhash", {}),
    ("dhash", {"size": 16}),
    ("phash", {}),
    ("phash", {"size": 16}),
    ("whash", {}),
    ("whash", {"size": 16}),
    ("colorhash", {}),
    ("colorhash", {"levels": 4}),
    ("pdq", {}),
)
ON_TEXT = (
    ("text_exact", {}),
    ("simhash", {}),
    ("simhash", {"words": 1}),
    ("minhash", {"permutations": 16}),
    ("minhash", {"permutations": 64, "bits": 1}),
    ("minhash", {"permutations": 8, "bits": 64, "words": 2}),
)
ON_TOKENS = (("tokens_exact", {}), ("tokens_prefix", {}), ("tokens_prefix", {"block": 4}))


def wave(height: int, width: int, channels: int) -> np.ndarray:
    """A texture by integer arithmetic alone."""
    y, x, c = np.ogrid[:height, :width, :channels]
    values = (x * x * 3 + y * y * 5 + x * y * 7) // (64 + 32 * c) + (x * (c + 1) ^ y * (c + 2))
    return (values % 256).astype(np.uint8)


def pictures() -> dict[str, np.ndarray]:
    digits = to_uint8(images(load_digits().images[:3], (0.0, 16.0)))
    found = {f"digit {i}": digit for i, digit in enumerate(digits)}
    for height, width, channels in ((512, 512, 3), (480, 641, 3), (97, 31, 1), (3, 5, 3), (2000, 20, 1)):
        found[f"wave {height} {width} {channels}"] = wave(height, width, channels)
    return found


TEXTS = {
    "pangram": "The quick brown fox jumps over the lazy dog.",
    "scripts": "Größe, naïve façade; Привет, мир! 日本語テキスト 한국어 \ufb01ne cafe\u0301 42",
    "long": " ".join(f"word{i * i % 101}" for i in range(1000)),
    "short": "two words",
}
STREAMS = {"one": [7], "some": [i * i % 50257 for i in range(100)], "wide": [0, (1 << 32) - 1, 1 << 31]}


def cases() -> list[tuple[str, dict, dict[str, object]]]:
    outputs = ((ON_IMAGES, pictures()), (ON_TEXT, TEXTS), (ON_TOKENS, STREAMS))
    return [(name, parameters, inputs) for group, inputs in outputs for name, parameters in group]


def vectors() -> dict[str, dict[str, str]]:
    found = {}
    for name, parameters, inputs in cases():
        digests = {key: create(name, parameters).digest(value) for key, value in inputs.items()}
        head = {str(digest).rpartition(":")[0] for digest in digests.values()}
        found[head.pop()] = {key: digest.bits.hex() for key, digest in digests.items()}
    return found


@pytest.mark.parametrize("threads", [1, 2])
def test_bits_are_those_of_the_file(threads: int) -> None:
    stored = json.loads(FILE.read_text(encoding="utf-8"))
    assert vectors() == stored
    several = pictures()
    for name, parameters in ON_IMAGES:
        fingerprint = create(name, parameters)
        digests = fingerprint.digests(list(several.values()), threads=threads)
        key = str(digests[0]).rpartition(":")[0]
        assert [digest.bits.hex() for digest in digests] == list(stored[key].values())


def test_every_scheme_of_images_text_and_tokens_has_vectors() -> None:
    named = {head.partition("/")[0] for head in json.loads(FILE.read_text(encoding="utf-8"))}
    assert {
        "ahash",
        "dhash",
        "phash",
        "whash",
        "colorhash",
        "pdq",
        "text_exact",
        "simhash",
        "minhash",
        "tokens_exact",
        "tokens_prefix",
    } == named
    assert named <= set(FINGERPRINTS)


if __name__ == "__main__":
    FILE.write_text(json.dumps(vectors(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
