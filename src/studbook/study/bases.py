"""The models that generations start from: what is refused before a run, and the base that a study pretrains itself."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from studbook.arrays import Batch, Space
from studbook.errors import ConfigError
from studbook.files import remove, storage, write_file
from studbook.neural.options import Decoding, Marking, Training, require_extra
from studbook.recursion import NO_BASE_HINT, Continuing, Model, Storable, Torn, digests_of
from studbook.rng import stream
from studbook.study.catalog import describe, kind_of
from studbook.study.config import Cell
from studbook.study.keys import code_digest, digest_of, foreign_code, weights_digest

_MODEL, _MARK = "model", "finished.json"


def check_continuing(cell: Cell, space: Space, *, n_base: int) -> None:
    """Refuse, before anything is run, a base that isn't there, isn't used or doesn't fit, and a device that isn't there.

    Raises:
        ConfigError: The learner asks for a base and there is none; or there is one, or models are to be kept, and it can't use that.
        CheckpointError: The base that the learner names can't be read, or doesn't fit.
        MissingExtraError: The learner needs PyTorch.
        DeviceError: The learner's device isn't there.
    """
    learner = cell.learner
    if not isinstance(learner, Continuing):
        _refuse(cell)
        return
    _check_device(learner)
    start = learner.training.start
    own = start != "scratch" and has_own_base(learner, space)
    if own and n_base:
        raise ConfigError(
            f"data.base is {cell.split.base:g}, but {kind_of(learner)} names a base model itself",
            hint="leave data.base out, or the learner's own base",
        )
    if start == "base" and not own and not n_base:
        raise ConfigError('learner.training.start is "base", but there is no base model', hint=NO_BASE_HINT)


def has_own_base(learner: Continuing, space: Space) -> bool:
    """Whether the learner names a base model; one that can't be read is an error."""
    check = getattr(learner, "check_base", None)
    answer = check(space) if check is not None else None
    return answer if isinstance(answer, bool) else learner.own_base(space) is not None


def _refuse(cell: Cell) -> None:
    """What only learners that can start from a model know."""
    kind = kind_of(cell.learner)
    if cell.split.base:
        raise ConfigError(
            f"data.base is {cell.split.base:g}, but the models of {kind} can't start from another one", hint="leave data.base out"
        )
    if cell.study.models != "none":
        raise ConfigError(f'study.models is "{cell.study.models}", but the models of {kind} can\'t be saved', hint="leave study.models out")


def _check_device(learner: Continuing) -> None:
    if not isinstance(learner.training, Training):
        return
    require_extra()
    if learner.training.device == "cuda":
        from studbook.neural.device import choose_device

        choose_device("cuda")


def base_key(learner: Continuing, *, data_digest: str, seed: int, sizes: tuple[int, ...]) -> str:
    """Digest of what a pretrained base depends on: not on the mix, the replicate, the mark, the decoding (but for its lengths: a model with
    random weights is made long enough for them), nor on what starts from it.

    Args:
        learner: As the study names it.
        data_digest: Digest of the data set.
        seed: The study's.
        sizes: Sizes of the data set's parts.
    """
    table = describe(learner)
    for name in list(table):
        value = getattr(learner, name, None)
        if isinstance(value, Decoding):
            table[name] = [value.prompt, value.max_new]
        elif isinstance(value, Marking):
            del table[name]
        elif isinstance(value, Training):
            table[name] = asdict(value.pretraining())
    return digest_of([table, data_digest, seed, sizes, code_digest(), foreign_code(learner), weights_digest(learner)])


def find_base(learner: Continuing, part: Batch | None, space: Space, *, seed: int, folder: Path | None) -> Model | None:
    """The model that generations may start from: the learner's own, or one pretrained on ``part``; ``None`` where none is asked for.

    Args:
        learner: As it is fitted, prompts and classes included.
        part: The records that a base is pretrained on, where there are any.
        space: Space of the records.
        seed: The study's; every replicate pretrains the same model.
        folder: Where a pretrained model is kept for the next unit; ``None`` keeps it nowhere.
    """
    if learner.training.start == "scratch":
        return None
    own = learner.own_base(space)
    if own is not None or part is None:
        return own
    kept = None if folder is None else _read(learner, folder, space)
    if kept is not None:
        return kept
    model: Model = _for_pretraining(learner).fit(part, rng=stream(seed, "base"))
    if folder is not None and isinstance(model, Storable):
        _keep(model, folder)
    return model


def _for_pretraining(learner: Any) -> Any:
    """The learner with the epochs and the rate of its pretraining; one that wraps another (prompts) hands it on."""
    if not isinstance(learner.training, Training):
        return learner
    if any(field.name == "training" for field in fields(learner)):
        return replace(learner, training=learner.training.pretraining())
    return replace(learner, learner=_for_pretraining(learner.learner))


def _keep(model: Storable, folder: Path) -> None:
    """Save a base. Two workers may be at it: the models are the same, and the one that comes second drops its own."""
    with storage(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".writing-"))
    try:
        model.save(temporary / _MODEL)
        write_file(temporary / _MARK, json.dumps(digests_of(temporary, _MODEL)).encode())
        with storage(folder):
            temporary.replace(folder)
    except BaseException:
        remove(temporary)
        if not (folder / _MARK).is_file():
            raise


def _read(learner: Continuing, folder: Path, space: Space) -> Model | None:
    """The base in a folder, if it is there whole; a damaged one is removed."""
    if not folder.is_dir():
        return None
    try:
        written = json.loads((folder / _MARK).read_bytes())
        found = {name: list(about) for name, about in digests_of(folder, _MODEL).items()}
        if found and written == found:
            return learner.load(folder / _MODEL, space)
    except (OSError, ValueError, RecursionError, Torn):
        pass  # A checkpoint that can't be read is a ValueError too.
    with storage(folder):
        remove(folder)
    return None
