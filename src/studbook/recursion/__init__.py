"""One generation, and the loop over generations: on records, or on their law."""

from studbook.recursion.array_files import Torn
from studbook.recursion.curated import KEPT, Reject, Sifting, can_curate_in_law, candidates_of_fresh, check_curation
from studbook.recursion.journal import Journal, Resumed, digests_of
from studbook.recursion.lawful import LawGeneration, can_run_in_law, run_generations_in_law
from studbook.recursion.loop import NO_BASE_HINT, FreshLaw, FreshReserve, FreshSupply, Generation, run_generations, starting_point
from studbook.recursion.protocols import (
    Continuing,
    Curator,
    LawCurator,
    LawLearner,
    LawModel,
    Learner,
    Model,
    Restoring,
    SizedDraws,
    Statistics,
    Storable,
    Subsampled,
)
from studbook.recursion.schedule import Phased, all_parts, fresh_by_generation, mix_at, n_fresh, phases
from studbook.recursion.stock import MemoryStock, Needs, Standing, Stock

__all__ = [
    "Continuing",
    "Curator",
    "FreshLaw",
    "FreshReserve",
    "FreshSupply",
    "Generation",
    "Journal",
    "KEPT",
    "LawCurator",
    "LawGeneration",
    "LawLearner",
    "LawModel",
    "Learner",
    "MemoryStock",
    "Model",
    "NO_BASE_HINT",
    "Needs",
    "Phased",
    "Reject",
    "Restoring",
    "Resumed",
    "Sifting",
    "SizedDraws",
    "Standing",
    "Statistics",
    "Stock",
    "Storable",
    "Subsampled",
    "Torn",
    "all_parts",
    "can_curate_in_law",
    "can_run_in_law",
    "candidates_of_fresh",
    "check_curation",
    "digests_of",
    "fresh_by_generation",
    "mix_at",
    "n_fresh",
    "phases",
    "run_generations",
    "run_generations_in_law",
    "starting_point",
]
