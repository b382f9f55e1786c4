"""The Python face of a study: create it, run it, look at the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studbook.arrays import Batch
from studbook.data import Dataset, Source
from studbook.errors import ConfigError, RunFolderError
from studbook.execution import Executor, create_executor
from studbook.mixing import Mix
from studbook.recursion import Learner
from studbook.study import Plan, Progress, RunFolder, apply_overrides, expand, prepare, read_study_file, run_plan, with_absolute_paths

if TYPE_CHECKING:
    import altair as alt
    import polars as pl

DEFAULT_RUNS = Path("runs")


@dataclass(frozen=True, slots=True)
class Result:
    """A run folder, to read from. The rows are read from the disk when asked for.

    Attributes:
        folder: The run folder.
    """

    folder: Path

    @property
    def manifest(self) -> dict[str, Any]:
        """Config, versions, seed, data and state of the run."""
        return RunFolder(self.folder).read_manifest()

    def frame(self) -> pl.DataFrame:
        """The measurements: ``cell, replicate, generation, metric, value, stderr, n`` and one column per grid key.

        ``stderr`` is null where the value is exact.
        """
        from studbook.report import load_run

        return load_run(self.folder).measurements

    def theory(self) -> pl.DataFrame:
        """The predicted curves: ``cell, metric, generation, mean, median, exact, source, formula``."""
        from studbook.report import load_run

        return load_run(self.folder).theory

    def fits(self) -> pl.DataFrame:
        """How the fits by gradient steps went: ``cell, replicate, generation, steps, epochs, loss, validation, stopped_early, failure``.

        Generation -1 is the base model that the study pretrained; losses that weren't finite are null. No rows for learners that are
        fitted in closed form.
        """
        from studbook.report import load_run

        return load_run(self.folder).fits

    def chart(self, metric: str) -> alt.Chart | alt.LayerChart | alt.VConcatChart:
        """The curve of one metric with its theory, as an Altair chart."""
        from studbook.report import chart, load_run

        return chart(load_run(self.folder), metric)

    def report(self) -> Path:
        """Write the report and give the path of its page."""
        from studbook.report import write_report

        return write_report(self.folder)


@dataclass(frozen=True, slots=True)
class Study:
    """A study that is ready to run: a handle; what it leaves behind is a ``Result``.

    Attributes:
        plan: Cells, units and data.
    """

    plan: Plan

    @property
    def default_folder(self) -> Path:
        """Where ``run`` writes if it isn't told: ``runs/NAME-DIGEST``, another folder for every config."""
        return DEFAULT_RUNS / f"{self.plan.name}-{self.plan.digest[:8]}"

    def run(
        self,
        out: Path | str | None = None,
        *,
        workers: int = 1,
        executor: Executor | None = None,
        progress: Progress | None = None,
        register: Path | str | None = None,
    ) -> Result:
        """Run what is missing.

        Args:
            out: Run folder, by default ``default_folder``. A folder with an unfinished run of the same study is continued.
            workers: Processes; 1 runs in this one. Results don't depend on it.
            executor: Where units run, instead of ``workers``.
            progress: Told after every unit.
            register: Where the samples of every generation are registered (texts and pictures): a file, which is made where there is none,
                or ``postgresql://…``. A run that is gone on with keeps its register.

        Raises:
            ConfigError: Samples that can't be registered, or finished units whose samples weren't.
            RegisterError: No register.
            RunFolderError: The folder holds another study.
            FolderBusyError: Another process runs in the folder.
            StorageError: The disk refused.
        """
        folder = Path(out) if out is not None else self.default_folder
        chosen = executor or create_executor("local" if workers == 1 else "processes", workers)
        location = str(register) if register is None or "://" in str(register) else str(Path(register).expanduser().resolve())
        return Result(run_plan(self.plan, folder, chosen, progress, None if register is None else location))


def create_study(
    config: Path | str | Mapping[str, Any] | None = None,
    *,
    data: str | Mapping[str, Any] | Source | Batch | Dataset | None = None,
    learner: str | Mapping[str, Any] | Learner | Sequence[Any] | None = None,
    mix: str | Mapping[str, Any] | Mix | Sequence[Any] = "replace",
    metrics: Sequence[Any] = (),
    generations: int = 10,
    replicates: int = 1,
    samples: int | None = None,
    seed: int = 0,
    every: int = 1,
    name: str = "study",
    method: str = "auto",
    models: str = "none",
    grid: Mapping[str, Sequence[Any]] | None = None,
    overrides: Sequence[str] = (),
) -> Study:
    """Plan a study from a file, a table or objects.

    Args:
        config: A study file or its content as a table; then only ``overrides`` is looked at.
        data: Name of a source, a path, a ``[data]`` table, a source, a data set or a batch.
        learner: Kind, ``[learner]`` table or learner; a list makes a grid.
        mix: Kind, ``[mix]`` table or mix; a list makes a grid.
        metrics: Names or metric objects.
        generations: Index of the last generation.
        replicates: Independent repetitions.
        samples: Records a generation; by default as many as the original data.
        seed: Root of every random stream.
        every: Generations between measurements.
        name: Name of the study.
        method: ``"auto"``, ``"law"`` or ``"samples"``.
        models: Which models of each replicate are kept: ``"none"``, ``"last"`` or ``"all"``.
        grid: Further dotted keys and their values; every combination is a cell.
        overrides: ``KEY=VALUE`` as on the command line.

    Raises:
        ConfigError: A key, kind, name or size that can't be meant.
        DataError: The data can't be read.

    Examples:
        >>> import tempfile, studbook
        >>> study = studbook.create_study(data="normal", learner="gaussian", metrics=["std"], generations=100, replicates=50, samples=100)
        >>> result = study.run(tempfile.mkdtemp())
        >>> result.frame().filter(generation=100)["value"].median() < 0.8
        True
    """
    if isinstance(config, Path | str):
        table: dict[str, Any] = read_study_file(Path(config), overrides)
    elif config is not None:
        table = apply_overrides(config, overrides)
    else:
        study = {"name": name, "seed": seed, "generations": generations, "replicates": replicates, "method": method}
        study |= {} if samples is None else {"samples": samples}
        study |= {} if models == "none" else {"models": models}
        table = {"study": study, "metrics": {"names": list(metrics), "every": every}}
        table["grid"] = {key: list(values) for key, values in (grid or {}).items()}
        table["data"] = {"source": str(data)} if isinstance(data, str | Path) else data
        _place(table, "learner", learner)
        _place(table, "mix", mix)
        if data is None or learner is None:
            raise ConfigError("create_study needs data and a learner", hint='for example data="digits", learner="gmm"')
    table = with_absolute_paths(table)
    return Study(prepare(expand(table), table))


def resume_study(folder: Path) -> Study:
    """The study that an unfinished run folder holds, planned again from its manifest.

    Raises:
        RunFolderError: The folder holds no run, or one with classes that only its own Python program knows.
    """
    passed = RunFolder(folder).read_manifest(whole=True)["config"]["passed"]
    if _names_foreign_class(passed):
        raise RunFolderError(
            f"{folder} was run from Python with classes of its own", hint="run the same program again with out= that folder"
        )
    return create_study(passed)


def load_result(folder: Path | str) -> Result:
    """A run that is there.

    Raises:
        RunFolderError: The folder holds no run.
    """
    result = Result(Path(folder))
    _ = result.manifest
    return result


def _place(table: dict[str, Any], section: str, value: Any) -> None:
    """Put a kind, a table, an object or a list of these where ``expand`` looks for them."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        table["grid"] = {section: [{"kind": item} if isinstance(item, str) else item for item in value], **table["grid"]}
    else:
        table[section] = {"kind": value} if isinstance(value, str) else value


def _names_foreign_class(value: Any) -> bool:
    if isinstance(value, Mapping):
        return ":" in str(value.get("kind", "")) or any(_names_foreign_class(item) for item in value.values())
    return isinstance(value, list) and any(_names_foreign_class(item) for item in value)
