"""Text and token fingerprints against slow, plain references."""

from __future__ import annotations

import hashlib
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from studbook.errors import ConfigError, DataError, DigestError
from studbook.fingerprints import (
    FINGERPRINTS,
    ExactText,
    ExactTokens,
    FixedWidth,
    MinHash,
    OwnMeasure,
    SimHash,
    TokenPrefix,
    _text_kernels,
    create,
    distance,
)
from studbook.fingerprints.words import MAX_THREADS, read_texts, words_of
from studbook.records import Digest

TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "one",
    "two words",
    "a b c a b c a b c a b c",
    "Größe, naïve façade — 日本語テキスト; mixed 123 45!",
    " ".join(f"w{i * i % 97}" for i in range(700)),
)
WHOLE = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


def mix(x: int) -> int:
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & WHOLE
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & WHOLE
    return x ^ (x >> 31)


def word_hash(word: str) -> int:
    state, data = 0, word.encode()
    for i in range(0, len(data), 8):
        state = mix((state + int.from_bytes(data[i : i + 8], "little") + GOLDEN) & WHOLE)
    return state


def shingles(text: str, size: int) -> list[int]:
    words = [word_hash(word) for word in words_of(text)]
    size = min(size, len(words))
    found = []
    for i in range(len(words) - size + 1):
        state = size
        for word in words[i : i + size]:
            state = mix((state + word + GOLDEN) & WHOLE)
        found.append(state)
    return found


def plain_simhash(text: str, size: int) -> bytes:
    runs = shingles(text, size)
    lanes = [[mix((run + (lane + 1) * GOLDEN) & WHOLE) for lane in range(4)] for run in runs]
    bits = [2 * sum(four[lane] >> bit & 1 for four in lanes) > len(runs) for lane in range(4) for bit in range(64)]
    return np.packbits(bits).tobytes()


def plain_minhash(text: str, size: int, permutations: int, bits: int) -> bytes:
    numbers = [mix((i + 1) * GOLDEN & WHOLE) for i in range(2 * permutations)]
    runs = shingles(text, size)
    least = [mix(min(((a | 1) * run + b) & WHOLE for run in runs)) for a, b in zip(numbers[::2], numbers[1::2], strict=True)]
    kept = "".join(format(value & ((1 << bits) - 1), f"0{bits}b") for value in least)
    return int(kept, 2).to_bytes(len(kept) // 8, "big")


def test_mixer_is_splitmix64() -> None:
    # The stream of SplitMix64 seeded with 1234567, as its authors' program prints it.
    stream = [mix((1234567 + (i + 1) * GOLDEN) & WHOLE) for i in range(3)]
    assert stream == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@pytest.mark.parametrize("words", [1, 3, 5])
@pytest.mark.parametrize("text", TEXTS)
def test_simhash_equals_its_definition(text: str, words: int) -> None:
    assert SimHash(words).digest(text).bits == plain_simhash(text, words)


@pytest.mark.parametrize("bits", [1, 8, 16, 32, 64])
@pytest.mark.parametrize("text", TEXTS)
def test_minhash_equals_its_definition(text: str, bits: int) -> None:
    assert MinHash(2, 24, bits).digest(text).bits == plain_minhash(text, 2, 24, bits)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("Hello, World", ["hello", "world"]),
        ("snake_case and 3.14", ["snake", "case", "and", "3", "14"]),
        ("ΣΊΣΥΦΟΣ", ["σίσυφοσ"]),
        ("\ufb01ne STRASSE straße", ["fine", "strasse", "strasse"]),
        ("cafe\u0301 caf\u00e9", ["caf\u00e9", "caf\u00e9"]),
        ("東京タワー", ["東", "京", "タ", "ワ", "ー"]),
        ("한국어 텍스트", ["한국어", "텍스트"]),
        ("Привет,мир", ["привет", "мир"]),
        ("\U00020000x", ["\U00020000", "x"]),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words_of(text) == expected


def compiled_words(text: str) -> list[int]:
    ((data, _, classes),) = read_texts([text])
    room, letters = np.empty(len(data), np.uint64), np.full(2 * len(data) + 16, 0xFF, np.uint8)
    return room[: _text_kernels.hash_words(data, classes, letters, room)].tolist()


def test_word_hash_is_pinned() -> None:
    assert compiled_words("fox Donaudampfschiff") == [word_hash("fox"), word_hash("donaudampfschiff")]
    assert format(word_hash("fox"), "016x") == "0ff2c369c958561f"


@given(text=st.text(min_size=1))
def test_compiled_code_cuts_and_hashes_words_by_the_rule(text: str) -> None:
    # And the same beside an ASCII word, beside one that isn't, and cut by something that isn't ASCII.
    for whole in (text, f"Eight8ch {text}", f"{text}\u2013x", f"\u65e5{text}\u00e9"):
        try:
            expected = [word_hash(word) for word in words_of(whole)]
        except DataError:
            expected = []
        try:
            assert compiled_words(whole) == expected
        except DataError:
            assert any("\ud800" <= c <= "\udfff" for c in whole)


@pytest.mark.parametrize("fingerprint", [SimHash(), MinHash()], ids=str)
def test_texts_of_a_batch_are_hashed_one_by_one_on_any_number_of_threads(fingerprint, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = np.concatenate([fingerprint.pack([text]) for text in TEXTS])
    assert (fingerprint.pack(TEXTS) == alone).all()
    monkeypatch.setattr("studbook.fingerprints.words._BLOCK_BYTES", 100)
    for threads in (1, 2, 3, 7):
        assert (fingerprint.pack(iter(TEXTS), threads=threads) == alone).all()
    for threads in (0, 1.0, MAX_THREADS + 1):
        with pytest.raises(ConfigError, match="threads is"):
            fingerprint.pack(TEXTS, threads=threads)
    with pytest.raises(DataError, match="no word: '\\?!'"):
        fingerprint.pack([*TEXTS, "?!", "fine"])


@given(text=st.text(st.characters(codec="ascii")))
def test_ascii_is_cut_by_the_same_rule(text: str) -> None:
    # Beside a word that isn't ASCII the text goes the other way.
    try:
        alone = words_of(text)
    except DataError:
        alone = []
    assert words_of(f"{text} \u00e9") == [*alone, "\u00e9"]


def test_a_text_shorter_than_a_shingle_is_one_shingle_of_its_own_length() -> None:
    pair = SimHash(3).digest("two words")
    assert pair.bits == SimHash(2).digest("two words").bits == SimHash(64).digest("two words").bits
    assert pair.hamming(SimHash(3).digest("words two")) > 64
    assert pair.hamming(SimHash(3).digest("two words more")) > 64


@pytest.mark.parametrize("fingerprint", [SimHash(), MinHash(), MinHash(bits=1)], ids=str)
def test_case_spaces_and_punctuation_do_not_count(fingerprint) -> None:
    one, other = fingerprint.digests(["The lazy dog, naïvely, sleeps here.", "the LAZY   dog nai\u0308vely\n- sleeps / here"])
    assert one == other


def test_exact_text_is_plain_sha256_of_normal_form_c() -> None:
    text = "cafe\u0301 \n"
    assert ExactText().digest(text).bits == hashlib.sha256(unicodedata.normalize("NFC", text).encode()).digest()
    assert ExactText().digest("a").bits.hex().startswith("ca978112ca1bbdca")
    assert len({digest.bits for digest in ExactText().digests(["a", "A", "a ", "a\n", "a\r\n"])}) == 5


def test_exact_tokens_are_plain_sha256_with_the_length() -> None:
    ids = [0, 1, 70000, (1 << 32) - 1]
    expected = hashlib.sha256(b"\x04" + bytes(7) + b"".join(i.to_bytes(4, "little") for i in ids)).digest()
    for dtype in (np.int64, np.uint32, np.uint64, ">u4", ">i8"):
        assert ExactTokens().digest(np.array(ids, dtype=dtype)).bits == expected
    table = np.arange(12, dtype=np.int16).reshape(3, 4)
    assert ExactTokens().pack(table).shape == (3, 32)
    assert ExactTokens().digests(table) == ExactTokens().digests(table.tolist())


def test_prefix_digest_is_a_chain() -> None:
    ids = np.arange(40, dtype="<u4")
    state, kept = bytes(16), b""
    for begin in (0, 16, 32):
        state = hashlib.blake2b(state + ids[begin : begin + 16].tobytes(), digest_size=16).digest()
        kept += state[:4]
    assert TokenPrefix().digest(ids).bits == kept


@pytest.mark.parametrize(
    "one, other, agree, apart",
    [
        (range(64), range(64), 4, 0.0),
        (range(70), range(70), 5, 0.0),
        (range(64), range(128), 4, 0.5),
        (range(70), range(128), 4, 0.5),
        ([*range(20), 7], [*range(20), 8], 1, 0.5),
        ([1], [2], 0, 1.0),
        ([0] * 16, [0] * 32, 1, 0.5),
        ([5, *range(100)], [6, *range(100)], 0, 1.0),
    ],
)
def test_prefix_agreement(one, other, agree: int, apart: float) -> None:
    first, second = TokenPrefix().digests([list(one), list(other)])
    assert TokenPrefix.agreement(first, second) == TokenPrefix.agreement(second, first) == agree
    assert TokenPrefix.distance(first, second) == TokenPrefix.distance(second, first) == distance(first, second) == apart


def test_block_of_a_divergence() -> None:
    for place in range(64):
        changed = list(range(64))
        changed[place] = 1000
        one, other = TokenPrefix(4).digests([list(range(64)), changed])
        assert TokenPrefix.agreement(one, other) == place // 4


@pytest.mark.parametrize("bits", [1, 8, 64])
def test_minhash_of_the_same_and_of_different_texts(bits: int) -> None:
    one, same, other = MinHash(bits=bits, permutations=256).digests([TEXTS[5], TEXTS[5], TEXTS[0]])
    assert MinHash.similarity(one, same).value == 1.0
    assert MinHash.distance(one, same) == 0.0
    assert 0 < MinHash.similarity(one, same).stderr < 0.01
    assert MinHash.similarity(one, other).value < (0.3 if bits == 1 else 0.05)


def test_measures_refuse_other_schemes() -> None:
    text, tokens = MinHash().digest("a text"), TokenPrefix().digest([1, 2])
    for refused in (
        lambda: MinHash.distance(tokens, tokens),
        lambda: MinHash.distance(text, MinHash(words=2).digest("a text")),
        lambda: TokenPrefix.distance(text, text),
        lambda: TokenPrefix.distance(tokens, TokenPrefix(8).digest([1, 2])),
        lambda: distance(text, tokens),
        lambda: distance(tokens, text),
        lambda: distance(SimHash().digest("a"), SimHash(2).digest("a")),
        lambda: distance(SimHash().digest("a"), ExactText().digest("a")),
        lambda: distance(Digest("nobody", 1, (), b"a"), Digest("nobody", 1, (), b"a")),
        lambda: MinHash.distance(*[Digest("minhash", 2, (("bits", 16), ("permutations", 128)), b"ab")] * 2),
        lambda: MinHash.distance(*[Digest("minhash", 1, text.parameters, text.bits)] * 2),
        lambda: TokenPrefix.distance(*[Digest("tokens_prefix", 1, (("block", 16),), b"abcde")] * 2),
    ):
        with pytest.raises(DigestError):
            refused()


@pytest.mark.parametrize("name", ["text_exact", "simhash", "minhash", "tokens_exact", "tokens_prefix"])
def test_names_in_the_catalog_are_the_schemes(name: str) -> None:
    fingerprint = create(name)
    found = fingerprint.digest([1, 2, 3] if name.startswith("tokens") else "some words")
    version = 2 if name in ("simhash", "minhash") else 1
    assert (found.scheme, found.version, found.parameters) == (name, version, tuple(sorted(fingerprint.parameters)))
    assert isinstance(fingerprint, FixedWidth) == (name != "tokens_prefix")
    assert isinstance(fingerprint, OwnMeasure) == (name in ("minhash", "tokens_prefix"))
    assert fingerprint.digests([]) == []
    assert Digest.from_json(found.to_json()) == found


def test_every_scheme_is_in_the_catalog_once() -> None:
    assert {name: cls.scheme for name, cls in FINGERPRINTS.items()} == {name: name for name in FINGERPRINTS}


@pytest.mark.parametrize(
    "name, parameters, message",
    [
        ("phahs", {}, "did you mean 'phash'"),
        ("phash", {"size": 9}, "phash.size is 9, expected 8 or 16"),
        ("phash", {"size": "8"}, "expected an integer"),
        ("phash", {"sizes": 8}, "did you mean 'size'"),
        ("pdq", {"size": 8}, "no parameter"),
        ("colorhash", {"levels": 3}, "expected 4 or 8"),
        ("simhash", {"words": 0}, "expected 1 to 64"),
        ("minhash", {"permutations": 100}, "multiple of 8"),
        ("minhash", {"bits": 2}, "expected 1, 8, 16, 32 or 64"),
        ("tokens_prefix", {"block": 0}, "expected 1 to 4096"),
    ],
)
def test_impossible_parameters_are_refused(name: str, parameters: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create(name, parameters)
