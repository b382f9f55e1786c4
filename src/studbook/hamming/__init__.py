"""Bulk comparison of bit strings: histograms of distances, all pairs within a radius, nearest neighbours.

Every function takes packed bits of any width, in memory or memory-mapped, gives exact results, and gives the same ones for any number
of threads and on either device.
"""

from studbook.hamming.counting import GROUPS, GroupedCounts, Labels, grouped_histogram, histogram
from studbook.hamming.searching import Pairs, distances, nearest, within

__all__ = ["GROUPS", "GroupedCounts", "Labels", "Pairs", "distances", "grouped_histogram", "histogram", "nearest", "within"]
