"""Decoding: from a model and prompts to tokens, greedily, by sampling or by beam search, batched and with cached keys and values.

Greedy decoding and beam search give what transformers' ``generate`` gives, token for token (ties excepted): processors act on raw logits
in greedy decoding and sampling, on log-probabilities in beam search, both in single precision.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from studbook.errors import ConfigError
from studbook.neural.beams import search_beams
from studbook.neural.decoder import Decoder, Prepared
from studbook.neural.options import Decoding
from studbook.neural.parts import in_parts
from studbook.neural.sampling import History, sample


class Writing(Protocol):
    """Prompts that a model has read, and what is written after them. ``kv_cache.Continuation`` is one."""

    def step(self, tokens: Tensor, parents: Tensor | None = None) -> Tensor:
        """Write tokens ``(b * beams,)`` and give the logits ``(b * beams, vocabulary)`` of the next ones.

        Before that, each beam becomes a copy of the beam ``parents`` ``(b * beams,)``, 0 … beams - 1, of its prompt (``None``: of itself).
        """
        ...


class Readable(Protocol):
    """A model that can be decoded from. ``decoder.Decoder`` is one."""

    def prefill(self, prompts: Tensor, *, beams: int, max_new: int) -> tuple[Tensor, Writing]:
        """Read prompts ``(b, t)``: the logits ``(b, vocabulary)`` of the next token, and what writes on."""
        ...


@torch.inference_mode()
def generate(
    model: Readable,
    prompts: Tensor,
    *,
    decoding: Decoding,
    end: int | None,
    max_new: int,
    min_new: int = 0,
    uniforms: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Continue prompts.

    Args:
        model: Reads and writes; in evaluation mode. For several batches pass ``Decoder.prepare()``.
        prompts: ``(b, t)`` token ids on the model's device, one or more a prompt. Ids at or above the size of the vocabulary (a
            begin-of-text token) may only fill whole columns.
        decoding: Temperature, truncations, beams and penalties; its ``prompt``, ``max_new``, ``min_new``, ``end`` and ``batch`` are not
            looked at.
        end: Token that ends a continuation, or ``None``.
        max_new: Tokens of a continuation, at most, 0 or more.
        min_new: Tokens of a continuation before it may end.
        uniforms: ``(b, max_new)`` numbers in [0, 1), in double precision, one a token; needed for sampling only.

    Returns:
        Tokens ``(b, max_new)``, filled up with ``end`` after a continuation's end; and the continuations' lengths ``(b,)``, the end
        token counted.

    Raises:
        ConfigError: Sampling without uniform numbers.

    Examples:
        >>> import torch
        >>> from studbook.neural.decoder import Decoder, DecoderConfig
        >>> from studbook.neural.options import Decoding
        >>> model = Decoder(DecoderConfig(vocabulary=50, width=32, layers=2, heads=4, context=16)).eval()
        >>> tokens, lengths = generate(model, torch.tensor([[1, 2], [3, 4]]), decoding=Decoding(beams=3), end=None, max_new=5)
        >>> tokens.shape, lengths.tolist()
        (torch.Size([2, 5]), [5, 5])
    """
    n = len(prompts)
    if not n or not max_new:
        return prompts.new_zeros((n, max_new)), prompts.new_zeros((n,))
    if decoding.beams == 1 and decoding.temperature > 0 and uniforms is None:
        raise ConfigError("sampling needs uniform numbers, got none", hint="pass uniforms, or set temperature = 0")
    reader = model.prepare() if isinstance(model, Decoder) else model

    def write(part: slice) -> tuple[Tensor, Tensor]:
        if decoding.beams > 1:
            return search_beams(reader, prompts[part], decoding=decoding, end=end, max_new=max_new, min_new=min_new)
        given = None if uniforms is None or decoding.temperature <= 0 else uniforms[part]
        return _write(reader, prompts[part], decoding, (end, max_new, min_new), given)

    written = in_parts(write, n) if isinstance(reader, Prepared) and prompts.device.type == "cpu" else [write(slice(0, n))]
    tokens, lengths = zip(*written, strict=True)
    return torch.cat(tokens), torch.cat(lengths)


def _write(
    model: Readable, prompts: Tensor, decoding: Decoding, limits: tuple[int | None, int, int], uniforms: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Greedy decoding and sampling."""
    end, max_new, min_new = limits
    n = len(prompts)
    tokens = prompts.new_full((n, max_new), 0 if end is None else end)
    lengths = prompts.new_full((n,), max_new)
    logits, writing = model.prefill(prompts, beams=1, max_new=max_new)
    history = History.of(prompts, logits.shape[-1], max_new, decoding.repetition_penalty)
    going = torch.ones(n, dtype=torch.bool, device=prompts.device)
    for position in range(max_new):
        scores = history.penalise_logits(logits.float())
        if end is not None and position < min_new:
            scores[:, end] = -torch.inf
        uniform = None if uniforms is None else uniforms[:, position]
        chosen = scores.argmax(dim=-1) if uniform is None else sample(scores, decoding, uniform)
        if end is not None:
            chosen = torch.where(going, chosen, end)
            ended = going & (chosen == end)
            lengths[ended] = position + 1
            going &= ~ended
        tokens[:, position] = chosen
        if position + 1 == max_new or (end is not None and not bool(going.any())):
            break
        history.add(chosen)
        logits = writing.step(chosen)
    return tokens, lengths
