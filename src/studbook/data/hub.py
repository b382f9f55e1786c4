"""Data sets by their hub id, and folders in the hub's layout, through the library ``datasets``."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from studbook.arrays import Batch
from studbook.data import _hub_columns
from studbook.data._digest import digest_of_batch
from studbook.data._files import MAX_BYTES, require_bytes
from studbook.data._records import Selection
from studbook.data.dataset import Dataset
from studbook.data.words import TextOptions, Tokens
from studbook.errors import ConfigError, DataError, StudbookError
from studbook.parameters import nearest

PREFIX = "hub:"
FORM = "hub:NAME[/CONFIG][:SPLIT]"
# Seconds until the hub has to answer.
TIMEOUT_S = 5.0
MAX_CARD = 1 << 20
_CONFIG_NAME = re.compile(r"^[-\s]*config_name:\s*[\"']?([^\"'\s]+)", re.MULTILINE)
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?")


@dataclass(frozen=True, slots=True)
class HubData:
    """A data set of the hub, or a folder in the hub's layout (Parquet, JSON lines, CSV, text or pictures, with a ``README.md``).

    Nothing in it is run: data sets that need a script are refused. Downloads stay in the hub's own cache, tables made of them in
    studbook's, unless ``HF_HOME`` or ``HF_DATASETS_CACHE`` says otherwise.

    Pictures are all of one size, none coloured where the first is grey; animations are refused. Of 16-bit grey the upper byte is taken, and
    transparent pixels keep the colour that is stored for them.

    Args:
        name: ``owner/name``, a name, or a folder.
        config: One of the data set's configurations; may be left out where there is one.
        split: One of its splits; empty takes ``train``, or the only one.
        kind: What a record is; ``auto`` takes pictures where there are any, else a column of texts, else numbers.
        columns: Columns taken; of text and pictures one. Empty: the pictures; the texts (``text`` where there are several); all numbers.
        labels: Column with the class of each record; empty takes ``label`` or ``labels`` where there is one.
        classes: Of pictures and numbers: labels that are kept, as numbers; empty keeps all.
        tokens: Of text: see ``TextFile``. The rows are joined, each on a line of its own.
        block: Of text: tokens a record.
        vocabulary: Of text: largest number of different tokens, ``<unk>`` included; 0 keeps all.
        lowercase: Of text: whether upper case is folded away.
        tokenizer: Of text: the tokens of a pretrained model instead, see ``TextFile``.
        limit: Records taken from the start; 0 takes all.
        max_bytes: Most memory that the records, and most disk that the data set, may take.

    Raises:
        ConfigError: A size out of range, or options that exclude each other.

    Examples:
        >>> from studbook.data import open_source
        >>> source = open_source("hub:Salesforce/wikitext/wikitext-2-raw-v1:train", tokens="whitespace", block=64)
        >>> source.name, source.config, source.split
        ('Salesforce/wikitext', 'wikitext-2-raw-v1', 'train')
    """

    name: str
    config: str = ""
    split: str = ""
    kind: Literal["auto", "text", "images", "numbers", "states", "counts"] = "auto"
    columns: tuple[str, ...] = ()
    labels: str = ""
    classes: tuple[int, ...] = ()
    tokens: Tokens = "words"
    block: int = 64
    vocabulary: int = 0
    lowercase: bool = False
    tokenizer: str = ""
    limit: int = 0
    max_bytes: int = MAX_BYTES

    record_kind: ClassVar[str] = "text, images, numbers, states or counts"
    origin: ClassVar[str] = "A data set of the Hugging Face hub, or a folder in its layout; its card names the licence."
    requires: ClassVar[tuple[str, str]] = ("datasets", "pip install 'studbook[hub]'")

    def __post_init__(self) -> None:
        Selection(self.classes, self.limit, self.max_bytes)
        self._options()
        if len(set(self.columns)) != len(self.columns):
            raise ConfigError(f"columns names one twice: {list(self.columns)}", hint="name each column once")

    @property
    def address(self) -> str:
        """The source in one word, as ``open_source`` takes it."""
        return PREFIX + self.name + (f"/{self.config}" if self.config else "") + (f":{self.split}" if self.split else "")

    def load(self) -> Dataset:
        """The records of one split.

        Raises:
            ConfigError: No configuration, split or column of that name (the message names the known ones), or a column that doesn't fit.
            DataError: No such data set, no network, a damaged file, one that needs a script, no records, or too many.
            MissingExtraError: A package that it needs isn't installed.
        """
        _hub_columns.require_package("datasets", *self.requires)
        with _in_one_line(self.address), self._cache() as cache:
            table = self._table(cache)
            batch = self._batch(table)
        name = self.address.removeprefix(PREFIX)
        name = name.replace(self.name, Path(self.name).name, 1) if Path(self.name).is_absolute() else name
        return Dataset(name, batch.space, digest_of_batch(batch), records=batch, origin=self._licence(table))

    @contextmanager
    def _cache(self) -> Iterator[str]:
        """Where the library prepares its tables: of a folder, anew each time, because it would take changed files for the old ones."""
        if not Path(self.name).is_dir():
            yield _cache()
            return
        Path(_cache()).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_cache(), prefix="folder-", ignore_cleanup_errors=True) as folder:
            yield folder

    def _table(self, cache: str) -> Any:
        """The split as a table of the library."""
        from datasets import load_dataset_builder

        self._require_reachable()
        try:
            builder = load_dataset_builder(self.name, self.config or None, cache_dir=cache)
        except ValueError as error:
            self._refuse_config(error)
        require_bytes(self.address, int(builder.info.dataset_size or 0), self.max_bytes)
        builder.download_and_prepare()
        splits = list(builder.info.splits or ())
        return builder.as_dataset(split=self._split(splits))

    def _split(self, known: list[str]) -> str:
        if self.split in known:
            return self.split
        if self.split:
            raise ConfigError(f"{PREFIX}{self.name} has no split {self.split!r}", hint=nearest(self.split, known, noun="split"))
        if "train" in known or len(known) == 1:
            return "train" if "train" in known else known[0]
        raise ConfigError(f"{PREFIX}{self.name} has the splits {', '.join(known)}", hint=f"choose one: {PREFIX}{self.name}:{known[0]}")

    def _refuse_config(self, error: ValueError) -> None:
        from datasets import get_dataset_config_names

        known = get_dataset_config_names(self.name)
        if self.config and self.config not in known:
            raise ConfigError(
                f"{PREFIX}{self.name} has no configuration {self.config!r}", hint=nearest(self.config, known, noun="configuration")
            ) from error
        if not self.config and len(known) > 1:
            hint = f"choose one: {PREFIX}{self.name}/{known[0]}"
            raise ConfigError(f"{PREFIX}{self.name} has the configurations {', '.join(known[:20])}", hint=hint) from error
        raise error

    def _require_reachable(self) -> None:
        """Say at once that there is no such data set, where the library would try for half a minute."""
        if Path(self.name).is_dir():
            return
        if not _NAME.fullmatch(self.name):
            raise DataError(f"{PREFIX}{self.name}: there is no folder {self.name}", hint="give a folder, or a hub id (owner/name)")
        if (Path(_cache()) / self.name.replace("/", "___")).is_dir():
            return
        from huggingface_hub import HfApi
        from huggingface_hub.errors import RepositoryNotFoundError

        try:
            HfApi().dataset_info(self.name, timeout=TIMEOUT_S)
        except RepositoryNotFoundError as error:
            message = f"there is no folder {self.name}, and the hub shows no data set of that name"
            raise DataError(message, hint="check the spelling; a private or gated data set needs HF_TOKEN") from error
        except Exception as error:  # whatever the network library raises
            message = f"there is no folder {self.name}, and the hub can't be reached for a data set of that name"
            raise DataError(message, hint="check the network and HF_HUB_OFFLINE, or give a folder: hub:./folder") from error

    def _batch(self, table: Any) -> Batch:
        kind = self.kind if self.kind != "auto" else _hub_columns.kind_of(table, self.columns, self.address)
        if not len(table):
            raise DataError(f"{self.address} holds no rows")
        if kind == "text":
            column = _hub_columns.text_column(table, self.columns, self.address)
            return self._options().blocks(_hub_columns.lines(table, column), self.address)
        selection = Selection(self.classes, self.limit, self.max_bytes)
        labels = _hub_columns.labels_of(table, self.labels, self.address)
        if kind == "images":
            column = _hub_columns.image_column(table, self.columns, self.address)
            return _hub_columns.pictures(table, column, labels, selection, self.address)
        return _hub_columns.numbers_of(table, self.columns, labels, kind, selection, self.address)

    def _options(self) -> TextOptions:
        return TextOptions(self.tokens, self.block, self.vocabulary, self.lowercase, self.limit, self.tokenizer)

    def _licence(self, table: Any) -> str:
        licence = str(getattr(table.info, "license", "") or "").strip()
        return f"{self.origin.split(';')[0]}; licence: {licence[:200]}." if licence else self.origin


def split_address(address: str) -> dict[str, str]:
    """Name, configuration and split of ``hub:NAME[/CONFIG][:SPLIT]``; a folder's name is made absolute.

    Raises:
        ConfigError: It names nothing.

    Examples:
        >>> split_address("hub:owner/name/part:test")
        {'name': 'owner/name', 'config': 'part', 'split': 'test'}
        >>> split_address("hub:mnist")
        {'name': 'mnist'}
    """
    rest, _, split = address.removeprefix(PREFIX).partition(":")
    if not rest or "\0" in rest:
        raise ConfigError(f"{address[:200]!r} names no data set", hint=f"write {FORM}, for example hub:owner/name:train")
    name, config = _folder(rest) or _hub_id(rest, address)
    return {"name": name} | ({"config": config} if config else {}) | ({"split": split} if split else {})


def _folder(rest: str) -> tuple[str, str] | None:
    """The folder that an address means, and the configuration after it; ``None`` where it is a hub id."""
    try:
        path = Path(rest).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{rest[:200]}: no such home folder", hint="write the path in full") from error
    looks_local = rest.startswith((".", "/", "~"))
    declared = _declared(path.parent)
    if path.is_dir() and path.name not in declared:
        return str(path.resolve()), ""
    if path.name in declared or (declared and looks_local):
        return str(path.parent.resolve()), path.name
    return (str(path.absolute()), "") if looks_local else None


def _declared(folder: Path) -> list[str]:
    """The configurations that a folder's card names."""
    card = folder / "README.md"
    if not card.is_file():
        return []
    with card.open(encoding="utf-8", errors="replace") as stream:
        return _CONFIG_NAME.findall(stream.read(MAX_CARD))


def _hub_id(rest: str, address: str) -> tuple[str, str]:
    parts = rest.split("/")
    if len(parts) > 3 or not all(parts):
        raise ConfigError(f"{address[:200]!r} is no hub id, and no such folder is there", hint=f"write {FORM}")
    return "/".join(parts[:2]), parts[2] if len(parts) == 3 else ""


def _cache() -> str:
    """Where prepared tables go: below studbook's cache, unless the user has said where the hub's are kept."""
    from studbook.neural.cache import cache_folder

    if os.environ.get("HF_DATASETS_CACHE") or os.environ.get("HF_HOME"):
        from datasets import config

        return str(config.HF_DATASETS_CACHE)
    return str(cache_folder() / "datasets")


@contextmanager
def _in_one_line(address: str) -> Iterator[None]:
    """The library without progress bars, its errors as one clear line."""
    import datasets

    bars, verbosity = datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        yield
    except StudbookError:
        raise
    except MemoryError as error:
        raise DataError(f"{address} needs more memory than there is", hint="set data.limit") from error
    except Exception as error:  # the library raises whatever its readers raise
        cause = _innermost(error)
        reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0][:300]
        hint = "the files are damaged, or need a script, which isn't run; convert them to Parquet"
        raise DataError(f"{address} can't be loaded: {reason}", hint=hint) from error
    finally:
        datasets.logging.set_verbosity(verbosity)
        if not bars:
            datasets.enable_progress_bars()


def _innermost(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error
