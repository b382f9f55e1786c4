"""Calibration of a model: outputs of honest environments and of cheats are made, claimed, challenged and measured like any others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from studbook import __version__
from studbook.arrays import AnyArray
from studbook.errors import CalibrationError, ConfigError
from studbook.records import Calibration, Claim, Environment, ImageSampling, Radius, Sequential, TextSampling, digest_of
from studbook.rng import stream
from studbook.verification.calibration import (
    Observation,
    Target,
    calibrate_level,
    calibrate_tokens,
    now,
    sizes_up_to,
    split_units,
    total_units,
)
from studbook.verification.claimant import Made, answer, claim_picture, claim_text, recipe_of
from studbook.verification.language import TextEngine
from studbook.verification.measure import TextTrace, measure_picture, measure_text, trace_text
from studbook.verification.models import RegisteredModel, register_model
from studbook.verification.pictures import ImageEngine
from studbook.verification.radii import radii_of
from studbook.verification.settings import Setting

Progress = Callable[[str], None]


def _quiet(_: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Plan:
    """What a calibration runs.

    Attributes:
        settings: Honest environments and cheats, one honest at least.
        target: What it promises.
        seed: Everything is drawn from.
        sequential_error: Of either kind, for the test by token.
        verifier: Where the verifier runs.
    """

    settings: tuple[Setting, ...]
    target: Target
    seed: int = 0
    sequential_error: float = 0.01
    verifier: Environment = Environment()  # noqa: RUF009 - frozen

    def __post_init__(self) -> None:
        if not any(setting.honest for setting in self.settings):
            raise ConfigError("a calibration needs an honest environment, got none", hint="declare the environments that claimants may use")
        names = [setting.name for setting in self.settings]
        if len(set(names)) < len(names):
            raise ConfigError(f"two settings of a calibration have one name: {', '.join(names)}")


def seeds_of(seed: int, n: int) -> list[int]:
    """The seeds of a calibration's outputs."""
    return [int(each) for each in stream(seed, "calibration", "seeds").integers(2**53, size=n)]


def calibrate_text(
    model: RegisteredModel, requests: Sequence[str], sampling: TextSampling, plan: Plan, *, progress: Progress = _quiet
) -> tuple[Calibration, dict[str, list[TextTrace]]]:
    """Limits for texts of up to ``sampling.max_new`` tokens.

    Args:
        model: The model.
        requests: Prompts of the kind that claims will have, all of one number of tokens, as many as ``total_units(target)`` or more.
        sampling: As claims will have it; texts are written to their full length.
        plan: What is run.
        progress: Is told what is being done.

    Returns:
        The calibration, and the traces that it rests on by setting.

    Raises:
        CalibrationError: Too few prompts for what is promised; nothing is run.
    """
    _require_units(len(requests), plan.target)
    verifier = TextEngine(model, plan.verifier)
    full = replace(sampling, stop=False)
    traces: dict[str, list[TextTrace]] = {}
    levels: dict[int, list[Observation]] = {size: [] for size in sizes_up_to(sampling.max_new)}
    for setting in plan.settings:
        progress(setting.name)
        traces[setting.name] = []
        for unit, made in enumerate(make_texts(model, requests, full, setting, plan.seed)):
            trace = trace_text(verifier, made.claim, answer(made.claim, made.states))
            traces[setting.name].append(trace)
            for size, found in levels.items():
                features = measure_text(trace.first(2 * size), size)
                found.append(Observation(unit, setting.name, setting.honest, features))
    honest = [setting.name for setting in plan.settings if setting.honest]
    tests = calibrate_tokens(traces, honest, target=plan.target, error=plan.sequential_error)
    return _calibration("text", model, (plan, sampling), levels, requests, tests), traces


def make_texts(model: RegisteredModel, requests: Sequence[str], sampling: TextSampling, setting: Setting, seed: int) -> Iterator[Made]:
    """Texts, and what is claimed of them, in one setting."""
    used = model if setting.other is None else register_model(setting.other)
    engine = TextEngine(used, setting.environment, weight_bits=setting.weight_bits, half=setting.trick == "layers")
    reader = TextEngine(model, replace(setting.environment, batch=1)) if setting.trick == "prefill" else engine
    seeds = seeds_of(seed, len(requests))
    asked = _turned(requests) if setting.trick == "prompt" else list(requests)
    drawn = [each ^ 1 for each in seeds] if setting.trick == "seed" else seeds
    junk = stream(seed, "calibration", "junk")
    size = setting.environment.batch
    for start in range(0, len(requests), size):
        part = slice(start, start + size)
        prompts = [engine.encode(request) for request in asked[part]]
        for i, tokens in enumerate(engine.write(prompts, sampling, drawn[part])):
            place = start + i
            kept = _with_junk(tokens, engine.vocabulary, junk) if setting.trick == "junk" else tokens
            hidden = reader.read(prompts[i], kept, sampling, seeds[place]).hidden
            recipe = recipe_of(model.digest, requests[place], sampling, seeds[place], setting.environment)
            yield claim_text(engine, recipe, kept, hidden)


def calibrate_pictures(
    model: RegisteredModel, n_units: int, sampling: ImageSampling, plan: Plan, *, scheme: str = "phash", progress: Progress = _quiet
) -> Calibration:
    """Limits for pictures, over all the classes that the model knows in turn; arguments as in ``calibrate_text``.

    ``scheme`` is the fingerprint whose distance is part of the score.

    Raises:
        CalibrationError: Too few pictures for what is promised; nothing is run.
    """
    _require_units(n_units, plan.target)
    verifier = ImageEngine(model, plan.verifier)
    found: list[Observation] = []
    pictures: dict[str, list[Claim]] = {setting.name: [] for setting in plan.settings if setting.honest}
    for setting in plan.settings:
        progress(setting.name)
        for unit, made in enumerate(make_pictures(model, n_units, sampling, setting, plan.seed)):
            if setting.honest:
                pictures[setting.name].append(made.claim)
            features = measure_picture(verifier, made.claim, answer(made.claim, made.states), schemes=(scheme,))
            found.append(Observation(unit, setting.name, setting.honest, features))
    own = [made.claim for made in make_pictures(model, n_units, sampling, Setting("the verifier", plan.verifier), plan.seed)]
    radii = radii_of(own, list(pictures.values()), plan.target, rng=stream(plan.seed, "calibration", "bootstrap"))
    return _calibration("image", model, (plan, sampling), {1: found}, requests_of(verifier.classes, n_units), radii=radii)


def make_pictures(model: RegisteredModel, n: int, sampling: ImageSampling, setting: Setting, seed: int) -> Iterator[Made]:
    """Pictures, and what is claimed of them, in one setting."""
    used = model if setting.other is None else register_model(setting.other)
    engine = ImageEngine(used, setting.environment, weight_bits=setting.weight_bits)
    requests = requests_of(engine.classes, n)
    asked = _turned(requests) if setting.trick == "prompt" else requests
    seeds = seeds_of(seed, n)
    drawn = [each ^ 1 for each in seeds] if setting.trick == "seed" else seeds
    half = setting.trick == "steps"
    how = replace(sampling, steps=max(1, sampling.steps // 2)) if half else sampling
    for start in range(0, n, setting.environment.batch):
        part = slice(start, min(start + setting.environment.batch, n))
        drawing = engine.write(asked[part], how, drawn[part])
        for i, (pixels, states) in enumerate(zip(drawing.pixels, drawing.states, strict=True)):
            place = start + i
            shown = _stretched(states, engine.n_steps(sampling)) if half else states
            recipe = recipe_of(model.digest, requests[place], sampling, seeds[place], setting.environment)
            yield claim_picture(recipe, pixels, shown)


def requests_of(classes: Sequence[int], n: int) -> list[str]:
    """Requests for the classes by turns; empty ones for an unconditional model."""
    return [str(classes[i % len(classes)]) if classes else "" for i in range(n)]


def _require_units(n: int, target: Target) -> None:
    needed = total_units(target)
    if n < needed:
        message = f"{n} units can't bound the false alarms by {target.false_alarm:g} with confidence {target.confidence:g}"
        raise CalibrationError(message, hint=f"{needed - n} more are needed ({needed} in all), or a larger false-alarm rate")


def _calibration(
    kind: Literal["text", "image"],
    model: RegisteredModel,
    how: tuple[Plan, TextSampling | ImageSampling],
    levels: dict[int, list[Observation]],
    requests: Sequence[str],
    tests: tuple[Sequential, ...] = (),
    radii: tuple[Radius, ...] = (),
) -> Calibration:
    plan, sampling = how
    n_units = len(requests)
    n_scale = split_units(n_units)
    return Calibration(
        kind=kind,
        model=model.digest,
        false_alarm=plan.target.false_alarm,
        confidence=plan.target.confidence,
        sampling=sampling,
        requests=digest_of(list(requests)),
        units=n_units - n_scale,
        scale_units=n_scale,
        verifier=plan.verifier,
        environments=tuple(setting.environment for setting in plan.settings if setting.honest),
        levels=tuple(calibrate_level(size, found, plan.target) for size, found in levels.items()),
        sequential=tests,
        radii=radii,
        seed=plan.seed,
        code=f"studbook {__version__}",
        made=now(),
    )


def _turned(requests: Sequence[str]) -> list[str]:
    """Each request's place is taken by the next one."""
    return [*requests[1:], requests[0]]


def _with_junk(tokens: Sequence[int], vocabulary: int, rng: np.random.Generator) -> list[int]:
    found, place = list(tokens), int(rng.integers(len(tokens)))
    found[place] = (found[place] + 1 + int(rng.integers(vocabulary - 1))) % vocabulary
    return found


def _stretched(states: AnyArray, steps: int) -> AnyArray:
    """A shorter run shown as one of ``steps`` steps: states are repeated."""
    return np.asarray(states[np.round(np.linspace(0, len(states) - 1, steps + 1)).astype(int)])
