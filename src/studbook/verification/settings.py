"""The honest environments and the cheats that a calibration runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from studbook.records import Environment

Trick: TypeAlias = Literal["none", "prompt", "seed", "prefill", "junk", "steps", "layers"]


@dataclass(frozen=True, slots=True)
class Setting:
    """One way in which outputs are made.

    Attributes:
        name: For people.
        environment: Where.
        weight_bits: 8 or 4: rounded weights; 0: as they are.
        trick: What else is done: the answer to another ``prompt`` or ``seed``; written cheaply, then read by the right model
            (``prefill``); one token in the text replaced (``junk``); half of the denoising ``steps``; half of the ``layers``.
        other: Another model that is run in place of the claimed one.
    """

    name: str
    environment: Environment
    weight_bits: int = 0
    trick: Trick = "none"
    other: Path | None = None

    @property
    def honest(self) -> bool:
        """Whether it is what was promised."""
        return self.weight_bits == 0 and self.trick == "none" and self.other is None


def honest_settings(kind: Literal["text", "image"], *, batch: int = 8, bf16: bool = True, transformers: bool = True) -> tuple[Setting, ...]:
    """Number type × batch × threads × engine, as far as they can be told apart.

    Args:
        kind: Of the outputs.
        batch: Of the environments with several outputs side by side.
        bf16: Whether bf16 is honest.
        transformers: Whether transformers' engine is (texts only).
    """
    own = Environment()
    found = [own, replace(own, threads=2), replace(own, batch=batch)]
    if bf16:
        found += [replace(own, dtype="bf16"), replace(own, dtype="bf16", batch=batch)]
    if kind == "text" and transformers:
        found.append(replace(own, engine="transformers"))
        if bf16:
            found.append(replace(own, engine="transformers", dtype="bf16", batch=batch))
    return tuple(Setting(str(each), each) for each in found)


def declared_settings(environments: Sequence[Environment]) -> tuple[Setting, ...]:
    """The honest environments that a user declares."""
    return tuple(Setting(str(each), each) for each in environments)


def cheating_settings(
    kind: Literal["text", "image"], *, batch: int = 8, seeded: bool = True, smaller: Path | None = None
) -> Iterator[Setting]:
    """What a claimant could do instead of what was promised, each in the verifier's own environment, where it is hardest to tell.

    Args:
        kind: Of the outputs.
        batch: Outputs side by side: cheats are fast, too.
        seeded: Whether another seed gives another output (it doesn't where decoding is greedy).
        smaller: Folder of a smaller model, of the same tokens or pictures.
    """
    place = replace(Environment(), batch=batch)
    yield Setting("int8 weights", place, weight_bits=8)
    yield Setting("int4 weights", place, weight_bits=4)
    yield Setting("another prompt" if kind == "text" else "another class", place, trick="prompt")
    if seeded:
        yield Setting("another seed", place, trick="seed")
    if smaller is not None:
        # A smaller language model has other hidden states: whoever serves it must show those of the claimed one.
        read = "a smaller model, then read by the right one" if kind == "text" else "a smaller model"
        yield Setting(read, place, trick="prefill" if kind == "text" else "none", other=smaller)
    if kind == "text":
        yield Setting("half the layers", place, trick="layers")
        yield Setting("int4 weights, then read by the right model", place, weight_bits=4, trick="prefill")
        yield Setting("one junk token", place, trick="junk")
    else:
        yield Setting("half the steps", place, trick="steps")
