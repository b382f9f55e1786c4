"""What a unit's curation did: counts by origin and reason as columns, and some of the rejects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from studbook.arrays import AnyArray, Batch, Kind
from studbook.data import join_tokens
from studbook.recursion import Reject, Sifting

if TYPE_CHECKING:
    import polars as pl

SCHEMA_COLUMNS = ("replicate", "generation", "origin", "reason", "n")
MAX_REJECT_CHARACTERS = 2_000


@dataclass(slots=True, eq=False)
class Sifted:
    """Collects what curation did while a unit runs."""

    _names: dict[str, int] = field(default_factory=dict)
    _chunks: list[tuple[AnyArray, ...]] = field(default_factory=list)
    _rejects: list[Mapping[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, columns: Mapping[str, AnyArray], names: Sequence[str], rejects: Sequence[Mapping[str, Any]]) -> Sifted:
        """What was collected before."""
        chunks = [tuple(columns[name] for name in SCHEMA_COLUMNS)] if columns else []
        return cls({name: index for index, name in enumerate(names)}, chunks, list(rejects))

    def add(self, start: int, generation: int, sifting: Sifting) -> None:
        """One generation of consecutive replicates."""
        for (origin, reason), n in sifting.counts.items():
            same = np.ones(len(n), np.int32)
            replicates = np.arange(start, start + len(n), dtype=np.int32)
            self._chunks.append((replicates, same * generation, same * self._index(origin), same * self._index(reason), n.astype(np.int64)))
        if start == 0:
            self._rejects += [{"generation": generation, **as_row(reject)} for reject in sifting.rejects]

    def result(self) -> tuple[dict[str, AnyArray], tuple[str, ...], tuple[Mapping[str, Any], ...]]:
        """Columns, names and rejects; see ``UnitResult``."""
        if not self._chunks:
            return {}, (), ()
        columns = {name: np.concatenate(parts) for name, parts in zip(SCHEMA_COLUMNS, zip(*self._chunks, strict=True), strict=True)}
        return columns, tuple(self._names), tuple(self._rejects)

    def _index(self, name: str) -> int:
        return self._names.setdefault(name, len(self._names))


def as_row(reject: Reject) -> dict[str, str]:
    """A reject for people."""
    return {"origin": reject.origin, "reason": reject.reason, "detail": reject.detail, "record": _shown(reject.record)}


def _shown(record: Batch) -> str:
    if record.space.kind is Kind.TEXT:
        return join_tokens(record.values[0], record.space)[:MAX_REJECT_CHARACTERS]
    values = record.flat[0]
    return " ".join(f"{value:.6g}" for value in values[:100].tolist()) + (" …" if len(values) > 100 else "")


def frame_of(columns: Mapping[str, AnyArray], names: Sequence[str], cell: int) -> pl.DataFrame:
    """One unit's counts as a table: ``cell, replicate, generation, origin, reason, n``."""
    import polars as pl

    words = pl.Series(names, dtype=pl.String)
    return pl.DataFrame(
        {
            "cell": np.full(len(columns["n"]), cell, dtype=np.int32),
            "replicate": columns["replicate"],
            "generation": columns["generation"],
            "origin": words.gather(columns["origin"]),
            "reason": words.gather(columns["reason"]),
            "n": columns["n"],
        }
    )
