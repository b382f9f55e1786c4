"""The folder of a run whose nodes committed to their training, read without trust: what verifiers begin with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studbook.errors import ConfigError, RecordError, VerifierError
from studbook.protocols.committing import ROSTER
from studbook.protocols.exchange import Exchange, Exchanged
from studbook.protocols.gossip import Gossip
from studbook.protocols.graphs import Graph
from studbook.protocols.independent import Independent
from studbook.protocols.kept import COMMITMENT, MOST_EVERY
from studbook.protocols.local import Local
from studbook.protocols.node import Node
from studbook.protocols.protocols import Exchanging, Protocol
from studbook.protocols.recorder import Place
from studbook.protocols.replay import Assignment
from studbook.protocols.spec import TrainingSpec
from studbook.protocols.stores import FolderStore
from studbook.protocols.synchronised import Synchronised
from studbook.protocols.transcript import TRANSCRIPT, read_transcript
from studbook.provenance import PublicKey, Signed, open_signed, read_signed
from studbook.records import TrainingCommitment
from studbook.records.claim import MAX_SEED
from studbook.records.roster import Roster

NODES = "nodes"


@dataclass(frozen=True, slots=True, eq=False)
class CommittedRun:
    """A run as its coordinator signed it.

    Attributes:
        folder: Where it lies.
        roster: What was to be done, and who committed to what.
        protocol: How nodes trained together.
        nodes: What they were, built here.
        seed: The run's root seed, of what the protocol draws.
        every: Nodes were to keep a state every so many steps.
        exchanges: By step: what nodes sent, and what each took over from others.
    """

    folder: Path
    roster: Signed[Roster]
    protocol: Protocol
    nodes: Sequence[Node]
    seed: int
    every: int
    exchanges: Mapping[int, Exchanged]

    def store(self, node: int) -> FolderStore:
        """What a node shows."""
        return FolderStore(Place(self.folder / NODES, self.folder).folder(node))

    def commitment(self, node: int) -> Signed[TrainingCommitment]:
        """A node's commitment: the one that the roster names, signed by the key that it names.

        Raises:
            VerifierError: There is none, or another.
            SignatureError: It was changed, or is another's.
            RecordError: It is no such record; ``SchemaVersionError`` where it is of a newer version.
        """
        enrolled = self.roster.record.nodes[node]
        if not enrolled.commitment:
            raise VerifierError(f"node {node} made no commitment; {enrolled.why or 'nobody knows why'}")
        data = self.store(node).get(COMMITMENT, max_bytes=TrainingCommitment.MAX_BYTES)
        found = open_signed(data, TrainingCommitment, f"the commitment of node {node}", keys=[PublicKey(enrolled.key)])
        if found.record.id != enrolled.commitment:
            raise VerifierError(f"the commitment of node {node} isn't the one that the roster names", hint="ask for that one")
        return found

    def assignment(self, node: int) -> Assignment:
        """What a node was to do, as far as it committed to it."""
        roster = self.roster.record
        enrolled = roster.nodes[node]
        noted = {step: each for step, each in self.exchanges.items() if step < enrolled.steps}
        contacts = {step: each.taken[node] for step, each in noted.items() if node in each.taken}
        takes = self.protocol.takes if isinstance(self.protocol, Exchanging) else None
        sent = {step: (takes, each.sent[node]) for step, each in noted.items() if takes and node in each.sent}
        key = PublicKey(enrolled.key)
        return Assignment(self.nodes[node], roster.run, enrolled.steps, key, contacts=contacts, sent=sent, draw=roster.id, every=self.every)

    def exchange(self, step: int) -> Exchange:
        """A step's exchange as it has to be taken again.

        All nodes were there in the steps that all commitments cover, as one that is lost commits to the steps before.
        """
        noted = self.exchanges.get(step, Exchanged())
        whole = step < min(each.steps for each in self.roster.record.nodes)
        present = range(len(self.nodes)) if whole else sorted(noted.sent)
        return Exchange(step, self.seed, self.nodes, present, whole, sorted({each.peers for each in noted.taken.values()}))


def open_run(folder: Path, *, coordinator: PublicKey | None = None, settings: Mapping[str, Any] | None = None) -> CommittedRun:
    """A run's folder, its roster and contacts checked against the coordinator's signature; nodes are built here, from its settings.

    Args:
        folder: Where ``train`` or ``studbook training run --commit`` wrote it.
        coordinator: Whose signature it has to be; ``None``: anybody's, and whose it was is for the reader to look at.
        settings: Settings of the objective that differ here, such as where its data lie; what it trains on has to be the same.

    Raises:
        ConfigError: Nodes of this run made no commitments, or it can't be built here.
        RecordError: Files that aren't what they should be, or name what the run doesn't have; ``SchemaVersionError`` where they are of a
            newer version.
        SignatureError: The roster was changed, or signed by somebody else.
        VerifierError: The file of contacts is missing, or was changed.
    """
    hint = "only a run with --commit can be verified: studbook training run --commit"
    roster = read_signed(folder / ROSTER, Roster, keys=None if coordinator is None else [coordinator], hint=hint)
    plain = roster.record.settings.get("spec")
    if not isinstance(plain, dict):
        raise ConfigError(f"{folder / ROSTER} doesn't say what was trained", hint='name it in Plan(settings={"spec": spec.plain()})')
    if settings:
        plain = {**plain, "settings": {**_settings_of(plain), **settings}}
    nodes = TrainingSpec.of(plain).build()
    if len(nodes) != len(roster.record.nodes):
        raise RecordError(f"{folder / ROSTER} names {len(roster.record.nodes)} nodes, its run has {len(nodes)}", hint="ask for it again")
    protocol = _protocol_of(roster.record.settings.get("protocol"))
    protocol.check(len(nodes))
    seed = roster.record.settings.get("seed")
    if type(seed) is not int or not 0 <= seed <= MAX_SEED:
        raise RecordError(f"the roster's seed is {str(seed)[:40]!r}, expected 0 to 2^53 - 1", hint="ask for it again")
    every = roster.record.settings.get("commit_every")
    if type(every) is not int or not 1 <= every <= MOST_EVERY:
        raise RecordError(f"the roster's commit_every is {str(every)[:40]!r}, expected 1 to {MOST_EVERY:,}", hint="ask for it again")
    exchanges = read_transcript(folder / TRANSCRIPT, roster.record.transcript)
    _require_known(exchanges, len(nodes), roster.record.steps)
    return CommittedRun(folder, roster, protocol, nodes, seed, every, exchanges)


def _settings_of(plain: Mapping[str, Any]) -> Mapping[str, Any]:
    settings = plain.get("settings", {})
    if not isinstance(settings, dict):
        raise RecordError(f"the roster's settings of the objective are {str(settings)[:40]!r}, expected a table", hint="ask for it again")
    return settings


def _require_known(exchanges: Mapping[int, Exchanged], n: int, steps: int) -> None:
    """Refuse a transcript of steps or nodes that the run doesn't have."""
    for step, each in exchanges.items():
        named = {*each.sent, *each.taken, *(peer for contact in set(each.taken.values()) for peer in contact.peers)}
        if step >= steps or any(i >= n for i in named):
            message = f"the transcript names step {step} and node {max(named, default=0)}, the run has {steps:,} steps of {n} nodes"
            raise RecordError(message, hint="ask for it again")


def _protocol_of(plain: Any) -> Protocol:
    """The protocol that described itself so.

    Raises:
        RecordError: None did.
    """
    try:
        found = _described(dict(plain))
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError(f"the roster describes no protocol that can be verified: {error}", hint="ask for it again") from error
    if dict(found.describe()) != plain:
        raise RecordError("the roster describes a protocol in another form than studbook's", hint="ask for it again")
    return found


def _described(plain: Mapping[str, Any]) -> Protocol:
    match plain["protocol"]:
        case "independent":
            return Independent()
        case "synchronised":
            return Synchronised()
        case "local":
            return Local(plain["every"])
        case "gossip":
            return Gossip(Graph.of(plain["edges"], plain["nodes"], plain["graph"]), plain["exchange"], plain["every"])
    raise ValueError(f"{str(plain['protocol'])[:40]!r}")
