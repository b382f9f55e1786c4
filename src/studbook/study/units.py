"""Running one unit: from its task to its result as bytes."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np

from studbook.arrays import Batch
from studbook.data import Dataset
from studbook.errors import DataError, StudbookError
from studbook.metrics import Reference
from studbook.recursion import LawModel, run_generations_in_law
from studbook.rng import stream
from studbook.study.chains import run_chain
from studbook.study.folder import RunFolder
from studbook.study.network_units import run_network_unit
from studbook.study.pictures import N_VALUES
from studbook.study.plan import Unit, law_model, law_of, load_dataset
from studbook.study.registering import Registering
from studbook.study.results import Recorder, encode
from studbook.theory.laws import first_law, repeat_law


def run_unit(unit: Unit, folder: Path | None = None, registering: Registering | None = None) -> bytes:
    """Run a unit and give its result as bytes; the same unit gives the same measurements wherever it runs.

    Args:
        unit: The unit.
        folder: The run folder, for the journal of a unit whose models can be saved and for its base model. Where it isn't there (on
            another machine) the unit runs in one piece.
        registering: Where its samples are registered, if anywhere.

    Raises:
        DataError: The data have changed since the study was planned.
        FitError: A generation can't be fitted.
        StorageError: The disk refused.
    """
    job = unit.job
    dataset = load_dataset(job.cell.source)
    if dataset.digest != job.data_digest:
        raise DataError(f"{dataset.name} has changed since the study was planned", hint="run the study again in a new folder")
    recorder = Recorder(job.measured, job.cell.study.generations)
    try:
        if job.method == "law":
            _run_in_law(unit, dataset, recorder)
        else:
            run = RunFolder(folder) if folder is not None and folder.is_dir() else None
            with nullcontext() if registering is None else registering.open(unit) as register:
                run_chain(unit, dataset, recorder, run, register)
    except StudbookError as error:
        raise type(error)(f"{job.cell.label}, replicate {unit.start}: {error.message}", hint=error.hint) from error
    return encode(recorder.result(), unit.key)


def _run_in_law(unit: Unit, dataset: Dataset, recorder: Recorder) -> None:
    """All replicates of the unit at once, from their laws."""
    job, split = unit.job, unit.job.divide(dataset)
    cell, n_replicates = job.cell, unit.stop - unit.start
    learner = cell.learner
    streams = partial(stream, cell.study.seed, "replicates", unit.start)
    if cell.network is not None:
        run_network_unit(unit, dataset, recorder, streams)
        return
    real = None
    if split.original is None:
        real = learner.from_law(repeat_law(law_of(dataset), n_replicates), dataset.space)
        original = learner.draw(real, job.n_original, rng=streams("original"))
    else:
        original = learner.summarise(split.original).repeat(n_replicates)
    reference = Reference(split.original, dataset.law, split.heldout, dataset.background)
    show_law = unit.start == 0
    if show_law:
        recorder.show("original", split.original or _draw_for_picture(law_model(law_of(dataset), dataset.space), job.n, streams("picture")))
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
        curator=cell.curation,
    )
    for generation in chain:
        if generation.sifting is not None:
            recorder.add_sifting(unit.start, generation.index, generation.sifting)
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


def _draw_for_picture(model: LawModel, n: int, rng: np.random.Generator) -> Batch:
    return model.sample(min(n, 10 * N_VALUES), rng=rng)
