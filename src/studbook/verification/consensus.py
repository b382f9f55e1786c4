"""Where greedy decoding and beam search give the same text, token for token, and where they don't."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from studbook.errors import ConfigError
from studbook.records import Environment, TextSampling
from studbook.theory import clopper_pearson
from studbook.verification.language import TextEngine
from studbook.verification.models import register_model
from studbook.verification.workflow import documentation_prompts


def consensus_rows(
    folder: Path,
    beams: Sequence[int],
    *,
    n: int,
    max_new: int,
    prompt_tokens: int = 24,
    confidence: float = 0.95,
    batch: int = 8,
    progress: Callable[[str], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """How many texts are the same as those of the reference: studbook's engine, fp32, one thread, one text at a time.

    Args:
        folder: A language model's.
        beams: Widths; 1 is greedy.
        n: Prompts, cut from Python's documentation.
        max_new: Tokens of each text.
        prompt_tokens: Tokens of each prompt.
        confidence: Of the intervals, by prompt.
        batch: Texts side by side, in the environments that have several.
        progress: Is told what is being done.

    Raises:
        ConfigError: No beams, or the model makes pictures.
    """
    model = register_model(folder)
    if not beams or model.family != "text":
        raise ConfigError(f"consensus needs a language model and beam widths, got a model of {model.family}s and {list(beams)}")
    reference = TextEngine(model, Environment())
    requests = documentation_prompts(reference, n, prompt_tokens)
    prompts = [reference.encode(request) for request in requests]
    rows = []
    for width in beams:
        sampling = TextSampling(max_new=max_new, beams=width, stop=False)
        expected = _written(reference, prompts, sampling, 1)
        for environment in _environments(model.files, batch):
            progress(f"{width} beams: {environment}")
            found = _written(TextEngine(model, environment), prompts, sampling, environment.batch)
            same = sum(a == b for a, b in zip(expected, found, strict=True))
            first = [
                next(i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y) for a, b in zip(expected, found, strict=True) if a != b
            ]
            lower, upper = clopper_pearson(same, n, confidence)
            rows.append(
                {
                    "decoding": "greedy" if width == 1 else f"{width} beams", "environment": str(environment), "same": f"{same} of {n}",
                    "interval": f"{lower:.3f} to {upper:.3f}", "first difference": f"token {min(first)} to {max(first)}" if first else "–",
                }
            )  # fmt: skip
    return rows


def _environments(files: Any, batch: int) -> list[Environment]:
    own = Environment()
    found = [replace(own, threads=2), replace(own, batch=batch), replace(own, dtype="bf16"), replace(own, dtype="bf16", batch=batch)]
    return [*found, replace(own, engine="transformers")] if "config.json" in files else found


def _written(engine: TextEngine, prompts: Sequence[list[int]], sampling: TextSampling, batch: int) -> list[list[int]]:
    return [
        tokens
        for start in range(0, len(prompts), batch)
        for tokens in engine.write(prompts[start : start + batch], sampling, [0] * len(prompts[start : start + batch]))
    ]
