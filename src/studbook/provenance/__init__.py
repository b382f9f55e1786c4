"""Signing and reading: keys and signed records."""
