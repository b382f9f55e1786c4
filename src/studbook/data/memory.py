"""Records that are already in memory, as a source."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from studbook.arrays import Batch
from studbook.data.dataset import Dataset


@dataclass(frozen=True, slots=True, eq=False)
class InMemory:
    """A batch or a data set that the caller built.

    Attributes:
        content: The records, or a whole data set.
        name: What to call it.

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import numbers
        >>> InMemory(numbers(np.arange(3.0))).load().name
        'in memory'
    """

    content: Batch | Dataset
    name: str = "in memory"

    def load(self) -> Dataset:
        """See ``studbook.data.dataset.Source``."""
        if isinstance(self.content, Dataset):
            return self.content
        batch = self.content
        digest = hashlib.sha256(f"{batch.space.kind} {batch.values.dtype.str} {batch.values.shape} {batch.space.vocabulary}".encode())
        for column in (batch.values, batch.weights, batch.labels):
            digest.update(b"-" if column is None else np.ascontiguousarray(column).tobytes())
        return Dataset(self.name, batch.space, digest.hexdigest(), records=batch, origin="passed from Python")
