"""What a credential costs: CPU milliseconds and bytes.

python -m benchmarks.provenance
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from studbook.pictures import jpeg_bytes, png_bytes, read_picture
from studbook.provenance import (
    Statement,
    Trust,
    manifest_of,
    new_chain,
    sign_bytes,
    sign_folder,
    sign_picture,
    verify_credential,
    verify_folder,
    verify_recovered,
)

GENERATED = Statement(origin="generated", model="sha256:" + 64 * "a", entry="sha256:" + 64 * "b", made="2026-01-31T12:00:00Z")


def main() -> None:
    """Print the table of docs/guides/provenance.md."""
    with tempfile.TemporaryDirectory() as place:
        chain = new_chain(Path(place, "chain"), "Example Laboratory")
        trust = Trust.load([chain.folder])
        rng = np.random.default_rng(0)
        pixels = np.kron(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8), np.ones((16, 16, 1), np.uint8))
        print("| | sign, ms | verify, ms | bytes more |\n|---|---|---|---|")
        for name, data in (("PNG, 1,024 × 1,024", png_bytes(pixels)), ("JPEG, 1,024 × 1,024", jpeg_bytes(pixels, 90))):
            signed = sign_picture(data, chain, GENERATED)
            sign, verify = best(lambda d=data: sign_picture(d, chain, GENERATED)), best(lambda s=signed: verify_credential(s, trust=trust))
            row(f"{name}, {len(data):,} bytes", sign, verify, len(signed) - len(data))
        for size in (1_000, 10_000_000):
            data = rng.bytes(size)
            beside = sign_bytes(data, chain, GENERATED)
            sign = best(lambda d=data: sign_bytes(d, chain, GENERATED))
            row(
                f"sidecar of {size:,} bytes", sign, best(lambda d=data, s=beside: verify_credential(d, sidecar=s, trust=trust)), len(beside)
            )
        store = manifest_of(sign_picture(png_bytes(pixels), chain, GENERATED))
        assert store is not None
        again = read_picture(jpeg_bytes(pixels, 75), "again")
        found = best(lambda: verify_recovered(store, again, trust=trust, max_distance={"phash": 8}))
        print(f"| recovered credential, and its fingerprint | | {found:.1f} | |")
        for files, size in ((1_000, 1_000), (4, 64 << 20)):
            folder = Path(place, f"data-{files}")
            folder.mkdir()
            for i in range(files):
                (folder / f"{i:04d}.bin").write_bytes(rng.bytes(size))
            sign = best(lambda f=folder: sign_folder(f, chain), 3)
            verify = best(lambda f=folder: verify_folder(f, trust=trust), 3)
            row(f"folder of {files:,} files, {files * size:,} bytes", sign, verify, (folder / "model.sig").stat().st_size)


def row(name: str, sign: float, verify: float, n_bytes: int) -> None:
    """One line of the table."""
    print(f"| {name} | {sign:.1f} | {verify:.1f} | {n_bytes:,} |", flush=True)


def best(work: Callable[[], object], times: int = 7) -> float:
    """Least CPU time of several, in milliseconds."""
    work()
    found = []
    for _ in range(times):
        start = time.process_time()
        work()
        found.append(1000 * (time.process_time() - start))
    return min(found)


if __name__ == "__main__":
    main()
