"""The English of the installed Python."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from studbook.data import PythonDocs, _english, _text_cache
from studbook.data._english import prose
from studbook.data.python_docs import python_english


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "studbook"


def test_it_is_a_large_text_of_mostly_frequent_english_words(cache):
    dataset = PythonDocs().load()
    assert dataset.records.values.size > 150_000
    assert dataset.space.shape == (64,)
    assert {"the", ",", ".", "a", "of", "to", "is"} <= set(dataset.space.vocabulary[:12])
    frequency = np.bincount(dataset.records.values.reshape(-1))
    assert frequency[:100].sum() > 0.4 * frequency.sum()
    assert (frequency == 1).sum() > 1_000
    assert "Python Software Foundation" in dataset.origin


def test_the_cache_is_used_and_nothing_is_imported(cache, monkeypatch):
    unlikely = ("antigravity", "this", "turtledemo", "idlelib", "pydoc_data.topics")
    before = {name for name in unlikely if name in sys.modules}
    text = python_english()
    assert {name for name in unlikely if name in sys.modules} == before
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr(_english, "gather", lambda sources: pytest.fail("gathered again"))
    assert python_english() == text


def test_a_damaged_cache_is_noticed_and_rebuilt(cache):
    text = python_english()
    (kept,) = cache.iterdir()
    good = kept.read_bytes()
    kept.write_bytes(good[:1000])
    assert python_english() == text
    assert kept.read_bytes() == good


@pytest.mark.parametrize(
    "damage",
    [lambda content: content[:70], lambda content: content[:-1] + b"X", lambda content: b"", lambda content: content + b"\n"],
)
def test_every_damage_to_a_cached_text_is_noticed(cache, damage):
    _text_cache.write_cached("x.txt", "some text of the world\n" * 10)
    assert _text_cache.read_cached("x.txt") == "some text of the world\n" * 10
    (cache / "x.txt").write_bytes(damage((cache / "x.txt").read_bytes()))
    assert _text_cache.read_cached("x.txt") is None


def test_a_cache_folder_that_can_not_be_made_is_no_error(tmp_path, monkeypatch):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder would be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    _text_cache.write_cached("x.txt", "text")
    assert _text_cache.read_cached("x.txt") is None
    assert len(python_english()) > 500_000


def test_no_home_is_no_error(monkeypatch):
    def no_home(cls: type[Path]) -> Path:
        raise RuntimeError("no home")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", classmethod(no_home))
    assert _text_cache.cache_folder() is None
    assert _text_cache.read_cached("x") is None
    _text_cache.write_cached("x", "y")


def test_code_and_markup_are_dropped():
    document = """Return *number* of ``items`` in :class:`~collections.Counter`, see 'copy()'.

    >>> Counter("abc").total()
    3

    name  | value
    ------+------
    x_y   | a=b*c

    def f(x): return x[0]["a"] + {1: 2}

    - Every bullet is a sentence too.
    """
    assert list(prose(document)) == [
        "Return number of items in collections.Counter, see copy.",
        "Every bullet is a sentence too.",
    ]


def test_docstrings_are_found_and_other_texts_are_not():
    source = '''# coding: utf-8
"""The module speaks in full sentences."""

TABLE = """This is no docstring but data."""

class A:
    r"""The class says something too."""

    def f(self):  # with a comment
        \'\'\'A function in other quotes.\'\'\'

    def g(self):
        "One line in plain quotes."
'''
    assert list(_english._docstrings(source)) == [
        "The module speaks in full sentences.",
        "The class says something too.",
        "A function in other quotes.",
        "One line in plain quotes.",
    ]
