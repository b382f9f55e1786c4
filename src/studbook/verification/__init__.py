"""Calibration, verifiers, quorum, simulated dishonest networks."""
