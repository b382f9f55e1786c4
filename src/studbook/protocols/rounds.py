"""The coordinator's transcript of a run with a server: what it sent to whom in each round, and what came back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from studbook.protocols.client import read_keys
from studbook.protocols.kept import keys_digest
from studbook.protocols.messages import Message
from studbook.protocols.transcript import Noted, Transcript
from studbook.protocols.turns import FIRST
from studbook.protocols.values import digest
from studbook.records import Contact, Turn


@dataclass(slots=True, eq=False)
class Rounds(Transcript):
    """A transcript of which clients owe their turns, and not every step.

    Attributes:
        epochs: Passes through its rows that a client takes in a turn.
        groups: Which keys clients name, as JSON's types.
    """

    epochs: int = 1
    groups: Mapping[str, Any] = field(default_factory=dict)

    def note(self, step: int, requests: Mapping[int, Message], answers: Mapping[int, Message]) -> None:
        """Write down what was sent to clients, by which keys, and what they sent."""
        sent: dict[int, str] = {}  # where all have the whole model, it is one message
        for i, answer in answers.items():
            request = requests[i]
            if request.kind == "train":
                value = sent.setdefault(id(request), "") or digest(request.arrays["slice"])
                sent[id(request)] = value
                self._noted.contacts.setdefault(step, {})[i] = Contact(kind="parameters", value=value)
                turn = Turn(keys=keys_digest(read_keys(request)), update=digest(answer.arrays["update"]))
                self._noted.turns.setdefault(step, {})[i] = turn

    def owed(self, node: int, step: int) -> int:
        """The turns that a client took, all that were noted."""
        return len(turns_of(self._noted, node))

    def message(self, kind: str, node: int, until: int) -> Message:
        """See ``Transcript``; ``until`` counts turns."""
        rounds = turns_of(self._noted, node)[:until]
        sent = enumerate((self._noted.contacts[number][node] for number in rounds), FIRST)
        fields = {"run": self.run, "every": self.every, "epochs": self.epochs, "groups": dict(self.groups), "rounds": rounds}
        contacts = [[turn, each.kind, each.value, list(each.peers)] for turn, each in sent]
        return Message({"commit": "enlist", "seal": "sign"}[kind], {**fields, "contacts": contacts})


def turns_of(noted: Noted, node: int) -> list[int]:
    """The rounds that a client took part in."""
    return sorted(number for number, by in noted.turns.items() if node in by)
