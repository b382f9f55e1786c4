"""The best weight for real records beside generated ones, when every generation is trained on both."""

from __future__ import annotations

import math

from studbook.errors import ConfigError


def golden_weight(ratio: float) -> float:
    """The weight share of the real records that minimises the long-run error, (√(k² + 4k) − k)/2.

    It solves w² = k(1 − w): with as many real as generated records (k = 1) it is the reciprocal of the golden ratio, .618, where
    pooling would give ½.

    Args:
        ratio: k = real records for each generated one, above 0.

    Returns:
        The share of the total weight on the real records, between 0 and 1.

    Raises:
        ConfigError: ``ratio`` isn't positive.

    References:
        H. He, S. Xu, G. Cheng, "Golden Ratio Weighting Prevents Model Collapse", 2025.

    Examples:
        >>> from studbook.theory import golden_weight
        >>> round(golden_weight(1.0), 3)
        0.618
    """
    if not ratio > 0.0:
        raise ConfigError(f"ratio is {ratio}, expected real records for each generated one, above 0")
    # (√(k² + 4k) − k)/2 without the difference of two nearly equal numbers that it is for a large k.
    return 2.0 / (1.0 + math.sqrt(1.0 + 4.0 / ratio))


def effective_sample_size(n_real: float, n_generated: float) -> float:
    """How many real records alone would give the long-run error of the golden-weighted mix: n_real / w*.

    Args:
        n_real: New real records a generation, above 0.
        n_generated: New generated records a generation, above 0.

    Returns:
        A number above ``n_real``: the generated records carry over what earlier real ones taught.

    Raises:
        ConfigError: A number isn't positive.

    References:
        H. He, S. Xu, G. Cheng, "Golden Ratio Weighting Prevents Model Collapse", 2025.

    Examples:
        >>> from studbook.theory import effective_sample_size
        >>> round(effective_sample_size(100, 100), 1)
        161.8
    """
    if not (n_real > 0.0 and n_generated > 0.0):
        raise ConfigError(f"{n_real} real and {n_generated} generated records, expected numbers above 0")
    return n_real / golden_weight(n_real / n_generated)
