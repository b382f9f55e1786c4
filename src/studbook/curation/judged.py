"""What a curator says of candidates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from studbook.arrays import Batch, Ints


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """What a curator makes of some candidates.

    Attributes:
        records: ``n`` records as the curator found them: generated ones may have been changed on the way to it.
        verdicts: ``(n,)`` -1 for a record that is kept, else the number of the reason that it is rejected for.
        reasons: The reasons, in few words each.
        details: Row to sentence, where there is more to say.
    """

    records: Batch
    verdicts: Ints
    reasons: tuple[str, ...]
    details: Mapping[int, str] = field(default_factory=dict)
