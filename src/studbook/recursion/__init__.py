"""One generation, and the loop over generations: on records, or on their law."""

from studbook.recursion.array_files import Torn
from studbook.recursion.journal import Journal, Resumed, digests_of
from studbook.recursion.lawful import LawGeneration, can_run_in_law, run_generations_in_law
from studbook.recursion.loop import NO_BASE_HINT, FreshLaw, FreshReserve, FreshSupply, Generation, run_generations, starting_point
from studbook.recursion.protocols import Continuing, LawLearner, LawModel, Learner, Model, Restoring, Statistics, Storable, Subsampled
from studbook.recursion.schedule import Phased, all_parts, fresh_by_generation, mix_at, n_fresh, phases
from studbook.recursion.stock import MemoryStock, Needs, Standing, Stock

__all__ = [
    "NO_BASE_HINT",
    "Continuing",
    "FreshLaw",
    "FreshReserve",
    "FreshSupply",
    "Generation",
    "Journal",
    "LawGeneration",
    "LawLearner",
    "LawModel",
    "Learner",
    "MemoryStock",
    "Model",
    "Needs",
    "Phased",
    "Restoring",
    "Resumed",
    "Standing",
    "Statistics",
    "Stock",
    "Storable",
    "Subsampled",
    "Torn",
    "all_parts",
    "can_run_in_law",
    "digests_of",
    "fresh_by_generation",
    "mix_at",
    "n_fresh",
    "phases",
    "run_generations",
    "run_generations_in_law",
    "starting_point",
]
