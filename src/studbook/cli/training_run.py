"""``studbook training run``: nodes that train one model together."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from studbook.cli._federated import FederatedOptions
from studbook.cli.rendering import Bar, Format, show_json, show_table

if TYPE_CHECKING:
    from studbook.protocols import Protocol, StepRow, TrainingRun
    from studbook.protocols.committing import Commit
    from studbook.protocols.recorder import Place

_SHOWN_ROWS = 10
_EVERY = 10


class ProtocolName(StrEnum):
    """How nodes train together."""

    INDEPENDENT = "independent"
    SYNCHRONISED = "synchronised"
    LOCAL = "local"
    GOSSIP = "gossip"
    FEDERATED = "federated"


class ClusterName(StrEnum):
    """Where they live."""

    PROCESS = "process"
    HTTP = "http"
    RAY = "ray"


class Exchange(StrEnum):
    """Whom a gossiping node averages with at a step."""

    PAIRS = "pairs"
    NEIGHBOURS = "neighbours"


class Split(StrEnum):
    """Which rows a node holds."""

    SHUFFLED = "shuffled"
    CONTIGUOUS = "contiguous"
    SHARED = "shared"
    LABEL = "label"
    DOCUMENT = "document"
    SIZE = "size"


class OptimiserName(StrEnum):
    """How each steps."""

    SGD = "sgd"
    ADAGRAD = "adagrad"
    ADAM = "adam"


class Keys(StrEnum):
    """Which keys a client names."""

    FREQUENT = "frequent"
    RANDOM = "random"
    MIXED = "mixed"


class OnLoss(StrEnum):
    """What is done about a node that doesn't answer."""

    STOP = "stop"
    LEAVE_OUT = "leave_out"
    REPLACE = "replace"


_Graph = Annotated[str, typer.Option("--graph", help="For gossip: ring, complete, pairs (random pairs), star, or a file of edges.")]
_Every = Annotated[int | None, typer.Option("--every", help="Steps between averages; needed for local, 1 for gossip.")]
_Clients = Annotated[int | None, typer.Option("--clients", help="For federated: clients of a round; 10, or all where there are fewer.")]
_Epochs = Annotated[int, typer.Option("--epochs", help="For federated: a client's passes through its rows.")]
_Server = Annotated[OptimiserName, typer.Option("--server", help="For federated: how the server steps.")]
_ServerRate = Annotated[float | None, typer.Option("--server-rate", help="For federated: its rate; 1 for sgd, else 0.1.")]
_Slices = Annotated[
    list[str] | None,
    typer.Option("--slices", metavar="GROUP=M[:HOW]", help="For federated: how many keys a client names; repeat."),
]
_Keys = Annotated[Keys, typer.Option("--keys", help="For federated: how a client chooses them, where --slices doesn't say.")]
_Settings = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting of the objective; repeat.")]


def run_command(
    out: Annotated[Path, typer.Option("--out", help="Folder of results; a run that was stopped goes on from its checkpoint.")],
    protocol: Annotated[ProtocolName, typer.Option("--protocol", help="How nodes train together.")] = ProtocolName.GOSSIP,
    objective: Annotated[str, typer.Option("--objective", help="What is trained, such as digits-softmax.")] = "digits-softmax",
    nodes: Annotated[int, typer.Option("--nodes", help="How many.")] = 8,
    steps: Annotated[int, typer.Option("--steps", help="Steps of each.")] = 300,
    graph: _Graph = "ring",
    exchange: Annotated[Exchange, typer.Option("--exchange", help="For gossip: a partner a step, or all neighbours.")] = Exchange.PAIRS,
    every: _Every = None,
    settings: _Settings = None,
    batch: Annotated[int, typer.Option("--batch", help="Rows a step and node.")] = 32,
    optimiser: Annotated[OptimiserName, typer.Option("--optimiser", help="How each steps.")] = OptimiserName.SGD,
    rate: Annotated[float, typer.Option("--rate", help="Learning rate.")] = 0.1,
    split: Annotated[Split, typer.Option("--split", help="Which rows a node holds.")] = Split.SHUFFLED,
    skew: Annotated[float, typer.Option("--skew", help="Of split label its alpha (small: unlike), of size its exponent.")] = 1.0,
    clients: _Clients = None,
    epochs: _Epochs = 1,
    server: _Server = OptimiserName.SGD,
    server_rate: _ServerRate = None,
    slices: _Slices = None,
    keys: _Keys = Keys.FREQUENT,
    seed: Annotated[int, typer.Option("--seed", help="Root seed.")] = 0,
    cluster: Annotated[ClusterName, typer.Option("--cluster", help="Where nodes live.")] = ClusterName.PROCESS,
    on_loss: Annotated[OnLoss | None, typer.Option("--on-loss", help="Of a node: stop for synchronised, else leave_out.")] = None,
    timeout_s: Annotated[float, typer.Option("--timeout-s", help="Longest wait for a node's answer.")] = 60.0,
    evaluate_every: Annotated[int, typer.Option("--evaluate-every", help="Steps between evaluations; 0: at the end.")] = 50,
    checkpoint_every: Annotated[int, typer.Option("--checkpoint-every", help="Steps between checkpoints.")] = 100,
    commit: Annotated[bool, typer.Option("--commit", help="Every node commits to its steps: see training verify.")] = False,
    commit_every: Annotated[int | None, typer.Option("--commit-every", help="Steps between states that nodes keep; default: 10.")] = None,
    key_dir: Annotated[Path | None, typer.Option("--key-dir", help="Folder of the nodes' private keys; default: keys in --out.")] = None,
    format_: Annotated[Format, typer.Option("--format", help="How to write the answer.")] = Format.TABLE,
) -> None:
    """Train a model on several nodes, and show how far apart they are beside what theory expects."""
    from studbook.cli.training_select import _settings
    from studbook.execution.training import open_cluster
    from studbook.protocols import Optimiser, Patience, Plan, TrainingSpec, train
    from studbook.protocols.writing import write_run
    from studbook.report.training_page import write_training_report

    federated = FederatedOptions(clients, epochs, server.value, server_rate, slices or (), keys.value)
    how = _protocol(protocol, nodes, graph, exchange.value, every, federated)
    spec = TrainingSpec(objective, _settings(settings or []), nodes, batch, Optimiser(optimiser.value, rate), seed, split.value, skew)
    how.check(nodes)
    plan = Plan(steps, seed, evaluate_every, checkpoint_every, settings={"spec": spec.plain()})
    by_default = OnLoss.STOP if protocol is ProtocolName.SYNCHRONISED else OnLoss.LEAVE_OUT
    patience = Patience(timeout_s, (on_loss or by_default).value)
    committing = _committing(out, how, commit, commit_every, key_dir)
    with open_cluster(cluster.value, spec, committing.place) as where, _Progress(steps) as progress:
        run = train(where, how, plan, patience=patience, folder=out, progress=progress, commit=committing.how())
    write_run(run, out)
    show_json(run.summary()) if format_ is Format.JSON else _show(run)
    typer.echo(write_training_report([out]), err=True)


def _protocol(
    name: ProtocolName, nodes: int, graph: str, exchange: Literal["pairs", "neighbours"], every: int | None, federated: FederatedOptions
) -> Protocol:
    from studbook.errors import ConfigError
    from studbook.protocols import Gossip, Independent, Local, Synchronised, create_graph

    if name is ProtocolName.FEDERATED:
        return federated.protocol(nodes)
    if federated.slices:
        raise ConfigError(f"--slices is given for {name.value} training, whose nodes hold whole models", hint="--protocol federated")
    if name is ProtocolName.LOCAL:
        if every is None:
            raise ConfigError("local training needs the steps between averages", hint="--every 10")
        return Local(every)
    if name is ProtocolName.GOSSIP:
        return Gossip(create_graph(graph, nodes), exchange, 1 if every is None else every)
    return Independent() if name is ProtocolName.INDEPENDENT else Synchronised()


class _Committing(NamedTuple):
    """Where nodes keep what they commit to, and how often a state; neither where they don't."""

    place: Place | None = None
    every: int = 0

    def how(self) -> Commit | None:
        """How they do; the coordinator's key is drawn where there is none yet."""
        from studbook.protocols.committing import Commit

        return None if self.place is None else Commit(self.every, self.place.key_of("coordinator"))


def _committing(out: Path, protocol: Protocol, commit: bool, every: int | None, key_dir: Path | None) -> _Committing:
    """Refuses what can't be before any key is drawn."""
    from studbook.errors import ConfigError, RunFolderError
    from studbook.protocols.committed_run import NODES
    from studbook.protocols.committing import ROSTER, Commit, require_every
    from studbook.protocols.recorder import KEYS, Place
    from studbook.protocols.saving import NAME

    if not commit:
        if every is not None or key_dir is not None:
            raise ConfigError("--commit-every and --key-dir are of nodes that commit to their steps", hint="add --commit")
        return _Committing()
    found = _Committing(Place(out / NODES, key_dir or out / KEYS), _EVERY if every is None else every)
    require_every(found.every)
    Commit.check(protocol, out)
    assert found.place is not None
    if any((out / name).exists() for name in (NAME, ROSTER, NODES)) and not found.place.file_of("coordinator").exists():
        message = f"{out} holds a run already, and {found.place.keys} no key of its coordinator"
        raise RunFolderError(message, hint="choose another folder with --out, or give the --key-dir that it began with")
    return found


class _Progress:
    """A bar over steps; a run that goes on begins where it was."""

    def __init__(self, steps: int) -> None:
        self._bar, self._steps, self._begun = Bar(), steps, False

    def __enter__(self) -> _Progress:
        return self

    def __call__(self, row: StepRow) -> None:
        if not self._begun:
            self._bar.begin(self._steps, row.step - 1)
            self._begun = True
        self._bar.advance()

    def __exit__(self, *_: object) -> None:
        if self._begun:
            self._bar.end()


def _show(run: TrainingRun) -> None:
    curve = run.curve()
    told = {"step", "loss", "spread_before", "spread", "spread_predicted", "bytes_sent", "nodes"}
    stride = max(1, len(curve) // _SHOWN_ROWS)
    kept = [row for row in curve if row["step"] % stride == 0 or row["step"] == len(curve)]
    measured = sorted(name for name in (kept[-1] if kept else {}) if name.startswith("mean_"))
    shown: list[dict[str, Any]] = [{n: v for n, v in row.items() if n in told or n in measured} for row in kept]
    summary = run.summary()
    title = f"{run.settings['protocol']['protocol']}, {run.settings['nodes']} nodes; spread: mean squared distance to the mean parameters"
    show_table(shown, title=title)
    measures = [{"parameters of": who, **values} for who, values in summary["measures"].items()]
    show_table(measures, title="on held-out data")
    if summary["contraction"] is not None:  # none where nothing is left of the spread, or nothing was exchanged
        worst = "" if summary["contraction_predicted"] is None else f", at worst {summary['contraction_predicted']:.4f} by theory"
        typer.echo(f"an exchange shrinks the spread to {summary['contraction']:.4f} of it{worst}")
    if run.roster is not None:
        whole = sum(bool(each.commitment) and not each.why for each in run.roster.record.nodes)
        typer.echo(f"{whole} of {run.settings['nodes']} nodes committed to all of their steps; coordinator: {run.roster.key}")
    for event in run.events:
        typer.echo(f"step {event.step}: node {event.node} {event.what}, {event.why}")
