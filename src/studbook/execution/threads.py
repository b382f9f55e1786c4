"""One thread a task: with more, sums are added up in another order, and workers fight for cores."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

_LIBRARIES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
BLAS_ENVIRONMENT: Mapping[str, str] = dict.fromkeys(_LIBRARIES, "1")
"""Read by BLAS and OpenMP when they are loaded."""

WORKER_ENVIRONMENT: Mapping[str, str] = {**BLAS_ENVIRONMENT, "NUMBA_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
"""For a worker process, set before it starts. Numba refuses a change later on, so that the parent's own setting is left alone."""


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables within the block, and put back what was there.

    Args:
        variables: Names and values.
    """
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def single_threaded() -> Iterator[None]:
    """Hold BLAS and OpenMP to one thread within the block, in this process.

    Libraries that are loaded already are told; those that the block loads read the environment, and keep one thread afterwards.
    """
    from threadpoolctl import threadpool_limits

    with environment(BLAS_ENVIRONMENT), threadpool_limits(limits=1):
        yield
