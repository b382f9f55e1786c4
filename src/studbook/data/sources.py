"""Sources by name, for study files and the command line."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Protocol

from studbook.data.array_file import ArrayFile
from studbook.data.bundled import Diabetes, Digits, Mnist5k
from studbook.data.clusters import Clusters
from studbook.data.dataset import Dataset
from studbook.data.distributions import Coin, Normal, PoissonCounts, Uniform, Zipf
from studbook.data.hub import FORM, PREFIX, HubData, split_address
from studbook.data.idx_file import IdxFile
from studbook.data.python_docs import PythonDocs
from studbook.data.table_file import CsvFile, ParquetFile
from studbook.data.text_file import TextFile
from studbook.data.zipf_text import ZipfText
from studbook.errors import ConfigError
from studbook.parameters import build, nearest, parameters_of


class CatalogSource(Protocol):
    """A source that can be found by name: it says what its records are, and where they come from."""

    record_kind: ClassVar[str]
    origin: ClassVar[str]

    def load(self) -> Dataset: ...


SOURCES: Mapping[str, type[CatalogSource]] = MappingProxyType(
    {
        "normal": Normal,
        "poisson": PoissonCounts,
        "uniform": Uniform,
        "zipf": Zipf,
        "zipf-text": ZipfText,
        "bernoulli": Coin,
        "clusters": Clusters,
        "digits": Digits,
        "mnist5k": Mnist5k,
        "diabetes": Diabetes,
        "python-docs": PythonDocs,
    }
)
"""Every source that has a name."""

FILES: Mapping[str, type[CatalogSource]] = MappingProxyType(
    {".txt": TextFile, ".csv": CsvFile, ".parquet": ParquetFile, ".npz": ArrayFile, ".npy": ArrayFile, ".idx": IdxFile, ".idx.gz": IdxFile}
)
"""The source that reads each suffix. MNIST's own names (``…-idx3-ubyte.gz``) count as idx."""

_IDX_NAME = re.compile(r"(?:[-.]idx\d?(?:-ubyte)?|-ubyte)(?:\.gz)?$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class CatalogRow:
    """One line of ``studbook data list``.

    Attributes:
        name: Name or suffix.
        records: What a record is.
        parameters: The parameters with their defaults.
        origin: Where it comes from, and its licence.
        available: Whether it can be loaded here.
        install: The command that makes it available, else empty.
    """

    name: str
    records: str
    parameters: str
    origin: str
    available: bool
    install: str


def open_source(name_or_path: str | os.PathLike[str], /, **parameters: object) -> CatalogSource:
    """The source of that name, or the one that reads that file.

    Args:
        name_or_path: A key of ``SOURCES``, a path with a suffix of ``FILES``, or ``hub:NAME[/CONFIG][:SPLIT]`` with a hub id or a folder
            in the hub's layout. A file that has a source's name is ``./name``.
        **parameters: The source's parameters, strictly typed.

    Raises:
        ConfigError: Unknown name, suffix or parameter (with the nearest one), or a parameter of the wrong type or size.

    Examples:
        >>> from studbook.data import open_source
        >>> open_source("zipf", states=50)
        Zipf(states=50, exponent=1.0)
        >>> open_source("train.txt", block=32).block
        32
    """
    name = os.fspath(name_or_path)
    if name in SOURCES:
        return build(SOURCES[name], parameters)
    if name.startswith(PREFIX):
        return _of_hub(name, parameters)
    if "path" in parameters:
        raise ConfigError("data.path isn't a parameter", hint="the path is data.source itself")
    return build(_reader(name), {"path": name, **parameters})


def describe(source: CatalogSource) -> str:
    """A source in one line: its name or file, its parameters, and what its records are.

    Examples:
        >>> from studbook.data import Zipf, describe
        >>> describe(Zipf(states=50))
        'zipf (states=50, exponent=1.0): states'
    """
    names = [name for name, cls in SOURCES.items() if cls is type(source)]
    path = source.address if isinstance(source, HubData) else getattr(source, "path", "")
    hidden = _place_of(type(source))
    given = [f"{field.name}={getattr(source, field.name)!r}" for field in fields(source) if field.name not in hidden]  # type: ignore[arg-type]
    inside = f" ({', '.join(given)})" if given else ""
    return f"{path or (names or [type(source).__name__])[0]}{inside}: {source.record_kind}"


def catalogue() -> tuple[CatalogRow, ...]:
    """All sources, the named ones first.

    Examples:
        >>> from studbook.data import catalogue
        >>> [row.parameters for row in catalogue() if row.name == "zipf"]
        ['states, exponent=1.0']
    """
    hub: Mapping[str, type[CatalogSource]] = {FORM: HubData}
    return tuple(_row(name, cls) for name, cls in (*SOURCES.items(), *FILES.items(), *hub.items()))


def source_rows() -> list[dict[str, object]]:
    """The catalog as plain rows, for tables and JSON.

    Examples:
        >>> from studbook.data import source_rows
        >>> source_rows()[0]["source"]
        'normal'
    """
    return [
        {
            "source": row.name,
            "records": row.records,
            "parameters": row.parameters,
            "available": "yes" if row.available else row.install,
            "origin": row.origin,
        }
        for row in catalogue()
    ]


def _row(name: str, cls: type[CatalogSource]) -> CatalogRow:
    package, install = getattr(cls, "requires", ("", ""))
    available = not package or importlib.util.find_spec(package) is not None
    parameters = ", ".join(str(parameter) for parameter in parameters_of(cls) if parameter.name not in _place_of(cls))
    return CatalogRow(name, cls.record_kind, parameters, cls.origin, available, "" if available else install)


def _place_of(cls: type) -> tuple[str, ...]:
    """Parameters that are in ``data.source`` itself."""
    return ("path", "name", "config", "split") if cls is HubData else ("path",)


def _of_hub(address: str, parameters: Mapping[str, object]) -> HubData:
    place = split_address(address)
    for name in _place_of(HubData):
        if name in parameters and (name in place or name == "path"):
            raise ConfigError(f"data.{name} is given, but data.source is {address!r}", hint=f"the {name} is in data.source itself")
    return build(HubData, {**place, **parameters})


def _reader(path: str) -> type[CatalogSource]:
    file = Path(path)
    if _IDX_NAME.search(file.name):
        return IdxFile
    reader = FILES.get(file.suffix.lower())
    if reader is not None:
        return reader
    if path and _is_folder(file):
        address = path if path.startswith((".", "/", "~")) else f"./{path}"
        hint = f"pictures, texts or tables in a folder are read with data.source = {PREFIX + address!r}"
        raise ConfigError(f"{path[:200]!r} is a folder, expected a source or a file", hint=hint)
    suffixes = ", ".join(FILES)
    if file.suffix == "" and file.name == path:
        hint = nearest(path, SOURCES, noun="source") + f" A path ends in one of {suffixes}"
        raise ConfigError(f"there is no data source {path[:200]!r}", hint=hint)
    got = f"the suffix {file.suffix!r}" if file.suffix else "no suffix"
    raise ConfigError(f"{path[:200]!r} has {got}, which no source reads", hint=f"known are {suffixes}")


def _is_folder(path: Path) -> bool:
    try:
        return path.expanduser().is_dir()
    except (OSError, RuntimeError):  # a name that is too long, a home folder that isn't there
        return False
