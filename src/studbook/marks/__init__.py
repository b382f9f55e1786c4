"""Watermarks: marking through the libraries that define them, detection of our own with exact p-values and calibrated error rates."""
