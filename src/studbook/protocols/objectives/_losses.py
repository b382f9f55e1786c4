"""The loss of a classifier, and what is reported of it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from studbook.arrays import AnyArray, Ints
from studbook.protocols.objective import Gradient


def cross_entropy(logits: AnyArray, labels: Ints) -> tuple[AnyArray, float]:
    """The gradient of the mean loss by the logits, ``(n, classes)``, and the mean loss in nats."""
    rows = np.arange(len(labels))
    shifted = logits - logits.max(axis=1, keepdims=True)
    shares = np.exp(shifted)
    totals = shares.sum(axis=1, keepdims=True)
    loss = float(np.mean(np.log(totals[:, 0]) - shifted[rows, labels], dtype=np.float64))
    shares /= totals
    shares[rows, labels] -= 1.0
    shares /= np.asarray(len(labels), logits.dtype)
    return shares, loss


def measures(logits: AnyArray, labels: Ints) -> Mapping[str, float]:
    """Mean loss in nats, and the share that is right."""
    _, loss = cross_entropy(logits, labels)
    return {"loss": loss, "accuracy": float(np.mean(logits.argmax(axis=1) == labels))}


def as_gradient(arrays: Mapping[str, AnyArray], loss: float, n: int) -> Gradient:
    """A gradient in single precision."""
    return Gradient({name: np.ascontiguousarray(value, np.float32) for name, value in arrays.items()}, loss, n)


def random_matrix(shape: tuple[int, ...], n_in: int, *, rng: np.random.Generator) -> AnyArray:
    """Normal numbers of variance 2/n_in (He et al. 2015), float32."""
    return rng.normal(0.0, np.sqrt(2.0 / n_in), size=shape).astype(np.float32)
