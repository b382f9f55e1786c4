"""Run folders for the report's tests: small recursions, really simulated, written in the documented layout."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

MIXES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("replace", {"kind": "replace"}),
    ("keep 10 %", {"kind": "keep", "share": 0.1}),
    ("fresh", {"kind": "fresh"}),
    ("accumulate", {"kind": "accumulate"}),
)


def write_folder(
    folder: Path,
    name: str,
    cells: list[dict[str, Any]],
    rows: list[pl.DataFrame],
    theory: pl.DataFrame | None = None,
    passed: dict[str, Any] | None = None,
    **manifest: Any,
) -> Path:
    """A run folder with everything but samples."""
    folder.mkdir(parents=True, exist_ok=True)
    passed = passed or {"study": {"name": name, "seed": 0}}
    document = {
        "schema_version": 1,
        "kind": "studbook.study",
        "name": name,
        "status": "finished",
        "started": "2025-01-02T10:00:00Z",
        "finished": "2025-01-02T10:00:09Z",
        "seconds": 9.21,
        "cpu_seconds": 8.4,
        "config": {"passed": passed, "resolved": passed | {"metrics": {"every": 1}}},
        "versions": {"studbook": "0.1.0", "python": "3.11.2", "numpy": np.__version__, "polars": pl.__version__},
        "git": {"revision": "e9f0797b2f0a5d3c4b1a", "dirty": True},
        "code_digest": "c0ffee" * 10,
        "seed": 0,
        "grid": ["mix"],
        "cells": cells,
        "units": {"total": len(cells), "done": len(cells)},
    } | manifest
    (folder / "manifest.json").write_text(json.dumps(document), encoding="utf-8")
    table = pl.concat(rows).with_columns(pl.col("cell", "replicate", "generation").cast(pl.Int32), pl.col("value").cast(pl.Float64))
    table = table.with_columns(stderr=pl.lit(None, pl.Float64), n=pl.lit(0, pl.Int64))
    table.write_parquet(folder / "measurements.parquet")
    if theory is not None:
        theory.write_parquet(folder / "theory.parquet")
    return folder


def tall(cell: int, metric: str, values: np.ndarray, generations: np.ndarray) -> pl.DataFrame:
    """Values ``(R, G)`` as rows."""
    replicates, count = values.shape
    return pl.DataFrame(
        {
            "cell": np.full(values.size, cell),
            "replicate": np.repeat(np.arange(replicates), count),
            "generation": np.tile(generations, replicates),
            "metric": [metric] * values.size,
            "value": values.ravel().astype(float),
        }
    )


def cell_of(index: int, label: str, keys: dict[str, str], mix: dict[str, Any], data: dict[str, Any], learner: str) -> dict[str, Any]:
    """One entry of the manifest's cells."""
    return {"index": index, "label": label, "keys": keys, "learner": {"kind": learner}, "mix": mix, "method": "samples", "data": data}


def sized(mix: dict[str, Any], n: int) -> dict[str, Any]:
    """A mix with the number of fresh records that a tenth of ``n`` is."""
    return mix | {"fresh": n // 10} if mix["kind"] == "fresh" else mix


def data_of(name: str, kind: str, n: int) -> dict[str, Any]:
    """A data entry of the manifest."""
    return {
        "name": name,
        "digest": "ab12" * 16,
        "origin": "shipped with a dependency",
        "kind": kind,
        "shape": [],
        "n_records": n,
        "n_original": n,
        "n_heldout": n // 10,
        "n_reserve": n // 4,
    }


def theory_rows(cell: int, metric: str, generations: np.ndarray, mean: np.ndarray, formula: str, source: str) -> pl.DataFrame:
    """An exact prediction."""
    return pl.DataFrame(
        {
            "cell": cell,
            "metric": metric,
            "generation": generations,
            "mean": mean,
            "median": None,
            "exact": True,
            "source": source,
            "formula": formula,
        },
        schema_overrides={"cell": pl.Int32, "generation": pl.Int32, "median": pl.Float64},
    )


def gaussian_folder(folder: Path, replicates: int = 1000, last: int = 1000, n: int = 1000) -> Path:
    """O'Reilly's experiment, drawn exactly in law, with both ddof and the closed forms."""
    rng = np.random.default_rng(1)
    generations = np.arange(0, last + 1, 10)
    c4 = math.sqrt(2 / (n - 1)) * math.exp(math.lgamma(n / 2) - math.lgamma((n - 1) / 2))
    rows, theory, cells = [], [], []
    for cell, ddof in enumerate((0, 1)):
        q = math.sqrt((n - 1) / (n - ddof))
        mean, variance = np.zeros(replicates), np.ones(replicates)
        std, w2 = np.empty((replicates, len(generations))), np.empty((replicates, len(generations)))
        for g in range(last + 1):
            mean = mean + np.sqrt(variance / n) * rng.standard_normal(replicates)
            variance = variance * rng.chisquare(n - 1, replicates) / (n - ddof)
            if g % 10 == 0:
                std[:, g // 10] = np.sqrt(variance)
                w2[:, g // 10] = mean**2 + (1 - np.sqrt(variance)) ** 2
        k = generations + 1
        e_std, e_var = (q * c4) ** k, q ** (2.0 * k)
        drift = np.array([sum(q ** (2.0 * i) for i in range(t)) / n for t in k])
        rows += [tall(cell, "std", std, generations), tall(cell, "w2_squared", w2, generations)]
        theory.append(
            theory_rows(cell, "std", generations, e_std, "E σₙ = (q·c₄)ⁿ⁺¹, q² = (N−1)/(N−ddof)", "Shumailov et al. 2024; exact χ law")
        )
        theory.append(
            theory_rows(
                cell, "w2_squared", generations, drift + e_var + 1 - 2 * e_std, "E W₂² = E μ² + E σ² + 1 − 2·E σ", "Shumailov et al. 2024"
            )
        )
        cells.append(
            cell_of(cell, f"ddof {ddof}", {"learner.ddof": str(ddof)}, {"kind": "replace"}, data_of("normal", "numbers", n), "gaussian")
        )
    passed = {
        "study": {"name": "oreilly", "seed": 0, "generations": last, "replicates": replicates, "samples": n},
        "data": {"source": "normal"}, "learner": {"kind": "gaussian", "ddof": 0}, "mix": {"kind": "replace"},
        "metrics": {"names": ["std", "w2"], "every": 10}, "grid": {"learner.ddof": [0, 1]},
    }  # fmt: skip
    write_folder(folder, "oreilly", cells, rows, pl.concat(theory), passed, grid=["learner.ddof"])
    _gaussian_samples(folder, rng, last, n)
    return folder


def _gaussian_samples(folder: Path, rng: np.random.Generator, last: int, n: int) -> None:
    shown = sorted({round(last * i / 7) for i in range(8)})
    for cell, ddof in enumerate((0, 1)):
        arrays = {"original": rng.standard_normal(n)}
        mean, std = 0.0, 1.0
        for g in range(last + 1):
            draw = mean + std * rng.standard_normal(n)
            mean, std = float(draw.mean()), float(draw.std(ddof=ddof))
            if g in shown:
                arrays[f"generation-{g:05d}"] = draw
        save_samples(folder, cell, {"kind": "numbers", "generations": shown}, arrays)


def save_samples(folder: Path, cell: int, note: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """The picture files of one cell."""
    (folder / "samples").mkdir(exist_ok=True)
    np.savez_compressed(folder / "samples" / f"cell-{cell:03d}.npz", **arrays)
    (folder / "samples" / f"cell-{cell:03d}.json").write_text(json.dumps(note), encoding="utf-8")


def recursion(
    mix: dict[str, Any], original: np.ndarray, reserve: np.ndarray, generations: int, sample: Callable[..., np.ndarray], rng: Any
) -> Any:
    """Training sets and what their models generate: yields ``(generation, training, generated)``."""
    n, training, pool = len(original), original, original
    for g in range(generations + 1):
        generated = sample(training, n, rng)
        yield g, training, generated
        tenth = n // 10
        match mix["kind"]:
            case "replace":
                training = generated
            case "keep":
                training = np.concatenate([generated[: n - tenth], original[rng.choice(n, tenth, replace=False)]])
            case "fresh":
                training = np.concatenate([generated[: n - tenth], reserve[rng.choice(len(reserve), tenth, replace=False)]])
            case _:
                pool = np.concatenate([pool, generated])
                training = pool


def python_text(n_words: int) -> tuple[np.ndarray, list[str]]:
    """The Python documentation as blocks of 64 word ids, with the words."""
    from pydoc_data.topics import topics

    words = " ".join(topics[key] for key in sorted(topics)).split()[:n_words]
    vocabulary = sorted(set(words))
    ids = {word: i for i, word in enumerate(vocabulary)}
    tokens = np.array([ids[w] for w in words[: len(words) // 64 * 64]])
    return tokens.reshape(-1, 64), vocabulary


def sample_bigram(training: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Blocks from an unsmoothed bigram model: the next word is a random successor of this one in the training set."""
    first, after = training[:, :-1].ravel(), training[:, 1:].ravel()
    order = np.argsort(first, kind="stable")
    successors = after[order]
    size = int(training.max()) + 1
    counts = np.bincount(first, minlength=size)
    start = np.cumsum(counts) - counts
    block = np.empty((n, 64), np.int64)
    block[:, 0] = training[rng.integers(len(training), size=n), 0]
    everything = training.ravel()
    for t in range(1, 64):
        here = block[:, t - 1]
        picked = successors[np.minimum(start[here] + (rng.random(n) * counts[here]).astype(np.int64), len(successors) - 1)]
        block[:, t] = np.where(counts[here] > 0, picked, everything[rng.integers(len(everything), size=n)])
    return block


class BigramScore:
    """Interpolated bigram probabilities of a training set."""

    def __init__(self, training: np.ndarray, size: int) -> None:
        self.size = size
        self.unigram = (np.bincount(training.ravel(), minlength=size) + 0.5) / (training.size + 0.5 * size)
        pairs, self.pair_counts = np.unique(training[:, :-1].ravel() * size + training[:, 1:].ravel(), return_counts=True)
        self.pairs, self.first = pairs, np.maximum(np.bincount(training[:, :-1].ravel(), minlength=size), 1)

    def perplexities(self, blocks: np.ndarray) -> np.ndarray:
        """Perplexity of each block."""
        here, after = blocks[:, :-1], blocks[:, 1:]
        key = here * self.size + after
        at = np.minimum(np.searchsorted(self.pairs, key), len(self.pairs) - 1)
        pair = np.where(self.pairs[at] == key, self.pair_counts[at], 0) / self.first[here]
        return np.exp(-np.log(0.7 * pair + 0.3 * self.unigram[after]).mean(axis=1))


def text_folder(folder: Path, generations: int = 10, replicates: int = 3, n_words: int = 40_000) -> Path:
    """A bigram model on the Python documentation under four mixes."""
    blocks, vocabulary = python_text(n_words * 2)
    size = len(vocabulary)
    order = np.random.default_rng(5).permutation(len(blocks))
    n = len(blocks) // 2
    original, heldout, reserve = blocks[order[:n]], blocks[order[n : n + n // 4]], blocks[order[n + n // 4 :]]
    base_counts = np.bincount(original.ravel(), minlength=size)
    hapaxes, base = np.flatnonzero(base_counts == 1), BigramScore(original, size)
    quantiles = (5, 25, 50, 75, 95)
    metrics = ["types_share", "hapax_survival", "own_perplexity", "perplexity", *(f"block_perplexity.p{q:02d}" for q in quantiles)]
    rows, cells = [], []
    for cell, (label, mix) in enumerate(MIXES):
        table = {metric: np.empty((replicates, generations + 1)) for metric in metrics}
        for r in range(replicates):
            rng = np.random.default_rng([cell, r])
            note: dict[str, Any] = {"kind": "text", "original": words_of(original[:6], vocabulary), "generations": {}}
            arrays = {"original": np.sort(base_counts[base_counts > 0])[::-1]}
            for g, training, generated in recursion(mix, original, reserve, generations, sample_bigram, rng):
                seen = np.bincount(generated.ravel(), minlength=size)
                own = base.perplexities(generated)
                values = [(seen > 0).sum() / (base_counts > 0).sum(), (seen[hapaxes] > 0).mean(), np.exp(np.log(own).mean())]
                values += [np.exp(np.log(BigramScore(training, size).perplexities(heldout)).mean()), *np.percentile(own, quantiles)]
                for metric, value in zip(metrics, values, strict=True):
                    table[metric][r, g] = value
                if r == 0 and (g in (0, 1, 2, 5) or g == generations):
                    note["generations"][str(g)] = words_of(generated[:6], vocabulary)
                    arrays[f"generation-{g:05d}"] = np.sort(seen[seen > 0])[::-1]
            if r == 0:
                samples = (note, arrays)
        rows += [tall(cell, metric, values, np.arange(generations + 1)) for metric, values in table.items()]
        cells.append(cell_of(cell, label, {"mix": label}, sized(mix, n), data_of("python-docs", "text", n), "ngram"))
        folder.mkdir(parents=True, exist_ok=True)
        save_samples(folder, cell, *samples)
    passed = {
        "study": {"name": "demo-text", "seed": 0, "generations": generations, "replicates": replicates}, "data": {"source": "python-docs"},
        "learner": {"kind": "ngram", "order": 2}, "metrics": {"names": metrics}, "grid": {"mix": [m for _, m in MIXES]},
    }  # fmt: skip
    return write_folder(folder, "demo-text", cells, rows, None, passed)


def words_of(blocks: np.ndarray, vocabulary: list[str]) -> list[str]:
    """Blocks as text."""
    return [" ".join(vocabulary[i] for i in block) for block in blocks]


def sample_kde(training: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Records near random training records."""
    noisy = training[rng.integers(len(training), size=n)] + 0.05 * rng.standard_normal((n, training.shape[1]))
    return np.clip(noisy, 0, 1)


def digits_folder(folder: Path, generations: int = 20, replicates: int = 3, n: int = 300) -> Path:
    """A kernel density model on scikit-learn's digits under four mixes."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels, target = digits.data / 16.0, digits.target
    order = np.random.default_rng(3).permutation(len(pixels))
    original, reserve = pixels[order[:n]], pixels[order[n : 3 * n]]
    centroids = np.stack([pixels[target == k].mean(axis=0) for k in range(10)])
    radius = np.sort(distances(original, original), axis=1)[:, 5]
    metrics = ["variance", "coverage", "recall", *(f"class_shares.{k}" for k in range(10))]
    rows, cells = [], []
    for cell, (label, mix) in enumerate(MIXES):
        table = {metric: np.empty((replicates, generations + 1)) for metric in metrics}
        for r in range(replicates):
            arrays = {"original": as_pictures(original[:40])}
            for g, _, generated in recursion(mix, original, reserve, generations, sample_kde, np.random.default_rng([cell, r, 9])):
                between = distances(original, generated)
                reach = np.sort(distances(generated, generated), axis=1)[:, 5]
                shares = np.bincount(distances(generated, centroids).argmin(axis=1), minlength=10) / n
                values = [
                    generated.var(axis=0).sum(),
                    (between.min(axis=1) <= radius).mean(),
                    (between <= reach).any(axis=1).mean(),
                    *shares,
                ]
                for metric, value in zip(metrics, values, strict=True):
                    table[metric][r, g] = value
                if r == 0 and g in (0, 1, 2, 5, 10, 15, generations):
                    arrays[f"generation-{g:05d}"] = as_pictures(generated[:40])
            if r == 0:
                folder.mkdir(parents=True, exist_ok=True)
                save_samples(folder, cell, {"kind": "images", "generations": [0]}, arrays)
        rows += [tall(cell, metric, values, np.arange(generations + 1)) for metric, values in table.items()]
        cells.append(cell_of(cell, label, {"mix": label}, sized(mix, n), data_of("digits", "images", n), "kde"))
    return write_folder(folder, "demo-digits", cells, rows)


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Euclidean distances of all pairs."""
    return np.sqrt(np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T, 0))


def as_pictures(rows: np.ndarray) -> np.ndarray:
    """Rows of 64 as pictures."""
    return np.rint(rows.reshape(-1, 8, 8) * 255).astype(np.uint8)


def migrants_folder(folder: Path, replicates: int = 200, last: int = 200) -> Path:
    """Gaussian recursion with r fresh real records of N a generation, over a grid of both, with the exact recursion of the variance."""
    rng = np.random.default_rng(7)
    rows, theory, cells = [], [], []
    generations = np.arange(0, last + 1, 4)
    for cell, (fresh, n) in enumerate((f, n) for n in (50, 200) for f in (0, 1, 2, 5, 10, 25)):
        mean, variance = np.zeros(replicates), np.ones(replicates)
        values, expected = np.empty((replicates, len(generations))), np.empty(len(generations))
        v, m = 1.0, 0.0
        for g in range(last + 1):
            real, made = (n, 0) if g == 0 else (fresh, n - fresh)
            parts = (
                rng.standard_normal((replicates, real)),
                mean[:, None] + np.sqrt(variance)[:, None] * rng.standard_normal((replicates, made)),
            )
            pooled = np.concatenate(parts, axis=1)
            mean, variance = pooled.mean(axis=1), pooled.var(axis=1)
            share = real / n
            mean_square = share**2 / max(real, 1) + (1 - share) ** 2 * (v / max(made, 1) + m)
            v, m = share + (1 - share) * (v + m) - mean_square, mean_square
            if g % 4 == 0:
                values[:, g // 4], expected[g // 4] = variance, v
        rows.append(tall(cell, "variance", values, generations))
        theory.append(theory_rows(cell, "variance", generations, expected, "E var = σ₀²·(1 − F)", "island model with migration"))
        keys = {"study.samples": str(n), "mix.fresh": str(fresh)}
        mix = {"kind": "fresh", "fresh": fresh}
        cells.append(cell_of(cell, f"N {n}, fresh {fresh}", keys, mix, data_of("normal", "numbers", n), "gaussian"))
    return write_folder(folder, "one-migrant", cells, rows, pl.concat(theory), grid=["study.samples", "mix.fresh"])


def zipf_folder(folder: Path, replicates: int = 30, last: int = 60, n: int = 2000, k: int = 500) -> Path:
    """Multinomial resampling of Zipf states: one cell, counts by rank."""
    rng = np.random.default_rng(11)
    p = 1 / np.arange(1, k + 1)
    law = np.tile(p / p.sum(), (replicates, 1))
    alive, diversity = np.empty((replicates, last + 1)), np.empty((replicates, last + 1))
    arrays: dict[str, np.ndarray] = {}
    for g in range(last + 1):
        counts = rng.multinomial(n, law)
        law = counts / n
        alive[:, g], diversity[:, g] = (counts > 0).mean(axis=1), 1 - (law**2).sum(axis=1)
        if g == 0:
            arrays["original"] = np.sort(counts[0][counts[0] > 0])[::-1]
        if g in (0, 5, 20, last):
            arrays[f"generation-{g:05d}"] = np.sort(counts[0][counts[0] > 0])[::-1]
    generations = np.arange(last + 1)
    h0 = 1 - float((np.square(p / p.sum())).sum())
    theory = theory_rows(
        0, "heterozygosity", generations, h0 * (1 - 1 / n) ** (generations + 1), "E Hₙ = H₀·(1 − 1/N)ⁿ⁺¹", "Wright 1931; Fisher 1930"
    )
    rows = [tall(0, "support_share", alive, generations), tall(0, "heterozygosity", diversity, generations)]
    write_folder(
        folder,
        "zipf-tails",
        [cell_of(0, "replace", {}, {"kind": "replace"}, data_of("zipf", "states", n), "categorical")],
        rows,
        theory,
        grid=[],
    )
    save_samples(folder, 0, {"kind": "states", "generations": [0, 5, 20, last]}, arrays)
    return folder


def fits_table(folder: Path, cells: int, replicates: int, generations: int, *, failures: tuple[tuple[Any, ...], ...] = ()) -> None:
    """``fits.parquet``: losses that fall, epochs that differ, and fits that failed as ``(cell, replicate, generation, message)``."""
    rng = np.random.default_rng(21)
    failed = {at[:3]: at[3] for at in failures}
    rows = []
    for at in ((c, r, g) for c in range(cells) for r in range(replicates) for g in range(generations + 1)):
        loss = 4.2 - 0.12 * at[2] / (1 + at[0]) + 0.05 * rng.standard_normal()
        epochs = int(rng.integers(3, 6))
        losses = (None, None) if at in failed else (loss, loss + 0.3 + 0.04 * at[2])
        rows.append((*at, 90 * epochs, epochs, *losses, epochs < 5, failed.get(at)))
    whole, real = ("cell", "replicate", "generation", "steps", "epochs"), ("loss", "validation")
    schema = dict.fromkeys(whole, pl.Int64) | dict.fromkeys(real, pl.Float64) | {"stopped_early": pl.Boolean, "failure": pl.String}
    pl.DataFrame(rows, schema=schema, orient="row").write_parquet(folder / "fits.parquet")


def language_folder(folder: Path, generations: int = 6, replicates: int = 5, n_words: int = 12_000) -> Path:
    """A language model that is prompted: bigrams, decoded at two temperatures, with densities of perplexity and the parts of its drift."""
    blocks, vocabulary = python_text(n_words * 2)
    order = np.random.default_rng(5).permutation(len(blocks))
    n = len(blocks) // 2
    original, reserve = blocks[order[:n]], blocks[order[n:]]
    base = BigramScore(original, len(vocabulary))
    limits = np.quantile(base.perplexities(original), [0.05, 0.95])
    edges = 10 ** (np.arange(51) / 10)
    names = [f"perplexity_density.e{i / 10:.1f}" for i in range(51)]
    parts = ("drift_parts.truncation", "drift_parts.sampling", "drift_parts.fitting", "word_diversity")
    metrics = ["perplexity", "own_perplexity", "low_perplexity_share", "high_perplexity_share"]
    rows, cells = [], []
    for cell, (label, mix) in enumerate((MIXES[0], MIXES[1])):
        table = {m: np.empty((replicates, generations + 1)) for m in [*metrics, *names, *parts]}
        for r in range(replicates):
            rng = np.random.default_rng([cell, r, 4])
            note: dict[str, Any] = {"kind": "text", "original": words_of(original[:6], vocabulary), "generations": {}}
            note["prompts"] = words_of(original[:6, :40], vocabulary)
            arrays = {"original": np.array([3, 2, 1])}
            for g, training, generated in recursion(mix, original, reserve, generations, sample_bigram, rng):
                own = base.perplexities(generated) ** (1 - 0.03 * g * (1 - 0.5 * cell))
                shares = np.histogram(own, [*edges, np.inf])[0] / len(own)
                real = np.exp(np.log(BigramScore(training, len(vocabulary)).perplexities(reserve)).mean())
                values = [real, np.exp(np.log(own).mean()), (own < limits[0]).mean(), (own > limits[1]).mean(), *shares]
                change = np.array([-0.12 / (1 + cell), -0.03, 0.02 * rng.standard_normal()])
                values += [*change, 4.5 - 0.15 * g / (1 + 2 * cell)]
                for metric, value in zip(table, values, strict=True):
                    table[metric][r, g] = value
                if r == 0 and (g in (0, 1, 2, 5) or g == generations):
                    note["generations"][str(g)] = words_of(generated[:6], vocabulary)
                    arrays[f"generation-{g:05d}"] = np.array([5, 3, 1])
            if r == 0:
                samples = (note, arrays)
        rows += [tall(cell, metric, values, np.arange(generations + 1)) for metric, values in table.items()]
        real = np.histogram(base.perplexities(original), [*edges, np.inf])[0] / n
        rows += [
            tall(cell, name.replace(".e", ".real.e"), np.full((replicates, 1), share), np.zeros(1, int))
            for name, share in zip(names, real, strict=True)
        ]
        about = cell_of(cell, label, {"mix": label}, sized(mix, n), data_of("python-docs", "text", n), "gpt")
        cells.append(about)
        folder.mkdir(parents=True, exist_ok=True)
        save_samples(folder, cell, *samples)
    fits_table(folder, 2, replicates, generations, failures=((0, 2, 3, "the loss was NaN in step 12"),))
    return write_folder(folder, "nature-lm-small", cells, rows)


def flowers_folder(folder: Path, generations: int = 5, replicates: int = 3, side: int = 28, n_cells: int = 1) -> Path:
    """A diffusion model of coloured discs whose petals fade: pictures in colour, with FID and recognition."""
    rng = np.random.default_rng(8)
    metrics, rows, cells = ("fid", "recognised", "vendi"), [], []
    for cell, (label, mix) in enumerate(MIXES[:n_cells]):
        pull = 1 / (1 + cell)
        values = {
            "fid": 4 + 12 * pull * np.arange(generations + 1) + rng.random((replicates, generations + 1)),
            "recognised": np.clip(1 - 0.24 * pull * np.arange(generations + 1) + 0.03 * rng.random((replicates, generations + 1)), 0, 1),
            "vendi": 30 - 4 * pull * np.arange(generations + 1) + rng.random((replicates, generations + 1)),
        }
        rows += [tall(cell, metric, values[metric], np.arange(generations + 1)) for metric in metrics]
        arrays = {"original": flowers(rng, 40, side, 0.0)}
        arrays |= {f"generation-{g:05d}": flowers(rng, 40, side, min(1.0, pull * (g + 1) / generations)) for g in range(generations + 1)}
        keys = {"mix": label} if n_cells > 1 else {}
        cells.append(cell_of(cell, label, keys, mix, data_of("flowers", "images", 400), "diffusion"))
        folder.mkdir(parents=True, exist_ok=True)
        save_samples(folder, cell, {"kind": "images", "generations": list(range(generations + 1))}, arrays)
    fits_table(folder, n_cells, replicates, generations)
    return write_folder(folder, "flowers-small", cells, rows)


def flowers(rng: np.random.Generator, n: int, side: int, faded: float) -> np.ndarray:
    """Coloured flowers ``(n, side, side, 3)`` uint8; the more faded, the more alike and the noisier."""
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    pictures = np.empty((n, side, side, 3))
    for i in range(n):
        hue, petals, turn = rng.random(3), rng.integers(4, 9), rng.random() * 6.3
        colour = (1 - faded) * hue + faded * np.array([0.5, 0.45, 0.35])
        reach = 0.75 + (1 - faded) * 0.25 * np.cos(petals * np.arctan2(y, x) + turn)
        inside = np.clip((reach - np.hypot(x, y)) * 6, 0, 1)[..., None]
        centre = np.clip((0.22 - np.hypot(x, y)) * 9, 0, 1)[..., None] * (1 - faded)
        ground = np.array([0.2, 0.4, 0.2]) * (1 - faded) + 0.4 * faded
        pictures[i] = (inside * colour + (1 - inside) * ground) * (1 - centre) + centre * np.array([0.95, 0.85, 0.2])
    noisy = pictures + 0.16 * faded * rng.standard_normal(pictures.shape)
    return np.rint(np.clip(noisy, 0, 1) * 255).astype(np.uint8)
