"""CPU time of ``studbook --help``: what a user waits for before anything happens."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys


def run() -> dict:
    ours = [children_cpu([sys.executable, "-m", "studbook", "--help"]) for _ in range(7)]
    peer = [children_cpu([sys.executable, "-c", "import numpy"]) for _ in range(7)]
    mine, theirs = statistics.median(ours), statistics.median(peer)
    return {
        "name": "studbook --help, CPU time (wanted: under 0.3 s)",
        "ours_s": mine,
        "peer_s": theirs,
        "ratio": theirs / mine,
        "target": None,
        "detail": "peer: `python -c 'import numpy'`; medians of 7",
    }


def children_cpu(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
