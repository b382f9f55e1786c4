"""Outputs of claims in the register: what was claimed is found again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from studbook.provenance import Signed
from studbook.records import Claim

if TYPE_CHECKING:
    from studbook.registry import Added, Register


def register_output(register: Register, claim: Signed[Claim], output: str | bytes) -> Added:
    """Keep a claim and its output in a register.

    The entry's model is the recipe's, its source ``claim:sha256:…``, so that whoever finds the output finds the claim, and the verdicts
    on it.

    Args:
        register: An open register.
        claim: The signed claim.
        output: The text, or the picture's file.

    Raises:
        DataError: A text that no register can hold: an empty one.
        RegisterUnavailableError: The database can't be reached.
    """
    source = f"claim:{register.add_claim(claim.data)}"
    model = claim.record.recipe.model
    if isinstance(output, str):
        return register.add_texts([output], model=model, source=source)
    return register.add_images([output], model=model, source=source)
