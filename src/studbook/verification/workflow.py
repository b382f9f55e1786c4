"""Claims and calibrations of a model in a folder, in one call each: what the command line does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from studbook.errors import ConfigError, DataError
from studbook.records import Calibration, Environment, ImageSampling, TextSampling
from studbook.verification.calibrate import Plan, calibrate_pictures, calibrate_text
from studbook.verification.calibration import Target, total_units
from studbook.verification.claimant import Made, draw_pictures, write_texts
from studbook.verification.language import TextEngine
from studbook.verification.models import register_model
from studbook.verification.pictures import ImageEngine
from studbook.verification.prompts import cut_prompts, paragraphs
from studbook.verification.settings import cheating_settings, declared_settings, honest_settings


def make_claim(folder: Path, request: str, sampling: TextSampling | ImageSampling, seed: int, environment: Environment) -> Made:
    """Run a model in a folder on a request, and claim what comes out.

    Args:
        folder: The model's.
        request: The prompt, or the class of a picture.
        sampling: How; its type must be that of the model.
        seed: 0 … 2⁵³ - 1.
        environment: Where; its batch is 1.

    Raises:
        CheckpointError: No such model.
        DataError: The request doesn't suit the model.
        ConfigError: The sampling is for another kind of model.
    """
    model, environment = register_model(folder), replace(environment, batch=1)
    if isinstance(sampling, TextSampling) and model.family == "text":
        return write_texts(TextEngine(model, environment), [request], sampling, [seed])[0]
    if isinstance(sampling, ImageSampling) and model.family == "image":
        return draw_pictures(ImageEngine(model, environment), [request], sampling, [seed])[0]
    raise ConfigError(f"{folder} makes {model.family}s, the sampling is for the other kind")


def calibrate_model(
    folder: Path,
    sampling: TextSampling | ImageSampling,
    target: Target,
    *,
    seed: int = 0,
    batch: int = 8,
    bf16: bool = True,
    environments: Sequence[Environment] = (),
    verifier: Environment = Environment(),  # noqa: B008 - frozen
    smaller: Path | None = None,
    prompts: Sequence[str] | None = None,
    prompt_tokens: int = 24,
    scheme: str = "phash",
    progress: Callable[[str], None] = lambda _: None,
) -> Calibration:
    """Calibrate a model in a folder.

    Args:
        folder: The model's.
        sampling: As claims will have it.
        target: What is promised.
        seed: Everything is drawn from.
        batch: Of the environments with several outputs side by side.
        bf16: Whether bf16 is honest.
        environments: The honest ones; empty: those that number types, batches, threads and engines give.
        verifier: Where verifiers run.
        smaller: Folder of a smaller model whose use is a cheat.
        prompts: Of claims' kind, one number of tokens each; ``None`` cuts them out of Python's documentation.
        prompt_tokens: Tokens of a prompt that is cut.
        scheme: Fingerprint whose distance counts for pictures.
        progress: Is told what is being done.

    Raises:
        CalibrationError: Too few prompts; nothing is run.
        CheckpointError: No such model.
        ConfigError: The sampling is for another kind of model.
    """
    model = register_model(folder)
    kind = "text" if isinstance(sampling, TextSampling) else "image"
    if kind != model.family:
        raise ConfigError(f"{folder} makes {model.family}s, the sampling is for {kind}s")
    runs_elsewhere = "config.json" in model.files and not (isinstance(sampling, TextSampling) and sampling.beams > 1)
    usual = honest_settings(model.family, batch=batch, bf16=bf16, transformers=runs_elsewhere)
    seeded = isinstance(sampling, ImageSampling) or sampling.temperature > 0
    cheats = cheating_settings(model.family, batch=batch, seeded=seeded, smaller=smaller)
    plan = Plan((*(declared_settings(environments) or usual), *cheats), target, seed, verifier=verifier)
    n = total_units(target)
    if isinstance(sampling, ImageSampling):
        return calibrate_pictures(model, n, sampling, plan, scheme=scheme, progress=progress)
    requests = documentation_prompts(TextEngine(model, verifier), n, prompt_tokens) if prompts is None else list(prompts)
    return calibrate_text(model, requests, sampling, plan, progress=progress)[0]


def documentation_prompts(engine: TextEngine, n: int, length: int) -> list[str]:
    """Prompts out of the documentation that Python brings along."""
    from studbook.data import open_source

    data = open_source("python-docs").load()
    if data.records is None:
        raise DataError("Python's documentation isn't installed", hint="give prompts: --prompts FILE")
    words = (data.space.vocabulary[i] for i in data.records.values.ravel())
    return cut_prompts(engine, paragraphs(word for word in words if word != "<unk>"), n, length)
