"""Accumulate, then train on a fixed number of records."""

from __future__ import annotations

from dataclasses import dataclass

from studbook.mixing.part import Origin, Part


@dataclass(frozen=True, slots=True)
class Subsample:
    """``n`` records drawn without replacement from everything so far, the original included (Kazdan et al. 2025).

    The cost of a generation stays constant while the pool grows.

    Examples:
        >>> from studbook.mixing import Subsample
        >>> Subsample().parts(100, 100)[0].n
        100
    """

    def parts(self, n: int, n_original: int) -> tuple[Part, ...]:
        """See ``studbook.mixing.Mix``."""
        return (Part(Origin.POOL, n),)
