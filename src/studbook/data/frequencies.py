"""How often each word, state or value occurs."""

from __future__ import annotations

import numpy as np

from studbook.arrays import Kind
from studbook.data.dataset import Dataset
from studbook.errors import DataError
from studbook.theory.laws import CategoricalLaw


def unigram_probabilities(dataset: Dataset) -> CategoricalLaw:
    """The relative frequencies of what a data set is made of: its words, states, counts or rows of numbers.

    Args:
        dataset: Text (each token id is a state), states, counts (each value that occurs), numbers (each row that occurs), or a
            distribution on states.

    Returns:
        One law; for text and states, state k is token or state k.

    Raises:
        DataError: Pictures, or a distribution on numbers or counts: they have no finite list of states.

    Examples:
        >>> from studbook.data import Zipf, unigram_probabilities
        >>> unigram_probabilities(Zipf(states=2).load()).probabilities.round(3).tolist()
        [[0.667, 0.333]]
    """
    if isinstance(dataset.law, CategoricalLaw):
        return dataset.law
    kind = dataset.space.kind
    if dataset.records is None or kind is Kind.IMAGES:
        what = "pictures have" if kind is Kind.IMAGES else f"a distribution on {kind.value} has"
        hint = "take text, states, counts, or numbers with repeated values"
        raise DataError(f"{dataset.name}: {what} no finite list of states", hint=hint)
    values = dataset.records.values
    if kind in (Kind.TEXT, Kind.STATES):
        frequency = np.bincount(values.reshape(-1), minlength=dataset.space.n_states)
    else:
        frequency = np.unique(values, axis=0, return_counts=True)[1]
    return CategoricalLaw((frequency / frequency.sum())[None])
