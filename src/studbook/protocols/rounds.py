"""The coordinator's transcript of a run with a server: what it sent to whom in each round, and what came back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from studbook.protocols.client import read_keys
from studbook.protocols.exchange import Exchanged
from studbook.protocols.kept import keys_digest
from studbook.protocols.messages import Message
from studbook.protocols.transcript import Transcript
from studbook.protocols.turns import FIRST
from studbook.protocols.values import Parameters, digest
from studbook.records import Contact

_KINDS = {"commit": "enlist", "seal": "sign"}
"""What clients are asked for in the place of what other nodes are."""


@dataclass(slots=True, eq=False)
class Rounds(Transcript):
    """A transcript of which clients owe their turns, and not every step.

    Attributes:
        epochs: Passes through its rows that a client takes in a turn.
        groups: Which keys clients name, as JSON's types.
    """

    epochs: int = 1
    groups: Mapping[str, Any] = field(default_factory=dict)

    def note(self, step: int, requests: Mapping[int, Message], answers: Mapping[int, Message], sent: Mapping[int, Parameters]) -> None:
        """Write down what was sent to clients, by which keys, and what they sent; nodes have nothing for each other here."""
        values: dict[int, str] = {}  # where all have the whole model, it is one message
        for i, answer in answers.items():
            request = requests[i]
            if request.kind == "train":
                value = values.setdefault(id(request), "") or digest(request.arrays["slice"])
                values[id(request)] = value
                noted = self._steps.setdefault(step, Exchanged())
                noted.taken[i] = Contact(kind="parameters", value=value)
                noted.sent[i], noted.keys[i] = digest(answer.arrays["update"]), keys_digest(read_keys(request))

    def owed(self, node: int, step: int) -> int:
        """The turns that a client took, all that were noted."""
        return len(turns_of(self._steps, node))

    def message(self, kind: str, node: int, until: int, since: int | None = None) -> Message:
        """See ``Transcript``; ``until`` and ``since`` count turns, and what a client was sent in the first one is always in it."""
        rounds = turns_of(self._steps, node)[:until]
        first = max(0, until - 1) // self.every * self.every if since is None else since
        taken = enumerate((self._steps[number].taken[node] for number in rounds), FIRST)
        contacts = [[turn, each.kind, each.value, list(each.peers)] for turn, each in taken if turn == FIRST or turn >= first]
        fields = {"step": until, "since": first, "run": self.run, "every": self.every, "contacts": contacts}
        return Message(_KINDS.get(kind, kind), {**fields, "rounds": rounds, "epochs": self.epochs, "groups": dict(self.groups)})


def turns_of(exchanges: Mapping[int, Exchanged], node: int) -> list[int]:
    """The rounds that a client took part in."""
    return sorted(number for number, each in exchanges.items() if node in each.keys)
