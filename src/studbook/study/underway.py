"""How far units are that aren't finished yet: read from their journals, whichever process or machine writes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Thread
from typing import TYPE_CHECKING

from studbook.recursion import last_finished
from studbook.study.folder import RunFolder
from studbook.study.plan import Unit

if TYPE_CHECKING:
    from studbook.study.runner import Progress

LOOK_S = 1.0
"""Seconds between two looks."""


@contextmanager
def watched(run: RunFolder, units: Sequence[Unit], progress: Progress) -> Iterator[None]:
    """Tell ``progress`` every ``LOOK_S`` seconds which generations are being made within the block, as far as units have journals."""
    ended = Event()

    def look() -> None:
        while not ended.wait(LOOK_S):
            progress.under_way(under_way(run, units))

    thread = Thread(target=look, name="studbook-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def under_way(run: RunFolder, units: Sequence[Unit]) -> list[tuple[int, int]]:
    """The generation that each unit with a journal is making, and the unit's last one."""
    try:
        there = {path.name for path in (run.path / "work").iterdir()}
    except OSError:
        return []
    lasts = [(unit.key, unit.job.cell.study.generations) for unit in units if unit.key in there]
    return [(min(last_finished(run.work(key)) + 1, last), last) for key, last in lasts]
