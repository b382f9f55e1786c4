"""Whether the register finds again what was edited, and leaves alone what is unrelated, on natural text: the basis of ``LEAST_AGREEMENT``.

Everything is seeded, so that a failure is a change of the code; bounds are Clopper and Pearson's, one-sided 99 %.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from studbook.fingerprints import MinHash
from studbook.registry.band_index import LEAST_AGREEMENT, BandIndex
from studbook.theory import lower_bound, upper_bound

LEVEL = 0.99
MOST = 3000
QUOTED = 12
"""Documents that share so many words in a row quote each other: they aren't unrelated."""


class Corpus:
    """Documents of ``length`` words in a row; ``groups`` says which come from one article, or lie near each other."""

    def __init__(self, articles: list[list[str]], length: int, rng: np.random.Generator) -> None:
        cut = [(words[k : k + length], i) for i, words in enumerate(articles) for k in range(0, len(words) - length + 1, length)]
        chosen = np.sort(rng.permutation(len(cut))[:MOST])
        self.documents, self.groups = [cut[i][0] for i in chosen], np.array([cut[i][1] for i in chosen])
        self.pool = [word for words in articles for word in words]

    def edited(self, share: float, rng: np.random.Generator) -> list[str]:
        """Each document with a share of its words drawn anew from the corpus."""
        found = []
        for words in self.documents:
            changed = list(words)
            for i in rng.permutation(len(words))[: round(share * len(words))]:
                changed[i] = self.pool[rng.integers(len(self.pool))]
            found.append(" ".join(changed))
        return found

    def excerpts(self, part: int, rng: np.random.Generator) -> list[str]:
        """A run of one ``part``-th of each document's words."""
        size = len(self.documents[0]) // part
        starts = rng.integers(0, len(self.documents[0]) - size + 1, len(self.documents))
        return [" ".join(words[start : start + size]) for words, start in zip(self.documents, starts, strict=True)]


def wikitext(folder: Path) -> list[list[str]]:
    text = "".join((folder / "wikitext-2" / f"{name}.txt").read_text(encoding="utf-8") for name in ("train-sample", "valid", "test"))
    return [article.split() for article in re.split(r"\n = [^=].*? = \n", text)]


def python_docs() -> list[list[str]]:
    """In parts of 3,000 words, since it isn't in articles."""
    from studbook.data.python_docs import python_english

    words = python_english().split()
    return [words[i : i + 3000] for i in range(0, len(words), 3000)]


def recall(index: BandIndex, queries: list[str]) -> tuple[float, float]:
    """The share of queries whose own document is found, and its lower bound."""
    query, row, _ = index.search(MinHash().pack(queries), LEAST_AGREEMENT)
    n_found = int((query == row).sum())
    return n_found / len(queries), lower_bound(n_found, len(queries), LEVEL)


def quoting(one: list[str], other: list[str]) -> bool:
    runs = {tuple(one[i : i + QUOTED]) for i in range(len(one) - QUOTED + 1)}
    return any(tuple(other[i : i + QUOTED]) in runs for i in range(len(other) - QUOTED + 1))


def strangers(corpus: Corpus, index: BandIndex) -> tuple[int, list[tuple[int, int]], set[int]]:
    """Pairs of documents of different articles, those that are hits, and of these the queries that aren't quoted."""
    query, row, _ = index.search(MinHash().pack([" ".join(words) for words in corpus.documents]), LEAST_AGREEMENT)
    apart = corpus.groups[query] != corpus.groups[row]
    hits = list(zip(query[apart].tolist(), row[apart].tolist(), strict=True))
    wrong = {(q, r) for q, r in hits if not quoting(corpus.documents[q], corpus.documents[r])}
    print(f"hits on other articles: {len(hits)}, of which {len(hits) - len(wrong)} quote")
    return int((corpus.groups[:, None] != corpus.groups[None]).sum()), hits, {q for q, _ in wrong}


@pytest.fixture(scope="module", params=["wikitext", "python-docs"])
def corpus_of(request: pytest.FixtureRequest) -> tuple[list[list[str]], bool]:
    """Articles, and whether they were written each for itself."""
    if request.param == "wikitext":
        return wikitext(request.getfixturevalue("shared_data")), True
    return python_docs(), False


@pytest.mark.parametrize("length", [50, 200, 1000])
def test_edited_texts_are_found_and_unrelated_ones_are_not(corpus_of: tuple[list[list[str]], bool], length: int, tmp_path: Path) -> None:
    (articles, natural), rng = corpus_of, np.random.default_rng(length)
    corpus, index = Corpus(articles, length, rng), BandIndex(tmp_path)
    index.extend(MinHash().pack([" ".join(words) for words in corpus.documents]))
    for name, queries, wanted in (
        ("a tenth drawn anew", corpus.edited(0.1, rng), 0.98),
        ("a fifth drawn anew", corpus.edited(0.2, rng), 0.95),
        ("half excerpts", corpus.excerpts(2, rng), 0.95),
        ("three tenths drawn anew", corpus.edited(0.3, rng), 0.6),
        ("quarter excerpts", corpus.excerpts(4, rng), 0.75),
    ):
        share, least = recall(index, queries)
        print(f"{len(queries)} x {length} words, {name}: {share:.4f}, at least {least:.4f}")
        assert least >= wanted, name
    n_pairs, hits, alone = strangers(corpus, index)
    # Pairs aren't independent of each other, queries nearly are. Functions of python-docs share their documentation: there all hits are a
    # few more, and only those that quote nothing are held to the rate.
    n_asked, n_hits, n_met = len(corpus.documents), len(hits), len({q for q, _ in hits})
    print(f"{n_hits} of {n_pairs} pairs, at most {upper_bound(n_hits, n_pairs, LEVEL):.1e}; {n_met} of {n_asked} queries")
    wrong = n_hits if natural else len([q for q, _ in hits if q in alone])
    assert upper_bound(wrong, n_pairs, LEVEL) <= 1e-4
    assert upper_bound(n_met if natural else len(alone), n_asked, LEVEL) <= 0.02


def test_bands_are_shared_as_the_similarity_says() -> None:
    # 2,000 pairs with J = .14: 64 bands of 2 are shared with probability 1 - (1 - J²)^64 = .718; five deviations are .05, false alarm 6e-7.
    # Shingles in common of all: 56 of 400.
    rng, found = np.random.default_rng(0), 0
    names = np.array([f"w{i}" for i in range(400)])
    one, other = [], []
    for run in range(2000):
        words = np.char.add(names, f"x{run}")
        own = rng.permutation(400)
        one.append(" ".join(words[own[:228]]))
        other.append(" ".join(words[own[172:]]))
    first, second = (MinHash(words=1).pack(texts).view(np.uint16).reshape(-1, 64, 2) for texts in (one, other))
    found = int((first == second).all(axis=2).any(axis=1).sum())
    assert abs(found / 2000 - (1 - (1 - 0.14**2) ** 64)) < 0.05
