"""One measured number with its uncertainty."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Measurement:
    """A metric's value on one generation.

    Attributes:
        metric: Name of the quantity, for example ``"variance"`` or ``"block_perplexity.p50"``.
        value: The value, in the metric's unit; may be infinite (a perplexity), never NaN.
        stderr: Standard error of ``value`` as an estimate of the generation's law; ``None`` means exact: computed from the law itself.
        n: Records (or tokens, where the metric counts tokens) that the value rests on; 0 where it rests on a law.
    """

    metric: str
    value: float
    stderr: float | None
    n: int

    @property
    def exact(self) -> bool:
        """Whether the value has no sampling error."""
        return self.stderr is None
