"""Strata of a review: records by the evidence that decided them and by how sure it was, counted and sampled in streams."""

from __future__ import annotations

import heapq
import json
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from studbook.screening.columns import NO_EVIDENCE, TEXT, is_near
from studbook.screening.combining import DETECTORS, NOBODY
from studbook.screening.strata import WEAK, read_batches, text_column

EDGES = (1e-4, 1e-2, 0.1, 0.5)
"""Limits of the p-values that tell strata apart."""
BINS = ("p < 0.0001", "p < 0.01", "p < 0.1", "p < 0.5", "p ≥ 0.5", "no p-value")
SMALLEST = 0.02
"""Strata with a smaller share of their group are joined to the next."""
_FIELDS = ("record", "content", "origin", "evidence", "witness", "p_value", "reason", "findings")
_MAX_FINDINGS = 1 << 20


@dataclass(frozen=True, slots=True)
class Located:
    """A record of the corpus whose origin isn't certain, and where it stands.

    Attributes:
        record: Its id.
        content: Digest of its content.
        group: The evidence that decided it.
        bin: Index of its p-value's bin.
        reason: What the screen said.
        text: The text, where it is one; else empty.
    """

    record: str
    content: str
    group: str
    bin: int
    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class Strata:
    """Strata of each group.

    Attributes:
        sizes: Records by group and stratum; small strata are joined to their neighbours.
        names: ``{group: (stratum of bin 0, …)}``, how each bin's stratum is called.
    """

    sizes: Mapping[str, Mapping[str, int]]
    names: Mapping[str, tuple[str, ...]]

    def stratum(self, group: str, bin_: int) -> str:
        """The stratum of a bin."""
        return self.names[group][bin_]


def group_of(origin: str, evidence: str, witness: str) -> str | None:
    """The group of a record; ``None`` where a signature or the register decided, but for what is near registered generated output."""
    if is_near(evidence, witness):
        return witness if origin == "generated" else None
    if evidence in WEAK and origin == "generated":
        return DETECTORS if evidence == "detector" else witness
    return NOBODY if evidence in (*WEAK, NO_EVIDENCE) or origin == "unknown" else None


def bin_of(p_value: float | None, findings: str) -> int:
    """The bin of the deciding p-value, or else of the least that a witness gave who decided nothing."""
    if p_value is None and findings not in ("", "[]"):
        p_value = _least(findings)
    if p_value is None or math.isnan(p_value):
        return len(EDGES) + 1
    return bisect_right(EDGES, p_value)


def _least(findings: str) -> float | None:
    if len(findings) > _MAX_FINDINGS:
        return None
    try:
        found = json.loads(findings)
    except (ValueError, RecursionError):
        return None
    values = [each.get("p_value") for each in found if isinstance(each, dict)] if isinstance(found, list) else []
    numbers = [value for value in values if isinstance(value, float | int) and not isinstance(value, bool) and 0.0 <= value <= 1.0]
    return min(numbers, default=None)


def iterate_uncertain(folder: Path, *, texts: bool = False) -> Iterator[Located]:
    """Records whose origin isn't certain, in a stream; texts are read where they are wanted and there."""
    screened = text_column(folder) if texts else None
    for _, batch in read_batches(folder, None if texts else _FIELDS):
        held = set(batch.schema.names)
        columns = {name: batch.column(name).to_pylist() for name in _FIELDS if name in held}
        text = screened if screened in held else TEXT
        bodies = batch.column(text) if texts and text in held else None
        for i, (origin, evidence, witness) in enumerate(zip(columns["origin"], columns["evidence"], columns["witness"], strict=True)):
            group = group_of(origin, evidence, witness)
            if group is not None:
                yield Located(
                    columns["record"][i], columns["content"][i], group, bin_of(columns["p_value"][i], columns["findings"][i] or ""),
                    columns["reason"][i] or "", _text(bodies, i),
                )  # fmt: skip


def _text(bodies: Any, i: int) -> str:
    value = None if bodies is None else bodies[i].as_py()
    return value if isinstance(value, str) else ""


def count_strata(folder: Path) -> Strata:
    """Count the records of every stratum."""
    return strata_of(Counter((each.group, each.bin) for each in iterate_uncertain(folder)))


def strata_of(counts: Mapping[tuple[str, int], int]) -> Strata:
    """Strata from counts by group and bin; those with less than ``SMALLEST`` of their group's records are joined to the next one."""
    sizes: dict[str, dict[str, int]] = {}
    names: dict[str, tuple[str, ...]] = {}
    for group in sorted({group for group, _ in counts}):
        by_bin = [counts.get((group, i), 0) for i in range(len(BINS))]
        parts = _joined(by_bin)
        names[group] = tuple(next(_name(part) for part in parts if i in part) for i in range(len(BINS)))
        sizes[group] = {_name(part): sum(by_bin[i] for i in part) for part in parts}
    return Strata(sizes, names)


def _joined(by_bin: list[int]) -> list[list[int]]:
    least = SMALLEST * sum(by_bin)
    parts: list[list[int]] = [[]]
    for i in range(len(by_bin)):
        if parts[-1] and sum(by_bin[k] for k in parts[-1]) > least:
            parts.append([])
        parts[-1].append(i)
    if len(parts) > 1 and sum(by_bin[k] for k in parts[-1]) <= least:
        last = parts.pop()
        parts[-1] += last
    return parts


def _name(part: list[int]) -> str:
    return " or ".join(BINS[i] for i in part)


def sample_strata(
    folder: Path, strata: Strata, wanted: Mapping[tuple[str, str], int], answered: Collection[str], seed: int
) -> list[Located]:
    """A simple random sample of each stratum, without records that were answered; the same for the same seed."""
    heaps: dict[tuple[str, str], list[tuple[int, str, Located]]] = {key: [] for key, n in wanted.items() if n}
    for each in iterate_uncertain(folder, texts=True):
        key = (each.group, strata.stratum(each.group, each.bin))
        if key not in heaps or each.record in answered:
            continue
        draw = -int.from_bytes(blake2b(f"{seed}\0{each.record}".encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
        heap = heaps[key]
        if len(heap) < wanted[key]:
            heapq.heappush(heap, (draw, each.record, each))
        elif draw > heap[0][0]:
            heapq.heapreplace(heap, (draw, each.record, each))
    return [each for heap in heaps.values() for _, _, each in sorted(heap, key=lambda item: -item[0])]
