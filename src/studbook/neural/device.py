"""Where networks run: device, precision, threads, seed, and what is said when memory is used up."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from studbook.errors import DeviceError, DeviceMemoryError
from studbook.neural.options import Training

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def choose_device(name: str) -> torch.device:
    """The device that ``auto``, ``cpu`` or ``cuda`` means here.

    Raises:
        DeviceError: CUDA was asked for, and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        built = "this PyTorch is built for the CPU alone" if torch.version.cuda is None else "PyTorch finds no CUDA device"
        raise DeviceError(f'training.device is "cuda", but {built}', hint='set training.device = "cpu" or "auto"')
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")


@contextmanager
def session(options: Training, *, rng: np.random.Generator, doing: str, batch: int, lower: str) -> Iterator[torch.device]:
    """Everything a fit or a sampling run needs around it: the device, the threads, and PyTorch's random numbers out of ``rng``.

    PyTorch's own state (seed, threads) is as before when the block ends. One number is drawn from ``rng``.

    Args:
        options: Device and threads.
        rng: Where the randomness comes from.
        doing: What runs, for the message (``"training vae"``).
        batch: Its batch size, for the message.
        lower: What to lower when memory is used up (``"learner.training.batch"``).

    Raises:
        DeviceError: See ``choose_device``.
        DeviceMemoryError: Memory is used up.
    """
    device = choose_device(options.device)
    before = torch.get_num_threads()
    seed = int(rng.integers(2**63))
    torch.set_num_threads(options.threads)
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else [], device_type="cuda"):
            if device.type == "cuda":
                torch.manual_seed(seed)
            else:
                torch.default_generator.manual_seed(seed)  # torch.manual_seed notes each call for devices that may yet come
            yield device
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        place = "graphics memory" if device.type == "cuda" else "memory"
        raise DeviceMemoryError(
            f"{doing} with batches of {batch} needs more {place} than there is", hint=f"lower {lower} or the model's size"
        ) from error
    finally:
        torch.set_num_threads(before)


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def precision(options: Training, device: torch.device) -> AbstractContextManager[object]:
    """Mixed precision where ``dtype`` is ``bf16``."""
    return torch.autocast(device.type, torch.bfloat16, enabled=options.dtype == "bf16")


def on_device(module: ModuleT, device: torch.device) -> ModuleT:
    """A stored network where it is to run: a copy of it, unless that is the CPU."""
    return module if device.type == "cpu" else copy.deepcopy(module).to(device)


def tensor_rows(rows: np.ndarray[tuple[int, ...], np.dtype[np.int64]], device: torch.device) -> torch.Tensor:
    """Row numbers as an index on the device."""
    return torch.from_numpy(np.ascontiguousarray(rows)).to(device)
