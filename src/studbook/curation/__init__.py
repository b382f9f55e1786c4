"""Filters and judges of generated data in the loop; every reject is counted with its reason."""

from studbook.curation.ideal import Ideal
from studbook.curation.judged import Judged

__all__ = ["Ideal", "Judged"]
