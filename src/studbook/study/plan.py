"""From cells to units: load and divide the data, choose the method, refuse what can't be run before anything is run."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from studbook.arrays import Batch, Kind, Space
from studbook.data import Dataset
from studbook.errors import ConfigError, DataError, MetricError
from studbook.learners import learner_of_law
from studbook.metrics import CheckedMetric, LawMetric, Reference
from studbook.mixing import Origin
from studbook.recursion import (
    Continuing,
    LawLearner,
    LawModel,
    Ledger,
    Subsampled,
    all_parts,
    can_curate_in_law,
    can_run_in_law,
    check_curation,
    split_evenly,
)
from studbook.rng import stream
from studbook.study.bases import check_continuing
from studbook.study.catalog import describe, kind_of
from studbook.study.config import Cell
from studbook.study.keys import code_digest, curation_digest, digest_of, foreign_code, protocols_digest, weights_digest
from studbook.study.networks import check_network, pools_in_law
from studbook.study.reserves import fresh_needed, reserve_for
from studbook.theory.laws import Law

MAX_ROWS = 50_000_000
LAW_BLOCK = 1_000
LAW_BLOCK_NUMBERS = 4_000_000
MAX_UNITS = 1_000_000
N_TRIED = 500
POOL_OVERHEAD = 6


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """A data set divided; for a distribution all four are ``None``.

    Attributes:
        original: What generation 0 is fitted to.
        heldout: Real records that no model is trained on.
        reserve: Real records for mixes that ask for fresh ones.
        base: Real records that a base model is pretrained on, and no generation.
    """

    original: Batch | None = None
    heldout: Batch | None = None
    reserve: Batch | None = None
    base: Batch | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A cell with everything settled that its units need.

    Attributes:
        cell: The cell.
        data_digest: Digest of the data set.
        n: Records that a generation generates; of a network, each node.
        n_original: Records that generation 0 is fitted to; of a network, each node's.
        n_heldout: Records set aside for measuring.
        n_reserve: Records set aside for fresh ones.
        method: ``"law"`` or ``"samples"``.
        n_base: Records that a base model is pretrained on.
    """

    cell: Cell
    data_digest: str
    n: int
    n_original: int
    n_heldout: int
    n_reserve: int
    method: str
    n_base: int = 0

    @property
    def nodes(self) -> int:
        """Nodes, each with a model of its own: 1 where there is no network."""
        return 1 if self.cell.network is None else self.cell.network.nodes

    @property
    def measured(self) -> tuple[int, ...]:
        """The generations that are measured: 0, every ``every``-th, and the last."""
        last = self.cell.study.generations
        return tuple(sorted({*range(0, last + 1, self.cell.every), last}))

    def divide(self, dataset: Dataset) -> Split:
        """The data set's parts."""
        return divide(dataset, seed=self.cell.study.seed, n_heldout=self.n_heldout, n_reserve=self.n_reserve, n_base=self.n_base)

    def resolved(self) -> dict[str, object]:
        """The cell's config as resolved, without what doesn't change results."""
        cell = self.cell
        return {
            "seed": cell.study.seed,
            "generations": cell.study.generations,
            "every": cell.every,
            "samples": self.n,
            "original": self.n_original,
            "heldout": self.n_heldout,
            "reserve": self.n_reserve,
            **({"base": self.n_base} if self.n_base else {}),
            "method": self.method,
            "learner": describe(cell.learner),
            "mix": describe(cell.mix),
            **({"curation": describe(cell.curation)} if cell.curation is not None else {}),
            **({"protocol": asdict(cell.network)} if cell.network is not None else {}),
            "metrics": [{"name": c.name, **describe(c.metric), "values": list(c.values)} for c in cell.metrics],
        }


@dataclass(frozen=True, slots=True)
class Unit:
    """Replicates ``start`` to ``stop - 1`` of one job: what an executor runs and what is stored once it is finished.

    Attributes:
        key: Digest of everything that determines the result.
        job: The job.
        start: First replicate.
        stop: One past the last.
    """

    key: str
    job: Job
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A study, ready to run.

    Attributes:
        passed: The config as it was passed.
        jobs: One for each cell.
        units: All units, in the order of their rows in the result.
        datasets: The data set of each job, by digest.
    """

    passed: Mapping[str, Any]
    jobs: tuple[Job, ...]
    units: tuple[Unit, ...]
    datasets: Mapping[str, Dataset]

    @property
    def name(self) -> str:
        """The study's name."""
        return self.jobs[0].cell.study.name

    @property
    def digest(self) -> str:
        """Digest of the config as resolved and of the data, not of the code."""
        return digest_of([[job.resolved(), job.data_digest, job.cell.study.replicates] for job in self.jobs])


def prepare(cells: tuple[Cell, ...], passed: Mapping[str, Any]) -> Plan:
    """Check every cell against its data and list the units.

    Raises:
        ConfigError: A size or a mix that can't be run.
        MetricError: A metric that doesn't fit the data.
        DataError: The data can't be read.
        FitError: The original data can't be fitted.
    """
    _check_totals(cells)
    code = code_digest()
    jobs, units, datasets = [], [], {}
    reserves: dict[str, int] = {}
    for cell in cells:
        dataset = load_dataset(cell.source)
        datasets[dataset.digest] = dataset
        if dataset.digest not in reserves:
            reserves[dataset.digest] = reserve_for(cells, cell, dataset)
        reserve = reserves[dataset.digest] if cell.split.reserve is None else cell.split.reserve
        job = _settle(cell, dataset, reserve)
        jobs.append(job)
        units.extend(_units(job, code))
    return Plan(passed, tuple(jobs), tuple(units), datasets)


def _check_totals(cells: tuple[Cell, ...]) -> None:
    """Refuse more units or measurements than can be kept, before any of them is listed."""
    units = sum(cell.study.replicates for cell in cells if cell.study.method == "samples")
    if units > MAX_UNITS:
        raise ConfigError(f"the study has {units:,} units, at most {MAX_UNITS:,} are run", hint="lower study.replicates or split the grid")
    rows = sum(c.study.replicates * (c.study.generations // c.every + 2) * len(c.metrics) * (1 if c.network is None else 3) for c in cells)
    if rows > MAX_ROWS:
        raise ConfigError(f"the study would write {rows:,} measurements, at most {MAX_ROWS:,} are kept", hint="raise metrics.every")


def load_dataset(source: Any) -> Dataset:
    """The source's data set, kept in memory for the next unit of this process; a file that has changed is read again."""
    path = getattr(source, "path", None)
    stamp: tuple[int, ...] = ()
    if isinstance(path, str | Path):
        try:
            about = Path(path).expanduser().stat()
            stamp = (about.st_mtime_ns, about.st_size, about.st_ino)
        except (OSError, ValueError):
            stamp = ()
    return _load(source, stamp)


@functools.lru_cache(maxsize=4)
def _load(source: Any, stamp: tuple[int, ...]) -> Dataset:
    dataset: Dataset = source.load()
    return dataset


def divide(dataset: Dataset, *, seed: int, n_heldout: int, n_reserve: int, n_base: int = 0) -> Split:
    """The data set's parts: chosen at random by the study's seed, each in the source's order (the reserve in random order).

    Text with a part for a base is divided into stretches instead, held-out and reserve behind, the base before the original: a language
    model is trained on neighbouring blocks end to end, and they should be neighbours in the text.
    """
    if dataset.records is None:
        return Split()
    if not n_heldout and not n_reserve and not n_base:
        return Split(dataset.records)
    order = stream(seed, "split").permutation(len(dataset.records))
    if n_base and dataset.space.kind is Kind.TEXT:
        whole = np.arange(len(order))
        behind = whole[len(order) - n_heldout - n_reserve :]
        order = np.concatenate([stream(seed, "split").permutation(behind), whole[: len(order) - n_heldout - n_reserve]])
    heldout, reserve, base, original = np.split(order, np.cumsum([n_heldout, n_reserve, n_base]))
    pick = dataset.records.take
    return Split(
        pick(np.sort(original)),
        pick(np.sort(heldout)) if n_heldout else None,
        pick(reserve) if n_reserve else None,
        pick(np.sort(base)) if n_base else None,
    )


def law_of(dataset: Dataset) -> Law:
    """A distribution's law; records have none."""
    if dataset.law is None:
        raise DataError(f"{dataset.name} has neither records nor a law", hint="its source must give one of the two")
    return dataset.law


def law_model(law: Law, space: Space) -> LawModel:
    """A model that draws real records from a distribution, whatever the learner of the study."""
    model: LawModel = learner_of_law(law).from_law(law, space)
    return model


def _settle(cell: Cell, dataset: Dataset, n_reserve: int) -> Job:
    kind = dataset.space.kind
    for chosen in cell.metrics:
        if kind not in chosen.metric.kinds:
            raise MetricError(
                f"the metric {chosen.name!r} measures {', '.join(sorted(chosen.metric.kinds))}; {dataset.name} holds {kind}",
                hint="studbook catalog says which metric fits which data",
            )
    if dataset.records is None:
        return _settle_law(cell, dataset)
    total = len(dataset.records)
    needed = fresh_needed(cell, total)
    if needed > n_reserve:
        raise ConfigError(
            f"the mix needs {needed:,} fresh records, data.reserve is {n_reserve:,}", hint="leave data.reserve out, or raise it"
        )
    share = cell.split.heldout if cell.split.heldout is not None else (0.1 if kind in {Kind.TEXT, Kind.IMAGES} else 0.0)
    n_heldout, n_base = round(share * total), round((cell.split.base or 0.0) * total)
    n_original = total - n_heldout - n_reserve - n_base
    if cell.split.base and not n_base:
        raise ConfigError(f"data.base is {cell.split.base:g} of {total:,} records, less than one", hint="raise data.base")
    if n_original < 2:
        pretraining = f", {n_base:,} for the base model" if n_base else ""
        raise ConfigError(
            f"{dataset.name} has {total:,} records; {n_heldout:,} held out{pretraining} and {n_reserve:,} reserved as fresh ones "
            f"leave {max(n_original, 0)} to train on",
            hint=f"lower {'curation.candidates, ' if cell.curation is not None else ''}mix.fresh, study.generations, "
            f"data.heldout{', data.base' if n_base else ''} or data.reserve",
        )
    if cell.network is not None:
        n_original = split_evenly(n_original, cell.network.nodes)
    n = cell.study.samples or n_original
    return _check(Job(cell, dataset.digest, n, n_original, n_heldout, n_reserve, "samples", n_base), dataset)


def _settle_law(cell: Cell, dataset: Dataset) -> Job:
    if cell.study.samples is None:
        raise ConfigError(
            f"study.samples is missing: {dataset.name} is a distribution and has no size of its own", hint="set study.samples"
        )
    if cell.split.heldout or cell.split.reserve or cell.split.base:
        raise ConfigError(
            f"data.heldout, data.base and data.reserve divide a data set; {dataset.name} is a distribution", hint="leave them out"
        )
    n = cell.study.samples
    return _check(Job(cell, dataset.digest, n, n, 0, 0, "samples"), dataset)


def _check(job: Job, dataset: Dataset) -> Job:
    """Settle the method and refuse sizes that memory can't hold."""
    cell = job.cell
    parts = all_parts(cell.mix, cell.study.generations, job.n, job.n_original)
    if cell.network is not None:
        if cell.curation is not None:
            raise ConfigError(
                "a network's nodes train on all that they are given; a curation has no place in it", hint="leave one of them out"
            )
        Ledger.of(cell.network, cell.mix, n=job.n, n_original=job.n_original)
        check_network(cell.network, cell.learner)
    if cell.curation is not None:
        check_curation(parts)
        if hasattr(cell.curation, "check_space"):
            cell.curation.check_space(dataset.space, cell.learner)
    check_continuing(cell, dataset.space, n_base=job.n_base)
    lawful = cell.study.method != "samples" and _lawful(job, dataset)
    if cell.study.method == "law" and not lawful:
        raise ConfigError(
            f"study.method is law, but {kind_of(cell.learner)} with {kind_of(cell.mix)} on {dataset.name} and these metrics "
            "isn't exact in law",
            hint='use study.method = "auto"',
        )
    if not lawful:
        _check_memory(job, dataset)
        _check_metrics(job, dataset)
    _try_fit(job, dataset)
    return replace(job, method="law" if lawful else "samples")


def _check_metrics(job: Job, dataset: Dataset) -> None:
    """Let the metrics refuse the data now, not when generation 0 is trained."""
    split = job.divide(dataset)
    if split.original is None:
        return
    reference = Reference(split.original, dataset.law, split.heldout, dataset.background)
    for chosen in job.cell.metrics:
        if isinstance(chosen.metric, CheckedMetric):
            chosen.metric.check_reference(reference)


def _try_fit(job: Job, dataset: Dataset) -> None:
    """Let the learner refuse the data now, not when the run has started: the original, and a few records with the mix's weights."""
    cell, original = job.cell, job.divide(dataset).original
    learner, checks = cell.learner, hasattr(cell.learner, "check_original")
    if dataset.law is not None:
        original = law_model(dataset.law, dataset.space).sample(min(job.n_original, N_TRIED), rng=stream(cell.study.seed, "trial"))
    if original is None:
        return
    if hasattr(cell.mix, "check_original"):
        cell.mix.check_original(original)
    slow = isinstance(learner, Continuing)
    if checks and (slow or dataset.law is None):
        learner.check_original(original)
    if slow or (checks and dataset.space.kind is Kind.TEXT):
        return
    few = original.take(np.arange(min(len(original), N_TRIED)))
    weights = [part.weight for part in all_parts(cell.mix, cell.study.generations, job.n, job.n_original)]
    if any(weight != 1.0 for weight in weights):
        few = replace(few, weights=np.resize(weights, len(few)))
    learner.fit(few, rng=stream(cell.study.seed, "trial"))


def _lawful(job: Job, dataset: Dataset) -> bool:
    """Whether the learner, the mix and every metric are known in law."""
    learner = job.cell.learner
    if not isinstance(learner, LawLearner) or not all(isinstance(c.metric, LawMetric) for c in job.cell.metrics):
        return False
    split = job.divide(dataset)
    if job.cell.network is not None and (dataset.law is None or not pools_in_law(job.cell.metrics, dataset.law)):
        return False  # a finite set is divided among the nodes, record by record
    if split.original is not None:
        model, real = learner.fit(split.original, rng=stream(0)), None
        probe = learner.summarise(split.original)
    else:
        model = real = learner.from_law(dataset.law, dataset.space)  # type: ignore[arg-type]
        probe = learner.draw(model, job.n_original, rng=stream(0))
    if job.cell.network is not None and job.cell.network.kind == "published" and not isinstance(probe, Subsampled):
        return False
    sizes = {"n": job.n, "n_original": job.n_original}
    if job.cell.curation is not None and not can_curate_in_law(learner, job.cell.curation, job.cell.mix, **sizes):
        return False
    if not can_run_in_law(learner, job.cell.mix, n=job.n, n_original=job.n_original, real=real, probe=probe):
        return False
    reference = Reference(split.original, dataset.law, split.heldout, dataset.background)
    return all(c.metric.of_law(reference, model.law) is not None for c in job.cell.metrics)


def _check_memory(job: Job, dataset: Dataset) -> None:
    parts = all_parts(job.cell.mix, job.cell.study.generations, job.n, job.n_original)
    pooled = any(part.origin is Origin.POOL for part in parts)
    # A pool is put together once more for the fit, and a learner needs a few copies of it to work on.
    records = job.n * job.nodes * ((job.cell.study.generations + 1) * POOL_OVERHEAD if pooled else POOL_OVERHEAD)
    needed = records * max(dataset.space.dimension, 1) * 8
    available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > 0.8 * available:
        raise ConfigError(
            f"{job.n * job.nodes:,} records a generation would take {needed / 2**30:,.1f} GiB"
            f"{' with all generations kept' if pooled else ''}; this machine has {available / 2**30:,.1f}",
            hint="lower study.samples or study.generations, or use a learner and mix that are exact in law",
        )


def _units(job: Job, code: str) -> list[Unit]:
    total = job.cell.study.replicates
    step = _law_block(job) if job.method == "law" else 1
    if total // step > MAX_UNITS:
        raise ConfigError(f"a cell has {total // step:,} units, at most {MAX_UNITS:,} are run", hint="lower study.replicates")
    common = _job_key(job, code)
    spans = [(start, min(start + step, total)) for start in range(0, total, step)]
    return [Unit(digest_of([common, start, stop]), job, start, stop) for start, stop in spans]


def _law_block(job: Job) -> int:
    """Replicates that are run at once: a function of the job alone, so that results don't depend on the machine."""
    space = load_dataset(job.cell.source).space
    size = max(space.n_states, space.dimension**2, 1) * job.nodes
    return max(1, min(LAW_BLOCK, LAW_BLOCK_NUMBERS // size))


def _job_key(job: Job, code: str) -> str:
    learner = job.cell.learner
    metrics = [chosen.metric for chosen in job.cell.metrics]
    own = [foreign_code(thing) for thing in (learner, job.cell.mix, *metrics)]
    if job.cell.curation is not None:
        own += [foreign_code(job.cell.curation), curation_digest()]
    if job.cell.network is not None and job.cell.network.trains_together:
        own.append(protocols_digest())
    return digest_of([job.resolved(), job.data_digest, code, own, *weights_digest(learner, metrics)])
