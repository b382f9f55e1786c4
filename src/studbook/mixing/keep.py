"""A random share of the original data stays in."""

from __future__ import annotations

from dataclasses import dataclass

from studbook.mixing.checks import check_original, check_share
from studbook.mixing.part import Origin, Part


@dataclass(frozen=True, slots=True)
class Keep:
    """Each generation a new random share of the original replaces as much generated data.

    With ``share = 0.1`` this is the second language-model experiment of Shumailov et al. (Nature 2024).

    Attributes:
        share: Share of the training set that is original, 0 to 1.

    Examples:
        >>> from studbook.mixing import Keep
        >>> [(part.origin.value, part.n) for part in Keep(share=0.1).parts(200, 500)]
        [('original', 20), ('generated', 180)]
    """

    share: float

    def __post_init__(self) -> None:
        check_share("share", self.share)

    def parts(self, n: int, n_original: int) -> tuple[Part, ...]:
        """See ``studbook.mixing.Mix``."""
        kept = round(self.share * n)
        check_original(kept, n_original, f"keep with share {self.share}")
        return tuple(part for part in (Part(Origin.ORIGINAL, kept), Part(Origin.GENERATED, n - kept)) if part.n)
