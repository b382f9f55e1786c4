"""What a unit finds: collected while it runs, and as bytes."""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from studbook.arrays import AnyArray, Batch
from studbook.records import FitReport, Measurement
from studbook.recursion import Sifting
from studbook.study.pictures import excerpts, shown_generations, sketch
from studbook.study.sifted import Sifted

MAGIC = b"studbook-unit-2\n"
BASE_GENERATION = -1
"""The number under which the fit of a pretrained base model is reported."""

GENERATED_SHARE = "generated_share"
"""The measurement that curated cells have beside their metrics: share of generated records in the training set."""

_COLUMNS = ("replicate", "generation", "metric", "value", "stderr", "n")


@dataclass(frozen=True, slots=True, eq=False)
class UnitResult:
    """What a unit leaves behind.

    Attributes:
        columns: ``replicate``, ``generation``, ``metric`` (index into ``names``), ``value``, ``stderr`` (NaN: exact), ``n``; equal lengths.
        names: Names of the measured values.
        pictures: Sketches by ``"original"`` and generation number, of replicate 0 only.
        texts: Excerpts likewise.
        prompts: What the first excerpts of every generation continue.
        fits: One row for each fit by gradient steps: ``replicate``, ``generation`` and the fields of ``FitReport``, losses that aren't
            finite as ``None``.
        sifted: What curation did to candidates: ``replicate``, ``generation``, ``origin`` and ``reason`` (indices into ``sifted_names``),
            ``n``; equal lengths. Empty where nothing was curated.
        sifted_names: Origins and reasons.
        rejects: Some of the rejects of replicate 0: ``generation``, ``origin``, ``reason``, ``detail`` and the ``record`` as text.
    """

    columns: Mapping[str, AnyArray]
    names: tuple[str, ...]
    pictures: Mapping[str, AnyArray]
    texts: Mapping[str, list[str]]
    prompts: Sequence[str] = ()
    fits: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    sifted: Mapping[str, AnyArray] = field(default_factory=dict)
    sifted_names: Sequence[str] = ()
    rejects: Sequence[Mapping[str, Any]] = ()


def encode(result: UnitResult, key: str) -> bytes:
    """A unit's result as bytes: magic, SHA-256 of key and payload, payload."""
    buffer = io.BytesIO()
    arrays = {f"column/{key}": value for key, value in result.columns.items()}
    about: dict[str, Any] = {"names": result.names, "texts": result.texts, "prompts": list(result.prompts), "fits": list(result.fits)}
    if result.sifted:
        arrays |= {f"sifted/{key}": value for key, value in result.sifted.items()}
        about |= {"sifted_names": list(result.sifted_names), "rejects": list(result.rejects)}
    arrays["about"] = np.frombuffer(json.dumps(about, allow_nan=False).encode(), dtype=np.uint8)
    arrays |= {f"picture/{key}": value for key, value in result.pictures.items()}
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    payload = buffer.getvalue()
    return MAGIC + hashlib.sha256(key.encode() + payload).digest() + payload


def decode(data: bytes, key: str) -> UnitResult | None:
    """The result in ``data``, or ``None`` where it is damaged or belongs to another unit."""
    head, payload = data[: len(MAGIC) + 32], data[len(MAGIC) + 32 :]
    if head != MAGIC + hashlib.sha256(key.encode() + payload).digest():
        return None
    with np.load(io.BytesIO(payload), allow_pickle=False) as arrays:
        about = json.loads(arrays["about"].tobytes())
        columns = {key.removeprefix("column/"): arrays[key] for key in arrays.files if key.startswith("column/")}
        pictures = {key.removeprefix("picture/"): arrays[key] for key in arrays.files if key.startswith("picture/")}
        sifted = {key.removeprefix("sifted/"): arrays[key] for key in arrays.files if key.startswith("sifted/")}
    curation = (sifted, about.get("sifted_names", ()), about.get("rejects", ()))
    return UnitResult(columns, tuple(about["names"]), pictures, about["texts"], about["prompts"], about["fits"], *curation)


class Recorder:
    """Collects measurements, fit reports and pictures while a unit runs.

    Args:
        measured: The generations that are measured.
        last: The last generation.
    """

    def __init__(self, measured: Sequence[int], last: int) -> None:
        self._names: dict[str, int] = {}
        self._chunks: list[tuple[AnyArray, ...]] = []
        self._pictures: dict[str, AnyArray] = {}
        self._texts: dict[str, list[str]] = {}
        self._prompts: list[str] = []
        self._fits: list[Mapping[str, Any]] = []
        self._sifted = Sifted()
        self.measured = frozenset(measured)
        self.shown = shown_generations(last)

    def restore(self, result: UnitResult) -> None:
        """Take over what was collected before the unit was stopped."""
        self._names = {name: index for index, name in enumerate(result.names)}
        self._chunks = [tuple(result.columns[name] for name in _COLUMNS)]
        self._pictures, self._texts = dict(result.pictures), dict(result.texts)
        self._prompts, self._fits = list(result.prompts), list(result.fits)
        self._sifted = Sifted.of(result.sifted, result.sifted_names, result.rejects)

    def add_law(self, start: int, generation: int, values: Mapping[str, AnyArray]) -> None:
        """Exact values of consecutive replicates."""
        for name, value in values.items():
            replicates = np.arange(start, start + len(value))
            self._add(name, replicates, generation, value, np.full(len(value), np.nan), np.zeros(len(value), np.int64))

    def add(self, replicate: int, generation: int, measurement: Measurement) -> None:
        """One measured value."""
        stderr = np.nan if measurement.stderr is None else measurement.stderr
        self._add(
            measurement.metric,
            np.array([replicate]),
            generation,
            np.array([measurement.value]),
            np.array([stderr]),
            np.array([measurement.n]),
        )

    def add_fit(self, replicate: int, generation: int, model: object) -> None:
        """How the fit of a model went, where it says so."""
        report = getattr(model, "fit_report", None)
        if isinstance(report, FitReport):
            self._fits.append({"replicate": replicate, "generation": generation, **_row(report)})

    def add_sifting(self, start: int, generation: int, sifting: Sifting) -> None:
        """What curation did to the candidates of consecutive replicates, and the share of generated records that it left."""
        self._sifted.add(start, generation, sifting)
        if generation in self.measured:
            self.add_law(start, generation, {GENERATED_SHARE: sifting.generated_share})

    def show(self, key: str, batch: Batch, model: object = None) -> None:
        """Keep a sketch of a sample, and the prompts that a language model continued."""
        self._pictures[key] = sketch(batch)
        if texts := excerpts(batch):
            self._texts[key] = texts
        if hasattr(model, "shown_prompts") and not self._prompts:
            prompts = model.shown_prompts(len(batch))
            self._prompts = [] if prompts is None else excerpts(prompts)

    def result(self) -> UnitResult:
        """Everything so far."""
        columns = {name: np.concatenate(parts) for name, parts in zip(_COLUMNS, zip(*self._chunks, strict=True), strict=True)}
        return UnitResult(
            columns, tuple(self._names), self._pictures, self._texts, tuple(self._prompts), tuple(self._fits), *self._sifted.result()
        )

    def _add(self, name: str, replicates: AnyArray, generation: int, values: AnyArray, stderrs: AnyArray, ns: AnyArray) -> None:
        index = self._names.setdefault(name, len(self._names))
        same = np.ones(len(values), dtype=np.int32)
        self._chunks.append(
            (replicates.astype(np.int32), same * generation, same * index, values.astype(float), stderrs, ns.astype(np.int64))
        )


def _row(report: FitReport) -> dict[str, Any]:
    return {
        "steps": report.steps,
        "epochs": report.epochs,
        "loss": _finite(report.loss),
        "validation": _finite(report.validation),
        "stopped_early": report.stopped_early,
        "failure": report.failure,
    }


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
