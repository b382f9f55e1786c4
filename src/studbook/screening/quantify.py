"""A second opinion on the generated share: quantification of a detector's scores by QuaPy, beside Rogan and Gladen's hits."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from studbook.arrays import Floats, Ints
from studbook.errors import ConfigError, DataError, MissingExtraError
from studbook.theory.error_rates import check_confidence

Method: TypeAlias = Literal["acc", "pacc", "emq", "kdey"]

METHODS: tuple[Method, ...] = ("acc", "emq")
MOST_SCORES = 1_000_000
_CLASSES = {"acc": "ACC", "pacc": "PACC", "emq": "EMQ", "kdey": "KDEyML"}


@dataclass(frozen=True, slots=True, eq=False)
class LabelledScores:
    """Scores of calibration records.

    Attributes:
        generated: Of generated ones ``(n,)``.
        human: Of human ones ``(m,)``.

    Raises:
        DataError: Fewer than ten of a class, or not finite.
    """

    generated: Floats
    human: Floats

    def __post_init__(self) -> None:
        for name, scores in (("generated", self.generated), ("human", self.human)):
            if scores.ndim != 1 or scores.size < 10 or not np.isfinite(scores).all():
                raise DataError(f"there are {scores.size} scores of {name} records, expected 10 or more, all finite")


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one method makes of the scores.

    Attributes:
        method: Its name.
        share: Generated share of the scored records.
        lower: Lower end of the bootstrap interval.
        upper: Upper end.
    """

    method: str
    share: float
    lower: float
    upper: float


def quantify(
    scores: Floats,
    labelled: LabelledScores,
    *,
    confidence: float,
    methods: Sequence[Method] = METHODS,
    resamples: int = 50,
    seed: int = 0,
) -> list[Opinion]:
    """Estimate the generated share from all scores, not just from which are above a threshold.

    Scores become probabilities by a logistic regression on half of the calibration records of each class; the other half tells the
    method how probabilities are distributed in each class. Both calibration and corpus are drawn again for the interval (percentile
    bootstrap).

    Args:
        scores: Of the corpus's records ``(n,)``, higher where they look more like a model's; at most a million.
        labelled: Of calibration records.
        confidence: Of the interval.
        methods: ``acc`` (adjusted classify and count), ``pacc``, ``emq`` (Saerens et al. 2002), ``kdey`` (Moreo et al. 2024).
        resamples: Of the bootstrap, 20 or more.
        seed: Of the halves and the resamples.

    Raises:
        ConfigError: An unknown method, or too few resamples.
        DataError: Scores that aren't finite.
        MissingExtraError: QuaPy isn't installed.

    References:
        A. Moreo, A. Esuli, F. Sebastiani, "QuaPy: a Python-based framework for quantification", CIKM 2021.
    """
    check_confidence(confidence)
    unknown = sorted(set(methods) - set(_CLASSES))
    if unknown or resamples < 20:
        raise ConfigError(f"methods are {', '.join(methods)}, resamples {resamples}, expected {', '.join(_CLASSES)}; 20 or more")
    if scores.ndim != 1 or not 1 <= scores.size <= MOST_SCORES or not np.isfinite(scores).all():
        raise DataError(f"there are {scores.size:,} scores, expected 1 to {MOST_SCORES:,}, all finite", hint="score a random sample")
    rng = np.random.default_rng(seed)
    found = []
    for method in methods:
        share = _estimate(method, scores, labelled.generated, labelled.human, rng)
        drawn = [_estimate(method, *_drawn_again(scores, labelled, rng), rng) for _ in range(resamples)]
        side = (1.0 - confidence) / 2.0
        lower, upper = (float(end) for end in np.quantile(drawn, [side, 1.0 - side]))
        found.append(Opinion(method, share, min(lower, share), max(upper, share)))
    return found


def _drawn_again(scores: Floats, labelled: LabelledScores, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    one, two, three = (rng.choice(each, each.size) for each in (scores, labelled.generated, labelled.human))
    return one, two, three


def _estimate(method: Method, scores: Floats, generated: Floats, human: Floats, rng: np.random.Generator) -> float:
    from sklearn.linear_model import LogisticRegression

    aggregative = _quapy()
    halves = [np.array_split(rng.permutation(each), 2) for each in (human, generated)]
    classifier = LogisticRegression().fit(*_labelled(halves[0][0], halves[1][0]))
    x, y = _labelled(halves[0][1], halves[1][1])
    quantifier = getattr(aggregative, _CLASSES[method])(classifier=classifier, fit_classifier=False, val_split=None)
    state = np.random.get_state()  # noqa: NPY002  # QuaPy draws from the global stream; it is put back
    np.random.seed(int(rng.integers(1 << 31)))  # noqa: NPY002
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            quantifier.fit(x, y)
            return float(quantifier.predict(scores[:, None])[1])
    finally:
        np.random.set_state(state)  # noqa: NPY002


def _labelled(human: Floats, generated: Floats) -> tuple[Floats, Ints]:
    labels = np.concatenate([np.zeros(human.size, dtype=np.int64), np.ones(generated.size, dtype=np.int64)])
    return np.concatenate([human, generated])[:, None], labels


def _quapy() -> Any:
    try:
        from quapy.method import aggregative
    except ImportError as error:
        raise MissingExtraError("a second opinion needs QuaPy, not installed", hint="pip install 'studbook[corpus]'") from error
    return aggregative


def read_scores(path: Path) -> tuple[LabelledScores, Floats]:
    """Scores from a Parquet file with the columns ``score`` and ``label``: ``generated``, ``human``, or null for the corpus's.

    Raises:
        DataError: Another file, other labels, or too many rows.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            if file.metadata.num_rows > 3 * MOST_SCORES:
                raise DataError(f"{path} has {file.metadata.num_rows:,} rows, expected at most {3 * MOST_SCORES:,}")
            table = file.read(columns=["score", "label"])
        scores = np.asarray(table.column("score").to_numpy(), dtype=np.float64)
        labels = np.array([label or "" for label in table.column("label").to_pylist()])
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} can't be read: {str(error)[:200]}", hint="expected Parquet with the columns score and label") from error
    if not set(labels.tolist()) <= {"", "generated", "human"}:
        raise DataError(f"{path} has other labels than generated, human and null", hint="null is a record of the corpus")
    return LabelledScores(scores[labels == "generated"], scores[labels == "human"]), scores[labels == ""]
