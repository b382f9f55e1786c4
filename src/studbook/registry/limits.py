"""What counts as near: limits that were measured, and measuring them on one's own outputs."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from studbook import __version__
from studbook.arrays import Ints
from studbook.errors import CalibrationError, ConfigError, DataError
from studbook.fingerprints import FINGERPRINTS, FixedWidth, MinHash
from studbook.hamming import distances, nearest
from studbook.parameters import nearest as nearest_name
from studbook.records import DetectorCalibration, Kind, Rate, digest_of
from studbook.registry.contents import Packed, Picture, picture_content, pixels_of, text_content
from studbook.registry.values import FalseMatches, Limit
from studbook.rng import stream
from studbook.theory import clopper_pearson, upper_bound

N_PERMUTATIONS = 128
_CHANCE = 2.0**-16
_BLOCK = 256

DEFAULTS: Mapping[str, Limit] = {
    each.scheme: each
    for each in (
        Limit(
            "phash",
            6.0,
            "64 × 64 photographs (Oxford flowers, 1,295 different ones): 3 of 838,000 pairs are within 6 bits;"
            " JPEG 50, half and double size, noise of 8 grey levels move a picture by 6 bits or less",
            false_matches=FalseMatches(1, 648, 647),
        ),
        Limit(
            "pdq",
            31.0,
            "published by its authors; of the same 838,000 pairs 4 are within 31 bits;"
            " JPEG 50, half and double size, noise of 8 grey levels move a picture by 22 bits at most",
            false_matches=FalseMatches(2, 648, 647),
        ),
        Limit(
            "minhash",
            1.0 - (20 / N_PERMUTATIONS - _CHANCE) / (1.0 - _CHANCE),
            "20 of 128 permutations; texts of 200 words of WikiText-2: 2 of 5.6 million unrelated pairs agree in as many;"
            " found again: 99.3 % after 20 % of the words were replaced, all of the excerpts of a half, 97.8 % of a quarter",
            false_matches=FalseMatches(1, 2225, 2507),
        ),
    )
}
"""Limits of a register that has none of its own, and what they were measured on; a test of that name repeats it."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a limit is to keep.

    Attributes:
        rate: Largest rate at which an unrelated output is taken for one of those registered, above 0 and below 1.
        confidence: Of the bound on it, and of all intervals.
        seed: That the outputs are divided by.

    Raises:
        ConfigError: An impossible number.
    """

    rate: float
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if not (0 < self.rate < 1 and 0 < self.confidence < 1):
            raise ConfigError(f"the rate is {self.rate} and the confidence {self.confidence}, expected above 0 and below 1")


def agreement_of(distance: float) -> int:
    """The fewest agreeing permutations of 128 at which two MinHashes are at most so far apart.

    Examples:
        >>> from studbook.registry.limits import DEFAULTS, agreement_of
        >>> agreement_of(0.75), agreement_of(DEFAULTS["minhash"].value)
        (33, 20)
    """
    share = (1.0 - distance) * (1.0 - _CHANCE) + _CHANCE
    return min(max(math.ceil(share * N_PERMUTATIONS - 1e-9), 1), N_PERMUTATIONS)


def distances_of(agreement: Ints) -> Any:
    """1 less the estimated share of shingles in common, as ``MinHash.distance`` gives it, from agreeing permutations of 128."""
    return 1.0 - np.maximum((agreement / N_PERMUTATIONS - _CHANCE) / (1.0 - _CHANCE), 0.0)


def calibrate_images(
    originals: Sequence[Picture], altered: Mapping[str, Sequence[Picture]], target: Target, *, scheme: str = "phash"
) -> DetectorCalibration:
    """The largest radius at which pictures that have nothing to do with each other are rarely taken for each other.

    The pictures are divided at random: one half is registered, each of the other half is a trial, a hit where any registered picture is
    within the radius. Trials are independent given the registered half. The radius is raised bit by bit as long as the upper bound of
    the rate of hits (Clopper and Pearson) is at most the target's; hits only become more with the radius, so that this order of tests
    needs no correction for their number (a fixed sequence: Maurer, Hothorn and Lehmacher, 1995).

    Args:
        originals: Pictures, no two of them cut from the same; ``(h, w[, 3])`` uint8, or files' bytes.
        altered: What is to be found again, by name of the change: the same pictures in the same order.
        target: What the radius is to keep: for registers of as many pictures as a half has.
        scheme: ``"phash"``, ``"pdq"``, or another fingerprint of pictures that is compared by bits.

    Returns:
        A calibration for ``Register.set_limit``. ``threshold`` is the radius in bits: *up to* it, distances are hits.

    Raises:
        CalibrationError: Too few pictures for that rate, or too many that are alike.
        ConfigError: No such fingerprint.
        DataError: Not pictures, or another number of altered ones.

    Examples:
        >>> import numpy as np
        >>> from studbook.registry import Target, calibrate_images
        >>> pictures = np.random.default_rng(0).integers(0, 256, (200, 32, 32), dtype=np.uint8)
        >>> found = calibrate_images(list(pictures), {"darker": list(pictures // 2 + 9)}, Target(0.05))
        >>> found.false_hits.upper <= 0.05, found.attacked[0].rate
        (True, 1.0)
    """
    cls: Any = FINGERPRINTS.get(scheme)
    fingerprint = cls() if cls is not None and scheme not in ("minhash", "simhash", "text_exact") else None
    if not isinstance(fingerprint, FixedWidth):
        raise ConfigError(f"there is no fingerprint of pictures {scheme[:80]!r}", hint="phash or pdq")
    packed = fingerprint.pack(pixels_of(originals))
    changed = {name: fingerprint.pack(pixels_of(several)) for name, several in altered.items()}
    first, second = _halves(len(packed), target)
    _, near = nearest(packed[second], packed[first], k=1)
    moved = {name: distances(packed, _as_many(several, packed, name)) for name, several in changed.items()}
    limit = _largest(np.asarray(near[:, 0]), target)
    names = [picture_content(each) for each in originals]
    return _calibration(fingerprint, "image", float(limit), near[:, 0] <= limit, {n: d <= limit for n, d in moved.items()}, names, target)


def calibrate_texts(originals: Sequence[str], altered: Mapping[str, Sequence[str]], target: Target) -> DetectorCalibration:
    """The largest distance of MinHash at which texts that have nothing to do with each other are rarely taken for each other.

    See ``calibrate_images``; ``threshold`` is the distance of ``MinHash.distance``, 0 … 1.

    Args:
        originals: Texts with a word at least, no two of them from the same work.
        altered: What is to be found again, by name of the change: the same texts in the same order.
        target: What the limit is to keep: for registers of as many texts as a half has.

    Raises:
        CalibrationError: Too few texts for that rate, or too many that are alike.
        DataError: Not texts, one without a word, or another number of altered ones.
    """
    fingerprint = MinHash()
    packed = fingerprint.pack(originals)
    changed = {name: fingerprint.pack(several) for name, several in altered.items()}
    first, second = _halves(len(packed), target)
    near = np.array([N_PERMUTATIONS - int(_agreeing(packed[first], packed[i]).max()) for i in second], np.int64)
    moved = {name: _disagreeing(_as_many(several, packed, name), packed) for name, several in changed.items()}
    limit = min(_largest(near, target), N_PERMUTATIONS - 1)
    value = float(distances_of(np.int64(N_PERMUTATIONS - limit)))  # type: ignore[arg-type]
    names = [text_content(each) for each in originals]
    return _calibration(fingerprint, "text", value, near <= limit, {n: d <= limit for n, d in moved.items()}, names, target)


def false_matches_of(calibration: DetectorCalibration) -> FalseMatches | None:
    """How often a calibrated limit errs, as ``calibrate_images`` and ``calibrate_texts`` counted it."""
    registered = dict(calibration.parameters).get("registered")
    if type(registered) is not int or registered < 1:
        return None
    return FalseMatches(calibration.false_hits.events, calibration.false_hits.units, registered)


def check_scheme(scheme: str) -> None:
    """Refuse a name that no fingerprint has.

    Raises:
        ConfigError: It is one.
    """
    if not isinstance(scheme, str) or scheme not in FINGERPRINTS:
        raise ConfigError(f"there is no fingerprint {str(scheme)[:80]!r}", hint=nearest_name(str(scheme), FINGERPRINTS, noun="fingerprint"))


def check_limit(scheme: str, limit: float, calibration: DetectorCalibration | None) -> None:
    """Refuse what can't be a limit.

    Raises:
        ConfigError: It can't.
    """
    check_scheme(scheme)
    highest = 1 if scheme == "minhash" else 4096
    if type(limit) not in (int, float) or not 0 <= limit <= highest:
        raise ConfigError(f"the limit of {scheme} is {str(limit)[:80]!r}, expected a number from 0 to {highest}")
    if calibration is not None and (calibration.detector, calibration.threshold) != (f"register-{scheme}", limit):
        raise ConfigError(
            f"the calibration gives {calibration.detector} {calibration.threshold}, the limit of {scheme} is to be {limit}",
            hint="calibrate this fingerprint, and take the calibration's threshold",
        )


def _agreeing(packed: Packed, one: Packed) -> Any:
    """In how many permutations each of many digests agrees with one."""
    return (np.ascontiguousarray(packed).view(np.uint16) == np.ascontiguousarray(one).view(np.uint16)).sum(axis=1)


def _disagreeing(several: Packed, packed: Packed) -> Ints:
    """Row by row: permutations in which two digests don't agree."""
    return np.asarray(N_PERMUTATIONS - _agreeing(several, packed), np.int64)


def _halves(n: int, target: Target) -> tuple[Ints, Ints]:
    if n < 2 or upper_bound(0, n - n // 2, target.confidence) > target.rate:
        raise CalibrationError(
            f"{n} outputs are too few for a rate of {target.rate} at {target.confidence:.0%} confidence",
            hint=f"bring {2 * math.ceil(math.log1p(-target.confidence) / math.log1p(-target.rate))} or more, or ask for less",
        )
    order = stream(target.seed, "register-limit").permutation(n)
    return np.sort(order[: n // 2]), np.sort(order[n // 2 :])


def _largest(near: Ints, target: Target) -> int:
    """The largest limit whose rate of hits has a bound of at most the target's."""
    found = -1
    for limit in range(int(near.max()) + 1):
        if upper_bound(int((near <= limit).sum()), len(near), target.confidence) > target.rate:
            break
        found = limit
    if found < 0:
        raise CalibrationError(
            f"{int((near == 0).sum())} of {len(near)} outputs have the very fingerprint of an unrelated one",
            hint="are the same outputs in it twice? if not, this fingerprint can't tell them apart",
        )
    return found


def _as_many(several: Packed, packed: Packed, name: str) -> Packed:
    if len(several) != len(packed):
        raise DataError(f"{len(several)} outputs are altered by {name[:80]!r}, expected {len(packed)}, in the order of the originals")
    return several


def _calibration(
    fingerprint: FixedWidth, kind: Kind, limit: float, false: Any, found: Mapping[str, Any], contents: Sequence[str], target: Target
) -> DetectorCalibration:
    first, second = _halves(len(contents), target)
    parameters = {**dict(fingerprint.parameters), "registered": len(first), "version": fingerprint.version}
    return DetectorCalibration(
        detector=f"register-{fingerprint.scheme}",
        kind=kind,
        parameters=tuple(sorted(parameters.items())),
        threshold=limit,
        false_alarm=target.rate,
        confidence=target.confidence,
        hits=_rate("as made", np.ones(len(contents), bool), target),
        false_hits=_rate("unrelated", false, target),
        attacked=tuple(_rate(name, hits, target) for name, hits in found.items()),
        generated=digest_of([contents[i] for i in first]),
        human=digest_of([contents[i] for i in second]),
        seed=target.seed,
        code=f"studbook {__version__}",
        made=dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


def _rate(name: str, hits: Any, target: Target) -> Rate:
    events, units = int(np.sum(hits)), len(hits)
    lower, upper = clopper_pearson(events, units, target.confidence)
    return Rate(name, events, units, lower, upper)
