"""A training run from its first step to its last: checkpointed, resumed, measured as it goes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studbook.arrays import Floats
from studbook.errors import ConfigError, RecordError, RunFolderError
from studbook.files import locked_folder
from studbook.protocols.cluster import Cluster
from studbook.protocols.committing import Commit
from studbook.protocols.messages import Message
from studbook.protocols.protocols import Protocol, Served
from studbook.protocols.saving import Saved, load_checkpoint, save_checkpoint
from studbook.protocols.team import Patience, Team, spread_of
from studbook.protocols.training_run import Evaluation, StepRow, TrainingRun
from studbook.protocols.values import digest, mean
from studbook.theory import contraction, predict_spread

_MOST_STEPS = 10_000_000
_COST_LIMIT = 2e10


@dataclass(frozen=True, slots=True)
class Plan:
    """How long a run is, and what is looked at on the way.

    Attributes:
        steps: 1 to 10⁷.
        seed: Of what the protocol draws; the nodes have their own, by habit the same.
        evaluate_every: Steps between evaluations on held-out data, 0 for the end alone.
        checkpoint_every: Steps between checkpoints, where there is a folder; 0 for the end alone.
        spread_every: Steps between looks at the spread where the protocol doesn't show it; each asks every node for its parameters.
        settings: Whatever else determines the run, as JSON's types; a checkpoint of other settings isn't taken up.

    Raises:
        ConfigError: Out of range.
    """

    steps: int
    seed: int = 0
    evaluate_every: int = 0
    checkpoint_every: int = 0
    spread_every: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= _MOST_STEPS or self.seed < 0:
            raise ConfigError(f"steps is {self.steps} and the seed {self.seed}, expected 1 to {_MOST_STEPS:,}, and 0 or more")
        if min(self.evaluate_every, self.checkpoint_every) < 0 or self.spread_every < 1:
            raise ConfigError("evaluate_every, checkpoint_every and spread_every count steps: expected 0 or more, 0 or more, and 1 or more")


def train(
    cluster: Cluster,
    protocol: Protocol,
    plan: Plan,
    *,
    patience: Patience | None = None,
    folder: Path | None = None,
    progress: Callable[[StepRow], None] | None = None,
    commit: Commit | None = None,
) -> TrainingRun:
    """Train nodes by a protocol; the same numbers to the bit wherever they live, as long as none is lost.

    Args:
        cluster: Where they live. It stays open.
        protocol: How they train together.
        plan: For how long.
        patience: What is done about nodes that don't answer; by default ``stop`` for what a run's result depends on all of, else
            ``leave_out``.
        folder: Where checkpoints go. A run that was stopped goes on from the last one, to the same result.
        progress: Is told each row.
        commit: How every node commits to its training, in the place that its cluster gives it; ``None``: no node does.

    Raises:
        ConfigError: The protocol can't run with these nodes, or these nodes can't commit.
        RecordError: The nodes don't begin with the same parameters.
        RunFolderError: The folder holds another run's checkpoint, or a damaged one.
        WorkerLostError: A lost node stopped the run, or the last was lost.

    Examples:
        >>> from studbook.protocols import Gossip, InProcess, Plan, TrainingSpec, ring, train
        >>> nodes = TrainingSpec("quadratic", {"dimension": 5}, nodes=4).build()
        >>> run = train(InProcess(nodes), Gossip(ring(4)), Plan(steps=20))
        >>> len(run.rows), run.rows[-1].live
        (20, 4)
    """
    protocol.check(cluster.n)
    if commit is not None:
        commit.check(protocol, folder)
    by_default = Patience(on_loss="stop" if protocol.describe().get("protocol") == "synchronised" else "leave_out")
    session = _Session(cluster, protocol, plan, patience or by_default, folder, progress, commit)
    if folder is None:
        return session.run()
    with locked_folder(folder):
        return session.run()


@dataclass(slots=True, eq=False)
class _Session:
    """One run under way."""

    cluster: Cluster
    protocol: Protocol
    plan: Plan
    patience: Patience
    folder: Path | None
    progress: Callable[[StepRow], None] | None
    commit: Commit | None
    rows: list[StepRow] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)
    noise: float = 0.0

    def run(self) -> TrainingRun:
        """From the start or the last checkpoint to the end."""
        team = self._resumed() or self._begun()
        while team.step < self.plan.steps:
            team.welcome()
            team.before = math.nan
            losses = self.protocol.step(team)
            team.step += 1
            self._record(team, losses)
            last = team.step == self.plan.steps
            if last or (self.plan.evaluate_every and team.step % self.plan.evaluate_every == 0):
                self._evaluate(team)
            if self.folder is not None and (last or (self.plan.checkpoint_every and team.step % self.plan.checkpoint_every == 0)):
                self._save(team)
        return self._finished(team)

    @property
    def settings(self) -> dict[str, Any]:
        """What determines the run; not how long it is, so that a longer one goes on from a shorter one's end."""
        found = {**self.plan.settings, "protocol": dict(self.protocol.describe()), "nodes": self.cluster.n, "seed": self.plan.seed}
        return found if self.commit is None else {**found, "commit_every": self.commit.every}

    def _team(self) -> Team:
        server = self.protocol.open_server(self.cluster.nodes) if isinstance(self.protocol, Served) else None
        return Team(self.cluster, self.plan.seed, self.patience, self.protocol.recovers, server, until=self.plan.steps)

    def _begun(self) -> Team:
        """Every node begins, and all with the same parameters; their first gradients say how much noise there is.

        With a server, nodes hold nothing that could begin; where everything mixes in every step, theory needs no noise.
        """
        team = self._team()
        if team.server is not None:
            return team
        digests = {i: digest(parameters) for i, parameters in team.begin().items()}
        first = min(digests, default=0)
        for i, found in digests.items():
            if found != digests[first]:
                raise RecordError(
                    f"node {i} begins with other parameters than node {first}", hint="one objective and one seed for all nodes"
                )
        self.noise = _noise_of(team)
        if self.commit is not None and self.folder is not None:
            self.commit.begin(team, self.folder, self.settings)
        return team

    def _record(self, team: Team, losses: Mapping[int, float]) -> None:
        known = not math.isnan(team.before)
        look = known or team.step % self.plan.spread_every == 0 or team.step == self.plan.steps
        spread = _spread_of(team) if look else math.nan
        shown = tuple(losses.get(i, math.nan) for i in range(self.cluster.n))
        row = StepRow(team.step, shown, team.before if known else spread, spread, team.sent, len(team.live))
        self.rows.append(row)
        if self.progress is not None:
            self.progress(row)

    def _evaluate(self, team: Team) -> None:
        if team.server is not None:
            self.evaluations.append(Evaluation(team.step, None, team.ask_server(Message("evaluate")).fields["measures"]))
            return
        asked = team.ask(dict.fromkeys(team.live, Message("evaluate")))
        for i, answer in asked.items():
            self.evaluations.append(Evaluation(team.step, i, answer.fields["measures"]))
        together = mean(list(team.parameters().values()))
        first = team.live[0]
        for answer in team.ask({first: Message("evaluate", {}, {"parameters": together})}).values():
            self.evaluations.append(Evaluation(team.step, None, answer.fields["measures"]))

    def _save(self, team: Team) -> None:
        assert self.folder is not None
        server = None if team.server is None else team.ask_server(Message("save"))
        states = team.ask(dict.fromkeys(team.live, Message("save"))) if server is None else {}
        fields = {"sent": team.sent, "noise": self.noise, "rows": [dataclasses.astuple(row) for row in self.rows]}
        fields |= {"evaluations": [dataclasses.astuple(each) for each in self.evaluations]}
        fields |= {"events": [dataclasses.astuple(each) for each in team.events]}
        if team.transcript is not None:
            team.transcript.append(self.folder, team.step)
            fields["transcript"] = team.transcript.plain()
        save_checkpoint(self.folder, Saved(self.settings, team.step, fields, states, server))

    def _resumed(self) -> Team | None:
        saved = None if self.folder is None else load_checkpoint(self.folder, self.settings)
        if saved is None:
            return None
        if saved.step > self.plan.steps:
            message = f"{self.folder} holds a run of {saved.step} steps, asked for {self.plan.steps}"
            raise RunFolderError(message, hint="choose another folder with --out")
        team = self._team()
        if saved.server is not None:
            team.ask_server(saved.server)
        team.resume(saved.states, saved.step, saved.fields["sent"], saved.events)
        self.rows, self.evaluations, self.noise = saved.rows, saved.evaluations, saved.fields["noise"]
        if self.commit is not None and self.folder is not None:
            self.commit.resume(team, self.folder, saved.fields["transcript"])
        return team

    def _finished(self, team: Team) -> TrainingRun:
        schedule = self.protocol.mixing(self.cluster.n)
        rho, predicted = expected_spread(schedule, len(self.rows), self.noise)
        settings = {**self.settings, "steps": self.plan.steps, "noise": self.noise}
        server = None if team.server is None else team.server.state.parameters
        nodes = team.parameters() if server is None else {}
        roster = None if self.commit is None or self.folder is None else self.commit.end(team, self.folder, self.settings)
        return TrainingRun(settings, self.rows, self.evaluations, team.events, nodes, rho, predicted, server, roster)


def expected_spread(schedule: Sequence[Floats], steps: int, noise: float) -> tuple[float, list[float]]:
    """Contraction and spread by theory; NaN where that would take longer than many a training."""
    distinct = list({id(weights): weights for weights in schedule}.values())
    cost = max(weights.size * weights.shape[-1] for weights in distinct)
    rho = min(contraction(weights) for weights in distinct) if cost <= _COST_LIMIT else math.nan
    if cost * steps > _COST_LIMIT:
        return rho, [math.nan] * steps
    return rho, predict_spread(schedule, steps, noise=noise).tolist()


def _spread_of(team: Team) -> float:
    return spread_of(team.parameters().values()) if team.server is None else 0.0


def _noise_of(team: Team) -> float:
    """The variance between nodes of the first update, summed over all parameters: each takes its first step, and begins again.

    It holds for any optimiser, as what that makes of the gradients is in it.
    """
    team.advance()
    moved = list(team.parameters().values())
    team.begin()
    return spread_of(moved) * len(moved) / max(1, len(moved) - 1)
