"""Records as canonical JSON and back, strictly typed: the one way in and out for whatever crosses a border."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any, ClassVar, Protocol, TypeVar, cast

from studbook.errors import RecordError, SchemaVersionError
from studbook.records.canonical import MAX_BYTES, canonical_bytes, read_json

STRICT = {"extra": "forbid", "strict": True}
"""How pydantic reads our dataclasses: no key too many, no text for a number."""

_SCHEMA = re.compile(r"studbook\.([a-z-]{1,32})/([1-9][0-9]{0,3})")


class Record(Protocol):
    """A frozen dataclass with the name and version of its form."""

    SCHEMA: ClassVar[str]


RecordT = TypeVar("RecordT")


def to_plain(record: Any) -> dict[str, Any]:
    """A record as JSON's types; a record with a schema says so under the key ``schema``."""
    plain: dict[str, Any] = _adapter(cast("Any", type(record))).dump_python(record, mode="json")
    schema = getattr(record, "SCHEMA", None)
    return plain if schema is None else {"schema": schema, **plain}


def to_bytes(record: Any) -> bytes:
    """The canonical bytes of a record."""
    return canonical_bytes(to_plain(record))


def from_plain(cls: type[RecordT], value: object, what: str) -> RecordT:
    """The record that ``to_plain`` made.

    Args:
        cls: Its class.
        value: JSON's types.
        what: What it should be, for the messages.

    Raises:
        RecordError: Not such a record; the message names the field.
        SchemaVersionError: Of a newer version.
    """
    if not isinstance(value, dict):
        raise RecordError(f"{what} is {type(value).__name__}, expected a record", hint="ask for it again")
    plain = dict(value)
    schema = getattr(cls, "SCHEMA", None)
    if schema is not None:
        check_schema(plain.pop("schema", None), schema, what)
    found = _validated(cls, canonical_bytes(plain), what)
    if canonical_bytes(to_plain(found)) != canonical_bytes(value):
        raise RecordError(f"{what} isn't in its only form: it leaves out what has a default", hint="ask for it again")
    return found


def from_bytes(cls: type[RecordT], data: bytes, what: str, *, max_bytes: int = MAX_BYTES) -> RecordT:
    """The record that ``to_bytes`` made; its bytes must be canonical, so that no byte can be changed unnoticed.

    Raises:
        RecordError: Oversized, cut off, not canonical, or not such a record.
        SchemaVersionError: Of a newer version.
    """
    value = read_json(data, what, max_bytes=max_bytes)
    check_canonical(value, data, what)
    return from_plain(cls, value, what)


def check_canonical(value: object, data: bytes, what: str) -> None:
    """Refuse bytes that say the same in another way.

    Raises:
        RecordError: They aren't canonical; the message says from which byte on.
    """
    wanted = canonical_bytes(value)
    if wanted != data:
        place = next((i for i, (a, b) in enumerate(zip(wanted, data, strict=False)) if a != b), min(len(wanted), len(data)))
        raise RecordError(
            f"{what} isn't canonical JSON (RFC 8785) from byte {place} on", hint="it was changed or reformatted; ask for it again"
        )


def check_schema(found: object, expected: str, what: str) -> None:
    """Refuse another kind of record, or a version from the future.

    Raises:
        RecordError: Another kind, or none at all.
        SchemaVersionError: A newer version.
    """
    if found == expected:
        return
    parts = _SCHEMA.fullmatch(found) if isinstance(found, str) else None
    kind, version = expected.removeprefix("studbook.").split("/")
    if parts is not None and parts[1] == kind and int(parts[2]) > int(version):
        raise SchemaVersionError(
            f"{what} has version {parts[2]}; this studbook reads up to {version}", hint="pip install --upgrade studbook"
        )
    hint = (
        "this is another kind of record" if parts is None or parts[1] != kind else "an older studbook wrote it: make it again with this one"
    )
    raise RecordError(f"{what} is {str(found)[:80]!r}, expected {expected!r}", hint=hint)


def _validated(cls: type[RecordT], data: bytes, what: str) -> RecordT:
    from pydantic import ValidationError

    try:
        found: RecordT = _adapter(cast("Any", cls)).validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        got = json.dumps(first.get("input"), default=str)[:80]
        raise RecordError(f"{what}: {place or 'the record'}: {first['msg']}; got {got}", hint="ask for it again") from error
    return found


@cache
def _adapter(cls: Any) -> Any:
    # Here and not above: whoever doesn't read records doesn't pay for pydantic.
    from pydantic import TypeAdapter

    return TypeAdapter(cls)
