"""One generation, and the loop over generations: on records, or on their law."""

from studbook.recursion.lawful import LawGeneration, can_run_in_law, run_generations_in_law
from studbook.recursion.loop import FreshLaw, FreshReserve, FreshSupply, Generation, run_generations
from studbook.recursion.protocols import LawLearner, LawModel, Learner, Model, Statistics, Subsampled

__all__ = [
    "FreshLaw",
    "FreshReserve",
    "FreshSupply",
    "Generation",
    "LawGeneration",
    "LawLearner",
    "LawModel",
    "Learner",
    "Model",
    "Statistics",
    "Subsampled",
    "can_run_in_law",
    "run_generations",
    "run_generations_in_law",
]
