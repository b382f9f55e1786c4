"""Generated data pile up beside the original."""

from __future__ import annotations

from dataclasses import dataclass

from studbook.mixing.part import Origin, Part


@dataclass(frozen=True, slots=True)
class Accumulate:
    """The original data and everything generated so far, ``n`` new records included (Gerstgrasser et al. 2024).

    The training set grows by ``n`` a generation.

    Examples:
        >>> from studbook.mixing import Accumulate
        >>> [part.origin.value for part in Accumulate().parts(100, 100)]
        ['pool']
    """

    def parts(self, n: int, n_original: int) -> tuple[Part, ...]:
        """See ``studbook.mixing.Mix``."""
        return (Part(Origin.POOL, None),)
