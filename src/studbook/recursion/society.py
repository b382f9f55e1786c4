"""The models of a network's nodes as one: what a journal keeps of a generation, and what the network as a whole generates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from studbook.arrays import Batch, Floats, Space, concatenate
from studbook.files import replacing_folder
from studbook.recursion.protocols import LawLearner, LawModel, Model, Restoring, Storable
from studbook.theory.laws import CategoricalLaw, GaussianLaw, Law, mean_law

_NODE = "node-{:03d}"


@dataclass(frozen=True, slots=True, eq=False)
class Society:
    """The models of all nodes; as one model it generates from each with equal probability.

    Attributes:
        models: One a node.
    """

    models: tuple[Model, ...]

    @property
    def space(self) -> Space:
        """The space of the records."""
        return self.models[0].space

    def sample(self, n: int, *, rng: np.random.Generator) -> Batch:
        """``n`` records of the network, in random order."""
        sizes = rng.multinomial(n, np.full(len(self.models), 1.0 / len(self.models)))
        whole = concatenate([model.sample(int(size), rng=rng) for model, size in zip(self.models, sizes, strict=True)])
        return whole.take(rng.permutation(n))

    def save(self, folder: Path) -> None:
        """Write every node's model to a folder of its own under ``folder``.

        Raises:
            StorageError: The disk refused.
        """
        with replacing_folder(folder) as target:
            for index, model in enumerate(self.models):
                if isinstance(model, Storable):
                    model.save(target / _NODE.format(index))


@dataclass(frozen=True, slots=True)
class SocietyReader:
    """Reads what a ``Society`` saved.

    Attributes:
        learner: Reads a node's model.
        nodes: Nodes.
    """

    learner: Restoring
    nodes: int

    def load(self, folder: Path, space: Space) -> Society:
        """The saved models, to the bit.

        Raises:
            CheckpointError: As the learner's ``load``.
        """
        return Society(tuple(self.learner.load(folder / _NODE.format(index), space) for index in range(self.nodes)))


def average_models(learner: LawLearner, models: Sequence[LawModel], weights: Floats) -> tuple[LawModel, ...]:
    """Each node's model once it has taken the weighted mean of all nodes' parameters.

    Args:
        learner: The family.
        models: One a node.
        weights: ``(nodes, nodes)``; see ``Network.weights``.

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import counts
        >>> from studbook.learners import Poisson
        >>> from studbook.recursion.society import average_models
        >>> models = [Poisson().fit(counts(np.array([k, k])), rng=np.random.default_rng(0)) for k in (2, 4)]
        >>> [model.law.rate.tolist() for model in average_models(Poisson(), models, np.full((2, 2), 0.5))]
        [[3.0], [3.0]]
    """
    laws = [model.law for model in models]
    equal = {row.tobytes(): row for row in weights}  # nodes with the same weights have the same model
    means = {key: learner.from_law(mean_law(laws, row), models[0].space) for key, row in equal.items()}
    return tuple(means[row.tobytes()] for row in weights)


def pool_laws(laws: Sequence[Law]) -> Law | None:
    """The law of a draw from one of the nodes' models, each with equal probability.

    Returns:
        States: the mixture. Normal laws: a normal law with the mixture's mean and covariance, not the mixture itself. Else ``None``.

    Examples:
        >>> import numpy as np
        >>> from studbook.recursion.society import pool_laws
        >>> from studbook.theory import CategoricalLaw
        >>> pool_laws([CategoricalLaw(np.array([[1.0, 0.0]])), CategoricalLaw(np.array([[0.0, 1.0]]))]).probabilities.tolist()
        [[0.5, 0.5]]
    """
    states = [law for law in laws if isinstance(law, CategoricalLaw)]
    if len(states) == len(laws):
        total = states[0].probabilities.copy()
        for law in states[1:]:
            total += law.probabilities
        return CategoricalLaw(total / len(states))
    normal = [law for law in laws if isinstance(law, GaussianLaw)]
    if len(normal) < len(laws):
        return None
    means, covariances = np.array([law.mean for law in normal]), np.array([law.covariance for law in normal])
    centre = means.mean(axis=0)
    apart = means - centre
    return GaussianLaw(centre, covariances.mean(axis=0) + np.einsum("nri,nrj->rij", apart, apart) / len(normal))
