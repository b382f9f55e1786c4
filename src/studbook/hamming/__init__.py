"""Bulk comparison of bit strings: histograms of distances, all pairs within a radius, nearest neighbours."""
