"""What a sound answer of a node has to have, by the kind of what it was asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from studbook.errors import RecordError

_LONGEST_TEXT = 1000


def _is_number(value: object) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < 1 << 53)


def _is_step(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST_TEXT and value.isprintable()  # a lone surrogate isn't


def _is_record(value: object) -> bool:
    return isinstance(value, str) and value.isascii()


_EXPECTED: Mapping[str, Mapping[str, Callable[[Any], bool]]] = {
    "gradient": {"loss": _is_number, "n": lambda n: type(n) is int and 1 <= n < 1 << 40},
    "advance": {"losses": lambda losses: isinstance(losses, list) and len(losses) > 0 and all(map(_is_number, losses))},
    "evaluate": {"measures": lambda found: isinstance(found, Mapping) and all(map(_is_number, found.values()))},
    "commit": {"step": _is_step, "key": _is_text, "numerics": _is_text},
    "seal": {"commitment": _is_record},
    "save": {"step": _is_step},
}


def require_fields(asked: str, fields: Mapping[str, Any]) -> None:
    """Refuse an answer without the fields that it has to have, or with what can't be in them.

    Raises:
        RecordError: It lacks one.

    Examples:
        >>> from studbook.protocols.answers import require_fields
        >>> require_fields("gradient", {"loss": 0.3, "n": 32})
    """
    for name, sound in _EXPECTED.get(asked, {}).items():
        if name not in fields or not sound(fields[name]):
            raise RecordError(f"its answer to {asked!r} has no {name!r} that can be")
