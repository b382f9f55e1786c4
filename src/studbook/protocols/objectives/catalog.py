"""Objectives by name, for config files, the command line and nodes in other processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

from studbook.errors import ConfigError
from studbook.parameters import Parameter, build, nearest, parameters_of
from studbook.protocols.objective import Objective
from studbook.protocols.objectives.cnn import Cnn
from studbook.protocols.objectives.embedding import Embedding
from studbook.protocols.objectives.mlp import Mlp
from studbook.protocols.objectives.next_word import NextWord
from studbook.protocols.objectives.soft_prompt import SoftPrompt
from studbook.protocols.objectives.softmax import Softmax
from studbook.protocols.objectives.tags import Tags


class Settings(Protocol):
    """A frozen dataclass that says what an objective is, and loads its data."""

    def load(self) -> Objective:
        """The objective."""
        ...


@dataclass(frozen=True, slots=True)
class Factory:
    """Makes an objective from plain settings.

    Attributes:
        settings: The dataclass of its settings.
    """

    settings: type[Settings]

    def __call__(self, settings: Mapping[str, Any]) -> Objective:
        """The objective, with its data.

        Raises:
            ConfigError: Unknown or impossible settings.
            DataError: Its data can't be had.
            MissingExtraError: It needs a package that isn't installed.
        """
        return build(self.settings, settings, "objective").load()

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Its settings with their defaults."""
        return parameters_of(self.settings)


OBJECTIVES: Mapping[str, Factory] = MappingProxyType(
    {
        "softmax": Factory(Softmax),
        "mlp": Factory(Mlp),
        "cnn": Factory(Cnn),
        "tags": Factory(Tags),
        "next_word": Factory(NextWord),
        "embedding": Factory(Embedding),
        "soft_prompt": Factory(SoftPrompt),
    }
)
"""Every objective that has a name."""


def open_objective(name: str, settings: Mapping[str, Any] | None = None) -> Objective:
    """The objective of that name.

    Raises:
        ConfigError: No such objective (with the nearest name), or impossible settings.

    Examples:
        >>> from studbook.protocols.objectives import open_objective
        >>> open_objective("softmax", {"data": "digits"}).n_rows
        1438
    """
    if name not in OBJECTIVES:
        raise ConfigError(f"there is no objective {name!r}", hint=nearest(name, OBJECTIVES, noun="objective"))
    return OBJECTIVES[name](settings or {})
