"""The steps of a denoising run under one Merkle root, so that a verifier redoes one step that it draws itself, instead of all."""

from __future__ import annotations

import numpy as np

from studbook.arrays import AnyArray
from studbook.errors import RecordError
from studbook.fingerprints.challenge import draw_places
from studbook.records import Opening, check_opening, merkle_root, open_merkle


def state_bytes(state: AnyArray) -> bytes:
    """What a commitment is made over: one state, as little-endian float32 in C order."""
    return np.ascontiguousarray(state, dtype="<f4").tobytes()


def commit_trajectory(states: AnyArray) -> str:
    """The Merkle root (hex) over the states ``(steps + 1, …)`` of one picture, from noise to picture.

    Examples:
        >>> import numpy as np
        >>> from studbook.fingerprints.trajectory import check_state, commit_trajectory, draw_step, open_state
        >>> states = np.random.default_rng(0).normal(size=(9, 1, 8, 8)).astype(np.float32)
        >>> root = commit_trajectory(states)
        >>> step = draw_step(root, "the verifier's nonce", 8)
        >>> check_state(root, states[step], open_state(states, step), step=step, steps=8)
    """
    return merkle_root([state_bytes(state) for state in states])


def open_state(states: AnyArray, index: int) -> Opening:
    """The proof that a state is the one at ``index``, 0 … steps.

    Raises:
        RecordError: There is no such state.
    """
    return open_merkle([state_bytes(state) for state in states], index)


def check_state(root: str, state: AnyArray, opening: Opening, *, step: int, steps: int) -> None:
    """Return nothing where ``state`` is the committed one before step ``step`` of ``steps`` (``step = steps``: the picture).

    Raises:
        RecordError: It isn't, or the trajectory has another number of steps.
    """
    if (opening.index, opening.size) != (step, steps + 1):
        raise RecordError(f"an opening is of state {opening.index} of {opening.size}, expected {step} of {steps + 1}")
    check_opening(root, state_bytes(state), opening)


def draw_step(commitment: str, nonce: str, steps: int) -> int:
    """The step that is redone, 0 … steps - 1."""
    return draw_places("step", commitment, nonce, 1, steps)[0]
