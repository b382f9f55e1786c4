"""Causal language models of any other architecture: transformers' own module behind the interface of the generic decoder. Slower."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from studbook.errors import CheckpointError

# Where a config says nothing about the longest context.
_CONTEXT = 2048


class Foreign(nn.Module):
    """A causal language model of transformers.

    Its "hidden states" are the logits themselves: what an architecture does between the two (scales, caps, biases) is its own.

    Attributes:
        model: Transformers' module.
        vocabulary: Tokens that can be predicted: the first ones; the rest can only be read.
    """

    def __init__(self, model: Any, vocabulary: int) -> None:
        super().__init__()
        self.model = model
        self.vocabulary = vocabulary

    @property
    def context(self) -> int:
        """Largest number of tokens in a row."""
        config = self.model.config
        known = [getattr(config, name, None) for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")]
        return next((int(value) for value in known if isinstance(value, int) and value > 0), _CONTEXT)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits ``(b, t, vocabulary)`` of tokens ``(b, t)``."""
        logits: Tensor = self.model(input_ids=tokens, use_cache=False).logits
        return logits[..., : self.vocabulary]

    def logits(self, hidden: Tensor) -> Tensor:
        """What ``forward`` gives."""
        return hidden

    def prefill(self, prompts: Tensor, *, beams: int, max_new: int) -> tuple[Tensor, ForeignWriting]:
        """Read prompts ``(b, t)``: the logits ``(b, vocabulary)`` of the next token, and what goes on from there."""
        del max_new
        return ForeignWriting.start(self, prompts, beams)


class ForeignWriting:
    """Prompts that a foreign model has read, and what is written after them, in transformers' own cache.

    A model whose cache can't be reordered reads everything again at each step.
    """

    def __init__(self, foreign: Foreign, cache: Any, rows: Tensor, beams: int) -> None:
        self._foreign, self._cache, self._rows, self._beams = foreign, cache, rows, beams

    @classmethod
    def start(cls, foreign: Foreign, prompts: Tensor, beams: int) -> tuple[Tensor, ForeignWriting]:
        """Read prompts ``(b, t)``."""
        out = foreign.model(input_ids=prompts, use_cache=True)
        cache = out.get("past_key_values")
        each = torch.arange(len(prompts), device=prompts.device).repeat_interleave(beams)
        if not hasattr(cache, "reorder_cache"):
            cache = None
        elif beams > 1:
            cache.reorder_cache(each)
        return out.logits[:, -1, : foreign.vocabulary].contiguous(), cls(foreign, cache, prompts[each], beams)

    def step(self, tokens: Tensor, parents: Tensor | None = None) -> Tensor:
        """Write one token a beam; see ``generate.Writing``."""
        if parents is not None:
            first = torch.arange(len(tokens), device=tokens.device).div(self._beams, rounding_mode="floor") * self._beams
            order = first + parents
            self._rows = self._rows[order]
            if self._cache is not None:
                self._cache.reorder_cache(order)
        self._rows = torch.cat((self._rows, tokens[:, None]), dim=1)
        if self._cache is None:
            out = self._foreign.model(input_ids=self._rows, use_cache=False)
        else:
            out = self._foreign.model(input_ids=tokens[:, None], past_key_values=self._cache, use_cache=True)
        logits: Tensor = out.logits[:, -1, : self._foreign.vocabulary].contiguous()
        return logits


def read_foreign(folder: Path, config: Any, vocabulary: int) -> Foreign:
    """Transformers' module with the weights of a folder, in fp32.

    Raises:
        CheckpointError: The weights don't fit the config, or transformers has no causal language model of that kind.
    """
    from transformers import AutoModelForCausalLM

    try:
        model, about = AutoModelForCausalLM.from_pretrained(
            str(folder), config=config, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32,
            output_loading_info=True,
        )  # fmt: skip
    except Exception as error:  # anything, from files that don't fit
        reason = (str(error).strip().splitlines() or [repr(error)])[0][:300]
        message = f"{folder} can't be loaded as a causal language model ({config.model_type}): {reason}"
        raise CheckpointError(message, hint="choose a folder with a model that transformers' AutoModelForCausalLM loads") from error
    for key, verb in (("missing_keys", "lacks"), ("mismatched_keys", "has another shape of"), ("unexpected_keys", "holds surplus")):
        if about.get(key):
            message = f"{folder} is of another architecture: it {verb} {sorted(map(str, about[key]))[0]!r} of a {config.model_type}"
            raise CheckpointError(message, hint="config.json and the weights don't belong together")
    return Foreign(model.eval(), vocabulary)
