"""Beam search for a batch of prompts at once, with transformers' bookkeeping of finished hypotheses (``early_stopping=False``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

from studbook.neural.options import Decoding
from studbook.neural.sampling import best_extensions, survey

if TYPE_CHECKING:
    from studbook.neural.generate import Readable

NEVER = -1.0e9  # the score of a beam that doesn't exist (yet)


@dataclass(slots=True)
class _Finished:
    """The best finished hypotheses of each prompt, best first: ``k`` of them, not all of which need exist.

    Attributes:
        scores: ``(b, k)`` log-probabilities over length to the power of the length penalty; ``NEVER`` where there is none.
        tokens: ``(b, k, max_new)``.
        lengths: ``(b, k)``.
        open: ``(b,)`` whether a running beam could still become better than the worst of them.
    """

    scores: Tensor
    tokens: Tensor
    lengths: Tensor
    open: Tensor

    def offer(self, scores: Tensor, tokens: Tensor, length: int, accepted: Tensor) -> None:
        """Take candidates ``(b, c)`` where ``accepted``, as far as they are better than what is there."""
        k = self.scores.shape[1]
        scores = torch.where(accepted & self.open[:, None], scores, NEVER)
        merged, order = torch.cat((self.scores, scores), dim=1).topk(k, dim=1)
        tokens = torch.cat((self.tokens, tokens), dim=1)
        lengths = torch.cat((self.lengths, torch.full_like(order[:, :1], length).expand(-1, scores.shape[1])), dim=1)
        self.scores, self.lengths = merged, lengths.gather(1, order)
        self.tokens = tokens.gather(1, order[:, :, None].expand(-1, -1, tokens.shape[2]))

    def close(self, best_running: Tensor, length: int, length_penalty: float) -> None:
        """Close prompts whose best running beam, ``(b,)`` log-probability, ended now, would not be better than the worst finished one."""
        reachable = best_running / length**length_penalty
        self.open &= (reachable > self.scores[:, -1]) | (self.scores[:, -1] == NEVER)


def search_beams(
    model: Readable, prompts: Tensor, *, decoding: Decoding, end: int | None, max_new: int, min_new: int
) -> tuple[Tensor, Tensor]:
    """The likeliest continuation that beam search finds for each prompt; arguments and result as in ``generate``.

    At each step the ``2 k`` best one-token extensions of a prompt's ``k`` beams are looked at. Those among the best ``k`` that end are
    finished hypotheses; the best ``k`` that don't end go on.

    References:
        Vijayakumar et al. 2018 describe plain beam search; Wu et al. 2016, section 7, the length penalty, here in transformers' form.
    """
    n, k = len(prompts), decoding.beams
    logits, writing = model.prefill(prompts, beams=k, max_new=max_new)
    vocabulary = logits.shape[-1]
    fill = 0 if end is None else end
    written = prompts.new_full((n, k, max_new), fill)
    running = torch.zeros((n, 1), dtype=torch.float32, device=prompts.device)
    finished = _Finished(
        running.new_full((n, k), NEVER),
        written.clone(),
        prompts.new_full((n, k), max_new),
        torch.ones_like(running[:, 0], dtype=torch.bool),
    )
    seen = prompts[:, (prompts < vocabulary).all(dim=0)]
    rows = torch.arange(n, device=prompts.device)[:, None]
    for position in range(max_new):
        ban = end if end is not None and position < min_new else None
        past = (seen, written[:, : running.shape[1], :position]) if decoding.repetition_penalty != 1.0 else None
        scores, parents, tokens = _extend(logits, running, k, past, decoding.repetition_penalty, ban)
        ending = torch.zeros_like(tokens, dtype=torch.bool) if end is None else tokens == end
        last = position + 1 == max_new
        if last or (end is not None and bool(ending.any())):
            grown = written[rows, parents]
            grown[:, :, position] = tokens
            final = scores / (position + 1) ** decoding.length_penalty
            finished.offer(final[:, :k], grown[:, :k], position + 1, ending[:, :k] | last)
            if last:
                break
            scores, order = (scores + ending.float() * NEVER).topk(k, dim=1)
            parents, tokens = parents.gather(1, order), tokens.gather(1, order)
            written = grown.gather(1, order[:, :, None].expand(-1, -1, max_new))
        else:
            scores, parents, tokens = scores[:, :k], parents[:, :k], tokens[:, :k]
            written = written[rows, parents]
            written[:, :, position] = tokens
        running = scores
        if end is not None:
            finished.close(running[:, 0], position + 1, decoding.length_penalty)
            if not bool(finished.open.any()):
                break
        logits = writing.step(tokens.reshape(-1), parents.reshape(-1))
    return finished.tokens[:, 0], finished.lengths[:, 0]


def _extend(
    logits: Tensor, running: Tensor, k: int, past: tuple[Tensor, Tensor] | None, penalty: float, ban: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The ``2 k`` best extensions by one token, best first: their scores, beams and tokens, each ``(b, 2 k)``.

    Args:
        logits: ``(b * m, vocabulary)`` of the next token of ``m`` beams a prompt.
        running: ``(b, m)`` scores of the beams.
        k: Width of the search.
        past: Tokens of the prompts ``(b, t)`` and of the beams ``(b, m, s)`` that the repetition penalty acts on.
        penalty: The repetition penalty.
        ban: A token that can't be taken.
    """
    logits = logits.float()
    total, maxima = survey(logits)
    if past is not None:
        _penalise(logits, total, past, penalty)
    if ban is not None:
        logits[:, ban] = -torch.inf
    changed = past is not None or ban is not None
    vocabulary = logits.shape[-1]
    wanted = min(2 * k, running.shape[1] * vocabulary)
    scores, parents, tokens = best_extensions(logits, total, None if changed else maxima, running, wanted)
    if wanted < 2 * k:  # the first step with a vocabulary of less than 2 k tokens: extensions of beams that don't exist
        lacking = 2 * k - wanted
        scores, parents, tokens = F.pad(scores, (0, lacking), value=NEVER), F.pad(parents, (0, lacking)), F.pad(tokens, (0, lacking))
    return scores, parents, tokens


def _penalise(logits: Tensor, total: Tensor, past: tuple[Tensor, Tensor], penalty: float) -> None:
    """Multiply the log-probability of seen tokens by the penalty, in place; ``logits - total`` are log-probabilities."""
    prompt, written = past
    n, m, _ = written.shape
    seen = torch.cat((prompt[:, None].expand(-1, m, -1), written), dim=2).view(n * m, -1)
    logits.scatter_(1, seen, (logits.gather(1, seen) - total) * penalty + total)
