"""Text files, tokens and blocks."""

from __future__ import annotations

import codecs

import numpy as np
import pytest

from studbook.arrays import Kind
from studbook.data import TextFile, join_tokens, unigram_probabilities
from studbook.data.words import TextOptions, split_tokens
from studbook.errors import ConfigError, DataError


def words(text: str, tokens: str = "words", lowercase: bool = False) -> list[str]:
    return [token for part in split_tokens([text], tokens, lowercase, "test") for token in part]


def tokens_of(dataset) -> list[str]:
    return [dataset.space.vocabulary[i] for i in dataset.records.values.reshape(-1)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A model eats, and forgets.", ["A", "model", "eats", ",", "and", "forgets", "."]),
        ("It isn't Python's fault!", ["It", "isn't", "Python", "'s", "fault", "!"]),
        ("role @-@ playing <unk> 1 @,@ 200", ["role", "@-@", "playing", "<unk>", "1", "@,@", "200"]),
        ("3.14 of 1,000 (about 2nd)", ["3.14", "of", "1,000", "(", "about", "2nd", ")"]),
        ("built-in os.path wait...", ["built-in", "os.path", "wait", "..."]),
        ("naïve Größe – 中文", ["naïve", "Größe", "–", "中文"]),
    ],
)
def test_words_are_split_from_punctuation(text, expected):
    assert words(text) == expected


def test_whitespace_keeps_what_stands_together():
    assert words("role @-@ playing, <unk>\tx", "whitespace") == ["role", "@-@", "playing,", "<unk>", "x"]


def test_characters_and_bytes():
    assert words("aé b", "characters") == ["a", "é", " ", "b"]
    assert words("aé", "bytes") == ["a", "\xc3", "\xa9"]


def test_lowercase_folds():
    assert words("The CAT", lowercase=True) == ["the", "cat"]


def test_ids_are_ranks_and_the_remainder_is_dropped():
    batch = TextOptions(tokens="whitespace", block=3).blocks(["b a a c b a d e"], "test")
    # The last two of eight tokens don't fill a block, and take their words with them.
    assert batch.space.vocabulary == ("a", "b", "c")
    assert batch.values.tolist() == [[1, 0, 0], [2, 1, 0]]
    assert batch.values.dtype == np.int32


def test_a_capped_vocabulary_counts_the_unknown_word():
    batch = TextOptions(tokens="whitespace", block=8, vocabulary=3).blocks(["a a a b b c d e"], "test")
    assert len(batch.space.vocabulary) == 3
    assert [batch.space.vocabulary[i] for i in batch.values[0]] == ["a", "a", "a", "b", "b", "<unk>", "<unk>", "<unk>"]


def test_a_capped_vocabulary_uses_the_texts_own_unknown_word():
    batch = TextOptions(tokens="whitespace", block=7, vocabulary=2).blocks(["a a a <unk> b c <unk>"], "test")
    assert [batch.space.vocabulary[i] for i in batch.values[0]] == ["a", "a", "a", "<unk>", "<unk>", "<unk>", "<unk>"]


def test_a_vocabulary_that_fits_is_left_alone():
    batch = TextOptions(tokens="whitespace", block=3, vocabulary=3).blocks(["a b c"], "test")
    assert "<unk>" not in batch.space.vocabulary


def test_limit_takes_the_first_blocks():
    options = TextOptions(tokens="whitespace", block=2, limit=2)
    assert options.blocks(["a b c d e f g h"], "test").values.shape == (2, 2)


@pytest.mark.parametrize("field", [{"block": 0}, {"block": -1}, {"limit": -1}, {"vocabulary": 1}, {"vocabulary": -3}])
def test_sizes_out_of_range_are_refused(field):
    with pytest.raises(ConfigError, match=f"{next(iter(field))} is"):
        TextFile("x.txt", **field)


def test_a_short_text_is_refused_with_numbers(tmp_path):
    path = tmp_path / "short.txt"
    path.write_text("only four words here")
    with pytest.raises(DataError, match="holds 4 tokens, fewer than one block of 64"):
        TextFile(str(path)).load()


def test_a_byte_order_mark_is_no_word(tmp_path):
    plain, marked = tmp_path / "plain.txt", tmp_path / "marked.txt"
    plain.write_bytes(b"one two three four")
    marked.write_bytes(codecs.BOM_UTF8 + b"one two three four")
    assert TextFile(str(plain), block=4).load().digest == TextFile(str(marked), block=4).load().digest


def test_chunks_cut_neither_words_nor_letters(tmp_path, monkeypatch):
    text = "naïve Größe wächst 中文 mañana " * 40
    path = tmp_path / "long.txt"
    path.write_text(text, encoding="utf-8")
    whole = TextFile(str(path), block=1).load()
    monkeypatch.setattr("studbook.data._unicode.CHUNK", 37)
    chunked = TextFile(str(path), block=1).load()
    assert tokens_of(chunked) == text.split()
    assert chunked.digest == whole.digest


def test_the_digest_is_of_the_content_not_the_path(tmp_path):
    for name in ("one.txt", "two.txt"):
        (tmp_path / name).write_text("some words " * 50)
    (tmp_path / "three.txt").write_text("some wards " * 50)
    one, two, three = (TextFile(str(tmp_path / name), block=10).load() for name in ("one.txt", "two.txt", "three.txt"))
    assert one.digest == two.digest != three.digest
    assert (one.name, two.name) == ("one.txt", "two.txt")


def test_joined_tokens_read_like_text():
    text = "It said \"yes (or no)\", didn't it? Python's way: fine."
    batch = TextOptions(block=len(words(text))).blocks([text], "test")
    assert join_tokens(batch.values[0], batch.space) == text


def test_joined_characters_are_the_text():
    batch = TextOptions(tokens="characters", block=11).blocks(["hello world"], "test")
    assert join_tokens(batch.values[0], batch.space) == "hello world"


def test_frequencies_of_words():
    batch_source = TextOptions(tokens="whitespace", block=4).blocks(["a b a a"], "test")
    from studbook.data import InMemory

    assert unigram_probabilities(InMemory(batch_source).load()).probabilities.tolist() == [[0.75, 0.25]]


def test_wikitext(shared_data):
    dataset = TextFile(str(shared_data / "wikitext-2" / "train-sample.txt"), tokens="whitespace", block=1).load()
    assert dataset.space.kind is Kind.TEXT
    assert len(dataset.records) == 512_615
    assert 20_000 < dataset.space.n_states < 24_000
    assert dataset.space.vocabulary[:5] == ("the", ",", ".", "of", "<unk>")
    frequency = np.bincount(dataset.records.values[:, 0])
    assert (np.diff(frequency) <= 0).all()
