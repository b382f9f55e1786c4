"""What is done to the logits of the next token before one is taken, and taking one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from studbook.neural.choice_kernels import RUN, choose, extend, scan
from studbook.neural.options import Decoding

WIDE = 512  # as many of the likeliest tokens are sorted before all are


@dataclass(slots=True)
class History:
    """Tokens that the repetition penalty acts on: the prompt's and the written ones.

    Attributes:
        penalty: Above 1 makes them less likely; 1 does nothing, and nothing is kept.
        tokens: ``(b, t + max_new)``; prompt, then what was written, in ``[0, vocabulary)``.
        length: Columns that are filled.
    """

    penalty: float
    tokens: Tensor
    length: int

    @classmethod
    def of(cls, prompts: Tensor, vocabulary: int, max_new: int, penalty: float) -> History:
        """Begin with prompts ``(b, t)``; columns that hold tokens outside the vocabulary are left out."""
        if penalty == 1.0:
            return cls(penalty, prompts[:, :0], 0)
        read = prompts[:, (prompts < vocabulary).all(dim=0)]
        return cls(penalty, torch.cat((read, read.new_zeros((len(read), max_new))), dim=1), read.shape[1])

    def add(self, tokens: Tensor) -> None:
        """One more token ``(b,)`` a row."""
        if self.penalty != 1.0:
            self.tokens[:, self.length] = tokens
            self.length += 1

    def penalise_logits(self, logits: Tensor) -> Tensor:
        """Divide positive logits ``(b, vocabulary)`` of seen tokens by the penalty, multiply negative ones; in place."""
        if self.penalty == 1.0:
            return logits
        seen = self.tokens[:, : self.length]
        values = logits.gather(1, seen)
        return logits.scatter_(1, seen, torch.where(values < 0, values * self.penalty, values / self.penalty))


def sample(scores: Tensor, decoding: Decoding, uniforms: Tensor) -> Tensor:
    """One token a row ``(b,)`` under the decoding, from logits ``(b, vocabulary)``, which may be overwritten.

    ``uniforms`` ``(b,)`` in [0, 1), in double precision, decide. A compiled loop does the same as ``truncate`` and ``draw``.
    """
    if not compiled(scores):
        return draw(truncate(scores, decoding), uniforms)
    chosen = torch.empty(len(scores), dtype=torch.int64)
    settings = (float(decoding.temperature), int(decoding.top_k), float(decoding.top_p))
    read, given, taken = scores.numpy(), uniforms.contiguous().numpy(), chosen.numpy()
    choose(read.reshape(-1), scores.shape[1], settings, given, taken)
    return chosen


def truncate(scores: Tensor, decoding: Decoding) -> Tensor:
    """Temperature, then the ``top_k`` likeliest, then the fewest likeliest that hold ``top_p``; the others get minus infinity.

    Args:
        scores: Logits ``(b, vocabulary)``.
        decoding: The three settings. The temperature is above 0.
    """
    if decoding.temperature != 1.0:
        scores = scores / decoding.temperature
    if 0 < decoding.top_k < scores.shape[-1]:
        lowest = largest(scores, decoding.top_k)[0][:, -1:]
        scores = scores.masked_fill(scores < lowest, -torch.inf)
    if decoding.top_p < 1.0:
        scores = scores.masked_fill(scores < _nucleus(scores, decoding.top_p), -torch.inf)
    return scores


def _nucleus(scores: Tensor, top_p: float) -> Tensor:
    """The lowest score ``(b, 1)`` of the fewest likeliest tokens that hold ``top_p`` of the probability."""
    total = scores.logsumexp(dim=-1, keepdim=True)
    for width in (WIDE, scores.shape[-1]):
        if width > scores.shape[-1]:
            continue
        values = largest(scores, width)[0]
        held = (values - total).exp().cumsum(dim=-1)
        if width == scores.shape[-1] or bool((held[:, -1] >= top_p).all()):
            break
    before = held.roll(1, dims=-1)
    before[:, 0] = 0.0
    kept = (before < top_p).sum(dim=-1, keepdim=True).clamp_(min=1)
    return values.gather(1, kept - 1)


def survey(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The log of the sum of all exponentials ``(b, 1)`` of logits ``(b, vocabulary)``, and the maxima of their whole runs."""
    n, width = logits.shape
    runs = width // RUN
    if compiled(logits):
        maxima, totals = logits.new_empty((n, runs)), logits.new_empty((n, 1))
        scan(logits.view(-1).numpy(), width, maxima.view(-1).numpy(), totals.view(-1).numpy())
        return totals, maxima
    return logits.logsumexp(dim=-1, keepdim=True), _run_maxima(logits)


def _run_maxima(scores: Tensor) -> Tensor:
    runs = scores.shape[1] // RUN
    return scores[:, : runs * RUN].reshape(len(scores), runs, RUN).amax(dim=-1)


def largest(scores: Tensor, k: int, maxima: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The ``k`` largest of each row ``(b, n)``, in falling order, and where they are.

    The ``k`` runs with the largest maxima hold the ``k`` largest numbers, so that only those runs are searched.

    Args:
        scores: Finite or minus infinity.
        k: At most n.
        maxima: Of the whole runs, where they are known.
    """
    n, width = scores.shape
    runs = width // RUN
    if runs < 4 * k:
        values, places = scores.topk(k, dim=-1)
        return values, places
    best = (_run_maxima(scores) if maxima is None else maxima).topk(k, dim=-1, sorted=False).indices
    places = (best[:, :, None] * RUN + torch.arange(RUN, device=scores.device)).view(n, -1)
    if runs * RUN < width:
        rest = torch.arange(runs * RUN, width, device=scores.device).expand(n, -1)
        places = torch.cat((places, rest), dim=1)
    values, order = scores.gather(1, places).topk(k, dim=-1)
    return values, places.gather(1, order)


def best_extensions(logits: Tensor, totals: Tensor, maxima: Tensor | None, running: Tensor, wanted: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best one-token extensions of each prompt's beams, best first.

    Args:
        logits: ``(b * m, vocabulary)``.
        totals: ``(b * m, 1)`` what makes them log-probabilities when it is taken away.
        maxima: Of the whole runs, where they are known.
        running: ``(b, m)`` scores of the beams.
        wanted: At most ``m * vocabulary``.

    Returns:
        Scores, beams and tokens, each ``(b, wanted)``.
    """
    n, width = len(running), logits.shape[1]
    if compiled(logits):
        maxima = (_run_maxima(logits) if maxima is None else maxima).contiguous()
        scores = running.new_empty((n, wanted))
        parents, tokens = (torch.empty((n, wanted), dtype=torch.int64) for _ in range(2))
        surveyed = (maxima.view(-1).numpy(), totals.view(-1).numpy())
        extend(logits.view(-1).numpy(), width, surveyed, running.contiguous().numpy(), (scores.numpy(), parents.numpy(), tokens.numpy()))
        return scores, parents, tokens
    each = min(wanted, width)
    best, tokens = largest(logits, each, maxima)
    scores = ((best - totals).view(n, -1, each) + running[:, :, None]).view(n, -1)
    scores, order = scores.topk(wanted, dim=1)
    return scores, order // each, tokens.view(n, -1).gather(1, order)


def compiled(scores: Tensor) -> bool:
    """Whether compiled loops can take these scores."""
    return scores.device.type == "cpu" and scores.dtype == torch.float32 and scores.is_contiguous()


def draw(scores: Tensor, uniforms: Tensor) -> Tensor:
    """One token a row by the inverse of the distribution function, in the order of the token ids.

    Args:
        scores: Logits ``(b, vocabulary)``, not all minus infinity. They are overwritten.
        uniforms: ``(b,)`` in [0, 1), in double precision.

    Returns:
        Tokens ``(b,)``.
    """
    n, width = scores.shape
    weights = scores.sub_(scores.amax(dim=-1, keepdim=True)).exp_()
    runs, even = width // RUN, width // RUN * RUN
    sums = weights[:, :even].reshape(n, runs, RUN).sum(dim=-1, dtype=torch.float64) if runs else weights.new_empty((n, 0))
    if even < width:
        sums = torch.cat((sums.double(), weights[:, even:].sum(dim=-1, keepdim=True, dtype=torch.float64)), dim=1)
    run, left = _locate(sums, uniforms * sums.sum(dim=-1))
    places = (run * RUN)[:, None] + torch.arange(RUN, device=scores.device)
    inside = weights.gather(1, places.clamp(max=width - 1)).double().masked_fill_(places >= width, 0.0)
    return run * RUN + _locate(inside, left)[0]


def _locate(masses: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The first column at which the running sum of ``masses`` ``(b, n)`` is above ``target`` ``(b,)``, and what is left of it there.

    Targets that rounding put outside are taken back, so that a column without mass is never chosen.
    """
    sums = masses.cumsum(dim=-1)
    top = torch.nextafter(sums[:, -1], torch.zeros_like(target))
    inside = torch.minimum(target.clamp(min=0.0), top)
    column = torch.searchsorted(sums, inside[:, None], right=True).clamp_(max=masses.shape[-1] - 1)
    before = (sums - masses).gather(1, column)
    return column[:, 0], inside - before[:, 0]
