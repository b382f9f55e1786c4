"""Information held by a set of records as a whole, in bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from studbook.arrays import AnyArray, Batch, Floats, Ints, Kind
from studbook.metrics import views
from studbook.metrics.protocols import Observation, Reference
from studbook.metrics.stderr import groups_of, jackknife_stderr
from studbook.records import Measurement
from studbook.theory.laws import GaussianLaw

N_GROUPS = 10


@dataclass(frozen=True, slots=True)
class Information:
    """``information_plugin`` and ``information_compressed``: bits needed to write down the *set* of records.

    Both look at the distinct records only: a duplicate adds nothing, a set twice as large need not hold more, and a collapsed sample
    holds next to nothing.

    *Plug-in*: each of the K distinct records is written with the ideal code for its symbols as they are distributed in the set, K·Σⱼ Ĥⱼ
    bits with the plug-in entropy Ĥⱼ of coordinate (pixel) j; the tokens of a text share one distribution at all positions. It knows no
    dependence between symbols, and leaves out the code's own table. 0 for a single record. *Compressed*: 8 times the bytes that LZMA makes
    of the sorted distinct records; it finds repeated parts within records too.

    Numbers are first rounded to a grid of ``levels`` steps between the original's 1 % and 99 % quantiles (of each coordinate), pixels
    to ``levels`` steps of their range; values beyond the grid's ends (2¹⁵ steps; one range on either side for pixels) count as the end.
    Compare values of one study: they depend on the grid and on the number of records. The standard errors are the delete-a-group
    jackknife's (10 groups), which errs upwards where records repeat, most where the set is nearly complete.

    Attributes:
        levels: Steps of the grid, 2 to 85.
        limit: Bytes (of rounded records) that are looked at; of a larger sample a random part, and ``n`` says how many records.

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import states
        >>> from studbook.metrics.information import Information
        >>> from studbook.metrics.protocols import Observation, Reference
        >>> sample = states(np.array([0, 1, 2, 3, 3, 3]), 8)
        >>> seen = Observation(sample, sample, model=None, base=None)
        >>> Information().measure(Reference(sample, None), seen, rng=np.random.default_rng(0))[0].value
        8.0
    """

    kinds: ClassVar[frozenset[Kind]] = frozenset(Kind)
    levels: int = 64
    limit: int = 262_144

    def __post_init__(self) -> None:
        views.require_range("information.levels", self.levels, 2, 85)
        views.require_range("information.limit", self.limit, 1024, 1 << 30)

    def measure(self, reference: Reference, observation: Observation, *, rng: np.random.Generator) -> tuple[Measurement, ...]:
        """See ``studbook.metrics.protocols.Metric``."""
        views.require_kind("information", observation.sample, self.kinds)
        codes = self._encode(reference, observation.sample, rng)
        distinct, record_of = _distinct(codes)
        present = _present_without_groups(record_of, len(distinct))
        symbols, n_streams = _symbols(distinct, shared=observation.sample.space.kind is Kind.TEXT)
        plug_in = [_plug_in_bits(symbols[rows], n_streams) for rows in present]
        compressed = [_compressed_bits(distinct[rows]) for rows in present]
        return (
            views.measured("information_plugin", plug_in[0], jackknife_stderr(np.array(plug_in[1:])), len(codes)),
            views.measured("information_compressed", compressed[0], jackknife_stderr(np.array(compressed[1:])), len(codes)),
        )

    def _encode(self, reference: Reference, sample: Batch, rng: np.random.Generator) -> AnyArray:
        """The records as small integers ``(n, d)``, no more than ``limit`` bytes of them."""
        dtype = _code_type(sample)
        size = max(sample.space.dimension, 1) * dtype.itemsize
        chosen = views.thin(sample, max(self.limit // size, 1), rng=rng)
        if sample.space.kind in {Kind.NUMBERS, Kind.IMAGES}:
            low, step = self._grid(reference, chosen)
            steps = np.floor((views.table("information", chosen) - low) / step)
            # Pixels are bytes: one range below the lowest is 0.
            steps += self.levels if sample.space.kind is Kind.IMAGES else 0
        else:
            steps = chosen.flat
        ends = np.iinfo(dtype)
        return np.ascontiguousarray(np.clip(steps, ends.min, ends.max), dtype=dtype)

    def _grid(self, reference: Reference, sample: Batch) -> tuple[AnyArray, AnyArray]:
        """Lower end and step of the grid, each ``(d,)`` or a single number."""
        if sample.space.kind is Kind.IMAGES:
            low, high = sample.space.value_range
            return np.asarray(low), np.asarray((high - low) / self.levels if high > low else 1.0)
        return reference.memo(f"grid:{self.levels}", lambda: _grid_of_numbers(reference, self.levels))


def _grid_of_numbers(reference: Reference, levels: int) -> tuple[Floats, Floats]:
    if reference.records is None and isinstance(reference.law, GaussianLaw):
        reach = 2.3263478740408408 * np.sqrt(np.diagonal(reference.law.covariance[0]))
        low, high = reference.law.mean[0] - reach, reference.law.mean[0] + reach
    else:
        low, high = np.quantile(views.original_table("information", reference, 100_000), [0.01, 0.99], axis=0)
    return low, np.where(high > low, (high - low) / levels, 1.0)


def _code_type(sample: Batch) -> np.dtype[np.signedinteger] | np.dtype[np.unsignedinteger]:
    kind = sample.space.kind
    if kind is Kind.IMAGES:
        return np.dtype(np.uint8)
    if kind is Kind.NUMBERS:
        return np.dtype(np.int16)
    return np.dtype(np.uint16) if 0 < sample.space.n_states <= 1 << 16 else np.dtype(np.uint32)


def _distinct(codes: AnyArray) -> tuple[AnyArray, Ints]:
    """The distinct rows, sorted by their bytes, and which of them each row is."""
    rows = codes.view(np.dtype((np.void, codes.dtype.itemsize * codes.shape[1]))).ravel()
    distinct, record_of = np.unique(rows, return_inverse=True)
    return distinct.view(codes.dtype).reshape(len(distinct), -1), record_of


def _present_without_groups(record_of: Ints, n_distinct: int) -> list[AnyArray]:
    """Which distinct records the set holds: all of it, then without each group in turn."""
    groups = groups_of(len(record_of), N_GROUPS)
    n_groups = int(groups[-1]) + 1
    inside = np.bincount(groups * n_distinct + record_of, minlength=n_groups * n_distinct).reshape(n_groups, -1)
    total = inside.sum(axis=0)
    return [total > 0, *(total - inside > 0)] if n_groups > 1 else [total > 0]


def _symbols(distinct: AnyArray, *, shared: bool) -> tuple[Ints, int]:
    """Symbols numbered densely ``(K, d)``, apart for each coordinate unless shared, and the number of distributions."""
    columns = 1 if shared else distinct.shape[1]
    offsets = np.zeros(distinct.shape[1], dtype=np.int64) if shared else np.arange(distinct.shape[1], dtype=np.int64) << 33
    _, symbols = np.unique(distinct.astype(np.int64) + offsets, return_inverse=True)
    return symbols.reshape(distinct.shape), columns


def _plug_in_bits(symbols: Ints, n_streams: int) -> float:
    """Σ over the distributions of N log₂ N − Σ c log₂ c, N symbols in each."""
    counts = np.bincount(symbols.ravel())
    counts = counts[counts > 0].astype(np.float64)
    per_stream = symbols.size / n_streams
    return max(float(symbols.size * np.log2(per_stream) - counts @ np.log2(counts)), 0.0) if symbols.size else 0.0


def _compressed_bits(distinct: AnyArray) -> float:
    """8 times the length of the raw LZMA2 stream, without container or checksum."""
    import lzma

    # A dictionary as large as the data sees all of them, and spares the encoder megabytes of zeroed tables.
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 1, "dict_size": max(distinct.nbytes, 4096)}]
    return 8.0 * len(lzma.compress(distinct.tobytes(), format=lzma.FORMAT_RAW, filters=filters))
