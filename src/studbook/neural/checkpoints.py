"""Weights on disk: safetensors with what they are and a digest, checked before they are used."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from studbook.errors import CheckpointError
from studbook.files import replacing_folder

FORMAT = 1
WEIGHTS = "model.safetensors"
MAX_HEADER_BYTES = 16 << 20


def save_checkpoint(folder: Path, family: str, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write ``folder`` with one safetensors file, whole or not at all.

    Args:
        folder: Is replaced if it is there.
        family: The model family, for example ``"vae"``.
        tensors: The weights by name.
        about: What is needed to build the network again; JSON.

    Raises:
        StorageError: The disk refused.
    """
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    note = {"format": FORMAT, "family": family, "about": dict(about), "digest": digest_of_tensors(plain)}
    with replacing_folder(folder) as temporary:
        write_tensors(temporary / WEIGHTS, plain, {"studbook": json.dumps(note, sort_keys=True)})


def write_tensors(file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file; equal tensors and metadata give equal bytes.

    Args:
        file: Which; not written whole or not at all, so inside ``replacing_folder``.
        tensors: By name; contiguous, and none of them shares memory with another.
        metadata: Texts for its header.

    Raises:
        OSError: The disk refused.
    """
    with refusals_of_the_disk():
        save_file(dict(tensors), str(file), metadata=dict(metadata) or None)
    if len(metadata) > 1:
        _sort_metadata(file)


def _sort_metadata(file: Path) -> None:
    """Put the header's metadata in order: the library writes them as they come out of its hash table, in another order each time."""
    with file.open("r+b") as stream:
        size = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        ordered = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(ordered) <= size:  # it is, unless the library writes JSON shorter than this
            stream.seek(8)
            stream.write(ordered.ljust(size))


@contextmanager
def refusals_of_the_disk() -> Iterator[None]:
    """Turn what safetensors makes of the operating system's refusals back into what they were."""
    try:
        yield
    except SafetensorError as error:
        found = re.search(r"\(os error (\d+)\)", str(error))
        if found is None:
            raise
        number = int(found[1])
        raise OSError(number, os.strerror(number)) from error


def load_checkpoint(folder: Path, family: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and what they are, as ``save_checkpoint`` wrote them.

    Raises:
        CheckpointError: No such folder, not safetensors, cut off, changed, of another family, or written by a newer studbook.
    """
    file = folder / WEIGHTS
    tensors, note = read_tensors(file)
    if note is None:
        raise CheckpointError(f"{file} wasn't written by studbook: it says nothing about its family", hint=f"expected a saved {family}")
    if not isinstance(note.get("format"), int) or note["format"] > FORMAT:
        message = f"{file} has format {note.get('format')!r}; this studbook reads up to {FORMAT}"
        raise CheckpointError(message, hint="pip install --upgrade studbook")
    if note.get("family") != family:
        raise CheckpointError(f"{file} holds a {note.get('family')}, expected a {family}", hint="choose a checkpoint of the same family")
    if note.get("digest") != digest_of_tensors(tensors):
        raise CheckpointError(f"{file} was changed after it was written: its digest differs", hint="train or copy it again")
    about = note.get("about")
    if not isinstance(about, dict):
        raise CheckpointError(f"{file} doesn't say how its network is built", hint="train or copy it again")
    return tensors, about


def read_tensors(file: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """All tensors of a safetensors file, and studbook's note in it (``None`` where it has none).

    Raises:
        CheckpointError: It isn't there, isn't safetensors, or is cut off.
    """
    with _reading(file):
        with safe_open(str(file), framework="pt") as opened:
            note = (opened.metadata() or {}).get("studbook")
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - it is no dict
        return tensors, None if note is None else dict(json.loads(note))


def read_shapes(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file without their numbers, on the device ``meta``: only its header is read.

    Raises:
        CheckpointError: It isn't there, isn't safetensors, or is cut off.
    """
    with _reading(file), safe_open(str(file), framework="pt") as opened:
        shapes = {name: opened.get_slice(name).get_shape() for name in opened.keys()}  # noqa: SIM118 - it is no dict
        return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """What can be wrong with a safetensors file, said in one line."""
    if not file.parent.is_dir():
        raise CheckpointError(f"there is no folder {file.parent}", hint="choose a folder with a saved model")
    if not file.is_file():
        raise CheckpointError(f"there is no {file.name} in {file.parent}", hint="choose a folder with a saved model")
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            header = int.from_bytes(stream.read(8), "little")
        if header > min(size, MAX_HEADER_BYTES):
            raise CheckpointError(f"{file} isn't a safetensors file, or is cut off", hint="copy it again")
        yield
    except (SafetensorError, ValueError, TypeError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{file} can't be read as safetensors: {error}", hint="it is damaged or cut off; copy it again") from error
    except OSError as error:
        raise CheckpointError(f"{file} can't be read: {error.strerror or error}") from error


def load_into(module: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Put tensors into a network, name by name.

    Raises:
        CheckpointError: A tensor is missing, too many, or of another shape; the message names it.
    """
    wanted = module.state_dict()
    missing, surplus = sorted(set(wanted) - set(tensors)), sorted(set(tensors) - set(wanted))
    if missing or surplus:
        found = f"lacks {missing[0]!r}" if missing else f"holds {surplus[0]!r}, which the network doesn't have"
        raise CheckpointError(f"{where} is of another architecture: it {found}", hint="choose the learner that it was trained with")
    for name, tensor in wanted.items():
        if tensors[name].shape != tensor.shape:
            got, expected = tuple(tensors[name].shape), tuple(tensor.shape)
            message = f"{where} is of another architecture: {name!r} has shape {got}, expected {expected}"
            raise CheckpointError(message, hint="set the learner's sizes as they were when it was trained")
    module.load_state_dict(dict(tensors))


def digest_of_tensors(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 (hex) over names, dtypes, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
