"""What the keys of a slice tell whoever sees them: which words a client has, and which client it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from studbook.arrays import Ints
from studbook.errors import ConfigError


@dataclass(frozen=True, slots=True)
class KeyLeak:
    """What an eavesdropper learns from the keys that clients ask for.

    Attributes:
        recovered: Mean share of a client's ``k`` most frequent words that are among its keys.
        guessed: The same of one who sees no keys, and names as many of the words that most clients have.
        held: Mean share of a client's keys that are words it has at all.
        bits: What one key, seen by itself, tells of which client asked: mutual information in bits.
        most_bits: The most that it could tell: log2 of the number of clients.
        identified: Share of the clients whose keys no other client asks for.
    """

    recovered: float
    guessed: float
    held: float
    bits: float
    most_bits: float
    identified: float


def key_leak(keys: Sequence[Ints], counts: Sequence[Ints], k: int) -> KeyLeak:
    """Measure the leak.

    With clients drawn uniformly and one of a client's keys uniformly, I(client; key) = H(key) − H(key | client), exact for these clients.

    Args:
        keys: Each client's keys, sorted and different.
        counts: ``(vocabulary,)`` how often each client has each word.
        k: How many of a client's words are to be recovered, 1 or more.

    Raises:
        ConfigError: No clients, other numbers of keys and counts, or keys that aren't words.

    Examples:
        >>> import numpy as np
        >>> from studbook.protocols.eavesdropping import key_leak
        >>> counts = [np.array([9, 4, 0, 0]), np.array([0, 0, 7, 5])]
        >>> leak = key_leak([np.array([0, 1]), np.array([2, 3])], counts, k=2)
        >>> leak.recovered, leak.guessed, leak.bits, leak.identified
        (1.0, 0.5, 1.0, 1.0)
    """
    if not keys or len(keys) != len(counts) or k < 1:
        raise ConfigError(f"{len(keys)} clients' keys and {len(counts)} clients' words, the {k} most frequent, expected 1 or more of each")
    size = len(counts[0])
    if any(len(each) != size for each in counts) or any(not len(each) or each.min() < 0 or each.max() >= size for each in keys):
        raise ConfigError(f"keys go from 0 to {size - 1:,}, one count a word", hint="pass the keys of one group, and counts of its size")
    tops = [_top(each, k) for each in counts]
    common = _top(np.sum([each > 0 for each in counts], axis=0) + np.sum(counts, axis=0) / (1.0 + np.sum(counts)), size)
    asked = np.zeros(size)
    for each in keys:
        asked[each] += 1.0 / (len(keys) * len(each))
    known = asked[asked > 0]
    entropy = -math.fsum((known * np.log2(known)).tolist())
    conditional = math.fsum(math.log2(len(each)) for each in keys) / len(keys)
    sets = [each.tobytes() for each in keys]
    return KeyLeak(
        recovered=_mean([np.isin(top, each).mean() for top, each in zip(tops, keys, strict=True)]),
        guessed=_mean([np.isin(top, common[: len(each)]).mean() for top, each in zip(tops, keys, strict=True)]),
        held=_mean([(count[each] > 0).mean() for count, each in zip(counts, keys, strict=True)]),
        bits=max(0.0, entropy - conditional), most_bits=math.log2(len(keys)), identified=_mean([sets.count(each) == 1 for each in sets]),
    )  # fmt: skip


def _top(counts: np.ndarray[tuple[int], np.dtype[np.float64]] | Ints, k: int) -> Ints:
    """The most frequent words that occur at all, the first by number where they are equal."""
    order = np.argsort(-counts, kind="stable")[:k]
    return order[counts[order] > 0]


def _mean(values: Sequence[Any]) -> float:
    return math.fsum(map(float, values)) / len(values)
