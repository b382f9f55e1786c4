"""The billion comparisons: the same recipes in honest environments and cheats, every picture's hash against every other's."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias

import numpy as np

from studbook import __version__
from studbook.arrays import AnyArray, Ints
from studbook.errors import CalibrationError, ConfigError, RecordError
from studbook.files import write_file
from studbook.hamming import Labels, distances, grouped_histogram
from studbook.records import ImageSampling
from studbook.records.codec import to_plain
from studbook.rng import stream
from studbook.theory import VoteRow, vote_table
from studbook.verification.billion_errors import (
    Bound,
    ClosePairs,
    Design,
    bootstrap_collisions,
    bound_accepted,
    bound_missed,
    collision_curve,
    list_close,
    worst_of,
)
from studbook.verification.billion_hashes import (
    CHEATS,
    HONEST,
    REFERENCE,
    SCHEMES,
    Progress,
    Recipes,
    check_schemes,
    draw_again,
    hash_setting,
)
from studbook.verification.calibration import Target, now
from studbook.verification.models import register_model
from studbook.verification.settings import Setting

Wrong: TypeAlias = Literal["same class", "other class"]

CORRELATIONS = (0.0, 0.1, 0.3)
"""Of two verifiers' votes: none, and what sharing model and hash may make of it."""
VOTERS = (1, 3, 5, 7)
FALSE_ALARM = 0.01
CLOSEST = 4
"""Closest wrong pairs of each scheme and group that are kept."""
RESULTS = "results.json"
_GROUPS: tuple[Wrong, ...] = ("same class", "other class")


@dataclass(frozen=True, slots=True)
class Experiment:
    """What is drawn and compared.

    Attributes:
        n_images: Recipes; each is drawn in every setting.
        sampling: How.
        schemes: Names of ``SCHEMES``.
        seed: All seeds and resamples are drawn from it.
        confidence: Of each bound on its own.
        false_alarm: Largest probability that an honest picture is beyond the radius.

    Raises:
        ConfigError: An unknown scheme, or numbers out of range.
        CalibrationError: Too few pictures for the false-alarm rate.
    """

    n_images: int
    sampling: ImageSampling
    schemes: tuple[str, ...] = tuple(SCHEMES)
    seed: int = 0
    confidence: float = 0.95
    false_alarm: float = FALSE_ALARM

    def __post_init__(self) -> None:
        check_schemes(self.schemes)
        if self.sampling.steps < 2:
            raise ConfigError(f"steps is {self.sampling.steps}, expected 2 or more: a cheat takes half of them")
        needed = 2 * self.target.units_needed()  # the radius is chosen on one half, and its misses are counted on the other
        if self.n_images < needed:
            message = f"{self.n_images} images can't bound the false alarms by {self.false_alarm:g} with confidence {self.confidence:g}"
            raise CalibrationError(message, hint=f"{needed} or more are needed, or a larger false-alarm rate")

    @property
    def target(self) -> Target:
        """What the radii promise."""
        return Target(self.false_alarm, self.confidence)


@dataclass(frozen=True, slots=True)
class Point:
    """The error rates of one radius.

    Attributes:
        radius_bits: Distance up to which a picture is accepted.
        missed: Honest pictures that aren't, each in its worst environment.
        same_class: Pictures of the same class and another seed that are, in the honest environment where the bound is largest.
        other_class: Pictures of another class that are.
    """

    radius_bits: int
    missed: Bound
    same_class: Bound
    other_class: Bound


@dataclass(frozen=True, slots=True)
class WrongPair:
    """Two pictures of different recipes that a scheme takes for nearly the same.

    Attributes:
        group: Whether their class is the same.
        places: Numbers of the two recipes.
        classes: What was asked for.
        seeds: Their seeds.
        setting: Where the second was drawn; the first is the reference's.
        distances: In bits, by scheme.
    """

    group: Wrong
    places: tuple[int, int]
    classes: tuple[str, str]
    seeds: tuple[int, int]
    setting: str
    distances: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Votes:
    """Majorities of verifiers with the bounds of a scheme at its radius.

    Attributes:
        correlation: Of any two votes.
        rows: ``detection`` is at least, ``collision`` at most what stands there, if the votes are so correlated.
    """

    correlation: float
    rows: tuple[VoteRow, ...]


@dataclass(frozen=True, slots=True)
class SchemeResult:
    """What a scheme can tell.

    Attributes:
        scheme: Its name.
        n_bits: Its width.
        counts: By setting, ``(3, n_bits + 1)`` comparisons at each distance: same recipe, same class, other class.
        curve: The error rates of every radius.
        chosen: Those of the radius that keeps the false-alarm rate.
        cheats: How often each cheat is accepted at that radius.
        votes: Majorities.
        closest: The closest wrong pairs.
    """

    scheme: str
    n_bits: int
    counts: Mapping[str, tuple[tuple[int, ...], ...]]
    curve: tuple[Point, ...]
    chosen: Point
    cheats: Mapping[str, Bound]
    votes: tuple[Votes, ...]
    closest: tuple[WrongPair, ...]


@dataclass(frozen=True, slots=True)
class BillionResult:
    """The whole experiment.

    Attributes:
        experiment: What was asked for.
        model: Digest of the model.
        classes: The classes that it knows.
        honest: Names of the other honest environments.
        cheats: Names of the cheats.
        comparisons: Of two hashes, over all schemes and settings.
        comparison_s: Seconds that the histograms took.
        schemes: By scheme.
        code: Version.
        made: When, in UTC.
    """

    SCHEMA: ClassVar[str] = "studbook.billion/1"

    experiment: Experiment
    model: str
    classes: tuple[int, ...]
    honest: tuple[str, ...]
    cheats: tuple[str, ...]
    comparisons: int
    comparison_s: float
    schemes: tuple[SchemeResult, ...]
    code: str
    made: str

    @property
    def shown(self) -> tuple[int, ...]:
        """Numbers of the recipes whose pictures are shown: those of the closest wrong pairs."""
        return tuple(sorted({place for scheme in self.schemes for pair in scheme.closest for place in pair.places}))


def image_sampling(steps: int, guidance: float) -> ImageSampling:
    """How pictures are drawn, from options.

    Raises:
        ConfigError: Out of range.
    """
    try:
        return ImageSampling(steps=steps, guidance=guidance)
    except RecordError as error:
        raise ConfigError(error.message, hint=error.hint) from error


def compare_billion(
    model: Path, out: Path, experiment: Experiment, *, threads: int = 1, progress: Progress = lambda _: None
) -> tuple[BillionResult, AnyArray]:
    """Draw, hash and compare; whatever of it is done already is read from the folder.

    Args:
        model: Folder of a conditional diffusion model.
        out: Where hashes and ``results.json`` go.
        experiment: What.
        threads: Of the comparisons; no result depends on it.
        progress: Is told what is being done.

    Returns:
        The result, and the pictures of ``BillionResult.shown``, in that order, ``(m, h, w)`` or ``(m, h, w, 3)`` uint8.

    Raises:
        CheckpointError: No such model.
        ConfigError: A model of texts, or one without classes; more threads or fewer than there can be.
        StorageError: The disk refused.
    """
    registered = register_model(model)
    if registered.family != "image":
        raise ConfigError(f"{model} makes {registered.family}s, expected a diffusion model", hint="train one: Diffusion(conditional=True)")
    if threads < 1:
        raise ConfigError(f"threads is {threads}, expected 1 or more")
    recipes = Recipes.of(registered, experiment.sampling, experiment.n_images, experiment.seed)
    if experiment.n_images < 2 * len(recipes.classes):
        message = f"{experiment.n_images} images of {len(recipes.classes)} classes, expected two or more of each"
        raise ConfigError(message, hint=f"ask for {2 * len(recipes.classes)} or more")
    settings = (REFERENCE, *HONEST, *CHEATS)
    folder = out / "hashes"
    hashes = {each.name: hash_setting(folder, recipes, each, experiment.schemes, progress=progress) for each in settings}
    schemes, seconds = [], 0.0
    for name in experiment.schemes:
        progress(f"{name}: all pairs")
        compared = _compare(name, {setting: found[name] for setting, found in hashes.items()}, recipes.labels, threads)
        seconds += compared.seconds
        schemes.append(_judge(compared, recipes, experiment, hashes, threads))
    result = BillionResult(
        experiment=experiment,
        model=registered.digest,
        classes=recipes.classes,
        honest=tuple(each.name for each in HONEST),
        cheats=tuple(each.name for each in CHEATS),
        comparisons=len(schemes) * (len(settings) - 1) * experiment.n_images**2,
        comparison_s=seconds,
        schemes=tuple(schemes),
        code=f"studbook {__version__}",
        made=now(),
    )
    progress("the closest wrong pairs")
    pictures = draw_again(folder, recipes, result.shown)
    write_file(out / RESULTS, _to_bytes(result))
    return result, pictures


@dataclass(frozen=True, slots=True, eq=False)
class _Compared:
    """One scheme's hashes and histograms by setting."""

    scheme: str
    packed: Mapping[str, AnyArray]
    counts: Mapping[str, Ints]
    nearest: Mapping[str, Ints]
    seconds: float

    @property
    def reference(self) -> AnyArray:
        return self.packed[REFERENCE.name]

    def same_recipe(self, setting: Setting) -> Ints:
        return distances(self.reference, self.packed[setting.name]).astype(np.int64)


def _compare(scheme: str, packed: Mapping[str, AnyArray], classes: Ints, threads: int) -> _Compared:
    labels, begun = Labels(np.arange(len(classes)), classes), time.perf_counter()
    reference, others = packed[REFERENCE.name], [name for name in packed if name != REFERENCE.name]
    found = {name: grouped_histogram(reference, labels, packed[name], labels, threads=threads) for name in others}
    seconds = time.perf_counter() - begun
    counts, nearest = {name: each.counts for name, each in found.items()}, {name: each.closest for name, each in found.items()}
    return _Compared(scheme, packed, counts, nearest, seconds)


def _judge(
    compared: _Compared, recipes: Recipes, experiment: Experiment, hashes: Mapping[str, Mapping[str, AnyArray]], threads: int
) -> SchemeResult:
    """Error rates, the radius, and what follows from it."""
    confidence, n_bits = experiment.confidence, 8 * compared.reference.shape[1]
    designs = [Design(recipes.labels, same=group == "same class") for group in _GROUPS]
    close = {
        each.name: list_close(compared.reference, compared.packed[each.name], compared.counts[each.name], threads=threads)
        for each in HONEST
    }
    curves = {
        each.name: [
            collision_curve(close[each.name].of(design), design, compared.counts[each.name][1 + i], confidence)
            for i, design in enumerate(designs)
        ]
        for each in HONEST
    }
    worst: Ints = np.max([compared.same_recipe(each) for each in HONEST], axis=0)
    curve = tuple(
        Point(radius, bound_missed(worst, radius, confidence), *(worst_of([found[i][radius] for found in curves.values()]) for i in (0, 1)))
        for radius in range(n_bits + 1)
    )
    # Chosen on the first half of the recipes, bounded on the second; both have all classes by turns.
    half = len(worst) // 2
    radius = int(experiment.target.limit(worst[:half].astype(np.float64)))
    rng = stream(experiment.seed, "billion", compared.scheme, "bootstrap")
    at = [
        worst_of(
            [
                bootstrap_collisions(close[name].of(design), design, radius, found[i][radius], confidence=confidence, rng=rng)
                for name, found in curves.items()
            ]
        )
        for i, design in enumerate(designs)
    ]
    chosen = Point(radius, bound_missed(worst[half:], radius, confidence), *at)
    return SchemeResult(
        scheme=compared.scheme,
        n_bits=n_bits,
        counts={name: tuple(map(tuple, each.tolist())) for name, each in compared.counts.items()},
        curve=curve,
        chosen=chosen,
        cheats={each.name: bound_accepted(compared.same_recipe(each), radius, confidence) for each in CHEATS},
        votes=_votes(chosen),
        closest=_closest(compared, close, recipes, hashes),
    )


def _votes(chosen: Point) -> tuple[Votes, ...]:
    """Majorities of verifiers that each accept an honest claim at least, and a false one of the same class at most, as often as bounded."""
    p, q = 1.0 - chosen.missed.upper, chosen.same_class.upper
    return tuple(Votes(rho, vote_table(p, q, rho=rho, sizes=VOTERS)) for rho in CORRELATIONS)


def _closest(
    compared: _Compared, close: Mapping[str, ClosePairs], recipes: Recipes, hashes: Mapping[str, Mapping[str, AnyArray]]
) -> tuple[WrongPair, ...]:
    """The closest wrong pairs of each group over the honest environments; of two directions and several environments the first."""
    found: list[WrongPair] = []
    for group_number, group in enumerate(_GROUPS, start=1):
        design = Design(recipes.labels, same=group == "same class")
        candidates: list[tuple[int, int, int, int]] = []
        for number, setting in enumerate(HONEST):
            pairs = close[setting.name].of(design)
            # Pairs are listed by row and column; every picture pair is there at most twice in each environment.
            first = np.argsort(pairs.distances.astype(np.int16), kind="stable")[: 2 * CLOSEST]
            candidates += [(int(pairs.distances[i]), number, int(pairs.rows[i]), int(pairs.columns[i])) for i in first]
            row, column, distance = compared.nearest[setting.name][group_number].tolist()
            candidates += [(distance, number, row, column)] if row >= 0 else []
        seen: set[frozenset[int]] = set()
        for _, number, row, column in sorted(candidates):
            if len(seen) == CLOSEST:
                break
            if frozenset((row, column)) not in seen:
                seen.add(frozenset((row, column)))
                found.append(_pair(group, (row, column), HONEST[number].name, recipes, hashes))
    return tuple(found)


def _pair(group: Wrong, places: tuple[int, int], setting: str, recipes: Recipes, hashes: Mapping[str, Mapping[str, AnyArray]]) -> WrongPair:
    row, column = places
    apart = {
        name: int(distances(reference[row : row + 1], hashes[setting][name][column : column + 1])[0])
        for name, reference in hashes[REFERENCE.name].items()
    }
    classes, seeds = (recipes.requests[row], recipes.requests[column]), (recipes.seeds[row], recipes.seeds[column])
    return WrongPair(group, places, classes, seeds, setting, apart)


def _to_bytes(result: BillionResult) -> bytes:
    import json

    return json.dumps(to_plain(result), indent=1, ensure_ascii=False).encode()


def source_votes(sizes: Sequence[int] = VOTERS) -> tuple[VoteRow, ...]:
    """The source's figures for a majority of three, and what independent verifiers that give them would do in other numbers."""
    return vote_table(sizes=tuple(sizes))
