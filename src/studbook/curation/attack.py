"""What somebody does to generated records on their way into the next corpus."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from studbook.arrays import Batch
from studbook.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Attack:
    """An attacker who changes what was generated, so that it isn't found.

    ``edit`` replaces a share of each record's words, in places drawn at random, by words drawn from the generated records themselves: the
    frequencies of words stay, what stood beside them goes.

    Attributes:
        kind: ``"none"`` or ``"edit"``.
        share: Share of the words of each record that are replaced, 0 to 1; rounded to whole words.

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import text
        >>> from studbook.curation import Attack
        >>> blocks = text(np.arange(40).reshape(2, 20), tuple(f"w{i}" for i in range(40)))
        >>> edited = Attack("edit", share=0.2).change(blocks, rng=np.random.default_rng(0))
        >>> (edited.values != blocks.values).sum(axis=1).tolist()
        [4, 4]
    """

    kind: Literal["none", "edit"] = "none"
    share: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0:
            raise ConfigError(f"curation.attack.share is {self.share}, expected a share from 0 to 1", hint="0.2 edits a fifth of the words")
        if (self.kind == "none") != (self.share == 0.0):
            raise ConfigError(
                f'curation.attack is "{self.kind}" with a share of {self.share:g}',
                hint='for example attack = { kind = "edit", share = 0.2 }, or no attack at all',
            )

    def change(self, generated: Batch, *, rng: np.random.Generator) -> Batch:
        """The records as they arrive.

        Args:
            generated: Text blocks ``(n, length)``.
            rng: The random stream.
        """
        values = generated.values
        n_edited = round(self.share * values.shape[1])
        if not n_edited or not len(values):
            return generated
        places = rng.permuted(np.tile(np.arange(values.shape[1]), (len(values), 1)), axis=1)[:, :n_edited]
        changed = np.array(values)
        words = values.ravel()[rng.integers(values.size, size=places.shape)]
        np.put_along_axis(changed, places, words, axis=1)
        return replace(generated, values=changed)
