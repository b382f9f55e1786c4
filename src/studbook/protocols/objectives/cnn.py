"""A convolutional network on pictures; a client may hold some of its filters, and some of its neurons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from studbook.arrays import AnyArray, Ints
from studbook.errors import DataError
from studbook.neural.options import require, require_extra
from studbook.parameters import conform
from studbook.protocols.objective import Gradient
from studbook.protocols.objectives._layout import Layout
from studbook.protocols.objectives._losses import measures, random_matrix
from studbook.protocols.objectives._pictures import LabelledPictures, load_pictures
from studbook.protocols.objectives._threads import one_torch_thread
from studbook.protocols.objectives._torch import as_tensors, torch_gradient
from studbook.protocols.values import Parameters

if TYPE_CHECKING:
    from torch import Tensor

_SMALLEST = 12
_CHUNK = 512


@dataclass(frozen=True, slots=True)
class Cnn:
    """Two convolutions, each with a rectifier and a pool, one hidden layer, and the classes (after Charles et al. 2022, for EMNIST).

    Attributes:
        data: ``mnist5k``, or a file of labelled pictures of 12 pixels a side or more.
        early: Filters of the first convolution, 5 × 5; always whole.
        filters: Filters of the second one, 3 × 3: the group of keys ``filters``.
        hidden: Neurons of the hidden layer: the group of keys ``neurons``.
        held_out: Share of the pictures that is held out, at random.
        limit: Pictures that are kept, at random; 0 keeps all.

    Raises:
        ConfigError: A value out of range.
    """

    data: str = "mnist5k"
    early: int = 8
    filters: int = 64
    hidden: int = 64
    held_out: float = 0.2
    limit: int = 0

    def __post_init__(self) -> None:
        conform(self, "objective")
        for name in ("early", "filters", "hidden"):
            require(1 <= getattr(self, name) <= 4096, "objective", name, getattr(self, name), "1 to 4,096")
        require(0.0 < self.held_out < 1.0, "objective", "held_out", self.held_out, "a share above 0 and below 1")
        require(self.limit >= 0, "objective", "limit", self.limit, "0 (all) or more pictures")

    def load(self) -> CnnObjective:
        """The objective, with its data.

        Raises:
            DataError: No labelled pictures, or too small ones.
            MissingExtraError: PyTorch isn't installed.
        """
        require_extra()
        pictures = load_pictures(self.data, self.held_out, self.limit)
        height, width = pictures.pixels.shape[1:3]
        if min(height, width) < _SMALLEST:
            message = f"{self.data} has pictures of {height} × {width} pixels, expected {_SMALLEST} or more a side"
            raise DataError(message, hint="take mnist5k, or the objective mlp")
        return CnnObjective(pictures, self.early, self.filters, self.hidden)


@dataclass(frozen=True, slots=True, eq=False)
class CnnObjective:
    """The network on a data set.

    Parameters: ``early`` ``(early, channels, 5, 5)``, ``filters`` ``(filters, early, 3, 3)``, ``inner`` ``(filters, places, neurons)``,
    ``outer`` ``(neurons, classes)``, each with a bias.

    Attributes:
        pictures: The data.
        early: Filters of the first convolution.
        filters: Filters of the second one.
        hidden: Neurons.
    """

    pictures: LabelledPictures
    early: int
    filters: int
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
        """A filter is one of the second convolution's, with its bias and what the hidden layer makes of it."""
        axes = {
            "filters": ("filters", None, None, None),
            "filters_bias": ("filters",),
            "inner": ("filters", None, "neurons"),
            "inner_bias": ("neurons",),
            "outer": ("neurons", None),
        }
        return Layout({"filters": self.filters, "neurons": self.hidden}, axes)

    @property
    def _places(self) -> int:
        """Places of a filter's map after the second pool."""
        height, width = (((side - 4) // 2 - 2) // 2 for side in self.pictures.pixels.shape[1:3])
        return int(height * width)

    def initial(self, *, rng: np.random.Generator) -> Parameters:
        """Normal numbers in the weights, biases of 0."""
        channels = 1 if self.pictures.pixels.ndim == 3 else self.pictures.pixels.shape[3]
        n_in, n_out = self.filters * self._places, self.pictures.n_classes
        return {
            "early": random_matrix((self.early, channels, 5, 5), 25 * channels, rng=rng),
            "early_bias": np.zeros(self.early, np.float32),
            "filters": random_matrix((self.filters, self.early, 3, 3), 9 * self.early, rng=rng),
            "filters_bias": np.zeros(self.filters, np.float32),
            "inner": random_matrix((self.filters, self._places, self.hidden), n_in, rng=rng),
            "inner_bias": np.zeros(self.hidden, np.float32),
            "outer": random_matrix((self.hidden, n_out), self.hidden, rng=rng),
            "outer_bias": np.zeros(n_out, np.float32),
        }

    def gradient(self, parameters: Parameters, rows: Ints, *, rng: np.random.Generator) -> Gradient:
        """The gradient over rows; nothing in it is random. Fewer filters or neurons are a smaller network."""
        import torch
        from torch.nn import functional

        pixels, labels = self.pictures.pixels[rows], torch.from_numpy(self.labels[rows])
        return torch_gradient(parameters, len(rows), lambda tensors: functional.cross_entropy(_logits(tensors, pixels), labels))

    def evaluate(self, parameters: Parameters) -> Mapping[str, float]:
        """``loss`` (nats) and ``accuracy`` on what is held out."""
        import torch

        held = self.pictures.held_pixels
        with one_torch_thread(), torch.inference_mode():
            tensors = as_tensors(parameters)
            logits = [_logits(tensors, held[start : start + _CHUNK]).numpy() for start in range(0, len(held), _CHUNK)]
        return measures(np.concatenate(logits), self.pictures.held_labels)

    def describe(self) -> Mapping[str, Any]:
        """What determines it."""
        return {"objective": "cnn", "early": self.early, "filters": self.filters, "hidden": self.hidden, **self.pictures.about()}

    def groups(self) -> Mapping[str, int]:
        """Filters of the second convolution, and neurons."""
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
        """The first ``m`` filters or neurons: for the data they are all equal."""
        return self.layout.first(group, m)


def _logits(tensors: Mapping[str, Tensor], pixels: AnyArray) -> Tensor:
    """``(n, classes)`` of pictures ``(n, h, w)`` or ``(n, h, w, c)``."""
    import torch
    from torch.nn import functional

    first = pixels[:, None] if pixels.ndim == 3 else np.moveaxis(pixels, -1, 1)
    x = torch.from_numpy(np.ascontiguousarray(first)).to(tensors["early"].dtype)
    x = functional.max_pool2d(functional.conv2d(x, tensors["early"], tensors["early_bias"]).relu(), 2)
    x = functional.max_pool2d(functional.conv2d(x, tensors["filters"], tensors["filters_bias"]).relu(), 2)
    hidden = (x.flatten(1) @ tensors["inner"].flatten(0, 1) + tensors["inner_bias"]).relu()
    return hidden @ tensors["outer"] + tensors["outer_bias"]
