"""A learner that is fast, can be saved, and can start from another model; and a program that runs a study of it.

Each fit adds a line to the file $STORED_LOG. $STORED_KILL kills the program at that line, in the middle of the fit or, with
$STORED_KILL_WHERE=sample, of the sampling that follows it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from studbook.arrays import Batch, Kind, Space
from studbook.errors import CheckpointError, FitError
from studbook.files import replacing_folder
from studbook.records import FitReport


@dataclass(frozen=True)
class Options:
    """Where fits start."""

    start: str = "auto"
    base: str = ""


@dataclass(frozen=True, eq=False)
class StoredModel:
    """A normal law of independent columns, and the story of its fits."""

    space: Space
    centre: np.ndarray
    scale: np.ndarray
    lineage: str
    fit_report: FitReport
    names_prompts: bool = False

    def sample(self, n: int, *, rng: np.random.Generator) -> Batch:
        if os.environ.get("STORED_KILL_WHERE") == "sample":
            die()
        if self.space.kind is Kind.TEXT:
            return Batch(rng.integers(self.space.n_states, size=(n, *self.space.shape), dtype=np.int32), self.space)
        labels = rng.integers(3, size=n)
        return Batch(self.centre + self.scale * rng.normal(size=(n, *self.space.shape)), self.space, labels=labels)

    def shown_prompts(self, n: int) -> Batch | None:
        if not self.names_prompts:
            return None
        return Batch(np.zeros((n, 2), np.int32), Space(Kind.TEXT, (2,), self.space.n_states, self.space.vocabulary))

    def save(self, folder: Path) -> None:
        with replacing_folder(folder) as temporary:
            np.savez(temporary / "law.npz", centre=self.centre, scale=self.scale)
            about = {"lineage": self.lineage, "failure": self.fit_report.failure, "names_prompts": self.names_prompts}
            (temporary / "about.json").write_text(json.dumps(about))


@dataclass(frozen=True)
class Stored:
    """Fits mean and spread with some noise; a warm start goes half the way from the model that it starts from."""

    training: Options = field(default_factory=Options)
    fails_from: int = 10**9
    names_prompts: bool = False

    def check_original(self, data: Batch) -> None:
        if len(data) < 3:
            raise FitError("fewer than 3 records")

    def fit(self, data: Batch, *, rng: np.random.Generator) -> StoredModel:
        return self._fit(data, rng, None)

    def fit_from(self, start: StoredModel, data: Batch, *, rng: np.random.Generator) -> StoredModel:
        return self._fit(data, rng, start)

    def own_base(self, space: Space) -> StoredModel | None:
        return self.load(Path(self.training.base), space) if self.training.base else None

    def load(self, folder: Path, space: Space) -> StoredModel:
        try:
            about = json.loads((folder / "about.json").read_text())
            with np.load(folder / "law.npz") as law:
                centre, scale = law["centre"], law["scale"]
        except OSError as error:
            raise CheckpointError(f"there is no model in {folder}") from error
        report = FitReport(7, 1, float("nan") if about["failure"] else 0.5, failure=about["failure"])
        return StoredModel(space, centre, scale, about["lineage"], report, about["names_prompts"])

    def _fit(self, data: Batch, rng: np.random.Generator, start: StoredModel | None) -> StoredModel:
        line = log(f"{'scratch' if start is None else start.lineage}\n")
        if line == int(os.environ.get("STORED_KILL", "0")) and os.environ.get("STORED_KILL_WHERE") != "sample":
            die()
        failure = f"the loss was nan in step {line}" if line >= self.fails_from else None
        centre = mean_by_pieces(data.values) + 0.01 * rng.normal(size=data.space.shape)
        scale = np.sqrt(mean_by_pieces(data.values, centre)) * (1 if start is None else 0.999)
        if start is not None:
            centre = 0.5 * (centre + start.centre)
        lineage = "scratch" if start is None else f"{start.lineage}>fit"
        report = FitReport(7, 1, float("nan") if failure else 0.5, failure=failure)
        return StoredModel(data.space, centre, scale, lineage, report, self.names_prompts)


def mean_by_pieces(values: np.ndarray, centre: np.ndarray | None = None) -> np.ndarray:
    """The mean (or the mean squared distance to ``centre``) without a copy of the array."""
    total = np.zeros(values.shape[1:])
    for start in range(0, len(values), 1000):
        piece = values[start : start + 1000].astype(float)
        total += (piece if centre is None else (piece - centre) ** 2).sum(axis=0)
    return total / len(values)


def log(line: str) -> int:
    """Add a line to the log and give its number, from 1."""
    path = os.environ.get("STORED_LOG")
    if not path:
        return 1
    with Path(path).open("a+") as file:
        file.write(line)
        file.flush()
        file.seek(0)
        return len(file.readlines())


def die() -> None:
    """End this process as the kernel does when memory runs out, where $STORED_KILL says so."""
    path = os.environ.get("STORED_LOG", "")
    if path and len(Path(path).read_text().splitlines()) == int(os.environ.get("STORED_KILL", "0")):
        os.kill(os.getpid(), signal.SIGKILL)


def study(n: int = 40, columns: int = 3, **settings: object) -> dict[str, object]:
    """A study file's table, with objects in it."""
    from studbook.arrays import numbers

    values = np.random.default_rng(0).normal(size=(n, columns))
    table: dict[str, object] = {
        "study": {"name": "stored", "generations": 5, **settings.pop("study", {})},  # type: ignore[dict-item]
        "data": {"source": numbers(values), **settings.pop("data", {})},  # type: ignore[dict-item]
        "learner": Stored(),
        "mix": {"kind": "replace"},
        "metrics": {"names": ["mean", "std", "w2"], "every": 2},
    }
    return {**table, **settings}


def every_way() -> dict[str, object]:
    """Every mix with every start: what a journal has to hold for later generations differs between them."""
    mixes = [{"kind": "replace"}, {"kind": "accumulate"}, {"kind": "subsample"}, {"kind": "blend", "alpha": 0.5, "beta": 0.3, "gamma": 0.2}]
    starts = [Stored(Options("scratch")), Stored(Options("previous"))]
    return study(grid={"mix": mixes, "learner": starts}, data={"base": 0.2}, study={"generations": 4})


def main() -> None:
    import studbook

    studbook.create_study(every_way()).run(sys.argv[1], workers=int(sys.argv[2]))


if __name__ == "__main__":
    main()
