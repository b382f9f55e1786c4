"""Numba kernels of text watermarks: PyTorch's permutations without PyTorch, n-grams that come for the first time, green tokens, g-values.

``torch.randperm`` on a CPU is a Fisher–Yates shuffle from the front under MT19937, whose 624 words are filled from the low 32 bits of the
seed. The first ``size`` places of the permutation are final after ``size`` steps, so that a green list costs no more than that; and whether
one token is among them is seen by following that token alone.
"""

from __future__ import annotations

import numba
import numpy as np

from studbook.arrays import AnyArray, Ints

STATE = 624
TABLE = 1_000_003
"""Places of the table that transformers' ``selfhash`` looks tokens up in."""
_MULTIPLIER = np.uint64(6364136223846793005)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(29)
_ONE, _SIX, _BITS = np.uint64(1), np.uint64(6), np.uint64(63)
_LOW = np.uint64(0xFFFFFFFF)


@numba.njit(cache=True, nogil=True)
def _seed_state(state: AnyArray, seed: int) -> None:
    """Fill MT19937's words ``(624,)`` uint32."""
    state[0] = np.uint32(seed)
    for j in range(1, STATE):
        before = np.uint64(state[j - 1])
        mixed = before ^ (before >> np.uint64(30))
        state[j] = np.uint32((np.uint64(1812433253) * mixed + np.uint64(j)) & _LOW)


@numba.njit(cache=True, nogil=True, inline="always")
def _twisted(high: np.uint32, low: np.uint32, far: np.uint32) -> np.uint32:
    word = (high & np.uint32(0x80000000)) | (low & np.uint32(0x7FFFFFFF))
    return np.uint32(far ^ (word >> np.uint32(1)) ^ ((low & np.uint32(1)) * np.uint32(0x9908B0DF)))


@numba.njit(cache=True, nogil=True)
def _next_places(state: AnyArray, first: int, n: int, places: AnyArray) -> None:
    """The next 624 steps of the shuffle of ``n`` from step ``first`` on: what place each one swaps with, ``places`` (624,) int32."""
    for j in range(STATE - 397):
        state[j] = _twisted(state[j], state[j + 1], state[j + 397])
    for j in range(STATE - 397, STATE - 1):
        state[j] = _twisted(state[j], state[j + 1], state[j + 397 - STATE])
    state[STATE - 1] = _twisted(state[STATE - 1], state[0], state[396])
    for j in range(STATE):
        word = state[j]
        word ^= word >> np.uint32(11)
        word ^= (word << np.uint32(7)) & np.uint32(0x9D2C5680)
        word ^= (word << np.uint32(15)) & np.uint32(0xEFC60000)
        word ^= word >> np.uint32(18)
        # The remainder in double precision is exact below 2^53, and a vector instruction; integers' isn't.
        left = max(1.0, np.float64(n - first - j))
        number = np.float64(word)
        places[j] = np.int32(number - left * np.floor(number / left)) + np.int32(first + j)


@numba.njit(cache=True, nogil=True)
def permute(seed: int, n: int, size: int) -> AnyArray:
    """The first ``size`` numbers of the permutation of ``n`` under a seed: ``(size,)`` int32, ``size`` below ``n``."""
    numbers = np.arange(n).astype(np.int32)
    _permute(seed, numbers, size, np.empty(STATE, np.uint32), np.empty(STATE, np.int32))
    return numbers[:size].copy()


@numba.njit(cache=True, nogil=True)
def _permute(seed: int, numbers: AnyArray, size: int, state: AnyArray, places: AnyArray) -> None:
    _seed_state(state, seed)
    for first in range(0, size, STATE):
        _next_places(state, first, numbers.size, places)
        for j in range(min(STATE, size - first)):
            other = places[j]
            kept = numbers[first + j]
            numbers[first + j] = numbers[other]
            numbers[other] = kept


@numba.njit(cache=True, nogil=True)
def fill_lists(seeds: AnyArray, n: int, size: int, lists: AnyArray) -> None:
    """The green list of each seed as bits.

    Args:
        seeds: ``(k,)`` uint32.
        n: Tokens of the vocabulary.
        size: Green ones, below ``n``.
        lists: ``(k, ceil(n / 64))`` uint64, written; token t is bit t mod 64 of word t // 64.
    """
    base = np.arange(n).astype(np.int32)
    numbers, state, places = np.empty_like(base), np.empty(STATE, np.uint32), np.empty(STATE, np.int32)
    for k in range(seeds.size):
        numbers[:] = base
        lists[k] = np.uint64(0)
        _permute(seeds[k], numbers, size, state, places)
        for i in range(size):
            token = np.uint64(numbers[i])
            lists[k, np.intp(token >> _SIX)] |= _ONE << (token & _BITS)


@numba.njit(cache=True, nogil=True)
def place_of(seed: int, token: int, n: int, size: int, state: AnyArray, places: AnyArray) -> int:
    """Where a token lies in the permutation of ``n`` under a seed, or ``size`` where it isn't among the first ``size``, below ``n``."""
    _seed_state(state, seed)
    at = token
    for first in range(0, size, STATE):
        _next_places(state, first, n, places)
        for j in range(min(STATE, size - first)):
            if places[j] == at:
                return first + j  # it was swapped to here, and this place isn't touched again
            if first + j == at:
                at = places[j]
    return size


@numba.njit(cache=True, nogil=True)
def rank_tokens(seeds: AnyArray, tokens: AnyArray, n: int, ranks: Ints) -> None:
    """Where each token lies in the whole permutation under its seed, 0 … n - 1: ``(k,)`` each."""
    state, places = np.empty(STATE, np.uint32), np.empty(STATE, np.int32)
    for k in range(tokens.size):
        ranks[k] = place_of(seeds[k], tokens[k], n, n - 1, state, places)


@numba.njit(cache=True, nogil=True)
def find_first(ids: AnyArray, begins: Ints, stops: Ints, width: int, fresh: AnyArray) -> None:
    """Which places end a run of ``width`` tokens that didn't end at an earlier place of the same text.

    Args:
        ids: ``(n,)`` int32, texts end to end.
        begins: ``(m,)`` first place of each text that counts; ``width`` - 1 tokens of the same text come before it.
        stops: ``(m,)`` where each text ends, at least its beginning.
        width: Tokens a run, 1 or more.
        fresh: ``(n,)`` uint8 zeros; 1 is written.
    """
    largest = 16
    for text in range(begins.size):
        while largest < 2 * (stops[text] - begins[text]):
            largest *= 2
    table = np.empty(largest, np.int32)
    for text in range(begins.size):
        size = 16
        while size < 2 * (stops[text] - begins[text]):
            size *= 2
        table[:size] = -1
        for place in range(begins[text], stops[text]):
            state = _ONE
            for k in range(place - width + 1, place + 1):
                state = (state ^ np.uint64(ids[k])) * _MULTIPLIER + _GOLDEN
                state ^= state >> _SHIFT
            slot = np.intp(state & np.uint64(size - 1))
            while True:
                known = table[slot]
                if known < 0:
                    table[slot] = place
                    fresh[place] = 1
                    break
                same = True
                for k in range(width):
                    if ids[known - k] != ids[place - k]:
                        same = False
                        break
                if same:
                    break
                slot = (slot + 1) & (size - 1)


@numba.njit(cache=True, nogil=True)
def find_first_codes(codes: AnyArray, bounds: Ints, first: AnyArray) -> None:
    """Which codes come for the first time in their text.

    Args:
        codes: ``(k,)`` uint64, text by text.
        bounds: ``(m + 1,)`` where each text's begin, and the end.
        first: ``(k,)`` uint8 zeros; 1 is written.
    """
    largest = 16
    for text in range(bounds.size - 1):
        while largest < 2 * (bounds[text + 1] - bounds[text]):
            largest *= 2
    table = np.empty(largest, np.int32)
    for text in range(bounds.size - 1):
        size = 16
        while size < 2 * (bounds[text + 1] - bounds[text]):
            size *= 2
        table[:size] = -1
        for k in range(bounds[text], bounds[text + 1]):
            state = codes[k] * _GOLDEN
            slot = np.intp((state ^ (state >> _SHIFT)) & np.uint64(size - 1))
            while table[slot] >= 0 and codes[table[slot]] != codes[k]:
                slot = (slot + 1) & (size - 1)
            if table[slot] < 0:
                table[slot] = k
                first[k] = 1


@numba.njit(cache=True, nogil=True)
def count_listed(ids: AnyArray, fresh: AnyArray, rows: AnyArray, stored: AnyArray, lists: AnyArray, hits: AnyArray) -> int:
    """Green tokens whose predecessor's list is at hand.

    Args:
        ids: ``(n,)`` int32.
        fresh: ``(n,)`` uint8: the places that count.
        rows: ``(vocabulary,)`` int32: a token's row, first in ``stored``, then in ``lists``; -1 for none.
        stored: ``(s, words)`` uint64 bits.
        lists: ``(k, words)`` uint64 bits.
        hits: ``(n,)`` uint8 zeros; 1 for green is written, 2 where there is no list.

    Returns:
        How many have none.
    """
    missing = 0
    n_stored = stored.shape[0]
    for place in range(1, ids.size):
        if fresh[place] == 0:
            continue
        row = rows[ids[place - 1]]
        if row < 0:
            hits[place] = 2
            missing += 1
            continue
        token = np.uint64(ids[place])
        word = np.intp(token >> _SIX)
        bits = stored[row, word] if row < n_stored else lists[row - n_stored, word]
        hits[place] = np.uint8((bits >> (token & _BITS)) & _ONE)
    return missing


@numba.njit(cache=True, nogil=True)
def follow_tokens(
    ids: AnyArray, wanted: AnyArray, seeds: AnyArray, n: int, size: int, known: tuple[AnyArray, AnyArray], hits: AnyArray
) -> None:
    """Green tokens without a list: each token is followed through the shuffle, and what came of it is kept in ``known``.

    Args:
        ids: ``(n_ids,)`` int32.
        wanted: ``(k,)`` places.
        seeds: ``(k,)`` uint32, one a place.
        n: Tokens of the vocabulary.
        size: Green ones.
        known: ``(slots,)`` uint64 zeros and ``(slots,)`` uint8, a power of two: a later question takes the slot of an earlier one.
        hits: ``(n_ids,)`` uint8; 0 or 1 is written.
    """
    asked, answers = known
    mask = np.uint64(asked.size - 1)
    state, places = np.empty(STATE, np.uint32), np.empty(STATE, np.int32)
    for k in range(wanted.size):
        place = wanted[k]
        # Never 0, which is an empty slot: tokens are below 2^31.
        question = (np.uint64(seeds[k]) << np.uint64(32)) | (np.uint64(ids[place]) + _ONE)
        slot = np.intp((question * _GOLDEN >> np.uint64(32)) & mask)
        if asked[slot] != question:
            asked[slot] = question
            answers[slot] = np.uint8(place_of(seeds[k], ids[place], n, size, state, places) < size)
        hits[place] = answers[slot]


@numba.njit(cache=True, nogil=True)
def self_seeds(ids: AnyArray, wanted: AnyArray, key: int, width: int, table: AnyArray, seeds: AnyArray) -> None:
    """Seeds of transformers' ``selfhash``: the smallest key · a · b in 64 bits over the last ``width`` tokens, the token itself the last.

    Args:
        ids: ``(n,)`` int32.
        wanted: ``(k,)`` places.
        key: In 64 bits.
        width: Tokens of the context.
        table: ``(TABLE,)`` int32, the key's own permutation.
        seeds: ``(k,)`` uint32, written: the low half of the seed modulo 2^64 - 1.
    """
    for k in range(wanted.size):
        place = wanted[k]
        last = np.int64(table[ids[place] % TABLE]) + 1
        least = np.int64(0x7FFFFFFFFFFFFFFF)
        for other in range(place - width + 1, place + 1):
            least = min(least, np.int64(key) * (np.int64(table[ids[other] % TABLE]) + 1) * last)
        if least < 0:
            least -= 1  # modulo 2^64 - 1 a negative number has these low bits
        seeds[k] = np.uint32(least & np.int64(0xFFFFFFFF))


@numba.njit(cache=True, nogil=True)
def count_ones(ids: AnyArray, fresh: AnyArray, width: int, sums: AnyArray, hits: AnyArray) -> None:
    """How many g-values of each counted place are 1.

    Args:
        ids: ``(n,)`` int32.
        fresh: ``(n,)`` uint8: the places that count; ``width`` - 1 tokens of the same text come before them.
        width: Tokens an n-gram.
        sums: ``(slots,)`` uint8: ones over all keys, by the n-gram's hash modulo the table's size.
        hits: ``(n,)`` uint8, written.
    """
    slots = np.int64(sums.size)
    for place in range(ids.size):
        if fresh[place]:
            state = _ONE
            for k in range(place - width + 1, place + 1):
                state = (state + np.uint64(ids[k])) * _MULTIPLIER + _ONE
            hits[place] = sums[np.int64(state) % slots]


@numba.njit(cache=True, nogil=True)
def count_ones_widely(ids: AnyArray, fresh: AnyArray, width: int, keys: AnyArray, table: AnyArray, hits: AnyArray) -> None:
    """As ``count_ones``, for a table whose size isn't a power of two: all 64 bits of the hash matter.

    Args:
        ids: ``(n,)`` int32.
        fresh: ``(n,)`` uint8.
        width: Tokens an n-gram.
        keys: ``(depth,)`` uint64.
        table: ``(slots,)`` uint8 of 0 and 1.
        hits: ``(n,)`` uint8, written.
    """
    slots = np.int64(table.size)
    for place in range(ids.size):
        if fresh[place]:
            state = _ONE
            for k in range(place - width + 1, place + 1):
                state = (state + np.uint64(ids[k])) * _MULTIPLIER + _ONE
            count = 0
            for key in keys:
                count += table[np.int64((state + key) * _MULTIPLIER + _ONE) % slots]
            hits[place] = count
