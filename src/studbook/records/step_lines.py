"""A step's canonical bytes, written and read by their one form: there are many of them, and JSON would cost more than the rest.

The bytes are those of ``to_bytes``; what isn't in the form is left to ``from_bytes`` to refuse, with its reasons.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from studbook.errors import RecordError
from studbook.records.codec import from_bytes
from studbook.records.training import Contact, StepRecord

_SHA, _ARRAYS = "(sha256:[0-9a-f]{64})", "(blake3:[0-9a-f]{64})"
_PEERS = "((?:[0-9]{1,10}(?:,[0-9]{1,10})*)?)"
_CONTACT = rf'\{{"kind":"(gradient|parameters)","peers":\[{_PEERS}\],"value":"{_ARRAYS}"\}}'
_FORM = re.compile(
    rf'\{{"after":"{_ARRAYS}","batch":"{_SHA}","before":"{_ARRAYS}","contact":(?:null|{_CONTACT}),"optimiser":"{_SHA}",'
    rf'"optimiser_after":"{_SHA}","path":"([0-9a-z/-]+)","schema":"{re.escape(StepRecord.SCHEMA)}","step":([0-9]{{1,8}}),"update":"{_ARRAYS}"\}}'
)


class Link(NamedTuple):
    """Where a step begins and ends.

    Attributes:
        before: Digests of the parameters and of the optimiser's state that it begins with.
        left: Those that the next step begins with.
        contact: Kind and digest of what it took over from others, or nothing twice.
        gave: Digests of its own gradient, and of the parameters after its own step: what it has for others.
    """

    before: tuple[str, str]
    left: tuple[str, str]
    contact: tuple[str, str]
    gave: tuple[str, str]


def write_step(record: StepRecord) -> bytes:
    """The canonical bytes of a step's record.

    Examples:
        >>> from studbook.records import StepRecord, to_bytes
        >>> from studbook.records.step_lines import read_step, write_step
        >>> state, other = "blake3:" + 64 * "0", "sha256:" + 64 * "0"
        >>> step = StepRecord(
        ...     step=3, before=state, optimiser=other, batch=other, path="7/node/0/step/3", update=state, after=state, optimiser_after=other
        ... )
        >>> write_step(step) == to_bytes(step), read_step(write_step(step), "it") == step
        (True, True)
    """
    contact = "null"
    if record.contact is not None:
        peers = ",".join(map(str, record.contact.peers))
        contact = f'{{"kind":"{record.contact.kind}","peers":[{peers}],"value":"{record.contact.value}"}}'
    return (
        f'{{"after":"{record.after}","batch":"{record.batch}","before":"{record.before}","contact":{contact},"optimiser":"{record.optimiser}",'
        f'"optimiser_after":"{record.optimiser_after}","path":"{record.path}","schema":"{record.SCHEMA}","step":{record.step},'
        f'"update":"{record.update}"}}'
    ).encode()


def read_step(line: bytes, what: str) -> StepRecord:
    """The record that ``write_step`` wrote.

    Raises:
        RecordError: Oversized, not canonical, or not such a record.
        SchemaVersionError: Of a newer version.
    """
    form = _form(line)
    if form is not None:
        after, batch, before, kind, peers, value, optimiser, optimiser_after, path, step, update = form.groups()
        contact = None if kind is None else _contact(kind, peers, value)
        found = StepRecord(
            step=int(step), before=before, optimiser=optimiser, batch=batch, path=path, update=update, after=after,
            optimiser_after=optimiser_after, contact=contact,
        )  # fmt: skip
        if write_step(found) == line:
            return found
    return from_bytes(StepRecord, line, what, max_bytes=StepRecord.MAX_BYTES)


def _contact(kind: str, peers: str, value: str) -> Contact:
    return Contact(
        kind="gradient" if kind == "gradient" else "parameters", value=value, peers=tuple(map(int, peers.split(","))) if peers else ()
    )


def read_link(line: bytes, what: str) -> Link:
    """Where a step begins and ends: several times faster than reading all of its record.

    Raises:
        RecordError: It isn't in the form of a record.
    """
    form = _form(line)
    if form is None:
        raise RecordError(f"{what} isn't in the form of a step")
    after, before, kind, value, optimiser, optimiser_after, update = form.group(1, 3, 4, 6, 7, 8, 11)
    left = value if kind == "parameters" else after
    return Link((before, optimiser), (left, optimiser_after), (kind or "", value or ""), (update, after))


def _form(line: bytes) -> re.Match[str] | None:
    return _FORM.fullmatch(line.decode("ascii", "replace")) if len(line) <= StepRecord.MAX_BYTES else None
