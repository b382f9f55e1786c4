"""Labelled pictures for classifiers: training rows, and rows that are held out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studbook.arrays import Ints, Kind
from studbook.data import open_source
from studbook.errors import DataError
from studbook.rng import stream


@dataclass(frozen=True, slots=True, eq=False)
class LabelledPictures:
    """Real pictures with their classes.

    Attributes:
        pixels: ``(n, h, w)`` or ``(n, h, w, c)`` float32 in [0, 1], the training rows.
        labels: ``(n,)`` classes, numbered from 0.
        held_pixels: Those held out.
        held_labels: Their classes.
        n_classes: Classes.
        digest: Of all pictures and labels, and of which are held out.
    """

    pixels: NDArray[np.float32]
    labels: Ints
    held_pixels: NDArray[np.float32]
    held_labels: Ints
    n_classes: int
    digest: str

    @property
    def flat(self) -> NDArray[np.float32]:
        """The training pixels as ``(n, pixels)``."""
        return self.pixels.reshape(len(self.pixels), -1)

    @property
    def held_flat(self) -> NDArray[np.float32]:
        """The held-out pixels as ``(n, pixels)``."""
        return self.held_pixels.reshape(len(self.held_pixels), -1)

    def about(self) -> Mapping[str, Any]:
        """What determines them, as JSON's types."""
        return {"data": self.digest, "rows": len(self.labels), "held_out": len(self.held_labels), "classes": self.n_classes}


def load_pictures(data: str, held_out: float, limit: int = 0) -> LabelledPictures:
    """The pictures of a source, a share of them held out at random: the same ones on every machine.

    Args:
        data: ``digits``, ``mnist5k``, or a file of labelled pictures.
        held_out: Share that is held out, above 0 and below 1.
        limit: Rows that are kept, at random; 0 keeps all.

    Raises:
        DataError: No pictures, no labels, or too few.
        MissingExtraError: The source needs a package that isn't installed.
    """
    dataset = open_source(data).load()
    batch = dataset.records
    if batch is None or batch.space.kind is not Kind.IMAGES or batch.labels is None:
        raise DataError(f"{data} has no labelled pictures", hint="take digits, mnist5k, or MNIST's own files with the labels beside them")
    order = stream(0, "held out").permutation(len(batch))[: limit or None]
    n_held = round(held_out * len(order))
    if not 0 < n_held < len(order):
        raise DataError(
            f"{data} has {len(order):,} pictures, of which {n_held:,} would be held out", hint="set held_out, for example to 0.2"
        )
    low, high = batch.space.value_range
    pixels = ((batch.values - low) / (high - low)).astype(np.float32)
    classes, labels = np.unique(batch.labels, return_inverse=True)
    held, kept = np.sort(order[:n_held]), np.sort(order[n_held:])
    digest = f"sha256:{dataset.digest}/{len(kept)}+{n_held}"
    return LabelledPictures(pixels[kept], labels[kept], pixels[held], labels[held], len(classes), digest)
