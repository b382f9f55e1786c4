"""From cells to units: load and divide the data, choose the method, refuse what can't be run before anything is run."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import os
from collections.abc import Mapping, Set
from dataclasses import dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import studbook
from studbook.arrays import Batch, Kind, Space
from studbook.data import Dataset
from studbook.errors import ConfigError, MetricError
from studbook.learners import learner_of_law
from studbook.metrics import LawMetric, Reference
from studbook.mixing import Origin
from studbook.recursion import LawLearner, LawModel, can_run_in_law
from studbook.rng import stream
from studbook.study.catalog import describe, kind_of
from studbook.study.config import Cell
from studbook.theory.laws import Law

MAX_ROWS = 50_000_000
LAW_BLOCK = 1_000
LAW_BLOCK_NUMBERS = 4_000_000
MAX_UNITS = 1_000_000
N_TRIED = 500
POOL_OVERHEAD = 6
RESULT_CODE = ("arrays.py", "rng.py", "records", "theory", "neural", "learners", "metrics", "data", "mixing", "recursion", "study")
"""What results depend on; a change in any of it makes finished units out of date."""


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """A data set divided; for a distribution all three are ``None``.

    Attributes:
        original: What generation 0 is fitted to.
        heldout: Real records that no generation is trained on.
        reserve: Real records for mixes that ask for fresh ones.
    """

    original: Batch | None = None
    heldout: Batch | None = None
    reserve: Batch | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A cell with everything settled that its units need.

    Attributes:
        cell: The cell.
        data_digest: Digest of the data set.
        n: Records that a generation generates.
        n_original: Records that generation 0 is fitted to.
        n_heldout: Records set aside for measuring.
        n_reserve: Records set aside for fresh ones.
        method: ``"law"`` or ``"samples"``.
    """

    cell: Cell
    data_digest: str
    n: int
    n_original: int
    n_heldout: int
    n_reserve: int
    method: str

    @property
    def measured(self) -> tuple[int, ...]:
        """The generations that are measured: 0, every ``every``-th, and the last."""
        last = self.cell.study.generations
        return tuple(sorted({*range(0, last + 1, self.cell.every), last}))

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
            "method": self.method,
            "learner": describe(cell.learner),
            "mix": describe(cell.mix),
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
            reserves[dataset.digest] = _reserve_for(cells, cell, dataset)
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
    rows = sum(c.study.replicates * (c.study.generations // c.every + 2) * len(c.metrics) for c in cells)
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


def divide(dataset: Dataset, *, seed: int, n_heldout: int, n_reserve: int) -> Split:
    """The data set's parts: chosen at random by the study's seed, each in the source's order (the reserve in random order)."""
    if dataset.records is None:
        return Split()
    if not n_heldout and not n_reserve:
        return Split(dataset.records)
    order = stream(seed, "split").permutation(len(dataset.records))
    heldout, reserve, original = np.split(order, [n_heldout, n_heldout + n_reserve])
    pick = dataset.records.take
    return Split(pick(np.sort(original)), pick(np.sort(heldout)) if n_heldout else None, pick(reserve) if n_reserve else None)


def law_model(law: Law, space: Space) -> LawModel:
    """A model that draws real records from a distribution, whatever the learner of the study."""
    model: LawModel = learner_of_law(law).from_law(law, space)
    return model


def digest_of(value: object) -> str:
    """SHA-256 (hex) of a value's canonical JSON; arrays count with all their elements, objects with all their fields."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=_identity, separators=(",", ":")).encode()).hexdigest()


def _identity(value: object) -> object:
    """A value that JSON doesn't know, as one that it knows."""
    if isinstance(value, np.ndarray):
        return [value.dtype.str, value.shape, hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Set):
        return sorted(value, key=str)
    if is_dataclass(value):
        return describe(value)
    raise ConfigError(
        f"a {type(value).__qualname__} can't be told from another one",
        hint="give learners, mixes and metrics fields of numbers, texts, arrays or dataclasses",
    )


@functools.cache
def code_digest() -> str:
    """SHA-256 (hex) of the source code that results depend on."""
    root = Path(studbook.__file__).parent
    digest = hashlib.sha256(studbook.__version__.encode())
    for part in RESULT_CODE:
        for path in sorted([root / part] if part.endswith(".py") else (root / part).rglob("*.py")):
            digest.update(str(path.relative_to(root)).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _reserve_for(cells: tuple[Cell, ...], cell: Cell, dataset: Dataset) -> int:
    """Fresh records that any cell on the same data needs, so that all cells have the same original."""
    if dataset.records is None:
        return 0
    total = len(dataset.records)
    needs = [_fresh_a_generation(other, total) * other.study.generations for other in cells if other.source_table == cell.source_table]
    return max(needs, default=0)


def _fresh_a_generation(cell: Cell, total: int) -> int:
    parts = cell.mix.parts(cell.study.samples or total, total)
    return sum(part.n or 0 for part in parts if part.origin is Origin.FRESH)


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
    needed = _fresh_a_generation(cell, total) * cell.study.generations
    if needed > n_reserve:
        raise ConfigError(
            f"the mix needs {needed:,} fresh records, data.reserve is {n_reserve:,}", hint="leave data.reserve out, or raise it"
        )
    share = cell.split.heldout if cell.split.heldout is not None else (0.1 if kind in {Kind.TEXT, Kind.IMAGES} else 0.0)
    n_heldout = round(share * total)
    n_original = total - n_heldout - n_reserve
    if n_original < 2:
        raise ConfigError(
            f"{dataset.name} has {total:,} records; {n_heldout:,} held out and {n_reserve:,} reserved as fresh ones "
            f"leave {max(n_original, 0)} to train on",
            hint="lower mix.fresh, study.generations, data.heldout or data.reserve",
        )
    n = cell.study.samples or n_original
    return _check(Job(cell, dataset.digest, n, n_original, n_heldout, n_reserve, "samples"), dataset)


def _settle_law(cell: Cell, dataset: Dataset) -> Job:
    if cell.study.samples is None:
        raise ConfigError(
            f"study.samples is missing: {dataset.name} is a distribution and has no size of its own", hint="set study.samples"
        )
    if cell.split.heldout or cell.split.reserve:
        raise ConfigError(f"data.heldout and data.reserve divide a data set; {dataset.name} is a distribution", hint="leave them out")
    n = cell.study.samples
    return _check(Job(cell, dataset.digest, n, n, 0, 0, "samples"), dataset)


def _check(job: Job, dataset: Dataset) -> Job:
    """Settle the method and refuse sizes that memory can't hold."""
    cell = job.cell
    job.cell.mix.parts(job.n, job.n_original)
    lawful = cell.study.method != "samples" and _lawful(job, dataset)
    if cell.study.method == "law" and not lawful:
        raise ConfigError(
            f"study.method is law, but {kind_of(cell.learner)} with {kind_of(cell.mix)} on {dataset.name} and these metrics "
            "isn't exact in law",
            hint='use study.method = "auto"',
        )
    if not lawful:
        _check_memory(job, dataset)
    _try_fit(job, dataset)
    return Job(cell, job.data_digest, job.n, job.n_original, job.n_heldout, job.n_reserve, "law" if lawful else "samples")


def _try_fit(job: Job, dataset: Dataset) -> None:
    """Let the learner refuse the data now, not when the run has started: the original, and a few records with the mix's weights."""
    cell, original = job.cell, divide(dataset, seed=job.cell.study.seed, n_heldout=job.n_heldout, n_reserve=job.n_reserve).original
    if dataset.law is not None:
        original = law_model(dataset.law, dataset.space).sample(min(job.n_original, N_TRIED), rng=stream(cell.study.seed, "trial"))
    if original is None:
        return
    if dataset.law is None and hasattr(cell.learner, "check_original"):
        cell.learner.check_original(original)
    if dataset.space.kind is Kind.TEXT and hasattr(cell.learner, "check_original"):
        return
    few = original.take(np.arange(min(len(original), N_TRIED)))
    weights = [part.weight for part in cell.mix.parts(job.n, job.n_original)]
    if any(weight != 1.0 for weight in weights):
        few = replace(few, weights=np.resize(weights, len(few)))
    cell.learner.fit(few, rng=stream(cell.study.seed, "trial"))


def _lawful(job: Job, dataset: Dataset) -> bool:
    """Whether the learner, the mix and every metric are known in law."""
    learner = job.cell.learner
    if not isinstance(learner, LawLearner) or not all(isinstance(c.metric, LawMetric) for c in job.cell.metrics):
        return False
    split = divide(dataset, seed=job.cell.study.seed, n_heldout=job.n_heldout, n_reserve=job.n_reserve)
    if split.original is not None:
        model, real = learner.fit(split.original, rng=stream(0)), None
        probe = learner.summarise(split.original)
    else:
        model = real = learner.from_law(dataset.law, dataset.space)  # type: ignore[arg-type]
        probe = learner.draw(model, job.n_original, rng=stream(0))
    if not can_run_in_law(learner, job.cell.mix, n=job.n, n_original=job.n_original, real=real, probe=probe):
        return False
    reference = Reference(split.original, dataset.law, split.heldout)
    return all(c.metric.of_law(reference, model.law) is not None for c in job.cell.metrics)


def _check_memory(job: Job, dataset: Dataset) -> None:
    pooled = any(part.origin is Origin.POOL for part in job.cell.mix.parts(job.n, job.n_original))
    # A pool is put together once more for the fit, and a learner needs a few copies of it to work on.
    records = job.n * ((job.cell.study.generations + 1) * POOL_OVERHEAD if pooled else POOL_OVERHEAD)
    needed = records * max(dataset.space.dimension, 1) * 8
    available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > 0.8 * available:
        raise ConfigError(
            f"{job.n:,} records a generation would take {needed / 2**30:,.1f} GiB"
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
    size = max(space.n_states, space.dimension**2, 1)
    return max(1, min(LAW_BLOCK, LAW_BLOCK_NUMBERS // size))


def _job_key(job: Job, code: str) -> str:
    own = [_foreign_code(thing) for thing in (job.cell.learner, job.cell.mix, *(c.metric for c in job.cell.metrics))]
    return digest_of([job.resolved(), job.data_digest, code, own])


def _foreign_code(thing: object) -> str:
    """Digest of the file that a class outside studbook is defined in, so that editing it makes its units out of date."""
    if type(thing).__module__.startswith("studbook."):
        return ""
    try:
        return hashlib.sha256(Path(inspect.getfile(type(thing))).read_bytes()).hexdigest()
    except (OSError, TypeError):
        return type(thing).__qualname__  # defined at a prompt: its fields still count
