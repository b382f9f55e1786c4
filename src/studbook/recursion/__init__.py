"""One generation, and the loop over generations: on records, or on their law."""

from studbook.recursion.array_files import Torn
from studbook.recursion.curated import KEPT, Reject, Sifting, can_curate_in_law, candidates_of_fresh, check_curation
from studbook.recursion.journal import Journal, Resumed, digests_of, last_finished
from studbook.recursion.lawful import LawGeneration, can_run_in_law, run_generations_in_law
from studbook.recursion.loop import NO_BASE_HINT, FreshLaw, FreshReserve, FreshSupply, Generation, run_generations, starting_point
from studbook.recursion.network import MAX_NODES, Network, n_generated, network_parts, split_evenly
from studbook.recursion.network_law import NetworkLawGeneration, run_network_in_law
from studbook.recursion.network_loop import Ledger, run_network
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
from studbook.recursion.society import Society, SocietyReader, pool_laws
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
    "Ledger",
    "MAX_NODES",
    "MemoryStock",
    "Model",
    "NO_BASE_HINT",
    "Needs",
    "Network",
    "NetworkLawGeneration",
    "Phased",
    "Reject",
    "Restoring",
    "Resumed",
    "Sifting",
    "SizedDraws",
    "Society",
    "SocietyReader",
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
    "last_finished",
    "fresh_by_generation",
    "mix_at",
    "n_fresh",
    "n_generated",
    "network_parts",
    "phases",
    "pool_laws",
    "run_generations",
    "run_generations_in_law",
    "run_network",
    "run_network_in_law",
    "split_evenly",
    "starting_point",
]
