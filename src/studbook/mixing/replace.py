"""Each generation trains on the previous one's output alone."""

from __future__ import annotations

from dataclasses import dataclass

from studbook.mixing.part import Origin, Part


@dataclass(frozen=True, slots=True)
class Replace:
    """``n`` new generated records, nothing else: the setting of Shumailov et al. (Nature 2024) without original data.

    Examples:
        >>> from studbook.mixing import Replace
        >>> Replace().parts(100, 100)
        (Part(origin=<Origin.GENERATED: 'generated'>, n=100, weight=1.0),)
    """

    def parts(self, n: int, n_original: int) -> tuple[Part, ...]:
        """See ``studbook.mixing.Mix``."""
        return (Part(Origin.GENERATED, n),)
