"""What a step's last bits depend on beside the node: two places where it is the same give the same bits, on one thread."""

from __future__ import annotations

import functools
import platform
from importlib.metadata import PackageNotFoundError, version

import numpy as np


@functools.cache
def numerics() -> str:
    """Versions of what computes, and the instructions that they found here, in one line.

    Examples:
        >>> from studbook.protocols.numerics import numerics
        >>> numerics().startswith("NumPy ")
        True
    """
    found = [f"NumPy {np.__version__} {_instructions()}", _blas(), _torch(), platform.machine()]
    return ", ".join(each for each in found if each)[:200]


def _instructions() -> str:
    extensions = np.show_config(mode="dicts").get("SIMD Extensions", {})
    several = [*extensions.get("baseline", []), *extensions.get("found", [])]
    return several[-1] if several else "without extensions"


def _blas() -> str:
    from threadpoolctl import threadpool_info

    several = [each for each in threadpool_info() if each["user_api"] == "blas"]
    own = [each for each in several if "numpy" in each["filepath"]] or several  # SciPy may bring one of its own
    return " ".join(str(own[0].get(name) or "") for name in ("internal_api", "version", "architecture")) if own else ""


def _torch() -> str:
    try:
        return f"PyTorch {version('torch')}"
    except PackageNotFoundError:
        return ""
