"""A batch in as many parts as PyTorch has threads, side by side."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import torch

T = TypeVar("T")


def in_parts(work: Callable[[slice], T], n: int) -> list[T]:
    """``work(part)`` for parts of ``range(n)``, in order; side by side where PyTorch has several threads.

    One thread for each part of a batch is quicker than all threads for each small product: they don't wait for each other after every
    one. While the parts are worked at, each has a single thread of PyTorch.

    Args:
        work: Parts don't depend on each other.
        n: Items, 1 or more.
    """
    threads = min(torch.get_num_threads(), n)
    if threads == 1 or torch.is_autocast_enabled("cpu"):
        return [work(slice(0, n))]
    parts = [slice(n * part // threads, n * (part + 1) // threads) for part in range(threads)]

    inference, gradients, before = torch.is_inference_mode_enabled(), torch.is_grad_enabled(), torch.get_num_threads()

    def alone(part: slice) -> T:
        torch.set_num_threads(1)
        with torch.inference_mode() if inference else torch.set_grad_enabled(gradients):
            return work(part)

    others = [_pool(os.getpid(), before).submit(alone, part) for part in parts[1:]]
    try:
        first = alone(parts[0])
    finally:
        wait(others)
        torch.set_num_threads(before)
    return [first, *(other.result() for other in others)]


@functools.lru_cache(maxsize=1)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Threads of this process: a forked one has none of its parent's."""
    del process
    return ThreadPoolExecutor(threads - 1, thread_name_prefix="studbook-decoding")
