"""A network of one hidden layer on pictures; a client may hold some of its neurons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from studbook.arrays import Ints
from studbook.neural.options import require
from studbook.parameters import conform
from studbook.protocols.objective import Gradient
from studbook.protocols.objectives._layout import Layout
from studbook.protocols.objectives._losses import as_gradient, cross_entropy, measures, random_matrix
from studbook.protocols.objectives._pictures import LabelledPictures, load_pictures
from studbook.protocols.objectives._threads import one_blas_thread
from studbook.protocols.values import Parameters


@dataclass(frozen=True, slots=True)
class Mlp:
    """A multilayer perceptron with one hidden layer of rectified units.

    Attributes:
        data: ``digits``, ``mnist5k``, or a file of labelled pictures.
        hidden: Neurons of the hidden layer: the group of keys ``neurons``.
        held_out: Share of the pictures that is held out, at random.
        limit: Pictures that are kept, at random; 0 keeps all.

    Raises:
        ConfigError: A value out of range.

    Examples:
        >>> from studbook.protocols.objectives import Mlp
        >>> Mlp("digits", hidden=16).load().groups()
        {'neurons': 16}
    """

    data: str = "digits"
    hidden: int = 64
    held_out: float = 0.2
    limit: int = 0

    def __post_init__(self) -> None:
        conform(self, "objective")
        require(1 <= self.hidden <= 1 << 16, "objective", "hidden", self.hidden, "1 to 65,536 neurons")
        require(0.0 < self.held_out < 1.0, "objective", "held_out", self.held_out, "a share above 0 and below 1")
        require(self.limit >= 0, "objective", "limit", self.limit, "0 (all) or more pictures")

    def load(self) -> MlpObjective:
        """The objective, with its data.

        Raises:
            DataError: No labelled pictures.
        """
        return MlpObjective(load_pictures(self.data, self.held_out, self.limit), self.hidden)


@dataclass(frozen=True, slots=True, eq=False)
class MlpObjective:
    """The network on a data set: ``inner`` ``(pixels, neurons)``, ``inner_bias``, ``outer`` ``(neurons, classes)``, ``outer_bias``.

    Attributes:
        pictures: The data.
        hidden: Neurons.
    """

    pictures: LabelledPictures
    hidden: int

    @property
    def n_rows(self) -> int:
        """Training rows."""
        return len(self.pictures.labels)

    @property
    def labels(self) -> Ints:
        """The class of each row."""
        return self.pictures.labels

    @property
    def layout(self) -> Layout:
        """A neuron is a column of the inner matrix and a row of the outer one."""
        axes = {"inner": (None, "neurons"), "inner_bias": ("neurons",), "outer": ("neurons", None)}
        return Layout({"neurons": self.hidden}, axes)

    def initial(self, *, rng: np.random.Generator) -> Parameters:
        """Normal numbers in the matrices, biases of 0."""
        n_in, n_out = self.pictures.flat.shape[1], self.pictures.n_classes
        return {
            "inner": random_matrix((n_in, self.hidden), n_in, rng=rng),
            "inner_bias": np.zeros(self.hidden, np.float32),
            "outer": random_matrix((self.hidden, n_out), self.hidden, rng=rng),
            "outer_bias": np.zeros(n_out, np.float32),
        }

    def gradient(self, parameters: Parameters, rows: Ints, *, rng: np.random.Generator) -> Gradient:
        """The gradient over rows; nothing in it is random. Fewer neurons are a smaller network."""
        x = self.pictures.flat[rows]
        with one_blas_thread():
            hidden = np.maximum(x @ parameters["inner"] + parameters["inner_bias"], 0)
            slopes, loss = cross_entropy(hidden @ parameters["outer"] + parameters["outer_bias"], self.labels[rows])
            back = (slopes @ parameters["outer"].T) * (hidden > 0)
            found = {"inner": x.T @ back, "inner_bias": back.sum(0), "outer": hidden.T @ slopes, "outer_bias": slopes.sum(0)}
        return as_gradient(found, loss, len(rows))

    def evaluate(self, parameters: Parameters) -> Mapping[str, float]:
        """``loss`` (nats) and ``accuracy`` on what is held out."""
        with one_blas_thread():
            hidden = np.maximum(self.pictures.held_flat @ parameters["inner"] + parameters["inner_bias"], 0)
            logits = hidden @ parameters["outer"] + parameters["outer_bias"]
        return measures(logits, self.pictures.held_labels)

    def describe(self) -> Mapping[str, Any]:
        """What determines it."""
        return {"objective": "mlp", "hidden": self.hidden, **self.pictures.about()}

    def groups(self) -> Mapping[str, int]:
        """The neurons."""
        return self.layout.sizes

    def take(self, parameters: Parameters, keys: Mapping[str, Ints]) -> Parameters:
        """See ``Sliced``."""
        return self.layout.take(parameters, keys)

    def scatter(self, update: Parameters, keys: Mapping[str, Ints], like: Parameters) -> tuple[Parameters, Parameters]:
        """See ``Sliced``."""
        return self.layout.scatter(update, keys, like)

    def slice_gradient(self, part: Parameters, keys: Mapping[str, Ints], rows: Ints, *, rng: np.random.Generator) -> Gradient:
        """See ``Sliced``: the gradient of the smaller network."""
        return self.gradient(part, rows, rng=rng)

    def frequent_keys(self, rows: Ints, group: str, m: int) -> Ints:
        """The first ``m`` neurons: for the data they are all equal."""
        return self.layout.first(group, m)
