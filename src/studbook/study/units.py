"""Running one unit, and its result as bytes."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from studbook.arrays import AnyArray, Batch
from studbook.data import Dataset
from studbook.errors import DataError, StudbookError
from studbook.metrics import LawMetric, Observation, Reference
from studbook.records import Measurement
from studbook.recursion import FreshLaw, FreshReserve, FreshSupply, LawModel, run_generations, run_generations_in_law
from studbook.rng import stream
from studbook.study.pictures import N_VALUES, excerpts, shown_generations, sketch
from studbook.study.plan import Job, Split, Unit, divide, law_model, load_dataset
from studbook.theory.laws import Law, first_law, repeat_law

MAGIC = b"studbook-unit-1\n"


@dataclass(frozen=True, slots=True, eq=False)
class UnitResult:
    """What a unit leaves behind.

    Attributes:
        columns: ``replicate``, ``generation``, ``metric`` (index into ``names``), ``value``, ``stderr`` (NaN: exact), ``n``; equal lengths.
        names: Names of the measured values.
        pictures: Sketches by ``"original"`` and generation number, of replicate 0 only.
        texts: Excerpts likewise.
    """

    columns: Mapping[str, AnyArray]
    names: tuple[str, ...]
    pictures: Mapping[str, AnyArray]
    texts: Mapping[str, list[str]]


def run_unit(unit: Unit) -> bytes:
    """Run a unit and give its result as bytes; the same unit gives the same measurements wherever it runs.

    Raises:
        DataError: The data have changed since the study was planned.
        FitError: A generation can't be fitted.
    """
    job = unit.job
    dataset = load_dataset(job.cell.source)
    if dataset.digest != job.data_digest:
        raise DataError(f"{dataset.name} has changed since the study was planned", hint="run the study again in a new folder")
    split = divide(dataset, seed=job.cell.study.seed, n_heldout=job.n_heldout, n_reserve=job.n_reserve)
    recorder = _Recorder(job)
    run = _run_in_law if job.method == "law" else _run_on_samples
    try:
        run(unit, dataset, split, recorder)
    except StudbookError as error:
        raise type(error)(f"{job.cell.label}, replicate {unit.start}: {error.message}", hint=error.hint) from error
    return encode(recorder.result(), unit.key)


def encode(result: UnitResult, key: str) -> bytes:
    """A unit's result as bytes: magic, SHA-256 of key and payload, payload."""
    buffer = io.BytesIO()
    arrays = {f"column/{key}": value for key, value in result.columns.items()}
    arrays["about"] = np.frombuffer(json.dumps({"names": result.names, "texts": result.texts}).encode(), dtype=np.uint8)
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
    return UnitResult(columns, tuple(about["names"]), pictures, about["texts"])


class _Recorder:
    """Collects measurements and pictures while a unit runs."""

    def __init__(self, job: Job) -> None:
        self._names: dict[str, int] = {}
        self._chunks: list[tuple[AnyArray, ...]] = []
        self._pictures: dict[str, AnyArray] = {}
        self._texts: dict[str, list[str]] = {}
        self.measured = frozenset(job.measured)
        self.shown = shown_generations(job.cell.study.generations)

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

    def show(self, key: str, batch: Batch) -> None:
        """Keep a sketch of a sample."""
        self._pictures[key] = sketch(batch)
        if texts := excerpts(batch):
            self._texts[key] = texts

    def result(self) -> UnitResult:
        """Everything so far."""
        columns = zip(("replicate", "generation", "metric", "value", "stderr", "n"), zip(*self._chunks, strict=True), strict=True)
        return UnitResult({name: np.concatenate(parts) for name, parts in columns}, tuple(self._names), self._pictures, self._texts)

    def _add(self, name: str, replicates: AnyArray, generation: int, values: AnyArray, stderrs: AnyArray, ns: AnyArray) -> None:
        index = self._names.setdefault(name, len(self._names))
        same = np.ones(len(values), dtype=np.int32)
        self._chunks.append(
            (replicates.astype(np.int32), same * generation, same * index, values.astype(float), stderrs, ns.astype(np.int64))
        )


def _run_on_samples(unit: Unit, dataset: Dataset, split: Split, recorder: _Recorder) -> None:
    """The long way: every record is drawn."""
    job, replicate = unit.job, unit.start
    cell = job.cell
    streams = partial(stream, cell.study.seed, "replicate", replicate)
    original = split.original
    fresh: FreshSupply | None = None
    if split.reserve is not None:
        # Each replicate meets the reserve in its own order, or the replicates would share their fresh records.
        fresh = FreshReserve(split.reserve.take(streams("reserve").permutation(len(split.reserve))))
    if original is None:
        real = law_model(_law_of(dataset), dataset.space)
        original, fresh = real.sample(job.n_original, rng=streams("original")), FreshLaw(real)
    learner = _conditioned(cell.learner, original)
    reference = Reference(original, dataset.law, split.heldout)
    if replicate == 0:
        recorder.show("original", original)
    chain = run_generations(
        learner, cell.mix, original, n=job.n, last=cell.study.generations, fresh=fresh, streams=partial(_stream, streams, "generation")
    )
    base: object = None
    for generation in chain:
        base = generation.model if base is None else base
        if replicate == 0 and generation.index in recorder.shown:
            recorder.show(str(generation.index), generation.sample)
        if generation.index in recorder.measured:
            seen = Observation(generation.sample, generation.training, generation.model, base)
            for measurement in _measure(job, reference, seen, partial(streams, "generation", generation.index, "metric")):
                recorder.add(replicate, generation.index, measurement)


def _measure(job: Job, reference: Reference, seen: Observation, streams: Callable[[str], np.random.Generator]) -> list[Measurement]:
    """All metrics on one generation, each with a stream of its own; one computation serves all names that share a metric."""
    found: list[Measurement] = []
    done: dict[Any, tuple[Measurement, ...]] = {}
    for chosen in job.cell.metrics:
        if chosen.metric not in done:
            done[chosen.metric] = _of_model(chosen.metric, reference, seen, streams(type(chosen.metric).__name__))
        found.extend(m for m in done[chosen.metric] if chosen.wants(m.metric))
    return found


def _of_model(metric: Any, reference: Reference, seen: Observation, rng: np.random.Generator) -> tuple[Measurement, ...]:
    """From the law where the model has one and the metric knows it, else from the sample."""
    law = getattr(seen.model, "law", None)
    values = metric.of_law(reference, law) if law is not None and isinstance(metric, LawMetric) else None
    if values is not None:
        return tuple(Measurement(name, float(value[0]), None, 0) for name, value in values.items())
    measured: tuple[Measurement, ...] = metric.measure(reference, seen, rng=rng)
    return measured


def _run_in_law(unit: Unit, dataset: Dataset, split: Split, recorder: _Recorder) -> None:
    """All replicates of the unit at once, from their laws."""
    job = unit.job
    cell, n_replicates = job.cell, unit.stop - unit.start
    learner = cell.learner
    streams = partial(stream, cell.study.seed, "replicates", unit.start)
    real = None
    if split.original is None:
        real = learner.from_law(repeat_law(_law_of(dataset), n_replicates), dataset.space)
        original = learner.draw(real, job.n_original, rng=streams("original"))
    else:
        original = learner.summarise(split.original).repeat(n_replicates)
    reference = Reference(split.original, dataset.law, split.heldout)
    show_law = unit.start == 0
    if show_law:
        recorder.show(
            "original", split.original or _draw_for_picture(law_model(_law_of(dataset), dataset.space), job.n, streams("picture"))
        )
    chain = run_generations_in_law(
        learner,
        cell.mix,
        original,
        dataset.space,
        n=job.n,
        n_original=job.n_original,
        last=cell.study.generations,
        real=real,
        rng=streams("law"),
    )
    for generation in chain:
        shown, measured = show_law and generation.index in recorder.shown, generation.index in recorder.measured
        if not (shown or measured):
            continue
        law = generation.model.law
        if shown:
            single = learner.from_law(first_law(law), dataset.space)
            recorder.show(str(generation.index), _draw_for_picture(single, job.n, streams("generation", generation.index, "picture")))
        if measured:
            for chosen in cell.metrics:
                values = chosen.metric.of_law(reference, law)
                recorder.add_law(unit.start, generation.index, {name: value for name, value in values.items() if chosen.wants(name)})


def _stream(streams: Callable[..., np.random.Generator], word: str, generation: int, purpose: str) -> np.random.Generator:
    return streams(word, generation, purpose)


def _conditioned(learner: Any, original: Batch) -> Any:
    """The learner with what it needs of the original data (prompts), where it asks for that."""
    return learner.condition_on(original) if hasattr(learner, "condition_on") else learner


def _draw_for_picture(model: LawModel, n: int, rng: np.random.Generator) -> Batch:
    return model.sample(min(n, 10 * N_VALUES), rng=rng)


def _law_of(dataset: Dataset) -> Law:
    """A distribution's law; records have none."""
    if dataset.law is None:
        raise DataError(f"{dataset.name} has neither records nor a law", hint="its source must give one of the two")
    return dataset.law
