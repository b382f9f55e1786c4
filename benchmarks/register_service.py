"""A register's service with 100,000 pictures: requests a second, and CPU time of the service for each.

The register holds 100,000 entries with a perceptual hash and PDQ of random bits, a thousand of them with a manifest. A real server process,
real HTTP on loopback, two callers with a connection each that stays open; pictures of 512 × 512 as JPEG. The CPU time is the server's own,
all its threads, from ``/proc``; the callers share the machine with it. ``python -m benchmarks.register_service``.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np

from studbook.fingerprints import PdqHash, PerceptualHash
from studbook.pictures import jpeg_bytes
from studbook.provenance import SoftBinding, binding_of
from studbook.records import Digest, Entry
from studbook.registry import Register

N_ENTRIES, N_MANIFESTS, CALLERS, SECONDS = 100_000, 1_000, 2, 8.0
START = "from studbook.cli.main import main; main()"


def fill(place: Path) -> None:
    """The register."""
    rng = np.random.default_rng(0)
    schemes = [(each, rng.integers(0, 256, (N_ENTRIES, n), dtype=np.uint8)) for each, n in ((PerceptualHash(), 8), (PdqHash(), 32))]
    with Register.open(place, create=True) as register:
        manifests = [register.put_manifest(b"manifest %d" % i) for i in range(N_MANIFESTS)]

        def entry(i: int) -> Entry:
            digests = tuple(Digest(each.scheme, each.version, each.parameters, bits[i].tobytes()) for each, bits in schemes)
            content = f"sha256:{hashlib.sha256(b'%d' % i).hexdigest()}"
            manifest = manifests[i] if i < N_MANIFESTS else ""
            return Entry(content, "image", "generated", "pixels-1", digests=digests, manifest=manifest)

        register.add(entry(i) for i in range(N_ENTRIES))


def pictures() -> list[bytes]:
    """Photograph-like pictures as JPEG."""
    from PIL import Image

    rng = np.random.default_rng(1)
    rough = [Image.fromarray(rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)) for _ in range(16)]
    return [jpeg_bytes(np.asarray(each.resize((512, 512), Image.Resampling.BICUBIC)), 85) for each in rough]


def cpu_s(process: int) -> float:
    """CPU time of a process with all its threads."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(url: str, process: int, ask: Callable[[httpx.Client, int], httpx.Response]) -> tuple[float, float]:
    """Requests a second, and the server's milliseconds of CPU time for each."""

    def turn(caller: int) -> int:
        n = 0
        with httpx.Client(base_url=url, timeout=60.0) as client:
            while time.monotonic() < end:
                ask(client, CALLERS * n + caller).raise_for_status()
                n += 1
        return n

    start, before = time.monotonic(), cpu_s(process)
    end = start + SECONDS
    with ThreadPoolExecutor(CALLERS) as pool:
        n = sum(pool.map(turn, range(CALLERS)))
    return n / (time.monotonic() - start), 1000.0 * (cpu_s(process) - before) / n


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "outputs.db"
        fill(place)
        command = [sys.executable, "-c", START, "serve", "registry", str(place), "--port", "0", "--rate", "0"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            url = re.search(r"register at (\S+)", process.stderr.readline())[1]
            files, rng = pictures(), np.random.default_rng(2)
            values = [binding_of(Digest("phash", 1, PerceptualHash().parameters, rng.bytes(8))) for _ in range(64)]
            jpeg = {"Content-Type": "image/jpeg"}
            for name, ask in (
                ("byContent", lambda client, i: client.post("/matches/byContent", content=files[i % 16], headers=jpeg)),
                ("byBinding", lambda client, i: client.get("/matches/byBinding", params=vars_of(values[i % 64]))),
                ("supportedAlgorithms", lambda client, _: client.get("/services/supportedAlgorithms")),
            ):
                rate, cost_ms = measure(url, process.pid, ask)
                print(f"{name}: {rate:,.0f} requests a second, {cost_ms:.1f} ms of the server's CPU time each", flush=True)
        finally:
            process.terminate()
            process.wait()


def vars_of(binding: SoftBinding) -> dict[str, str]:
    return {"alg": binding.alg, "value": binding.value}


if __name__ == "__main__":
    main()
