"""Compiled loops on as many threads as PyTorch uses."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch


def in_parts(work: Callable[[int, int], None], n: int) -> None:
    """Call ``work(first, last)`` for parts of ``range(n)``, side by side where PyTorch has several threads.

    Args:
        work: Lets go of the interpreter's lock while it runs; parts don't depend on each other.
        n: Items.
    """
    threads = min(torch.get_num_threads(), n)
    if threads <= 1:
        work(0, n)
        return
    borders = [n * part // threads for part in range(threads + 1)]
    others = [_pool(os.getpid(), threads).submit(work, first, last) for first, last in itertools.pairwise(borders[1:])]
    work(0, borders[1])
    for other in others:
        other.result()


@functools.lru_cache(maxsize=1)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Threads of this process: a forked one has none of its parent's."""
    del process
    return ThreadPoolExecutor(threads - 1, thread_name_prefix="studbook-decoding")
