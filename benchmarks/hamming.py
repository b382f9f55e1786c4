"""All pairs of bit strings: this package beside NumPy's ``bitwise_count``, faiss and usearch; wall time, the same number of threads.

``studbook hamming bench`` measures the same. Every side sees the same bits, and must find the same.
"""

from __future__ import annotations

from studbook.hamming.bench import INSTALL, SIZE, Comparison, compare

BILLION = 10**9


def run() -> list[dict]:
    found = [each for bits in (64, 256) for threads in (1, 2) for each in compare(SIZE, bits, threads)]
    if absent := sorted({each.peer for each in found if each.peer_s is None}):
        raise RuntimeError(f"not installed: {', '.join(absent)}; {INSTALL}")
    return [*map(row, found), *(billion(each) for each in found if (each.work, each.bits, each.peer) == ("histogram", 64, "NumPy"))]


def row(found: Comparison) -> dict:
    threads = "one thread" if found.threads == 1 else f"{found.threads} threads"
    return {
        "name": f"Hamming, {found.work}, {found.bits} bits, {threads}, {found.peer}",
        "ours_s": found.ours_s,
        "peer_s": found.peer_s,
        "ratio": found.ratio,
        "target": found.wanted,
        "detail": f"{found.pairs // SIZE:,} × {SIZE:,} strings; the peer finds the same",
    }


def billion(found: Comparison) -> dict:
    """The wall time of a billion comparisons beside one second, which is what's wanted."""
    taken = found.ours_s * BILLION / found.pairs
    threads = "one thread" if found.threads == 1 else f"{found.threads} threads"
    name = f"a billion 64-bit comparisons, {threads}"
    return {"name": name, "ours_s": taken, "peer_s": 1.0, "ratio": 1.0 / taken, "target": 1.0, "detail": "beside one second; wall time"}


if __name__ == "__main__":
    for line in run():
        print(f"{line['name']}: {line['ours_s']:.3f} s, {line['peer_s']:.2f} s, {line['ratio']:.1f} × ({line['detail']})")
