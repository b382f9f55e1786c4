"""The nodes of a run as a protocol sees them: who is there, what they say, what it costs, and what happens when one is lost."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, TypeVar

import numpy as np

from studbook.errors import ConfigError, RecordError, StudbookError, WorkerLostError
from studbook.protocols.answers import require_fields
from studbook.protocols.cluster import Cluster, Lost
from studbook.protocols.host import CHANGING, Host
from studbook.protocols.messages import Message, raise_error
from studbook.protocols.objective import Gradient
from studbook.protocols.transcript import Transcript
from studbook.protocols.values import Parameters, require_alike

OnLoss: TypeAlias = Literal["stop", "leave_out", "replace"]
Recovers: TypeAlias = Literal["peer", "alone", "nothing"]
"""What a node that comes back goes on from: a ``peer``'s state; its own, which it comes to ``alone``, from the start; or ``nothing``."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Patience:
    """What is done about nodes that don't answer.

    Attributes:
        timeout_s: Longest wait for an answer.
        on_loss: ``stop`` the run; ``leave_out`` the node, which comes back once it answers again; or ``replace`` it by a new one and wait
            until that is ready.
        replacements: Most of these in one run.

    Raises:
        ConfigError: Out of range.
    """

    timeout_s: float = 60.0
    on_loss: OnLoss = "leave_out"
    replacements: int = 16

    def __post_init__(self) -> None:
        if not 0.0 < self.timeout_s <= 1e6 or self.replacements < 0:
            raise ConfigError(f"timeout_s is {self.timeout_s} and replacements {self.replacements}, expected above 0, and 0 or more")
        if self.on_loss not in ("stop", "leave_out", "replace"):
            raise ConfigError(f"on_loss is {self.on_loss!r}, expected stop, leave_out or replace")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a node.

    Attributes:
        step: At which step.
        node: To which node.
        what: ``lost``, ``replaced``, ``rejoined``, ``cut off`` from the others where nodes between are lost, or ``uncommitted``: what
            it sealed at the end is no commitment to this run.
        why: In words.
    """

    step: int
    node: int
    what: Literal["lost", "replaced", "rejoined", "cut off", "uncommitted"]
    why: str


Check: TypeAlias = Callable[[int, Message, Message], None]


@dataclass(slots=True, eq=False)
class Team:
    """The nodes of one run.

    Attributes:
        cluster: Where they live.
        seed: The run's root seed.
        patience: What is done about losses.
        recovers: See ``Recovers``.
        server: Where the model lives at the coordinator; ``None`` where it lives in the nodes.
        step: Steps that the team has taken.
        live: Nodes that take part, sorted.
        sent: Bytes of parameters and gradients that nodes sent and were sent for the protocol; what is only measured isn't counted.
        events: What happened.
        before: Spread of the parameters before this step's exchange, where the protocol knows it; else NaN.
        transcript: Who took over what, where nodes commit to their steps.
        until: Steps that it will have taken at the end: after the last one nobody works ahead.
    """

    cluster: Cluster
    seed: int
    patience: Patience
    recovers: Recovers
    server: Host | None = None
    step: int = 0
    live: list[int] = field(default_factory=list)
    sent: int = 0
    events: list[Event] = field(default_factory=list)
    before: float = math.nan
    transcript: Transcript | None = None
    until: float = math.inf
    _at: int = 0
    _distrusted: set[int] = field(default_factory=set)
    _known: dict[int, Parameters] = field(default_factory=dict)
    _ahead: dict[int, Message] = field(default_factory=dict)
    _sent: dict[int, Parameters] = field(default_factory=dict)
    _like: Parameters | None = None

    def __post_init__(self) -> None:
        self.live, self._at = self.live or list(range(self.cluster.n)), self.step

    def gradients(self) -> dict[int, Gradient]:
        """The gradient of each node's next step; one that came with the last update isn't asked for again."""
        asked = [i for i in self.live if i not in self._ahead]
        found = self.ask(dict.fromkeys(asked, Message("gradient", {"step": self.step})), counted=asked) if asked else {}
        ahead = {i: self._ahead.pop(i) for i in self.live if i in self._ahead}
        self.sent += sum(each.array_bytes for each in ahead.values())
        answers = sorted({**found, **ahead}.items())
        self._sent = {i: each.arrays["gradient"] for i, each in answers}
        return {i: Gradient(self._sent[i], each.fields["loss"], each.fields["n"]) for i, each in answers}

    def apply(self, gradient: Parameters, peers: Sequence[int]) -> None:
        """Every node takes a step along one gradient, the mean of its peers', and answers with its own of the next step."""
        fields = {"step": self.step, "peers": list(peers), "ahead": self.step + 1 < self.until}
        self._everybody(Message("apply", fields, {"gradient": gradient}), counted=self.live)
        self._at = self.step + 1

    def advance(self, *, sharing: Collection[int] = ()) -> dict[int, float]:
        """Every node takes a step of its own; where somebody shares, parameters come back in the same answers. The loss of each.

        Args:
            sharing: Whose parameters are sent for the protocol; those of the others are only measured.
        """
        message = Message("advance", {"step": self.step, "until": self.step + 1, "pull": bool(sharing)})
        answers = self._everybody(message, counted=sharing)
        self._at = self.step + 1
        return {i: each.fields["losses"][0] for i, each in answers.items() if each.kind != "restored"}

    def begin(self) -> dict[int, Parameters]:
        """Every node begins; the parameters that each begins with."""
        self._everybody(Message("begin"), counted=())
        self._at = self.step
        return self.parameters()

    def resume(self, states: Mapping[int, Message], step: int, sent: int, events: list[Event]) -> None:
        """Give nodes the states that they had after ``step`` steps; those without one rejoin as they come, but for distrusted ones."""
        self.ask(states)
        gone = {event.node: event for event in events if event.what != "cut off"}
        gone = {i: event for i, event in gone.items() if event.what == "lost"}
        self.live = sorted(states) if self.server is None else [i for i in self.live if i not in gone]
        self._distrusted = {i for i, event in gone.items() if event.why.startswith("garbage")}
        self.step, self._at, self.sent, self.events = step, step, sent, events

    def parameters(self) -> dict[int, Parameters]:
        """Each live node's parameters; those that are known from an exchange aren't asked for again."""
        unknown = [i for i in self.live if i not in self._known]
        if unknown:
            self.ask(dict.fromkeys(unknown, Message("pull")))
        self._sent = {i: self._known[i] for i in self.live}
        return dict(self._sent)

    def adopt(self, several: Mapping[int, Parameters], peers: Mapping[int, Sequence[int]]) -> None:
        """Give nodes other parameters, the mean of each one's peers'; those that get the same are sent the same message."""
        told: dict[tuple[int, tuple[int, ...]], Message] = {}
        requests = {}
        for i, each in several.items():
            message = Message("adopt", {"step": self._at, "peers": list(peers[i])}, {"parameters": each})
            requests[i] = told.setdefault((id(each), tuple(peers[i])), message)
        self.ask(requests, counted=list(several))

    def ask_server(self, message: Message) -> Message:
        """The server's answer.

        Raises:
            StudbookError: It raised it.
        """
        assert self.server is not None
        answer = self.server.answer(message)
        raise_error(answer, "the server")
        return answer

    def collect(self, requests: Mapping[int, Message], read: Callable[[int, Message], T]) -> dict[int, T]:
        """Ask clients; what is read in each answer. One that can't be read is garbage, as is an error: a client can't stop the others.

        Args:
            requests: What each is asked; all of it counts as the protocol's traffic.
            read: From a node's number and its answer; raises ``RecordError``.

        Raises:
            WorkerLostError: A loss stops the run, or nobody is left.
        """
        found: dict[int, T] = {}

        def check(i: int, _request: Message, answer: Message) -> None:
            if answer.kind == "error":
                raise RecordError(f"it answered with an error, {str(answer.fields.get('message'))[:200]}")
            found[i] = read(i, answer)

        return {i: found[i] for i in self.ask(requests, counted=list(requests), check=check)}

    def ask(self, requests: Mapping[int, Message], *, counted: Collection[int] = (), check: Check | None = None) -> dict[int, Message]:
        """Ask live nodes; of those that are lost there is no answer, or that of their replacement.

        Args:
            requests: What each is asked.
            counted: Nodes whose arrays, sent and received, count as the protocol's traffic.
            check: Raises ``RecordError`` for an answer of a node to a request that can't be. By default arrays have to be alike
                everybody's, and an error in a node is raised here.

        Raises:
            WorkerLostError: A loss stops the run, or nobody is left.
            StudbookError: A node raised it.
        """
        found: dict[int, Message] = {}
        lost: dict[int, Lost] = {}
        answers = self.cluster.ask(requests, timeout_s=self.patience.timeout_s)
        for i in sorted(answers):
            checked = self._checked(i, requests[i], answers[i], check)
            if isinstance(checked, Lost):
                lost[i] = checked
            else:
                found[i] = checked
        self.sent += sum(requests[i].array_bytes + found[i].array_bytes for i in found if i in counted)
        for i, why in lost.items():
            self._lose(i, why)
        if self.patience.on_loss == "replace":
            for i in lost:
                answer = self._replace(i, requests[i], [j for j in found if j not in lost], check)
                if answer is not None:
                    found[i] = answer
        if self.transcript is not None:
            self.transcript.note(self.step, requests, [i for i in found if found[i].kind != "restored"], self._sent)
        return {i: found[i] for i in sorted(found)}

    def welcome(self) -> None:
        """Take back nodes that were lost and answer again: they get the state that they would have, or a peer's.

        One that answered garbage isn't asked again.
        """
        for i in sorted(set(range(self.cluster.n)) - set(self.live) - self._distrusted):
            if self.patience.on_loss == "leave_out" and self.cluster.revive(i, fresh=False):
                try:
                    if not (self.recovers == "alone" and self._recalled(i)):
                        self._recover(i, self.live, self._at)
                except StudbookError:
                    continue
                self._join(i, "rejoined", "it answers again")

    def _everybody(self, message: Message, *, counted: Collection[int]) -> dict[int, Message]:
        return self.ask(dict.fromkeys(self.live, message), counted=counted)

    def _check_alike(self, i: int, request: Message, answer: Message) -> None:
        """Refuse what is no answer to this request; arrays have to be like everybody's, and rows as many as the node has."""
        asked = "gradient" if request.fields.get("ahead") else request.kind
        require_fields(asked, answer.fields)
        for each in answer.arrays.values():
            if self._like is None:  # from what the nodes were built from: an answer might be anything
                self._like = self.cluster.nodes[0].begin().parameters
            require_alike([self._like, each])
        if asked == "gradient":
            self._check_gradient(answer, self.cluster.nodes[i].rows_a_step)
        if (request.kind == "pull" or request.fields.get("pull")) and "parameters" not in answer.arrays:
            raise RecordError("its answer has no parameters")

    @staticmethod
    def _check_gradient(answer: Message, rows: int) -> None:
        if "gradient" not in answer.arrays:
            raise RecordError("its answer has no gradient")
        if answer.fields["n"] != rows:
            raise RecordError(f"it says that its gradient is of {answer.fields['n']} rows, but it holds {rows:,} for a step")

    def _checked(self, i: int, request: Message, answer: Message | Lost, check: Check | None) -> Message | Lost:
        """The answer, if it is one to this request."""
        if isinstance(answer, Lost):
            return answer
        if check is None:
            raise_error(answer, f"node {i}")
        try:
            (check or self._check_alike)(i, request, answer)
        except RecordError as error:
            return Lost("garbage", error.message)
        if request.kind in CHANGING:
            for held in (self._known, self._ahead):
                held.pop(i, None)
        if request.kind == "adopt":
            self._known[i] = request.arrays["parameters"]
        elif "parameters" in answer.arrays:
            self._known[i] = answer.arrays["parameters"]
        if request.fields.get("ahead"):
            self._ahead[i] = answer
            return Message("done", {"step": answer.fields.get("step")})
        return answer

    def _lose(self, i: int, why: Lost) -> None:
        self.live = [j for j in self.live if j != i]
        for held in (self._known, self._ahead):
            held.pop(i, None)
        self.events.append(Event(self.step, i, "lost", str(why)))
        self._distrusted |= {i} if why.why == "garbage" else set()
        if self.patience.on_loss == "stop":
            raise WorkerLostError(
                f"node {i} was lost at step {self.step}, {why}", hint="resume from the last checkpoint, or on_loss replace"
            )
        if self.patience.on_loss == "leave_out" and not self.live:
            raise WorkerLostError(f"every node was lost, the last one at step {self.step}, {why}", hint="resume from the last checkpoint")

    def _replace(self, i: int, request: Message, answered: Iterable[int], check: Check | None) -> Message | None:
        """A new node with the state that the lost one should have now, and its answer."""
        used = sum(event.what == "replaced" for event in self.events)
        if used >= self.patience.replacements:
            raise WorkerLostError(f"node {i} was lost at step {self.step}; {used} were replaced, no more may be", hint="see its log")
        if not self.cluster.revive(i, fresh=True):
            raise WorkerLostError(f"node {i} was lost at step {self.step} and can't be replaced", hint="resume from the last checkpoint")
        peers, changes, recalled = list(answered) or self.live, request.kind in CHANGING, self._recalled(i)
        if self.recovers == "peer" and not peers and not recalled:
            raise WorkerLostError(f"every node was lost at step {self.step}", hint="resume from the last checkpoint")
        alone, moves = self.recovers == "alone", request.kind in ("advance", "apply")
        if not recalled:
            self._recover(i, peers, self._at + (moves and not alone))
        self._join(i, "replaced", "a new one has its place")
        if changes and not alone and not recalled:  # the peer has done it already, and the new node has its state
            return Message("restored", {}, {"parameters": self._known[i]}) if i in self._known else Message("restored")
        return self.ask({i: request}, check=check).get(i)

    def _recalled(self, i: int) -> bool:
        """Whether a node came back to where the others are by what it keeps of its own steps."""
        if self.transcript is None or i in self.transcript.stopped:
            return False
        found = self._one(i, self.transcript.message("commit", i, self._at)).fields
        return found.get("step") == self._at and (found.get("key"), found.get("numerics")) == self.transcript.told.get(i)

    def _recover(self, i: int, peers: Iterable[int], step: int) -> None:
        """Bring a node to a step: with a peer's state, or by its own steps from the start.

        Raises:
            WorkerLostError: It was lost again, or its peers were.
        """
        if self.recovers == "nothing":
            return
        if self.recovers == "alone":
            self._one(i, Message("begin"))
            self._one(i, Message("advance", {"step": 0, "until": step}))
            return
        for peer in sorted(peers):
            state = self._one(peer, Message("save"))
            if state.fields.get("step") == step:
                self._one(i, state)
                self._known[i] = state.arrays["parameters"]
                if self.transcript is not None:
                    self.transcript.stopped.setdefault(i, max(e.step for e in self.events if (e.node, e.what) == (i, "lost")))
                return
        raise WorkerLostError(f"no node at step {step} could give node {i} its state", hint="resume from the last checkpoint")

    def _one(self, i: int, message: Message) -> Message:
        answer = self.cluster.ask({i: message}, timeout_s=self.patience.timeout_s)[i]
        if isinstance(answer, Lost):
            raise WorkerLostError(f"node {i} was lost again at step {self.step}, {answer}")
        raise_error(answer, f"node {i}")
        return answer

    def note_parts(self, parts: Collection[Collection[int]]) -> None:
        """Say, once, which nodes no path joins to the first of the live ones any more."""
        for part in list(parts)[1:]:
            event = Event(self.step, min(part), "cut off", f"no path joins nodes {', '.join(map(str, sorted(part)))} and the others")
            if not any((each.node, each.what, each.why) == (event.node, event.what, event.why) for each in self.events):
                self.events.append(event)

    def _join(self, i: int, what: Literal["replaced", "rejoined"], why: str) -> None:
        self.live = sorted([*self.live, i])
        self.events.append(Event(self.step, i, what, why))


def spread_of(several: Iterable[Parameters]) -> float:
    """The mean squared distance of nodes' parameters to their mean, in double precision; 0 where they are equal to the bit.

    References:
        The consensus distance of L. Kong et al., "Consensus control for decentralized deep learning", ICML 2021, eq. 2, squared.

    Examples:
        >>> import numpy as np
        >>> from studbook.protocols import spread_of
        >>> spread_of([{"w": np.zeros(2, np.float32)}, {"w": np.full(2, 2, np.float32)}])
        2.0
    """
    nodes = list(several)
    require_alike(nodes)
    stacks = (np.stack([each[name] for each in nodes]).astype(np.float64) for name in sorted(nodes[0]))
    return math.fsum(float(np.square(stacked - stacked.mean(axis=0)).sum()) for stacked in stacks) / len(nodes)
