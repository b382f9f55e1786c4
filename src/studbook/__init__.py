"""studbook: generative models that feed on each other's output.

The names below are the Python API; they are loaded when first used, so that ``import studbook`` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "Result": "studbook.api",
    "Study": "studbook.api",
    "create_study": "studbook.api",
    "load_result": "studbook.api",
    "resume_study": "studbook.api",
    "dose": "studbook.planning",
    "forecast": "studbook.planning",
}

__all__ = ["Result", "Study", "__version__", "create_study", "dose", "forecast", "load_result", "resume_study"]

if TYPE_CHECKING:
    from studbook.api import Result, Study, create_study, load_result, resume_study
    from studbook.planning import dose, forecast


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'studbook' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
