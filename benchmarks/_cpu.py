"""Seconds of CPU that processes use, with all below them: what lasts where others keep the machine busy. Needs Linux."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def cpu_s(pids: Iterable[int] = ()) -> float:
    """Seconds so far of processes and all that descend from them; of this one by default."""
    stats = {int(path.name): _stat_of(path) for path in Path("/proc").iterdir() if path.name.isdigit()}
    counted = set(pids) or {os.getpid()}
    while more := {pid for pid, stat in stats.items() if stat and int(stat[1]) in counted} - counted:
        counted |= more
    return sum(int(stats[pid][11]) + int(stats[pid][12]) for pid in counted) / os.sysconf("SC_CLK_TCK")


def _stat_of(process: Path) -> list[str]:
    try:
        return (process / "stat").read_text().rsplit(")", 1)[1].split()
    except OSError:  # it has ended
        return []
