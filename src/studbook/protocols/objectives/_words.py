"""Classifiers of rows of words: a row of numbers for each word, of which a client holds those of its own words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studbook.arrays import AnyArray, Ints
from studbook.errors import ConfigError
from studbook.protocols.objective import Gradient
from studbook.protocols.objectives._layout import Layout
from studbook.protocols.objectives._losses import as_gradient, cross_entropy, measures, random_matrix
from studbook.protocols.objectives._threads import one_blas_thread
from studbook.protocols.values import Parameters

_NONE = -1
_CHUNK = 4096


@dataclass(frozen=True, slots=True, eq=False)
class WordRows:
    """What is classified: rows of words.

    Attributes:
        places: By name of an array of parameters, ``(n, width)`` int32 word ids, -1 for none: the words that look up its rows.
        labels: ``(n,)`` classes.
        documents: ``(n,)`` the document of each row, ascending from 0.
    """

    places: Mapping[str, NDArray[np.int32]]
    labels: Ints
    documents: Ints

    def take(self, rows: AnyArray) -> WordRows:
        """Some of the rows; the documents are numbered anew."""
        documents = np.unique(self.documents[rows], return_inverse=True)[1]
        return WordRows({name: value[rows] for name, value in self.places.items()}, self.labels[rows], documents)


@dataclass(frozen=True, slots=True, eq=False)
class WordObjective:
    """Softmax regression on sums of words' rows, or a network with one hidden layer above them.

    Parameters: for each kind of place (``bag``, ``last``) a matrix ``(vocabulary, classes)``, and ``bias`` ``(classes,)``. With hidden
    neurons the matrices are ``(vocabulary, neurons)`` with ``inner_bias``, and ``outer`` ``(neurons, classes)``. Keys: ``words``, and
    ``neurons``. A word that isn't in a client's slice is passed over.

    Attributes:
        rows: The training rows.
        held: Those held out.
        vocabulary: Words.
        n_classes: Classes.
        hidden: Neurons of the hidden layer; 0 is none.
        about: What determines the rows.
    """

    rows: WordRows
    held: WordRows
    vocabulary: int
    n_classes: int
    hidden: int
    about: Mapping[str, Any]

    @property
    def n_rows(self) -> int:
        """Training rows."""
        return len(self.rows.labels)

    @property
    def labels(self) -> Ints:
        """The class of each row."""
        return self.rows.labels

    @property
    def documents(self) -> Ints:
        """The document of each row."""
        return self.rows.documents

    @property
    def layout(self) -> Layout:
        """A word is a row of each matrix; a neuron a column, and a row of the outer matrix."""
        if not self.hidden:
            return Layout({"words": self.vocabulary}, dict.fromkeys(self.rows.places, ("words", None)))
        axes: dict[str, tuple[str | None, ...]] = dict.fromkeys(self.rows.places, ("words", "neurons"))
        axes |= {"inner_bias": ("neurons",), "outer": ("neurons", None)}
        return Layout({"words": self.vocabulary, "neurons": self.hidden}, axes)

    def initial(self, *, rng: np.random.Generator) -> Parameters:
        """All 0 without a hidden layer; else normal numbers."""
        found: dict[str, AnyArray] = {}
        for name, places in self.rows.places.items():
            shape = (self.vocabulary, self.hidden or self.n_classes)
            found[name] = (
                random_matrix(shape, len(self.rows.places) * places.shape[1], rng=rng) if self.hidden else np.zeros(shape, np.float32)
            )
        if self.hidden:
            found["inner_bias"] = np.zeros(self.hidden, np.float32)
            found["outer"] = random_matrix((self.hidden, self.n_classes), self.hidden, rng=rng)
        return {**found, "bias": np.zeros(self.n_classes, np.float32)}

    def gradient(self, parameters: Parameters, rows: Ints, *, rng: np.random.Generator) -> Gradient:
        """The gradient over rows; nothing in it is random."""
        return self.slice_gradient(parameters, {}, rows, rng=rng)

    def slice_gradient(self, part: Parameters, keys: Mapping[str, Ints], rows: Ints, *, rng: np.random.Generator) -> Gradient:
        """See ``Sliced``."""
        looked_up = {name: self._matrix(places[rows], keys, part[name]) for name, places in self.rows.places.items()}
        with one_blas_thread():
            summed = _summed(looked_up, part)
            found: dict[str, AnyArray] = {}
            if self.hidden:
                hidden = np.maximum(summed + part["inner_bias"], 0)
                slopes, loss = cross_entropy(hidden @ part["outer"] + part["bias"], self.labels[rows])
                back = (slopes @ part["outer"].T) * (hidden > 0)
                found = {"outer": hidden.T @ slopes, "inner_bias": back.sum(axis=0)}
            else:
                slopes, loss = cross_entropy(summed + part["bias"], self.labels[rows])
                back = slopes
            found |= {name: matrix.T @ back for name, matrix in looked_up.items()}
        return as_gradient({**found, "bias": slopes.sum(axis=0)}, loss, len(rows))

    def evaluate(self, parameters: Parameters) -> Mapping[str, float]:
        """``loss`` (nats) and ``accuracy`` on what is held out."""
        found = []
        for start in range(0, len(self.held.labels), _CHUNK):
            places = {name: value[start : start + _CHUNK] for name, value in self.held.places.items()}
            looked_up = {name: self._matrix(value, {}, parameters[name]) for name, value in places.items()}
            with one_blas_thread():
                summed = _summed(looked_up, parameters)
                if self.hidden:
                    summed = np.maximum(summed + parameters["inner_bias"], 0) @ parameters["outer"]
            found.append(summed + parameters["bias"])
        return measures(np.concatenate(found), self.held.labels)

    def describe(self) -> Mapping[str, Any]:
        """What determines it."""
        return {**self.about, "rows": self.n_rows, "held_out": len(self.held.labels), "classes": self.n_classes, "hidden": self.hidden}

    def groups(self) -> Mapping[str, int]:
        """The words, and the neurons where there are some."""
        return self.layout.sizes

    def take(self, parameters: Parameters, keys: Mapping[str, Ints]) -> Parameters:
        """See ``Sliced``."""
        return self.layout.take(parameters, keys)

    def scatter(self, update: Parameters, keys: Mapping[str, Ints], like: Parameters) -> tuple[Parameters, Parameters]:
        """See ``Sliced``."""
        return self.layout.scatter(update, keys, like)

    def frequent_keys(self, rows: Ints, group: str, m: int) -> Ints:
        """The ``m`` most frequent words of these rows; the more frequent ones of the whole text where they are equal."""
        if group != "words":
            return self.layout.first(group, m)
        if not 1 <= m <= self.vocabulary:
            raise ConfigError(f"{m:,} words are asked for, expected 1 to {self.vocabulary:,}")
        counts = np.zeros(self.vocabulary, np.int64)
        for places in self.rows.places.values():
            used = places[rows]
            counts += np.bincount(used[used != _NONE], minlength=self.vocabulary)
        return np.sort(np.argsort(-counts, kind="stable")[:m])

    def _matrix(self, places: NDArray[np.int32], keys: Mapping[str, Ints], like: AnyArray) -> Any:
        """A sparse matrix ``(rows, words of the slice)``: each row's words, its square length 1 where no word repeats."""
        from scipy.sparse import csr_array

        n = len(places)
        known = places != _NONE
        shares = known / np.sqrt(np.maximum(known.sum(axis=1, keepdims=True), 1))
        columns, n_words = places, self.vocabulary
        if "words" in keys:
            n_words = len(keys["words"])
            # One more entry at the end, which the -1 of no word finds.
            place_of = np.full(self.vocabulary + 1, _NONE, np.int32)
            place_of[keys["words"]] = np.arange(n_words, dtype=np.int32)
            columns = place_of[places]
        inside = columns != _NONE
        starts = np.concatenate([[0], np.cumsum(inside.sum(axis=1))]).astype(np.int32)
        return csr_array((shares[inside].astype(like.dtype), columns[inside].astype(np.int32), starts), shape=(n, n_words))


def _summed(looked_up: Mapping[str, Any], parameters: Parameters) -> AnyArray:
    """The sums of the rows' words over all kinds of places, in the order of their names."""
    first, *others = sorted(looked_up)
    total: AnyArray = looked_up[first] @ parameters[first]
    for name in others:
        total = total + looked_up[name] @ parameters[name]
    return total
