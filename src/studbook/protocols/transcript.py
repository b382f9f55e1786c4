"""The coordinator's transcript of a run: who sent what, and who took over what from whom, step by step.

Verifiers hold it against what nodes committed to.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studbook.errors import RecordError, RunFolderError, VerifierError
from studbook.files import storage, write_file
from studbook.protocols.exchange import Exchanged, Kind
from studbook.protocols.messages import Message
from studbook.protocols.values import Parameters, digest
from studbook.records import Contact, canonical_bytes, from_plain, read_json, to_plain

TRANSCRIPT = "contacts.jsonl"
_MAX_LINE = 1 << 16
_ARRAYS = re.compile(r"blake3:[0-9a-f]{64}")
_TAKEN: Mapping[str, Kind] = {"apply": "gradient", "adopt": "parameters"}
"""By a message's kind: what a node takes over with it."""


@dataclass(slots=True, eq=False)
class Transcript:
    """What nodes of a run took over from each other.

    Attributes:
        run: 128 random bits in hex that name the run.
        every: Nodes keep a state every so many steps.
        told: Public key and numerics of the nodes, as they told them before their first step.
        stopped: Nodes that went on from a peer's state, and at which step they had been lost: what they commit to ends there.

    Examples:
        >>> import numpy as np
        >>> from studbook.protocols.messages import Message
        >>> from studbook.protocols.transcript import Transcript
        >>> transcript = Transcript(32 * "0", 10)
        >>> value = {"w": np.ones(2, np.float32)}
        >>> told = Message("adopt", {"step": 5, "peers": [0, 1]}, {"parameters": value})
        >>> transcript.note(4, {0: told, 1: told}, [0, 1], sent={0: value, 1: value})
        >>> transcript.of(1, 9)[4].peers, transcript.of(1, 4)
        ((0, 1), {})
    """

    run: str
    every: int
    told: dict[int, tuple[str, str]] = field(default_factory=dict)
    stopped: dict[int, int] = field(default_factory=dict)
    _steps: dict[int, Exchanged] = field(default_factory=dict)
    _written: int = 0

    def note(self, step: int, requests: Mapping[int, Message], answered: Collection[int], sent: Mapping[int, Parameters]) -> None:
        """Write down what nodes took over in a step: those that were told, and said that they did; and what each had sent for it."""
        contacts: dict[int, Contact] = {}
        for i in answered:
            message = requests[i]
            if message.kind in _TAKEN:
                kind = _TAKEN[message.kind]
                if id(message) not in contacts:
                    value = digest(message.arrays[kind])
                    contacts[id(message)] = Contact(kind=kind, value=value, peers=tuple(message.fields["peers"]))
                self._steps.setdefault(step, Exchanged()).taken[i] = contacts[id(message)]
        if contacts:
            known = self._steps[step].sent
            known.update({i: digest(value) for i, value in sorted(sent.items()) if i not in known})

    def of(self, node: int, until: int) -> dict[int, Contact]:
        """What a node took over, by step, in the steps before one."""
        return {step: each.taken[node] for step, each in self._steps.items() if step < until and node in each.taken}

    def message(self, kind: str, node: int, until: int, since: int | None = None) -> Message:
        """A message by which a node begins, or ends, its commitment at a step: with what it takes to do its steps up to there again.

        Args:
            kind: ``commit`` or ``seal``.
            node: Which.
            until: The step.
            since: The contacts of the steps from there on are in it; by default from the last state that the node was to keep.
        """
        first = max(0, until - 1) // self.every * self.every if since is None else since
        taken = self.of(node, until)
        contacts = [[step, each.kind, each.value, list(each.peers)] for step, each in taken.items() if step >= first]
        whole = len(contacts) == len(taken)
        return Message(kind, {"step": until, "since": 0 if whole else first, "run": self.run, "every": self.every, "contacts": contacts})

    def plain(self) -> dict[str, Any]:
        """What of it belongs into a checkpoint; the contacts have a file of their own."""
        return {
            "run": self.run,
            "told": [[i, *each] for i, each in self.told.items()],
            "stopped": [list(each) for each in self.stopped.items()],
        }

    def append(self, folder: Path, step: int) -> None:
        """Add what was noted since the last time, of the steps before one, to the run's file.

        Raises:
            StorageError: The disk refused.
        """
        lines = [_lines(each, noted) for each, noted in sorted(self._steps.items()) if self._written <= each < step]
        path = folder / TRANSCRIPT
        with storage(path), path.open("ab") as file:
            file.writelines(line for several in lines for line in several)
        self._written = step

    @classmethod
    def resumed(cls, folder: Path, plain: Mapping[str, Any], every: int, step: int) -> Transcript:
        """As it was after ``step`` steps; what the file has beyond them goes.

        Raises:
            RunFolderError: It isn't whole.
        """
        try:
            told = {i: (str(key), str(computes)) for i, key, computes in plain["told"]}
            found = cls(str(plain["run"]), every, told, dict(plain["stopped"]))
            found._steps = {each: noted for each, noted in read_contacts(folder / TRANSCRIPT, torn=True).items() if each < step}
        except (RecordError, VerifierError, KeyError, TypeError, ValueError) as error:
            message = f"{folder / TRANSCRIPT} isn't what the run wrote: {error}"
            raise RunFolderError(message, hint="begin anew in another folder with --out") from error
        write_file(folder / TRANSCRIPT, b"".join(line for each, noted in sorted(found._steps.items()) for line in _lines(each, noted)))
        found._written = step
        return found


def begin_file(folder: Path) -> None:
    """An empty file of contacts, in the place of a former one.

    Raises:
        StorageError: The disk refused.
    """
    write_file(folder / TRANSCRIPT, b"")


def read_transcript(path: Path, expected: str) -> dict[int, Exchanged]:
    """What nodes sent and took over, by step.

    Args:
        path: The file.
        expected: Its SHA-256, as the coordinator signed it.

    Raises:
        VerifierError: It isn't there, or isn't what was signed.
        RecordError: It is no such file.
    """
    if digest_of_file(path) != expected:
        raise VerifierError(f"{path} isn't the file that the coordinator signed", hint="it was changed or cut off: ask for it again")
    return read_contacts(path)


def digest_of_file(path: Path) -> str:
    """``sha256:…`` of a file.

    Raises:
        VerifierError: It can't be read.
    """
    try:
        if path.is_symlink() or not path.is_file():
            raise VerifierError(f"there is no file {path}", hint="ask for it: without it there is no ballot")
        with path.open("rb") as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise VerifierError(f"{path} can't be read: {error.strerror or error}", hint="ask for it again") from error


def read_contacts(path: Path, *, torn: bool = False) -> dict[int, Exchanged]:
    """What a file has of each step.

    Args:
        path: Which.
        torn: Whether the last line may be cut off, as by a kill.

    Raises:
        VerifierError: The file can't be read.
        RecordError: A line that is neither a contact nor what a node sent.
    """
    found: dict[int, Exchanged] = {}
    try:
        with path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(_MAX_LINE), b""), 1):
                if not line.endswith(b"\n"):
                    if torn:
                        break
                    raise RecordError(f"{path}, line {number} is cut off", hint="ask for it again")
                _add(found, line, f"{path}, line {number}")
    except OSError as error:
        raise VerifierError(f"{path} can't be read: {error.strerror or error}", hint="ask for it again") from error
    return found


def _add(found: dict[int, Exchanged], line: bytes, what: str) -> None:
    plain = read_json(line, what, max_bytes=_MAX_LINE)
    keys = set(plain) if isinstance(plain, dict) else set()
    if keys not in ({"contact", "nodes", "step"}, {"node", "sent", "step"}) or type(plain["step"]) is not int or plain["step"] < 0:
        raise RecordError(f"{what} has no step with nodes and contact, or with what a node sent", hint="ask for it again")
    noted = found.setdefault(plain["step"], Exchanged())
    if "sent" in keys:
        i, sent = plain["node"], plain["sent"]
        if type(i) is not int or i < 0 or i in noted.sent or not isinstance(sent, str) or not _ARRAYS.fullmatch(sent):
            raise RecordError(f"{what} names a node that can't be, or that sent something else in this step", hint="ask for it again")
        noted.sent[i] = sent
        return
    contact, nodes = from_plain(Contact, plain["contact"], what), plain["nodes"]
    if not isinstance(nodes, list) or any(type(i) is not int or i < 0 or i in noted.taken for i in nodes):
        raise RecordError(f"{what} names nodes that can't be, or that took over something else in this step", hint="ask for it again")
    noted.taken.update(dict.fromkeys(nodes, contact))


def _lines(step: int, noted: Exchanged) -> list[bytes]:
    """A step's lines: one for each different contact, with the nodes that had it; then one for each node that sent something."""
    several: dict[Contact, list[int]] = {}
    for i, contact in sorted(noted.taken.items()):
        several.setdefault(contact, []).append(i)
    plain: list[dict[str, Any]] = [{"contact": to_plain(each), "nodes": nodes, "step": step} for each, nodes in several.items()]
    plain += [{"node": i, "sent": sent, "step": step} for i, sent in sorted(noted.sent.items())]
    return [canonical_bytes(each) + b"\n" for each in plain]


def contacts_of(fields: Mapping[str, Any]) -> dict[int, Contact]:
    """The contacts in a message that ``Transcript.message`` made; from outside, so nothing in it is trusted.

    Raises:
        RecordError: They are none.
    """
    found: dict[int, Contact] = {}
    rows = fields.get("contacts")
    if not isinstance(rows, list):
        raise RecordError("the message names no contacts")
    for row in rows:
        if not isinstance(row, list) or len(row) != 4 or type(row[0]) is not int:
            raise RecordError("the message names contacts of another form")
        found[row[0]] = from_plain(Contact, {"kind": row[1], "peers": row[3], "value": row[2]}, f"the contact of step {row[0]}")
    return found
