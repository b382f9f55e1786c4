"""Models that an operator has registered: a claim names one by digest, and nothing that a claim holds says where to look."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeAlias

from studbook.errors import CheckpointError, VerifierError
from studbook.files import storage
from studbook.records.canonical import digest_of

Family: TypeAlias = Literal["text", "image"]

_WEIGHTS = "*.safetensors"
_BESIDE = (
    "config.json", "generation_config.json", "model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "vocab.txt", "tokenizer.model", "spiece.model",
    "sentencepiece.bpe.model",
)  # fmt: skip
_CHUNK = 1 << 22


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """A model that may be run.

    Attributes:
        folder: Where it lies.
        digest: ``sha256:…`` over its files.
        family: What it makes.
        files: SHA-256 (hex) of each file.
    """

    folder: Path
    digest: str
    family: Family
    files: Mapping[str, str]

    def check(self) -> None:
        """Return nothing where the files still are what they were.

        Raises:
            CheckpointError: One was changed since the model was registered.
        """
        if register_model(self.folder).digest != self.digest:
            raise CheckpointError(f"{self.folder} was changed since it was registered", hint="start again with the model that claims name")


def register_model(folder: Path) -> RegisteredModel:
    """Read a model's folder: safetensors, and beside them config and tokenizer, all of which the digest binds.

    Args:
        folder: As transformers' ``save_pretrained`` or a learner's ``save`` wrote it.

    Raises:
        CheckpointError: There is no such folder, it has no safetensors, or it holds neither a language model nor a diffusion model.
    """
    if not folder.is_dir():
        raise CheckpointError(f"there is no folder {folder}", hint="choose a folder with a saved model")
    weights = sorted(folder.glob(_WEIGHTS))
    if not weights:
        raise CheckpointError(f"{folder} has no safetensors", hint="choose a folder with a saved model")
    beside = [folder / name for name in _BESIDE if (folder / name).is_file()]
    files = {file.name: _digest_of_file(file) for file in (*weights, *beside)}
    family: Family = "text" if (folder / "config.json").is_file() else _family_of_checkpoint(weights[0])
    return RegisteredModel(folder, digest_of(files), family, MappingProxyType(files))


class ModelStore:
    """The models that a claimant or verifier may run, by digest.

    Args:
        folders: Of the models.

    Raises:
        CheckpointError: See ``register_model``.
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        self._models = {model.digest: model for model in map(register_model, folders)}

    def __iter__(self) -> Iterator[RegisteredModel]:
        return iter(self._models.values())

    def find(self, digest: str, family: Family) -> RegisteredModel:
        """The model of a digest.

        Raises:
            VerifierError: The operator hasn't registered it, or it makes something else: there can be no ballot.
        """
        model = self._models.get(digest)
        if model is None:
            known = ", ".join(each[:15] + "…" for each in self._models) or "none"
            raise VerifierError(
                f"the model {digest[:15]}… isn't registered here (known: {known})", hint="register its folder: --model FOLDER"
            )
        if model.family != family:
            raise VerifierError(f"the model {digest[:15]}… makes {model.family}s, the claim is about an {family}")
        return model


def _digest_of_file(file: Path) -> str:
    digest = hashlib.sha256()
    with storage(file), file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _family_of_checkpoint(file: Path) -> Family:
    """What the note in the header of a safetensors file says; only the header is read, and no library is needed."""
    try:
        with file.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(size)) if size <= _CHUNK else {}
        family = json.loads(header["__metadata__"]["studbook"])["family"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"{file} doesn't say what it is: neither a config.json beside it nor studbook's note in it"
        raise CheckpointError(message, hint="choose a folder that transformers or a learner's save wrote") from error
    if family != "diffusion":
        raise CheckpointError(f"{file} holds a {family}; language and diffusion models can be verified", hint="choose another model")
    return "image"
