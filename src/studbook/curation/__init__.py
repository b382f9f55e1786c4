"""Filters and judges of generated records inside the loop; every reject is kept with its reason."""
