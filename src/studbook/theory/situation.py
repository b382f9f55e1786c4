"""What is asked of the theory, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from studbook.arrays import Floats
from studbook.theory.composition import Composition, composition_of
from studbook.theory.laws import Law


@dataclass(frozen=True, slots=True)
class Situation:
    """A recursion, as far as the theory needs to know it.

    Attributes:
        learner: ``gaussian``, ``bernoulli``, ``poisson``, ``categorical``, ``gmm``, ``kde``, ``ngram`` or ``ols``.
        learner_parameters: By name: ``ddof`` (gaussian), ``bandwidth`` (kde), ``regularisation`` (gmm), ``noise`` and ``intercept`` (ols).
        mix: ``replace``, ``accumulate``, ``subsample``, ``keep``, ``fresh``, ``blend`` or ``weighted``.
        mix_parameters: By name: ``share``; ``fresh``; ``alpha``, ``beta``, ``gamma``; ``weight`` (number or ``"golden"``) and ``fresh``.
        n: Records a generation.
        n_original: Size of the original data.
        law: A single law (R = 1): the source's, or generation 0's model where the original is a finite data set; ``None`` if unknown.
        sampled_original: The original is ``n_original`` draws of ``law``, new for each replicate; else generation 0 has exactly ``law``.
        dimension: Numbers a record.
        initial: Values of metrics at generation 0, where they were measured.
        population: Original records of all nodes of a network together, where they are a finite set; ``n_original`` is one node's.
    """

    learner: str
    learner_parameters: Mapping[str, object]
    mix: str
    mix_parameters: Mapping[str, object]
    n: int
    n_original: int
    law: Law | None
    sampled_original: bool
    dimension: int
    initial: Mapping[str, float]
    population: int | None = None

    @property
    def composition(self) -> Composition | None:
        """What each generation trains on; ``None`` for an unknown mix."""
        return composition_of(self.mix, self.mix_parameters, self.n, self.n_original)

    @property
    def draws_reserve(self) -> bool:
        """Whether fresh records come from a finite reserve: the original isn't their law then, only another sample of it."""
        composition = self.composition
        return not self.sampled_original and composition is not None and composition.fresh > 0


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """A curve over the generations that were asked for.

    Attributes:
        mean: ``(G,)`` expectation over replicates.
        median: ``(G,)`` median over replicates, where it is known.
        exact: The expectation is exact, so that z-scores mean something; else an approximation for orientation.
        source: Whose result it is.
        formula: What was computed, in short.
    """

    mean: Floats
    median: Floats | None
    exact: bool
    source: str
    formula: str
