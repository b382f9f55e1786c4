"""The same results through PyTorch, on CUDA; the tests run it on PyTorch's CPU.

Bits become numbers 0 and 1, and the distances of a tile of pairs are |a| + |b| - 2 a·b: a product of matrices, which a graphics processor
is made for. All sums are whole numbers that the chosen precision holds exactly.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from studbook.arrays import Ints
from studbook.errors import DeviceError, DeviceMemoryError
from studbook.hamming.bits import BitStrings
from studbook.hamming.blocks import Choice, Segments
from studbook.hamming.counting import keep_closest

_PAIR_BYTES = 48  # of a tile's intermediate results
_MOST_PAIRS = 1 << 27
_CPU_PAIRS = 1 << 20
_HALF_BITS = 1024  # half precision holds whole numbers up to 2,048


def choose_device() -> torch.device:
    """The CUDA device.

    Raises:
        DeviceError: There is none.
    """
    if not torch.cuda.is_available():
        built = "this PyTorch is built for the CPU alone" if torch.version.cuda is None else "PyTorch finds no CUDA device"
        raise DeviceError(f'device is "cuda", but {built}', hint='pass device="cpu"')
    return torch.device("cuda")


def popcounts_a_second(device: torch.device, a_clock: int) -> float:
    """32-bit population counts that the chip can end in a second, at ``a_clock`` for each multiprocessor and its highest clock."""
    found = torch.cuda.get_device_properties(device)
    return float(found.multi_processor_count * a_clock * found.clock_rate * 1000.0)


@dataclass(frozen=True, eq=False)
class _Tile:
    """Distances ``(r, c)`` int32 of some rows to some columns, and what counts among them."""

    row: int
    column: int
    distances: torch.Tensor
    segments: Segments

    def inside(self, segment: int) -> torch.Tensor:
        """Where the column lies in the row's segment."""
        device, (_, n_columns) = self.distances.device, self.distances.shape
        columns = torch.arange(self.column, self.column + n_columns, device=device)
        low = torch.from_numpy(self.segments.lows[:, segment]).to(device)
        high = torch.from_numpy(self.segments.highs[:, segment]).to(device)
        return (columns >= low[:, None]) & (columns < high[:, None])

    def masked(self, group: int | None, fill: int) -> torch.Tensor:
        """The distances, ``fill`` where the pair doesn't count in this group, or in none."""
        lows, highs, end = self.segments.lows, self.segments.highs, self.column + self.distances.shape[1]
        if len(self.segments.groups) == 1 and lows.max() <= self.column and highs.min() >= end:
            return self.distances
        chosen = torch.zeros_like(self.distances, dtype=torch.bool)
        for segment, its in enumerate(self.segments.groups):
            if group is None or its == group:
                chosen |= self.inside(segment)
        return torch.where(chosen, self.distances, fill)


def count_pairs(a: BitStrings, b: BitStrings, choice: Choice, n_groups: int, *, closest: bool, device: torch.device) -> tuple[Ints, Ints]:
    """Counts ``(n_groups, n_bits + 1)`` and the closest pairs ``(n_groups, 3)``, as on the CPU."""
    counts = np.zeros((n_groups, a.n_bits + 1), np.int64)
    best = np.full((n_groups, 3), -1)
    for tile in _tiles(a, b, choice, device):
        for group in range(n_groups):
            chosen = tile.masked(group, a.n_bits + 1)
            counts[group] += torch.bincount(chosen.flatten(), minlength=a.n_bits + 2)[: a.n_bits + 1].cpu().numpy()
            least = int(chosen.min()) if closest else a.n_bits + 1
            if least <= a.n_bits:
                row, column = (chosen == least).nonzero()[0].tolist()  # in order of rows, then columns
                near = np.full((n_groups, 3), -1)
                near[group] = tile.row + row, tile.column + column, least
                keep_closest(best, near)
    return counts, best


def find_pairs(
    a: BitStrings, b: BitStrings, choice: Choice, radius: int, limit: int, *, device: torch.device
) -> Generator[tuple[int, Ints]]:
    """For each tile how many pairs are within the radius, and the pairs ``(3, n)``; beyond the limit only how many."""
    for tile in _tiles(a, b, choice, device):
        close = tile.masked(None, radius + 1) <= radius
        n = int(close.sum())
        if n > limit:
            yield n, np.empty((3, 0), np.int64)
        elif n:
            rows, columns = close.nonzero(as_tuple=True)
            found = torch.stack([rows + tile.row, columns + tile.column, tile.distances[rows, columns].long()])
            yield n, found.cpu().numpy()


def find_nearest(a: BitStrings, b: BitStrings, choice: Choice, near: NDArray[np.int32], chosen: Ints, *, device: torch.device) -> None:
    """Bring the nearest columns ``(n, k)`` and their distances up to date, as on the CPU."""
    for tile in _tiles(a, b, choice, device):
        n_rows, n_columns = tile.distances.shape
        rows = slice(tile.row, tile.row + n_rows)
        keys = tile.masked(None, a.n_bits + 1).long() * len(b) + torch.arange(tile.column, tile.column + n_columns, device=device)
        before = near[rows].astype(np.int64) * len(b) + np.where(chosen[rows] < 0, len(b) - 1, chosen[rows])
        keys = torch.cat([torch.from_numpy(before).to(device), keys], dim=1)
        found = keys.topk(near.shape[1], dim=1, largest=False, sorted=True).values.cpu().numpy()
        near[rows], chosen[rows] = found // len(b), found % len(b)


def _tiles(a: BitStrings, b: BitStrings, choice: Choice, device: torch.device) -> Iterator[_Tile]:
    """All tiles that hold a pair, columns from the first to the last, and for each part of them the rows."""
    n_pairs = _CPU_PAIRS if device.type == "cpu" else min(torch.cuda.mem_get_info(device)[0] // _PAIR_BYTES, _MOST_PAIRS)
    n_columns = max(min(len(b), int(n_pairs**0.5)), 1)
    n_rows = max(n_pairs // n_columns, 1)
    with _in_memory(n_rows, n_columns):
        for column in range(0, len(b), n_columns):
            columns, sizes = _unpack(b, column, column + n_columns, device)
            for row in range(0, len(a), n_rows):
                segments = choice(slice(row, min(row + n_rows, len(a))))
                if segments.reach(column, column + len(columns)):
                    rows, own = _unpack(a, row, row + n_rows, device)
                    common = (rows @ columns.T).to(torch.int32)
                    yield _Tile(row, column, own[:, None] + sizes[None, :] - 2 * common, segments)


def _unpack(strings: BitStrings, start: int, stop: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """The bits as numbers ``(n, 64 n_words)``, and how many are set ``(n,)``."""
    packed = torch.from_numpy(strings.words(start, stop).view(np.uint8)).to(device)
    bits = ((packed[:, :, None] >> torch.arange(8, device=device, dtype=torch.uint8)) & 1).flatten(1)
    half = device.type == "cuda" and strings.n_bits <= _HALF_BITS
    return bits.to(torch.float16 if half else torch.float32), bits.sum(dim=1, dtype=torch.int32)


@contextmanager
def _in_memory(n_rows: int, n_columns: int) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise DeviceMemoryError(
            f"tiles of {n_rows:,} × {n_columns:,} pairs need more graphics memory than there is", hint='free some, or pass device="cpu"'
        ) from error
