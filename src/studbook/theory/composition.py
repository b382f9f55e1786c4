"""What the training set of one generation is made of, in counts and shares: all that the theory needs to know of a mix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from studbook.errors import ConfigError
from studbook.theory.golden_ratio import golden_weight


@dataclass(frozen=True, slots=True)
class Composition:
    """Counts of one generation's training set by origin.

    Attributes:
        generated: New records of the newest model, 0 or more.
        fresh: New real records that no generation has seen.
        original: Records drawn without replacement from the original data.
        previous: Records drawn without replacement from the previous generation's training set.
        pool: Size of the draw without replacement from the original and everything generated so far, ``generated`` new records included.
            ``None``: no pool; 0: all of it. With a pool, the other origins are 0.
        real_share: Share of the total weight on the fresh and original records; ``None`` weighs all records equally.

    Examples:
        >>> from studbook.theory import Composition
        >>> Composition(generated=95, fresh=5).size
        100
    """

    generated: int
    fresh: int = 0
    original: int = 0
    previous: int = 0
    pool: int | None = None
    real_share: float | None = None

    def __post_init__(self) -> None:
        counts = (self.generated, self.fresh, self.original, self.previous, self.pool or 0)
        if min(counts) < 0 or sum(counts) < 1:
            raise ConfigError(f"a training set of {counts} records was asked for, expected counts of 0 or more, at least one above 0")
        if self.pool is not None and (self.fresh or self.original or self.previous):
            raise ConfigError("a pool holds the original and all generated records; the other parts must be 0")
        if self.real_share is not None and not (0.0 < self.real_share < 1.0 and self.generated and not self.previous):
            raise ConfigError(f"real_share is {self.real_share}, expected a share between 0 and 1 beside generated records")

    @property
    def size(self) -> int:
        """Records in the training set; of a whole pool, those that each generation adds."""
        return self.pool or (self.generated + self.fresh + self.original + self.previous)

    @property
    def effective_size(self) -> float:
        """Kish's effective number of records, 1/Σw² of the records' normalised weights; ``size`` where they are equal."""
        if self.real_share is None:
            return float(self.size)
        return 1.0 / ((1.0 - self.real_share) ** 2 / self.generated + self.real_share**2 / (self.fresh + self.original))

    @property
    def shares(self) -> tuple[float, float, float, float]:
        """Shares of the weight of generated, fresh, original and previous records; they sum to 1. Meaningless for a pool."""
        counts = (self.generated, self.fresh, self.original, self.previous)
        if self.real_share is None:
            total = sum(counts)
            return (counts[0] / total, counts[1] / total, counts[2] / total, counts[3] / total)
        real = self.fresh + self.original
        if not real:
            raise ConfigError(f"real_share is {self.real_share}, but the training set has no real records")
        return (1.0 - self.real_share, self.real_share * self.fresh / real, self.real_share * self.original / real, 0.0)


def composition_of(mix: str, parameters: Mapping[str, object], n: int, n_original: int) -> Composition | None:
    """The composition behind a mix's name and parameters.

    Args:
        mix: ``replace``, ``accumulate``, ``subsample``, ``keep``, ``fresh``, ``contaminated``, ``blend`` or ``weighted``.
        parameters: ``share`` (keep, contaminated);
            ``fresh`` (fresh); ``alpha``, ``beta``, ``gamma`` (blend); ``weight`` and ``fresh`` (weighted).
        n: Records a generation, 1 or more.
        n_original: Size of the original data, 1 or more.

    Returns:
        ``None`` for a mix that the theory doesn't know.

    Examples:
        >>> from studbook.theory import composition_of
        >>> composition_of("keep", {"share": 0.1}, 100, 500)
        Composition(generated=90, fresh=0, original=10, previous=0, pool=None, real_share=None)
    """
    if mix == "replace":
        return Composition(n)
    if mix in {"accumulate", "subsample"}:
        return Composition(n, pool=0 if mix == "accumulate" else n)
    if mix == "keep":
        kept = round(_number(parameters, "share") * n)
        return Composition(n - kept, original=kept)
    if mix in {"fresh", "contaminated"}:
        fresh = int(_number(parameters, "fresh")) if mix == "fresh" else n - round(_number(parameters, "share") * n)
        return Composition(n - fresh, fresh=fresh)
    if mix == "blend":
        new = round(_number(parameters, "alpha") * n)
        previous = min(round(_number(parameters, "beta") * n), n - new)
        return Composition(new, previous=previous, original=n - new - previous)
    return _weighted(parameters, n, n_original) if mix == "weighted" else None


def _weighted(parameters: Mapping[str, object], n: int, n_original: int) -> Composition:
    fresh = int(_number(parameters, "fresh", 0.0))
    n_real = fresh or n_original
    golden = parameters.get("weight") == "golden"
    weight = golden_weight(n_real / n) if golden else _number(parameters, "weight")
    return Composition(n, fresh=fresh, original=0 if fresh else n_original, real_share=weight)


def _number(parameters: Mapping[str, object], name: str, default: float | None = None) -> float:
    value = parameters.get(name, default)
    if not isinstance(value, int | float):
        raise ConfigError(f"mix.{name} is {value!r}, expected a number")
    return float(value)
