"""Poison first, then real records alone."""

from __future__ import annotations

from dataclasses import dataclass

from studbook.errors import ConfigError
from studbook.mixing.checks import check_original, check_share
from studbook.mixing.keep import Keep
from studbook.mixing.part import Mix, Origin, Part


@dataclass(frozen=True, slots=True)
class Heal:
    """A share of generated records up to a generation, then original records alone: what comes back?

    The protocol of Bohacek and Farid (arXiv 2311.12202), who poisoned an image model with 3.3 % of its own images and then retrained it on
    real ones, which healed it only in part. With a learner whose ``training.start`` is ``"previous"`` the poison works through the
    weights as well; where every generation is trained from scratch, the first healing generation is as good as generation 0.

    Attributes:
        share: Share of the training set that is generated in generations 1 to ``until``, 0 to 1; the rest is drawn without replacement
            from the original data.
        until: The last poisoned generation, 1 or more.

    Examples:
        >>> from studbook.mixing import Heal
        >>> mix = Heal(share=0.1, until=5)
        >>> [(part.origin.value, part.n) for part in mix.at(5).parts(200, 200)]
        [('original', 180), ('generated', 20)]
        >>> [(part.origin.value, part.n) for part in mix.at(6).parts(200, 200)]
        [('original', 200)]
    """

    share: float
    until: int

    def __post_init__(self) -> None:
        check_share("share", self.share)
        if self.until < 1:
            raise ConfigError(f"mix.until is {self.until}, expected a generation, 1 or more", hint="the last one that is poisoned")

    def parts(self, n: int, n_original: int) -> tuple[Part, ...]:
        """The poisoned generations' parts; see ``studbook.mixing.Mix``."""
        poison = round(self.share * n)
        if self.share and not poison:
            raise ConfigError(
                f"heal with share {self.share} of {n} records a generation is no generated record", hint="raise mix.share or study.samples"
            )
        check_original(n - poison, n_original, f"heal with share {self.share}")
        return tuple(part for part in (Part(Origin.ORIGINAL, n - poison), Part(Origin.GENERATED, poison)) if part.n)

    def at(self, generation: int) -> Mix:
        """The mix of one generation: this one up to ``until``, then original records alone."""
        return self if generation <= self.until else Keep(share=1.0)
