"""Canonical JSON (RFC 8785): one value, one row of bytes, so that bytes can be digested and signed; and reading it back without trust."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from studbook.errors import RecordError

MAX_BYTES = 8 << 20
"""No record is longer; what comes from outside is measured before it is read."""
MAX_DEPTH = 32
MAX_INTEGER = 2**53 - 1


def canonical_bytes(value: object) -> bytes:
    """The canonical JSON of a value: keys sorted, no spaces, numbers in their shortest form (RFC 8785).

    Args:
        value: Texts, booleans, ``None``, finite floats, integers of at most 53 bits, and lists, tuples and mappings of them.

    Raises:
        RecordError: Something else, such as NaN or an integer beyond 2⁵³ - 1.

    Examples:
        >>> from studbook.records import canonical_bytes
        >>> canonical_bytes({"b": [1.0, 2.5e-7], "a": "ü"}).decode()
        '{"a":"ü","b":[1,2.5e-7]}'
    """
    import rfc8785

    try:
        return rfc8785.dumps(value)  # type: ignore[arg-type]
    except (rfc8785.CanonicalizationError, RecursionError, UnicodeEncodeError) as error:
        raise RecordError(f"a record can't hold this value: {error}", hint="use texts, finite numbers, lists and mappings") from error


def digest_of(value: object) -> str:
    """``"sha256:…"`` of the canonical bytes of a value.

    Examples:
        >>> from studbook.records import digest_of
        >>> digest_of({"a": 1})[:23]
        'sha256:015abd7f5cc57a2d'
    """
    return f"sha256:{hashlib.sha256(canonical_bytes(value)).hexdigest()}"


def read_json(data: bytes, what: str, *, max_bytes: int = MAX_BYTES) -> Any:
    """JSON from outside: bounded in size and depth, UTF-8, no key twice, no NaN.

    Args:
        data: The bytes.
        what: What they should be, for the messages, for example ``"claim.json"``.
        max_bytes: Longest that is read.

    Raises:
        RecordError: Too long, too deep, cut off, or not JSON; the message says where.
    """
    if len(data) > max_bytes:
        raise RecordError(f"{what} has {len(data):,} bytes, expected at most {max_bytes:,}", hint="this isn't one of our records")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RecordError(f"{what} isn't UTF-8: byte {error.start} is {data[error.start]:#04x}", hint="copy it again") from error
    try:
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_refuse, parse_int=_integer)
    except json.JSONDecodeError as error:
        raise RecordError(f"{what} isn't JSON: line {error.lineno}, column {error.colno}: {error.msg}", hint="copy it again") from error
    except RecursionError as error:
        raise RecordError(f"{what} is nested more than {MAX_DEPTH} deep", hint="this isn't one of our records") from error
    except ValueError as error:
        raise RecordError(f"{what} isn't a record: {error}", hint="copy it again") from error
    _check_depth(value, what)
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key[:80]!r} occurs twice")
        found[key] = value
    return found


def _integer(digits: str) -> int | float:
    """Numbers are doubles (RFC 8785): what is beyond 53 bits is a float that happens to be whole."""
    value = int(digits)
    return value if -MAX_INTEGER <= value <= MAX_INTEGER else float(digits)


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} isn't a number of JSON")


def _check_depth(value: Any, what: str) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [child for each in level if isinstance(each, dict | list) for child in (each.values() if isinstance(each, dict) else each)]
        if not level:
            return
    raise RecordError(f"{what} is nested more than {MAX_DEPTH} deep", hint="this isn't one of our records")
