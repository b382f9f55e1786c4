"""How many real records are set aside for mixes that ask for fresh ones."""

from __future__ import annotations

from studbook.data import Dataset
from studbook.recursion import candidates_of_fresh, fresh_by_generation, n_fresh
from studbook.study.config import Cell


def reserve_for(cells: tuple[Cell, ...], cell: Cell, dataset: Dataset) -> int:
    """Fresh records that any cell on the same data needs, so that all cells have the same original."""
    if dataset.records is None:
        return 0
    total = len(dataset.records)
    needs = [fresh_needed(other, total) for other in cells if other.source_table == cell.source_table]
    return max(needs, default=0)


def fresh_needed(cell: Cell, total: int) -> int:
    """Fresh records that all generations of a cell take together, of a data set of ``total`` records."""
    nodes = 1 if cell.network is None else cell.network.nodes
    n, last = cell.study.samples or total // nodes, cell.study.generations
    return n_fresh(cell.mix, last, n, total) * nodes if cell.curation is None else fresh_share(cell, n, total) * last


def fresh_share(cell: Cell, n: int, n_original: int) -> int:
    """Fresh records that each generation of a curated cell may take."""
    most = max(fresh_by_generation(cell.mix, cell.study.generations, n, n_original))
    return candidates_of_fresh(cell.curation, most)
