"""The claimant's side: make an output with its claim, and answer a verifier's challenge."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from studbook import __version__
from studbook.arrays import AnyArray
from studbook.errors import RecordError
from studbook.files import write_file
from studbook.fingerprints import ExactTokens, create
from studbook.fingerprints.activations import Activations, commit_activations, projection_key, row_bytes
from studbook.fingerprints.challenge import draw_places
from studbook.fingerprints.trajectory import commit_trajectory, draw_step, state_bytes
from studbook.records import (
    Claim,
    Digest,
    Environment,
    Evidence,
    ImageSampling,
    Opened,
    Recipe,
    TextSampling,
    open_merkle,
)
from studbook.verification.calibration import now
from studbook.verification.language import TextEngine
from studbook.verification.pictures import ImageEngine

IMAGE_SCHEMES = ("phash", "pdq", "dhash", "whash", "ahash", "colorhash")
OPENED_ROWS = 2
"""Hidden states of a text that are opened whole, so that projections can't be of other states than those that were committed to."""


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """An output, its claim, and what the claimant keeps to answer challenges.

    Attributes:
        claim: What is signed and sent.
        text: The written text; empty for a picture.
        pixels: ``(h, w)`` or ``(h, w, 3)`` uint8; ``None`` for a text.
        states: What the claim commits to: hidden states ``(n, width)`` of a text, or states ``(steps + 1, 2, c, h, w)`` of a picture.
    """

    claim: Claim
    text: str
    pixels: AnyArray | None
    states: AnyArray


def write_texts(engine: TextEngine, requests: Sequence[str], sampling: TextSampling, seeds: Sequence[int]) -> list[Made]:
    """Write texts side by side and claim them.

    Args:
        engine: The model in the environment that the claims state; its batch is that of the claims, whatever is passed here at once.
        requests: Prompts, all of the same number of tokens.
        sampling: How.
        seeds: One a prompt.
    """
    prompts = [engine.encode(request) for request in requests]
    written = engine.write(prompts, sampling, seeds)
    made = []
    for request, prompt, tokens, seed in zip(requests, prompts, written, seeds, strict=True):
        recipe = recipe_of(engine.model.digest, request, sampling, seed, engine.environment)
        hidden = engine.read(prompt, tokens, sampling, seed).hidden
        made.append(claim_text(engine, recipe, tokens, hidden))
    return made


def claim_text(engine: TextEngine, recipe: Recipe, tokens: Sequence[int], hidden: AnyArray) -> Made:
    """Claim that a recipe gave these tokens, with these hidden states ``(n, width)`` behind them."""
    text = engine.decode(tokens)
    claim = _claim(recipe, tuple(tokens), text_digests(tokens), commit_activations(hidden))
    return Made(claim, text, None, np.ascontiguousarray(hidden, np.float32))


def draw_pictures(engine: ImageEngine, requests: Sequence[str], sampling: ImageSampling, seeds: Sequence[int]) -> list[Made]:
    """Draw pictures side by side and claim them; arguments as in ``write_texts``, requests are classes."""
    drawing = engine.write(requests, sampling, seeds)
    made = []
    for i, (request, seed) in enumerate(zip(requests, seeds, strict=True)):
        recipe = recipe_of(engine.model.digest, request, sampling, seed, engine.environment)
        made.append(claim_picture(recipe, drawing.pixels[i], drawing.states[i]))
    return made


def claim_picture(recipe: Recipe, pixels: AnyArray, states: AnyArray) -> Made:
    """Claim that a recipe gave this picture, by way of these states ``(steps + 1, 2, c, h, w)``."""
    claim = _claim(recipe, (), image_digests(pixels), commit_trajectory(states))
    return Made(claim, "", pixels, states)


def text_digests(tokens: Sequence[int]) -> tuple[Digest, ...]:
    """The digests of a text that a claim holds."""
    return (ExactTokens().digest(np.asarray(tokens, np.int64)),)


def image_digests(pixels: AnyArray) -> tuple[Digest, ...]:
    """The digests of a picture that a claim holds."""
    return tuple(create(scheme).digest(pixels) for scheme in IMAGE_SCHEMES)


def answer(claim: Claim, states: AnyArray, nonce: str = "") -> Evidence:
    """The evidence that a challenge asks for.

    Args:
        claim: The claim.
        states: What it commits to: ``Made.states``.
        nonce: The verifier's, 32 hex digits; empty for a challenge that is drawn from the commitment alone.

    Raises:
        RecordError: The states aren't those of the claim.
    """
    text = claim.recipe.kind == "text"
    values = row_bytes(states) if text else [state_bytes(state) for state in states]
    if (commit_activations(states) if text else commit_trajectory(states)) != claim.commitment:
        raise RecordError("the stored states aren't those that the claim commits to", hint="keep the file that was written with the claim")
    opened = tuple(Opened.of(values[place], open_merkle(values, place)) for place in asked(claim, nonce, len(values)))
    projections = Activations().digest(states, projection_key(claim.commitment, nonce)) if text else None
    return Evidence(claim=claim.id, nonce=nonce, projections=projections, opened=opened)


def asked(claim: Claim, nonce: str, n_values: int) -> tuple[int, ...]:
    """The places that a challenge asks to be opened: some rows of a text; of a picture the start, one step's two ends, and the picture."""
    if claim.recipe.kind == "text":
        return draw_places("rows", claim.commitment, nonce, OPENED_ROWS, n_values)
    step = draw_step(claim.commitment, nonce, n_values - 1)
    return tuple(sorted({0, step, step + 1, n_values - 1}))


def save_states(path: Path, states: AnyArray) -> None:
    """Keep what a claim commits to, as safetensors.

    Raises:
        StorageError: The disk refused.
    """
    from safetensors.numpy import save

    write_file(path, save({"states": np.ascontiguousarray(states, np.float32)}))


def load_states(path: Path) -> AnyArray:
    """What ``save_states`` kept.

    Raises:
        RecordError: No such file, or another kind of file.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return np.asarray(load(path.read_bytes())["states"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise RecordError(
            f"{path} doesn't hold a claim's states: {error}", hint="it is written beside the claim by: studbook claim make"
        ) from error


def recipe_of(model: str, request: str, sampling: TextSampling | ImageSampling, seed: int, environment: Environment) -> Recipe:
    """What a model is run on, by this version."""
    return Recipe(model=model, request=request, sampling=sampling, seed=seed, code=f"studbook {__version__}", environment=environment)


def _claim(recipe: Recipe, tokens: tuple[int, ...], digests: tuple[Digest, ...], commitment: str) -> Claim:
    made = now()
    return Claim(recipe=recipe, tokens=tokens, digests=digests, commitment=commitment, nonce=secrets.token_hex(16), made=made)
