"""Filters and judges of generated data in the loop; every reject is counted with its reason."""

from studbook.curation.attack import Attack
from studbook.curation.ideal import Ideal
from studbook.curation.judged import Judged
from studbook.curation.screen import LoopWitness, Screen, ScreenCurator, register_batch

__all__ = ["Attack", "Ideal", "Judged", "LoopWitness", "Screen", "ScreenCurator", "register_batch"]
