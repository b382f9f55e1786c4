"""What a run was made with: versions, git revision, the config as passed and as resolved."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import studbook
from studbook.arrays import Space
from studbook.recursion import Continuing
from studbook.study.catalog import describe
from studbook.study.config import Cell
from studbook.study.folder import KIND, SCHEMA_VERSION
from studbook.study.keys import code_digest, weights_of
from studbook.study.plan import Job, Plan

PACKAGES = ("numpy", "scipy", "scikit-learn", "numba", "polars")
NEURAL_PACKAGES = ("torch", "transformers", "tokenizers", "safetensors")


def new_manifest(plan: Plan) -> dict[str, Any]:
    """The manifest of a run that starts now."""
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": KIND,
        "name": plan.name,
        "status": "running",
        "started": now(),
        "finished": None,
        "seconds": 0.0,
        "cpu_seconds": 0.0,
        "config": {"passed": plain(plan.passed), "resolved": [_resolved(job) for job in plan.jobs]},
        "config_digest": plan.digest,
        "versions": versions(neural=any(isinstance(job.cell.learner, Continuing) for job in plan.jobs)),
        "platform": f"{platform.system()} {platform.machine()}",
        "git": git_state(),
        "code_digest": code_digest(),
        "weights": _weights(plan),
        "seed": plan.jobs[0].cell.study.seed,
        "grid": list(plan.jobs[0].cell.keys),
        "cells": [_cell(job, plan) for job in plan.jobs],
        "units": {"total": len(plan.units), "done": 0, "out_of_date": 0},
        "failures": 0,
    }


def now() -> str:
    """The time, ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions(*, neural: bool = False) -> dict[str, str]:
    """Versions of what results may depend on; those of networks where there are any."""
    found = {"studbook": studbook.__version__, "python": platform.python_version()}
    for package in (*PACKAGES, *(NEURAL_PACKAGES if neural else ())):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def git_state() -> dict[str, object] | None:
    """Revision and dirty flag of the git checkout that the command was run in, or ``None`` outside one."""
    revision = _git("rev-parse", "HEAD")
    if revision is None:
        return None
    return {"revision": revision, "dirty": bool(_git("status", "--porcelain"))}


def plain(value: Any) -> Any:
    """A config as JSON can hold it: objects as the tables that create them."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return plain(describe(value)) if hasattr(value, "__dataclass_fields__") else repr(value)


def _resolved(job: Job) -> dict[str, object]:
    return plain({"data": job.cell.source_table, "replicates": job.cell.study.replicates, **job.resolved()})  # type: ignore[no-any-return]


def _weights(plan: Plan) -> dict[str, str]:
    """Digests of the saved weights that the study names, by their names."""
    return dict(pair for job in plan.jobs for pair in weights_of(job.cell.learner, [chosen.metric for chosen in job.cell.metrics]))


def _cell(job: Job, plan: Plan) -> dict[str, Any]:
    cell: Cell = job.cell
    dataset = plan.datasets[job.data_digest]
    space: Space = dataset.space
    return {
        "index": cell.index,
        "label": cell.label,
        "keys": dict(cell.keys),
        "learner": plain(describe(cell.learner)),
        "mix": plain(describe(cell.mix)),
        "method": job.method,
        "samples": job.n,
        "generations": cell.study.generations,
        "replicates": cell.study.replicates,
        "data": {
            "name": dataset.name,
            "digest": dataset.digest,
            "origin": dataset.origin,
            "kind": space.kind.value,
            "shape": list(space.shape),
            "n_records": None if dataset.records is None else len(dataset.records),
            "n_original": job.n_original,
            "n_heldout": job.n_heldout,
            "n_reserve": job.n_reserve,
            "n_base": job.n_base,
        },
    }


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
