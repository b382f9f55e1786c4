"""Finding SynthID-Text watermarks (Dathathri et al. 2024) without a trained model: the mean g-value, tested exactly."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from studbook.arrays import AnyArray
from studbook.errors import MissingExtraError
from studbook.marks.scanning import Part
from studbook.marks.settings import SynthId

_MULTIPLIER = 6364136223846793005


@dataclass(frozen=True, slots=True, eq=False)
class SynthIdScorer:
    """G-values of one mark; see ``scanning.Scorer``.

    The table of g-values is PyTorch's (``torch.randint``), so that PyTorch is needed to make it, once.
    """

    mark: SynthId
    table: AnyArray = field(repr=False)
    sums: AnyArray = field(repr=False)

    @classmethod
    def of(cls, mark: SynthId) -> SynthIdScorer:
        """Draw the table, and add up the keys' g-values for each hash where that can be done.

        Raises:
            MissingExtraError: PyTorch isn't installed.
        """
        table = draw_table(mark)
        size = mark.table_size
        sums = np.zeros(0 if size & (size - 1) else size, np.uint8)
        if sums.size:
            hashes = np.arange(size, dtype=np.uint64)
            for key in mark.keys:
                # The low bits of a sum and a product depend on their low bits alone.
                places = ((hashes + np.uint64(key % 2**64)) * np.uint64(_MULTIPLIER) + np.uint64(1)) & np.uint64(size - 1)
                sums += table[places.astype(np.int64)]
        return cls(mark, table, sums)

    @property
    def rate(self) -> float:
        """Share of ones in the table."""
        return float(self.table.mean(dtype=np.float64))

    @property
    def weight(self) -> int:
        """A token is as many trials as there are keys."""
        return len(self.mark.keys)

    @property
    def shared(self) -> object:
        """Marks with an equal one have the same places that count."""
        return (self.mark.name, self.mark.ngram)

    def fresh(self, part: Part) -> AnyArray:
        """Places whose context, the ``ngram`` - 1 tokens before, comes for the first time and lies behind the prompt.

        The generator begins with an empty context behind the prompt, so that what overlaps the prompt carries no mark.
        """
        from studbook.marks._kernels import find_first

        width = self.mark.ngram
        behind = np.minimum(part.bounds[:-1] + part.prompts + width - 1, part.bounds[1:])
        # Contexts end one place before the token.
        contexts = np.zeros(part.ids.size + 1, np.uint8)
        find_first(part.ids, behind - 1, np.maximum(part.bounds[1:] - 1, behind - 1), width - 1, contexts[1:])
        return contexts[:-1]

    def once(self, part: Part, fresh: AnyArray) -> AnyArray:
        """Of the places that count those whose n-gram comes first in all texts together: ``(n,)`` uint8."""
        width = self.mark.ngram
        places = np.flatnonzero(fresh)
        found = np.zeros_like(fresh)
        if places.size:
            ngrams = np.lib.stride_tricks.sliding_window_view(part.ids, width)[places - width + 1]
            rows = np.ascontiguousarray(ngrams).view(np.dtype((np.void, 4 * width)))[:, 0]
            found[places[np.unique(rows, return_index=True)[1]]] = 1
        return found

    def hits(self, part: Part, fresh: AnyArray) -> AnyArray:
        """How many g-values are 1 at each place that counts."""
        from studbook.marks._kernels import count_ones, count_ones_widely

        hits = np.zeros(part.ids.size, np.uint8)
        if self.sums.size:
            count_ones(part.ids, fresh, self.mark.ngram, self.sums, hits)
        else:
            keys = np.array([key % 2**64 for key in self.mark.keys], np.uint64)
            count_ones_widely(part.ids, fresh, self.mark.ngram, keys, self.table, hits)
        return hits


def draw_table(mark: SynthId) -> AnyArray:
    """The table of g-values: ``(table_size,)`` uint8 of 0 and 1.

    Raises:
        MissingExtraError: PyTorch isn't installed.
    """
    try:
        import torch
    except ImportError:
        raise MissingExtraError("SynthID's table needs PyTorch, which isn't installed", hint="pip install 'studbook[neural]'") from None
    generator = torch.Generator().manual_seed(mark.table_seed)
    return np.asarray(torch.randint(0, 2, (mark.table_size,), generator=generator).numpy().astype(np.uint8))
