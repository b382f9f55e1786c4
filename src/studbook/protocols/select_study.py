"""How good a model is, by the size of the slices that its clients hold: a config file, runs over seeds, rows of a table."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from studbook.errors import ConfigError
from studbook.parameters import build, conform, nearest
from studbook.protocols.cluster import InProcess
from studbook.protocols.federated import Federated
from studbook.protocols.node import Node, Optimiser
from studbook.protocols.objective import Objective, Sliced
from studbook.protocols.partition import Partition
from studbook.protocols.run import Plan, train
from studbook.protocols.select import Choice, How, Selection, choose_keys, client_bytes, key_bytes, slice_bytes
from studbook.protocols.spec import create_objective
from studbook.protocols.training_run import TrainingRun

_MOST_BYTES = 1 << 20
_AVERAGING = Optimiser(rate=1.0)


@dataclass(frozen=True, slots=True)
class Rounds:
    """How an experiment's runs go.

    Attributes:
        rounds: Rounds, 1 or more.
        clients: Clients of a round, drawn without replacement.
        epochs: A client's passes through its rows.
        batch: Rows a step of a client.
        rate: A client's learning rate; it steps by plain SGD.
        server: How the server steps; see ``Federated``.
        weights: A client's weight in the mean: its ``rows``, or ``equal``.
        every: Rounds between two evaluations, 0 for the end alone; the last round is always one.

    Raises:
        ConfigError: A value out of range.
    """

    rounds: int = 20
    clients: int = 10
    epochs: int = 1
    batch: int = 16
    rate: float = 0.1
    server: Optimiser = _AVERAGING
    weights: Literal["rows", "equal"] = "rows"
    every: int = 0

    def __post_init__(self) -> None:
        conform(self, "plan")
        _ = self.plan(0), self.protocol(Selection()), self.optimiser  # each refuses what it can't be

    def plan(self, seed: int) -> Plan:
        """For how long."""
        return Plan(self.rounds, seed, evaluate_every=self.every)

    def protocol(self, selection: Selection) -> Federated:
        """How clients and server train together."""
        return Federated(self.clients, self.epochs, self.server, selection, self.weights)

    @property
    def optimiser(self) -> Optimiser:
        """How a client steps."""
        return Optimiser(rate=self.rate)


_EVEN, _PLAN = Partition(), Rounds()


@dataclass(frozen=True, slots=True)
class Experiment:
    """One model under slices of several sizes.

    Attributes:
        name: Of the experiment.
        objective: What is trained; see ``studbook.protocols.spec.create_objective``.
        group: Keys that clients choose.
        m: How many of them: one run for each. The whole group is the control.
        how: How they are chosen: one run for each.
        clients: Clients; 0 is one for each document.
        also: Another group of which clients choose keys at random, at the same share; empty for none.
        average: Over all clients, or by coverage; see ``Selection``.
        partition: Who holds which rows.
        plan: How a run goes.
        settings: The objective's.

    Raises:
        ConfigError: A value out of range.
    """

    name: str
    objective: str
    group: str
    m: tuple[int, ...]
    how: tuple[How, ...] = ("frequent", "random")
    clients: int = 100
    also: str = ""
    average: str = "clients"
    partition: Partition = _EVEN
    plan: Rounds = _PLAN
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.m or not self.how:
            raise ConfigError(f"the experiment {self.name!r} has no m or no how, expected one or more of each")
        if not 0 <= self.clients <= 10**6:
            raise ConfigError(f"the experiment {self.name!r} has {self.clients} clients, expected 0 (one for each document) to 1,000,000")


@dataclass(frozen=True, slots=True)
class SelectStudy:
    """Some experiments.

    Attributes:
        name: Of the study.
        experiments: The experiments.
        seeds: Runs of each; the seed decides who holds which rows, the start, who is drawn, and random keys.
        confidence: Of the intervals.

    Raises:
        ConfigError: A value out of range.
    """

    name: str
    experiments: tuple[Experiment, ...]
    seeds: int = 3
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if not 2 <= self.seeds <= 10_000:
            raise ConfigError(f"study.seeds is {self.seeds}, expected 2 to 10,000: an interval needs two")
        if not 0.0 < self.confidence < 1.0:
            raise ConfigError(f"study.confidence is {self.confidence}, expected above 0 and below 1")
        if not self.experiments:
            raise ConfigError("the study has no experiment", hint="add a table [[experiment]]")
        names = [each.name for each in self.experiments]
        if len(set(names)) < len(names):
            raise ConfigError(f"two experiments have one name: {', '.join(names)}", hint="give each a name of its own")

    def narrowed(self, *, experiment: str = "", settings: Mapping[str, Any] | None = None, seeds: int = 0) -> SelectStudy:
        """One experiment alone, with other settings of its objective, or under another number of seeds; what is empty or 0 stays.

        Raises:
            ConfigError: No such experiment, or settings for several.
        """
        names = [each.name for each in self.experiments]
        if experiment and experiment not in names:
            raise ConfigError(f"there is no experiment {experiment!r}", hint=nearest(experiment, names, noun="experiment"))
        kept = tuple(each for each in self.experiments if not experiment or each.name == experiment)
        if settings and len(kept) > 1:
            raise ConfigError("settings are given for several experiments, expected for one", hint=f"name one of {', '.join(names)}")
        if settings:
            kept = (replace(kept[0], settings={**kept[0].settings, **settings}),)
        return replace(self, experiments=kept, seeds=seeds or self.seeds)


@dataclass(frozen=True, slots=True)
class SelectRow:
    """One size of slice.

    Attributes:
        experiment: Its name.
        how: How keys were chosen; ``all`` for whole models.
        m: Keys a client.
        n: Keys there are.
        accuracy: Mean over the seeds, on held-out data.
        half: Half the width of its interval (Student's t over the seeds).
        change: Mean difference to whole models, seed by seed; NaN where they weren't run.
        change_half: Half the width of its interval.
        down_bytes: Sent to a client a round: its slice, at four bytes a number.
        up_bytes: Received from it: its update, and its keys at four bytes each.
        client_bytes: What a client holds; see ``studbook.protocols.select.client_bytes``.
        seeds: Runs.
    """

    experiment: str
    how: str
    m: int
    n: int
    accuracy: float
    half: float
    change: float
    change_half: float
    down_bytes: int
    up_bytes: int
    client_bytes: int
    seeds: int


def read_select_study(file: Path) -> SelectStudy:
    """The study in a TOML file.

    Raises:
        ConfigError: Not there, not TOML, or unknown or impossible values.
    """
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise ConfigError(f"{file} has {file.stat().st_size:,} bytes, expected a config file of a megabyte at most")
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file} can't be read: {error.strerror or error}", hint="pass the path of a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is no TOML: {error}") from error
    return study_of(table)


def study_of(table: Mapping[str, Any]) -> SelectStudy:
    """The study in a table as TOML gives it.

    Raises:
        ConfigError: Unknown or impossible values.
    """
    for name in table:
        if name not in ("study", "experiment"):
            raise ConfigError(f"there is no table {name!r}", hint=nearest(name, ("study", "experiment"), noun="table"))
    given, listed = table.get("study", {}), table.get("experiment", [])
    if not isinstance(given, Mapping) or not isinstance(listed, list):
        raise ConfigError("study is a table, [study], and experiment a list of tables, [[experiment]]")
    head = build(_Head, given, "study")
    return SelectStudy(head.name, tuple(map(_experiment, listed)), head.seeds, head.confidence)


@dataclass(frozen=True, slots=True)
class _Head:
    name: str
    seeds: int = 3
    confidence: float = 0.95


def _experiment(table: Any) -> Experiment:
    if not isinstance(table, Mapping):
        raise ConfigError(f"an experiment is {table!r}, expected a table", hint="write [[experiment]]")
    return build(Experiment, table, "experiment")


def run_select_study(study: SelectStudy, *, report: Callable[[int, int, str], None] | None = None) -> tuple[SelectRow, ...]:
    """Run every experiment under every seed.

    Args:
        study: What.
        report: Called before each run with the number of those done, of all, and what comes next.

    Raises:
        ConfigError: An objective, partition or key that isn't there: found before that experiment's first run.
    """
    cells = {
        experiment.name: _cells(experiment, create_objective(experiment.objective, experiment.settings)) for experiment in study.experiments
    }
    total, done = study.seeds * sum(map(len, cells.values())), 0
    rows: list[SelectRow] = []
    for experiment in study.experiments:
        objective = create_objective(experiment.objective, experiment.settings)
        runs: dict[tuple[int, str], list[TrainingRun]] = {}
        for m, how in cells[experiment.name]:
            for seed in range(study.seeds):
                if report is not None:
                    report(done, total, f"{experiment.name}, m = {m:,}, {how}, seed {seed}")
                runs.setdefault((m, how), []).append(run_cell(experiment, objective, m, how, seed=seed))
                done += 1
        rows += _rows(experiment, objective, runs, study)
    return tuple(rows)


def run_cell(experiment: Experiment, objective: Objective, m: int, how: str, *, seed: int) -> TrainingRun:
    """One run; ``how`` is ``all`` for whole models."""
    nodes = _clients(experiment, objective, seed=seed)
    protocol = experiment.plan.protocol(_selection(experiment, objective, m, how))
    return train(InProcess(nodes), protocol, experiment.plan.plan(seed))


def _clients(experiment: Experiment, objective: Objective, *, seed: int) -> list[Node]:
    plan = experiment.plan
    n_clients = experiment.clients or int(np.max(getattr(objective, "documents", np.array([plan.clients - 1])))) + 1
    parts = experiment.partition.split(objective, n_clients, seed=seed)
    return [Node(index, objective, rows, plan.batch, plan.optimiser, seed) for index, rows in enumerate(parts)]


def _selection(experiment: Experiment, objective: Objective, m: int, how: str) -> Selection:
    if how == "all":
        return Selection()
    groups = {experiment.group: build(Choice, {"m": m, "how": how}, "select")}
    if experiment.also:
        known = _groups(objective)
        share = m / known[experiment.group]
        groups[experiment.also] = Choice(max(1, round(share * known.get(experiment.also, 1))), "random")
    return build_selection(groups, experiment.average)


def build_selection(groups: Mapping[str, Choice], average: str) -> Selection:
    """A selection from a config's texts.

    Raises:
        ConfigError: ``average`` is neither ``clients`` nor ``coverage``.
    """
    return replace(Selection(groups), average=average)  # type: ignore[arg-type]


def _cells(experiment: Experiment, objective: Objective) -> list[tuple[int, str]]:
    """Sizes and ways; whole models once, first."""
    n = _groups(objective).get(experiment.group, 0)
    cells = [(n, "all")] if n in experiment.m else []
    cells += [(m, how) for how in experiment.how for m in experiment.m if m != n]
    for m, how in cells:
        _selection(experiment, objective, m, how).check(objective)
    return cells


def _groups(objective: Objective) -> Mapping[str, int]:
    groups = getattr(objective, "groups", None)
    return groups() if groups is not None else {}


def _rows(
    experiment: Experiment, objective: Objective, runs: Mapping[tuple[int, str], Sequence[TrainingRun]], study: SelectStudy
) -> Iterator[SelectRow]:
    n = _groups(objective)[experiment.group]
    whole = _accuracies(runs[n, "all"]) if (n, "all") in runs else None
    for (m, how), each in runs.items():
        found = _accuracies(each)
        mean, half = student_interval(found, study.confidence)
        change = student_interval(found - whole, study.confidence) if whole is not None else (np.nan, np.nan)
        yield SelectRow(experiment.name, how, m, n, mean, half, *change, *_sizes(experiment, objective, m, how), study.seeds)


def _sizes(experiment: Experiment, objective: Objective, m: int, how: str) -> tuple[int, int, int]:
    """Bytes to a client, from it, and in it: the same for all, as all name as many keys."""
    client = _clients(experiment, objective, seed=0)[0]
    selection, whole = _selection(experiment, objective, m, how), client.begin().parameters
    keys = choose_keys(client, selection.groups, 0) if selection.groups else {}
    part = objective.take(whole, keys) if keys and isinstance(objective, Sliced) else whole
    return slice_bytes(part), slice_bytes(part) + key_bytes(keys), client_bytes(part, experiment.plan.optimiser)


def _accuracies(runs: Sequence[TrainingRun]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([run.measures["accuracy"] for run in runs])


def student_interval(values: Any, confidence: float) -> tuple[float, float]:
    """Mean, and half the width of its interval.

    Examples:
        >>> from studbook.protocols.select_study import student_interval
        >>> [round(x, 3) for x in student_interval([0.80, 0.82, 0.84], 0.95)]
        [0.82, 0.05]
    """
    from scipy.stats import t

    array = np.asarray(values, np.float64)
    spread = float(array.std(ddof=1)) / np.sqrt(len(array))
    return float(array.mean()), float(t.ppf(0.5 + confidence / 2, len(array) - 1) * spread)


def as_table(rows: Sequence[SelectRow]) -> list[dict[str, Any]]:
    """The rows in JSON's types; what isn't known is ``None``."""
    return [{name: _known(value) for name, value in asdict(row).items()} for row in rows]


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and np.isnan(value) else value
