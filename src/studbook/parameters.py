"""Frozen dataclasses built from plain mappings (a table of a TOML file, keyword arguments), with errors that say what to write."""

from __future__ import annotations

import dataclasses
import difflib
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from studbook.errors import ConfigError

T = TypeVar("T")

_SINGULAR = {int: "an integer", float: "a number", str: "a text", bool: "true or false", type(None): "nothing"}
_PLURAL = {int: "integers", float: "numbers", str: "texts", bool: "true or false"}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a source, learner, mix or metric, for the catalog.

    Attributes:
        name: Its key in the study file.
        expected: What it takes, in words, for example ``"an integer"``.
        default: Its default, or ``None`` where it has to be given.
        required: Whether it has to be given.
    """

    name: str
    expected: str
    default: object
    required: bool

    def __str__(self) -> str:
        return self.name if self.required else f"{self.name}={_literal(self.default)}"


def parameters_of(cls: type[Any]) -> tuple[Parameter, ...]:
    """The parameters of a dataclass, in order.

    Examples:
        >>> from dataclasses import dataclass
        >>> from studbook.parameters import parameters_of
        >>> @dataclass(frozen=True, slots=True)
        ... class Keep:
        ...     share: float
        ...     shuffle: bool = True
        >>> [str(parameter) for parameter in parameters_of(Keep)]
        ['share', 'shuffle=true']
    """
    hints = get_type_hints(cls)
    return tuple(_parameter(field, hints[field.name]) for field in dataclasses.fields(cls) if field.init)


def build(cls: type[T], parameters: Mapping[str, object], where: str = "data") -> T:
    """The dataclass ``cls`` with these parameters, strictly typed: a text is never taken for a number, nor ``true`` for 1.

    Args:
        cls: A dataclass whose fields are plain types: int, float, str, bool, ``Literal``, ``tuple[..., ...]``, ``X | None``, or such
            dataclasses, which are built from tables inside the table; what such a table leaves out is as in the field's default.
        parameters: Values by field name, as a TOML table gives them; lists are taken for tuples, integers for numbers.
        where: Name of the table, for the messages.

    Raises:
        ConfigError: Unknown name (with the nearest one), missing value, wrong type, or whatever ``cls`` refuses by itself.

    Examples:
        >>> from dataclasses import dataclass
        >>> from studbook.errors import ConfigError
        >>> from studbook.parameters import build
        >>> @dataclass(frozen=True, slots=True)
        ... class Keep:
        ...     share: float
        >>> build(Keep, {"share": 1}, where="mix")
        Keep(share=1.0)
        >>> try:
        ...     build(Keep, {"shar": 0.1}, where="mix")
        ... except ConfigError as error:
        ...     print(error)
        mix has no parameter 'shar' (did you mean 'share'?)
    """
    known = parameters_of(cls)
    names = [parameter.name for parameter in known]
    for name in parameters:
        if name not in names:
            raise ConfigError(f"{where} has no parameter {name!r}", hint=nearest(str(name), names, noun="parameter"))
    for parameter in known:
        if parameter.required and parameter.name not in parameters:
            message = f"{where} needs {parameter.name!r}, {parameter.expected}"
            raise ConfigError(message, hint=f"set {where}.{parameter.name}")
    hints, defaults = get_type_hints(cls), {parameter.name: parameter.default for parameter in known}
    return cls(**{name: _built(value, hints[name], f"{where}.{name}", defaults[name]) for name, value in parameters.items()})


def conform(instance: Any, where: str) -> None:
    """Bring the fields of a dataclass to their types, as ``build`` does; for the first line of its ``__post_init__``.

    What is written in Python is then as strictly typed as a study file: a text isn't taken for a number, and a mapping is taken for the
    dataclass that a field wants.

    Args:
        instance: Of a dataclass that ``build`` could have built; may be frozen.
        where: Name of its table, for the messages.

    Raises:
        ConfigError: Wrong type, or unknown name in a mapping.

    Examples:
        >>> from dataclasses import dataclass
        >>> from studbook.errors import ConfigError
        >>> from studbook.parameters import conform
        >>> @dataclass(frozen=True, slots=True)
        ... class Keep:
        ...     share: float
        ...     def __post_init__(self) -> None:
        ...         conform(self, "mix")
        >>> try:
        ...     Keep(share="0.1")
        ... except ConfigError as error:
        ...     print(error)
        mix.share is "0.1" (a text), expected a number
    """
    kind: Any = type(instance)
    hints = _hints(kind)
    for field in (each for each in dataclasses.fields(instance) if each.init):
        value = getattr(instance, field.name)
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        if value is not default:
            plain = value.item() if getattr(value, "shape", None) == () else value  # a number of NumPy
            object.__setattr__(instance, field.name, _built(plain, hints[field.name], f"{where}.{field.name}", default))


@cache
def _hints(cls: Any) -> dict[str, Any]:
    return get_type_hints(cls)


def nearest(name: str, known: Iterable[str], noun: str = "name") -> str:
    """A hint for an unknown name: the nearest known one, else all of them.

    Examples:
        >>> from studbook.parameters import nearest
        >>> nearest("gausian", ["gaussian", "poisson"])
        "did you mean 'gaussian'?"
        >>> nearest("tree", ["gaussian", "poisson"], noun="learner")
        'the learners are gaussian, poisson'
    """
    names = list(known)
    by_fold = {candidate.casefold(): candidate for candidate in names}
    close = difflib.get_close_matches(name[:200].casefold(), by_fold, n=1)
    if close:
        return f"did you mean {by_fold[close[0]]!r}?"
    return f"the {noun}s are {', '.join(names)}" if names else f"there are no {noun}s"


def _parameter(field: dataclasses.Field[Any], hint: object) -> Parameter:
    default = field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    required = default is dataclasses.MISSING
    return Parameter(field.name, _expected(hint), None if required else default, required)


def _built(value: object, hint: Any, name: str, default: object) -> object:
    if not dataclasses.is_dataclass(hint) or isinstance(value, hint):  # type: ignore[arg-type]
        return _checked(value, hint, name)
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name} is {_got(value)}, expected a table", hint=f"write [{name}] and its keys below it")
    # What the table leaves out is as in the field's own default: a learner's training, not anybody's.
    rest = {f.name: getattr(default, f.name) for f in dataclasses.fields(hint)} if isinstance(default, hint) else {}  # type: ignore[arg-type]
    return build(hint, {**rest, **value}, name)  # type: ignore[arg-type]


def _checked(value: object, hint: Any, name: str) -> object:
    if type(value) is hint or (get_origin(hint) is Literal and isinstance(value, str) and value in get_args(hint)):
        return value  # most are, and pydantic takes its time to load
    from pydantic import ValidationError

    plain = _tuples(value)
    try:
        return _adapter(hint).validate_python(plain, strict=True)
    except ValidationError as error:
        suggestion = None
        if get_origin(hint) is Literal and isinstance(value, str):
            suggestion = nearest(value, map(str, get_args(hint)), noun="choice")
        raise ConfigError(f"{name} is {_got(value)}, expected {_expected(hint)}", hint=suggestion) from error


@cache
def _adapter(hint: Any) -> Any:
    # Here and not above: the command line's --help doesn't pay for pydantic.
    from pydantic import TypeAdapter

    return TypeAdapter(hint)


def _tuples(value: object) -> object:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value


def _got(value: object) -> str:
    kind = {bool: "", int: "", float: "", str: " (a text)", list: " (a list)", tuple: " (a list)", dict: " (a table)"}
    text = _literal(value)
    text = text if len(text) <= 60 else text[:57] + "…"
    return text + kind.get(type(value), f" ({type(value).__name__})")


def _literal(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return f"[{', '.join(_literal(item) for item in value)}]"
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _expected(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        choices = [_literal(choice) for choice in arguments]
        return choices[0] if len(choices) == 1 else f"{', '.join(choices[:-1])} or {choices[-1]}"
    if origin in (Union, types.UnionType):
        return " or ".join(_expected(argument) for argument in arguments if argument is not type(None))
    if origin is tuple:
        inner = arguments[0] if arguments else str
        return f"a list of {_PLURAL.get(inner, _expected(inner))}"
    return _SINGULAR.get(hint, getattr(hint, "__name__", str(hint)))
