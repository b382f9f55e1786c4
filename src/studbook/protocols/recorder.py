"""How a node commits to its training by itself: it records its steps where it lives, and signs with a key that nobody else has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studbook.errors import ConfigError, RunFolderError, VerifierError
from studbook.protocols.commit import Committer
from studbook.protocols.kept import COMMITMENT, load_committed, load_state, received_name
from studbook.protocols.node import Node, NodeState
from studbook.protocols.objective import Gradient
from studbook.protocols.stores import FolderStore
from studbook.protocols.values import Parameters
from studbook.provenance import Signed, SigningKey
from studbook.records import Contact, TrainingCommitment

KEYS = "keys"
"""Folder of the private keys in a run's own, where no other is named."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where nodes keep their records and their keys, each on its own machine.

    Attributes:
        records: Folder with a folder for each node, named by its number: ``003``.
        keys: Folder with a private key for each, ``node-003.pem``, that its owner alone can read; and the coordinator's.

    Examples:
        >>> from pathlib import Path
        >>> from studbook.protocols.recorder import Place
        >>> Place(Path("run/nodes"), Path("run/keys")).folder(3).as_posix()
        'run/nodes/003'
    """

    records: Path
    keys: Path

    def folder(self, node: int) -> Path:
        """A node's records."""
        return self.records / f"{node:03d}"

    def key(self, node: int) -> SigningKey:
        """A node's key: see ``key_of``."""
        return self.key_of(f"node-{node:03d}")

    def key_of(self, who: str) -> SigningKey:
        """Somebody's key; drawn where there is none yet.

        Raises:
            KeyFileError: The file holds no such key, or others can read it.
            StorageError: The disk refused.
        """
        path = self.file_of(who)
        if not path.exists():
            SigningKey.generate().save(path)
        return SigningKey.load(path)

    def file_of(self, who: str) -> Path:
        """The file of somebody's key, whether it is there or not."""
        return self.keys / f"{who}.pem"

    def plain(self) -> dict[str, str]:
        """As JSON's types, for a process that works in another folder."""
        return {"records": str(self.records.resolve()), "keys": str(self.keys.resolve())}

    @classmethod
    def of(cls, plain: object) -> Place | None:
        """From JSON's types; ``None`` for ``None``: the node has no place to keep anything.

        Raises:
            ConfigError: They are no such place.
        """
        if plain is None:
            return None
        if not isinstance(plain, dict) or set(plain) != {"records", "keys"} or not all(isinstance(each, str) for each in plain.values()):
            raise ConfigError(f"{str(plain)[:80]} is no place for a node's records, expected folders of records and keys")
        return cls(Path(plain["records"]), Path(plain["keys"]))


class Recorder:
    """Follows a node through a run. The last step stays open until the next one begins, as what is taken over after it belongs to it.

    Args:
        node: Whose steps.
        place: Where they are kept.
        run: 128 random bits in hex that name the run.
        every: A state is kept every so many steps.

    Raises:
        ConfigError: An impossible ``every``.
        KeyFileError: The node's key can't be used.
    """

    def __init__(self, node: Node, place: Place, *, run: str, every: int) -> None:
        # Several files a step: flushing each to the disk would take far longer than the training. A kill costs nothing; a power cut may.
        self._node, self._store = node, FolderStore(place.folder(node.index), flush=False)
        self._committer = Committer(node, self._store, every=every, run=run)
        self._every = every
        self._found: tuple[NodeState, Gradient] | None = None
        self._open: tuple[NodeState, Parameters, NodeState] | None = None
        self.key = place.key(node.index)

    def begin(self, until: int, contacts: Mapping[int, Contact], *, since: int = 0) -> NodeState:
        """The state before a step, from what is kept: the steps after the last kept state are taken again.

        Args:
            until: The step; 0 begins a run, and what a run that was stopped before its first checkpoint left goes.
            contacts: What the node took over in the steps before.
            since: Contacts of steps before this one may be missing.

        Returns:
            The state; before an earlier step, where what was taken over isn't kept any more, or contacts of the steps after it are missing.

        Raises:
            RunFolderError: What is kept is another node's or run's.
        """
        if not until:
            self._clear()
        state = self._committer.begin()
        if state.step > until:
            kept = until - until % self._every
            self._committer.rewind(kept)
            state = load_state(self._store, kept, state)
        if state.step < since:
            return state
        try:
            while state.step < until:
                state = self._again(state, contacts.get(state.step))
        except VerifierError:
            return state
        return state

    def gradient(self, state: NodeState) -> Gradient:
        """The gradient of the node's next step, which isn't computed twice."""
        if self._found is None or self._found[0] is not state:
            self._found = state, self._node.gradient_at(state)
        return self._found[1]

    def step(self, before: NodeState, after: NodeState, agreed: Parameters | None = None, peers: Sequence[int] = ()) -> None:
        """Record a step, along the node's own gradient or one that several agreed on."""
        self._close()
        update = self.gradient(before).parameters
        if agreed is None:
            self._open = before, update, after
        else:
            self._committer.record(before, update, after, agreed=agreed, peers=peers)

    def adopt(self, parameters: Parameters, peers: Sequence[int]) -> None:
        """Record what was taken over after the last step.

        Raises:
            ConfigError: It wasn't after a step of its own.
        """
        if self._open is None:
            raise ConfigError(f"node {self._node.index} was told to adopt parameters where it took no step of its own")
        (before, update, after), self._open = self._open, None
        self._committer.record(before, update, after, adopted=parameters, peers=peers)

    def finish(self, state: NodeState) -> Signed[TrainingCommitment]:
        """Sign the commitment to all steps so far, of which this is the last state."""
        self._close()
        return self._committer.finish(state, self.key)

    def _again(self, state: NodeState, contact: Contact | None) -> NodeState:
        value = None
        if contact is not None:
            value = load_committed(self._store, received_name(state.step), contact.value, state.parameters)
        agreed = contact is not None and contact.kind == "gradient"
        after = self._node.apply(state, value if agreed and value is not None else self.gradient(state).parameters)
        self.step(state, after, value if agreed else None, () if contact is None else contact.peers)
        if value is None or agreed or contact is None:
            return after
        self.adopt(value, contact.peers)
        return self._node.adopt(after, value)

    def _close(self) -> None:
        if self._open is not None:
            before, update, after = self._open
            self._open = None
            self._committer.record(before, update, after)

    def _clear(self) -> None:
        names = self._store.names()
        if COMMITMENT in names:
            message = f"{self._store.folder} holds the commitment of a run that ended"
            raise RunFolderError(message, hint="choose another folder with --out")
        for name in names:
            (self._store.folder / name).unlink()


def recorder_of(node: Node, place: Place | None, fields: Mapping[str, Any]) -> Recorder:
    """The recorder that a message of the coordinator asks for.

    Raises:
        ConfigError: The node has no place to keep records, or the message doesn't name a run.
    """
    run, every = fields.get("run"), fields.get("every")
    if place is None:
        raise ConfigError(f"node {node.index} has no place for its records", hint="give the cluster one when it is opened")
    if not isinstance(run, str) or type(every) is not int:
        raise ConfigError("the message names no run, or not how often a state is kept")
    return Recorder(node, place, run=run, every=every)
