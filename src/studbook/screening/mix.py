"""A training mix from screened corpora: chosen by quotas, written whole or not at all, with a manifest of what was chosen and why."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from studbook import __version__
from studbook.arrays import Floats, Ints
from studbook.errors import ConfigError, RunFolderError
from studbook.files import replacing_folder, write_file
from studbook.mixing import NO_MODEL, Chosen, Quotas, choose_mix
from studbook.provenance import SigningKey, sign
from studbook.records import bytes_content, to_bytes
from studbook.screening.clusters import Clusters, Likeness
from studbook.screening.columns import IMAGE, RECEIPT, SUMMARY, TEXT, is_near
from studbook.screening.strata import read_batches, text_column

MANIFEST = "manifest.json"
WEIGHT = "weight"
UNNAMED = "(a model that isn't named)"
MOST_MODELS = 10_000


@dataclass(frozen=True, slots=True)
class MixManifest:
    """What a training mix was made from, and by which rules; signed, it is what the mix's users can check.

    Attributes:
        sources: SHA-256 of each screened folder's receipt, or of its summary where there is none.
        human_at_least: The quota of verified human records.
        most_per_model: The quota of any model.
        similarity: Texts at least so alike are one cluster.
        radius_bits: Pictures within are one cluster.
        seed: Of the choice.
        read: Records that there were.
        clusters: Near-duplicate clusters among them.
        size: Records chosen.
        largest: As many as the quotas would have allowed.
        human: Of those chosen verified human.
        unknown: Of unknown origin.
        per_model: Of each model, by its name.
        weighted: Whether the records have weights.
        files: SHA-256 of each file of the mix, by name.
        code: That made it.
        made: When, in UTC.
    """

    SCHEMA: ClassVar[str] = "studbook.mix/1"

    sources: tuple[str, ...]
    human_at_least: float
    most_per_model: float
    similarity: float
    radius_bits: int
    seed: int
    read: int
    clusters: int
    size: int
    largest: int
    human: int
    unknown: int
    per_model: dict[str, int]
    weighted: bool
    files: dict[str, str]
    code: str
    made: str


def mix_corpora(
    folders: Sequence[Path | str],
    out: Path | str,
    quotas: Quotas,
    *,
    size: int | None = None,
    weights: bool = False,
    seed: int = 0,
    likeness: Likeness | None = None,
    key: SigningKey | None = None,
) -> MixManifest:
    """Choose records of screened corpora so that quotas hold, and write them.

    Verified human is what a signature says to be human, or the register by the same bytes; records of unknown origin aren't, nor those that
    are near a person's, as an edited copy is. A generated record's model is its
    source; those without one count as one model together. Near duplicates stand for one record.

    Args:
        folders: What ``studbook corpus screen`` wrote; rejected records take part.
        out: A new folder of Parquet files, one for each screened file that something was chosen of.
        quotas: The quotas.
        size: Records; by default as many as the quotas allow.
        weights: Add a column ``weight``, see ``studbook.mixing.Chosen``.
        seed: Of the choice.
        likeness: When two records are near duplicates.
        key: Signs the manifest; unsigned without one.

    Raises:
        QuotaError: The quotas can't be kept.
        RunFolderError: No finished screen, or ``out`` holds something else than a mix.
        DataError: Damaged files.
        StorageError: The disk refused; nothing is left of the mix.
    """
    paths, target, alike = [Path(each) for each in folders], Path(out), likeness or Likeness()
    if not paths or len({path.resolve() for path in paths}) < len(paths):
        raise ConfigError("a mix needs one or more screened folders, each named once")
    _check_target(target, paths)
    corpus = _read(paths, alike)
    chosen = choose_mix(corpus.human, corpus.models, corpus.clusters, quotas, rng=np.random.default_rng(seed), size=size)
    with replacing_folder(target) as folder:
        files = _write(paths, folder, chosen, weights=weights)
        manifest = MixManifest(
            tuple(_identity(path) for path in paths), quotas.human, quotas.most_per_model, alike.similarity, alike.radius_bits, seed,
            corpus.human.size, chosen.clusters, chosen.rows.size, chosen.largest, chosen.human, chosen.unknown,
            {corpus.names[model]: n for model, n in chosen.per_model.items()}, weights, files,
            f"studbook {__version__}", dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        )  # fmt: skip
        write_file(folder / MANIFEST, to_bytes(manifest) if key is None else sign(manifest, key))
    return manifest


def _check_target(target: Path, sources: Sequence[Path]) -> None:
    if any(target.resolve() == path.resolve() or target.resolve() in path.resolve().parents for path in sources):
        raise ConfigError(f"{target} holds what is mixed", hint="choose another folder with --out")
    if target.exists() and not (target.is_dir() and ((target / MANIFEST).is_file() or not any(target.iterdir()))):
        raise RunFolderError(f"{target} is there and is no mix", hint="choose a new folder with --out")


@dataclass(frozen=True, slots=True, eq=False)
class _Corpus:
    human: NDArray[np.bool_]
    models: Ints
    clusters: Ints
    names: list[str]


def _read(folders: Sequence[Path], likeness: Likeness) -> _Corpus:
    """What the choice needs of every record: a few bytes each."""
    clusters = Clusters(likeness)
    human: list[NDArray[np.bool_]] = [np.zeros(0, dtype=np.bool_)]
    models: list[Ints] = [np.zeros(0, dtype=np.int64)]
    numbers: dict[str, int] = {}
    for folder in folders:
        screened = text_column(folder)
        for _, batch in read_batches(folder, None):
            names = ("origin", "evidence", "witness", "source", "content")
            origins, evidence, witnesses, sources, contents = (batch.column(name).to_pylist() for name in names)
            human.append(np.array(list(map(_is_verified, origins, evidence, witnesses)), dtype=np.bool_))
            models.append(np.array([_model(o, s, numbers) for o, s in zip(origins, sources, strict=True)], dtype=np.int64))
            text = screened if screened is not None and screened in batch.schema.names else TEXT
            clusters.add(contents, _column(batch, text), _column(batch, IMAGE))
    return _Corpus(np.concatenate(human), np.concatenate(models), clusters.numbers(), list(numbers))


def _is_verified(origin: str, evidence: str, witness: str) -> bool:
    return origin == "human" and evidence in ("signature", "register") and not is_near(evidence, witness)


def _model(origin: str, source: str | None, numbers: dict[str, int]) -> int:
    if origin != "generated":
        return NO_MODEL
    name = (source or UNNAMED)[:512]
    if name not in numbers and len(numbers) >= MOST_MODELS:
        raise ConfigError(f"the corpus has records of more than {MOST_MODELS:,} models", hint="mix a part of it")
    return numbers.setdefault(name, len(numbers))


def _column(batch: Any, name: str) -> list[Any]:
    values: list[Any] = batch.column(name).to_pylist() if name in batch.schema.names else [None] * batch.num_rows
    return values


def _write(folders: Sequence[Path], out: Path, chosen: Chosen, *, weights: bool) -> dict[str, str]:
    """The chosen rows, in the order in which they were read; one file for each that something was chosen of."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    at, files, current = 0, dict[str, str](), None
    writer: Any = None
    for folder in folders:
        for path, batch in read_batches(folder, None):
            picked, values = _within(chosen, at, at + batch.num_rows)
            at += batch.num_rows
            if not picked.size:
                continue
            part = batch.take(pa.array(picked))
            if weights:
                names = [f"original_{name}" if name == WEIGHT else name for name in part.schema.names]
                part = part.rename_columns(names).append_column(WEIGHT, pa.array(values))
            if path != current:
                if writer is not None:
                    writer.close()
                current, name = path, f"part-{len(files):06d}.parquet"
                files[name] = ""
                writer = pq.ParquetWriter(out / name, part.schema, compression="zstd")
            writer.write_batch(part)
    if writer is not None:
        writer.close()
    return {name: _sum(out / name) for name in files}


def _within(chosen: Chosen, start: int, end: int) -> tuple[Ints, Floats]:
    low, high = np.searchsorted(chosen.rows, [start, end])
    return chosen.rows[low:high] - start, chosen.weights[low:high]


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _identity(folder: Path) -> str:
    path = folder / RECEIPT
    return bytes_content((path if path.is_file() else folder / SUMMARY).read_bytes())
