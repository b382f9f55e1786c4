"""How far a fingerprint may be from that of the same recipe run elsewhere, and how often other pictures are nearer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from studbook.arrays import AnyArray, Ints
from studbook.hamming import distances, within
from studbook.records import Claim, Radius
from studbook.theory import PairedTrials, cluster_bootstrap
from studbook.verification.calibration import Target
from studbook.verification.claimant import IMAGE_SCHEMES


def radii_of(
    reference: Sequence[Claim], environments: Sequence[Sequence[Claim]], target: Target, *, rng: np.random.Generator
) -> tuple[Radius, ...]:
    """A radius for each scheme, with bounds on collisions.

    Args:
        reference: The claims of recipes that the verifier itself ran.
        environments: The claims of the same recipes, in order, in each honest environment.
        target: The honest pictures, each in its worst environment, are within the radius as it says.
        rng: For the bootstrap.

    Raises:
        CalibrationError: Too few pictures.
    """
    classes = np.unique([claim.recipe.request for claim in reference], return_inverse=True)[1]
    found = []
    for scheme in IMAGE_SCHEMES:
        own = _packed(reference, scheme)
        worst = np.max([distances(own, _packed(claims, scheme)) for claims in environments], axis=0)
        radius = int(target.limit(worst.astype(np.float64)))
        rows, columns = _close_pairs(own, radius)
        same = classes[rows] == classes[columns]
        bounds = []
        for chosen, trials in ((same, classes[:, None] == classes[None, :]), (~same, classes[:, None] != classes[None, :])):
            bounds.append(_bound(rows[chosen], columns[chosen], np.triu(trials, 1), target.confidence, rng))
        found.append(Radius(scheme, radius, bounds[0], bounds[1], len(reference) * (len(reference) - 1) // 2))
    return tuple(found)


def _packed(claims: Sequence[Claim], scheme: str) -> AnyArray:
    digests = [claim.digest(scheme) for claim in claims]
    return np.stack([digest.words() for digest in digests if digest is not None])


def _close_pairs(packed: AnyArray, radius: int) -> tuple[Ints, Ints]:
    pairs = within(packed, radius_bits=radius)
    return np.asarray(pairs.rows), np.asarray(pairs.columns)


def _bound(rows: Ints, columns: Ints, trials: AnyArray, confidence: float, rng: np.random.Generator) -> float:
    """Upper bound on the share of pairs of one kind that are close; 1 where there are no such pairs."""
    first, second = np.nonzero(trials)
    if not len(first):
        return 1.0
    n = len(trials)
    events = np.isin(first * n + second, rows * n + columns).astype(np.int64)
    return float(cluster_bootstrap(PairedTrials.listed(first, second, events), confidence, rng=rng, resamples=400).upper)
