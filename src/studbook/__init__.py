"""studbook: generative models that feed on each other's output."""

from __future__ import annotations

__version__ = "0.1.0"
