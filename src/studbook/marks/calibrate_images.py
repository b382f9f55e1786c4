"""How often a picture's mark is found, as it was made and after changes, and how often where there is none: on held-out pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from studbook import __version__
from studbook.arrays import Floats
from studbook.errors import CalibrationError
from studbook.marks.changes import CHANGES, PictureChange
from studbook.marks.images import Picture, PictureMark, check_picture
from studbook.records import DetectorCalibration, Rate, digest_of
from studbook.rng import stream
from studbook.theory.error_rates import clopper_pearson
from studbook.theory.thresholds import choose_threshold, require_promise, require_records


def calibrate_picture_mark(
    mark: PictureMark,
    pictures: Sequence[Picture],
    *,
    false_alarm: float,
    confidence: float,
    seed: int,
    changes: Sequence[PictureChange] = CHANGES,
    progress: Callable[[str], None] = lambda _: None,
) -> DetectorCalibration:
    """A threshold, and the rates that it has.

    The pictures are split by chance. On one half the threshold is chosen; on the other, which had no part in it, hits are counted: as the
    pictures are (false hits), with the mark (hits), and with the mark and then each of the changes.

    Args:
        mark: The mark.
        pictures: ``(h, w, 3)`` uint8, known to be without it and independent of each other: not parts of one photograph.
        false_alarm: Largest rate of hits among unmarked pictures, above 0 and below 1; the measured rate's upper end is no higher.
        confidence: Of every interval, above 0 and below 1.
        seed: Of the split and of the changes that need chance.
        changes: What is done to marked pictures.
        progress: Told what is measured next.

    Returns:
        The calibration, ``made`` at the start of 1970: who stores it says when.

    Raises:
        CalibrationError: Too few pictures, one of them twice, or a promise that the untouched half doesn't bear out.
        DataError: Not a picture, or too small for the mark.

    Examples:
        >>> import numpy as np
        >>> from studbook.marks.calibrate_images import calibrate_picture_mark
        >>> from studbook.marks.changes import Jpeg
        >>> from studbook.marks.dalle_strip import DalleStrip
        >>> pictures = np.random.default_rng(1).integers(0, 256, (96, 256, 256, 3), dtype=np.uint8)
        >>> found = calibrate_picture_mark(DalleStrip(), pictures, false_alarm=0.2, confidence=0.95, seed=1, changes=(Jpeg(50),))
        >>> found.false_hits.upper <= 0.2, [(each.name, each.rate) for each in (found.hits, *found.attacked)]
        (True, [('as made', 1.0), ('jpeg 50', 1.0)])
    """
    require_records(len(pictures), false_alarm, confidence, "pictures")
    contents = [content_of(picture) for picture in pictures]
    if len(set(contents)) != len(contents):
        raise CalibrationError("a picture is there more than once, and would be in both halves", hint="leave out the copies")
    order = stream(seed, "calibration", "split").permutation(len(pictures))
    chosen, untouched = order[: len(order) // 2].tolist(), order[len(order) // 2 :].tolist()
    progress("unmarked pictures")
    threshold = choose_threshold(_scores(mark, (pictures[i] for i in chosen)), len(untouched), false_alarm, confidence)
    false_hits = _rate("human", _scores(mark, (pictures[i] for i in untouched)), threshold, confidence)
    require_promise(false_hits.events, false_hits.units, false_alarm, confidence, "pictures")
    progress("marked pictures")
    marked = [mark.embed(pictures[i]) for i in untouched]
    return DetectorCalibration(
        detector=mark.name,
        kind="image",
        parameters=mark.parameters,
        threshold=threshold,
        false_alarm=false_alarm,
        confidence=confidence,
        hits=_rate("as made", _scores(mark, marked), threshold, confidence),
        false_hits=false_hits,
        attacked=tuple(_attacked(mark, marked, change, threshold, confidence, seed, progress) for change in changes),
        generated=digest_of([content_of(picture) for picture in marked]),
        human=digest_of([contents[i] for i in order.tolist()]),
        seed=seed,
        code=f"studbook {__version__}",
        made="1970-01-01T00:00:00Z",
    )


def calibrated_p_value(calibration: DetectorCalibration, score: float) -> float:
    """The p-value that a calibration gives a score: by rank among its untouched human records.

    A hit's is (false hits + 1) / (human records + 1), which holds whatever the scores' distribution; anything else's is 1.

    Args:
        calibration: Of the detector that gave the score.
        score: Higher where it looks more like a generated record; not-a-number where nothing can be told.
    """
    found = calibration.false_hits
    return (found.events + 1) / (found.units + 1) if score >= calibration.threshold else 1.0


def content_of(picture: Picture) -> str:
    """Digest of a picture's size and pixels, ``sha256:…``."""
    image = check_picture(picture)
    head = f"{image.shape[0]} {image.shape[1]} ".encode()
    return "sha256:" + hashlib.sha256(head + image.tobytes()).hexdigest()


def _attacked(
    mark: PictureMark,
    marked: Sequence[Picture],
    change: PictureChange,
    threshold: float,
    confidence: float,
    seed: int,
    progress: Callable[[str], None],
) -> Rate:
    progress(change.name)
    changed = (change.apply(picture, rng=stream(seed, "calibration", change.name, i)) for i, picture in enumerate(marked))
    return _rate(change.name, _scores(mark, changed), threshold, confidence)


def _scores(mark: PictureMark, pictures: Iterable[Picture]) -> Floats:
    return np.array([mark.test(picture).score for picture in pictures])


def _rate(name: str, scores: Floats, threshold: float, confidence: float) -> Rate:
    # Not-a-number is no hit.
    hits = int((scores >= threshold).sum())
    return Rate(name, hits, len(scores), *clopper_pearson(hits, len(scores), confidence))
