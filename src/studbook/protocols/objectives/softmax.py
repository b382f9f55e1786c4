"""Softmax regression on pictures: convex, so that whatever differs between protocols is the protocol's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from studbook.arrays import Ints
from studbook.neural.options import require
from studbook.parameters import conform
from studbook.protocols.objective import Gradient
from studbook.protocols.objectives._losses import as_gradient, cross_entropy, measures
from studbook.protocols.objectives._pictures import LabelledPictures, load_pictures
from studbook.protocols.objectives._threads import one_blas_thread
from studbook.protocols.values import Parameters


@dataclass(frozen=True, slots=True)
class Softmax:
    """Softmax regression: a matrix and a bias, from 0.

    Attributes:
        data: ``digits``, ``mnist5k``, or a file of labelled pictures.
        held_out: Share of the pictures that is held out, at random.
        limit: Pictures that are kept, at random; 0 keeps all.
        decay: Weight of half the squared length of the matrix in the loss, 0 or more.

    Raises:
        ConfigError: A value out of range.

    Examples:
        >>> import numpy as np
        >>> from studbook.protocols.objectives import Softmax
        >>> objective = Softmax("digits").load()
        >>> start = objective.initial(rng=np.random.default_rng(0))
        >>> round(objective.gradient(start, np.arange(100), rng=np.random.default_rng(0)).loss, 3)  # log(10)
        2.303
    """

    data: str = "digits"
    held_out: float = 0.2
    limit: int = 0
    decay: float = 0.0

    def __post_init__(self) -> None:
        conform(self, "objective")
        require(0.0 < self.held_out < 1.0, "objective", "held_out", self.held_out, "a share above 0 and below 1")
        require(self.limit >= 0, "objective", "limit", self.limit, "0 (all) or more pictures")
        require(0.0 <= self.decay < 1e6, "objective", "decay", self.decay, "0 or more")

    def load(self) -> SoftmaxObjective:
        """The objective, with its data.

        Raises:
            DataError: No labelled pictures.
        """
        return SoftmaxObjective(load_pictures(self.data, self.held_out, self.limit), self.decay)


@dataclass(frozen=True, slots=True, eq=False)
class SoftmaxObjective:
    """Softmax regression on a data set: ``weights`` ``(pixels, classes)`` and ``bias`` ``(classes,)``.

    Attributes:
        pictures: The data.
        decay: See ``Softmax``.
    """

    pictures: LabelledPictures
    decay: float = 0.0

    @property
    def n_rows(self) -> int:
        """Training rows."""
        return len(self.pictures.labels)

    @property
    def labels(self) -> Ints:
        """The class of each row."""
        return self.pictures.labels

    def initial(self, *, rng: np.random.Generator) -> Parameters:
        """All 0; nothing is drawn."""
        shape = (self.pictures.flat.shape[1], self.pictures.n_classes)
        return {"weights": np.zeros(shape, np.float32), "bias": np.zeros(shape[1], np.float32)}

    def gradient(self, parameters: Parameters, rows: Ints, *, rng: np.random.Generator) -> Gradient:
        """The gradient over rows; nothing in it is random."""
        x, weights = self.pictures.flat[rows], parameters["weights"]
        with one_blas_thread():
            slopes, loss = cross_entropy(x @ weights + parameters["bias"], self.labels[rows])
            found = {"weights": x.T @ slopes, "bias": slopes.sum(axis=0)}
        if self.decay:
            loss += 0.5 * self.decay * float(np.square(weights, dtype=np.float64).sum())
            found["weights"] = found["weights"] + np.float32(self.decay) * weights
        return as_gradient(found, loss, len(rows))

    def evaluate(self, parameters: Parameters) -> Mapping[str, float]:
        """``loss`` (nats) and ``accuracy`` on what is held out."""
        with one_blas_thread():
            logits = self.pictures.held_flat @ parameters["weights"] + parameters["bias"]
        return measures(logits, self.pictures.held_labels)

    def describe(self) -> Mapping[str, Any]:
        """What determines it."""
        return {"objective": "softmax", "decay": self.decay, **self.pictures.about()}
