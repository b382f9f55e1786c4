"""Where a training's randomness comes from: the same model under changes of one source at a time, compared step by step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from studbook.arrays import AnyArray, Floats
from studbook.errors import ConfigError
from studbook.neural.options import require_extra
from studbook.protocols.diagnose_growth import Mean, fastest, geometric_mean, growth_of, kind_of, mean_of, pace_of
from studbook.protocols.diagnose_records import Diagnosis, Drift, Examined, Subject
from studbook.protocols.diagnose_sources import Change, Setting, baseline_of, changes_of, check_learner, check_sources
from studbook.records import Rate
from studbook.theory import clopper_pearson

if TYPE_CHECKING:
    from studbook.protocols.diagnose_training import Task, Trace

MAX_KEPT_BYTES = 2 << 30

T = TypeVar("T")
R = TypeVar("R")


class Runs(Protocol):
    """Runs tasks in worker processes. ``studbook.execution.ProcessExecutor`` does."""

    def run(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[tuple[int, R]]:
        """Index and result of each task, as they finish."""
        ...


class Progress(Protocol):
    """Who wants to know how far a diagnosis is."""

    def begin(self, total: int, done: int) -> None:
        """``total`` training runs."""
        ...

    def advance(self) -> None:
        """One more is finished."""
        ...

    def end(self) -> None:
        """No more."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A subject that was checked.

    Attributes:
        subject: The subject.
        examined: With the steps that there are.
        changes: What is changed, one at a time.
        looks: Steps to look at.
        reload_at: Step of the checkpoints.
        unit: See ``Diagnosis``.
    """

    subject: Subject
    examined: Examined
    changes: tuple[Change, ...]
    looks: tuple[int, ...]
    reload_at: int
    unit: str

    @property
    def n_runs(self) -> int:
        """Training runs."""
        return self.examined.repeats * (2 + len(self.changes))

    def task(self, setting: Setting, repeat: int) -> Task:
        """One of them."""
        from studbook.protocols.diagnose_training import Task

        return Task(self.subject.learner, self.subject.data, setting, self.examined.seed, repeat, self.looks, self.reload_at)


def prepare_diagnosis(subject: Subject, examined: Examined) -> Prepared:
    """Check everything before the first step is taken.

    Raises:
        ConfigError: A learner without gradient steps, sizes that don't fit, too few steps, or more weights than are kept.
        FitError: Data that it can't be fitted to.
        MissingExtraError: PyTorch or transformers isn't installed.
        DeviceError: The device isn't there.
    """
    check_learner(subject.learner)
    require_extra()
    from studbook.neural.device import choose_device
    from studbook.protocols.diagnose_networks import open_family
    from studbook.protocols.diagnose_training import count_steps

    options = subject.learner.training
    if options.base and not hasattr(subject.learner, "model"):
        message = f"learner.training.base is {options.base!r}, but a diagnosis trains from random weights"
        raise ConfigError(message, hint="leave learner.training.base out")
    family = open_family(subject.learner, subject.data, choose_device(options.device))
    there = count_steps(subject.learner, family.n)
    steps = min(examined.steps, there)
    if steps < 4:
        raise ConfigError(f"the training of {subject.name} has {there} steps, expected 4 or more", hint="raise learner.training.epochs")
    changes = changes_of(subject.learner, check_sources(examined.sources))
    if not family.has_twin:
        changes = tuple(change for change in changes if change.setting.engine not in ("transformers", "torch-attention"))
    if any(change.setting.engine == "transformers" for change in changes):
        from studbook.neural.causal import require_transformers

        require_transformers()
    if not changes:
        message = f"none of the sources {', '.join(examined.sources)} can change the training of {subject.name}"
        raise ConfigError(message, hint="its loss has no noise: choose other sources")
    looks, reload_at = looks_of(steps)
    _check_memory(family.build(Setting()).weights(), len(looks), examined.repeats)
    return Prepared(subject, replace(examined, steps=steps), changes, looks, reload_at, family.unit)


def looks_of(steps: int) -> tuple[tuple[int, ...], int]:
    """The steps that are looked at, and the checkpoint's: 0, the powers of two, the checkpoint and powers of two after it, the last one.

    Examples:
        >>> from studbook.protocols.diagnose import looks_of
        >>> looks_of(20)
        ((0, 1, 2, 4, 8, 10, 11, 12, 14, 16, 18, 20), 10)
    """
    half, powers = steps // 2, [1 << i for i in range(steps.bit_length())]
    found = {0, half, steps, *powers, *(half + power for power in powers)}
    return tuple(sorted(step for step in found if step <= steps)), half


def _check_memory(weights: dict[str, Any], n_looks: int, repeats: int) -> None:
    kept = 4 * sum(int(value.numel()) for value in weights.values()) * n_looks * (repeats + 2)
    if kept > MAX_KEPT_BYTES:
        message = f"the weights that are compared would take {kept / 2**30:.1f} GiB, at most {MAX_KEPT_BYTES >> 30} are kept"
        raise ConfigError(message, hint="lower --repeats or --steps, or take a smaller model")


def diagnose(prepared: Prepared, workers: Runs, progress: Progress | None = None) -> Diagnosis:
    """Train the baselines and every change, and compare.

    Args:
        prepared: What ``prepare_diagnosis`` returned.
        workers: Where the source ``workers`` runs.
        progress: Told after every run; ``begin`` and ``end`` are the caller's.

    Returns:
        What was found. Another order of the records is always trained: it is what pace is measured against.

    Raises:
        FitError: A training whose loss isn't finite.
        DeviceMemoryError: Memory is used up.

    Examples:
        >>> from studbook.data import open_source
        >>> from studbook.execution import LocalExecutor
        >>> from studbook.learners import Vae
        >>> from studbook.protocols.diagnose import diagnose, prepare_diagnosis
        >>> from studbook.protocols.diagnose_records import Examined, Subject
        >>> digits = open_source("digits").load().records
        >>> asked = Examined(sources=("again", "split", "seed"), steps=4, repeats=2)
        >>> found = diagnose(prepare_diagnosis(Subject("vae", Vae(latents=2, hidden=8), digits), asked), LocalExecutor())
        >>> [(drift.source, drift.kind) for drift in found.drifts if drift.source != "split"]
        [('again', 'bit-exact'), ('seed', 'different run')]
    """
    began = time.process_time()
    tell = _nothing if progress is None else progress.advance
    seen = [_Repeat(prepared, repeat) for repeat in range(prepared.examined.repeats)]
    for each in seen:
        each.train(tell)
    for i, change in enumerate(prepared.changes):
        if change.setting.workers:
            tasks = [prepared.task(change.setting, each.number) for each in seen]
            for repeat, trace in _train_elsewhere(workers, tasks):
                seen[repeat].compare(i, trace)
                tell()
    baselines = [each.baseline for each in seen]
    confidence = prepared.examined.confidence
    return Diagnosis(
        name=prepared.subject.name,
        learner=type(prepared.subject.learner).__name__,
        data=prepared.subject.data_name,
        parameters=int(baselines[0].weights.shape[1]),
        unit=prepared.unit,
        looks=prepared.looks,
        reload_at=prepared.reload_at,
        examined=prepared.examined,
        loss=_by_look(np.stack([each.losses for each in baselines]), mean_of, confidence),
        moved=_by_look(np.stack([_moved(each) for each in baselines]), mean_of, confidence),
        drifts=tuple(_drift(prepared, change, [each.gaps[i] for each in seen]) for i, change in enumerate(prepared.changes)),
        cpu_s=round(time.process_time() - began, 2),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Gap:
    """How far a changed run was from its baseline, by look."""

    first: int | None
    weights: Floats
    losses: Floats
    outputs: Floats
    pace: float


class _Repeat:
    """A baseline, and what its changes did."""

    def __init__(self, prepared: Prepared, number: int) -> None:
        self.prepared, self.number = prepared, number
        self.gaps: dict[int, _Gap] = {}
        self.baseline: Trace
        self.norms: Floats
        self.moves: Floats
        self.control: Floats

    def train(self, tell: Callable[[], None]) -> None:
        """The baseline, the control and every change that runs here."""
        self.baseline = self._trained(baseline_of(self.prepared.subject.learner), tell)
        self.norms, self.moves = _norms(self.baseline.weights), _norms(_steps(self.baseline.weights))
        control = self._trained(replace(baseline_of(self.prepared.subject.learner), order=1), tell)
        self.control = pace_of(_norms(_less(control.weights, self.baseline.weights)), self.moves)
        for i, change in enumerate(self.prepared.changes):
            if not change.setting.workers:
                self.compare(i, control if change.source == "order" else self._trained(change.setting, tell))
            if change.source == "order":
                tell()

    def compare(self, i: int, trace: Trace) -> None:
        """Note what change ``i`` did."""
        from studbook.protocols.diagnose_networks import distance

        base, gaps = self.baseline, _norms(_less(trace.weights, self.baseline.weights))
        first = next((step for step, pair in enumerate(zip(trace.digests, base.digests, strict=True)) if pair[0] != pair[1]), None)
        outputs = np.array([distance(one, other) for one, other in zip(trace.outputs, base.outputs, strict=True)])
        pace = fastest(pace_of(gaps, self.moves), self.control)
        self.gaps[i] = _Gap(first, gaps / self.norms, np.abs(trace.losses - base.losses), outputs, pace)

    def _trained(self, setting: Setting, tell: Callable[[], None]) -> Trace:
        from studbook.protocols.diagnose_training import train_task

        trace = train_task(self.prepared.task(setting, self.number))
        tell()
        return trace


def _nothing() -> None:
    """Tells nobody."""


def _train_elsewhere(workers: Runs, tasks: Sequence[Task]) -> Iterator[tuple[int, Trace]]:
    from studbook.protocols.diagnose_training import train_task

    return workers.run(train_task, tasks)


def _less(one: AnyArray, other: AnyArray) -> Floats:
    return one.astype(np.float64) - other


def _steps(weights: AnyArray) -> Floats:
    return np.diff(weights.astype(np.float64), axis=0)


def _norms(rows: AnyArray) -> Floats:
    norms: Floats = np.linalg.norm(rows.astype(np.float64), axis=1)
    return norms


def _moved(trace: Trace) -> Floats:
    return _norms(_less(trace.weights, trace.weights[0])) / _norms(trace.weights[:1])


def _by_look(rows: Floats, mean: Callable[[Sequence[float], float], Mean], confidence: float) -> tuple[Mean, ...]:
    return tuple(mean(column.tolist(), confidence) for column in rows.T)


def _drift(prepared: Prepared, change: Change, gaps: Sequence[_Gap]) -> Drift:
    confidence, firsts = prepared.examined.confidence, tuple(gap.first for gap in gaps)
    apart = np.stack([gap.weights for gap in gaps])
    n_differing = sum(first is not None for first in firsts)
    pace = geometric_mean([gap.pace for gap in gaps], confidence)
    kind = kind_of(firsts, pace)
    low, high = clopper_pearson(n_differing, len(gaps), confidence)
    return Drift(
        source=change.source,
        baseline=change.baseline,
        changed=change.changed,
        remedy=change.remedy if kind != "bit-exact" else "nothing to remove",
        kind=kind,
        differing=Rate("differing", n_differing, len(gaps), low, high),
        first_steps=firsts,
        pace=None if kind == "bit-exact" else pace,
        growth=None if kind == "bit-exact" else growth_of(prepared.looks, apart, firsts, confidence),
        weights=_by_look(apart, geometric_mean, confidence),
        losses=_by_look(np.stack([gap.losses for gap in gaps]), mean_of, confidence),
        outputs=_by_look(np.stack([gap.outputs for gap in gaps]), mean_of, confidence),
    )
