"""Where a training's randomness can come from: what is changed one at a time, and the setting that removes it."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from studbook.errors import ConfigError
from studbook.learners.causal_lm import CausalLM
from studbook.learners.diffusion import Diffusion
from studbook.learners.gpt import Gpt
from studbook.learners.vae import Vae

SOURCES = ("again", "seed", "noise", "order", "threads", "split", "dtype", "engine", "reload", "workers")
"""All sources by name. ``again`` changes nothing: what even that changes, nothing here could remove."""

Dtype: TypeAlias = Literal["fp32", "bf16"]
Engine: TypeAlias = Literal["own", "no-onednn", "loop-adam", "torch-attention", "transformers"]
Reload: TypeAlias = Literal["none", "whole", "weights", "reseeded"]


@dataclass(frozen=True, slots=True)
class Setting:
    """How one training run is done; the defaults, with the config's threads and dtype, are the baseline.

    Attributes:
        weights: 0 for the baseline's initial weights, else others.
        noise: 0 for the baseline's noise in the loss, else another.
        order: 0 for the baseline's order of the records, else another.
        threads: CPU threads.
        parts: Micro-batches that a batch is cut into; their gradients are added up.
        own_noise: Each micro-batch draws its noise by itself, as the usual loops do; else they share the whole batch's.
        dtype: ``bf16`` is mixed precision.
        engine: What computes: studbook's own choice, or with one part of it replaced.
        reload: What a checkpoint in the middle brings back: everything, the weights alone, or all but the state of the noise.
        workers: Processes to run in; 0 is this one.
    """

    weights: int = 0
    noise: int = 0
    order: int = 0
    threads: int = 1
    parts: int = 1
    own_noise: bool = False
    dtype: Dtype = "fp32"
    engine: Engine = "own"
    reload: Reload = "none"
    workers: int = 0


@dataclass(frozen=True, slots=True)
class Change:
    """One source changed.

    Attributes:
        source: One of ``SOURCES``.
        baseline: What it was, in words.
        changed: What it is now, in words.
        setting: How the changed run is done.
        remedy: The setting that removes the difference.
    """

    source: str
    baseline: str
    changed: str
    setting: Setting
    remedy: str


def baseline_of(learner: Any) -> Setting:
    """The setting that the learner's config asks for."""
    return Setting(threads=learner.training.threads, dtype=learner.training.dtype)


def check_learner(learner: Any) -> None:
    """Refuse a learner whose training can't be taken apart.

    Raises:
        ConfigError: It takes no gradient steps, or plays a game of two networks.
    """
    if isinstance(learner, Diffusion | Vae | Gpt | CausalLM):
        return
    kind = type(learner).__name__
    known = "set learner.kind to diffusion, vae, gpt or causal_lm"
    if hasattr(learner, "training"):
        raise ConfigError(f"{kind} trains two networks against each other, expected one that is trained on a loss", hint=known)
    raise ConfigError(f"{kind} takes no gradient steps, so there is no drift to diagnose", hint=known)


def check_sources(names: Sequence[str]) -> tuple[str, ...]:
    """The sources asked for, in the usual order; all where none is named.

    Raises:
        ConfigError: One that isn't known.
    """
    for name in names:
        if name not in SOURCES:
            near = difflib.get_close_matches(name, SOURCES, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(SOURCES)}"
            raise ConfigError(f"there is no source {name!r}", hint=hint)
    return tuple(name for name in SOURCES if name in names) if names else SOURCES


def changes_of(learner: Any, sources: Sequence[str]) -> tuple[Change, ...]:
    """Every change that this learner can be put to.

    Args:
        learner: A ``Diffusion``, ``Vae``, ``Gpt`` or ``CausalLM``.
        sources: Names out of ``SOURCES``.

    Examples:
        >>> from studbook.learners import Gpt
        >>> from studbook.protocols.diagnose_sources import changes_of
        >>> [change.changed for change in changes_of(Gpt(), ("threads", "split"))]
        ['2 threads', '2 micro-batches']
    """
    return tuple(change for change in _all(learner) if change.source in sources)


def _all(learner: Any) -> Iterator[Change]:
    base = baseline_of(learner)
    noisy = has_noise(learner)
    seeded = "study.seed"
    yield Change("again", "–", "the same training again", base, "nothing to remove")
    yield Change("seed", "one seed", "other initial weights", replace(base, weights=1), seeded)
    if noisy:
        yield Change("noise", "one seed", "other noise in the loss", replace(base, noise=1), seeded)
    yield Change("order", "one seed", "other order of the records", replace(base, order=1), seeded)
    threads = 2 if base.threads == 1 else 1
    remedy = f"learner.training.threads = {base.threads}"
    yield Change("threads", _count(base.threads, "thread"), _count(threads, "thread"), replace(base, threads=threads), remedy)
    yield from _splits(learner, base)
    dtype: Dtype = "bf16" if base.dtype == "fp32" else "fp32"
    yield Change("dtype", base.dtype, dtype, replace(base, dtype=dtype), f'learner.training.dtype = "{base.dtype}"')
    yield from _engines(learner, base)
    yield from _reloads(base, noisy=noisy)
    here = "learner.training.threads is kept in each process"
    yield Change("workers", "in this process", "in 2 worker processes", replace(base, workers=2), here)


def _splits(learner: Any, base: Setting) -> Iterator[Change]:
    whole = "learner.training.batch in one piece"
    own_noise = has_noise(learner)
    if not (own_noise and isinstance(learner, Gpt | CausalLM)):  # dropout can't be drawn for the whole batch
        yield Change("split", "1 batch", "2 micro-batches", replace(base, parts=2), whole)
    if own_noise:
        remedy = f"{whole}, or noise drawn for the whole batch"
        yield Change("split", "1 batch", "2 micro-batches with noise of their own", replace(base, parts=2, own_noise=True), remedy)


def _engines(learner: Any, base: Setting) -> Iterator[Change]:
    ours = "the same engine and versions everywhere"
    yield Change("engine", "oneDNN", "oneDNN switched off", replace(base, engine="no-onednn"), ours)
    if learner.training.optimizer != "sgd":
        yield Change("engine", "fused optimiser", "optimiser's plain loop", replace(base, engine="loop-adam"), ours)
    if isinstance(learner, Gpt | CausalLM) and not learner.dropout:
        if base.dtype == "fp32":  # the compiled attention is of single precision
            yield Change("engine", "compiled attention", "PyTorch's attention", replace(base, engine="torch-attention"), ours)
        yield Change("engine", "studbook's decoder", "transformers' implementation", replace(base, engine="transformers"), ours)


def _reloads(base: Setting, *, noisy: bool) -> Iterator[Change]:
    kept = "checkpoints of optimiser, averages and random state"
    yield Change("reload", "no checkpoint", "checkpoint of everything", replace(base, reload="whole"), "nothing to remove")
    yield Change("reload", "no checkpoint", "checkpoint without the optimiser", replace(base, reload="weights"), kept)
    if noisy:
        yield Change("reload", "no checkpoint", "checkpoint without the random state", replace(base, reload="reseeded"), kept)


def has_noise(learner: Any) -> bool:
    """Whether the loss of equal weights and records is random: noise levels, latents, dropout."""
    return not isinstance(learner, Gpt | CausalLM) or learner.dropout > 0.0


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"
