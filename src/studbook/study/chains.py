"""A unit the long way: every record is drawn, every generation is fitted, and a unit that is killed goes on where it was."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from studbook.arrays import Batch
from studbook.data import Dataset
from studbook.errors import DeviceMemoryError, RunFolderError, StudbookError
from studbook.metrics import Observation, Reference
from studbook.mixing import Mix
from studbook.protocols.together import TrainedTogether
from studbook.records import Measurement
from studbook.recursion import (
    Continuing,
    Curator,
    FreshLaw,
    FreshReserve,
    FreshSupply,
    Generation,
    Journal,
    Ledger,
    Model,
    Needs,
    Phased,
    Restoring,
    Resumed,
    Society,
    SocietyReader,
    Storable,
    fresh_by_generation,
    run_generations,
    run_network,
)
from studbook.rng import stream
from studbook.study.bases import base_key, find_base
from studbook.study.folder import RunFolder
from studbook.study.kept import kept_generations, models_are_sound, save_model
from studbook.study.measuring import measure
from studbook.study.networks import measure_network
from studbook.study.plan import Job, Split, Unit, law_model, law_of
from studbook.study.registering import UnitRegister
from studbook.study.reserves import fresh_share
from studbook.study.results import BASE_GENERATION, Recorder, decode, encode


def run_chain(unit: Unit, dataset: Dataset, recorder: Recorder, run: RunFolder | None, register: UnitRegister | None = None) -> None:
    """Run a unit's generations, or those that its journal doesn't have yet.

    Args:
        unit: One replicate.
        dataset: Its data.
        recorder: Where everything that is measured goes.
        run: The run folder, for the journal; ``None`` where there is none.
        register: Where samples are entered, if anywhere.

    Raises:
        StudbookError: A generation failed; what was finished before stays in the journal, and the message says so.
    """
    job, cell, replicate = unit.job, unit.job.cell, unit.start
    split = job.divide(dataset)
    streams = partial(stream, cell.study.seed, "replicate", replicate)
    original, fresh = _real_records(job, dataset, split, streams)
    learner = cell.learner.condition_on(original) if hasattr(cell.learner, "condition_on") else cell.learner
    chain = _Chain(unit, learner, original, fresh, recorder, run, _open_journal(unit, learner, original, run), register)
    reference = Reference(original, dataset.law, split.heldout, dataset.background)
    with nullcontext() if chain.journal is None else chain.journal.held(), _open_curator(job, original, streams) as chain.curator:
        chain.run(reference, split.base, streams)


def _open_curator(job: Job, original: Batch, streams: Callable[..., np.random.Generator]) -> AbstractContextManager[Curator | None]:
    """What judges the candidates of one replicate; its secrets, a watermark's key, are the replicate's own."""
    curation = job.cell.curation
    if curation is None:
        return nullcontext()
    opened: AbstractContextManager[Curator] = curation.open(original.space, job.cell.learner, seed=int(streams("curation").integers(2**62)))
    return opened


@dataclass(slots=True, eq=False)
class _Chain:
    """One replicate under way.

    Attributes:
        unit: The replicate.
        learner: The model family, with its prompts and classes.
        original: The original data.
        fresh: Where fresh records come from.
        recorder: Where everything that is measured goes.
        folder: The run folder, if it can be seen from here.
        journal: The journal, where the learner's models can be saved.
        register: Where samples are entered, if anywhere.
        finished: The last generation that the journal has.
        curator: What judges candidates, where anything does.
    """

    unit: Unit
    learner: Any
    original: Batch
    fresh: FreshSupply | None
    recorder: Recorder
    folder: RunFolder | None
    journal: Journal | None
    register: UnitRegister | None = None
    finished: int = -1
    curator: Curator | None = None

    def run(self, reference: Reference, pretraining: Batch | None, streams: Callable[..., np.random.Generator]) -> None:
        """Run the generations that are missing."""
        try:
            self._run(reference, pretraining, streams)
        except StudbookError as error:
            if self.finished < 0 or self.folder is None:
                raise
            raise _with_kept(error, self.finished, self.folder) from error

    def _run(self, reference: Reference, pretraining: Batch | None, streams: Callable[..., np.random.Generator]) -> None:
        job, replicate = self.unit.job, self.unit.start
        resumed = self._resume()
        first: Model | None = None
        if resumed is None:
            if replicate == 0:
                self.recorder.show("original", self.original)
        else:
            first, self.finished = resumed.first, resumed.standing.index
            self._restore(resumed.notes)
        if self.finished == job.cell.study.generations:
            return
        run = partial(run_generations, curator=self.curator)
        if job.cell.network is not None:
            together = TrainedTogether(job.cell.network) if job.cell.network.trains_together else None
            run = partial(run_network, network=job.cell.network, together=together)
        for generation in run(
            self.learner,
            job.cell.mix,
            self.original,
            n=job.n,
            last=job.cell.study.generations,
            fresh=self.fresh,
            streams=partial(_stream, streams),
            base=self._base(pretraining),
            stock=self.journal,
            after=None if resumed is None else resumed.standing,
        ):
            first = generation.model if first is None else first
            self._record(generation, first, reference, streams)
            if self.register is not None:
                self.register.add(generation)  # before it counts as finished: what is entered twice is one entry
            self._store(generation)

    def _resume(self) -> Resumed | None:
        """Where the journal goes on; a kept model that was damaged since can only be made again from the beginning."""
        resumed = None if self.journal is None else self.journal.resume()
        if resumed is None or self.journal is None or self.folder is None:
            return resumed
        if models_are_sound(self.folder, self.unit, resumed.standing.index):
            return resumed
        self.journal.clear()
        return None

    def _base(self, pretraining: Batch | None) -> Model | None:
        """The model that generations may start from, reported with the first replicate where the study pretrained it."""
        if not isinstance(self.learner, Continuing):
            return None
        job = self.unit.job
        folder = None
        if self.folder is not None and pretraining is not None:
            sizes = (job.n_original, job.n_heldout, job.n_reserve, job.n_base)
            key = base_key(job.cell.learner, data_digest=job.data_digest, seed=job.cell.study.seed, sizes=sizes)
            folder = self.folder.base(key)
        base = find_base(self.learner, pretraining, self.original.space, seed=job.cell.study.seed, folder=folder)
        if base is not None and pretraining is not None and self.unit.start == 0 and self.finished < 0:
            self.recorder.add_fit(0, BASE_GENERATION, base)
        return base

    def _restore(self, notes: bytes) -> None:
        before = decode(notes, self.unit.key)
        if before is None:
            raise RunFolderError(f"the journal of the unit {self.unit.key} holds no notes of it", hint="delete the run folder's work/")
        self.recorder.restore(before)

    def _record(self, generation: Generation, first: Model, reference: Reference, streams: Callable[..., np.random.Generator]) -> None:
        """Measure a generation, where it is to be measured, and keep what a report shows of it."""
        replicate, index = self.unit.start, generation.index
        for model in generation.model.models if isinstance(generation.model, Society) else (generation.model,):
            self.recorder.add_fit(replicate, index, model)
        if generation.sifting is not None:
            self.recorder.add_sifting(replicate, index, generation.sifting)
        if replicate == 0 and index in self.recorder.shown:
            self.recorder.show(str(index), generation.sample, generation.model)
        if index in self.recorder.measured:
            for measurement in self._measure(generation, first, reference, partial(streams, "generation", index, "metric")):
                self.recorder.add(replicate, index, measurement)

    def _measure(
        self, generation: Generation, first: Model, reference: Reference, streams: Callable[..., np.random.Generator]
    ) -> list[Measurement]:
        job = self.unit.job
        if job.cell.network is None or not isinstance(first, Society):
            seen = Observation(generation.sample, generation.training, generation.model, first)
            return measure(job.cell.metrics, reference, seen, streams)
        ledger = Ledger.of(job.cell.network, job.cell.mix, n=job.n, n_original=job.n_original)
        return measure_network(job.cell.metrics, reference, generation, first, ledger, streams)

    def _store(self, generation: Generation) -> None:
        """Write down that a generation is finished, and its model where it is to be kept."""
        model = generation.model
        if self.journal is None or self.folder is None or not isinstance(model, Storable):
            return
        if generation.index in kept_generations(self.unit):
            save_model(self.folder, self.unit, generation.index, model)
        self.journal.finish(generation, encode(self.recorder.result(), self.unit.key))
        self.finished = generation.index


def _real_records(
    job: Job, dataset: Dataset, split: Split, streams: Callable[..., np.random.Generator]
) -> tuple[Batch, FreshSupply | None]:
    """The original data of a replicate, and where its fresh records come from."""
    if split.original is None:
        real = law_model(law_of(dataset), dataset.space)
        return real.sample(job.n_original * job.nodes, rng=streams("original")), FreshLaw(real)
    if split.reserve is None:
        return split.original, None
    # Each replicate meets the reserve in its own order, or the replicates would share their fresh records.
    reserve = split.reserve.take(streams("reserve").permutation(len(split.reserve)))
    mix: Mix = job.cell.mix
    if job.cell.curation is not None:
        return split.original, FreshReserve(reserve, share=fresh_share(job.cell, job.n, job.n_original))
    starts: list[int] = []
    if isinstance(mix, Phased):
        counts = fresh_by_generation(mix, job.cell.study.generations, job.n, job.n_original)
        starts = [0, *np.cumsum(counts)[:-1].tolist()]
    return split.original, FreshReserve(reserve, starts)


def _open_journal(unit: Unit, learner: object, original: Batch, run: RunFolder | None) -> Journal | None:
    """The journal of a learner whose models can be saved, in a run folder that can be seen from here."""
    if run is None or not isinstance(learner, Restoring):
        return None
    job = unit.job
    last, curation = job.cell.study.generations, job.cell.curation
    needs = Needs.of(learner, job.cell.mix, n=job.n, n_original=job.n_original, last=last, curator=curation)
    reader = learner if job.cell.network is None else SocietyReader(learner, job.nodes)
    return Journal(run.work(unit.key), unit.key, reader, original, needs)


def _stream(streams: Callable[..., np.random.Generator], generation: int, purpose: str) -> np.random.Generator:
    return streams("generation", generation, purpose)


def _with_kept(error: StudbookError, finished: int, run: RunFolder) -> StudbookError:
    """The error, saying that finished generations stay."""
    message = f"{error.message}; generations up to {finished} are finished and kept"
    if error.hint and "study resume" in error.hint:
        return type(error)(message, hint=error.hint)
    resume = f"studbook study resume {shlex.quote(str(run.path))}"
    if isinstance(error, DeviceMemoryError):
        # With another batch or size it would be another study: its results would be others.
        anew = f", or {error.hint} and start anew in another folder" if error.hint else ""
        return type(error)(message, hint=f"go on on a machine with more memory: {resume}{anew}")
    go_on = f"go on with: {resume}"
    return type(error)(message, hint=f"{error.hint}, then {go_on}" if error.hint else go_on)
