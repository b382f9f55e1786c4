"""What is looked at is drawn after the commitment: a function of it, so that nobody knows it before, and of a verifier's nonce."""

from __future__ import annotations

import hashlib


def challenge_bytes(purpose: str, commitment: str, nonce: str) -> bytes:
    """32 bytes for one purpose.

    Args:
        purpose: What they are for; other purposes get other bytes.
        commitment: Merkle root (hex).
        nonce: The verifier's, or empty: the claimant then could commit again and again until it likes what is drawn.

    Examples:
        >>> from studbook.fingerprints.challenge import challenge_bytes
        >>> challenge_bytes("step", "00", "") == challenge_bytes("key", "00", "")
        False
    """
    return hashlib.sha256(f"studbook.{purpose}/1 {commitment} {nonce}".encode()).digest()


def draw_places(purpose: str, commitment: str, nonce: str, n: int, size: int) -> tuple[int, ...]:
    """``n`` different places in 0 … size - 1, in order; all of them where there are no more.

    Examples:
        >>> from studbook.fingerprints.challenge import draw_places
        >>> draw_places("rows", "00", "", 5, 3)
        (0, 1, 2)
    """
    if n >= size:
        return tuple(range(size))
    found: set[int] = set()
    count = 0
    while len(found) < n:
        drawn = challenge_bytes(f"{purpose}.{count}", commitment, nonce)
        found.add(int.from_bytes(drawn[:16], "big") % size)
        count += 1
    return tuple(sorted(found))
